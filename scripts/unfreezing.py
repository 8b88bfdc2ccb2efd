"""Gradual unfreezing, and one part of the encoder at a time, beside plain fine-tuning.

    python scripts/unfreezing.py
    python scripts/unfreezing.py --task sst --data-dir real-data

Copy it and change what is compared: each config is a run of its own.
"""

from dataclasses import replace
from pathlib import Path

from minbert import load_backbone
from multitask import TrainConfig
from multitask.commands.messages import run_script
from multitask.experiments.compare import compare
from multitask.extensions.unfreeze import Unfreeze


def main(
    task: str = "sts",
    data_dir: Path | None = None,
    backbone: str = "minilm",
    epochs: int = 3,
    out: Path = Path("runs/unfreezing"),
) -> None:
    """Train all of the encoder, more and more of it, and each part of it alone.

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
        on_bad_row="skip",
    )
    parts = [part for part, _ in load_backbone(backbone).encoder.depths()]
    pace = epochs / (len(parts) + 1)  # so that the embeddings learn in the end
    configs = {
        "all": plain,
        "gradual": replace(plain, extensions=(Unfreeze(every=pace),)),
        **{part: replace(plain, extensions=(Unfreeze(only=part),)) for part in parts},
    }
    print(compare(configs, out))


if __name__ == "__main__":
    run_script(main)
