"""LoRA beside plain fine-tuning, on one task.

    python scripts/lora.py
    python scripts/lora.py --task sst --data-dir real-data --rank 4 --targets query value

Copy it and change what is compared: each config is a run of its own.
"""

from dataclasses import replace

from multitask.commands.messages import Flat, run_script
from multitask.experiments.compare import Comparison
from multitask.extensions.lora import LoRA


def main(
    common: Flat[Comparison],
    task: str = "sst",
    rank: int = 8,
    targets: tuple[str, ...] = ("linear",),
    lr: float = 1e-3,
) -> None:
    """Train a task in full and with LoRA and DoRA, and print scores, parameters and seconds.

    Args:
        common: what all runs have in common.
        task: sst, para, sts, cola or cfimdb.
        rank: of the change to each matrix.
        targets: roles that are adapted, or linear, embeddings, all.
        lr: learning rate of the adapters; the full fine-tuning has 5e-5.
    """
    full = common.config(task)
    lora = LoRA(rank=rank, alpha=rank, targets=targets)
    common.show(
        {
            "full fine-tuning": full,
            f"LoRA, rank {rank}": replace(full, lr=lr, extensions=(lora,)),
            f"DoRA, rank {rank}": replace(full, lr=lr, extensions=(replace(lora, dora=True),)),
        }
    )


if __name__ == "__main__":
    run_script(main)
