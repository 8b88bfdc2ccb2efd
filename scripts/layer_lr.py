"""Per-layer learning rates beside one rate for all layers, on one task.

    python scripts/layer_lr.py
    python scripts/layer_lr.py --task sst --data-dir real-data

Copy it and change what is compared: each config is a run of its own.
"""

from dataclasses import replace

from multitask.commands.messages import Flat, run_script
from multitask.experiments.compare import Comparison
from multitask.extensions.layer_lr import LayerLR
from multitask.training import describe_groups


def main(common: Flat[Comparison], task: str = "sts") -> None:
    """Train with one learning rate, and with rates that decay from layer to layer.

    Args:
        common: what all runs have in common.
        task: sst, para, sts, cola or cfimdb.
    """
    plain = common.config(task, lr=1e-4)
    configs = {
        "one rate": plain,
        "decay 0.95": replace(plain, extensions=(LayerLR(decay=0.95),)),
        "decay 0.8": replace(plain, extensions=(LayerLR(decay=0.8),)),
    }
    print(f"The rates with decay 0.8:\n{describe_groups(configs['decay 0.8'])}\n")
    common.show(configs)


if __name__ == "__main__":
    run_script(main)
