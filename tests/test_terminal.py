"""Streams that are closed, full, or short of signs; Ctrl-C; what a user sees of an error."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lab import terminal
from lab.terminal import errors_as_messages
from multitask.commands.messages import command_line

ROOT = Path(__file__).resolve().parent.parent
SIGNS = "√ 😀"

# What a child does after `errors_as_messages` has made its streams ready.
PRINTS = f"print({SIGNS!a}); print('so', file=sys.stderr); sys.stdin.read()"


def start(body, redirection="", **environment):
    """Run a program in the shell, with streams redirected; gives exit status, output, errors."""
    code = "import os, sys\nfrom lab.terminal import errors_as_messages\n"
    code += f"with errors_as_messages():\n    {body}\n"
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -S -c "$1" {redirection}', sys.executable, code],
        cwd=ROOT, env={**os.environ, **environment}, capture_output=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_an_empty_one(closed, tmp_path):
    """And no file that is opened later gets its number, to be written into by whoever prints."""
    file = tmp_path / "file"
    body = f"{PRINTS}; f = open({str(file)!a}, 'wb'); f.write(bytes([48 + f.fileno()]))"
    code, out, err = start(body, closed, PYTHONIOENCODING="utf-8")
    assert code == 0 and int(file.read_text(encoding="utf-8")) > 2
    assert out == ("" if " >" in f" {closed}" else f"{SIGNS}\n")
    assert err == ("" if "2>" in closed else "so\n")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("end", ["", "; sys.exit(0)"])
def test_a_full_disk_is_an_error(unbuffered, end):
    code, out, err = start(f"print('x'){end}", ">/dev/full", PYTHONUNBUFFERED=unbuffered)
    assert (code, out) == (2, "") and err.startswith("error: ") and err.count("\n") == 1
    assert "No space left on device" in err


def test_errors_that_cannot_be_said_still_count():
    assert start("raise ValueError('x')", "2>/dev/full") == (2, "", "")


@pytest.mark.parametrize(
    "environment",
    [{"PYTHONIOENCODING": "cp1252"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}, {"PYTHONUTF8": "1"}],
    ids=str,
)
def test_a_sign_that_the_encoding_lacks_is_escaped(environment):
    clean = {"PYTHONIOENCODING": "", "PYTHONUTF8": "", "PYTHONCOERCECLOCALE": "0", **environment}
    expected = SIGNS if clean["PYTHONUTF8"] == "1" else r"\u221a \U0001f600"
    assert start(f"print({SIGNS!a})", **clean) == (0, f"{expected}\n", "")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_gone_is_the_signal_of_a_pipe(unbuffered):
    code = "from lab.terminal import errors_as_messages\nwith errors_as_messages(): print('x')"
    with subprocess.Popen(
        [sys.executable, "-S", "-c", f"input()\n{code}"], cwd=ROOT, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    ) as process:  # fmt: skip
        process.stdout.close()
        _, err = process.communicate(b"\n")
    assert (process.returncode, err) == (141, b"")


@pytest.mark.parametrize(
    "error, code, says",
    [
        (KeyboardInterrupt(), 130, "stopped\n"),
        (KeyboardInterrupt("go on with x"), 130, "go on with x\n"),
        (BrokenPipeError(32, "Broken pipe"), 141, ""),
        (FileNotFoundError(2, "No such file", "x"), 2, "error: [Errno 2] No such file: 'x'\n"),
        (RuntimeError("out of memory\nat x"), 2, "error: not enough memory: out of memory; "),
        (SystemExit(3), 3, ""),
    ],
    ids=repr,
)
def test_how_a_program_ends(error, code, says, capsys):
    def fail():
        with errors_as_messages():
            print("before")
            raise error

    with pytest.raises(SystemExit) as end:
        fail()
    out, err = capsys.readouterr()
    assert (end.value.code, out) == (code, "before\n")
    assert err.startswith(says) and bool(err) == bool(says)


def test_ctrl_c_while_the_command_line_is_imported_is_no_traceback():
    code = (
        "import sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == 'multitask.commands.main': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "from multitask.__main__ import main\n"
        "loaded = {'tyro', 'torch', 'numpy', 'msgspec'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"stopped\n")


def test_words_that_are_no_text_are_refused(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["minbert", "train", "--out", "café"])
    assert command_line() == ["train", "--out", "café"]
    monkeypatch.setattr(sys, "argv", ["minbert", "train", "--out", "caf\udcc3\udca9"])
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "ascii")
    with pytest.raises(ValueError, match=r"'caf\\udcc3\\udca9' is not text .* set PYTHONUTF8=1"):
        command_line()


def test_a_notebooks_streams_are_left_alone(monkeypatch):
    class Notebook:
        def write(self, text):
            pass

        def flush(self):
            pass

    stream = Notebook()
    monkeypatch.setattr(sys, "stdout", stream)
    terminal._open_streams()
    assert sys.stdout is stream
