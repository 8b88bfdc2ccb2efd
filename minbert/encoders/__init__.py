"""One file an encoder; importing this package registers them all."""

from minbert.encoders import bert

__all__ = ["bert"]
