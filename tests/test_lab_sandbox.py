"""Hostile and broken submissions: what holds is that nothing outside of them changes."""

import csv
import json
import os
import zipfile
from pathlib import Path

import pytest
from lab_class import (
    BY_NAME,
    EXERCISES_SET,
    ROOT,
    SET,
    edit,
    hand_in,
    points,
    prepare,
    walls,
)

from lab import golden, grade, sandbox
from lab.collect import folder_name
from lab.commands import lab
from lab.diagnose import shown
from lab.exercises import EXERCISES
from lab.grade import grade_one
from lab.results import cell
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


@pytest.fixture(scope="module", params=[sandbox.QUICK, *sandbox.WALLS])
def marking(tmp_path_factory, request):
    if sandbox.failure(request.param) and request.param == sandbox.QUICK:
        pytest.skip("no namespaces can be made here")
    made = prepare(tmp_path_factory.mktemp("marking"), request.param)
    yield made
    made.close()


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
    helper = path.with_name("own_helper.py")
    helper.write_text("FOUND = True\n", encoding="utf-8")
    hostile += "from minbert.encoders.own_helper import FOUND\n"
    hostile += "PLACES['work'] = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))\n"
    path.write_text(f"{code}\n{hostile}", encoding="utf-8")
    before = state(tmp_path)
    monkeypatch.setattr(marking, "seconds", 60.0)
    found = grade_one(submission, marking, name="ada")
    message = found.verdicts["embeddings"].message
    assert f": {len(ATTACKS)} held, through: [], broken: []" in message
    assert points(found) == set(SET) - {"embeddings"}
    assert state(tmp_path) == before
    assert neighbour.read_text(encoding="utf-8") == "[21]"


def state(folder):
    """All that is in a folder, but for when it was last read."""
    stats = {path: path.lstat() for path in folder.rglob("*")}
    return {p: (s.st_mode, s.st_ino, s.st_nlink, s.st_size, s.st_mtime_ns, s.st_ctime_ns)
            for p, s in stats.items()}  # fmt: skip


# Those who end the process, or what it says


KILLERS = {
    "mlm_masking": ("os._exit(0)", "the process ended in the middle (code 0)"),
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
    "pooling": ("[mmap.mmap(-1, 2**30) for _ in range(100)]", "Cannot allocate memory"),
    "sampling": ("[threading.Thread(target=time.sleep, args=(9,)).start() for _ in range(9999)]",
                 "can't start new thread"),
    "attention": ("sys.exit(0)", "calls exit()"),
    "layer_rates": ("raise_(type('X' * 9999, (Exception,), {})())", "characters)"),
    "bitfit": ("print('x' * 5_000_000)", ""),
    "lora_merge": ("torch.empty(2**32, dtype=torch.uint8)", "can't allocate memory"),
    "warmup": ("fake()", ""),
}  # fmt: skip
"""Exercise -> what its code does, and what is said of it."""

KILLING = """
import json, mmap, os, sys, threading, time, torch

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

def fake():
    import lab.upstream, lab.values
    lab.values.same = lab.upstream.same = lambda *args: True
"""


def test_hanging_dying_and_forging_cost_their_own_exercises_only(tmp_path_factory, tmp_path):
    kind = walls()
    if kind == "none":  # there is nothing to keep these in
        return
    marking = prepare(tmp_path_factory.mktemp("killers"), kind)
    marking.wait = 8
    submission = hand_in(tmp_path / "mallory")
    for name, (line, _) in KILLERS.items():
        edit(submission, name, line)
    for path in {submission / place.path for name in KILLERS for place in BY_NAME[name].places}:
        path.write_text(path.read_text(encoding="utf-8") + KILLING, encoding="utf-8")
    found = grade_one(submission, marking, name="mallory")
    for name, (_, said) in KILLERS.items():
        assert said in found.verdicts[name].message, name
        assert len(found.verdicts[name].message) < 700
    assert points(found) == set(SET) - set(KILLERS)
    assert any(note.startswith("printed ") for note in found.private)
    assert json.dumps([v.message for v in found.verdicts.values()]).isascii()
    ours = str(marking.clean.parent)
    assert not [p for p in Path("/proc").glob("[0-9]*/cmdline") if ours in read(p)]


def read(path):
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # it has ended
        return ""


# Submissions that cannot be read


def archive(path, files=(("minbert/attention.py", b"x = 1"),), **options):
    with zipfile.ZipFile(path, "w", **options) as made:
        for name, content in files:
            made.writestr(name, content)
    return path


def patched(path, *changes):
    """Bytes of a file replaced, everywhere."""
    content = path.read_bytes()
    for old, new in changes:
        assert old in content
        content = content.replace(old, new)
    path.write_bytes(content)
    return path


def halves(path, at):
    """What is before and behind one byte."""
    content = path.read_bytes()
    return content[:at], content[at + 1 :]


def entry(name, mode):
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


ONE = "minbert/attention.py"
METHOD = b"\x14\x00\x00\x00"  # version 20, flags 0; the method follows
BROKEN_ZIPS = {
    "a bad checksum": (lambda p: patched(archive(p), (b"x = 1", b"x = 2")), "Bad CRC-32"),
    "an encrypted file": (lambda p: patched(archive(p), (METHOD, b"\x14\x00\x01\x00")),
                          "is encrypted"),
    "an unknown method": (lambda p: patched(archive(p), (METHOD + b"\0\0", METHOD + b"\x63\0")),
                          "packed in an unusual way"),
    "bzip2": (lambda p: archive(p, compression=zipfile.ZIP_BZIP2), "packed in an unusual way"),
    "lzma": (lambda p: archive(p, compression=zipfile.ZIP_LZMA), "packed in an unusual way"),
    "a damaged stream": (lambda p: p.write_bytes(b"\xff".join(halves(archive(p,
                         compression=zipfile.ZIP_DEFLATED), 50))), "attention.py cannot be read"),
    "a bomb": (lambda p: archive(p, [(ONE, bytes(50_000_000))], compression=zipfile.ZIP_DEFLATED),
               "is larger than 1,000,000 bytes"),
    "one name twice": (lambda p: archive(p, [(ONE, b"x"), ("minbert\\attention.py", b"y")]),
                       "stands in the zip file twice"),
    "a link": (lambda p: archive(p, [(entry(ONE, 0o120777), b"/etc/passwd")]), "none of the files"),
    "a pipe": (lambda p: archive(p, [(entry(ONE, 0o010666), b"")]), "none of the files"),
    "a device": (lambda p: archive(p, [(entry(ONE, 0o060666), b"")]), "none of the files"),
    "a path from the root": (lambda p: archive(p, [("/" + ONE, b"x")]), "outside of itself"),
    "a path upwards": (lambda p: archive(p, [("a/../../" + ONE, b"x")]), "outside of itself"),
    "a drive": (lambda p: archive(p, [("C:\\" + ONE, b"x")]), "outside of itself"),
    "a share": (lambda p: archive(p, [("\\\\host\\" + ONE, b"x")]), "outside of itself"),
    "many files": (lambda p: archive(p, ((f"{n}", b"") for n in range(MOST + 1))),
                   "more than 20,000 files"),
    "a huge table": (lambda p: archive(p, ((f"{n:060000}", b"") for n in range(150))),
                     "table of contents is larger"),
    "a cut end": (lambda p: p.write_bytes(archive(p).read_bytes()[:-9]), "cannot be read as a zip"),
    "nothing": (lambda p: p.touch(), "cannot be read as a zip"),
    "text": (lambda p: p.write_text("PK\x03\x04", encoding="utf-8"), "cannot be read as a zip"),
    "a FIFO": (os.mkfifo, "is neither a folder nor a zip file"),
    "a link to itself": (lambda p: os.symlink(p, p), "is neither a folder nor a zip file"),
    "no file": (lambda p: None, "is neither a folder nor a zip file"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", BROKEN_ZIPS)
def test_what_cannot_be_read_is_a_note(kind, tmp_path):
    make, said = BROKEN_ZIPS[kind]
    path = tmp_path / "x.zip"
    make(path)
    with pytest.raises(ValueError, match=said):
        open_submission(path, [ONE]).read(ONE)


def test_paths_of_windows_are_read_and_pipes_in_folders_are_not(tmp_path):
    path = archive(tmp_path / "x.zip", [("a\\minbert\\attention.py", b"x = 1")])
    assert open_submission(path, [ONE]).read(ONE) == "x = 1"
    folder = tmp_path / "folder"
    (folder / "minbert").mkdir(parents=True)
    (folder / ONE).touch()
    os.mkfifo(folder / "notes.py")
    with pytest.raises(ValueError, match="is a link, a pipe or a device"):
        open_submission(folder, [ONE]).read("notes.py")


# Names


@pytest.mark.parametrize(
    "name, folder",
    [
        ("ada", "ada"),
        ("Ada Lovelace-2.zip", "Ada Lovelace-2"),
        ("zoë.zip", "zoë"),
        ("class.csv.zip", "class.csv-2"),
        ("CLASS.CSV", "CLASS.CSV-2"),
        ("...zip", "_"),
        (".zip", "_"),
        ("-rf", "rf"),
        (" . a. ", "a"),
        ("con", "_con"),
        ("LPT1.txt.zip", "_LPT1.txt"),
        ("com¹", "_com1"),
        ("=cmd|' C'!A0", "_cmd_ C_A0"),
        ('a\\b:c*d?e"f<g>h|i', "a_b_c_d_e_f_g_h_i"),
        ("a\nb\x1b[2J\x7f\u202e\udcff\0.zip", "a_b_2J_"),
        ("ﬁle／etc", "file_etc"),
        ("x" * 300, "x" * 60),
        ("日" * 300, "日" * 60),
    ],
)
def test_names_become_safe_folders(name, folder):
    assert folder_name(Path("submissions", name), []) == folder
    assert len(os.fsencode(folder)) < 255


def test_paths_become_names_and_equal_names_get_numbers(tmp_path, monkeypatch):
    assert folder_name(Path("a/../../b"), []) == "b"
    assert folder_name(Path("/"), []) == "_"
    monkeypatch.chdir(tmp_path)
    assert folder_name(Path("."), []) == tmp_path.name
    taken = []
    for name in ("Zoë", "zoe\u0308", "ZOË.zip", "Zoë"):
        taken.append(folder_name(Path(name), taken))
    assert taken == ["Zoë", "zoë-2", "ZOË-3", "Zoë-4"]


def test_what_is_shown_is_escaped_and_cut():
    assert shown("a√é\ud800\x1b[2J\n\u202e\0") == "a√é\\ud800\\x1b[2J\\n\\u202e\\x00"
    assert shown("x" * 10**6) == "x" * 500 + " ... (1,000,000 characters)"
    assert cell("=1+1; @SUM(A1);  -2") == "'=1+1; '@SUM(A1);  '-2"
    assert cell("a = b, 3 - 2; c") == "a = b, 3 - 2; c"


# The class


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """Grading without walls or expected numbers, for submissions that do not come so far."""
    monkeypatch.setattr(sandbox, "choose", lambda **_: "none")
    monkeypatch.setattr(golden, "expected", lambda exercise, seed: ({}, []))
    return tmp_path / "results"


def test_a_class_of_broken_submissions_is_graded_to_its_end(quick, tmp_path):
    names = ["class.csv.zip", "...zip", "=1+1.zip", "\udcff.zip", "a\x1b[2J.zip", "x" * 240]
    paths = []
    for name in names:
        paths.append(tmp_path / name)
        archive(paths[-1], [("lab/../../x", b"")])
    for number, (make, _) in enumerate(BROKEN_ZIPS.values()):
        if make is not os.mkfifo:
            paths.append(tmp_path / f"{number}.zip")
            make(paths[-1])
    (quick / "0").mkdir(parents=True)
    (quick / "0" / "results.json").mkdir()  # where a file should go
    (quick / "1").touch()
    paths += [tmp_path / "0.zip", tmp_path / "gone", Path("a\0b")]
    grades = grade.grade(paths, quick, exercises=EXERCISES_SET)
    rows = list(csv.DictReader((quick / "class.csv").open(encoding="utf-8", newline="")))
    assert [row["name"] for row in rows] == [cell(each.name) for each in grades]
    assert len(rows) == len(paths) == len({row["name"].casefold() for row in rows})
    assert all(row["score"] == "0" and row["notes"] for row in rows)
    written = {path.parent.name for path in quick.glob("*/results.json") if path.is_file()}
    assert written == {each.name for each in grades} - {"0", "1"}
    for name in written:
        results = json.loads((quick / name / "results.json").read_text(encoding="utf-8"))
        assert results["score"] == 0 and len(results["tests"]) - len(SET) in (1, 2)
    assert {path.parent for path in tmp_path.rglob("results.json")} <= set(quick.iterdir())


@pytest.mark.parametrize("error", [ValueError("\ud800"), MemoryError(), RecursionError("x" * 9999),
                                   UnicodeDecodeError("utf-8", b"\xff", 0, 1, "\x1b")])  # fmt: skip
def test_any_error_is_a_note_and_zero_points(error, quick, tmp_path, monkeypatch):
    def fails(*args, **options):
        raise error

    monkeypatch.setattr(grade, "open_submission", fails)
    grades = grade.grade([tmp_path / "a", tmp_path / "b"], quick, exercises=EXERCISES_SET)
    assert [each.score for each in grades] == [0, 0]
    assert all("".join(each.notes).isprintable() for each in grades)
    assert len((quick / "class.csv").read_text(encoding="utf-8").splitlines()) == 3


def test_what_was_graded_is_written_when_the_grader_is_stopped(quick, tmp_path, monkeypatch):
    def stops(path, *args, **options):
        if path.name == "c":
            raise KeyboardInterrupt
        return grade.Grade(path.name, {})

    monkeypatch.setattr(grade, "grade_one", stops)
    with pytest.raises(KeyboardInterrupt):
        grade.grade([tmp_path / name for name in "abc"], quick, exercises=EXERCISES_SET)
    assert [
        row["name"] for row in csv.DictReader((quick / "class.csv").open(encoding="utf-8"))
    ] == ["a", "b"]
    assert (quick / "b" / "results.json").is_file()


# Walls


def test_without_a_sandbox_grading_is_refused_and_unsafe_grading_works(
    tmp_path, monkeypatch, capsys
):
    failure = sandbox.failure

    def no_walls(kind):
        return "not permitted" if kind in sandbox.WALLS else failure(kind)

    monkeypatch.setattr(sandbox, "failure", no_walls)
    submission = hand_in(tmp_path / "ada")
    words = ["grade", str(submission), "--only", "optim", "--out", str(tmp_path / "out")]
    assert lab(words) == 2
    told = capsys.readouterr().err
    assert "no sandbox can be made here (bubblewrap: not permitted; namespaces: not" in told
    assert "--unsafe" in told and "docs/teaching.md" in told
    assert not (tmp_path / "out").exists()
    assert lab([*words, "--unsafe"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("warning: no sandbox can be made here (")
    assert lines[1].startswith("ada: ") and not lines[1].startswith("ada: 0 of")


def test_what_a_sandbox_would_show_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sandbox, "packages", lambda: [str(tmp_path)])
    with pytest.raises(ValueError, match=r"results is in .*, which submissions see"):
        sandbox.choose(unsafe=True, hidden=[tmp_path / "results"])


def test_an_installed_copy_of_the_library_is_hidden(tmp_path, monkeypatch):
    (tmp_path / "minbert").mkdir()
    monkeypatch.setattr(sandbox, "packages", lambda: [str(tmp_path)])
    assert str(tmp_path / "minbert") in sandbox.installed_copies()
    monkeypatch.setattr(sandbox, "_program", lambda name: name)
    command = sandbox.command("bubblewrap", tmp_path / "work", tmp_path)
    place = command.index(str(tmp_path / "minbert"))
    assert command[place - 2 : place] == ["--ro-bind", str(tmp_path / "empty")]


def tensors(value):
    """The numbers of all tensors in an encoded value."""
    if isinstance(value, dict):
        if "dtype" in value:
            yield tuple(value["data"])
        for each in value.values():
            yield from tensors(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from tensors(each)


def test_what_is_supplied_for_one_exercise_answers_no_other():
    made = {e.name: golden.expected(e, 4321) for e in EXERCISES}
    supplied = {name: set(tensors([call["result"] for call in calls]))
                for name, (_, calls) in made.items()}  # fmt: skip
    assert sum(map(len, supplied.values())) > 20
    for name, (numbers, _) in made.items():
        answers = {t for t in tensors(numbers["right"]["cases"]) if len(t) > 3}
        for other in supplied.keys() - {name}:
            assert not answers & supplied[other], f"{other} is supplied with answers of {name}"
