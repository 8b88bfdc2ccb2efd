"""Per-layer learning rates beside one rate for all layers, on one task.

python scripts/layer_lr.py                                    # data/samples, offline
python scripts/layer_lr.py --data-dir real-data --task sst
"""

from dataclasses import replace
from pathlib import Path

import tyro

from multitask import TrainConfig, train
from multitask.console import table
from multitask.extensions.layer_lr import LayerLR
from multitask.training import describe_groups


def main(
    task: str = "sts",
    data_dir: Path | None = None,
    backbone: str = "minilm",
    epochs: int = 3,
    out: Path = Path("runs/layer_lr"),
) -> None:
    """Train with one learning rate, and with rates that decay from layer to layer."""
    plain = TrainConfig(tasks=(task,), data_dir=data_dir, backbone=backbone, epochs=epochs,
                        lr=1e-4, pooling="mean", overwrite=True)  # fmt: skip
    configs = {
        "one rate": plain,
        "decay 0.95": replace(plain, extensions=(LayerLR(decay=0.95),)),
        "decay 0.8": replace(plain, extensions=(LayerLR(decay=0.8),)),
    }
    print(f"{len(configs)} runs on {task}; on data/samples about a minute each on two CPU cores.")
    print(f"\nThe rates with decay 0.8:\n{describe_groups(configs['decay 0.8'])}\n")
    rows = []
    for name, config in configs.items():
        record = train(replace(config, out=out / name.replace(" ", "-"))).record()
        rows.append([name, f"{record['score']:.3f}", f"{record['seconds']:.0f}"])
    print(table(["learning rates", task, "seconds"], rows))


if __name__ == "__main__":
    tyro.cli(main)
