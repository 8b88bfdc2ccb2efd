"""One file an extension; importing this package registers them all."""
