"""The leaderboard's file: a zip with one table of answers for each test set, and its check.

CoLA.tsv, SST-2.tsv, ..., AX.tsv: a header `index<TAB>prediction` and the rows 0, 1, ... in order.
The check reads a zip made elsewhere without unpacking it to disk, and not beyond a fixed size.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from data.readers import has_split, read_split
from data.schema import Split, Task
from data.tasks import TASKS
from minbert.files import replacing
from multitask.evaluate import prediction_path
from multitask.glue.glue_run import GlueRun

HEADER = "index\tprediction"
MOST_BYTES = 16 << 20
"""More than any file of a submission needs: QQP's 390,965 rows take 4 MB."""
MOST_NAMED = 20
"""Problems of one file that are named one by one."""


@dataclass(frozen=True, kw_only=True)
class AnswerFile:
    """One file of a submission."""

    name: str
    """Without .tsv."""
    task: Task
    split: Split = "test"
    rows: int
    """Rows of GLUE's own test set."""
    model: str = ""
    """The task whose model answers; by default the file's own task."""
    words: bool = False
    """Whether answers are the names of classes, not numbers."""
    filler: str
    """The constant answer in the place of one that is missing."""

    @property
    def answered_by(self) -> str:
        return self.model or self.task.name

    @property
    def source(self) -> str:
        """Where the rows come from."""
        return self.task.tables[self.split].path

    def written(self, value: float) -> str:
        """An answer as the leaderboard wants it."""
        if self.task.kind == "regression":
            return f"{value:.4f}"
        return self.task.classes[int(value)] if self.words else str(int(value))

    def refused(self, text: str) -> str | None:
        """What is wrong with an answer, or None."""
        if self.task.kind == "regression":
            try:
                good = math.isfinite(float(text))
            except ValueError:
                good = False
            return None if good else "a finite number is due"
        allowed = self.task.classes if self.words else ("0", "1")
        return None if text in allowed else f"one of {', '.join(allowed)} is due"


_MNLI = TASKS["mnli"]
FILES: dict[str, AnswerFile] = {
    file.name: file
    for file in (
        AnswerFile(name="CoLA", task=TASKS["cola"], rows=1063, filler="1"),
        AnswerFile(name="SST-2", task=TASKS["sst2"], rows=1821, filler="1"),
        AnswerFile(name="MRPC", task=TASKS["mrpc"], rows=1725, filler="1"),
        AnswerFile(name="STS-B", task=TASKS["stsb"], rows=1379, filler="2.7000"),
        AnswerFile(name="MNLI-m", task=_MNLI, rows=9796, words=True, filler="entailment"),
        AnswerFile(
            name="MNLI-mm",
            task=_MNLI,
            split="test_mismatched",
            rows=9847,
            words=True,
            filler="entailment",
        ),
        AnswerFile(name="QNLI", task=TASKS["qnli"], rows=5463, words=True, filler="entailment"),
        AnswerFile(name="RTE", task=TASKS["rte"], rows=3000, words=True, filler="entailment"),
        AnswerFile(name="WNLI", task=TASKS["wnli"], rows=146, filler="0"),
        AnswerFile(name="QQP", task=TASKS["qqp"], rows=390_965, filler="0"),
        AnswerFile(
            name="AX", task=TASKS["ax"], rows=1104, model="mnli", words=True, filler="entailment"
        ),
    )
}
"""What a submission holds. Fillers are the larger class of the training rows, or their mean; the
two classes of QNLI are of one size, and of WNLI nearly so."""


@dataclass(frozen=True)
class Problem:
    """What is wrong with a submission."""

    file: str
    line: int | None
    what: str

    def __str__(self) -> str:
        return f"{self.file}{'' if self.line is None else f':{self.line}'}: {self.what}"


def write_submission(
    path: Path,
    runs: Mapping[str, GlueRun],
    *,
    data_dir: Path | None = None,
    fill_missing: bool = False,
) -> list[str]:
    """Write a submission from the test answers that are in run folders.

    Args:
        path: the zip, replaced atomically.
        runs: task -> the run that answers.
        data_dir: count rows by the test files there, where there are any, not by GLUE's own.
        fill_missing: answer what no run answers with a constant.

    Returns:
        The names of the files that were filled.

    Raises:
        ValueError: answers are missing, or are not those of the test rows.
    """
    tables, missing = {}, []
    for file in FILES.values():
        run = runs.get(file.answered_by)
        answers = run and prediction_path(run.run.predictions, file.task, file.split)
        if answers and answers.exists():
            tables[file.name] = _table(file, answers, _rows(file, data_dir))
        else:
            missing.append(file.name)
    if missing and not fill_missing:
        lacks = "\n".join(f"    {name}.tsv: {_why_missing(FILES[name], runs)}" for name in missing)
        raise ValueError(
            f"the submission lacks answers:\n{lacks}\n"
            "run these tasks, or take constant answers in their place with --fill-missing"
        )
    for name in missing:
        tables[name] = "".join(
            [f"{HEADER}\n"]
            + [f"{n}\t{FILES[name].filler}\n" for n in range(_rows(FILES[name], data_dir))]
        )
    with replacing(path) as temporary:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in FILES:
                archive.writestr(f"{name}.tsv", tables[name])
        problems = check_submission(temporary, data_dir=data_dir)
        assert not problems, f"a submission that its own check refuses: {problems[0]}"
    return missing


def _rows(file: AnswerFile, data_dir: Path | None) -> int:
    """Rows of the test set: counted where its file is there."""
    if data_dir is not None and has_split(file.task, file.split, data_dir):
        return len(read_split(file.task, file.split, data_dir).examples)
    return file.rows


def _why_missing(file: AnswerFile, runs: Mapping[str, GlueRun]) -> str:
    if file.answered_by not in runs:
        return f"there is no finished run of {file.answered_by}"
    folder = runs[file.answered_by].run.folder
    return f"{folder} has no answers to {file.source}, which was not there when it was run"


def _table(file: AnswerFile, answers: Path, rows: int) -> str:
    """The leaderboard's table from a run's prediction file, `{id} , {value}` a line."""
    _, *lines = answers.read_text(encoding="utf-8").splitlines()
    cells = [line.split(" , ") for line in lines]
    if [cell[0] for cell in cells] != [str(number) for number in range(rows)]:
        raise ValueError(
            f"{answers} answers {len(cells)} rows, which are not rows 0 to {rows - 1} of "
            f"{file.source} in their order; run {file.answered_by} on GLUE's own test file, or "
            "name the folder with yours with --data-dir"
        )
    return "".join([f"{HEADER}\n", *(f"{i}\t{file.written(float(v))}\n" for i, v in cells)])


def check_submission(path: Path, *, data_dir: Path | None = None) -> list[Problem]:
    """All that is wrong with a zip of answers, wherever it was made.

    Args:
        path: the zip; it is read in memory, never unpacked.
        data_dir: count rows by the test files there, where there are any, not by GLUE's own.

    Raises:
        OSError: the file cannot be read.
    """
    most = len(FILES) * MOST_BYTES
    if path.stat().st_size > most:
        return [Problem(path.name, None, f"is larger than {most >> 20} MB, as none can be")]
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        return [Problem(path.name, None, f"no zip file: {error}")]
    with archive:
        names = [info.filename for info in archive.infolist()]
        expected = {f"{name}.tsv": file for name, file in FILES.items()}
        problems = [Problem(name, None, "is missing") for name in expected if name not in names]
        others = list(dict.fromkeys(name for name in names if name not in expected))
        problems += _first(Problem(_shown(name), None, _why_not(name)) for name in others)
        problems += [
            Problem(name, None, f"stands in the zip {names.count(name)} times")
            for name in expected
            if names.count(name) > 1
        ]
        for name, file in expected.items():
            if name in names:
                problems += _check_file(archive, name, file, lambda f=file: _rows(f, data_dir))
    return problems


def _why_not(name: str) -> str:
    base = name.replace("\\", "/").rpartition("/")[2].removesuffix(".tsv")
    if base in FILES:
        return "the files must lie at the top of the zip, in no folder"
    return "is no file of a submission; take it out"


def _shown(name: str) -> str:
    """A name from a zip, without what could trouble a terminal."""
    return ascii(name)[1:-1][:100]


def _check_file(
    archive: zipfile.ZipFile, name: str, file: AnswerFile, rows: Callable[[], int]
) -> list[Problem]:
    try:
        with archive.open(name) as opened:
            content = opened.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            return [Problem(name, None, f"is larger than {MOST_BYTES >> 20} MB unpacked")]
        text = content.decode("utf-8")
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError, ValueError) as error:
        # RuntimeError: encrypted, NotImplementedError: a way of packing that Python does not know
        return [Problem(name, None, f"cannot be read: {error}")]
    header, *lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
    problems = []
    if header != HEADER:
        problems.append(
            Problem(name, 1, f"the header is '{_shown(header)}', not '{_shown(HEADER)}'")
        )
    problems += _first(_bad_rows(name, file, lines))
    due = rows()
    if len(lines) != due:
        problems.append(Problem(name, None, f"{len(lines)} rows where {file.source} has {due}"))
    return problems


def _bad_rows(name: str, file: AnswerFile, lines: list[str]) -> Iterator[Problem]:
    for number, line in enumerate(lines):
        cells = line.split("\t")
        if len(cells) != 2:
            what = f"{len(cells)} columns where 2 are due, with a tab between them"
        elif cells[0] != str(number):
            what = f"index '{_shown(cells[0])}' where {number} is due: rows go from 0 up, in order"
        elif why := file.refused(cells[1]):
            what = f"prediction '{_shown(cells[1])}' where {why}"
        else:
            continue
        yield Problem(name, number + 2, what)


def _first(problems: Iterable[Problem]) -> list[Problem]:
    """The first problems of many, and how many more there are."""
    left = iter(problems)
    first = list(islice(left, MOST_NAMED))
    more = sum(1 for _ in left)
    return first + ([Problem(first[-1].file, None, f"and {more} more problems")] if more else [])


def best_runs(runs: list[GlueRun]) -> dict[str, GlueRun]:
    """Task -> its run with the best development score."""
    best: dict[str, GlueRun] = {}
    for run in runs:
        if run.task not in best or run.score > best[run.task].score:
            best[run.task] = run
    return best
