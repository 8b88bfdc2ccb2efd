"""The tasks' splits, read and tokenized, or as cached features where the encoder is frozen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from tqdm import tqdm

from data.batching import BatchSource, EncodedRows, FeatureRows
from data.inspect_task import worth_a_look
from data.readers import SAMPLES, BadRow, Example, has_split, read_split, spread
from data.tasks import Split, Task, get_task, is_built_in
from minbert.inference import batches_by_length
from minbert.tokenization import Tokenizer
from multitask.config import TrainConfig
from multitask.distributed import count, gather, share
from multitask.model import MultitaskModel
from multitask.settings import DataSettings


@dataclass
class TaskData:
    """What a task trains on and is scored on."""

    task: Task
    sources: dict[str, BatchSource]
    """By split: train and dev, and test where there is such a file."""
    skipped: list[BadRow]
    truncated: dict[str, list[str]]
    """Ids of the rows that were cut to the longest length, by split."""
    remarks: list[str] = field(default_factory=list)
    """What else there is to say of how the rows came about."""

    @property
    def train(self) -> BatchSource:
        return self.sources["train"]

    def notes(self, limit: int) -> list[str]:
        """What was left out, and what was cut to `limit` tokens, a line each."""
        return [*self.remarks, *(f"left out {bad}" for bad in self.skipped)] + [
            f"{self.task.name} {split}: cut {len(ids)} rows to {limit} tokens, first id {ids[0]}"
            for split, ids in self.truncated.items()
            if ids
        ]


def longest_row(settings: DataSettings, max_positions: int) -> int:
    """Tokens that a row may have."""
    max_length = settings.max_length or max_positions
    if max_length > max_positions:
        raise ValueError(
            f"max_length {max_length} is more than the {max_positions} positions of the backbone; "
            f"use at most {max_positions}"
        )
    return max_length


def load_data(
    config: TrainConfig,
    tokenizer: Tokenizer,
    max_positions: int,
    *,
    splits: Iterable[Split] = ("train", "dev", "test"),
    tasks: Iterable[Task] | None = None,
) -> dict[str, TaskData]:
    """Read and tokenize the config's tasks, or those given in their place."""
    data_dir = config.data_dir or SAMPLES
    max_length = longest_row(config, max_positions)
    loaded = {}
    for task in tasks or [get_task(name) for name in config.tasks]:
        data = TaskData(task, {}, [], {})
        read: dict[str, list[Example]] = {}
        for split in splits:
            if split not in ("train", "dev") and not has_split(task, split, data_dir):
                continue
            rows = read_split(task, split, data_dir, on_bad_row=config.on_bad_row)
            examples = rows.examples
            if split == "train":
                examples = trained_on(examples, config, task)
            encoded = EncodedRows(
                examples,
                tokenizer,
                pair=config.pair_kind(task.name),
                max_length=max_length,
                layout=config.layout,
            )
            data.sources[split] = encoded
            read[split] = examples
            data.skipped += rows.skipped
            data.remarks += rows.notes
            data.truncated[split] = [encoded.ids[row] for row in encoded.cut]
        if not is_built_in(task.name):
            data.remarks += worth_a_look(task, read)
        loaded[task.name] = data
    return loaded


def training_examples(config: TrainConfig, task: Task) -> list[Example]:
    """The texts of the rows that a task trains on, in the order of its `TaskData.train`."""
    rows = read_split(task, "train", config.data_dir or SAMPLES, on_bad_row=config.on_bad_row)
    return trained_on(rows.examples, config, task)


def trained_on(examples: Sequence[Example], config: TrainConfig, task: Task) -> list[Example]:
    """What a config takes of the rows of a training file."""
    taken = spread(examples, config.limit)
    if not (config.both_orders and task.symmetric):
        return taken
    return [order for example in taken for order in both_orders(example)]


def both_orders(example: Example) -> tuple[Example, Example]:
    """A pair, and the same pair with its texts in the other order."""
    turned = replace(example, id=f"{example.id} turned", texts=example.texts[::-1])
    return example, turned


@torch.inference_mode()
def cache_features(model: MultitaskModel, data: dict[str, TaskData], *, progress: bool) -> None:
    """Put the frozen encoder's features in the place of tokens, in every split of every task."""
    model.eval()
    splits = [(d, split, source) for d in data.values() for split, source in d.sources.items()]
    bar = tqdm(
        total=sum(len(source.ids) for _, _, source in splits),
        desc="features",
        unit="row",
        disable=None if progress else True,
    )
    for task_data, split, source in splits:
        done = []
        for rows in share(list(batches_by_length(source.lengths))):
            vectors = model.features(source.batch(rows).to(model.device), task_data.task.name)
            done.append((rows, vectors.cpu()))
            bar.update(len(rows) * count())
        rows, vectors = zip(*gather(done), strict=True)
        features = torch.cat(vectors)[np.argsort(np.concatenate(rows))]
        assert isinstance(source, EncodedRows)
        # Made in inference mode, a tensor could not take part in training: clone it outside.
        with torch.inference_mode(False):
            task_data.sources[split] = FeatureRows(source, features.clone())
    bar.close()
