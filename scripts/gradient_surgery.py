"""PCGrad and GradVac beside the plain sum of the tasks' gradients, and how these agree.

    python scripts/gradient_surgery.py
    python scripts/gradient_surgery.py --data-dir real-data --steps-per-epoch 500

Copy it and change what is compared: each config is a run of its own.
"""

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np

from multitask import TrainConfig
from multitask.commands.messages import run_script
from multitask.experiments.compare import compare
from multitask.extensions.gradient_surgery import GradientSurgery
from multitask.runs.run import Run


def main(
    tasks: tuple[str, ...] = ("sst", "para", "sts", "cola"),
    data_dir: Path | None = None,
    backbone: str = "minilm",
    epochs: int = 3,
    steps_per_epoch: int = 40,
    out: Path = Path("runs/gradient_surgery"),
) -> None:
    """Train on a batch of every task in each step, with and without gradient surgery.

    The table's last scores are mean cosines between the gradients of two tasks, before surgery.

    Args:
        tasks: trained together: sst, para, sts, cola, cfimdb.
        data_dir: folder with the tasks' files; by default the small data that comes along.
        backbone: minilm, a folder, or a hub name.
        epochs: passes over the data.
        steps_per_epoch: each takes a batch of every task.
        out: folder of the runs.
    """
    plain = TrainConfig(
        tasks=tasks,
        data_dir=data_dir,
        backbone=backbone,
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
        lr=1e-4,
        pooling="mean",
        on_bad_row="skip",
    )
    configs = {
        name: replace(plain, extensions=(GradientSurgery(method=name),))
        for name in ("none", "pcgrad", "gradvac")
    }

    def cosines(run: Run) -> str:
        found = [line["cosines"] for line in run.metrics() if line["kind"] == "cosines"]
        mean = np.mean(found, axis=0)
        return " ".join(f"{mean[pair]:.2f}" for pair in combinations(range(len(tasks)), 2))

    pairs = ", ".join("-".join(pair) for pair in combinations(tasks, 2))
    print(compare(configs, out, {f"cosines {pairs}": cosines}))


if __name__ == "__main__":
    run_script(main)
