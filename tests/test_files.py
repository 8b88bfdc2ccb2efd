"""Files are written whole or not at all."""

import json
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from minbert.files import read_json, replacing, write_json, write_text

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
