"""Files are written whole or not at all."""

import json
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from minbert import files
from minbert.files import (
    MOST_TEXT,
    brief,
    checked,
    parse_json,
    read_json,
    read_text,
    regular,
    replacing,
    sha256_of,
    write_json,
    write_text,
)
from multitask.report.records import Study, read_records
from multitask.report.run_set import RunSet

RECORDS = Path(__file__).resolve().parent.parent / "records"

KILLED = """
import sys, time
from pathlib import Path
from minbert.files import replacing

with replacing(Path(sys.argv[1])) as temporary:
    temporary.write_text("half of the new te")
    print("writing", flush=True)
    time.sleep(60)
"""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_new_file_in_a_new_folder(tmp_path):
    path = tmp_path / "a" / "b" / "file.txt"
    with replacing(path) as temporary:
        temporary.write_bytes(b"new")
        assert temporary.parent == path.parent, "a rename is atomic within one folder only"
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert names(path.parent) == ["file.txt"]


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old", encoding="utf-8")
    with path.open(encoding="utf-8") as reader:
        with replacing(path) as temporary:
            temporary.write_text("new", encoding="utf-8")
            assert path.read_text(encoding="utf-8") == "old"
        assert reader.read() == "old", "who has the old file open must be able to read on"
    assert path.read_text(encoding="utf-8") == "new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "file.txt"
    path.write_text("old", encoding="utf-8")

    def write():
        with replacing(path) as temporary:
            temporary.write_text("half of the new te", encoding="utf-8")
            raise error

    with pytest.raises(error):
        write()
    assert path.read_text(encoding="utf-8") == "old"
    assert names(tmp_path) == ["file.txt"]


@pytest.mark.parametrize("old", [None, "old"], ids=["no file", "an old file"])
def test_a_killed_process_leaves_what_was_there(tmp_path, old):
    path = tmp_path / "file.txt"
    if old:
        path.write_text(old, encoding="utf-8")
    command = [sys.executable, "-c", KILLED, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stdout.readline() == "writing\n"
        process.kill()  # SIGKILL: no handler and no finally runs
    assert process.returncode < 0
    assert (path.read_text(encoding="utf-8") if path.exists() else None) == old
    (left,) = (name for name in names(tmp_path) if name != "file.txt")
    assert left.startswith(".file.txt.") and left.endswith(".tmp")
    write_text(tmp_path / "other", "")  # the next writer in the folder clears what it left
    assert names(tmp_path) == (["file.txt", "other"] if old else ["other"])
    write_text(path, "new")
    assert path.read_text(encoding="utf-8") == "new"


def test_only_what_a_dead_writer_left_is_cleared(tmp_path):
    foreign = [".file.tmp", ".file.ABCDEFGH.tmp", "file.abcdefgh.tmp", ".file.abcdefgh.tmp.old"]
    for name in foreign:
        (tmp_path / name).touch()
    (tmp_path / ".file.txt.0a_bcdef.tmp").symlink_to(tmp_path / "elsewhere")
    (tmp_path / ".file.txt.abcdefgh.tmp").write_text("left behind", encoding="utf-8")
    with replacing(tmp_path / "file.txt") as temporary:
        temporary.write_text("a writer that lives", encoding="utf-8")
        write_text(tmp_path / "file.txt", "another's")
    assert (tmp_path / "file.txt").read_text(encoding="utf-8") == "a writer that lives"
    assert names(tmp_path) == sorted([*foreign, ".file.txt.0a_bcdef.tmp", "file.txt"])


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002], ids=oct)
def test_permissions_follow_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        write_text(tmp_path / "ours", "text")
        (tmp_path / "plain").write_text("text", encoding="utf-8")
        assert os.umask(umask) == umask, "the umask was changed"
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("ours", "plain")]
    assert modes[0] == modes[1] == 0o666 & ~umask


def test_several_writers_leave_one_whole_file(tmp_path):
    path = tmp_path / "file.txt"
    texts = [str(n) * 20_000 for n in range(8)]
    with ThreadPoolExecutor(len(texts)) as pool:
        list(pool.map(lambda text: write_text(path, text), texts))
    assert path.read_text(encoding="utf-8") in texts
    assert names(tmp_path) == ["file.txt"]


def test_text_is_utf8_with_unix_line_ends(tmp_path):
    write_text(tmp_path / "file.txt", "é\n中\n")
    assert (tmp_path / "file.txt").read_bytes() == b"\xc3\xa9\n\xe4\xb8\xad\n"


def test_json_comes_back_as_it_was(tmp_path):
    value = {"name": "é", "rows": [1, 2.5, None, True], "nested": {"a": []}}
    write_json(tmp_path / "file.json", value)
    text = (tmp_path / "file.json").read_text(encoding="utf-8")
    assert json.loads(text) == read_json(tmp_path / "file.json") == value
    assert '"é"' in text and text.endswith("}\n")


def test_what_json_cannot_say_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.json"
    write_json(path, {"loss": 1.0})
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(path, {"loss": float("nan")})
    assert read_json(path) == {"loss": 1.0}
    assert names(tmp_path) == ["file.json"]


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "file.json does not exist"),
        (b'{"half": ', "file.json is not a JSON file"),
        (b"", "file.json is not a JSON file"),
        (b'{\n"\xff"', "file.json, line 2: byte 0xff is no UTF-8 text"),
    ],
    ids=["missing", "half", "empty", "not UTF-8"],
)
def test_an_unreadable_json_file_is_named(tmp_path, content, message):
    if content is not None:
        (tmp_path / "file.json").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_json(tmp_path / "file.json")


# What is read is checked


@pytest.mark.parametrize("read", [regular, read_text, read_json, sha256_of])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "link to a device", "missing"])
def test_only_regular_files_are_opened(tmp_path, read, kind):
    path = tmp_path / "file.json"
    if kind == "pipe":
        os.mkfifo(path)  # opened, it would wait for ever
    elif kind == "link to a device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path = Path("/dev/zero")  # read, it would never end
    what = {"folder": "is a folder", "missing": "does not exist"}.get(kind, "is a pipe or a device")
    with pytest.raises(ValueError, match=f"{path} {what}"):
        read(path)


def test_a_link_to_a_file_is_followed(tmp_path):
    write_json(tmp_path / "a.json", [1])
    (tmp_path / "b.json").symlink_to("a.json")
    assert read_json(tmp_path / "b.json") == [1]


def test_a_file_too_large_for_its_kind_is_not_read(tmp_path):
    with (tmp_path / "file.json").open("wb") as file:
        file.truncate(MOST_TEXT + 1)  # sparse: it takes no room
    with pytest.raises(ValueError, match=r"file.json has 67,108,865 bytes, and .* at most 67,108,"):
        read_json(tmp_path / "file.json")


@pytest.mark.parametrize(
    "data, message",
    [
        (b"a\r\nb\nc\xff", "line 3: byte 0xff is no UTF-8 text"),
        ("ab".encode("utf-16"), "line 1: the file is UTF-16"),
        (b"a\nb\0\0\0", "line 2: byte 0x00 is no UTF-8 text"),
    ],
)
def test_a_byte_that_is_no_text_is_named_with_its_line(tmp_path, data, message):
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(ValueError, match=f"file, {message}; save the file as UTF-8"):
        read_text(tmp_path / "file")


def test_text_has_one_kind_of_line_end_and_no_mark(tmp_path):
    (tmp_path / "file").write_bytes("\ufeffé\r\nb\rc\n".encode())
    assert read_text(tmp_path / "file") == "é\nb\nc\n"


@pytest.mark.parametrize(
    "text, message",
    [
        ('{"a": NaN}', "it has NaN, and JSON has no such number"),
        ('{"a": -Infinity}', "it has -Infinity, and JSON has no such number"),
        ('{"a": 1e400}', "a number that no float can hold"),
        ('{"a": "\\ud800"}', "half of a surrogate pair"),
        ('{"a": 1, "b": 2, "a": 1}', "it has the key 'a' twice"),
        ("[" * 100_000, "it is nested too deep"),
        ('{"a":' * 100_000, "it is nested too deep"),
        ("\u0663", "Expecting value: line 1"),
        ('{"a": 01}', "line 1 column 8"),
        ("9" * 5000, "Exceeds the limit"),
    ],
    ids=lambda text: text[:20],
)
def test_what_python_takes_and_json_has_not_is_refused(text, message):
    with pytest.raises(ValueError, match=f"^record.json is not a JSON file: .*{message}"):
        parse_json(text, source="record.json")


@dataclass
class Settings:
    count: int = 1
    rate: float = 0.5
    kind: Literal["a", "b"] = "a"
    place: Path | None = None
    scores: dict[str, list[float]] = field(default_factory=dict)


def test_a_value_becomes_what_its_kind_says():
    value = {"count": 2, "rate": 1, "kind": "b", "place": "x", "scores": {"s": [1]}}
    found = checked(value, Settings)
    assert found == Settings(2, 1.0, "b", Path("x"), {"s": [1.0]})
    assert isinstance(found.rate, float), "an int is a number too"


@pytest.mark.parametrize(
    "value, message",
    [
        *[({"count": v}, f"count is {v!r}; give a whole") for v in (2.5, 2.0, True, None, "2")],
        *[({"rate": v}, f"rate is {v!r}; give a number") for v in (True, "0.5", "\u0663")],
        ({"kind": "c"}, "kind is 'c'; choose one of a, b"),
        ({"place": 3}, "place is 3; give a path"),
        ({"scores": {"s": [1, "x"]}}, r"scores\[...\]\[1\] is .*; give a number"),
        ({"other": 3}, r"unknown settings: \['other'\]"),
        ([], r"the value is \[\]; give names with values"),
    ],
)
def test_a_value_of_another_kind_is_named_with_its_place(value, message):
    with pytest.raises(ValueError, match=f"^a.json: {message}"):
        checked(value, Settings, "a.json")


def test_a_message_quotes_at_most_a_line():
    for value in ("x" * 10**6, ["x" * 99] * 99, dict.fromkeys(range(999), "y"), 10**300):
        assert len(brief(value)) <= 160
    error = brief(OSError("bad \x1b[31m header\n" * 10**5))
    assert len(error) <= 160 and error.isprintable() and error.startswith(r"bad \x1b[31m header b")
    with pytest.raises(ValueError, match="count is 'xxx") as caught:
        checked({"count": "x" * 10**6}, Settings, "a.json")
    assert len(str(caught.value)) < 300


def test_every_record_that_is_kept_is_of_its_kind():
    """Those of the project: of versions since its first."""
    found = [
        *read_records(RECORDS).values(),
        *Study.of_records(RECORDS / "study-small").stages.values(),
    ]
    assert len(found) > 200
    assert {name: len(RunSet.of_records(RECORDS / name).runs) for name in ("glue", "peft")}


def test_a_file_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    """As links to what is no file on a disk, such as /proc/self/mem, and damaged disks."""
    path = tmp_path / "text.json"
    path.write_text("{}", encoding="utf-8")

    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(files, "open", fail, raising=False)
    with pytest.raises(ValueError, match=r"text\.json cannot be read: Input/output error; put"):
        read_json(path)
