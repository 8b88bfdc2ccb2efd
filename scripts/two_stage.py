"""Two stages, all tasks and then each alone, beside fine-tuning each task from the start.

python scripts/two_stage.py                                   # data/samples, offline
python scripts/two_stage.py --data-dir real-data
"""

from dataclasses import replace
from pathlib import Path

import tyro

from multitask import TrainConfig, train
from multitask.console import table


def main(
    tasks: tuple[str, ...] = ("sst", "para", "sts", "cola"),
    data_dir: Path | None = None,
    backbone: str = "minilm",
    epochs: int = 3,
    out: Path = Path("runs/two_stage"),
) -> None:
    """Train on all tasks, then on each alone from the encoder and the heads that came of it."""
    plain = TrainConfig(tasks=tasks, data_dir=data_dir, backbone=backbone, epochs=epochs,
                        lr=1e-4, pooling="mean", overwrite=True, on_bad_row="skip")  # fmt: skip
    print(f"{1 + 2 * len(tasks)} runs; on data/samples about ten minutes on two CPU cores.")
    first = train(replace(plain, out=out / "multitask"))
    rows = []
    for task in tasks:
        alone = replace(plain, tasks=(task,))
        direct = train(replace(alone, out=out / f"{task}-alone"))
        second = train(replace(alone, backbone=str(first.folder), keep_heads=True,
                               out=out / f"{task}-after"))  # fmt: skip
        together = next(iter(first.record()["dev"][task].values()))
        scores = [direct.record()["score"], together, second.record()["score"]]
        rows.append([task, *(f"{score:.3f}" for score in scores)])
    print(table(["task", "alone", "multitask", "multitask, then alone"], rows))


if __name__ == "__main__":
    tyro.cli(main)
