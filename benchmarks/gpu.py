"""Fine-tuning bert-base on a GPU: minbert's trainer beside transformers' Trainer at its best.

Both take bfloat16, a fused AdamW and the same rows: random tokens, of the lengths of real texts or
of 128 each, for what a GPU does with a token does not depend on which one it is. Padding counts for
nothing: tokens a second and operations are those of real tokens.
"""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np
import torch

from benchmarks.measure import useful_flops
from data.batching import Batch, layout_of
from data.readers import read_split
from data.tasks import get_task
from minbert import Bert, BertConfig, load_backbone, save_pretrained
from multitask.config import TrainConfig
from multitask.dataset import TaskData
from multitask.loop.trainer import Trainer
from multitask.model import MultitaskModel
from multitask.runs.run import Run

TASKS = ("sst", "sts", "para")
FIXED = 128
"""Length of every row where lengths are not those of real texts."""


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


class Clock:
    """Tells the seconds of the steps after the warm-up, all of a GPU's work included."""

    now = staticmethod(time.perf_counter)

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._times: list[float] = []

    def step_begins(self, number: int) -> None:
        """To be called before each step, from 0."""
        if number in (self._plan.warm_up, self._plan.warm_up + self._plan.steps):
            if self._plan.device == "cuda":
                torch.cuda.synchronize()
            self._times.append(self.now())

    @property
    def seconds(self) -> float:
        start, end = self._times
        return end - start


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
    plan: Plan, rows: RandomRows, *, compiled: bool = False, clock: Clock | None = None
) -> float:
    """Seconds of the plan's steps by minbert's trainer."""
    clock = clock or Clock(plan)

    class Timed(Trainer):
        def step(self) -> float | None:
            clock.step_begins(self.progress.step)
            return super().step()

    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        tokenizer = load_backbone("minilm").tokenizer
        backbone = load_backbone(
            save_pretrained(Path(folder) / "bert", Bert(plan.config), tokenizer)
        )
        run = Run(Path(folder) / "run")
        config = TrainConfig(
            tasks=("sst",),
            backbone=str(backbone.folder),
            out=run.folder,
            epochs=1,
            batch_size=plan.batch_size,
            precision=plan.precision,
            compile=compiled,
            device=plan.device,
        )
        model = MultitaskModel.from_config(config, backbone.encoder).to(plan.device)
        few = RandomRows([8] * 8, plan.config.vocab_size)
        data = {"sst": TaskData(get_task("sst"), {"train": rows, "dev": few}, [], {})}
        run.create(config, backbone)
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


CANDIDATES: dict[str, Callable[[Plan, RandomRows], float]] = {
    "minbert": ours,
    "transformers, sdpa, grouped": partial(theirs, grouped=True),
    "minbert, compiled": partial(ours, compiled=True),
    "transformers, sdpa": theirs,
    "transformers, sdpa, grouped, compiled": partial(theirs, grouped=True, compiled=True),
    "transformers, flash attention 2, grouped": partial(
        theirs, attention="flash_attention_2", grouped=True
    ),
}
"""The first is ours, the second what it is compared with."""


def real_lengths(task: str, data_dir: Path) -> list[int]:
    """Tokens of a task's training rows, in the file's order."""
    examples = read_split(get_task(task), "train", data_dir, on_bad_row="skip").examples
    texts = (list(part) for part in zip(*(e.texts for e in examples), strict=True))
    encoded = load_backbone("minilm").tokenizer.encode(*texts, max_length=512)
    return [len(ids) for ids in encoded.input_ids]


def matmul_peak(device: str, *, size: int = 8192, repeats: int = 50) -> float:
    """FLOP/s of a large bfloat16 matrix product: what utilisation is a share of."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    times = []
    for _ in range(5):
        if device == "cuda":
            torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(repeats):
            a @ b
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return 2 * size**3 * repeats / min(times)


def measure(
    plan: Plan,
    lengths: list[int],
    peak: float,
    repeats: int,
    candidates: dict[str, Callable[[Plan, RandomRows], float]] = CANDIDATES,
) -> dict[str, Any]:
    """Speed of each candidate on rows of these lengths, repeated until there are enough.

    Returns:
        Sizes, and for each candidate its seconds, tokens_per_second, utilisation (useful FLOP/s by
        `peak`), and ratio to the second candidate; or error.
    """
    rows = RandomRows(
        (lengths * -(-plan.rows // len(lengths)))[: plan.rows], plan.config.vocab_size
    )
    share = plan.steps * plan.batch_size / len(rows.ids)  # of all rows, on the clock
    tokens = share * float(rows.lengths.sum())
    flops = share * useful_flops(plan.config, rows.lengths.tolist(), passes=3)
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    errors: dict[str, str] = {}
    for _ in range(repeats):
        for name, run in candidates.items():
            if name in errors:
                continue
            try:
                seconds[name].append(run(plan, rows))
            except (ImportError, RuntimeError, ValueError) as error:
                errors[name] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            gc.collect()
            if plan.device == "cuda":
                torch.cuda.empty_cache()
    found: dict[str, Any] = {name: {"error": error} for name, error in errors.items()}
    other = list(candidates)[1]
    for name in candidates.keys() - errors.keys():
        middle = median(seconds[name])
        found[name] = {
            "seconds": seconds[name],
            "tokens_per_second": tokens / middle,
            "utilisation": flops / middle / peak,
        }
        if other not in errors:
            found[name]["ratio"] = median(seconds[other]) / middle
    sizes = {k: v for k, v in asdict(plan).items() if k != "config"}
    return {**sizes, "mean_length": float(rows.lengths.mean()), "candidates": found}
