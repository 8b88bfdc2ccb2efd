"""Damaged JSON files: each value replaced by another kind, each key removed, the text cut.

    for name, data in damages(path.read_bytes()): ...

`things` makes one of each thing that has JSON files, with what reads it; `survey` damages a file at
a time and reports every call that ends otherwise than well, in ValueError or in OSError.
"""

import copy
import json
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from helpers import MADE_UP_CONFIG, MADE_UP_RECORD, config, pretrain_config, tiny

from data.tasks import TASKS
from minbert import load_backbone
from minbert.adapters import LoRASettings, add_lora, load_adapter, save_adapter
from minbert.files import write_json
from multitask import Predictor, resume, train
from multitask.commands.describe import describe_run
from multitask.glue.glue_recipes import family_of
from multitask.glue.glue_run import read_runs
from multitask.glue.score import system_of
from multitask.report.document import redraw, report_on, skeleton
from multitask.report.keeping import keep
from multitask.report.records import Study
from multitask.runs.origin import trained_backbone
from multitask.runs.run import Run
from multitask.study.status import describe_study

OTHERS = ({}, [], None, "x", "", 1.5, -1, 0, True, 10**30, {"x": {"x": 1}}, [[["x"]]], "\u0663")
"""What a value is replaced by, and RAW, which json.dumps cannot say."""
RAW = ("1e400", "NaN", "-Infinity", '"\\ud800"', "[" * 100_000, '{"x":' * 100_000)
SIGN = "a sign that stands nowhere else"


def damages(data: bytes) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Each damage to a file with JSON, or with JSON on each line: its name, and what does it."""
    whole = {
        "empty": b"", "null": b"null", "list": b"[]", "text": b'"x"', "byte": b"\xff" + data,
        "cut": data[: len(data) // 2], "NULs": data[:-9] + b"\0" * 9,
        "UTF-16": data.decode().encode("utf-16"),
        "deep list": b"[" * 100_000, "deep object": b'{"x":' * 100_000,
    }  # fmt: skip
    for name, damaged in whole.items():
        yield name, partial(bytes, damaged)
    try:
        parts, end = [json.loads(data)], b""
    except ValueError:
        parts, end = [json.loads(line) for line in data.splitlines()], b"\n"
    for number, part in enumerate(parts):
        for place in _places(part):
            name = ".".join(map(str, place))
            for other in (*OTHERS, *RAW):
                shown = f"{name} = {str(other)[:20]}"
                yield shown, partial(_changed, parts, number, place, other, end)
            yield f"without {name}", partial(_changed, parts, number, place, SIGN, end)


def _places(value: object, place: tuple = ()) -> Iterator[tuple]:
    if isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value[:2]):
            yield (*place, key)
            yield from _places(part, (*place, key))


def _changed(parts: list, number: int, place: tuple, other: object, end: bytes) -> bytes:
    """The file's parts with another value in one place, or with none if it is SIGN."""
    parts = copy.deepcopy(parts)
    inner = parts[number]
    for key in place[:-1]:
        inner = inner[key]
    raw = isinstance(other, str) and other in RAW
    inner[place[-1]] = SIGN if raw else other
    if other == SIGN:
        del inner[place[-1]]
    lines = [json.dumps(part) for part in parts]
    if raw:
        lines[number] = lines[number].replace(json.dumps(SIGN), other)
    return "\n".join(lines).encode() + end


@dataclass(frozen=True)
class Thing:
    """A folder, its JSON files, and what reads it."""

    folder: Path
    calls: tuple[Callable[[Path], object], ...]

    def files(self) -> list[Path]:
        return sorted([*self.folder.rglob("*.json"), *self.folder.rglob("*.jsonl")])


def things(root: Path) -> dict[str, Thing]:
    """One of each thing that has JSON files."""
    tiny(root)
    finished = train(config(root, "finished", epochs=1), progress=False).folder
    pretrained = train(
        pretrain_config(root, root / "pretrained", from_scratch="bert", size="tiny", epochs=1,
                        vocab_size=90), progress=False).folder  # fmt: skip
    encoder = load_backbone(root / "backbone").encoder
    add_lora(encoder, LoRASettings(rank=2))
    save_adapter(root / "adapter", encoder)
    study = root / "study"
    for stage in ("finetune-sst-1", "multitask-all-1"):
        shutil.copytree(finished, study / "stages" / stage)
        shutil.rmtree(study / "stages" / stage / "backbone")
    write_json(study / "study.json", {"scale": "small", "backbone": "minilm", "data_dir": "data"})
    stages = ["multitask-all-1", "finetune-sst-1"]
    results = [{"row": row, "task": "sst", "seed": 1, "stages": stages}
               for row in ("mt", "mt-together")]  # fmt: skip
    plan = {"variant": "corrected", "scale": "small", "results": results}
    write_json(study / "plans" / "corrected-1.json", plan)
    glue = root / "glue"
    scores = dict.fromkeys(TASKS["mnli"].metrics, 0.5)
    own = {"dev": {"mnli": scores}, "skipped": [], "config": MADE_UP_CONFIG | {"tasks": ["mnli"]}}
    write_json(glue / "mnli-1" / "record.json", MADE_UP_RECORD | own)
    write_json(glue / "mnli-1" / "mnli-mm.json", scores)
    return {
        "run": Thing(finished, (
            describe_run,
            lambda folder: Predictor(folder).predict("sst", ["a text"]),
            lambda folder: keep(folder, root / "kept"),
            lambda folder: load_backbone(folder / "backbone"),
            lambda folder: trained_backbone(Run(folder)),
        )),
        "resumed": Thing(
            shutil.copytree(finished, root / "resumed"), (lambda f: resume(f, progress=False),)
        ),
        "pretrained": Thing(pretrained, (
            describe_run,
            lambda folder: load_backbone(folder / "backbone", fresh=("pooler",)),
            lambda folder: resume(folder, progress=False),
        )),
        "backbone": Thing(root / "backbone", (load_backbone, lambda f: family_of(str(f)))),
        "adapter": Thing(
            root / "adapter",
            (lambda f: load_adapter(f, load_backbone(root / "backbone").encoder),),
        ),
        "study": Thing(study, (
            describe_study,
            report_on,
            lambda folder: keep(folder, root / "kept"),
        )),
        "glue": Thing(glue, (
            lambda folder: system_of("ours", [run.record for run in read_runs(folder)]),
        )),
    }  # fmt: skip


def records(root: Path) -> dict[str, Thing]:
    """Kept records of studies and of runs, with the report that is drawn from them."""

    def drawn(folder: Path) -> None:
        study = Study.of_records(folder)
        report = root / "Report.md"
        report.write_text(skeleton(study), encoding="utf-8")
        redraw(report, lambda name: study, folder.parent)

    kept = root / "kept"
    keep(root / "study", kept)
    return {
        "kept study": Thing(kept / "study", (drawn,)),
    }


class Late(BaseException):
    """A call that went on for LATE seconds."""


def _late(number: int, frame: object) -> None:
    raise Late


LATE = 5


@dataclass(frozen=True)
class Failure:
    """A call that ended otherwise than it should."""

    file: Path
    damage: str
    call: int
    error: BaseException


def survey(
    thing: Thing, *, count: int | None = None, seed: int = 0
) -> tuple[int, list[Failure], list[tuple[Path, str, str]]]:
    """Damage a thing's files one at a time, and call what reads it.

    Args:
        thing: each of its files is as it was in the end.
        count: damages of each file that are drawn; all of them without it.
        seed: of the draw.

    Returns:
        Calls that were made; those that ended otherwise than well or in a message of at most 1,000
        characters; and file, damage and message of all others that did not end well.
    """
    draw, calls, failures, said = random.Random(seed), 0, [], []
    kept = thing.folder.with_name(f"{thing.folder.name}-copy")
    shutil.copytree(thing.folder, kept)
    for file in thing.files():
        data = file.read_bytes()
        every = list(damages(data))
        for name, damage in draw.sample(every, min(count or len(every), len(every))):
            for number, call in enumerate(thing.calls):
                file.write_bytes(damage())
                calls += 1
                signal.signal(signal.SIGALRM, _late)
                signal.alarm(LATE)
                try:
                    call(thing.folder)
                except Late:  # such as a run of 10^30 epochs, which is one
                    pass
                except (ValueError, OSError) as error:
                    if isinstance(error, UnicodeError) or len(str(error)) > 1000:
                        failures.append(Failure(file, name, number, error))
                    said.append((file, name, str(error)))
                except Exception as error:
                    failures.append(Failure(file, name, number, error))
                finally:
                    signal.alarm(0)
                    _restore(kept, thing.folder)
    shutil.rmtree(kept)
    return calls, failures, said


def _restore(source: Path, folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file() and not (source / path.relative_to(folder)).exists():
            path.unlink()
    for path in source.rglob("*"):
        place = folder / path.relative_to(source)
        if path.is_file() and (not place.exists() or place.read_bytes() != path.read_bytes()):
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, place)
