"""The command that compares runs: minbert compare."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from multitask.experiments.compare_runs import RunComparison, TaskComparison


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Say whether runs are better than the first of them, and by how much, on paired rows.

    Each is a run folder; or several runs of other seeds, as A,B,C, or as FOLDER for all of
    FOLDER-1, FOLDER-2 and so on; or mean:A,B,C and vote:A,B,C, their answers together. Each
    difference comes with an interval that has it with 95%, and with p, how often chance alone makes
    one as large: docs/comparing.md says how.
    """

    groups: Annotated[Positional[tuple[str, ...]], arg(name="runs")] = ()
    """Run folders, or groups of them; the first is what the others are compared with."""
    data_dir: Path | None = None
    """Folder with the development rows; by default the one that the first run was trained on."""
    rows: int = 5
    """Show so many rows of each task that became worse, the worst first, and so many better."""
    figure: Path | None = None
    """Draw all curves of losses and scores in this SVG file."""
    out: Path | None = None
    """Write scores and differences to comparison.json in this folder, in which the runs are too,
    for minbert report --keep FOLDER."""

    def run(self) -> None:
        from minbert.checks import check_counts
        from multitask.experiments.compare_runs import compare_runs
        from multitask.experiments.curves import draw_curves
        from multitask.experiments.differences import points_of, write_points
        from multitask.experiments.groups import group_of

        check_counts(self, "rows")
        if len(self.groups) < 2:
            raise ValueError("compare takes at least two runs, or groups of runs")
        groups = [group_of(word) for word in self.groups]
        found = []
        for other in groups[1:]:
            found.append(compare_runs(groups[0], other, data_dir=self.data_dir))
            print(described(found[-1], self.rows))
        if self.out:
            print(write_points(self.out, points_of(found)))
        if self.figure:
            print(draw_curves(groups, self.figure))


def described(found: RunComparison, rows: int) -> str:
    """A comparison in words: scores, settings that differ, and the rows that changed most."""
    from multitask.text_table import table

    names = found.first.name, found.second.name
    if names[0] == names[1]:
        names = tuple(str(group.runs[0].folder) for group in (found.first, found.second))
    scores = [
        [
            task, metric, f"{d.first:.3f}", f"{d.second:.3f}", *d.cells,
            f"{compared.constant[metric]:.3f}", d.test,
        ]
        for task, compared in found.tasks.items()
        for metric, d in compared.differences.items()
    ]  # fmt: skip
    header = ["task", "metric", *names, "difference", "95% interval", "p", "constant", "test"]
    parts = [table(header, scores)]
    if found.settings:
        values = [[name, *pair] for name, pair in found.settings.items()]
        parts.append(table(["setting", *names], values))
    else:
        parts.append("no setting that decides numbers differs")
    parts += [_rows(task, compared, names, rows) for task, compared in found.tasks.items()]
    return "\n\n".join(parts) + "\n"


def _rows(name: str, compared: TaskComparison, names: tuple[str, ...], count: int) -> str:
    """How many rows changed, and the first of them, in columns that a tab divides."""
    from data.tasks import get_task

    task = get_task(name)
    said = f"{name}: {compared.rows} rows; {names[1]} is worse on {compared.lost} and better on "
    said += f"{compared.gained}"
    if compared.left_out:
        said += f"; {compared.left_out} rows are left out, which not all have answered"
    worse, better = compared.flips[: compared.lost], compared.flips[compared.lost :]
    lines = (
        [said, "\t".join(["change", "label", *names, "id", "text"])] if compared.flips else [said]
    )
    for flip in (*worse[:count], *better[:count]):
        values = (task.named(value) for value in (flip.label, flip.first, flip.second))
        verdict = "worse" if flip.change > 0 else "better"
        lines.append("\t".join([verdict, *values, flip.id, *flip.texts]))
    return "\n".join(lines)
