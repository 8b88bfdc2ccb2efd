"""How flags are read and shown, beyond what tyro does: `with FLAGS: tyro.cli(...)`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import get_origin

from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    UnsupportedTypeAnnotationError,
)

FLAGS = ConstructorRegistry()
Rule = PrimitiveConstructorSpec | UnsupportedTypeAnnotationError | None


@FLAGS.primitive_rule
def _path(info: PrimitiveTypeInfo) -> Rule:
    """A path, whose ~ is the home directory: a shell leaves that of --out=~/x as it is."""
    if info.type is not Path:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=lambda words: Path(words[0]).expanduser(),
        is_instance=lambda value: isinstance(value, Path),
        str_from_instance=lambda path: [str(path)],
    )


@FLAGS.primitive_rule
def _several(info: PrimitiveTypeInfo) -> Rule:
    """Several values, of which help shows none as "none"."""
    if get_origin(info.type) not in (tuple, dict, Mapping) or info in _asking:
        return None
    _asking.append(info)
    try:
        spec = ConstructorRegistry.get_primitive_spec(info)  # tyro's own
    finally:
        _asking.pop()
    if not isinstance(spec, PrimitiveConstructorSpec):
        return spec
    return replace(spec, str_from_instance=lambda many: spec.str_from_instance(many) or ["none"])


_asking: list[PrimitiveTypeInfo] = []
