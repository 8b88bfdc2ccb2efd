"""Several runs that belong together: made, gone on with, compared."""
