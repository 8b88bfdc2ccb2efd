"""One student of several teachers: plain fine-tuning beside distillation, and the ensemble.

    python scripts/distillation.py
    python scripts/distillation.py --tasks sst --data-dir real-data --seeds 3
    python scripts/distillation.py --tasks sst para sts cola --teachers 1 --data-dir real-data

Of each task so many teachers are trained alone, which differ in their seeds; the students learn all
tasks together. Copy it and change what is compared.
"""

from dataclasses import replace

from multitask.commands.messages import Flat, run_script
from multitask.experiments.compare import Comparison
from multitask.experiments.ensemble import ensemble
from multitask.extensions.distill import Distill


def main(
    common: Flat[Comparison],
    tasks: tuple[str, ...] = ("sst",),
    teachers: int = 3,
    lr: float = 5e-5,
    temperature: float = 2.0,
    weight: float = 0.7,
) -> None:
    """Train teachers of each task, and students of them.

    Args:
        common: what all runs have in common.
        tasks: sst, para, sts, cola, cfimdb.
        teachers: runs of each task that teach.
        lr: learning rate of all.
        temperature: by which logits are divided.
        weight: how much teachers count beside labels.
    """
    plain = common.config(*tasks, lr=lr)
    own, named = {}, []
    for task in tasks:
        alone = replace(plain, tasks=(task,))
        runs = [common.folder / f"{task}-teacher-{number}" for number in range(1, teachers + 1)]
        for number, out in enumerate(runs):
            own[out.name] = replace(alone, seed=alone.seed + number, out=out)
        named += [f"{task}={out}" for out in runs]
    replace(common, seeds=1).show(own)
    for task in tasks if teachers > 1 else ():
        runs = [config.out for config in own.values() if config.tasks == (task,)]
        metrics = ensemble(runs, "dev").evaluations[task].metrics
        print(f"\n{task}, the teachers together:", *(f"{k} {v:.3f}" for k, v in metrics.items()))
    print()

    def taught(weight: float, *, anneal: bool = False) -> Distill:
        teach = tuple(named)
        return Distill(teachers=teach, temperature=temperature, weight=weight, anneal=anneal)

    fresh = replace(plain, seed=plain.seed + teachers + 1)  # no student starts as a teacher did
    methods = {"distilled": taught(weight), "distilled, annealed": taught(1.0, anneal=True)}
    students = {name: replace(fresh, extensions=(how,)) for name, how in methods.items()}
    common.show({"plain": fresh, **students})


if __name__ == "__main__":
    run_script(main)
