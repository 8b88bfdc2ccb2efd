"""The study: rows of experiments as recipes, run by claims, reported from records alone."""
