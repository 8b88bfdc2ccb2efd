"""Adapters of each task's own beside plain multitask fine-tuning.

    python scripts/task_adapters.py
    python scripts/task_adapters.py --tasks sst para sts cola --data-dir real-data --seeds 3

Copy it and change what is compared: each config is a run of its own.
"""

from dataclasses import replace

from multitask.commands.messages import Flat, run_script
from multitask.experiments.compare import Comparison
from multitask.extensions.bottleneck import Bottleneck
from multitask.extensions.pal import Pal
from multitask.extensions.prefix import Prefix


def main(
    common: Flat[Comparison],
    tasks: tuple[str, ...] = ("sst", "sts"),
    size: int = 64,
    length: int = 8,
) -> None:
    """Train several tasks as one model, with all of it shared or with adapters for each task, and
    print scores, parameters and seconds.

    Args:
        common: what all runs have in common.
        tasks: of sst, para, sts, cola and cfimdb.
        size: features of a bottleneck.
        length: of a prefix.
    """
    plain = common.config(*tasks, lr=1e-4)
    houlsby = Bottleneck(kind="houlsby", size=size)
    pfeiffer = Bottleneck(kind="pfeiffer", size=size)
    together = replace(pfeiffer, per_task=False)
    common.show(
        {
            "all shared": plain,
            "PALs": replace(plain, extensions=(Pal(),)),
            "Houlsby": replace(plain, lr=1e-3, extensions=(houlsby,)),
            "Pfeiffer": replace(plain, lr=1e-3, extensions=(pfeiffer,)),
            "Pfeiffer, one for all": replace(plain, lr=1e-3, extensions=(together,)),
            "prefixes": replace(plain, lr=1e-2, extensions=(Prefix(length=length),)),
        }
    )


if __name__ == "__main__":
    run_script(main)
