"""A run is a folder, and reports read nothing else.

config.json           every setting, as resolved
tasks/                the records of tasks of the user's own
backbone/             config.json and tokenizer of the encoder; after pre-training and after a
                      contrastive stage, weights too
adapter/              the adapter that it started from, if one was named
text/                 the token ids that pre-training reads
metrics.jsonl         a line for every step and every epoch
tensorboard/          the same as events, if they are asked for
last.safetensors      where to resume; best.safetensors: the best epoch's weights
predictions/          answers for the development and test rows
record.json           scores, time, memory, commit, versions, device
figure.png            losses and scores
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

from data.task_files import task_from_dict, task_to_dict
from data.tasks import get_task, is_built_in, register_task_of_run
from minbert.adapters import ADAPTER_FILES
from minbert.backbones import PACKAGES, fingerprint
from minbert.claim import Busy, claimed
from minbert.files import (
    copy_file,
    read_json,
    regular,
    sha256_of,
    text_of,
    write_json,
    write_text,
)
from minbert.loading import Backbone, save_config
from multitask.config import AnyConfig, PretrainConfig, RunConfig, TrainConfig, config_from_dict
from multitask.metrics import summary
from multitask.runs.file_types import Record, Source, read_checked, read_line


@dataclass(frozen=True)
class Run:
    """The files of one training run."""

    folder: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", Path(self.folder).expanduser())

    @classmethod
    @contextmanager
    def begin(cls, config: RunConfig) -> Generator[Run]:
        """The folder of a new run, which this process alone writes to while the block runs; nothing
        is written yet.

        Raises:
            ValueError: it holds a run that is not to be replaced, or another process writes to it.
            OSError: nothing can be written there.
        """
        for folder in [config.out] if config.out is not None else _new_folders(config):
            run = cls(folder)
            with ExitStack() as stack:
                try:
                    stack.enter_context(claimed(run.folder))
                except Busy:
                    if config.out is not None:
                        raise
                    continue
                if run.config_path.exists():
                    if config.out is None:
                        continue
                    if not config.overwrite:
                        raise ValueError(
                            f"{run.folder} holds a run already; continue it with --resume "
                            f"{run.folder}, replace it with --overwrite, or choose another --out"
                        )
                yield run
                return

    def create(self, config: AnyConfig, backbone: Backbone) -> None:
        """Begin a run, in the place of an earlier one, of which nothing has changed until now.

        It keeps the encoder's config and tokenizer, which weights the run starts from, and the
        settings with absolute paths, so that the run works from any folder.
        """
        own = {self.folder.resolve(), self.backbone.resolve()}
        if backbone.folder is not None and backbone.folder.resolve() in own:
            raise ValueError(f"{self.folder} is the run to start from; choose another --out")
        source = weights_sha256(backbone)
        for path in (
            self.config_path,
            self.last,
            self.best,
            self.metrics_path,
            self.record_path,
            self.figure_path,
            self.backbone / "model.safetensors",
        ):
            path.unlink(missing_ok=True)
        for path in self.predictions.glob("*-output.csv"):
            path.unlink()
        for old in (self.text, self.events, self.adapter, self.tasks):
            shutil.rmtree(old, ignore_errors=True)
        if isinstance(config, PretrainConfig) and self.new_text.exists():
            self.new_text.rename(self.text)
        if isinstance(config, TrainConfig) and config.adapter is not None:
            for name in ADAPTER_FILES:
                copy_file(absolute(config.adapter) / name, self.adapter / name)
        for name in config.reads:
            if not is_built_in(name):
                write_json(self.tasks / f"{name}.json", task_to_dict(get_task(name)))
        encoder = backbone.encoder
        save_config(self.backbone, type(encoder), encoder.config, backbone.tokenizer)
        write_json(self.backbone / "source.json", {"sha256": source})
        # Last, for a folder with a config is a run.
        write_json(self.config_path, located(config).to_dict())

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """The run in a folder."""
        run = cls(Path(folder))
        if not run.config_path.is_file():
            raise ValueError(f"{folder} holds no run (no config.json); name a run folder")
        run.know_tasks()
        return run

    def know_tasks(self) -> None:
        """Make the tasks known that the run keeps, on this machine perhaps for the first time."""
        for path in sorted(self.tasks.glob("*.json")):
            task = task_from_dict(read_json(path), path)
            try:
                register_task_of_run(task)
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from None

    @property
    def config_path(self) -> Path:
        return self.folder / "config.json"

    @property
    def backbone(self) -> Path:
        return self.folder / "backbone"

    @property
    def adapter(self) -> Path:
        return self.folder / "adapter"

    @property
    def tasks(self) -> Path:
        return self.folder / "tasks"

    @property
    def text(self) -> Path:
        return self.folder / "text"

    @property
    def new_text(self) -> Path:
        """Where the text is until the run begins."""
        return self.folder / "text.new"

    @property
    def metrics_path(self) -> Path:
        return self.folder / "metrics.jsonl"

    @property
    def events(self) -> Path:
        return self.folder / "tensorboard"

    @property
    def last(self) -> Path:
        return self.folder / "last.safetensors"

    @property
    def best(self) -> Path:
        return self.folder / "best.safetensors"

    @property
    def predictions(self) -> Path:
        return self.folder / "predictions"

    @property
    def record_path(self) -> Path:
        return self.folder / "record.json"

    @property
    def figure_path(self) -> Path:
        return self.folder / "figure.png"

    def config(self) -> AnyConfig:
        """The run's settings."""
        self.know_tasks()
        values = read_json(self.config_path)
        try:
            return config_from_dict(values)
        except ValueError as error:
            raise ValueError(f"{self.config_path}: {error}") from None

    def at_home(self, config: AnyConfig) -> AnyConfig:
        """The run's config with its own copy of the adapter that it started from."""
        if not isinstance(config, TrainConfig) or config.adapter is None:
            return config
        return replace(config, adapter=self.adapter)

    def source(self) -> str:
        """sha256 of the weights that the run started from."""
        return read_json(self.backbone / "source.json", Source).sha256

    def log(self, lines: list[dict[str, Any]]) -> None:
        """Append lines to metrics.jsonl."""
        with self.metrics_path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl; one that a killed process left unfinished is passed over."""
        if not self.metrics_path.exists():
            return []
        path = regular(self.metrics_path)
        data = path.read_bytes()
        whole = text_of(data[: data.rfind(b"\n") + 1], path)
        return [
            read_line(line, f"{path}, line {number}")
            for number, line in enumerate(whole.split("\n")[:-1], start=1)
        ]

    def best_score(self, epoch: float) -> float | None:
        """The best development score after so many epochs; None if it has not come as far."""
        lines = [line for line in self.metrics() if line["kind"] == "epoch"]
        tasks = {name: get_task(name) for line in lines for name in line["scores"]}
        scores = [summary(x["scores"], tasks)["score"] for x in lines if 0 < x["epoch"] <= epoch]
        return max(scores) if lines and lines[-1]["epoch"] >= epoch else None

    def scores_beside(self, epoch: float) -> list[float]:
        """What other runs in the same folder had reached by an epoch, where they have come as
        far."""
        home = self.folder.resolve()
        paths = [path for path in home.parent.glob("*/config.json") if path.parent != home]
        found = (Run(path.parent).best_score(epoch) for path in paths)
        return [score for score in found if score is not None]

    def sync_log(self) -> None:
        """Have the disk hold all lines of metrics.jsonl, before a checkpoint says that they are."""
        with self.metrics_path.open("a", encoding="utf-8") as file:
            os.fsync(file.fileno())

    def rewind(
        self,
        keep: Callable[[dict[str, Any]], bool],
        check: Callable[[list[dict[str, Any]]], None],
    ) -> None:
        """Drop the lines of metrics.jsonl that a resumed run will write again.

        Raises:
            ValueError: `check` finds that others are missing.
        """
        kept = [line for line in self.metrics() if keep(line)]
        try:
            check(kept)
        except ValueError as error:
            raise ValueError(
                f"{self.metrics_path} lacks lines that were there when {self.last.name} was "
                f"written, as after a loss of power: {error}; put the file back from a copy, or "
                "start again with --overwrite"
            ) from None
        write_text(self.metrics_path, "".join(json.dumps(line) + "\n" for line in kept))

    def record(self) -> dict[str, Any]:
        """record.json of a finished run."""
        self.know_tasks()
        return read_checked(self.record_path, Record)


def _new_folders(config: RunConfig) -> Iterator[Path]:
    """Names for a run that was given none: by the second, and with a number where that is taken."""
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    prefix = "" if isinstance(config, TrainConfig) else f"{config.command}-"
    name = f"{stamp}-{prefix}{'-'.join(config.tasks) or 'text'}"
    yield Path("runs") / name
    yield from (Path("runs") / f"{name}-{number}" for number in count(2))


def located(config: AnyConfig) -> AnyConfig:
    """A config whose data, text and backbone, if that is a folder, have absolute paths, and whose
    tasks are named alone."""
    changes: dict[str, Any] = {"task_files": ()}  # the run keeps what they say
    for name in ("data_dir", "adapter"):
        if getattr(config, name, None) is not None:
            changes[name] = absolute(getattr(config, name))
    if not isinstance(config, TrainConfig):
        for name in ("text", "dev_text"):
            changes[name] = tuple(absolute(path) for path in getattr(config, name))
    folder = Path(config.backbone).expanduser()
    if Run(folder).best.is_file() or (config.backbone not in PACKAGES and folder.is_dir()):
        changes["backbone"] = os.path.abspath(folder)
    return replace(config, **changes)


def absolute(path: str | Path) -> Path:
    """The path from the root, ~ as the home directory; links stay."""
    return Path(os.path.abspath(Path(path).expanduser()))


def weights_sha256(backbone: Backbone) -> str:
    """sha256 of the weights that a backbone was loaded from: a checkpoint's, or those of a run;
    of no bytes for one from scratch."""
    if backbone.folder is None:
        return sha256_of()
    best = Run(backbone.folder).best
    return fingerprint(best if best.is_file() else backbone.folder)
