"""Works through jobs, here or each in a process of its own, beside other processes and hosts.

Whoever claims a job's folder first runs it (minbert/claim.py); what others do is read from the
folders, so the same command may be started as often as there are processors, GPUs or hosts.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Literal

from minbert.claim import Busy, claimed, holder
from minbert.files import write_text
from minbert.quick import keep_freed_memory
from multitask.config import AnyConfig
from multitask.experiments.jobs import Job, failure_of, jobs_of, missing
from multitask.runs.run import Run

if TYPE_CHECKING:  # Windows has no fork servers
    from multiprocessing.context import ForkServerContext, SpawnContext

KeepWeights = Literal["all", "starts", "none"]
POLL = 2.0
"""Seconds between two looks for a job to run, while others run them all."""
BUSY, FAILED = 3, 4
"""How a job's process ends when another has the job, or when training failed."""


def finish(configs: Iterable[AnyConfig], *, progress: bool = True) -> list[Run]:
    """The finished runs of configs, one after the other in this process.

    Raises:
        ValueError: a folder holds a run with other settings, or training fails.
    """
    queue = Queue(jobs_of(configs), apart=False, progress=progress)
    queue.work()
    return [job.run for job in queue.jobs]


@dataclass
class Queue:
    """Jobs, worked through until nothing is left that can be done."""

    jobs: Sequence[Job]
    apart: bool = True
    """Each in a process of its own, so that one that fails, or is killed for its memory, takes no
    other with it, and its record shows its own memory. In this process, an error ends the work."""
    keep_weights: KeepWeights | None = None
    """Of what is done, keep no state to resume from, and weights: all; those that others start
    from; or these too only until no job needs them. Without it, nothing is removed."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Name of a job -> what it is for."""
    progress: bool = True
    failed: dict[str, str] = field(default_factory=dict)
    """Name of a job -> why it failed, in this call or in one beside it."""

    def work(self) -> bool:
        """Run what is missing; True if all is done."""
        if done := sum(job.is_done for job in self.jobs):
            print(f"{done} of {len(self.jobs)} runs are done already", file=sys.stderr, flush=True)
        every = {part.name: part for job in self.jobs for part in job.chain}
        self._old_failures = {name: _time_of_failure(job) for name, job in every.items()}
        waited_for: set[str] = set()
        while left := self._left():
            self._tidy()
            ready = [job for job in left if job.start is None or job.start.can_start_others]
            job = next((job for job in ready if holder(job.run.folder) is None), None)
            if job is not None:
                self._run(job, len(left))
                continue
            for job in ready:
                who = holder(job.run.folder)
                if who is not None and job.name not in waited_for:
                    text = f"waiting for {job.name}, which is run by {who}"
                    print(text, file=sys.stderr, flush=True)
                    waited_for.add(job.name)
            time.sleep(POLL)
        self._tidy()
        return not missing(self.jobs)

    def _left(self) -> list[Job]:
        """What can still be run: neither finished, nor failed, nor after a job that failed."""
        left = missing(self.jobs)
        for job in left:
            if _time_of_failure(job) != self._old_failures[job.name]:
                self.failed[job.name] = _reason(job)
        return [j for j in left if not any(part.name in self.failed for part in j.chain)]

    def _run(self, job: Job, left: int) -> None:
        """Run a job, and say how it went."""
        what_for = f" for {self.reasons[job.name]}" if job.name in self.reasons else ""
        print(f"\n[{left} to do] {job.name}{what_for}", file=sys.stderr, flush=True)
        starts = {part.name for other in missing(self.jobs) for part in other.chain[:-1]}
        arguments = (job, job.name in starts, self.progress)
        if not self.apart:
            with suppress(Busy):  # another was quicker to claim it, and this one looks further
                make(*arguments)
                print(describe(job), file=sys.stderr, flush=True)
            return
        process = _context().Process(target=make_apart, args=arguments, name=job.name)
        process.start()
        with _stopping(process) as stopped:
            process.join()
        if stopped.is_set() or process.exitcode == 130:
            raise KeyboardInterrupt(f"stopped in {job.name}; the same command goes on from there")
        if process.exitcode == 0:
            print(describe(job), file=sys.stderr, flush=True)
        elif process.exitcode != BUSY:
            if process.exitcode != FAILED:
                end = f"its process ended with code {process.exitcode}"
                if process.exitcode == -9:  # SIGKILL, which Windows has not
                    end += ": it was killed, perhaps for want of memory"
                write_text(failure_of(job.run), end + "\n")
            print(f"failed: {job.name}: {_reason(job)}", file=sys.stderr, flush=True)

    def _tidy(self) -> None:
        """Remove the state and the weights of finished jobs that nothing needs any more."""
        if self.keep_weights is None:
            return
        needing = missing(self.jobs) if self.keep_weights == "none" else self.jobs
        starts = {part.name for job in needing for part in job.chain[:-1]}
        for job in {part.run.folder: part for j in self.jobs for part in j.chain}.values():
            if not job.is_done:
                continue
            job.run.last.unlink(missing_ok=True)
            for path in job.run.text.glob("*"):  # the tokens that pre-training has read
                path.unlink()
            if self.keep_weights != "all" and job.name not in starts:
                job.run.best.unlink(missing_ok=True)
                (job.run.backbone / "model.safetensors").unlink(missing_ok=True)


def make(job: Job, starts_others: bool, progress: bool) -> None:
    """Claim a job and make it, unless another has finished it just now.

    Raises:
        Busy: another makes it.
    """
    with claimed(job.run.folder):
        if not (job.can_start_others if starts_others else job.is_done):
            job.make(progress=progress)


def make_apart(job: Job, starts_others: bool, progress: bool) -> None:
    """A job's process: make it, and end with 0, BUSY, FAILED or 130."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    keep_freed_memory()
    try:
        make(job, starts_others, progress)
        failure_of(job.run).unlink(missing_ok=True)
    except Busy:
        sys.exit(BUSY)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        reason = str(error) or type(error).__name__
        write_text(failure_of(job.run), f"{reason}\n\n{traceback.format_exc()}")
        sys.exit(FAILED)


def describe(job: Job) -> str:
    """What a finished job reached, in a line."""
    record = job.run.record()
    scores = [
        f"{task} {name} {value:.3f}"
        for task, metrics in record["dev"].items()
        for name, value in list(metrics.items())[:1]
    ]
    return f"done: {job.name}: {', '.join(scores)}; {record['seconds']:.0f} s"


def _reason(job: Job) -> str:
    return failure_of(job.run).read_text(encoding="utf-8").splitlines()[0]


def _time_of_failure(job: Job) -> int | None:
    path = failure_of(job.run)
    return path.stat().st_mtime_ns if path.exists() else None


def _context() -> SpawnContext | ForkServerContext:
    """Processes that begin with the imports done, and with nothing else of this one."""
    if sys.platform == "win32":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "matplotlib.backends.backend_agg"])
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
