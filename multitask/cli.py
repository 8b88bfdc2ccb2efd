"""The command line: every command is a dataclass, its fields the flags, its docstrings the help.

Nothing here imports torch before a command runs, so that help comes at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, NoReturn

import tyro
from tyro.conf import subcommand

from lab.__main__ import lab
from multitask.commands.answering import Evaluate, Export, Info, Predict
from multitask.commands.datasets import Data
from multitask.commands.training import Demo, Pretrain, Train, with_extensions
from multitask.glue.commands import Glue
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
        _fail(str(error))
    except (MemoryError, RuntimeError) as error:
        if os.environ.get("MINBERT_TRACEBACK") or not _wants_memory(error):
            raise
        reason = str(error).partition("\n")[0] or type(error).__name__
        _fail(
            f"not enough memory: {reason}; lower --batch-size and raise --accumulate as much, "
            "which gives the same steps, or take a smaller model"
        )
    except KeyboardInterrupt as stop:
        print(f"{_who()}{str(stop) or 'stopped'}", file=sys.stderr)
        sys.exit(130)


def _fail(message: str) -> NoReturn:
    print(f"{_who()}error: {message}", file=sys.stderr)
    sys.exit(2)


def _wants_memory(error: Exception) -> bool:
    """Whether memory could not be had; PyTorch says so on a CPU in the error's text alone."""
    signs = ("out of memory", "can't allocate memory", "Storage size calculation overflowed")
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in signs)


def _who() -> str:
    """Which of torchrun's processes speaks."""
    number = os.environ.get("RANK")
    return "" if number is None else f"[process {number}] "
