"""The commands that take several runs together: average, and evaluate --ensemble."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from data.readers import texts_by_id
from minbert.checks import check_unused
from minbert.claim import claimed
from multitask.text_table import table

if TYPE_CHECKING:
    from multitask.commands.answer_commands import Evaluate
    from multitask.experiments.ensemble import Together


@dataclass(frozen=True, kw_only=True)
class Average:
    """Make one run of several that started from one backbone: its weights are the mean of theirs
    (a model soup, arXiv:2203.05482)."""

    folders: Annotated[Positional[tuple[Path, ...]], arg(name="runs-and-folder")]
    """Run folders, two or more, and then the folder to write."""
    greedy: bool = False
    """Begin with the run whose development score is best, and take another in only where the mean's
    score is then no lower."""

    def run(self) -> None:
        from multitask.commands.words import scores_table
        from multitask.experiments.averaging import average

        if len(self.folders) < 3:
            raise ValueError("name two runs or more, and then the folder to write")
        *runs, folder = self.folders
        made = average(runs, folder, greedy=self.greedy)
        record = made.record()
        averaged = record["averaged"]
        for name, score in averaged["runs"].items():
            print(f"{score:.3f}  {name}{'' if name in averaged['kept'] else ', left out'}")
        print(f"{record['score']:.3f}  their mean: {made.folder}\n")
        print(scores_table(record["dev"]))


def evaluate_together(command: Evaluate) -> None:
    """What `minbert evaluate` does with several runs."""
    from multitask.commands.words import mistakes
    from multitask.evaluate import write_predictions
    from multitask.experiments.ensemble import ensemble

    runs, split = command.run_folders, command.split
    if command.ensemble is None:
        raise ValueError(
            f"{len(runs)} runs are named; answer with them together with --ensemble mean or vote, "
            "or evaluate one at a time"
        )
    check_unused(command, "each run of an ensemble answers with its own; leave it out", "adapter")
    with claimed(command.out) if command.out else nullcontext():
        found = ensemble(
            runs,
            split,
            command.ensemble,
            data_dir=command.data_dir,
            on_bad_row=command.on_bad_row,
            precision=command.precision,
        )
        if scores := _table(found, command):
            print(scores)
        if command.mistakes:
            for name, task in found.tasks.items():
                texts = texts_by_id(task, split, found.data_dir)
                print(mistakes(task, found.evaluations[name], texts, command.mistakes))
        if command.out is None:
            print("an ensemble's predictions are in no run; to have them, name a folder: --out")
            return
        for name, task in found.tasks.items():
            print(write_predictions(command.out, task, split, found.evaluations[name]))


def _table(found: Together, command: Evaluate) -> str:
    """Each run's scores and those of the ensemble; nothing where rows have no labels."""
    rows = []
    for name, evaluation in found.evaluations.items():
        for metric, score in evaluation.metrics.items():
            if metric != "loss":
                scores = [*(each[name].metrics[metric] for each in found.single), score]
                rows.append([name, metric, *(f"{value:.3f}" for value in scores)])
    names = [folder.name or str(folder) for folder in command.run_folders]
    return table(["task", "metric", *names, str(command.ensemble)], rows) if rows else ""
