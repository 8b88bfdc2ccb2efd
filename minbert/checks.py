"""What comes in from a caller: harmless forms are converted, the rest is refused by name and row.

convert_fields(config)       # "runs/x" for a Path, NumPy's numbers for Python's
texts = texts_of(column)     # a list of texts, from an array or a column of a table too
warn("3 of 10 texts ...")    # what is done to the input that nobody asked for
"""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import MISSING, fields
from typing import Any, get_type_hints

from minbert.files import brief, checked

NO_SEQUENCE = (str, bytes, Mapping, AbstractSet)
"""What can be gone through and is no list of values all the same."""
kinds_of = functools.cache(get_type_hints)
"""The type of each field of a class, found once: that takes longer than to check the values."""


class InputWarning(UserWarning):
    """Something of the input is cut, left out or not understood, and the work goes on."""

    for_users = True  # shown by its message alone: see lab/terminal.py


def warn(message: str) -> None:
    """Say what is done to the input; the command line shows the message alone."""
    warnings.warn(message, InputWarning, stacklevel=3)


def convert_fields(settings: Any, *but: str) -> None:
    """Give each field of a frozen dataclass a value of its type, for its `__post_init__`.

    Numbers of NumPy become Python's, text becomes a path where a path is due, lists become tuples.

    Args:
        settings: changed in place.
        but: fields that are left as they are.

    Raises:
        ValueError: a value is of another type; the message names the field and the value.
    """
    kinds = kinds_of(type(settings))
    for name in [field.name for field in fields(settings) if field.name not in but]:
        value = convert(getattr(settings, name), kinds[name], name)
        object.__setattr__(settings, name, value)


def convert(value: Any, kind: Any, name: str) -> Any:
    """A value as a setting of this type and name has it: see `convert_fields`."""
    if isinstance(value, AbstractSet):
        raise ValueError(f"{name} is {brief(value)}, in no order; give a list")
    return checked(_plain(value), kind, name=name)


def _plain(value: Any) -> Any:
    """Values of NumPy, paths and sequences as JSON has them."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return str(value)
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, NO_SEQUENCE):
        return [_plain(each) for each in value]
    return value


def check_counts(settings: Any, *names: str) -> None:
    """Raise ValueError if a count is given and less than 1."""
    for name in names:
        value = getattr(settings, name)
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, it is {value}")


def check_rates(settings: Any, *names: str) -> None:
    """Raise ValueError if a rate is given and not in [0, 1)."""
    for name in names:
        value = getattr(settings, name)
        if value is not None and not 0 <= value < 1:
            raise ValueError(f"{name} must be in [0, 1), it is {value}")


def changed_fields(settings: Any) -> dict[str, Any]:
    """The fields of a dataclass that are not at their defaults, and their values."""
    found = {}
    for f in fields(settings):
        default = f.default if f.default_factory is MISSING else f.default_factory()
        if (value := getattr(settings, f.name)) != default:
            found[f.name] = value
    return found


def check_unused(settings: Any, why: str, *names: str) -> None:
    """Raise ValueError if a field that has no effect, and `why`, is not at its default."""
    for name, value in changed_fields(settings).items():
        if name in names:
            raise ValueError(f"{name} is {value!r} and has no effect: {why}")


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
        warn(
            f"{len(cut)} of {total} {what} {'is' if len(cut) == 1 else 'are'} longer than {limit} "
            f"tokens and lost their end; the first is row {cut[0] + 1}"
        )
