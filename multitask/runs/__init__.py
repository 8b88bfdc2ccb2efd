"""What lies in a run folder: written, read, drawn."""
