"""One file an encoder; importing this package registers them all."""

from minbert.encoder import ENCODERS, Encoder
from minbert.encoders import bert, convbert, modernbert
from minbert.files import brief

__all__ = ["bert", "convbert", "encoder_class", "modernbert"]


def encoder_class(name: str) -> type[Encoder]:
    """The encoder registered under a `model_type`."""
    if name not in ENCODERS:
        raise ValueError(f"no encoder is called {brief(name)}; known are {sorted(ENCODERS)}")
    return ENCODERS[name]
