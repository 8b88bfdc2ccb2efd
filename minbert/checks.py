"""What comes in from a caller: harmless forms are converted, the rest is refused by name and row.

convert_fields(config)       # "runs/x" for a Path, NumPy's numbers for Python's
texts = texts_of(column)     # a list of texts, from an array or a column of a table too
warn("3 of 10 texts ...")    # what is done to the input that nobody asked for
"""

from __future__ import annotations

import os
import types
import warnings
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from minbert.files import brief

WANTED = {int: "a whole number", float: "a number", bool: "true or false", str: "text",
          Path: "a path"}  # fmt: skip
"""Type of a setting -> how an error calls it."""
NO_SEQUENCE = (str, bytes, Mapping, AbstractSet)
"""What can be gone through and is no list of values all the same."""


class InputWarning(UserWarning):
    """Something of the input is cut, left out or not understood, and the work goes on."""

    for_users = True  # shown by its message alone: see lab/terminal.py


def warn(message: str) -> None:
    """Say what is done to the input; the command line shows the message alone."""
    warnings.warn(message, InputWarning, stacklevel=3)


def convert_fields(settings: Any) -> None:
    """Give each field of a frozen dataclass a value of its type, for its `__post_init__`.

    Numbers of NumPy become Python's, text becomes a path where a path is due, lists become tuples.

    Raises:
        ValueError: a value is of another type; the message names the field and the value.
    """
    kinds = get_type_hints(type(settings))
    for field in fields(settings):
        value = getattr(settings, field.name)
        converted = convert(value, kinds[field.name], field.name)
        if converted is not value:
            object.__setattr__(settings, field.name, converted)


def convert(value: Any, kind: Any, name: str) -> Any:
    """A value as a setting of this type and name has it: see `convert_fields`."""
    try:
        return _converted(value, kind)
    except TypeError as wanted:
        raise ValueError(f"{name} is {brief(value)}; give {wanted}") from None


def _converted(value: Any, kind: Any) -> Any:
    """The value as this type has it; raises TypeError with what is wanted in its place."""
    value = _plain(value)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _converted(value, next(each for each in arguments if each is not type(None)))
    if origin is tuple:
        if isinstance(value, NO_SEQUENCE) or not isinstance(value, Iterable):
            raise TypeError("a tuple, as in (value,)")
        return tuple(_converted(each, arguments[0]) for each in value)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise TypeError('names with values, as in {"name": value}')
        return {name: _converted(each, arguments[1]) for name, each in value.items()}
    if kind is Path and isinstance(value, str | os.PathLike) and str(value):
        return value if isinstance(value, Path) else Path(value)
    accepted = {float: (int, float), int: int, bool: bool, str: str}.get(kind, ())
    if kind is str and isinstance(value, os.PathLike):
        return str(value)
    number_for_bool = isinstance(value, bool) and kind is not bool
    if kind in WANTED and (number_for_bool or not isinstance(value, accepted)):
        raise TypeError(WANTED[kind])
    if origin is Literal and not isinstance(value, str):
        raise TypeError(f"one of {', '.join(arguments)}")
    if isinstance(kind, type) and not isinstance(value, accepted or kind):
        raise TypeError(f"{'an' if kind.__name__[0] in 'AEIOU' else 'a'} {kind.__name__}")
    return value


def _plain(value: Any) -> Any:
    """A number of NumPy, also in an array without dimensions, as Python's own."""
    is_scalar = hasattr(value, "item") and getattr(value, "shape", None) == ()
    return value.item() if is_scalar else value


def texts_of(texts: Any, what: str = "texts") -> list[str]:
    """A list of texts, from any sequence of them: a list, an array, a column of a table.

    Raises:
        ValueError: it is one text or no sequence, or a row is no text; rows count from 1.
    """
    if isinstance(texts, str | bytes):
        raise ValueError(f"{what} must be a list of texts, not one; put the one text in a list")
    if isinstance(texts, NO_SEQUENCE) or not isinstance(texts, Iterable):
        raise ValueError(f"{what} must be a list of texts, not a {type(texts).__name__}")
    found = list(texts)
    for number, text in enumerate(found, start=1):
        if not isinstance(text, str):
            raise ValueError(f"{what}: row {number} is {brief(text)}, and not a text; leave it out")
        if not text.isascii() and any("\ud800" <= sign <= "\udfff" for sign in text):
            raise ValueError(f"{what}: row {number} is {brief(text)}, which is no valid Unicode")
    return found


def warn_of_cut(rows: Iterable[int], total: int, limit: int, what: str = "texts") -> None:
    """Say, if any rows (from 0) were longer than `limit` tokens, how many and which is first."""
    cut = sorted(rows)
    if cut:
        warn(cut_note(cut, total, limit, what))


def cut_note(cut: list[int], total: int, limit: int, what: str = "texts") -> str:
    """How many rows were cut, and which is the first."""
    return (
        f"{len(cut)} of {total} {what} {'is' if len(cut) == 1 else 'are'} longer than {limit} "
        f"tokens and lost their end; the first is row {cut[0] + 1}"
    )
