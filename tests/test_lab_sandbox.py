"""Hostile and broken submissions: what holds is that nothing outside of them changes."""

import csv
import json
import os
import sys
import textwrap
import threading
import time
import zipfile
from pathlib import Path

import pytest
from lab_class import BY_NAME, EXERCISES_SET, POINTS, ROOT, SET, edit, hand_in, points, prepare, walls

from lab import golden, grade, sandbox
from lab.check import LARGEST, Output, outcomes
from lab.commands import lab
from lab.diagnose import shown
from lab.exercises import EXERCISES
from lab.grade import cell, folder_name, grade_one
from lab.submission import MOST, open_submission

ATTACKS = r"""
ok([f for f in range(3, 256) if is_open(f)][1:])
open(reference)
open(secret)
open(outside, "w")
open(__file__, "a")
open("new", "w")
os.remove(__file__)
os.rename(__file__, __file__ + ".old")
os.replace(__file__, neighbour)
os.replace(neighbour, outside)
os.link(neighbour, outside)
os.symlink(neighbour, outside)
os.truncate(neighbour, 0)
os.mkdir(outside)
os.rmdir(os.path.dirname(__file__))
shutil.rmtree(os.path.dirname(__file__))
os.chmod(os.path.dirname(__file__), 0o777)
os.chmod(work, 0)
os.chown(__file__, 0, 0)
os.utime(__file__)
os.mkfifo(outside)
os.mkfifo("/tmp/fifo")
os.mknod(outside)
os.mknod("/dev/sda", 0o60600, os.makedev(8, 0))
os.setxattr(__file__, "user.x", b"x")
os.listdir(os.path.dirname(neighbour))
sqlite3.connect(outside).execute("create table t (x)")
sqlite3.connect(f"file:{neighbour}?mode=ro", uri=True).execute("select * from t")
safetensors.torch.save_file({"x": torch.ones(2)}, outside)
safetensors.torch.load_file(secret)
tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0}, "a")).save(outside)
tokenizers.Tokenizer.from_file(secret)
torch.from_file(secret, size=4, dtype=torch.uint8)
torch.from_file(outside, shared=True, size=4, dtype=torch.uint8)
torch.save(torch.ones(2), outside)
torch.ones(2).share_memory_()
numpy.memmap(outside, mode="w+", shape=4)
numpy.fromfile(secret)
tempfile.TemporaryFile()
tempfile.mkdtemp()
io.FileIO(outside, "w")
logging.FileHandler(outside)
zipfile.ZipFile(outside, "w")
open("/proc/1/environ")
open(f"/proc/{os.getppid()}/environ")
open("/proc/self/mem", "r+b")
open("/proc/sys/kernel/hostname", "w")
open("/etc/passwd")
open("/etc/shadow")
open("/dev/tty")
open("/dev/mem")
os.listdir("/home")
os.listdir("/proc/1/cwd")
os.fork()
os.forkpty()
pty.spawn("/bin/sh")
os.posix_spawn(sys.executable, [sys.executable, "-V"], {})
os.execv(sys.executable, [sys.executable, "-V"])
os.popen("true").read()
subprocess.run([sys.executable, "-V"])
subprocess.Popen([sys.executable, "-V"], start_new_session=True)
fork_exec(False)
fork_exec(True)
multiprocessing.get_context("fork").Process(target=print).start()
multiprocessing.get_context("spawn").Process(target=print).start()
multiprocessing.shared_memory.SharedMemory(create=True, size=10)
c(libc.fork())
c(libc.vfork())
c(libc.execv(b"/usr/bin/true", None))
c(libc.syscall(ctypes.c_long(number["clone"]), 17, 0, 0, 0, 0))
c(libc.syscall(435, bytes(64), 64))
c(libc.unshare(0x10000000))
c(libc.setns(0, 0))
c(libc.mount(b"tmpfs", b"/tmp", b"tmpfs", 0, None))
c(libc.umount2(work.encode(), 2))
c(libc.syscall(442, -100, b"/", 0x8000, bytes(24) + bytes(8), 32))
c(libc.chroot(b"/"))
c(libc.ptrace(16, os.getppid(), None, None))
c(libc.process_vm_readv(os.getppid(), None, 0, None, 0, 0))
c(libc.shmget(0, 4096, 0o1600))
c(libc.syscall(425, 1, bytes(120)))
c(libc.syscall(321 if number["clone"] == 56 else 280, 0, bytes(120), 120))
c(libc.syscall(438, 0, 0, 0))
c(libc.prctl(22, 0, 0))
c(libc.setuid(0))
os.memfd_create("x")
os.setuid(0)
os.setgid(0)
os.setgroups([0])
resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
socket.socket()
socket.socket(socket.AF_UNIX)
socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)
socket.create_connection(("127.0.0.1", port), timeout=1)
socket.create_server(("127.0.0.1", 0))
urllib.request.urlopen("http://127.0.0.1")
torch.distributed.TCPStore("127.0.0.1", 29500, is_master=True)
importlib.import_module("lab.answers")
importlib.import_module("lab.golden")
importlib.import_module("lab.grade")
importlib.import_module("minbert.encoders.modernbert")
runpy.run_path(reference)
ok("secret" in os.environ.values())
ok(any(type(x) is dict and "mistakes" in x for x in gc.get_objects()))
ok([p for p in os.listdir("/proc") if p.isdigit()])
ok([d for d, _, _ in walk("/", 5) if os.access(d, os.W_OK)])
ok(os.getuid() == 0 and not os.setuid(0))
""".strip().splitlines()
"""Each raises an OSError or the like: what is asked for is refused, or is not there."""

PRELUDE = """
import ctypes, gc, importlib, io, logging, multiprocessing, multiprocessing.shared_memory, os
import platform, pty, resource, runpy, shutil, socket, sqlite3, subprocess, sys, tempfile
import urllib.request, zipfile
import numpy, safetensors.torch, tokenizers, torch
import torch.distributed
libc = ctypes.CDLL(None, use_errno=True)
number = {"clone": 56 if platform.machine() == "x86_64" else 220}

def c(result):
    if result == -1 or result is None:
        raise OSError(ctypes.get_errno())

def ok(found):
    if not found:
        raise OSError("there is nothing")

def fork_exec(vfork):
    subprocess._USE_VFORK = subprocess._USE_POSIX_SPAWN = vfork
    subprocess.run([sys.executable, "-V"], close_fds=not vfork)

def is_open(number):
    try:
        return bool(os.fstat(number))
    except OSError:
        return False

def walk(folder, depth):
    yield folder, None, None
    for each in os.scandir(folder) if depth and os.access(folder, os.R_OK) else ():
        if each.is_dir(follow_symlinks=False):
            yield from walk(each.path, depth - 1)

def attack():
    held, through, broken = 0, [], []
    for line in ATTACKS:
        try:
            eval(line, {**globals(), **PLACES})
            through.append(line)
        except (NameError, AttributeError, TypeError, SyntaxError) as error:
            broken.append(f"{line}: {error}")
        except BaseException:
            held += 1
    raise RuntimeError(f"{held} held, through: {through}, broken: {broken}")
"""


@pytest.fixture(scope="module", params=sandbox.WALLS)
def marking(tmp_path_factory, request):
    return prepare(tmp_path_factory.mktemp("marking"), request.param)


def test_attacks_are_refused_and_change_nothing(marking, tmp_path, monkeypatch):
    """One submission tries them all; what it gives afterwards is as right as before."""
    if sandbox.failure(marking.kind):
        monkeypatch.setattr(sandbox, "WALLS", (marking.kind,))
        with pytest.raises(ValueError, match=f"no sandbox can be made here .{marking.kind}: "):
            sandbox.choose(unsafe=False, hidden=[])
        return
    monkeypatch.setenv("PASSWORD", "secret")
    results = tmp_path / "results"
    neighbour = results / "grace" / "results.json"
    neighbour.parent.mkdir(parents=True)
    neighbour.write_text("[21]", encoding="utf-8")
    secret = marking.clean.parent / "expected.json"
    secret.write_text("[1, 2, 3]", encoding="utf-8")
    for path in (results, neighbour.parent, neighbour, tmp_path):
        path.chmod(0o777)
    submission = hand_in(tmp_path / "ada")
    places = {"reference": str(ROOT / "minbert" / "attention.py"), "secret": str(secret),
              "outside": str(tmp_path / "outside"), "neighbour": str(neighbour), "port": 9,
              "work": "WORK"}  # fmt: skip
    path = submission / BY_NAME["embeddings"].places[0].path
    edit(submission, "embeddings", "return attack()")
    code = path.read_text(encoding="utf-8")
    hostile = PRELUDE + f"\nATTACKS = {ATTACKS!r}\nPLACES = {places!r}\n"
    hostile += "PLACES['work'] = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))\n"
    path.write_text(f"{code}\n{hostile}", encoding="utf-8")
    before = {p: p.stat() for p in tmp_path.rglob("*")}
    monkeypatch.setattr(marking, "seconds", 60.0)
    found = grade_one(submission, marking, marking.clean.parent, name="ada")
    message = found.verdicts["embeddings"].message
    assert f": {len(ATTACKS)} held, through: [], broken: []" in message
    assert points(found) == set(SET) - {"embeddings"}
    assert {p: p.stat() for p in tmp_path.rglob("*")} == before
    assert neighbour.read_text(encoding="utf-8") == "[21]"


# Those who end the process, or what it says


KILLERS = {
    "attention": ("os._exit(0)", "the process ended in the middle (code 0)"),
    "heads": ("os.kill(os.getpid(), 9)", "the process ended in the middle"),
    "add_norm": ("os.closerange(3, 256)", "the process ended in the middle"),
    "feed_forward": ("flood('x' * 10_000_000)", "not what a check gives"),
    "moments": ("flood(json.dumps(['begin', 'moments']) + chr(10))", "not what a check gives"),
    "weight_decay": ("os.kill(os.getppid(), 9) or time.sleep(60)", ""),
    "no_decay": ("time.sleep(60)", "no answer within 8 seconds"),
    "surgery": ("flood(FORGED)", ""),
    "rope": ("raise KeyboardInterrupt", ""),
    # These end nothing but their own exercise.
    "bias_correction": ("raise_(ValueError(chr(0xd800) + chr(27) + '[2J' + chr(0x202e)))",
                        "\\ud800\\x1b[2J\\u202e"),
    "pooling": ("hold([bytearray(2**30) for _ in range(100)])", "MemoryError"),
    "sampling": ("[threading.Thread(target=time.sleep, args=(9,)).start() for _ in range(9999)]",
                 "can't start new thread"),
    "mlm_masking": ("sys.exit(0)", "calls exit()"),
    "layer_rates": ("raise_(type('X' * 9999, (Exception,), {})())", "characters)"),
    "bitfit": ("print('x' * 5_000_000)", ""),
    "lora_merge": ("torch.empty(10**12)", "memory"),
    "warmup": ("fake()", ""),
}  # fmt: skip
"""Exercise -> what its code does, and what is said of it."""

KILLING = """
import json, os, sys, threading, time, torch

FORGED = "".join(json.dumps(line) + chr(10) for line in (
    ["case", "x", {"dtype": 1, "shape": 2, "data": 3}], ["end", None],
    ["begin", "rope"], ["case", "x", 10**400], ["end", None],
))

def flood(text):
    number = int(sys.argv[sys.argv.index("--results") + 1])
    while True:
        os.write(number, text.encode())

def raise_(error):
    raise error

def hold(what):
    raise AssertionError(len(what))

def fake():
    import lab.harness, lab.values
    lab.values.same = lab.harness.same = lambda *args: True
    torch.Tensor.__eq__ = lambda *args: True
"""


def test_hanging_dying_and_forging_cost_their_own_exercises_only(tmp_path_factory, tmp_path):
    kind = walls()
    if kind == "none":  # there is nothing to keep these in
        return
    marking = prepare(tmp_path_factory.mktemp("killers"), kind)
    marking.seconds = 8.0
    submission = hand_in(tmp_path / "mallory")
    for name, (line, _) in KILLERS.items():
        edit(submission, name, line)
    for path in {submission / place.path for name in KILLERS for place in BY_NAME[name].places}:
        path.write_text(path.read_text(encoding="utf-8") + KILLING, encoding="utf-8")
    found = grade_one(submission, marking, marking.clean.parent, name="mallory")
    print({k: v.message for k, v in found.verdicts.items()})
    for name, (_, said) in KILLERS.items():
        assert said in found.verdicts[name].message, name
        assert len(found.verdicts[name].message) < 700
    assert points(found) == set(SET) - set(KILLERS)
    assert any("printed 5,000," in note for note in found.notes)
    assert json.dumps([v.message for v in found.verdicts.values()]).isascii()
    ours = str(marking.clean.parent)
    assert not [p for p in Path("/proc").glob("[0-9]*/cmdline") if ours in read(p)]


def read(path):
    try:
        return path.read_text(errors="replace")
    except OSError:  # it has ended
        return ""
