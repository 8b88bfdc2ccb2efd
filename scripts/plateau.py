"""Why does similarity learn so late after masked-language-model training, and what helps?

    python scripts/plateau.py --data-dir real-data --seeds 2

Fine-tunes STS from the backbone and from the backbone further pre-trained on STS's own text, as the
study does, each as it is and with one thing changed. Losses stay for a while at that of the best
constant answer, the plateau; the table says when each run leaves it, and how large its gradients
are. Runs that are done are not repeated, and one that was cut short goes on.

OUT/minilm-as-it-is-11711/ ...   a run folder each
OUT/plateau.json                 the points that `minbert report` draws
"""

from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from minbert.files import write_json
from multitask import PretrainConfig, TrainConfig
from multitask.commands.messages import run_script
from multitask.config import AnyConfig
from multitask.experiments.queue import finish
from multitask.report.run_blocks import plateau_rows
from multitask.runs.run import Run
from multitask.text_table import table

NO_CLIP = 1e6
"""A norm that no gradient has: it is noted, and nothing is clipped."""
WIDTH = 20
"""Batches whose mean loss says whether the plateau is left."""
LEFT = 0.8
"""Of the constant answer's loss: a run whose losses are below has left the plateau."""
FIRST = 10
"""Steps whose gradients are the first."""
BOTH = ("as it is", "heads first")
"""What is run from the backbone as it was, too."""


def main(
    data_dir: Path | None = None,
    backbone: str = "minilm",
    seeds: int = 1,
    seed: int = 11711,
    limit: int | None = 2000,
    epochs: int = 2,
    mlm_epochs: int = 2,
    heads_epochs: int = 10,
    lr: float = 1e-4,
    only: tuple[str, ...] = (),
    device: str = "auto",
    out: Path = Path("runs/plateau"),
) -> None:
    """Fine-tune STS from two starts in several ways, and print when each leaves the plateau.

    Args:
        data_dir: folder with the tasks' files; by default the project's small data.
        backbone: minilm, a folder, or a hub name.
        seeds: train each with so many seeds.
        seed: the first of them.
        limit: use so many training rows, taken at equal distances.
        epochs: passes of fine-tuning.
        mlm_epochs: passes of masked-language-model training.
        heads_epochs: passes in which the heads alone learn, where they are first.
        lr: learning rate of both; heads alone have ten times it.
        only: of what is changed, these, such as "as it is" and "heads first"; by default all.
        device: auto, cpu, cuda, ...
        out: folder of the runs.
    """
    if seeds < 1:
        raise SystemExit(f"seeds must be at least 1, it is {seeds}")
    points = []
    for each in range(seed, seed + seeds):
        common: dict[str, Any] = {
            "tasks": ("sts",),
            "data_dir": data_dir,
            "limit": limit,
            "lr": lr,
            "weight_decay": 0.0,
            "seed": each,
            "device": device,
            "on_bad_row": "skip",
        }
        mlm = PretrainConfig(
            backbone=backbone,
            epochs=mlm_epochs,
            schedule="constant",
            warmup=0.0,
            clip=0.0,
            out=out / f"mlm-{each}",
            **common,
        )
        plain = TrainConfig(epochs=epochs, pooling="mean", clip=NO_CLIP, **common)
        starts = {"minilm": backbone, "after MLM": str(Run(out / f"mlm-{each}").backbone)}
        stages: list[AnyConfig] = [mlm]
        changed: dict[tuple[str, str], TrainConfig] = {}
        for start, source in starts.items():
            own = replace(plain, backbone=source)
            name = start.replace(" ", "-").lower()
            heads = replace(own, frozen=True, epochs=heads_epochs, lr=10 * lr)
            heads = replace(heads, out=out / f"{name}-heads-alone-{each}")
            stages.append(heads)
            known = changes(own, heads)
            unknown = [what for what in only if what not in known]
            if unknown:
                raise SystemExit(f"nothing is called {unknown[0]!r}; known are {', '.join(known)}")
            for what in only or known:
                if source != backbone or what in BOTH:
                    changed[start, what] = known[what]
        configs = [
            replace(config, out=out / f"{'-'.join(key).replace(' ', '-').lower()}-{each}")
            for key, config in changed.items()
        ]
        finish([*stages, *configs])
        for (start, change), config in zip(changed, configs):
            assert config.out is not None
            points.append({"start": start, "change": change, **measured(Run(config.out))})
        write_json(out / "plateau.json", points)
    records = {point["run"]: Run(out / point["run"]).record() for point in points}
    print(table(*plateau_rows(points, records)))


def changes(plain: TrainConfig, heads: TrainConfig) -> dict[str, TrainConfig]:
    """What is changed of fine-tuning as it is -> its config.

    Args:
        plain: fine-tuning as it is.
        heads: a run of the heads alone on the same, frozen encoder. To start from that is linear
            probing, then fine-tuning (Kumar et al., 2022, arXiv:2202.10054).
    """
    return {
        "as it is": plain,
        "heads first": replace(plain, backbone=str(heads.out), keep_heads=True),
        "clip 1": replace(plain, clip=1.0),
        "warm-up of a half": replace(plain, warmup=0.5),
        "rate times 3": replace(plain, lr=3 * plain.lr),
    }


def measured(run: Run) -> dict[str, Any]:
    """A run's name, the step at which it leaves the plateau, and its gradients' norms: medians of
    the first steps, of those from WIDTH to where it is left, and of those after it."""
    lines = [line for line in run.metrics() if line["kind"] == "step"]
    losses = [line["loss"] for line in lines]
    norms = [line["grad_norm"] for line in lines]
    low = LEFT * run.record()["constant"]["sts"]["loss"]
    ends = range(WIDTH, len(losses) + 1)
    left = next((end for end in ends if sum(losses[end - WIDTH : end]) < low * WIDTH), None)
    return {
        "run": run.folder.name,
        "left": left,
        "first_norm": median(norms[:FIRST]),
        "plateau_norm": median(norms[WIDTH:left] or norms),
        "after_norm": median(norms[left:]) if left and left < len(norms) else None,
    }


if __name__ == "__main__":
    run_script(main)
