"""Two stages, all tasks and then each alone, beside fine-tuning each task from the start.

    python scripts/two_stage.py
    python scripts/two_stage.py --data-dir real-data

Copy it and change what is compared: each config is a run of its own.
"""

from dataclasses import replace
from pathlib import Path

from multitask import TrainConfig
from multitask.commands.messages import run_script
from multitask.experiments.compare import compare


def main(
    tasks: tuple[str, ...] = ("sst", "para", "sts", "cola"),
    data_dir: Path | None = None,
    backbone: str = "minilm",
    epochs: int = 3,
    out: Path = Path("runs/two_stage"),
) -> None:
    """Train on all tasks, then on each alone from the encoder and the heads that came of it.

    Args:
        tasks: trained together: sst, para, sts, cola, cfimdb.
        data_dir: folder with the tasks' files; by default the small data that comes along.
        backbone: minilm, a folder, or a hub name.
        epochs: passes over the data.
        out: folder of the runs.
    """
    together = TrainConfig(
        tasks=tasks,
        data_dir=data_dir,
        backbone=backbone,
        epochs=epochs,
        lr=1e-4,
        pooling="mean",
        on_bad_row="skip",
        out=out / "multitask",
    )
    configs = {"multitask": together}
    for task in tasks:
        alone = replace(together, tasks=(task,), out=None)
        configs[f"{task} alone"] = alone
        configs[f"{task} after multitask"] = replace(
            alone, backbone=str(together.out), keep_heads=True
        )
    print(compare(configs, out))


if __name__ == "__main__":
    run_script(main)
