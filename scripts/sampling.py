"""Ways to choose the task of each step, beside each other.

    python scripts/sampling.py                          # small data, whose tasks are of like size
    python scripts/sampling.py --data-dir real-data     # where they are not

Copy it and change what is compared: each config is a run of its own.
"""

from dataclasses import replace
from pathlib import Path

from multitask import TrainConfig
from multitask.commands.messages import run_script
from multitask.experiments.compare import compare
from multitask.extensions.sampling import Sampling
from multitask.runs.run import Run


def main(
    tasks: tuple[str, ...] = ("sst", "para", "sts", "cola"),
    data_dir: Path | None = None,
    backbone: str = "minilm",
    epochs: int = 3,
    steps_per_epoch: int | None = None,
    out: Path = Path("runs/sampling"),
) -> None:
    """Train one encoder on all tasks with every strategy of the extension `sampling`.

    Args:
        tasks: trained together: sst, para, sts, cola, cfimdb.
        data_dir: folder with the tasks' files; by default the small data that comes along.
        backbone: minilm, a folder, or a hub name.
        epochs: passes over the data.
        steps_per_epoch: by default as many as a pass over all rows has.
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
    strategies = ("uniform", "proportional", "square_root", "annealed", "round_robin")
    configs = {name: replace(plain, extensions=(Sampling(strategy=name),)) for name in strategies}

    def shares(run: Run) -> str:
        drawn = [line["task"] for line in run.metrics() if line["kind"] == "step"]
        return " ".join(f"{drawn.count(task) / len(drawn):.2f}" for task in tasks)

    print(compare(configs, out, {f"share of {', '.join(tasks)}": shares}))


if __name__ == "__main__":
    run_script(main)
