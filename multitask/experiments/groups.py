"""What is compared: a run, several that differ in their seeds, or several that answer together.

group_of("runs/plain")                  the run, or all of runs/plain-1, runs/plain-2, ...
group_of("runs/a,runs/b")
group_of("mean:runs/plain")             these runs' answers together: see ensemble.py
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from data.tasks import Split, Task
from multitask.evaluate import prediction_path, read_label_sets, read_predictions
from multitask.experiments.ensemble import How, check_runs, ensemble
from multitask.runs.run import Run

SPLIT: Split = "dev"
Answer = float | Sequence[int]
"""A class or a number; of several labels at once, 1 for each that holds."""


@dataclass(frozen=True)
class Group:
    """One run, or several that differ in their seeds."""

    name: str
    runs: tuple[Run, ...]
    together: How | None = None
    """How they answer as one; None where each answers for itself."""

    def answers(self, tasks: Sequence[Task], data_dir: Path) -> dict[str, list[Mapping]]:
        """Task -> answers to development rows by their ids: a mapping for each run, which has them
        in its folder, or one of all together, which are asked anew."""
        if self.together is None:
            return {task.name: [self._read(run, task) for run in self.runs] for task in tasks}
        folders = [run.folder for run in self.runs]
        made = ensemble(folders, SPLIT, self.together, data_dir=data_dir, on_bad_row="skip")
        found = made.evaluations
        return {
            task.name: [dict(zip(found[task.name].ids, found[task.name].answers.tolist()))]
            for task in tasks
        }

    @staticmethod
    def _read(run: Run, task: Task) -> Mapping[str, Answer]:
        read = read_label_sets if task.kind == "labels" else read_predictions
        return read(prediction_path(run.predictions, task, SPLIT), task)


def group_of(word: str) -> Group:
    """The run in a folder, or of FOLDER all runs in FOLDER-1, FOLDER-2, ..., or A,B,C; and with
    mean: or vote: before it, these runs' answers together."""
    how, colon, rest = word.partition(":")
    for together in get_args(How):
        if colon and how == together and not _is_run(Path(word)):
            group = group_of(rest)
            check_runs([run.folder for run in group.runs])
            return Group(f"{how} of {group.name}", group.runs, together)
    words = [word] if _is_run(Path(word)) else [part for part in word.split(",") if part]
    folders: list[Path] = []
    for part in words:
        path = Path(part).expanduser()
        seeds = {
            int(seed): each
            for each in path.parent.glob("*")
            if (seed := each.name.removeprefix(f"{path.name}-")).isdecimal() and _is_run(each)
        }
        found = [path] if _is_run(path) else [seeds[seed] for seed in sorted(seeds)]
        if not found:
            raise ValueError(
                f"{part} holds no run, and there are no runs {part}-SEED; name run folders, those "
                "of a group with commas between them"
            )
        folders += found
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise ValueError(f"{word} names a run twice; name each once")
    name = ",".join(Path(part).name for part in words)
    return Group(name, tuple(Run.open(folder) for folder in folders))


def _is_run(folder: Path) -> bool:
    return Run(folder).config_path.is_file()
