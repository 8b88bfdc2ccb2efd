"""Gradual unfreezing, and one part of the encoder at a time, beside plain fine-tuning.

    python scripts/unfreezing.py
    python scripts/unfreezing.py --task sst --data-dir real-data

Copy it and change what is compared: each config is a run of its own.
"""

from dataclasses import replace

from minbert import load_backbone
from multitask.commands.messages import Flat, run_script
from multitask.experiments.compare import Comparison
from multitask.extensions.unfreeze import Unfreeze


def main(common: Flat[Comparison], task: str = "sts") -> None:
    """Train all of the encoder, more and more of it, and each part of it alone.

    Args:
        common: what all runs have in common.
        task: sst, para, sts, cola or cfimdb.
    """
    plain = common.config(task, lr=1e-4, pooling="pooler")
    parts = [part for part, _ in load_backbone(common.backbone).encoder.depths()]
    pace = common.epochs / (len(parts) + 1)  # so that the embeddings learn in the end
    common.show(
        {
            "all": plain,
            "gradual": replace(plain, extensions=(Unfreeze(every=pace),)),
            **{part: replace(plain, extensions=(Unfreeze(only=part),)) for part in parts},
        }
    )


if __name__ == "__main__":
    run_script(main)
