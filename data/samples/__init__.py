"""Small data sets written for this project, and the program that writes them."""
