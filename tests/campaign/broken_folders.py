"""Folders with a damaged file, given to each command that reads them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from campaign.cases import Case, check_finished, check_message, contents, kind, require
from campaign.mutations import mutate
from campaign.runs import write_tiny


@dataclass(frozen=True)
class Subject:
    """A folder that commands read.

    In the words of commands {here} is the folder, {tiny} that of data and backbones, and {run} or
    {lora} another subject's.
    """

    made: str
    """The words of the command that writes it."""
    read: Sequence[str]
    """Those of the commands that read it."""


SHORT = "--data-dir {tiny}/data --device cpu --epochs 1 --batch-size 8"
NEW = f"{SHORT} --tasks sst --out new"
TRAIN = f"train {SHORT} --backbone {{tiny}}/bert --head-size 8 --out {{here}}"
GLUE = "glue run --tasks cola --data-dir {tiny}/data --backbone {tiny}/wide --epochs 1 --out {here}"
STUDY = "study run frozen --data-dir {tiny}/data --backbone {tiny}/bert --device cpu --out {here}"
SUBJECTS = {
    "run": Subject(
        f"{TRAIN} --tasks sst sts --save-every 2",
        (
            "train --resume {here}",
            "evaluate {here} --out new",
            "predict --task sst --run {here} text",
            "export {here} new",
            f"train {NEW} --backbone {{here}}",
            f"train {NEW} --backbone {{here}} --keep-heads --head-size 8",
        ),
    ),
    "lora": Subject(
        f"{TRAIN} --tasks sst --lora.rank 2",
        ("train --resume {here}", "export {here} new", "predict --run {here} text"),
    ),
    "adapter": Subject("export {lora} {here} --adapter", ("predict --run {here} text",)),
    "pretrained": Subject(
        f"pretrain {SHORT} --backbone {{tiny}}/bert --tasks sst --out {{here}}",
        ("pretrain --resume {here}", f"train {NEW} --backbone {{here}}"),
    ),
    "backbone": Subject(
        "export {run} {here}",
        (
            f"train {NEW} --backbone {{here}}",
            f"train {NEW} --backbone {{here}} --frozen",
            f"pretrain {NEW} --backbone {{here}}",
        ),
    ),
    "glue": Subject(
        GLUE,
        ("glue score {here}", "glue submit {here} --data-dir {tiny}/data --fill-missing", GLUE),
    ),
    "study": Subject(STUDY, ("study status {here}", "report {here}", STUDY)),
}


@kind(
    "damage", "A damaged file is refused by name in a few lines, or does no harm; the rest stays."
)
def damage(case: Case) -> None:
    name = list(SUBJECTS)[case.number % len(SUBJECTS)]
    folder = case.folder / name
    shutil.copytree(subject(case, name), folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".png")
    path = case.draw.choice(files)
    case.note(f"{path.relative_to(case.folder)}: {mutate(case.draw, path)}")
    words = words_of(case, case.draw.choice(SUBJECTS[name].read), folder)
    case.note(" ".join(words))
    before = contents(folder)
    done = case.run(*words)
    check_message(done, path.name, str(folder))
    if done.status:
        after = contents(folder)
        changed = sorted(name for name in before if after.get(name) != before[name])
        require(not changed, f"it was refused, and yet changed {changed}: {done.errors}")
    elif path.name == "best.safetensors" and words[0] in ("evaluate", "predict", "export"):
        new = case.folder / "new"
        found = done.output, contents(new)
        for old in (folder, new):
            shutil.rmtree(old, ignore_errors=True)
        shutil.copytree(subject(case, name), folder)
        whole = case.run(*words)
        require((whole.output, contents(new)) == found, "other weights are taken without a word")


def subject(case: Case, name: str) -> Path:
    """The whole folder of a subject, to be copied."""

    def make(folder: Path) -> None:
        check_finished(case.run(*words_of(case, SUBJECTS[name].made, folder)))

    return case.prepared(name, make)


def words_of(case: Case, command: str, here: Path) -> list[str]:
    """The words of a command, with the folders that it names."""
    folders = {"here": here, "tiny": case.prepared("tiny", write_tiny)}
    folders |= {name: subject(case, name) for name in ("run", "lora") if f"{{{name}}}" in command}
    return [word.format(**folders) for word in command.split()]
