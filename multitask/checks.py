"""Checks of the fields of a settings dataclass; each error names the field and its value."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Literal, get_args, get_origin, get_type_hints


def check_choices(settings: Any) -> None:
    """Raise ValueError if a field of a dataclass is none of the values that its Literal lists."""
    for name, kind in get_type_hints(type(settings)).items():
        if get_origin(kind) is Literal and getattr(settings, name) not in get_args(kind):
            known = ", ".join(get_args(kind))
            raise ValueError(f"{name} is {getattr(settings, name)!r}; choose one of {known}")


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


def check_unused(settings: Any, why: str, *names: str) -> None:
    """Raise ValueError if a field that has no effect, and `why`, is not at its default."""
    for f in fields(settings):
        value = getattr(settings, f.name)
        if f.name in names and value != f.default:
            raise ValueError(f"{f.name} is {value!r} and has no effect: {why}")
