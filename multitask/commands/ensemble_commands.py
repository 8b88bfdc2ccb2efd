"""The commands that take several runs together: average, and evaluate --ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from data.readers import OnBadRow, texts_by_id
from data.tasks import Split
from minbert.claim import claimed
from multitask.text_table import table


@dataclass(frozen=True, kw_only=True)
class Average:
    """Make one run of several that started from one backbone: its weights are the mean of theirs
    (a model soup, arXiv:2203.05482)."""

    folders: Annotated[Positional[tuple[Path, ...]], arg(name="runs-and-folder")] = ()
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


def evaluate_together(
    runs: Sequence[Path],
    split: Split,
    how: Literal["mean", "vote"] | None,
    *,
    data_dir: Path | None,
    on_bad_row: OnBadRow | None,
    precision: str,
    count: int | None,
    out: Path | None,
) -> None:
    """What `minbert evaluate` does with several runs; `count` rows that were answered wrong are
    shown, and predictions written to `out`."""
    from multitask.commands.words import mistakes
    from multitask.evaluate import write_predictions
    from multitask.experiments.ensemble import ensemble

    if how is None:
        raise ValueError(
            f"{len(runs)} runs are named; answer with them together with --ensemble mean or vote, "
            "or evaluate one at a time"
        )
    with claimed(out) if out else nullcontext():
        found = ensemble(
            runs, split, how, data_dir=data_dir, on_bad_row=on_bad_row, precision=precision
        )
        rows = []
        for name, evaluation in found.evaluations.items():
            for metric in found.tasks[name].metrics if evaluation.metrics else ():
                scores = [each[name].metrics[metric] for each in (*found.single, found.evaluations)]
                rows.append([name, metric, *(f"{score:.3f}" for score in scores)])
        if rows:
            names = [folder.name or str(folder) for folder in runs]
            print(table(["task", "metric", *names, how], rows))
        if count:
            for name, task in found.tasks.items():
                texts = texts_by_id(task, split, found.data_dir)
                print(mistakes(task, found.evaluations[name], texts, count))
        if out is None:
            print("an ensemble's predictions are in no run; to have them, name a folder: --out")
            return
        for name, task in found.tasks.items():
            print(write_predictions(out, task, split, found.evaluations[name]))
