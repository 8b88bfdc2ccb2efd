"""Two stages, all tasks and then each alone, beside fine-tuning each task from the start.

    python scripts/two_stage.py
    python scripts/two_stage.py --data-dir real-data

Copy it and change what is compared: each config is a run of its own.
"""

from dataclasses import replace

from multitask.commands.messages import Flat, run_script
from multitask.experiments.compare import Comparison


def main(common: Flat[Comparison], tasks: tuple[str, ...] = ("sst", "para", "sts", "cola")) -> None:
    """Train on all tasks, then on each alone from the encoder and the heads that came of it.

    Args:
        common: what all runs have in common.
        tasks: trained together: sst, para, sts, cola, cfimdb.
    """
    together = common.config(*tasks, lr=1e-4, out=common.folder / "multitask")
    configs = {"multitask": together}
    for task in tasks:
        alone = replace(together, tasks=(task,), out=None)
        configs[f"{task} alone"] = alone
        configs[f"{task} after multitask"] = replace(
            alone, backbone=str(together.out), keep_heads=True
        )
    common.show(configs)


if __name__ == "__main__":
    run_script(main)
