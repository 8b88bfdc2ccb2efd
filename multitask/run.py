"""A run is a folder, and reports read nothing else.

config.json           every setting, as resolved
backbone/             config.json and tokenizer of the encoder
metrics.jsonl         a line for every step and every epoch
last.safetensors      where to resume; best.safetensors: the best epoch's weights
predictions/          answers for the development and test rows
record.json           scores, time, memory, commit, versions, device
figure.png            losses and scores
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from minbert.files import read_json, write_json, write_text
from minbert.loading import Backbone, fingerprint, load_backbone, save_config
from multitask.config import TrainConfig


@dataclass(frozen=True)
class Run:
    """The files of one training run."""

    folder: Path

    @classmethod
    def create(cls, config: TrainConfig, backbone: Backbone) -> Run:
        """Make the folder of a new run; one that holds a run is not touched unless asked.

        It keeps the encoder's config and tokenizer, and which weights the run starts from.
        """
        folder = config.out
        if folder is None:
            stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
            folder = Path("runs") / f"{stamp}-{'-'.join(config.tasks)}"
        run = cls(folder)
        if run.config_path.exists() and not config.overwrite:
            raise ValueError(
                f"{folder} holds a run already; continue it with --resume {folder}, replace it "
                "with --overwrite, or choose another --out"
            )
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"{folder} is a file; choose another --out")
        for path in (run.config_path, run.last, run.best, run.metrics_path, run.record_path,
                     run.figure_path):  # fmt: skip
            path.unlink(missing_ok=True)
        for path in run.predictions.glob("*-output.csv"):
            path.unlink()
        save_config(run.backbone, backbone.encoder, backbone.tokenizer)
        write_json(run.backbone / "source.json", {"sha256": fingerprint(backbone.folder)})
        write_json(run.config_path, config.to_dict())  # last: a folder with a config is a run
        return run

    @classmethod
    def open(cls, folder: Path) -> Run:
        """The run in a folder."""
        run = cls(folder)
        if not run.config_path.is_file():
            raise ValueError(f"{folder} holds no run (no config.json); name a run folder")
        return run

    @property
    def config_path(self) -> Path:
        return self.folder / "config.json"

    @property
    def backbone(self) -> Path:
        return self.folder / "backbone"

    @property
    def metrics_path(self) -> Path:
        return self.folder / "metrics.jsonl"

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

    def config(self) -> TrainConfig:
        """The run's settings."""
        try:
            return TrainConfig.from_dict(read_json(self.config_path))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{self.config_path}: {error}") from None

    def load_backbone(self, config: TrainConfig) -> Backbone:
        """The backbone that the run started from."""
        backbone = backbone_of(config)
        wanted = read_json(self.backbone / "source.json")["sha256"]
        found = fingerprint(backbone.folder)
        if found != wanted:
            raise ValueError(
                f"{self.folder} started from weights with sha256 {wanted}, and {backbone.folder} "
                f"holds {found}; put the former backbone back"
            )
        return backbone

    def log(self, lines: list[dict[str, Any]]) -> None:
        """Append lines to metrics.jsonl."""
        with self.metrics_path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl; one that a killed process left unfinished is passed over."""
        if not self.metrics_path.exists():
            return []
        lines = self.metrics_path.read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in lines[:-1]]

    def rewind(self, keep: Callable[[dict[str, Any]], bool]) -> None:
        """Drop the lines of metrics.jsonl that a resumed run will write again."""
        kept = [line for line in self.metrics() if keep(line)]
        write_text(self.metrics_path, "".join(json.dumps(line) + "\n" for line in kept))

    def record(self) -> dict[str, Any]:
        """record.json of a finished run."""
        return read_json(self.record_path)


def backbone_of(config: TrainConfig) -> Backbone:
    """The backbone that a config names; its pooler may be missing where it is not used."""
    backbone = load_backbone(
        config.backbone,
        revision=config.revision,
        offline=config.offline,
        fresh=() if config.pooling == "pooler" else ("pooler",),
    )
    if config.pooling == "pooler" and not backbone.encoder.has_pooler:
        raise ValueError(
            f"backbone {config.backbone!r} has no pooler; choose pooling cls, mean or max"
        )
    return backbone
