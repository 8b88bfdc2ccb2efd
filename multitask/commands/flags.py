"""How flags are read and shown, beyond what tyro does: `with FLAGS: tyro.cli(...)`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import is_dataclass, replace
from functools import partial
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, ClassVar, TypeVar, Union, get_origin

from tyro.conf import OmitArgPrefixes, arg
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
    UnsupportedTypeAnnotationError,
)

from multitask.settings import SECTIONS

FLAGS = ConstructorRegistry()
Rule = PrimitiveConstructorSpec | UnsupportedTypeAnnotationError | None
S_ = TypeVar("S_")
I_ = TypeVar("I_", PrimitiveTypeInfo, StructTypeInfo)
_asking: list[PrimitiveTypeInfo | StructTypeInfo] = []
"""What tyro's own rules are asked about at this moment."""

FIRST = ("objective", "tasks", "task_files", "text", "data_dir", "backbone", "out", "epochs",
         "batch_size", "lr", "device", "over", "trials", "seeds", "stop_hopeless", "resume", "use",
         "show_groups")  # fmt: skip
"""Flags of training that stand before the boxes of the sections: what a beginner needs."""


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
def _several_or_none(info: PrimitiveTypeInfo) -> Rule:
    """Several values, of which help shows none as "none"; and one that may be left out."""
    if get_origin(info.type) not in (tuple, dict, Mapping, Union, UnionType) or info in _asking:
        return None
    spec = _tyros_own(ConstructorRegistry.get_primitive_spec, info)
    if not isinstance(spec, PrimitiveConstructorSpec):
        return spec
    return replace(
        spec,
        metavar=spec.metavar.removeprefix("{None}|"),
        str_from_instance=lambda value: spec.str_from_instance(value) or ["none"],
    )


class Box(dict[str, Any]):
    """The values of a box of flags."""

    flags: ClassVar[tuple[StructFieldSpec, ...]]


@FLAGS.struct_rule
def _in_boxes(info: StructTypeInfo) -> StructConstructorSpec | None:
    """A dataclass, with a box of flags for each section of settings that it is composed of."""
    if isinstance(info.type, type) and issubclass(info.type, Box):
        return StructConstructorSpec(instantiate=info.type, fields=info.type.flags)
    if not is_dataclass(info.type) or info in _asking:
        return None
    spec = _tyros_own(ConstructorRegistry.get_struct_spec, info)
    if not isinstance(spec, StructConstructorSpec):
        return None
    flags = {f.name: replace(f, helptext=partial(_flowing, f.helptext)) for f in spec.fields}
    sections = {title: s for title, s in SECTIONS.items() if issubclass(info.type, s)}
    if not sections:
        return replace(spec, fields=tuple(flags.values()))
    flags.pop("extensions")  # each has flags of its own, which are left when the boxes are full
    first = [flags.pop(name) for name in FIRST if name in flags]
    boxes = []
    for title, section in sections.items():
        own = tuple(flags.pop(name) for name in section.__annotations__ if name in flags)
        box = type(title, (Box,), {"flags": own, "__doc__": section.__doc__})
        titled: Any = Annotated[OmitArgPrefixes[box], arg(name=title)]
        boxes.append(StructFieldSpec(f"box_{title}", titled, box()))

    def unpacked(**values: Any) -> Any:
        for title in sections:
            values |= values.pop(f"box_{title}")
        return info.type(**values)

    unpacked.__doc__ = info.type.__doc__  # which help begins with
    return StructConstructorSpec(instantiate=unpacked, fields=(*first, *boxes, *flags.values()))


def _tyros_own(rule: Callable[[I_], S_], info: I_) -> S_:
    """What tyro makes of a type without the rule that asks."""
    _asking.append(info)
    try:
        return rule(info)
    finally:
        _asking.pop()


def _flowing(text: str | Callable[[], str | None] | None) -> str | None:
    """A docstring without the line breaks that the source has."""
    text = text() if callable(text) else text
    return text and " ".join(text.split())
