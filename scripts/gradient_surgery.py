"""PCGrad and GradVac beside the plain sum of the tasks' gradients, and how these agree.

    python scripts/gradient_surgery.py
    python scripts/gradient_surgery.py --data-dir real-data --steps-per-epoch 500

Copy it and change what is compared: each config is a run of its own.
"""

from dataclasses import replace
from itertools import combinations

import numpy as np

from multitask.commands.messages import Flat, run_script
from multitask.experiments.compare import Comparison
from multitask.extensions.gradient_surgery import GradientSurgery
from multitask.runs.run import Run


def main(
    common: Flat[Comparison],
    tasks: tuple[str, ...] = ("sst", "para", "sts", "cola"),
    steps_per_epoch: int = 40,
) -> None:
    """Train on a batch of every task in each step, with and without gradient surgery.

    The table's last scores are mean cosines between the gradients of two tasks, before surgery.

    Args:
        common: what all runs have in common.
        tasks: trained together: sst, para, sts, cola, cfimdb.
        steps_per_epoch: each takes a batch of every task.
    """
    plain = common.config(*tasks, lr=1e-4, steps_per_epoch=steps_per_epoch)
    configs = {
        name: replace(plain, extensions=(GradientSurgery(method=name),))
        for name in ("none", "pcgrad", "gradvac")
    }
    pairs = list(combinations(range(len(tasks)), 2))

    def cosines(run: Run) -> str:
        found = [line["cosines"] for line in run.metrics() if line["kind"] == "cosines"]
        mean = np.mean(found, axis=0)
        return " ".join(f"{mean[pair]:.2f}" for pair in pairs)

    header = ", ".join(f"{tasks[one]}-{tasks[other]}" for one, other in pairs)
    common.show(configs, {f"cosines {header}": cosines})


if __name__ == "__main__":
    run_script(main)
