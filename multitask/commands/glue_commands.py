"""`minbert glue`: run, peft, score, figure, submit, check. No torch before a command runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from tyro.conf import Positional, arg

from data.readers import OnBadRow
from minbert.checks import check_counts
from minbert.claim import claimed
from multitask.commands import Group

if TYPE_CHECKING:
    from multitask.config import TrainConfig

Method = Literal["full", "lora", "bitfit"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What runs of GLUE have in common."""

    data_dir: Path
    """Folder with GLUE's files, such as MRPC/train.tsv, or with folders of them."""
    out: Path
    """Folder of the run folders."""
    backbone: str = "minilm"
    """minilm, a folder, or a hub name such as bert-base-cased."""
    recipe: str | None = None
    """Settings of each task: bert, convbert, modernbert, modernbert_short, mosaicbert, lora,
    bitfit, minilm, minilm_lora, minilm_bitfit; by default what fits the method and the backbone."""
    seeds: int = 1
    """Runs that differ in their seeds alone."""
    seed: int = 11711
    """The first seed; the others follow it."""
    both_orders: bool = False
    """Train on symmetric pairs in both orders, whatever the recipe says."""
    epochs: int | None = None
    """Passes over the data, in place of the recipe's."""
    batch_size: int | None = None
    """Rows that go through the model at once, in place of the recipe's."""
    patience: int | None = None
    """Stop when so many epochs in a row bring no better development score."""
    scores_per_epoch: int | None = None
    """Score so many times an epoch, at equal distances; the best of all is kept."""
    accumulate: int = 1
    """Batches whose gradients make one optimizer step."""
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = "fp32"
    """Arithmetic of matrix products."""
    device: str = "auto"
    """auto, cpu, cuda, ..."""
    limit: int | None = None
    """Use so many training rows of each task, taken at equal distances, for a try."""
    on_bad_row: OnBadRow = "stop"
    """Stop at a row that cannot be read, or skip it and list it."""

    def names(self, tasks: tuple[str, ...]) -> tuple[str, ...]:
        """The tasks that are asked for, checked."""
        from multitask.glue.glue_recipes import TASKS

        unknown = [name for name in tasks if name not in TASKS]
        if unknown and tasks != ("all",):
            known = ", ".join(TASKS)
            raise ValueError(f"{unknown[0]!r} is no task of GLUE; known are all, {known}")
        return TASKS if unknown else tasks

    def all_seeds(self) -> range:
        """The seeds, checked."""
        check_counts(self, "seeds")
        return range(self.seed, self.seed + self.seeds)

    def config(self, task: str, method: Method = "full") -> TrainConfig:
        """The recipe's config for a task, with what the command line changes."""
        from multitask.glue.glue_recipes import recipe_config

        config = recipe_config(self.recipe, method, self.backbone, task)
        given = {
            name: value
            for name in ("epochs", "batch_size", "patience", "scores_per_epoch")
            if (value := getattr(self, name)) is not None
        }
        return replace(
            config,
            data_dir=self.data_dir,
            both_orders=self.both_orders or config.both_orders,
            accumulate=self.accumulate,
            precision=self.precision,
            device=self.device,
            limit=self.limit,
            on_bad_row=self.on_bad_row,
            **given,
        )


@dataclass(frozen=True, kw_only=True)
class RunGlue(Settings):
    """Fine-tune on GLUE's tasks, a run folder for each task and seed.

    Call it again to go on: what is done is passed over, what was cut short is resumed.
    """

    tasks: tuple[str, ...] = ("all",)
    """all, or some of cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte, wnli."""
    method: Method = "full"
    """Train all parameters, LoRA of rank 8, or the biases alone."""
    lr: float | None = None
    """Learning rate, in place of the recipe's."""
    start_from: Path | None = None
    """Run of MNLI whose encoder RTE, MRPC and STS-B start from."""

    def run(self) -> None:
        from minbert.quick import keep_freed_memory
        from multitask.glue.glue_run import finish_glue
        from multitask.glue.score import describe, read_system

        keep_freed_memory()
        finish_glue(self.configs())
        print(describe(read_system(self.out)))

    def configs(self) -> list[TrainConfig]:
        """A config for each task and seed."""
        from multitask.glue.glue_recipes import FROM_MNLI
        from multitask.runs.run import Run

        if self.start_from is not None and "mnli" not in Run.open(self.start_from).config().tasks:
            raise ValueError(f"{self.start_from} was not trained on mnli; name a run of MNLI")
        configs = []
        for name in self.names(self.tasks):
            config = self.config(name, self.method)
            if self.lr is not None:
                config = replace(config, lr=self.lr)
            if self.start_from is not None and name in FROM_MNLI:
                config = replace(config, backbone=str(self.start_from))
            for seed in self.all_seeds():
                configs.append(replace(config, seed=seed, out=self.out / f"{name}-{seed}"))
        return configs


@dataclass(frozen=True, kw_only=True)
class ComparePeft(Settings):
    """Compare BitFit, LoRA over ranks and full fine-tuning, each at the best of four rates.

    Call it again to go on, as with glue run. Many runs: 12 of the sweep, and 10 over the ranks;
    and 3 for each batch size and warm-up that is asked for and is not the recipe's.
    """

    tasks: tuple[str, ...] = ("cola", "mrpc")
    """Tasks to compare on."""
    ranks: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    """Ranks of LoRA."""
    batch_sizes: tuple[int, ...] = ()
    """Batch sizes to sweep, each method at its best rate."""
    warmups: tuple[float, ...] = ()
    """Shares of warm-up to sweep, each method at its best rate."""

    def run(self) -> None:
        from minbert.quick import keep_freed_memory
        from multitask.glue.peft import (
            HEADER,
            SWEEPS_HEADER,
            compare_methods,
            comparison_rows,
            sweep_rows,
            write_comparison,
        )
        from multitask.text_table import table

        keep_freed_memory()
        points = []
        for name in self.names(self.tasks):
            config, folder = self.config(name), self.out / name
            points += compare_methods(
                config,
                folder,
                ranks=self.ranks,
                seeds=self.all_seeds(),
                batch_sizes=self.batch_sizes,
                warmups=self.warmups,
            )
        print(table(HEADER, comparison_rows(points)))
        if swept := sweep_rows(points):
            print(f"\n{table(SWEEPS_HEADER, swept)}")
        with claimed(self.out, wait=60):  # others may compare other tasks
            for path in write_comparison(points, self.out):
                print(path)


@dataclass(frozen=True, kw_only=True)
class ScoreGlue:
    """Score folders of runs: each task, the overall score in each convention, published rows."""

    folders: Annotated[Positional[tuple[Path, ...]], arg(name="dirs")]
    """Folders that glue run wrote."""
    json: bool = False
    """Print JSON."""

    def run(self) -> None:
        from multitask.glue.score import as_json, describe, read_system

        systems = [read_system(folder) for folder in self.folders]
        if self.json:
            print(json.dumps([as_json(found) for found in systems], indent=2))
        else:
            print("\n\n".join(describe(found) for found in systems))


@dataclass(frozen=True, kw_only=True)
class DrawGlue:
    """Draw the losses and scores of several folders of runs over each other, a figure a task."""

    folders: Annotated[Positional[tuple[Path, ...]], arg(name="dirs")]
    """Folders that glue run wrote, two or more; the runs of a task and folder have one colour."""
    out: Path = Path("figures/glue")
    """Folder of the figures, TASK.svg each."""

    def run(self) -> None:
        from multitask.experiments.curves import draw_systems
        from multitask.glue.glue_run import read_runs

        if len(self.folders) < 2:
            raise ValueError("glue figure takes at least two folders of runs")
        systems = [(f.resolve().name, [found.run for found in read_runs(f)]) for f in self.folders]
        for path in draw_systems(systems, self.out):
            print(path)


@dataclass(frozen=True, kw_only=True)
class SubmitGlue:
    """Write the leaderboard's zip from the test answers of the best runs on development."""

    folder: Annotated[Positional[Path], arg(name="dir")]
    """Folder that glue run wrote."""
    out: Path = Path("submission.zip")
    """The zip to write."""
    data_dir: Path | None = None
    """Folder with test files whose rows are counted, where they are not GLUE's own."""
    fill_missing: bool = False
    """Answer what was not run with a constant: the larger class, or the mean."""

    def run(self) -> None:
        from multitask.glue.glue_run import read_runs
        from multitask.glue.leaderboard import FILES, best_runs, write_submission

        runs = best_runs(read_runs(self.folder))
        filled = write_submission(
            self.out, runs, data_dir=self.data_dir, fill_missing=self.fill_missing
        )
        for name, file in FILES.items():
            answer = f"all {file.filler}, for want of answers"
            source = answer if name in filled else runs[file.answered_by].run.folder
            print(f"{name}.tsv: {source}")
        print(self.out)


@dataclass(frozen=True, kw_only=True)
class CheckGlue:
    """List all that is wrong with a leaderboard's zip, by file and line."""

    zip: Positional[Path]
    """The zip, wherever it was made."""
    data_dir: Path | None = None
    """Folder with test files whose rows are counted, where they are not GLUE's own."""

    def run(self) -> None:
        from multitask.glue.leaderboard import check_submission

        problems = check_submission(self.zip, data_dir=self.data_dir)
        for problem in problems:
            print(problem)
        if problems:
            raise ValueError(f"{self.zip} would be refused")
        print(f"{self.zip} holds all that the leaderboard wants", file=sys.stderr)


class Glue(Group):
    """Run GLUE, compare methods on it, score it, and write or check the leaderboard's file."""

    commands: ClassVar[Mapping[str, type]] = {
        "run": RunGlue,
        "peft": ComparePeft,
        "score": ScoreGlue,
        "figure": DrawGlue,
        "submit": SubmitGlue,
        "check": CheckGlue,
    }
