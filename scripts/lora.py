"""LoRA beside plain fine-tuning, on one task.

    python scripts/lora.py
    python scripts/lora.py --task sst --data-dir real-data --rank 4 --targets query value

Copy it and change what is compared: each config is a run of its own.
"""

from dataclasses import replace
from pathlib import Path

from multitask import TrainConfig
from multitask.commands.messages import run_script
from multitask.experiments.compare import compare
from multitask.extensions.lora import LoRA


def main(
    task: str = "sst",
    data_dir: Path | None = None,
    backbone: str = "minilm",
    epochs: int = 3,
    rank: int = 8,
    targets: tuple[str, ...] = ("linear",),
    lr: float = 1e-3,
    out: Path = Path("runs/lora"),
) -> None:
    """Train a task in full and with LoRA and DoRA, and print scores, parameters and seconds.

    Args:
        task: sst, para, sts, cola or cfimdb.
        data_dir: folder with the task's files; by default the small data that comes along.
        backbone: minilm, a folder, or a hub name.
        epochs: passes over the data.
        rank: of the change to each matrix.
        targets: roles that are adapted, or linear, embeddings, all.
        lr: learning rate of the adapters; the full fine-tuning has 5e-5.
        out: folder of the runs.
    """
    full = TrainConfig(
        tasks=(task,),
        data_dir=data_dir,
        backbone=backbone,
        epochs=epochs,
        pooling="mean",
        on_bad_row="skip",
    )
    lora = LoRA(rank=rank, alpha=rank, targets=targets)
    configs = {
        "full fine-tuning": full,
        f"LoRA, rank {rank}": replace(full, lr=lr, extensions=(lora,)),
        f"DoRA, rank {rank}": replace(full, lr=lr, extensions=(replace(lora, dora=True),)),
    }
    print(compare(configs, out))


if __name__ == "__main__":
    run_script(main)
