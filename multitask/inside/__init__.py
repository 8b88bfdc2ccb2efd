"""Looking inside a run: what a page shows of it, and what it makes of a sentence."""
