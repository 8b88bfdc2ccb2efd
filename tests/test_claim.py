"""One writer to a folder: who comes second is told who came first, and changes nothing."""

import multiprocessing
import os
import re
import signal
import socket
import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import config, contents

from minbert.claim import LOCK, Busy, claimed, holder
from multitask import resume, train
from multitask.experiments import queue
from multitask.runs import run as run_module
from multitask.runs.run import Run

pytestmark = pytest.mark.usefixtures("no_figure")
FORK = multiprocessing.get_context("fork")


def everything(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def apart(act, *arguments):
    """Begin a function in a process of its own; gives the process and the end of a pipe to it."""
    ours, theirs = FORK.Pipe()
    process = FORK.Process(target=act, args=(theirs, *arguments))
    process.start()
    return process, ours


def hold(pipe, folder):
    """Claim a folder, say how that went, and keep it until told."""
    try:
        with claimed(folder):
            pipe.send("mine")
            pipe.recv()
    except Busy as error:
        pipe.send(str(error))


@pytest.fixture
def held(tmp_path):
    """Hold a folder in another process."""
    with ExitStack() as stack:

        def begin(folder):
            process, pipe = apart(hold, folder)
            stack.callback(process.join)
            stack.callback(process.kill)
            assert pipe.recv() == "mine"
            return process, pipe

        yield begin


def test_of_many_that_come_at_once_one_gets_the_folder(tmp_path):
    for number in range(5):
        folder = tmp_path / f"{number}" / "run"
        found = [apart(hold, folder) for _ in range(6)]
        answers = [pipe.recv() for _, pipe in found]
        assert answers.count("mine") == 1
        winner, pipe = found[answers.index("mine")]
        (told,) = {answer for answer in answers if answer != "mine"}
        who = rf"process {winner.pid} on {re.escape(socket.gethostname())}, since \d{{4}}-[\d: -]+"
        assert re.fullmatch(
            rf"{folder} is being written to by {who}; wait for it to end, or name another folder",
            told,
        )
        assert re.fullmatch(who, holder(folder))
        pipe.send("end")
        for process, _ in found:
            process.join()
            assert process.exitcode == 0
        assert list(tmp_path.iterdir()) == []  # nothing was written, so nothing is left


def test_a_killed_holder_lets_go_and_a_suspended_one_does_not(tmp_path, held):
    process, _ = held(tmp_path / "run")
    os.kill(process.pid, signal.SIGSTOP)
    with pytest.raises(Busy, match=f"by process {process.pid} on "), claimed(tmp_path / "run"):
        pass
    process.kill()
    process.join()
    assert holder(tmp_path / "run") is None
    with claimed(tmp_path / "run"):
        assert holder(tmp_path / "run").startswith(f"process {os.getpid()} on ")
        (tmp_path / "run" / "file").touch()
    assert contents(tmp_path / "run").keys() == {"file"}
    assert holder(tmp_path / "run") is holder(tmp_path / "nowhere") is None


def test_a_thread_may_claim_again_what_it_holds_and_another_may_not(tmp_path):
    def told():
        try:
            with claimed(tmp_path, wait=0):
                answers.append("mine")
        except Busy as error:
            answers.append(str(error))

    def in_a_thread():
        thread = threading.Thread(target=told)
        thread.start()
        thread.join()

    answers = []
    with claimed(tmp_path):
        with claimed(tmp_path / "." / ""):
            told()
        in_a_thread()
    in_a_thread()
    assert answers[::2] == ["mine", "mine"] and f"process {os.getpid()} on" in answers[1]


BAD = {
    "a file": ("file", "it is a file"),
    "in a file": ("file/run", "Not a directory"),
    "a name too long": ("x" * 300, "File name too long"),
    "where nothing can be made": ("/proc/nothing/run", ""),
}


@pytest.mark.parametrize("name", BAD)
def test_a_folder_that_cannot_be_written_to_is_found_before_data_is_read(folder, tmp_path, name):
    place, reason = BAD[name]
    (tmp_path / "file").write_text("kept", encoding="utf-8")
    settings = config(folder, data_dir=tmp_path / "no data", out=tmp_path / place)
    with pytest.raises(OSError, match=rf"cannot be written to: {reason}.*; name another folder"):
        train(settings, progress=False)
    assert contents(tmp_path) == {"file": b"kept"}


def test_a_full_disk_is_found_before_data_is_read(folder, tmp_path, monkeypatch):
    def fail(path, *args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(OSError, match="run cannot be written to: No space left on device"):
        train(config(folder, data_dir=tmp_path / "no data", out=tmp_path / "run"))
    assert list(tmp_path.iterdir()) == []


def begin(pipe, settings):
    """Begin a run, say where, and write its config when told."""
    with Run.begin(settings) as run:
        pipe.send(run.folder.name)
        pipe.recv()
        run.config_path.touch()


def test_runs_begun_in_the_same_second_have_folders_of_their_own(folder, tmp_path, monkeypatch):
    class Clock(run_module.datetime):
        @classmethod
        def now(cls):
            return cls(2026, 1, 2, 3, 4, 5)

    monkeypatch.setattr(run_module, "datetime", Clock)
    monkeypatch.chdir(tmp_path)
    settings = replace(config(folder, tasks=("sst",)), out=None, overwrite=True)
    found = [apart(begin, settings) for _ in range(3)]
    names = {pipe.recv() for _, pipe in found}
    assert names == {f"20260102-030405-sst{end}" for end in ("", "-2", "-3")}
    for process, pipe in found:
        pipe.send("write")
        process.join()
    with Run.begin(settings) as run:  # --overwrite is for a folder that was named
        assert run.folder == Path("runs/20260102-030405-sst-4")
    assert {path.name for path in Path("runs").iterdir()} == names


@pytest.mark.parametrize("frozen", [False, True])
def test_whoever_comes_second_to_a_run_changes_nothing(folder, held, frozen):
    settings = config(folder, tasks=("sst",), epochs=1, frozen=frozen)
    run = train(settings, progress=False)
    _, pipe = held(run.folder)
    before = everything(run.folder)
    for act in (
        lambda: resume(run.folder, progress=False),
        lambda: train(replace(settings, overwrite=True), progress=False),
        lambda: train(settings, progress=False),
    ):
        with pytest.raises(Busy, match="is being written to by process"):
            act()
    assert everything(run.folder) == before
    pipe.send("end")
    resume(run.folder, progress=False)
    assert not (run.folder / LOCK).exists()


def test_who_begins_with_the_same_run_at_once_goes_on_with_the_next(
    folder, tmp_path, held, monkeypatch, capsys
):
    """Of two that saw the first run free, one was quicker; the other makes the second run."""
    first, second = (config(folder, out=tmp_path / name) for name in "ab")
    _, pipe = held(first.out)
    looks = []

    def late(place):
        looks.append(place)
        return None if len(looks) == 1 else holder(place)

    def let_go():
        while not Run(second.out).record_path.exists():
            time.sleep(0.02)
        pipe.send("let go")

    monkeypatch.setattr(queue, "holder", late)
    monkeypatch.setattr(queue, "POLL", 0.05)
    thread = threading.Thread(target=let_go, daemon=True)
    thread.start()
    runs = queue.finish([first, second], progress=False)
    thread.join()
    said = capsys.readouterr().err
    assert [run.record_path.exists() for run in runs] == [True, True]
    assert [line.split(":")[1] for line in said.splitlines() if "done:" in line] == [" b", " a"]
    assert "run by None" not in said
