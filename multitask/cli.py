"""The command line: every command is a dataclass, its fields the flags, its docstrings the help.

Nothing here imports torch before a command runs, so that help comes at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro
from tyro.conf import subcommand

from lab.__main__ import lab
from multitask.commands.answering import Evaluate, Export, Info, Predict
from multitask.commands.datasets import Data
from multitask.commands.training import Demo, Pretrain, Train, with_extensions
from multitask.glue.commands import Glue
from multitask.messages import errors_as_messages
from multitask.study.commands import Report, StudyCommand


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


def parse(words: Sequence[str]) -> Demo | Train | Pretrain | OtherCommand:
    """The command that a command line names, with its flags."""
    train: type[Train] = Train
    pretrain: type[Pretrain] = Pretrain
    if words[:1] == ["train"]:
        train = with_extensions(Train, words)
    if words[:1] == ["pretrain"]:
        pretrain = with_extensions(Pretrain, words)
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
    """Run the command line."""
    with errors_as_messages():
        if sys.argv[1:2] == ["lab"]:  # reads its own words, for it has to run beside broken code
            sys.exit(lab(sys.argv[2:]))
        parse(sys.argv[1:]).run()
