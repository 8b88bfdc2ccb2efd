"""Tasks, readers, batches and sampling; data/samples holds the small data of the demo."""
