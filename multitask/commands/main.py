"""The command line: every command is a dataclass, its fields the flags, its docstrings the help.

Nothing here imports torch before a command runs, so that help comes at once.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tyro
from tyro.extras import subcommand_cli_from_dict

from multitask.commands import Group, dashed, flags_of
from multitask.commands.answer_commands import Evaluate, Info, Predict
from multitask.commands.compare_commands import Compare
from multitask.commands.data_commands import Data
from multitask.commands.ensemble_commands import Average
from multitask.commands.export_commands import Export
from multitask.commands.flags import FLAGS
from multitask.commands.glue_commands import Glue
from multitask.commands.messages import command_line
from multitask.commands.show_commands import Show
from multitask.commands.study_commands import Report, StudyGroup
from multitask.commands.sweep_commands import Sweep
from multitask.commands.task_commands import TaskGroup
from multitask.commands.train_commands import (
    Contrast,
    Demo,
    Pretrain,
    Train,
    Training,
    with_extensions,
)


@dataclass(frozen=True, kw_only=True)
class Lab:
    """Exercises cut out of this library: start a student's copy, check it, get hints, grade."""

    # lab/__main__.py hands its words over before they get here.


class Version:
    """What `minbert --version` shows."""

    def run(self) -> None:
        from minbert.version import describe_version

        print(describe_version())


COMMANDS: dict[str, type] = {
    "demo": Demo,
    "train": Train,
    "pretrain": Pretrain,
    "contrast": Contrast,
    "evaluate": Evaluate,
    "predict": Predict,
    "compare": Compare,
    "average": Average,
    "export": Export,
    "show": Show,
    "info": Info,
    "sweep": Sweep,
    "task": TaskGroup,
    "data": Data,
    "glue": Glue,
    "study": StudyGroup,
    "report": Report,
    "lab": Lab,
}


def parse(
    words: Sequence[str],
    commands: Mapping[str, type] = COMMANDS,
    prog: str = "minbert",
    description: str | None = "BERT by hand, with multitask heads.",
) -> Any:
    """The command that a command line names, with its flags: an instance of one of `commands`, or
    of those of a group among them."""
    config = (tyro.conf.OmitSubcommandPrefixes,)
    name = words[0] if words else ""
    if name not in commands:  # help, or a mistake
        with FLAGS:
            return subcommand_cli_from_dict(
                {**commands}, prog=prog, description=description, args=words, config=config
            )
    command = commands[name]
    if issubclass(command, Group):
        return parse(words[1:], command.commands, f"{prog} {name}", command.__doc__)
    _check_once(words)
    if issubclass(command, Training):
        command = with_extensions(command, words)
    with FLAGS:
        return tyro.cli(command, prog=f"{prog} {name}", args=words[1:], config=config)


def _check_once(words: Sequence[str]) -> None:
    """Refuse a flag that stands twice, of which the last alone would count."""
    for flag, count in Counter(map(dashed, flags_of(words))).items():
        if count > 1:
            raise ValueError(
                f"{flag} stands {count} times, and only the last would count; give it once, and "
                "where it takes several values, all of them behind it"
            )


def let_threads_sleep() -> None:
    """Have threads that wait for others look for their work for a moment, and then sleep.

    By default GNU's OpenMP, PyTorch's on Linux, looks thirty times as long, which keeps the core
    from the very thread that is waited for, where other programs run too. benchmarks/LOG.md has
    the times. It is read once, when torch is imported.
    """
    if not os.environ.keys() & {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}:
        os.environ["GOMP_SPINCOUNT"] = "10000"


def command() -> Any:
    """The command of this process's command line."""
    let_threads_sleep()
    return Version() if sys.argv[1:] == ["--version"] else parse(command_line())
