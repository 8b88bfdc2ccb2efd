"""Per-layer learning rates beside one rate for all layers, on one task.

    python scripts/layer_lr.py
    python scripts/layer_lr.py --task sst --data-dir real-data

Copy it and change what is compared: each config is a run of its own.
"""

from dataclasses import replace
from pathlib import Path

from multitask import TrainConfig
from multitask.commands.messages import run_script
from multitask.experiments.compare import compare
from multitask.extensions.layer_lr import LayerLR
from multitask.training import describe_groups


def main(
    task: str = "sts",
    data_dir: Path | None = None,
    backbone: str = "minilm",
    epochs: int = 3,
    out: Path = Path("runs/layer_lr"),
) -> None:
    """Train with one learning rate, and with rates that decay from layer to layer.

    Args:
        task: sst, para, sts, cola or cfimdb.
        data_dir: folder with the task's files; by default the small data that comes along.
        backbone: minilm, a folder, or a hub name.
        epochs: passes over the data.
        out: folder of the runs.
    """
    plain = TrainConfig(
        tasks=(task,),
        data_dir=data_dir,
        backbone=backbone,
        epochs=epochs,
        lr=1e-4,
        pooling="mean",
        on_bad_row="skip",
    )
    configs = {
        "one rate": plain,
        "decay 0.95": replace(plain, extensions=(LayerLR(decay=0.95),)),
        "decay 0.8": replace(plain, extensions=(LayerLR(decay=0.8),)),
    }
    print(f"The rates with decay 0.8:\n{describe_groups(configs['decay 0.8'])}\n")
    print(compare(configs, out))


if __name__ == "__main__":
    run_script(main)
