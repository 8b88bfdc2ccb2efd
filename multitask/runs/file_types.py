"""What the JSON files of runs and studies hold: `read_json` and `checked` compare files with it.

A class lists what some reader needs; other keys are let through. So files of older and newer
versions are read, and damaged ones are refused by file and field before anything is made of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct

from data.tasks import get_task
from minbert.files import checked, parse_json, read_json

MISMATCHED = "mnli-mm"
"""MNLI's second development set, of other genres, as a set with scores of its own."""

Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Epoch = Annotated[float, Meta(ge=0, le=2**63 - 1)]
"""Epochs trained: a fraction where an epoch has several scores."""
Name = Annotated[str, Meta(pattern=r"^[\w+-][\w.+-]*$")]
"""What becomes a part of a path."""
Scores = dict[str, dict[str, float]]
"""Task -> metric -> score."""


def check_scores(scores: Scores, source: Path | None = None) -> None:
    """Raise ValueError unless the tasks are known and have all of their metrics."""
    for name, found in scores.items():
        lacking = set(get_task("mnli" if name == MISMATCHED else name).metrics) - found.keys()
        if lacking:
            where = f"{source}: " if source else ""
            raise ValueError(f"{where}the scores of {name} lack {', '.join(sorted(lacking))}")


def read_checked(path: Path, kind: Any) -> dict[str, Any]:
    """The JSON object in a file, all keys that it has, after a look at those of this kind."""
    value = read_json(path, dict[str, Any])
    checked(value, kind, path)
    return value


def read_line(text: str, source: str) -> dict[str, Any]:
    """A line of metrics.jsonl."""
    line = parse_json(text, dict[str, Any], source)
    checked(line, LINES.get(str(line.get("kind")), OtherLine), source)
    return line


class Source(Struct):
    """backbone/source.json of a run."""

    sha256: str


# metrics.jsonl


class StepLine(Struct):
    """What a step was trained on, and its loss."""

    step: Count
    task: str
    loss: float
    lr: float


class EpochLine(Struct):
    """Development scores after an epoch; epoch 0 is before training."""

    epoch: Epoch
    step: Count
    scores: Scores
    train_loss: dict[str, float] = {}

    def __post_init__(self) -> None:
        check_scores(self.scores)


class CosinesLine(Struct):
    """Cosines between the gradients of tasks, a table of tasks by tasks."""

    step: Count
    tasks: list[str]
    cosines: list[list[float]]

    def __post_init__(self) -> None:
        check_square(self.cosines, len(self.tasks))


class OtherLine(Struct):
    """What an extension noted at a step."""

    kind: str
    step: Count


LINES = {"step": StepLine, "epoch": EpochLine, "cosines": CosinesLine}
"""A line's kind -> what it holds."""


def check_square(table: list[list[Any]], size: int) -> None:
    """Raise ValueError unless a table has so many rows and columns."""
    if [len(row) for row in table] != [size] * size:
        raise ValueError(f"a table of {size} x {size} numbers has other rows or columns")


# record.json, and what is kept of it in records/, with curves


class Parameters(Struct):
    """How many numbers were trained, and how many there are."""

    trained: Count
    all: Count


class UsedBackbone(Struct):
    """What a run started from."""

    source: str


class UsedConfig(Struct):
    """The settings that reports show; records of older versions have others beside them."""

    tasks: list[str]
    seed: int
    batch_size: Annotated[int, Meta(ge=1)]
    accumulate: Annotated[int, Meta(ge=1)]
    lr: float
    limit: Count | None
    precision: str
    extensions: list[dict[str, Any]]
    command: str = "train"
    out: str | None = None
    data_dir: str | None = None
    backbone: str | None = None
    encoder_config: str | None = None
    text: list[str] = []
    dev_text: list[str] = []

    def __post_init__(self) -> None:
        for name in self.tasks:
            get_task(name)


class WrongAnswer(Struct):
    """A row that was answered wrong."""

    id: str
    label: float | list[int]
    answer: float | list[int]
    probability: float | None = None

    @property
    def classes(self) -> set[float]:
        """The numbers of all classes that it names."""
        values = (self.label, self.answer)
        return {n for value in values for n in (value if isinstance(value, list) else [value])}


class Analysis(Struct):
    """Mistakes on a task's development set: see `multitask.analysis.analyse`."""

    worst: list[WrongAnswer]
    confusion: list[list[Count]] = []
    calibration: list[tuple[Count, float, float]] = []
    expected_calibration_error: float = 0.0
    deviations: list[tuple[float, Count]] = []
    decisions: list[list[list[Count]]] = []

    def check(self, name: str) -> None:
        """Raise ValueError unless this is of a task of this name."""
        task = get_task(name)
        if task.classes:
            if task.kind == "labels":
                if len(self.decisions) != len(task.classes):
                    raise ValueError(f"the analysis of {name} lacks decisions of some labels")
                for table in self.decisions:
                    check_square(table, 2)
            else:
                check_square(self.confusion, len(task.classes))
            named = {number for row in self.worst for number in row.classes}
            if not named <= set(range(len(task.classes))):
                raise ValueError(f"the worst answers of {name} are no numbers of its classes")
        elif not self.deviations:
            raise ValueError(f"the analysis of {name} lacks deviations")


class Curves(Struct):
    """Task -> points: [step, loss], [epoch, score]."""

    loss: dict[str, list[tuple[float, float]]]
    dev: dict[str, list[tuple[float, float]]]


class Cosines(Struct):
    """Mean cosines between tasks' gradients."""

    tasks: list[str]
    steps: Count
    mean: list[list[float]]

    def __post_init__(self) -> None:
        check_square(self.mean, len(self.tasks))


class Record(Struct):
    """record.json of a run, and a file of records/, which has curves too."""

    dev: Scores
    score: float
    overall: dict[str, float]
    before: Scores | None
    best_epoch: Epoch
    epochs: Epoch
    steps: Annotated[int, Meta(ge=1)]
    seconds: float
    peak_memory_mb: float
    parameters: Parameters
    rows: dict[str, dict[str, Count]]
    skipped: list[str] | Count
    backbone: UsedBackbone
    config: UsedConfig
    device: str
    threads: Count
    commit: str | None
    analysis: dict[str, Analysis] = {}
    constant: Scores = {}
    """Of one answer to all development rows: see `multitask.analysis.constant_scores`."""
    doubts: dict[str, str] = {}
    """Task -> why the model seems to have learnt nothing of it."""

    def __post_init__(self) -> None:
        check_scores(self.dev)
        check_scores(self.constant)
        if self.before is not None:
            check_scores(self.before)
            if not self.dev.keys() <= self.before.keys():
                raise ValueError("before lacks a task that dev has")
        for task, analysis in self.analysis.items():
            analysis.check(task)
        if not sum(count.get("train", 0) for count in self.rows.values()):
            raise ValueError("rows has no training rows")


class Kept(Record, kw_only=True):
    """A file of records/: a run's record with its curves."""

    curves: Curves | None = None
    cosines: Cosines | None = None


class KeptTasks(Struct):
    """Of a file of records/, the tasks of the user's own: name -> Task, without its files."""

    tasks: dict[str, dict[str, Any]] = {}


class EncoderPoint(Struct):
    """What scripts/encoders.py writes of an encoder."""

    encoder: str
    run: str
    tuned: str
    layers: Count
    embeddings: Count
    tokens: Annotated[int, Meta(ge=1)]
    characters: Annotated[int, Meta(ge=1)]
    curve: Annotated[list[tuple[float, float, float]], Meta(min_length=1)]


class ComparedScore(Struct):
    """A group's score, and where it is not the first group what the difference from that is."""

    score: float
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None


class ComparedGroup(Struct):
    """What `minbert compare --out` and the scripts write of a group of runs: comparison.json."""

    name: str
    runs: Annotated[list[str], Meta(min_length=1)]
    together: str | None
    """How the runs answered as one, or None."""
    scores: dict[str, dict[str, ComparedScore]]
    """Task -> metric -> score."""


class PlateauPoint(Struct):
    """What scripts/plateau.py writes of a run."""

    start: str
    change: str
    run: str
    left: Count | None
    """Steps until the plateau is left; none where it is not."""
    first_norm: float
    plateau_norm: float
    after_norm: float | None


# Studies


class StudySettings(Struct):
    """study.json."""

    scale: str
    backbone: str
    data_dir: str


class PlannedResult(Struct):
    """A cell of a table, and the stages that give it."""

    row: str
    task: str
    seed: int
    stages: Annotated[list[Name], Meta(min_length=1)]


class PlanFile(Struct):
    """A file of plans/."""

    variant: Name
    results: list[PlannedResult]
