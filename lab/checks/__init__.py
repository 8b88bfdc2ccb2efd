"""What is tried on each exercise's functions: a generator of (case, value) for each exercise."""
