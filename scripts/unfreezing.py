"""Gradual unfreezing, and one part of the encoder at a time, beside plain fine-tuning.

python scripts/unfreezing.py                                  # data/samples, offline
python scripts/unfreezing.py --data-dir real-data --task sst
"""

from dataclasses import replace
from pathlib import Path

import tyro

from minbert import load_backbone
from multitask import TrainConfig, train
from multitask.console import table
from multitask.extensions.unfreeze import Unfreeze


def main(
    task: str = "sts",
    data_dir: Path | None = None,
    backbone: str = "minilm",
    epochs: int = 3,
    out: Path = Path("runs/unfreezing"),
) -> None:
    """Train all of the encoder, more and more of it, and each part of it alone."""
    plain = TrainConfig(tasks=(task,), data_dir=data_dir, backbone=backbone, epochs=epochs,
                        lr=1e-4, overwrite=True)  # fmt: skip
    parts = [part for part, _ in load_backbone(backbone).encoder.depths()]
    pace = epochs / (len(parts) + 1)  # so that the embeddings learn in the end
    configs = {"all": plain, "gradual": replace(plain, extensions=(Unfreeze(every=pace),))}
    configs |= {part: replace(plain, extensions=(Unfreeze(only=part),)) for part in parts}
    print(f"{len(configs)} runs on {task}; on data/samples a minute or less each on two CPU cores.")
    rows = []
    for name, config in configs.items():
        record = train(replace(config, out=out / name.replace(" ", "-"))).record()
        trained = f"{record['parameters']['trained']:,}"
        rows.append([name, f"{record['score']:.3f}", trained, f"{record['seconds']:.0f}"])
    print(table(["what learns", task, "parameters", "seconds"], rows))


if __name__ == "__main__":
    tyro.cli(main)
