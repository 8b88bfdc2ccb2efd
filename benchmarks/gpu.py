"""Fine-tuning bert-base on a GPU: minbert's trainer beside transformers' Trainer at its best.

Both take bfloat16, a fused AdamW and the same rows: random tokens, of the lengths of real texts or
of 128 each, for what a GPU does with a token does not depend on which one it is. What is measured,
in which order and for how long: gpu_suite.py.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from data.batching import Batch, layout_of
from data.readers import read_split
from data.tasks import get_task
from minbert import Bert, BertConfig, load_backbone
from multitask.config import TrainConfig
from multitask.dataset import TaskData
from multitask.loop.trainer import Trainer
from multitask.model import MultitaskModel
from multitask.runs.run import Run

FIXED = 128
"""Length of every row where lengths are not those of real texts."""
MOST = 20_000
"""Rows whose lengths are looked up."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is run: the sizes of a BERT, the steps, and where."""

    config: BertConfig
    batch_size: int = 32
    warm_up: int = 30
    """Steps before the clock starts; they compile, too."""
    steps: int = 100
    """Steps on the clock."""
    device: str = "cuda"
    precision: Literal["fp32", "bf16"] = "bf16"

    @property
    def rows(self) -> int:
        """Rows of all steps, and of one more, at whose beginning the clock stops."""
        return self.batch_size * (self.warm_up + self.steps + 1)


class Stopped(Exception):
    """The clock has seen all steps, and what comes after training is not wanted."""


class Clock:
    """Tells the seconds of the steps after the warm-up, all of a GPU's work included."""

    now = staticmethod(time.perf_counter)

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._times: list[float] = []

    def step_begins(self, number: int) -> None:
        """To be called before each step, from 0."""
        if number in (self._plan.warm_up, self._plan.warm_up + self._plan.steps):
            synchronize(self._plan.device)
            self._times.append(self.now())

    @property
    def seconds(self) -> float:
        start, end = self._times
        return end - start


def synchronize(device: str) -> None:
    """Wait until a device has done all its work."""
    if device == "cuda":
        torch.cuda.synchronize()


def timed(device: str, act: Callable[[], Any], *, warm_up: int = 1, repeats: int = 1) -> float:
    """Seconds of one call, all of a GPU's work included."""
    for _ in range(warm_up):
        act()
    synchronize(device)
    started = time.perf_counter()
    for _ in range(repeats):
        act()
    synchronize(device)
    return (time.perf_counter() - started) / repeats


class RandomRows:
    """Rows of random tokens, of given lengths."""

    def __init__(self, lengths: list[int], vocab_size: int) -> None:
        draw = np.random.default_rng(0)
        self.ids: Sequence[str] = tuple(str(number) for number in range(len(lengths)))
        self.lengths = np.array(lengths)
        self.checksum = 0
        self.tokens = [draw.integers(1, vocab_size, n) for n in lengths]
        self.labels = torch.from_numpy(draw.integers(0, 5, len(lengths)))

    def batch(self, rows: Any, draw: int = 0) -> Batch:
        input_ids = torch.from_numpy(np.concatenate([self.tokens[row] for row in rows]))
        return Batch(
            ids=tuple(self.ids[row] for row in rows),
            labels=self.labels[torch.as_tensor(rows)].float(),
            input_ids=input_ids,
            token_type_ids=torch.zeros_like(input_ids),
            layout=layout_of(self.lengths[rows], "packed"),
        )


def ours(
    plan: Plan,
    rows: RandomRows,
    *,
    compiled: bool = False,
    graphs: bool = False,
    clock: Clock | None = None,
) -> float:
    """Seconds of the plan's steps by minbert's trainer."""
    clock = clock or Clock(plan)

    class Timed(Trainer):
        def step(self) -> float | None:
            clock.step_begins(self.progress.step)
            if self.progress.step == plan.warm_up + plan.steps:
                raise Stopped
            return super().step()

    with tempfile.TemporaryDirectory() as folder, suppress(Stopped):
        torch.manual_seed(0)
        run = Run(Path(folder))
        config = TrainConfig(
            tasks=("sst",),
            out=run.folder,
            epochs=1,
            batch_size=plan.batch_size,
            precision=plan.precision,
            compile=compiled,
            cuda_graphs=graphs,
            device=plan.device,
        )
        model = MultitaskModel.from_config(config, Bert(plan.config)).to(plan.device)
        data = {"sst": TaskData(get_task("sst"), {"train": rows}, [], {})}
        Timed(config, model, data, run, progress_bar=False).fit()
    return clock.seconds


def theirs(
    plan: Plan,
    rows: RandomRows,
    *,
    attention: str = "sdpa",
    grouped: bool = False,
    compiled: bool = False,
    clock: Clock | None = None,
) -> float:
    """Seconds of the plan's steps by transformers' Trainer."""
    import transformers
    from transformers import BertForSequenceClassification, TrainerCallback, TrainingArguments

    class Timed(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            clock.step_begins(state.global_step)

    def collate(features: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        longest = max(len(f["input_ids"]) for f in features)
        width = -(-longest // 8) * 8  # what tensor cores like
        ids = torch.zeros(len(features), width, dtype=torch.long)
        for place, feature in zip(ids, features, strict=True):
            place[: len(feature["input_ids"])] = torch.from_numpy(feature["input_ids"])
        lengths = torch.tensor([[len(f["input_ids"])] for f in features])
        labels = torch.tensor([f["labels"] for f in features])
        mask = (torch.arange(width) < lengths).long()
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}

    clock = clock or Clock(plan)
    sizes = transformers.BertConfig(**plan.config.to_hub())
    sizes.num_labels = 5
    sizes._attn_implementation = attention
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            per_device_train_batch_size=plan.batch_size,
            max_steps=plan.warm_up + plan.steps + 1,
            bf16=plan.precision == "bf16",
            optim="adamw_torch_fused",
            train_sampling_strategy="group_by_length" if grouped else "random",
            torch_compile=compiled,
            dataloader_num_workers=2,
            remove_unused_columns=False,
            use_cpu=plan.device == "cpu",
            logging_steps=10,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = transformers.Trainer(
            BertForSequenceClassification(sizes),
            arguments,
            data_collator=collate,
            train_dataset=[
                {"input_ids": ids, "labels": int(label)}
                for ids, label in zip(rows.tokens, rows.labels, strict=True)
            ],
            callbacks=[Timed()],
        )
        trainer.train()
    return clock.seconds


def real_lengths(task: str, data_dir: Path) -> list[int]:
    """Tokens of a task's first training rows, in the file's order."""
    examples = read_split(get_task(task), "train", data_dir, on_bad_row="skip").examples[:MOST]
    texts = (list(part) for part in zip(*(e.texts for e in examples), strict=True))
    encoded = load_backbone("minilm").tokenizer.encode(*texts, max_length=512)
    return [len(ids) for ids in encoded.input_ids]


def matmul_peak(device: str, *, size: int = 8192, repeats: int = 50) -> float:
    """FLOP/s of a large bfloat16 matrix product: what utilisation is a share of."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    times = []
    for _ in range(5):
        synchronize(device)
        started = time.perf_counter()
        for _ in range(repeats):
            a @ b
        synchronize(device)
        times.append(time.perf_counter() - started)
    return 2 * size**3 * repeats / min(times)
