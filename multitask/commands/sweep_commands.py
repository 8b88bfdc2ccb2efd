"""`minbert sweep`; like main.py, no torch until it runs."""

from __future__ import annotations

from dataclasses import dataclass

from minbert.files import write_text
from multitask.commands.train_commands import Training
from multitask.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Sweep(Training, TrainConfig):
    """Search over settings: train with each choice, and table and draw the scores.

    The same command goes on where it was stopped; started several times, in one shell or on several
    hosts that share the folder, its processes divide the runs among themselves.
    """

    over: tuple[str, ...] = ()
    """What is searched: lr=1e-5,5e-5 lora.rank=4,8, or, to draw from a range, lr=1e-5..1e-3."""
    trials: int | None = None
    """Draw so many choices at random; by default all of the grid."""
    seeds: int = 1
    """Train each choice with so many seeds."""
    stop_hopeless: bool = False
    """Stop a run after an epoch in which its best score is below the median of the others'."""

    config_class = TrainConfig

    def run(self) -> None:
        from multitask.experiments.sweep import draw_sweep, sweep, sweep_table

        if self.resume is not None:
            raise ValueError("a sweep goes on when its command is given again; leave out --resume")
        if self.out is None:
            raise ValueError("a sweep is a folder of runs; name one with --out")
        trials = sweep(
            TrainConfig(**self.values()),
            self.over,
            self.out,
            seeds=self.seeds,
            trials=self.trials,
            stop_hopeless=self.stop_hopeless,
        )
        text = sweep_table(trials)
        write_text(self.out / "table.txt", f"{text}\n")
        print(text)
        print(draw_sweep(trials, self.out / "figure.svg"))
