"""Distillation beside plain fine-tuning: students of runs that differ in their seeds.

    python scripts/distillation.py --seeds 3
    python scripts/distillation.py --seeds 3 --tasks cola --lr 7e-5 --data-dir real-data
    python scripts/distillation.py --tasks sst para sts cola --data-dir real-data

The teachers of a task are the plain runs of all seeds; where the students learn several tasks, runs
of each task alone. Copy it and change what is compared.
"""

from dataclasses import replace

from multitask.commands.messages import Flat, run_script
from multitask.experiments.compare import Comparison, with_seeds
from multitask.extensions.distill import Distill


def main(
    common: Flat[Comparison],
    tasks: tuple[str, ...] = ("sst",),
    lr: float = 5e-5,
    temperature: float = 2.0,
    weight: float = 0.7,
) -> None:
    """Train plainly, and as a student.

    Args:
        common: what all runs have in common.
        tasks: sst, para, sts, cola, cfimdb.
        lr: learning rate of all.
        temperature: by which logits are divided.
        weight: how much teachers count beside labels, where that does not change.
    """
    plain = common.config(*tasks, lr=lr, out=common.folder / "plain")
    rows, teachers = {"plain": plain}, []
    for task in tasks:
        teacher = plain
        if len(tasks) > 1:
            teacher = replace(plain, tasks=(task,), out=common.folder / f"{task}-alone")
            rows[f"{task} alone"] = teacher
        runs = with_seeds({task: teacher}, common.seeds)[task]
        teachers += [f"{task}={run.out}" for run in runs]
    whole = Distill(teachers=tuple(teachers), temperature=temperature, weight=1.0, anneal=True)
    methods = {
        "distilled": replace(whole, weight=weight, anneal=False),
        "distilled, annealed": whole,
    }
    for name, own in methods.items():
        rows[name] = replace(plain, extensions=(own,), out=None)
    common.show(rows)


if __name__ == "__main__":
    run_script(main)
