"""Ways to choose the task of each step, beside each other.

    python scripts/sampling.py                          # small data, whose tasks are of like size
    python scripts/sampling.py --data-dir real-data     # where they are not

Copy it and change what is compared: each config is a run of its own.
"""

from dataclasses import replace

from multitask.commands.messages import Flat, run_script
from multitask.experiments.compare import Comparison
from multitask.extensions.sampling import Sampling
from multitask.runs.run import Run


def main(
    common: Flat[Comparison],
    tasks: tuple[str, ...] = ("sst", "para", "sts", "cola"),
    steps_per_epoch: int | None = None,
) -> None:
    """Train one encoder on all tasks with every strategy of the extension `sampling`.

    Args:
        common: what all runs have in common.
        tasks: trained together: sst, para, sts, cola, cfimdb.
        steps_per_epoch: by default as many as a pass over all rows has.
    """
    plain = common.config(*tasks, lr=1e-4, steps_per_epoch=steps_per_epoch)
    strategies = ("uniform", "proportional", "square_root", "annealed", "round_robin")
    configs = {name: replace(plain, extensions=(Sampling(strategy=name),)) for name in strategies}

    def shares(run: Run) -> str:
        drawn = [line["task"] for line in run.metrics() if line["kind"] == "step"]
        return " ".join(f"{drawn.count(task) / len(drawn):.2f}" for task in tasks)

    common.show(configs, {f"share of {', '.join(tasks)}": shares})


if __name__ == "__main__":
    run_script(main)
