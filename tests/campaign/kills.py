"""Runs that are killed, once or several times, and go on: each must end as one left alone.

The moment is drawn three ways: at one of all calls that the run makes, at one of those that write
its files (where the file that was being written is cut, too), or at a time. The first two are the
same moment whenever a case is tried again.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

from campaign.cases import Case, Done, check_message, kind, require
from campaign.runs import SAVING, Alone, finish, left_alone, words_to_go_on
from campaign.same import check_same


@kind("kill", "Killed or stopped at any moment, and continued, a run ends as one left alone.", 120)
def kill(case: Case) -> None:
    alone, place = left_alone(case), case.folder / "run"
    for life in range(case.draw.choice([1, 1, 1, 2, 3])):
        reaper = Reaper(case, alone, place)
        outside = case.draw.random() < 0.04
        words = words_to_go_on(alone, place)
        done = reaper.reap_outside(words) if outside else reaper.reap(words)
        reaper.check(done)
        case.note(f"life {life + 1} ended with {done.status}")
    finish(case, alone, place)
    check_same(place, alone.folder)


class Reaper:
    """Ends a run at a drawn moment, by a drawn signal."""

    def __init__(self, case: Case, alone: Alone, place: Path) -> None:
        self.case, self.place, draw = case, place, case.draw
        self.signals = draw.choice([[signal.SIGKILL]] * 4 + [[signal.SIGINT], [signal.SIGTERM],
                                   [signal.SIGINT, signal.SIGINT]])  # fmt: skip
        self.way = draw.choice(["call", "saving", "saving", "time"])
        self.moment = draw.random()
        self.seconds = self.moment * alone.seconds
        self.calls = int(self.moment * (alone.saving if self.way == "saving" else alone.calls))
        self.cut = draw.random() if draw.random() < 0.5 else None
        names = "+".join(signal.Signals(each).name for each in self.signals)
        case.note(f"{names} by {self.way} at {self.moment:.3f}")

    def reap(self, words: list[Any]) -> Done:
        """Run a command, and end it."""
        if self.way != "time":
            return self.case.run(*words, before=self._strike_later)
        process = self.case.start(*words)
        time.sleep(self.seconds)
        for number in self.signals:
            process.kill(number)
        return process.wait()

    def reap_outside(self, words: list[Any]) -> Done:
        """The same with a process that is not forked from this one, and imports all by itself."""
        self.case.note("in a process of its own")
        command = [sys.executable, "-m", "multitask", *map(str, words)]
        path = os.pathsep.join(os.path.abspath(each) for each in sys.path)
        with (self.case.folder / "errors").open("w+") as errors:
            environment = {**os.environ, "PYTHONPATH": path}
            process = subprocess.Popen(command, env=environment, stdout=errors, stderr=errors)
            try:
                process.wait(10 * self.moment)
            except subprocess.TimeoutExpired:
                for number in self.signals:
                    process.send_signal(number)
            process.wait()
            errors.seek(0)
            return Done(tuple(map(str, words)), process.returncode, "", errors.read(), 0)

    def check(self, done: Done) -> None:
        """A signal that can be handled ends a run with a message, or before there is one."""
        if self.signals == [signal.SIGKILL]:
            require(done.status in (-signal.SIGKILL, 0), f"ended with {done.status}: {done.errors}")
        else:
            statuses = (0, 130, -signal.SIGTERM, -signal.SIGINT)
            check_message(done, statuses=statuses, begin="stopped")

    def _strike_later(self) -> None:
        left = [self.calls]

        def note(frame: FrameType, event: str, arg: object) -> None:
            if self.way == "saving" and not frame.f_code.co_filename.endswith(SAVING):
                return
            left[0] -= 1
            if left[0] < 0:
                sys.setprofile(None)
                if self.signals == [signal.SIGKILL] and self.way == "saving":
                    self._cut_what_is_written()
                for number in self.signals:
                    os.kill(os.getpid(), number)

        sys.setprofile(note)

    def _cut_what_is_written(self) -> None:
        """As if the process had been killed in the middle of writing a file."""
        if self.cut is None:
            return
        for path in self.place.rglob(".*.tmp"):
            os.truncate(path, int(self.cut * path.stat().st_size))
