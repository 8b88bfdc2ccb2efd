"""PCGrad and GradVac beside the plain sum of the tasks' gradients, and how these agree.

python scripts/gradient_surgery.py                           # data/samples, offline
python scripts/gradient_surgery.py --data-dir real-data --steps-per-epoch 500
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import tyro

from multitask import TrainConfig, train
from multitask.console import table
from multitask.extensions.gradient_surgery import GradientSurgery


def main(
    tasks: tuple[str, ...] = ("sst", "para", "sts", "cola"),
    data_dir: Path | None = None,
    backbone: str = "minilm",
    epochs: int = 3,
    steps_per_epoch: int = 40,
    out: Path = Path("runs/gradient_surgery"),
) -> None:
    """Train on a batch of every task in each step, with and without gradient surgery."""
    plain = TrainConfig(tasks=tasks, data_dir=data_dir, backbone=backbone, epochs=epochs,
                        steps_per_epoch=steps_per_epoch, lr=1e-4, pooling="mean", overwrite=True,
                        on_bad_row="skip")  # fmt: skip
    print(f"3 runs of {epochs * steps_per_epoch} steps, a batch of {len(tasks)} tasks in each; "
          "120 steps take about three minutes on two CPU cores.")  # fmt: skip
    rows = []
    for method in ("none", "pcgrad", "gradvac"):
        surgery = GradientSurgery(method=method)
        run = train(replace(plain, extensions=(surgery,), out=out / method))
        cosines = [line["cosines"] for line in run.metrics() if line["kind"] == "cosines"]
        print(f"\n{method}: mean cosine between the tasks' gradients")
        mean = np.mean(cosines, axis=0)
        print(table(["", *tasks], [[task, *(f"{cosine:.2f}" for cosine in row)]
                                   for task, row in zip(tasks, mean, strict=True)]))  # fmt: skip
        record = run.record()
        scores = [f"{next(iter(record['dev'][task].values())):.3f}" for task in tasks]
        rows.append([method, *scores, f"{record['score']:.3f}", f"{record['seconds']:.0f}"])
    print()
    print(table(["surgery", *tasks, "mean", "seconds"], rows))


if __name__ == "__main__":
    tyro.cli(main)
