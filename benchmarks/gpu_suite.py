"""What is measured on a GPU: most telling first, for as long as there is time.

Padding counts for nothing: tokens and operations are those of real tokens. A job that fails is
recorded with its error, and the next one begins. When all have run once, those of training and
inference run again while there is time, so that figures are medians with a spread.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.gpu import FIXED, Plan, RandomRows, ours, real_lengths, theirs
from benchmarks.gpu_inference import long_text, ours_embed, theirs_embed, transformers_embed
from benchmarks.gpu_profile import profile
from benchmarks.measure import useful_flops
from minbert import BertConfig


@dataclass(frozen=True, kw_only=True)
class Job:
    """A candidate's turn at a workload."""

    workload: str
    candidate: str
    run: Callable[[], Any]
    """Returns the seconds that it took, or facts to be recorded as they are."""
    amount: float = 0
    """What it does in that time, in `unit`."""
    unit: str = ""
    flops: float = 0
    """Useful operations, where they are known."""
    expected: float = 15
    """Seconds without which it does not begin."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How large everything is."""

    device: str = "cuda"
    base: BertConfig = field(default_factory=BertConfig)
    small: BertConfig = field(
        default_factory=lambda: BertConfig(
            hidden_size=384, num_layers=6, num_heads=12, intermediate_size=1536
        )
    )
    """MiniLM's sizes."""
    batches: tuple[int, int] = (32, 128)
    warm_up: int = 20
    steps: int = 60
    length: int = FIXED
    long: tuple[int, int] = (8192, 12)
    """Tokens of a long text, and layers of the ModernBERT that reads it."""
    compiled: bool = True
    """Measure what is compiled too, which takes minutes."""

    @classmethod
    def rehearsal(cls) -> Scale:
        """Sizes at which all of it takes seconds on a CPU."""
        tiny = BertConfig(hidden_size=16, num_layers=1, num_heads=2, intermediate_size=24)
        sizes = {"base": tiny, "small": tiny, "batches": (2, 4), "length": 6, "long": (9, 1)}
        return cls(device="cpu", warm_up=2, steps=3, compiled=False, **sizes)


def jobs(
    scale: Scale, lengths: dict[str, list[int]], backbone: Path, texts: Sequence[str]
) -> list[Job]:
    """Every job, in the order of their turns.

    Args:
        lengths: of real rows, by the name of their task.
        backbone: folder of the encoder for inference.
        texts: what is embedded.
    """
    few, many = scale.batches
    base = Plan(
        config=scale.base,
        batch_size=few,
        warm_up=scale.warm_up,
        steps=scale.steps,
        device=scale.device,
    )
    small = replace(base, config=scale.small, batch_size=16)
    fixed = [scale.length]
    workloads = {
        f"bert-base, {scale.length} tokens, {few} rows": (base, fixed),
        f"bert-base, {scale.length} tokens, {many} rows": (replace(base, batch_size=many), fixed),
        **{f"bert-base, {name}, {few} rows": (base, found) for name, found in lengths.items()},
        **{f"MiniLM's sizes, {name}, 16 rows": (small, found) for name, found in lengths.items()},
    }
    first, later = [], []
    for name, (plan, found) in workloads.items():
        rows = RandomRows((found * -(-plan.rows // len(found)))[: plan.rows], scale.base.vocab_size)
        make = partial(_training, name, plan, rows)
        first += [
            make("minbert", ours),
            make("transformers, grouped", partial(theirs, grouped=True)),
            make("minbert, CUDA graphs", partial(ours, graphs=True)),
        ]
        later.append(
            make(
                "transformers, grouped, flash attention 2",
                partial(theirs, grouped=True, attention="flash_attention_2"),
            )
        )
        for candidate, act in (
            ("minbert, compiled", partial(ours, compiled=True)),
            ("transformers, grouped, compiled", partial(theirs, grouped=True, compiled=True)),
        ):
            if scale.compiled:
                later.append(replace(make(candidate, act), expected=100))
        if plan is base:
            short = replace(plan, steps=min(plan.steps, 10))
            first.append(
                Job(
                    workload=f"profile: {name}",
                    candidate="minbert",
                    run=partial(profile, short, rows),
                )
            )
    inference = [
        Job(
            workload="text to embeddings",
            candidate=name,
            run=partial(act, backbone, texts, scale.device),
            amount=len(texts),
            unit="texts",
        )
        for name, act in (
            ("minbert", ours_embed),
            ("sentence-transformers", theirs_embed),
            ("transformers", transformers_embed),
        )
    ]
    length, layers = scale.long
    long = [
        Job(
            workload=f"ModernBERT, {length:,} tokens, {work}",
            candidate=name,
            run=partial(long_text, name, work, length, layers, scale.device),
            amount=length,
            unit="tokens",
        )
        for work in ("inference", "training")
        for name in ("minbert", "transformers")
    ]
    return [*first, *inference, *long, *later]


def _training(workload: str, plan: Plan, rows: RandomRows, candidate: str, act: Any) -> Job:
    share = plan.steps * plan.batch_size / len(rows.ids)  # of all rows, on the clock
    return Job(
        workload=workload,
        candidate=candidate,
        run=partial(act, plan, rows),
        amount=share * float(rows.lengths.sum()),
        unit="tokens",
        flops=share * useful_flops(plan.config, rows.lengths.tolist(), passes=3),
    )


def measure(
    jobs: Sequence[Job],
    *,
    device: str,
    peak: float,
    seconds: float,
    write: Callable[[dict[str, Any], str, str], None],
    once: bool = False,
) -> dict[str, Any]:
    """Run jobs until the time is over.

    Args:
        jobs: of a workload, the first is ours, and the second what it is compared with.
        peak: FLOP/s of which utilisation is a share.
        seconds: when no further job begins.
        write: called with all results after each job, and with its workload and candidate.
        once: run no job again.

    Returns:
        Workload -> candidate -> seconds (a list), speed, unit, utilisation, and ratio to the
        second candidate; or facts; or error.
    """
    end = time.perf_counter() + seconds
    found: dict[str, Any] = {}
    waiting = list(jobs)
    while waiting:
        again = []
        for job in waiting:
            if time.perf_counter() + job.expected > end:
                continue
            result = found.setdefault(job.workload, {}).setdefault(job.candidate, {})
            try:
                outcome = job.run()
                result |= (
                    outcome if isinstance(outcome, dict) else _speed(job, outcome, result, peak)
                )
            except Exception as error:  # whatever ails one, others are to run
                reason = (str(error).strip() or "no reason given").splitlines()[0]
                result["error"] = f"{type(error).__name__}: {reason}"
            if "seconds" in result and "error" not in result and not once:
                again.append(job)
            _compare(found[job.workload], jobs, job.workload)
            write(found, job.workload, job.candidate)
            gc.collect()
            if device == "cuda":
                torch.cuda.empty_cache()
        waiting = again
    return found


def _speed(job: Job, seconds: float, before: dict[str, Any], peak: float) -> dict[str, Any]:
    times = [*before.get("seconds", []), seconds]
    speed: dict[str, Any] = {
        "seconds": times,
        "speed": job.amount / median(times),
        "unit": f"{job.unit}/s",
    }
    if job.flops:
        speed["utilisation"] = job.flops / median(times) / peak
    return speed


def _compare(candidates: dict[str, Any], jobs: Sequence[Job], workload: str) -> None:
    """Set each candidate's speed beside the second one's."""
    names = [job.candidate for job in jobs if job.workload == workload]
    other = candidates.get(names[1], {}).get("speed") if len(names) > 1 else None
    for result in candidates.values():
        if other and "speed" in result:
            result["ratio"] = result["speed"] / other


def line(workload: str, candidate: str, result: dict[str, Any]) -> str:
    """A result in a line of text."""
    if "error" in result:
        said = result["error"]
    elif "kernels" in result:
        costliest = ", ".join(f"{one['name'][:40]} {one['ms']:.2f}" for one in result["kernels"])
        said = (
            f"{result['step_ms']:.1f} ms a step, of which the device works {result['busy']:.0%}, "
            f"{result['launches']:.0f} launches; ms in {costliest}"
        )
    else:
        said = f"{result['speed']:,.0f} {result['unit']}"
        if "utilisation" in result:
            said += f", {result['utilisation']:.1%} of the peak"
        if "ratio" in result:
            said += f", {result['ratio']:.2f} x"
    return f"{workload}: {candidate}: {said}"


def real_jobs(data_dir: Path, scale: Scale) -> list[Job]:
    """The jobs of `python -m benchmarks gpu`, on rows of the data in a folder."""
    from data.readers import read_split
    from data.tasks import get_task
    from minbert.backbones import find_backbone

    lengths = {
        f"{task.upper()}'s lengths": real_lengths(task, data_dir) for task in ("sst", "para")
    }
    texts = [
        example.texts[0]
        for task in ("sst", "sts", "para")
        for example in read_split(get_task(task), "train", data_dir, on_bad_row="skip").examples
    ]
    texts = texts[: 50_000 if scale.device == "cuda" else 8]
    return jobs(scale, lengths, find_backbone("minilm"), texts)
