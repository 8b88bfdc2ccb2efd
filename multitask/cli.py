"""The command line: every command is a dataclass, its fields the flags, its docstrings the help.

Nothing here imports torch before a command runs, so that help comes at once.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, make_dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_args

import tyro
from tyro.conf import Positional, Suppress, arg, subcommand

from data.readers import SAMPLES
from data.sources import COURSE
from data.tasks import TASKS, Split
from lab.__main__ import lab
from multitask.config import PretrainConfig, RunConfig, TrainConfig
from multitask.extensions.base import Extension, load_extensions
from multitask.glue.commands import Glue
from multitask.study.commands import Report, StudyCommand

if TYPE_CHECKING:
    from multitask.run import Run


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Fine-tune the four tasks on the small data that comes along, in a few minutes, offline."""

    out: Path = Path("runs/demo")
    """Run folder; an earlier demo in it is replaced."""
    epochs: int = 3
    """Passes over the data."""
    seed: int = 11711
    """Another seed gives another run."""

    def run(self) -> None:
        config = TrainConfig(
            out=self.out,
            overwrite=True,
            epochs=self.epochs,
            seed=self.seed,
            lr=1e-4,
            pooling="mean",
            evaluate_first=True,
        )
        print("One MiniLM encoder, four heads, on data/samples: a few minutes on two CPU cores.")
        _train(config)


@dataclass(frozen=True, kw_only=True)
class Training:
    """What the commands that train have beside their config's flags."""

    extensions: Suppress[tuple[Extension, ...]] = ()
    use: tuple[str, ...] = ()
    """Extensions to use with the settings they have by default; a flag of an extension, such as
    --lora.rank 4, uses it too."""
    resume: Path | None = None
    """Continue the run in this folder, with the settings it was started with."""

    config_class: ClassVar[type[RunConfig]]

    def __post_init__(self) -> None:
        if self.resume is None:
            super().__post_init__()

    def values(self) -> dict[str, Any]:
        """The config's settings."""
        values = {f.name: getattr(self, f.name) for f in fields(self.config_class)}
        return {**values, "extensions": self.chosen()}

    def run(self) -> None:
        values = self.values()
        if self.resume is None:
            _train(self.config_class(**values))
            return
        changed = [f.name for f in fields(self.config_class) if values[f.name] != f.default]
        if changed:
            raise ValueError(
                f"--resume takes its settings from {self.resume}; leave out "
                f"{', '.join('--' + name.replace('_', '-') for name in changed)}"
            )
        _resume(self.resume)

    def chosen(self) -> tuple[Extension, ...]:
        """The extensions that the command line uses: see `_with_extensions`."""
        return ()


@dataclass(frozen=True, kw_only=True)
class Train(Training, TrainConfig):
    """Fine-tune one shared encoder with a head for each task."""

    show_groups: bool = False
    """Do not train: print the learning rate and the weight decay of every part of the model."""

    config_class = TrainConfig

    def run(self) -> None:
        if not self.show_groups:
            super().run()
            return
        from multitask.run import Run
        from multitask.training import describe_groups

        config = Run.open(self.resume).config() if self.resume else TrainConfig(**self.values())
        print(describe_groups(config))


@dataclass(frozen=True, kw_only=True)
class Pretrain(Training, PretrainConfig):
    """Train an encoder as a masked language model on text without labels, or make a new one."""

    config_class = PretrainConfig


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Score a trained run on a split, and write its predictions."""

    run_folder: Annotated[Positional[Path | None], arg(name="run")] = None
    """Run folder; by default the newest under runs/."""
    split: Split = "dev"
    """Rows to answer; test rows have no labels, so they are answered and not scored. MNLI has
    dev_mismatched and test_mismatched too."""
    data_dir: Path | None = None
    """Folder with the tasks' files; by default the one that the run was trained on."""
    out: Path | None = None
    """Folder for the prediction files; by default predictions/ in the run folder."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Arithmetic of matrix products; bf16 is quicker where the device has it."""

    def run(self) -> None:
        from multitask.console import scores_table
        from multitask.evaluate import summary, write_predictions
        from multitask.predictor import Predictor

        predictor = Predictor(_run_folder(self.run_folder), precision=self.precision)
        evaluations = predictor.evaluate(self.split, data_dir=self.data_dir)
        if not evaluations:
            raise ValueError(f"none of the run's tasks has a file for its {self.split} split")
        scores = {name: e.metrics for name, e in evaluations.items() if e.metrics}
        if scores:
            print(scores_table(scores))
            for name, value in summary(scores, predictor.model.tasks)["overall"].items():
                print(f"overall {name}: {value:.3f}")
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
    file: Path | None = None
    """File to read texts from."""
    json: bool = False
    """Print JSON lines."""

    def run(self) -> None:
        from multitask.predictor import Predictor

        predictor = Predictor(_run_folder(self.run_folder))
        tasks = predictor.model.tasks
        if self.task is None and len(tasks) > 1:
            raise ValueError(f"name a task with --task: {', '.join(tasks)}")
        name = self.task or next(iter(tasks))
        pair = name in tasks and tasks[name].is_pair
        rows = self._rows(pair)
        while chunk := list(islice(rows, 1024)):
            for prediction in predictor.predict(name, chunk):
                if self.json:
                    print(json.dumps(asdict(prediction), ensure_ascii=False))
                    continue
                label, chance = prediction.label, prediction.probability
                number = f"{prediction.value:.3f}" if label is None else f"{prediction.value:.0f}"
                cells = [number, label or "-", "-" if chance is None else f"{chance:.3f}"]
                print("\t".join([*cells, *prediction.texts]))

    def _rows(self, pair: bool) -> Iterator[tuple[str, ...]]:
        if self.texts and self.file:
            raise ValueError("texts come from the command line or from --file; give one of them")
        if self.texts:
            if pair and len(self.texts) % 2:
                raise ValueError(
                    f"a pair task takes texts two by two, and {len(self.texts)} are given"
                )
            size = 2 if pair else 1
            yield from (self.texts[i : i + size] for i in range(0, len(self.texts), size))
        elif self.file:
            with self.file.open(encoding="utf-8-sig") as lines:
                yield from _split(lines, pair, str(self.file))
        elif sys.stdin.isatty():
            raise ValueError("no text: give one as an argument, with --file, or through a pipe")
        else:
            yield from _split(sys.stdin, pair, "<stdin>")


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write a run's encoder as an ordinary backbone folder, which transformers loads too."""

    run_folder: Annotated[Positional[Path], arg(name="run")]
    """Run folder."""
    folder: Positional[Path]
    """Folder to write."""
    adapter: bool = False
    """Write the LoRA or IA3 adapter alone, in the files of peft, and do not merge it."""

    def run(self) -> None:
        from minbert.adapters import save_adapter
        from minbert.loading import PACKAGES, save_pretrained
        from multitask.predictor import Predictor

        if any((self.folder / f"{kind}config.json").exists() for kind in ("", "adapter_")):
            raise ValueError(f"{self.folder} holds a model or a run already; choose another folder")
        predictor = Predictor(self.run_folder)
        if self.adapter:
            base = predictor.config.backbone
            hub_name = None if base in PACKAGES else base
            print(save_adapter(self.folder, predictor.model.encoder, base=hub_name))
            return
        for extension in predictor.config.extensions:
            extension.export(predictor.model)
        print(save_pretrained(self.folder, predictor.model.encoder, predictor.tokenizer))


@dataclass(frozen=True, kw_only=True)
class Info:
    """Show the installation, the tasks and the backbones, or what a run reached."""

    run_folder: Annotated[Positional[Path | None], arg(name="run")] = None
    """Run folder to describe."""
    data_dir: Path | None = None
    """Folder in which to look for the tasks' files; by default the project's small data."""
    methods: bool = False
    """Show how many parameters each method of fine-tuning trains."""
    backbone: str = "minilm"
    """Backbone to count them of."""

    def run(self) -> None:
        from multitask.info import describe_installation, describe_run

        if self.methods:
            from multitask.parameters import methods_table

            print(methods_table(self.backbone))
        elif self.run_folder:
            print(describe_run(self.run_folder))
        else:
            print(describe_installation(self.data_dir or SAMPLES))


@dataclass(frozen=True, kw_only=True)
class Fetch:
    """Download the real data sets from their public homes, with checksums; resumes."""

    target: Path = Path("real-data")
    """Folder to put them in; give it to train as --data-dir."""
    names: tuple[str, ...] = COURSE
    """Data sets to fetch: those of the course's tasks, and sst2, mrpc, stsb, qqp, qnli, rte, wnli,
    mnli, ax of GLUE."""

    def run(self) -> None:
        from data.fetch import fetch

        for path in fetch(self.target, self.names):
            print(path)


@dataclass(frozen=True, kw_only=True)
class Check:
    """Read every task's files, count their rows, and list all that are bad."""

    data_dir: Path | None = None
    """Folder with the tasks' files; by default the project's small data."""

    def run(self) -> None:
        from data.readers import has_split, read_split
        from multitask.console import table

        data_dir = self.data_dir or SAMPLES
        splits = get_args(Split)
        rows, bad = [], []
        for task in TASKS.values():
            counts = []
            for split in splits:
                if not has_split(task, split, data_dir):
                    counts.append("-")
                    continue
                read = read_split(task, split, data_dir, on_bad_row="skip")
                counts.append(f"{len(read.examples)}")
                bad += read.skipped
            rows.append([task.name, *counts])
        print(table(["task", *splits], rows))
        for row in bad:
            print(row)
        print(f"{len(bad)} bad rows" + ("; train with --on-bad-row skip to leave them out"
                                        if bad else ""))  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Convert:
    """Write the hub's parquet files of GLUE as GLUE's own tables; needs minbert[parquet]."""

    source: Positional[Path]
    """Folder with mrpc/train-00000-of-00001.parquet and the like."""
    target: Path = Path("real-data/glue")
    """Folder of the tables."""

    def run(self) -> None:
        from data.hub import convert

        for path in convert(self.source, self.target):
            print(path)


@dataclass(frozen=True, kw_only=True)
class Data:
    """Fetch, check or convert data sets."""

    do: (
        Annotated[Fetch, subcommand("fetch")]
        | Annotated[Check, subcommand("check")]
        | Annotated[Convert, subcommand("convert")]
    )

    def run(self) -> None:
        self.do.run()


@dataclass(frozen=True, kw_only=True)
class Lab:
    """Exercises cut out of this library: start a student's copy, check it, get hints, grade."""

    def run(self) -> None:  # `main` hands its words over before they get here
        sys.exit(lab(["--help"]))


OtherCommand = (
    Annotated[Evaluate, subcommand("evaluate")]
    | Annotated[Predict, subcommand("predict")]
    | Annotated[Export, subcommand("export")]
    | Annotated[Info, subcommand("info")]
    | Annotated[Data, subcommand("data")]
    | Annotated[Glue, subcommand("glue")]
    | Annotated[StudyCommand, subcommand("study")]
    | Annotated[Report, subcommand("report")]
    | Annotated[Lab, subcommand("lab")]
)


def _with_extensions(command: type[Training], words: Sequence[str]) -> type[Training]:
    """A command that trains, with a group of flags for each extension.

    Importing the extensions imports torch, so this is for the command line that starts with it.

    Args:
        command: Train or Pretrain.
        words: the command line, whose flags say which extensions are used.
    """
    known = load_extensions()
    flags = [word.split("=")[0].replace("_", "-") for word in words if word.startswith("--")]
    given = {name for name in known for flag in flags if flag.startswith(f"--{_flag(name)}.")}

    def chosen(self: Training) -> tuple[Extension, ...]:
        unknown = sorted(set(self.use) - known.keys())
        if unknown:
            raise ValueError(f"no extension is called {unknown[0]!r}; known are {sorted(known)}")
        names = [*self.use, *(name for name in known if name in given)]
        return tuple(getattr(self, name) for name in dict.fromkeys(names))

    groups = [(name, cls, field(default=cls())) for name, cls in known.items()]
    namespace = {"chosen": chosen, "__doc__": command.__doc__}
    return make_dataclass(
        command.__name__, groups, bases=(command,), namespace=namespace, frozen=True, kw_only=True
    )


def _flag(name: str) -> str:
    return name.replace("_", "-")


def parse(words: Sequence[str]) -> Demo | Train | Pretrain | OtherCommand:
    """The command that a command line names, with its flags."""
    train: type[Train] = Train
    pretrain: type[Pretrain] = Pretrain
    if words[:1] == ["train"]:
        train = _with_extensions(Train, words)
    if words[:1] == ["pretrain"]:
        pretrain = _with_extensions(Pretrain, words)
    return tyro.cli(
        Annotated[Demo, subcommand("demo")]
        | Annotated[train, subcommand("train")]
        | Annotated[pretrain, subcommand("pretrain")]
        | OtherCommand,
        args=words,
        prog="minbert",
        description="BERT by hand, with multitask heads.",
        config=(tyro.conf.OmitSubcommandPrefixes,),
    )


def main() -> None:
    """Run the command line; a user's mistake ends in one message, never in a traceback.

    With MINBERT_TRACEBACK=1 in the environment the traceback is shown too.
    """
    try:
        if sys.argv[1:2] == ["lab"]:  # reads its own words, for it has to run beside broken code
            sys.exit(lab(sys.argv[2:]))
        command = parse(sys.argv[1:])
        command.run()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, OSError) as error:
        if os.environ.get("MINBERT_TRACEBACK"):
            raise
        print(f"{_who()}error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as stop:
        print(f"{_who()}{str(stop) or 'stopped'}", file=sys.stderr)
        sys.exit(130)


def _train(config: RunConfig) -> None:
    from multitask.training import train

    _tell(train(config))


def _resume(folder: Path) -> None:
    from multitask.training import resume

    _tell(resume(folder))


def _tell(run: Run) -> None:
    from multitask.console import finished

    if os.environ.get("RANK", "0") == "0":
        print(finished(run))


def _who() -> str:
    """Which of torchrun's processes speaks."""
    number = os.environ.get("RANK")
    return "" if number is None else f"[process {number}] "


def _run_folder(folder: Path | None) -> Path:
    if folder is not None:
        return folder
    found = sorted(Path("runs").glob("*/record.json"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise ValueError(
            "there is no finished run under runs/; name one, or make one: minbert demo"
        )
    print(f"run {found[-1].parent}", file=sys.stderr)
    return found[-1].parent


def _split(lines: Iterable[str], pair: bool, name: str) -> Iterator[tuple[str, ...]]:
    try:
        for number, line in enumerate(lines, start=1):
            texts = tuple(line.rstrip("\r\n").split("\t")) if pair else (line.strip(),)
            wanted = 2 if pair else 1
            if len(texts) != wanted or not all(text.strip() for text in texts):
                rule = "two texts with a tab between them" if pair else "one text, not empty"
                line = line.rstrip()
                raise ValueError(f"{name}:{number}: a line must hold {rule}; it is {line!r}")
            yield texts
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is not UTF-8 text: {error}; convert it, as with iconv") from None
