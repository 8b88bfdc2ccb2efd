"""What stands for a text: [CLS], the tokens' mean or maximum, or what a task learns.

    python scripts/pooling.py
    python scripts/pooling.py --task cola --lr 7e-5 --data-dir real-data --seeds 3

Copy it and change what is compared: each config is a run of its own.
"""

from dataclasses import replace

from multitask.commands.messages import Flat, run_script
from multitask.experiments.compare import Comparison


def main(common: Flat[Comparison], task: str = "sst", lr: float = 5e-5) -> None:
    """Train a task with each pooling, and print scores.

    Args:
        common: what all runs have in common.
        task: sst, para, sts, cola or cfimdb.
        lr: learning rate of all.
    """
    mean = common.config(task, lr=lr)
    common.show(
        {
            "mean": mean,
            "cls": replace(mean, pooling="cls"),
            "max": replace(mean, pooling="max"),
            "attention": replace(mean, pooling="attention"),
            "mean, layer mix": replace(mean, layer_mix=True),
            "attention, layer mix": replace(mean, pooling="attention", layer_mix=True),
        }
    )


if __name__ == "__main__":
    run_script(main)
