"""The command that hands a run's model on: export."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from minbert.checks import check_unused
from minbert.claim import claimed


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write a run's model for other libraries, with a model card: its encoder as an ordinary
    backbone folder, or with the head of a task."""

    run_folder: Annotated[Positional[Path], arg(name="run")]
    """Run folder."""
    folder: Positional[Path]
    """Folder to write."""
    task: str | None = None
    """Task whose head comes along, for transformers' pipeline("text-classification"): of a run with
    --head linear. Without it, the encoder alone."""
    format: Literal["transformers", "sentence-transformers", "onnx"] = "transformers"
    """transformers' folder; sentence-transformers', of a run with --pair cosine or concat or of a
    contrastive stage; or a graph of encoder and head for onnxruntime."""
    adapter: bool = False
    """Write the LoRA or IA3 adapter alone, in the files of peft, and do not merge it."""

    def run(self) -> None:
        from minbert.adapters import save_adapter
        from minbert.backbones import portable_name
        from multitask.export.folders import check_empty, export_run
        from multitask.predictor import Predictor

        with claimed(self.folder):
            if not self.adapter:
                made = export_run(self.run_folder, self.folder, task=self.task, format=self.format)
                print(made)
                return
            check_unused(self, "an adapter is written alone; leave it out", "task", "format")
            check_empty(self.folder)
            predictor = Predictor(self.run_folder)
            base = portable_name(predictor.config.backbone, self.folder)
            print(save_adapter(self.folder, predictor.model.encoder, base=base))
