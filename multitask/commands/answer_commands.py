"""The commands that use a finished run: evaluate, predict, info."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from data.lines import decoded, texts_in
from data.readers import SAMPLES, texts_by_id
from data.task_files import read_task_file, register_task_file, rows_of_table
from data.tasks import Split, Task
from minbert.checks import InputWarning, warn_of_cut
from minbert.claim import claimed

if TYPE_CHECKING:
    from multitask.predictor import Prediction, Predictor


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Score a trained run, or several together, on a split, beside the constant answer, and write
    the predictions."""

    run_folders: Annotated[Positional[tuple[Path, ...]], arg(name="run")] = ()
    """Run folder; by default the newest under runs/. With --ensemble several."""
    ensemble: Literal["mean", "vote"] | None = None
    """Answer with several runs together: by the mean of their probabilities or numbers, or by their
    votes (of numbers, the median)."""
    split: Split = "dev"
    """Rows to answer; test rows have no labels, so they are answered and not scored. MNLI has
    dev_mismatched and test_mismatched too."""
    data_dir: Path | None = None
    """Folder with the tasks' files; by default the one that the run was trained on."""
    task_files: Annotated[tuple[Path, ...], arg(name="task-file")] = ()
    """Task files whose rows to score in place of the run's own, with its heads of these names."""
    out: Path | None = None
    """Folder for the prediction files; by default predictions/ in the run folder, and with
    --data-dir or --task-file none, for those in the run folder are of the run's own data."""
    adapter: Path | None = None
    """Folder of a LoRA or IA3 adapter, in the files of peft, to answer with on the run's encoder,
    in place of the run's own; then predictions are written with --out alone."""
    mistakes: int | None = None
    """Show so many rows of each task that were answered wrong, the most confident first; of
    similarity, those whose answers are furthest off."""
    on_bad_row: Literal["stop", "skip"] | None = None
    """Stop at a row that cannot be read, or leave it out; by default as in training."""
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = "auto"
    """Arithmetic of matrix products: auto is 16 bits on a GPU, and fp32 on a CPU."""

    def run(self) -> None:
        from minbert.checks import check_counts, check_unused
        from multitask.runs.run import Run

        check_counts(self, "mistakes")
        if self.ensemble or len(self.run_folders) > 1:
            from multitask.commands.ensemble_commands import evaluate_together

            check_unused(self, "each run of an ensemble has its own; leave it out", "adapter")
            return evaluate_together(
                self.run_folders,
                self.split,
                self.ensemble,
                data_dir=self.data_dir,
                on_bad_row=self.on_bad_row,
                precision=self.precision,
                count=self.mistakes,
                out=self.out,
            )
        run = Run.open(run_folder(*self.run_folders))
        with claimed(self.out or run.folder) if self._writes() else nullcontext():
            self._evaluate(run.folder)

    def _writes(self) -> bool:
        """Whether predictions are written: those in the run folder are of the run's own model and
        data."""
        other = self.data_dir is not None or self.adapter is not None or bool(self.task_files)
        return self.out is not None or not other

    def _evaluate(self, run_folder: Path) -> None:
        from multitask.analysis import constant_scores, learnt_nothing
        from multitask.commands.words import doubts, mistakes, scores_table
        from multitask.evaluate import write_predictions
        from multitask.metrics import summary
        from multitask.predictor import Predictor

        predictor = Predictor(run_folder, adapter=self.adapter, precision=self.precision)
        _tell_precision(predictor)
        _tell_left_out(predictor, self.adapter)
        given = [predictor.with_files_of(read_task_file(path)) for path in self.task_files]
        data_dir = self.data_dir or predictor.config.data_dir or SAMPLES
        evaluations = predictor.evaluate(
            self.split, data_dir=data_dir, on_bad_row=self.on_bad_row, tasks=given or None
        )
        folders = {str(t.folder or data_dir): None for t in predictor.model.tasks.values()}
        lacking = f"file for its {self.split} split in {', '.join(folders)}"
        if not evaluations:
            raise ValueError(f"no task of the run has a {lacking}; name a folder with --data-dir")
        lacking = f"has no {lacking}"
        for name in set(given or predictor.model.tasks) - evaluations.keys():
            print(f"{name} {lacking}", file=sys.stderr)
        scores = {name: e.metrics for name, e in evaluations.items() if e.metrics}
        if scores:
            tasks = predictor.model.tasks
            constant = {
                name: constant_scores(tasks[name], evaluation.labels)
                for name, evaluation in evaluations.items()
                if evaluation.labels is not None
            }
            print(scores_table(scores, constant=constant))
            for line in doubts({n: learnt_nothing(tasks[n], evaluations[n]) for n in constant}):
                print(line, file=sys.stderr)
            for name, value in summary(scores, predictor.model.tasks)["overall"].items():
                print(f"overall {name}: {value:.3f}")
        if self.mistakes:
            for name, evaluation in evaluations.items():
                task = predictor.model.tasks[name]
                texts = texts_by_id(task, self.split, data_dir)
                print(mistakes(task, evaluation, texts, self.mistakes))
        if not self._writes():
            flags = {
                "--data-dir": self.data_dir,
                "--adapter": self.adapter,
                "--task-file": self.task_files,
            }
            flag = next(flag for flag, value in flags.items() if value)
            print(f"no predictions are written with {flag}; to have them, name a folder: --out")
            return
        for name, evaluation in evaluations.items():
            folder = self.out or predictor.run.predictions
            task = predictor.model.tasks[name]
            print(write_predictions(folder, task, self.split, evaluation))


@dataclass(frozen=True, kw_only=True)
class Predict:
    """Answer texts with a trained run.

    Texts come from the command line, from a file, or from a pipe, one row a line; the two texts of
    a pair are two arguments, or stand in one line with a tab between them. The answer is a line a
    row: number, label, probability, text.
    """

    texts: Positional[tuple[str, ...]] = ()
    """Texts, or for a pair task first and second texts in turn."""
    task: str | None = None
    """Task whose head answers; may be left out when the run has one task only."""
    run_folder: Annotated[Path | None, arg(name="run")] = None
    """Run folder; by default the newest under runs/."""
    adapter: Path | None = None
    """Folder of a LoRA or IA3 adapter, in the files of peft, to answer with on the run's encoder,
    in place of the run's own."""
    file: Path | None = None
    """File to read texts from, one row a line; or, for a task of your own, a CSV, TSV, JSON lines
    or Parquet file with the columns of its texts."""
    json: bool = False
    """Print JSON lines."""
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = "auto"
    """Arithmetic of matrix products: auto is 16 bits on a GPU, and fp32 on a CPU."""

    def run(self) -> None:
        from multitask.predictor import Predictor

        predictor = Predictor(
            run_folder(self.run_folder), adapter=self.adapter, precision=self.precision
        )
        _tell_precision(predictor)
        _tell_left_out(predictor, self.adapter)
        tasks = predictor.model.tasks
        if self.task is None and len(tasks) > 1:
            raise ValueError(f"name a task with --task: {', '.join(tasks)}")
        name = self.task or next(iter(tasks))
        rows, done, cut = self._rows(tasks.get(name)), 0, []
        ascii_only = sys.stdout.encoding.lower() != "utf-8"  # JSON has its own escapes
        while chunk := list(islice(rows, 1024)):
            with warnings.catch_warnings():  # said once, of all rows
                warnings.simplefilter("ignore", InputWarning)
                predictions = predictor.predict(name, chunk)
            cut += [done + row for row, found in enumerate(predictions) if found.cut]
            done += len(chunk)
            for prediction in predictions:
                if self.json:
                    print(json.dumps(asdict(prediction), ensure_ascii=ascii_only))
                    continue
                texts = (" ".join(text.split("\n")) for text in prediction.texts)
                print("\t".join([*cells_of(prediction), *texts]))
        warn_of_cut(cut, done, predictor.max_length, "rows")

    def _rows(self, task: Task | None) -> Iterator[tuple[str, ...]]:
        pair = task is not None and task.is_pair
        if self.texts and self.file:
            raise ValueError("texts come from the command line or from --file; give one of them")
        if self.texts:
            if pair and len(self.texts) % 2:
                raise ValueError(
                    f"a pair task takes texts two by two, and {len(self.texts)} are given"
                )
            size = 2 if pair else 1
            yield from (self.texts[i : i + size] for i in range(0, len(self.texts), size))
        elif self.file and task and (found := rows_of_table(self.file, task)) is not None:
            yield from found
        elif self.file:
            with self.file.open("rb") as lines:
                yield from _split(lines, pair, str(self.file))
        elif sys.stdin.isatty():
            raise ValueError("no text: give one as an argument, with --file, or through a pipe")
        else:
            yield from _split(sys.stdin.buffer, pair, "<stdin>")


@dataclass(frozen=True, kw_only=True)
class Info:
    """Show the installation, the tasks and the backbones; or a run; or a backbone."""

    run_folder: Annotated[Positional[Path | None], arg(name="run")] = None
    """Run folder to describe."""
    data_dir: Path | None = None
    """Folder in which to look for the tasks' files; by default the project's small data."""
    task_files: Annotated[tuple[Path, ...], arg(name="task-file")] = ()
    """Task files whose tasks to show too."""
    backbone: str | None = None
    """Show how many parameters each method of fine-tuning trains of this backbone."""
    text: str | None = None
    """Show how the backbone's tokenizer cuts a text instead: its words, their pieces and ids."""

    def run(self) -> None:
        from multitask.commands.describe import describe_cut, describe_installation, describe_run

        if self.run_folder and self.backbone:
            raise ValueError("info shows a run or a backbone; name one of the two")
        if self.text is not None:
            if not self.backbone:
                raise ValueError(
                    "--text is cut by a backbone's tokenizer; name it: --backbone minilm"
                )
            print(describe_cut(self.backbone, self.text))
        elif self.backbone:
            from multitask.parameters import methods_table

            print(methods_table(self.backbone))
        elif self.run_folder:
            print(describe_run(self.run_folder))
        else:
            for path in self.task_files:
                register_task_file(path)
            print(describe_installation(self.data_dir or SAMPLES))


def cells_of(prediction: Prediction) -> list[str]:
    """Number, label and probability of an answer, or those of all labels that hold."""
    value, label, chance = prediction.value, prediction.label, prediction.probability
    if isinstance(value, list):
        assert label is not None and isinstance(chance, dict)
        held = [f"{list(chance.values())[number]:.3f}" for number in value]
        return [",".join(map(str, value)) or "-", label, ",".join(held) or "-"]
    assert not isinstance(chance, dict)
    number = f"{value:.3f}" if label is None else f"{value:.0f}"
    return [number, label or "-", "-" if chance is None else f"{chance:.3f}"]


def run_folder(folder: Path | None = None) -> Path:
    """The folder that was named, or that of the newest run that is finished."""
    if folder is not None:
        return folder
    records = sorted(Path("runs").glob("*/record.json"), key=lambda path: path.stat().st_mtime)
    if not records:
        raise ValueError(
            "there is no finished run under runs/; name one, or make one: minbert demo"
        )
    print(f"run {records[-1].parent}", file=sys.stderr)
    return records[-1].parent


def _tell_precision(predictor: Predictor) -> None:
    if predictor.precision != "fp32":
        print(f"answers in {predictor.precision}, on {predictor.model.device}", file=sys.stderr)


def _tell_left_out(predictor: Predictor, adapter: Path | None) -> None:
    for name in predictor.model.left_out if adapter else ():
        print(f"adapter: left out {name}, of another model's head", file=sys.stderr)


def _split(lines: Iterable[bytes], pair: bool, name: str) -> Iterator[tuple[str, ...]]:
    count = 2 if pair else 1
    for number, line in texts_in(decoded(lines, name), name):
        texts = tuple(line.rstrip("\r\n").split("\t")) if pair else (line.strip(),)
        if len(texts) != count or not all(text.strip() for text in texts):
            rule = "two texts with a tab between them" if pair else "one text, not empty"
            raise ValueError(f"{name}:{number}: a line must hold {rule}; it is {line.rstrip()!r}")
        yield texts
