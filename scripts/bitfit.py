"""BitFit and IA3 beside plain fine-tuning, on one task: how little is enough?

    python scripts/bitfit.py
    python scripts/bitfit.py --task sst --data-dir real-data --epochs 5

Copy it and change what is compared: each config is a run of its own.
"""

from dataclasses import replace
from pathlib import Path

from multitask import TrainConfig
from multitask.commands.messages import run_script
from multitask.experiments.compare import compare
from multitask.extensions.bitfit import BitFit
from multitask.extensions.ia3 import IA3


def main(
    task: str = "sst",
    data_dir: Path | None = None,
    backbone: str = "minilm",
    epochs: int = 3,
    out: Path = Path("runs/bitfit"),
) -> None:
    """Train a task in full, then biases or factors alone; print scores, parameters and seconds.

    Args:
        task: sst, para, sts, cola or cfimdb.
        data_dir: folder with the task's files; by default the small data that comes along.
        backbone: minilm, a folder, or a hub name.
        epochs: passes over the data.
        out: folder of the runs.
    """
    full = TrainConfig(
        tasks=(task,),
        data_dir=data_dir,
        backbone=backbone,
        epochs=epochs,
        pooling="mean",
        on_bad_row="skip",
    )
    two_roles = BitFit(roles=("query", "feed_forward_inner"))
    configs = {
        "full fine-tuning": full,
        "BitFit": replace(full, lr=1e-3, extensions=(BitFit(),)),
        "BitFit, two roles": replace(full, lr=1e-3, extensions=(two_roles,)),
        "IA3": replace(full, lr=5e-3, extensions=(IA3(),)),
        "heads alone": replace(full, lr=1e-3, frozen=True),
    }
    print(compare(configs, out))


if __name__ == "__main__":
    run_script(main)
