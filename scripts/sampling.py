"""Ways to choose the task of each step, beside each other.

python scripts/sampling.py                          # data/samples, whose tasks are of like size
python scripts/sampling.py --data-dir real-data     # where they are not
"""

from dataclasses import replace
from pathlib import Path

import tyro

from multitask import TrainConfig, train
from multitask.console import table
from multitask.extensions.sampling import Sampling


def main(
    tasks: tuple[str, ...] = ("sst", "para", "sts", "cola"),
    data_dir: Path | None = None,
    backbone: str = "minilm",
    epochs: int = 3,
    steps_per_epoch: int | None = None,
    out: Path = Path("runs/sampling"),
) -> None:
    """Train one encoder on all tasks with every strategy of the extension `sampling`."""
    plain = TrainConfig(tasks=tasks, data_dir=data_dir, backbone=backbone, epochs=epochs,
                        steps_per_epoch=steps_per_epoch, lr=1e-4, pooling="mean", overwrite=True,
                        on_bad_row="skip")  # fmt: skip
    strategies = ("uniform", "proportional", "square_root", "annealed", "round_robin")
    print(f"{len(strategies)} runs on {len(tasks)} tasks; on data/samples about three minutes each "
          "on two CPU cores.")  # fmt: skip
    rows = []
    for strategy in strategies:
        config = replace(plain, extensions=(Sampling(strategy=strategy),), out=out / strategy)
        run = train(config)
        drawn = [line["task"] for line in run.metrics() if line["kind"] == "step"]
        scores = [f"{line['score']:.3f}" for line in run.metrics() if line["kind"] == "epoch"]
        shares = " ".join(f"{drawn.count(task) / len(drawn):.2f}" for task in tasks)
        rows.append([strategy, shares, " ".join(scores), f"{run.record()['score']:.3f}"])
    print(table(["strategy", f"share of {', '.join(tasks)}", "score by epoch", "best"], rows))


if __name__ == "__main__":
    tyro.cli(main)
