"""Tries cases, each in a process of its own, and says which held."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from campaign import recorded
from campaign.cases import KINDS, NOTES, Broken, Case, Kind, warm_up
from minbert.files import parse_json, read_text, write_text
from multitask.text_table import table

MODULES = (
    "kills", "torchruns", "writes", "broken_folders", "broken_rows", "servers", "submissions",
)  # fmt: skip
PREPARING = 20
"""A case that prepares files for others has so many times the time."""


def load_kinds() -> dict[str, Kind]:
    """All kinds of cases, by name."""
    for name in MODULES:
        importlib.import_module(f"campaign.{name}")
    return KINDS


@dataclass(frozen=True)
class Outcome:
    """What came of a case."""

    kind: str
    number: int
    broken: str | None
    """What did not hold."""
    notes: list[str]
    seconds: float


def attempt(kind: Kind, seed: int, number: int, folder: Path, shared: Path) -> Outcome:
    """Try a case in a process of its own, in an empty folder, and end all that it started."""
    folder.mkdir(parents=True)
    began = time.monotonic()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    pid = os.fork()
    if not pid:
        _try_and_end(Case(kind, seed, number, folder, shared))
    try:
        status = _wait(pid, kind.seconds, shared)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    if status is None:
        os.waitpid(pid, 0)
        for begun in shared.glob("*.begun"):
            begun.unlink()
            shutil.rmtree(begun.with_suffix(""), ignore_errors=True)
    told = folder / "outcome.json"
    broken = json.loads(told.read_text(encoding="utf-8")) if told.exists() else None
    notes = folder / NOTES
    tried = notes.read_text(encoding="utf-8").splitlines() if notes.exists() else []
    if status is None:
        broken = f"it hung: no end after {kind.seconds:g} seconds"
    elif not told.exists():
        broken = f"the case itself ended with status {status}"
    return Outcome(kind.name, number, broken, tried, round(time.monotonic() - began, 3))


def _try_and_end(case: Case) -> None:
    """In the forked process: try, write down what came of it, end."""
    broken: str | None = "the case itself failed"
    try:
        os.setpgid(0, 0)  # with all that it starts, so that they can be ended together
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        opened = os.open(case.folder / "printed", os.O_WRONLY | os.O_CREAT, 0o666)
        os.dup2(opened, 1)
        os.dup2(opened, 2)
        case.kind.attempt(case)
        broken = None
    except Broken as error:
        broken = str(error)
    except BaseException:
        broken = f"the case itself failed: {traceback.format_exc()}"
    finally:
        told = case.folder / "outcome.json"
        told.with_suffix(".new").write_text(json.dumps(broken), encoding="utf-8")
        told.with_suffix(".new").rename(told)
        os._exit(0)


def _wait(pid: int, seconds: float, shared: Path) -> int | None:
    """The exit status of a child, or None where it does not end in time.

    What a case prepares for others does not count.
    """
    left, before, pause = seconds, time.monotonic(), 0.0005
    while left > 0:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)
        now = time.monotonic()
        left -= (now - before) / (PREPARING if any(shared.glob("*.begun")) else 1)
        before = now
    return None


class Campaign:
    """Cases of one seed, and what came of them."""

    def __init__(self, seed: int, failures: Path, out: Path | None = None) -> None:
        self.seed, self.failures, self.out = seed, failures, out
        self.outcomes: dict[tuple[str, int], Outcome] = {}
        if out is not None and out.exists():
            self._go_on(out)

    def _go_on(self, out: Path) -> None:
        """Take over what an earlier call has tried; a line that it left unfinished goes."""
        text = read_text(out, most=None)
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            write_text(out, whole)
        if not whole:
            out.unlink()
            return
        head, *lines = whole.splitlines()
        seed = parse_json(head, dict[str, int], f"{out}, line 1").get("seed")
        if seed != self.seed:
            raise SystemExit(f"{out} is of seed {seed}; give --seed {seed}")
        for number, line in enumerate(lines, start=2):
            outcome = parse_json(line, Outcome, f"{out}, line {number}")
            self.outcomes[outcome.kind, outcome.number] = outcome

    @property
    def held(self) -> bool:
        return not any(outcome.broken for outcome in self.outcomes.values())

    def try_in_turn(self, kinds: Sequence[str], *, minutes: float, cases: int | None) -> None:
        """Try new cases for a time, always of the kind that has had the least of it."""
        end = time.monotonic() + 60 * minutes
        spent = dict.fromkeys(kinds, 0.0)
        numbers = {name: self._fresh(name) for name in kinds}
        tried: Counter[str] = Counter()

        def all_to_try() -> Iterator[tuple[str, int]]:
            while True:
                left = [name for name in kinds if cases is None or tried[name] < cases]
                if not left or (cases is None and time.monotonic() >= end):
                    return
                name = min(left, key=spent.__getitem__)
                tried[name] += 1
                began = time.monotonic()
                yield name, next(numbers[name])
                spent[name] += time.monotonic() - began

        self._try(all_to_try())

    def try_only(self, cases: Sequence[tuple[str, int]]) -> None:
        """Try these cases alone: kinds with numbers."""
        self._try(cases)

    def _fresh(self, name: str) -> Iterator[int]:
        number = 0
        while True:
            if (name, number) not in self.outcomes:
                yield number
            number += 1

    def _try(self, cases: Iterable[tuple[str, int]]) -> None:
        warm_up()
        with tempfile.TemporaryDirectory(prefix="campaign-") as work:
            for name, number in cases:
                folder = Path(work, f"{name}-{number}")
                outcome = attempt(KINDS[name], self.seed, number, folder, Path(work, "shared"))
                self.outcomes[name, number] = outcome
                self._tell(outcome, folder)
                shutil.rmtree(folder, ignore_errors=True)

    def _tell(self, outcome: Outcome, folder: Path) -> None:
        if self.out is not None:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            begun = self.out.exists()
            with self.out.open("a", encoding="utf-8") as file:
                if not begun:
                    file.write(json.dumps({"seed": self.seed}) + "\n")
                file.write(json.dumps(asdict(outcome)) + "\n")
        if outcome.broken is None:
            return
        kept = self.failures / f"{outcome.kind}-{self.seed}-{outcome.number}"
        shutil.rmtree(kept, ignore_errors=True)
        with contextlib.suppress(shutil.Error):  # of names that no copy can have
            shutil.copytree(folder, kept, symlinks=True, ignore=_odd_ones)
        name = f"{outcome.kind}:{outcome.number}"
        again = f"python -m tests.campaign --seed {self.seed} --only {name}"
        print(f"{name} did not hold: {outcome.broken}")
        print(f"  {'; '.join(outcome.notes)}\n  files: {kept}\n  again: {again}", flush=True)

    def counts(self) -> dict[str, dict[str, int]]:
        """Tried, held and seconds of each kind."""
        found = {}
        for name in KINDS:
            those = [outcome for (kind, _), outcome in self.outcomes.items() if kind == name]
            held = sum(outcome.broken is None for outcome in those)
            seconds = round(sum(outcome.seconds for outcome in those))
            if those:
                found[name] = {"tried": len(those), "held": held, "seconds": seconds}
        return found

    def table(self) -> str:
        """The counts, for people."""
        rows = [[name, *map(str, found.values())] for name, found in self.counts().items()]
        return table(["kind", "tried", "held", "seconds"], rows)

    def record(self) -> None:
        """Keep the counts, and put them into docs/reliability.md."""
        kinds = {name: {"promise": KINDS[name].promise, **found}
                 for name, found in self.counts().items()}  # fmt: skip
        recorded.keep(kinds, {"seed": self.seed, **recorded.where()})


def _odd_ones(folder: str, names: list[str]) -> list[str]:
    """Those that are neither files nor folders nor links."""
    paths = [Path(folder, name) for name in names]
    return [path.name for path in paths
            if not (path.is_symlink() or path.is_file() or path.is_dir())]  # fmt: skip
