"""One file an encoder; importing this package imports all that are here, which registers them."""

from importlib import import_module
from pkgutil import iter_modules

from minbert.encoder import ENCODERS, Encoder
from minbert.files import brief

for _module in iter_modules(__path__, f"{__name__}."):
    import_module(_module.name)


def encoder_class(name: str) -> type[Encoder]:
    """The encoder registered under a `model_type`."""
    if name not in ENCODERS:
        raise ValueError(f"no encoder is called {brief(name)}; known are {sorted(ENCODERS)}")
    return ENCODERS[name]
