"""A trained run, loaded to answer questions.

predictor = Predictor("runs/demo")
predictor.predict("sst", ["A joy from start to end."])
predictor.predict("para", [("How old are you?", "What is your age?")])
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from data.batching import EncodedRows
from data.readers import SAMPLES, Example, OnBadRow, has_split, read_split
from data.tasks import Split, Task, check_same_answers
from minbert.adapters import load_adapter
from minbert.checks import NO_SEQUENCE, warn, warn_of_cut
from minbert.files import brief
from minbert.inference import chosen_precision
from minbert.tokenization import Tokenizer
from multitask.config import TrainConfig
from multitask.dataset import TaskData, load_data
from multitask.environment import choose_device
from multitask.evaluate import Evaluation, evaluate
from multitask.runs.origin import trained_model
from multitask.runs.run import Run


@dataclass(frozen=True)
class Prediction:
    """An answer to one row."""

    texts: tuple[str, ...]
    value: float | list[int]
    """The class's number, or the number of a regression; the numbers of all labels that hold, where
    several may."""
    label: str | None
    """What the class is called, or the labels, with commas; None for a regression."""
    probability: float | dict[str, float] | None
    """The model's probability of that class; where several may hold, of each by its name."""
    cut: bool = False
    """Whether the row was longer than the limit in tokens and lost its end."""


class Predictor:
    """A run's best model with its tokenizer."""

    def __init__(
        self,
        folder: str | Path,
        *,
        adapter: str | Path | None = None,
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        """Load a run's best weights.

        Args:
            folder: the run folder.
            adapter: folder of a LoRA or IA3 adapter, in the files of peft, to use on the run's
                encoder, in place of the run's own where it has one.
            device: auto, cpu, cuda, ...
            precision: fp32, tf32, bf16, fp16, or auto: 16 bits on a GPU, and 32 on a CPU.
        """
        self.run = Run.open(Path(folder))
        config = self.run.config()
        if not isinstance(config, TrainConfig):
            raise ValueError(
                f"{folder} is a {config.title} run and answers no task; its backbone is "
                f"{self.run.backbone}: minbert train --backbone {self.run.backbone}"
            )
        self.config = config
        self.tokenizer = Tokenizer.from_folder(self.run.backbone)
        self.model, self.state = trained_model(self.run)
        if adapter is not None:
            self.model.requires_grad_(False)
            self.model.left_out = tuple(load_adapter(adapter, self.model.encoder, "given"))
        self.model.to(choose_device(device))
        self.precision = chosen_precision(precision, self.model.device)

    def predict(self, task: str, rows: Sequence[str | tuple[str, ...]]) -> list[Prediction]:
        """Answer texts, or pairs of texts, in their order; a warning says how many were cut.

        Raises:
            ValueError: the run does not know the task, or a row is not what the task takes.
        """
        examples, record = self.examples(task, rows), self.task(task)
        if not examples:
            return []
        source = self.encoded(examples, task)
        evaluation = evaluate(
            self.model,
            record,
            source,
            precision=self.precision,
            progress=False,
        )
        warn_of_cut(source.cut, len(examples), self.max_length, "rows")
        cut, predictions = set(source.cut), []
        for number, (example, value) in enumerate(zip(examples, evaluation.answers, strict=True)):
            chances = evaluation.probabilities
            if chances is None:
                found = Prediction(example.texts, float(value), None, None)
            elif record.kind == "labels":
                held = np.flatnonzero(value).tolist()
                each = dict(zip(record.classes, chances[number].tolist(), strict=True))
                found = Prediction(example.texts, held, record.named(held), each)
            else:
                chance = float(chances[number, int(value)])
                found = Prediction(example.texts, float(value), record.named(value), chance)
            predictions.append(replace(found, cut=number in cut))
        return predictions

    def examples(self, task: str, rows: Sequence[str | tuple[str, ...]]) -> list[Example]:
        """Texts, or pairs of texts, as rows of a task, with their numbers as ids.

        Raises:
            ValueError: the run does not know the task, or a row is not what the task takes.
        """
        if isinstance(rows, NO_SEQUENCE) or not isinstance(rows, Iterable):
            raise ValueError(f"rows are a list of texts, and not {brief(rows)}; put it in []")
        record = self.task(task)
        examples = []
        for number, row in enumerate(rows):
            # A dictionary's or a set's texts have no order.
            ordered = isinstance(row, Iterable) and not isinstance(row, NO_SEQUENCE)
            texts = (row,) if isinstance(row, str) else tuple(row) if ordered else ()
            count, noun = (2, "texts") if record.is_pair else (1, "text")
            if len(texts) != count or not all(isinstance(t, str) and t.strip() for t in texts):
                raise ValueError(
                    f"task {task!r} takes {count} {noun} a row, none of "
                    f"them empty; row {number + 1} is {brief(row)}"
                )
            examples.append(Example(str(number), texts, None))
        return examples

    def evaluate(
        self,
        split: Split,
        *,
        data_dir: str | Path | None = None,
        on_bad_row: OnBadRow | None = None,
        tasks: Iterable[str] | None = None,
    ) -> dict[str, Evaluation]:
        """Answer a split of every task that has a file for it, and score it where it has labels.

        Args:
            split: train, dev, test, ...
            data_dir: folder with the tasks' files; by default the one that the run was trained on.
            on_bad_row: stop or skip; by default as in training.
            tasks: names of those to answer; by default all.
        """
        folder = Path(data_dir or self.config.data_dir or SAMPLES)
        asked = {name: self.model.tasks[name] for name in tasks or self.model.tasks}
        found = [task for task in asked.values() if has_split(task, split, folder)]
        if not found:
            return {}
        config = replace(
            self.config,
            data_dir=folder,
            tasks=tuple(task.name for task in found),
            on_bad_row=on_bad_row or self.config.on_bad_row,
            limit=None,  # this and what follows is for training
            both_orders=False,
            extensions=(),
        )
        data = load_data(
            config,
            self.tokenizer,
            self.model.encoder.config.max_positions,
            splits=(split,),
            tasks=found,
        )
        for task_data in data.values():
            for note in task_data.notes(self.max_length):
                warn(note)
        return {
            name: evaluate(
                self.model, task_data.task, task_data.sources[split], precision=self.precision
            )
            for name, task_data in data.items()
        }

    def with_files_of(self, task: Task) -> str:
        """Answer the rows of a task's files from now on where the run's own task of that name would
        be answered; returns the name.

        Raises:
            ValueError: the run has no such task, or its answers mean something else.
        """
        check_same_answers(self.task(task.name), task)
        self.model.tasks[task.name] = task
        return task.name

    def answer_with(self, head: str, task: Task, data_dir: Path, *, progress: bool) -> Evaluation:
        """Answer the test rows of a task that has no training rows with the head of another."""
        rows = read_split(task, "test", data_dir, on_bad_row=self.config.on_bad_row)
        named = replace(task, name=head)  # the model finds its head by the name
        source = self.encoded(rows.examples, head)
        cut = [source.ids[row] for row in source.cut]
        for note in TaskData(task, {}, rows.skipped, {"test": cut}).notes(self.max_length):
            warn(note)
        return evaluate(self.model, named, source, precision=self.precision, progress=progress)

    @property
    def max_length(self) -> int:
        """Longest row in tokens."""
        return self.config.max_length or self.model.encoder.config.max_positions

    def task(self, name: str) -> Task:
        """The run's task of this name."""
        if name not in self.model.tasks:
            raise ValueError(
                f"{self.run.folder} was not trained on task {name!r}; "
                f"it knows {', '.join(self.model.tasks)}"
            )
        return self.model.tasks[name]

    def encoded(self, examples: Sequence[Example], task: str) -> EncodedRows:
        """The token ids of a task's rows, cut to the longest that the run takes."""
        return EncodedRows(
            examples,
            self.tokenizer,
            pair=self.config.pair_kind(task),
            max_length=self.max_length,
            layout=self.config.layout,
        )
