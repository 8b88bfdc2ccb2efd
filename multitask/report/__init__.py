"""Tables and figures of a document, drawn from records."""
