"""Does a contrastive stage before fine-tuning help?

    python scripts/contrastive.py --data-dir real-data --seeds 3
    python scripts/contrastive.py --data-dir real-data --objective mnr --pairs para --seeds 3

Trains the backbone's embeddings on pairs, fine-tunes a task from it, and fine-tunes from the
backbone as it was, too. Copy it and change what is compared: each config is a run of its own.
"""

from dataclasses import replace
from typing import Literal

from multitask import ContrastConfig
from multitask.commands.messages import Flat, run_script
from multitask.experiments.compare import Comparison


def main(
    common: Flat[Comparison],
    task: str = "sts",
    pair: Literal["cross", "concat", "cosine"] = "cosine",
    objective: Literal["mnr", "simcse", "cosent", "margin"] = "cosent",
    pairs: tuple[str, ...] = ("sts",),
    stage_epochs: int = 2,
    stage_lr: float = 5e-5,
    lr: float = 5e-5,
) -> None:
    """Compare fine-tuning with and without a contrastive stage before it.

    Args:
        common: what all runs have in common.
        task: a task of pairs, fine-tuned on.
        pair: how it takes its pairs: in one sequence, or as two embeddings.
        objective: of the stage.
        pairs: tasks whose training rows the stage is on; it is scored on the task.
        stage_epochs: passes of the stage.
        stage_lr: its learning rate.
        lr: of fine-tuning.
    """
    plain = common.config(task, pair=pair, lr=lr)
    stage = ContrastConfig(
        tasks=pairs,
        score_on=(task,),
        objective=objective,
        data_dir=common.data_dir,
        backbone=common.backbone,
        epochs=stage_epochs,
        lr=stage_lr,
        limit=common.limit,
        device=common.device,
        on_bad_row="skip",
        out=common.folder / "stage",
    )
    common.show(
        {
            "contrastive stage": stage,
            "plain": plain,
            "after the stage": replace(plain, backbone=str(common.folder / "stage" / "backbone")),
        }
    )


if __name__ == "__main__":
    run_script(main)
