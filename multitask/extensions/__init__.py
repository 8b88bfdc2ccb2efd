"""What changes the training: one file an extension, found by `load_extensions`."""
