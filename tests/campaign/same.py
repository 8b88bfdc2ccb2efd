"""Whether two runs are the same, but for what a clock or the folder's name says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from campaign.cases import Broken, require
from multitask.runs.checkpoint import load_checkpoint

OF_THE_CLOCK = ("seconds", "peak_memory_mb", "commit")


def check_same(found: Path, alone: Path) -> None:
    """A run must be equal to another, but for what a clock or the folder's name says."""
    names, wanted = (
        {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        for folder in (found, alone)
    )
    names, wanted = (
        {name for name in each if "tensorboard" not in name} for each in (names, wanted)
    )
    require(names == wanted, f"files differ: {sorted(names ^ wanted)}")
    for name in sorted(names):
        read = READERS.get(name, Path.read_bytes)
        one, other = read(found / name), read(alone / name)
        if one != other:
            raise Broken(f"{name} differs: {difference(one, other)}")


def of_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    tensors, state = load_checkpoint(path)
    state["progress"].pop("seconds")
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}, state


def of_metrics(path: Path) -> list[dict[str, Any]]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def of_settings(path: Path) -> dict[str, Any]:
    """config.json or record.json."""
    read = json.loads(path.read_text(encoding="utf-8"))
    for each in (read, read.get("config", {})):
        each.pop("out", None)
    return {k: v for k, v in read.items() if k not in OF_THE_CLOCK}


READERS = {
    "last.safetensors": of_checkpoint,
    "metrics.jsonl": of_metrics,
    "config.json": of_settings,
    "record.json": of_settings,
}
"""What of a file must be equal, where it is not all."""


def difference(one: Any, other: Any) -> str:
    """Where two values part, in short."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in {**one, **other}:
            values = one.get(key, "nothing"), other.get(key, "nothing")
            if values[0] != values[1]:
                return f"{key}: {difference(*values)}"
    if (
        isinstance(one, (list, tuple))
        and isinstance(other, (list, tuple))
        and len(one) == len(other)
    ):
        number = next(n for n, pair in enumerate(zip(one, other)) if pair[0] != pair[1])
        return f"{number}: {difference(one[number], other[number])}"
    return f"{str(one)[:80]} and {str(other)[:80]}"
