"""The rows of a workload, the same for every candidate, and the backbone that they go through."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

T = TypeVar("T")
Work = Callable[[], None]
"""What is timed."""


@dataclass(frozen=True)
class Data:
    """The rows of a workload."""

    texts: list[tuple[str, ...]]
    labels: list[float]
    folder: Path
    """The backbone."""
    max_length: int = 512
    """Longer rows are cut to so many tokens."""


def load_rows(
    task: str, count: int, data_dir: Path, folder: Path, *, length: int | None = None
) -> Data:
    """The first rows of a task's training split, in the file's order.

    With a length, a row is several of the file's, one after the other, cut to that many tokens, so
    that all are equally long.
    """
    from data.readers import read_split
    from data.tasks import get_task

    rows = read_split(get_task(task), "train", data_dir, on_bad_row="skip").examples
    labels = [e.label for e in rows[:count] if isinstance(e.label, float)]
    if length is None:
        return Data([e.texts for e in rows[:count]], labels, folder)
    texts = [text for example in rows for text in example.texts]
    long: list[tuple[str, ...]] = [(" ".join(part),) for part in chunks(texts, length // 4)[:count]]
    return Data(long, labels, folder, length)


def backbone_folder(size: str) -> Path:
    """MiniLM's folder, or a folder with a random BERT of bert-base's sizes."""
    from minbert import Bert, BertConfig, load_backbone, save_pretrained
    from minbert.backbones import find_backbone

    if size == "minilm":
        return find_backbone("minilm")
    torch.manual_seed(0)
    folder = Path(tempfile.mkdtemp(prefix="bert-base-"))
    return save_pretrained(folder, Bert(BertConfig()), load_backbone("minilm").tokenizer)


def their_tokenizer(folder: Path) -> Any:
    """transformers' tokenizer of a backbone."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def chunks(items: Sequence[T], size: int = 32) -> list[Sequence[T]]:
    """The items in parts of `size`, the last one shorter."""
    return [items[i : i + size] for i in range(0, len(items), size)]
