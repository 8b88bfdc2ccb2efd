"""BitFit and IA3 beside plain fine-tuning, on one task: how little is enough?

    python scripts/bitfit.py
    python scripts/bitfit.py --task sst --data-dir real-data --epochs 5

Copy it and change what is compared: each config is a run of its own.
"""

from dataclasses import replace

from multitask.commands.messages import Flat, run_script
from multitask.experiments.compare import Comparison
from multitask.extensions.bitfit import BitFit
from multitask.extensions.ia3 import IA3


def main(common: Flat[Comparison], task: str = "sst") -> None:
    """Train a task in full, then biases or factors alone; print scores, parameters and seconds.

    Args:
        common: what all runs have in common.
        task: sst, para, sts, cola or cfimdb.
    """
    full = common.config(task)
    two_roles = BitFit(roles=("query", "feed_forward_inner"))
    common.show(
        {
            "full fine-tuning": full,
            "BitFit": replace(full, lr=1e-3, extensions=(BitFit(),)),
            "BitFit, two roles": replace(full, lr=1e-3, extensions=(two_roles,)),
            "IA3": replace(full, lr=5e-3, extensions=(IA3(),)),
            "heads alone": replace(full, lr=1e-3, frozen=True),
        }
    )


if __name__ == "__main__":
    run_script(main)
