"""Runs a plan, stage by stage; start it as often as there are processors, GPUs or hosts.

Each stage has a process of its own, so that one that fails, or is killed for its memory, takes no
other with it, and its record shows its own memory. What a stage needs is read from the study's
folder, and whoever claims a stage's folder first runs it (minbert/claim.py). The main process
only chooses.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Literal

from minbert.claim import Busy, claimed, holder
from minbert.files import write_json, write_text
from minbert.quick import keep_freed_memory
from multitask.study.folder import StudyFolder
from multitask.study.plan import Plan, Stage
from multitask.training import resume, train

if TYPE_CHECKING:  # Windows has no fork servers
    from multiprocessing.context import ForkServerContext, SpawnContext

KeepWeights = Literal["all", "starts", "none"]
POLL = 2.0
"""Seconds between two looks for a stage to run, while others run them all."""
BUSY, FAILED = 3, 4
"""How a stage's process ends when another has the stage, or when training failed."""


@dataclass
class Runner:
    """Works on a plan until nothing is left that it can do."""

    study: StudyFolder
    plan: Plan
    keep_weights: KeepWeights = "starts"
    device: str = "auto"
    failed: dict[str, str] = field(default_factory=dict)
    """Stage -> why it failed, in this session or in one beside it."""

    def run(self) -> bool:
        """Run what is missing; True if all of the plan is finished."""
        self._old_failures = {s.name: self._time_of_failure(s) for s in self.plan.stages}
        waited_for: set[str] = set()
        while missing := self._missing():
            self._tidy()
            ready = [stage for stage in missing if self._is_ready(stage)]
            stage = next(
                (s for s in ready if holder(self.study.run_of(s.name).folder) is None), None
            )
            if stage is not None:
                self._run_apart(stage, len(missing))
                continue
            for stage in ready:
                if stage.name not in waited_for:
                    who = holder(self.study.run_of(stage.name).folder)
                    print(f"waiting for {stage.name}, which is run by {who}", flush=True)
                    waited_for.add(stage.name)
            time.sleep(POLL)
        self._tidy()
        return not self.study.missing(self.plan)

    def _missing(self) -> list[Stage]:
        """What can still be run: neither finished, nor failed, nor after a stage that failed."""
        missing = self.study.missing(self.plan)
        for stage in missing:
            if self._time_of_failure(stage) != self._old_failures[stage.name]:
                text = self.study.failure_of(stage.name).read_text(encoding="utf-8")
                self.failed[stage.name] = text.splitlines()[0]
        return [s for s in missing if not any(part.name in self.failed for part in s.chain)]

    def _time_of_failure(self, stage: Stage) -> int | None:
        path = self.study.failure_of(stage.name)
        return path.stat().st_mtime_ns if path.exists() else None

    def _is_ready(self, stage: Stage) -> bool:
        return stage.start is None or self.study.can_start_others(stage.start)

    def _run_apart(self, stage: Stage, left: int) -> None:
        """Run a stage in a process of its own, and say how it went."""
        rows = ", ".join(self.plan.users()[stage.name])
        print(f"\n[{left} to do] {stage.name} for {rows}", flush=True)
        process = _context().Process(
            target=work, args=(self.study, stage, self.device), name=stage.name
        )
        process.start()
        with _stopping(process) as stopped:
            process.join()
        if stopped.is_set() or process.exitcode == 130:
            raise KeyboardInterrupt(f"stopped in {stage.name}; the same command goes on from there")
        if process.exitcode == 0:
            print(describe(self.study, stage), flush=True)
        elif process.exitcode == FAILED:
            print(f"failed: {stage.name}: {self._reason(stage)}", file=sys.stderr, flush=True)
        elif process.exitcode != BUSY:
            end = f"its process ended with code {process.exitcode}"
            if process.exitcode == -signal.SIGKILL:
                end += ": it was killed, perhaps for want of memory"
            write_text(self.study.failure_of(stage.name), end + "\n")
            print(f"failed: {stage.name}: {end}", file=sys.stderr, flush=True)

    def _reason(self, stage: Stage) -> str:
        return self.study.failure_of(stage.name).read_text(encoding="utf-8").splitlines()[0]

    def _tidy(self) -> None:
        """Remove the weights of finished stages that nothing needs any more."""
        starts = {part.name for s in self.plan.stages for part in s.chain[:-1]}
        if self.keep_weights == "none":
            starts = {part.name for s in self.study.missing(self.plan) for part in s.chain[:-1]}
        for stage in filter(self.study.is_done, self.plan.stages):
            run = self.study.run_of(stage.name)
            run.last.unlink(missing_ok=True)  # where to resume, and there is nothing to resume
            if self.keep_weights != "all" and stage.name not in starts:
                run.best.unlink(missing_ok=True)
                (run.backbone / "model.safetensors").unlink(missing_ok=True)


def work(study: StudyFolder, stage: Stage, device: str) -> None:
    """A stage's process: claim the stage, run it, and end with 0, BUSY, FAILED or 130."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    keep_freed_memory()
    try:
        with claimed(study.run_of(stage.name).folder):
            if not study.is_settled(stage):  # another may have finished it just now
                run_stage(study, stage, device)
        study.failure_of(stage.name).unlink(missing_ok=True)
    except Busy:
        sys.exit(BUSY)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        reason = str(error) or type(error).__name__
        write_text(study.failure_of(stage.name), f"{reason}\n\n{traceback.format_exc()}")
        sys.exit(FAILED)


def run_stage(study: StudyFolder, stage: Stage, device: str = "auto") -> None:
    """Train a stage, or go on where a killed process left it."""
    run = study.run_of(stage.name)
    write_json(
        run.folder / "stage.json",
        {"kind": stage.kind, "start": stage.start.name if stage.start else None},
    )
    if run.config_path.exists() and not run.record_path.exists():
        resume(run.folder)
    else:
        train(study.config_of(stage, device=device))
    for path in run.text.glob("*"):  # the tokens that pre-training has read
        path.unlink()


def describe(study: StudyFolder, stage: Stage) -> str:
    """What a finished stage reached, in a line."""
    record = study.run_of(stage.name).record()
    scores = [
        f"{task} {name} {value:.3f}"
        for task, metrics in record["dev"].items()
        for name, value in list(metrics.items())[:1]
    ]
    return f"done: {stage.name}: {', '.join(scores)}; {record['seconds']:.0f} s"


def _context() -> SpawnContext | ForkServerContext:
    """Processes that begin with the imports done, and with nothing else of this one."""
    if sys.platform == "win32":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["multitask.study.stage_runner", "matplotlib.backends.backend_agg"]
    )
    return context


def _end_with_parent() -> None:
    """End this process, as by a kill, when the one that started it is gone."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _stopping(process: BaseProcess) -> Generator[threading.Event]:
    """An event that is set when the user wants to stop, and the stage's process has been told.

    SIGTERM is passed on; of Ctrl-C the terminal tells all processes itself.
    """
    stopped = threading.Event()

    def stop(number: int, frame: object) -> None:
        stopped.set()
        if number == signal.SIGTERM and process.is_alive():
            process.terminate()

    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    former = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stopped
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
