"""data.fetch against a small web server on this machine that can be told to misbehave."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import zipfile
from pathlib import Path

import pytest
from filelock import FileLock
from serving import TEXT, Site

from data import download
from data.fetch import ALL, COURSE, SOURCES, FetchError, File, Source, fetch
from data.sources import git_blob_of
from data.tasks import TASKS


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def source(site: Site, path: str = "set/text.csv", **other: object) -> dict[str, Source]:
    fields: dict = {
        "url": site.url,
        "files": {"text.csv": File(path, sha(TEXT))},
        "licence": "any",
        "homepage": "none",
    }
    return {"text": Source(**{**fields, **other})}


def get(target: Path, sources: dict[str, Source]) -> list[Path]:
    return fetch(target, sources=sources, progress=False)


def files(target: Path) -> list[str]:
    """Names of what is there but the lock."""
    return sorted(p.name for p in target.rglob("*") if p.is_file() and p.name != ".lock")


def place_part(folder: Path, content: bytes, tag: str = '"1"') -> Path:
    """What an earlier download left of set/text.csv."""
    part = folder / "set" / "text.csv.part"
    part.parent.mkdir()
    part.write_bytes(content)
    part.with_name("text.csv.part.tag").write_text(tag, encoding="utf-8")
    return part


# Plain files


def test_downloads_once(site: Site, tmp_path: Path):
    (path,) = get(tmp_path / "new", source(site))
    assert path == tmp_path / "new" / "set" / "text.csv"
    assert path.read_bytes() == TEXT
    assert files(tmp_path) == ["text.csv"]
    assert get(tmp_path / "new", source(site)) == [path]
    assert site.asked == [("text.csv", None)], "the second call must make no request"


def test_progress_bar_shows_bytes(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    fetch(tmp_path, sources=source(site))
    assert "text.csv" in capsys.readouterr().err


def test_resumes_a_part(site: Site, tmp_path: Path):
    place_part(tmp_path, TEXT[:300_000])
    (path,) = get(tmp_path, source(site))
    assert path.read_bytes() == TEXT
    assert site.asked == [("text.csv", "bytes=300000-")]
    assert site.sent == len(TEXT) - 300_000, "only the rest is transferred"


def test_cut_off_in_the_middle(site: Site, tmp_path: Path):
    site.cut_at = [100_000, 50_000]
    (path,) = get(tmp_path, source(site))
    assert path.read_bytes() == TEXT
    assert [wanted for _, wanted in site.asked] == [None, "bytes=100000-", "bytes=150000-"]
    assert site.sent == len(TEXT)


def test_keeps_the_part_when_all_tries_fail(site: Site, tmp_path: Path):
    site.cut_at = [10] * download.TRIES
    with pytest.raises(FetchError, match=r"rerun, which resumes; or download it by hand and place"):
        get(tmp_path, source(site))
    assert (tmp_path / "set" / "text.csv.part").read_bytes() == TEXT[: 10 * download.TRIES]
    get(tmp_path, source(site))
    assert site.asked[-1] == ("text.csv", "bytes=50-")


def test_server_without_ranges(site: Site, tmp_path: Path):
    site.cut_at, site.ranges = [100_000], False
    (path,) = get(tmp_path, source(site))
    assert path.read_bytes() == TEXT, "an answer 200 starts over, it is not appended"


def test_complete_part_is_taken(site: Site, tmp_path: Path):
    place_part(tmp_path, TEXT)
    (path,) = get(tmp_path, source(site))
    assert path.read_bytes() == TEXT
    assert site.sent == 0


def test_part_longer_than_the_file_starts_over(site: Site, tmp_path: Path):
    place_part(tmp_path, TEXT + b"more")
    (path,) = get(tmp_path, source(site))
    assert path.read_bytes() == TEXT


@pytest.mark.parametrize("status", [500, 503, 429])
def test_transient_error_is_tried_again(site: Site, tmp_path: Path, status: int):
    site.statuses = [status]
    (path,) = get(tmp_path, source(site))
    assert path.read_bytes() == TEXT
    assert len(site.asked) == 2


def test_missing_file_is_not_tried_again(site: Site, tmp_path: Path):
    del site.files["text.csv"]
    with pytest.raises(FetchError, match=r"404.*may have moved.*place it at .*text\.csv"):
        get(tmp_path, source(site))
    assert len(site.asked) == 1


def test_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(download, "BACK_OFF_S", 0.001)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    site = Site()
    site.url = "http://127.0.0.1:9/"
    with pytest.raises(FetchError, match=r"Check the connection and rerun"):
        get(tmp_path, source(site))


# Checksums


def test_wrong_content_is_removed(site: Site, tmp_path: Path):
    site.files["text.csv"] = b"<html>please log in</html>"
    with pytest.raises(FetchError) as caught:
        get(tmp_path, source(site))
    assert sha(TEXT) in str(caught.value)
    assert sha(site.files["text.csv"]) in str(caught.value)
    assert "Rerun" in str(caught.value)
    assert not files(tmp_path)


def test_changed_file_is_not_overwritten(site: Site, tmp_path: Path):
    path = tmp_path / "set" / "text.csv"
    path.parent.mkdir()
    path.write_bytes(b"mine")
    with pytest.raises(FetchError, match="Move it away or delete it"):
        get(tmp_path, source(site))
    assert path.read_bytes() == b"mine"
    assert site.asked == []


def test_unknown_checksum_is_remembered(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    sources = source(site, files={"text.csv": File("set/text.csv")})
    (path,) = get(tmp_path, sources)
    assert "no checksum is known" in capsys.readouterr().err
    assert json.loads((tmp_path / "checksums.json").read_text(encoding="utf-8")) == {
        "set/text.csv": sha(TEXT)
    }
    get(tmp_path, sources)
    assert len(site.asked) == 1
    path.write_bytes(b"edited")
    with pytest.raises(FetchError, match="it was changed"):
        get(tmp_path, sources)
    path.unlink()
    site.files["text.csv"] = b"another version"
    with pytest.raises(FetchError, match=r"delete its line in .*checksums\.json"):
        get(tmp_path, sources)
    assert not path.exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"set/text.csv": 1}', ""])
def test_damaged_record(site: Site, tmp_path: Path, text: str):
    (tmp_path / "checksums.json").write_text(text, encoding="utf-8")
    with pytest.raises(FetchError, match=r"checksums\.json is damaged .* delete it"):
        get(tmp_path, source(site))


# Names, places and addresses


def test_unknown_name_lists_the_known(tmp_path: Path):
    with pytest.raises(FetchError, match="'sst5'; known are sst, cfimdb, para"):
        fetch(tmp_path, ["sst5"])


def test_target_that_is_a_file(site: Site, tmp_path: Path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(FetchError, match="cannot be a data folder"):
        get(tmp_path / "file", source(site))


def test_one_process_at_a_time_writes_to_a_folder(site: Site, tmp_path: Path):
    with FileLock(tmp_path / ".lock"):
        with pytest.raises(FetchError, match=r"another process is fetching to .*; wait until"):
            get(tmp_path, source(site))
        assert not site.asked
    assert len(get(tmp_path, source(site))) == 1


@pytest.mark.parametrize("path", ["../text.csv", "/tmp/text.csv", "C:/text.csv", "a/../../b", ""])
def test_path_outside_the_target(site: Site, tmp_path: Path, path: str):
    with pytest.raises(FetchError, match="outside"):
        get(tmp_path / "target", source(site, path))
    assert site.asked == []


def test_link_out_of_the_target(site: Site, tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "set").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FetchError, match="outside"):
        get(tmp_path / "target", source(site))


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_redirect_to_another_scheme(site: Site, tmp_path: Path, place: str):
    site.redirect = place
    with pytest.raises(FetchError, match="redirects"):
        get(tmp_path, source(site))
    assert not files(tmp_path)


def test_redirect_to_a_web_address(site: Site, tmp_path: Path):
    site.files["moved/text.csv"] = TEXT
    sources = source(site, files={"old.csv": File("set/text.csv", sha(TEXT))})
    original = site.url + "moved/text.csv"

    class Once(str):
        def __bool__(self) -> bool:
            return len(site.asked) == 1

    site.redirect = Once(original)
    (path,) = get(tmp_path, sources)
    assert path.read_bytes() == TEXT


@pytest.mark.parametrize("url", ["file:///etc/", "ftp://127.0.0.1/", "data:,"])
def test_source_with_another_scheme(site: Site, tmp_path: Path, url: str):
    with pytest.raises(FetchError, match="not a web address"):
        get(tmp_path, source(site, url=url))


def test_too_large_a_file(site: Site, tmp_path: Path):
    with pytest.raises(FetchError, match="more than max_bytes 1000"):
        get(tmp_path, source(site, max_bytes=1000))


# Archives


def archive(
    *members: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED
) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as file:
        for name, content in members:
            file.writestr(name, content)
    return packed.getvalue()


def zipped(site: Site, content: bytes, **other: object) -> dict[str, Source]:
    site.files["set.zip"] = content
    files = {"in/a.tsv": File("set/a.tsv", sha(b"a")), "in/b.tsv": File("set/b.tsv")}
    return source(site, **{"url": f"{site.url}set.zip", "files": files, **other})


GOOD = (("in/a.tsv", b"a"), ("in/b.tsv", b"b"))


def test_archive(site: Site, tmp_path: Path):
    packed = archive(*GOOD, ("in/unwanted.tsv", b"u"))
    sources = zipped(site, packed, sha256=sha(packed))
    paths = get(tmp_path, sources)
    assert [path.read_bytes() for path in paths] == [b"a", b"b"]
    assert files(tmp_path) == ["a.tsv", "b.tsv", "checksums.json"], (
        "only the listed members are unpacked, and the archive does not stay"
    )
    get(tmp_path, sources)
    assert len(site.asked) == 1


def test_archive_is_resumed(site: Site, tmp_path: Path):
    packed = archive(*GOOD, ("in/unwanted.tsv", TEXT), method=zipfile.ZIP_STORED)
    site.cut_at = [200_000]
    get(tmp_path, zipped(site, packed, sha256=sha(packed)))
    assert site.sent == len(packed)


def test_wrong_archive(site: Site, tmp_path: Path):
    with pytest.raises(FetchError, match=f"{sha(archive(*GOOD))}, not {sha(b'')}"):
        get(tmp_path, zipped(site, archive(*GOOD), sha256=sha(b"")))
    assert not files(tmp_path)


def test_wrong_member(site: Site, tmp_path: Path):
    with pytest.raises(FetchError, match=r"set/a\.tsv from .* it was removed"):
        get(tmp_path, zipped(site, archive(("in/a.tsv", b"x"), GOOD[1])))
    assert not [name for name in files(tmp_path) if ".tsv" in name]


def test_missing_member(site: Site, tmp_path: Path):
    with pytest.raises(FetchError, match=r"no member 'in/b\.tsv', only 'in/a\.tsv'"):
        get(tmp_path, zipped(site, archive(GOOD[0])))


def test_not_an_archive(site: Site, tmp_path: Path):
    with pytest.raises(FetchError, match="not a sound zip archive"):
        get(tmp_path, zipped(site, b"<html>"))
    assert not files(tmp_path)


@pytest.mark.parametrize(
    "name", ["../evil", "in/../../evil", "/tmp/evil", "C:/evil", "c:evil", "..\\evil", "\\evil"]
)
def test_archive_that_climbs_out(site: Site, tmp_path: Path, name: str):
    with pytest.raises(FetchError) as caught:
        get(tmp_path / "target", zipped(site, archive(*GOOD, (name, b"evil"))))
    assert repr(name) in str(caught.value)
    assert "nothing was unpacked" in str(caught.value)
    assert not files(tmp_path)


def test_archive_with_a_link(site: Site, tmp_path: Path):
    link = zipfile.ZipInfo("in/a.tsv")
    link.create_system = 3
    link.external_attr = 0o120777 << 16
    with pytest.raises(FetchError, match=r"'in/a\.tsv' that is a symbolic link"):
        get(tmp_path, zipped(site, archive((link, b"/etc/passwd"), GOOD[1])))


def test_archive_bomb(site: Site, tmp_path: Path):
    bomb = archive(("in/a.tsv", bytes(5_000_000)), GOOD[1])
    assert len(bomb) < 10_000
    with pytest.raises(FetchError, match="unpacks to 5000001 bytes, more than max_bytes 100000"):
        get(tmp_path, zipped(site, bomb, max_bytes=100_000))
    assert not [name for name in files(tmp_path) if ".tsv" in name]


def damaged(content: bytes, start: bytes, offset: int, value: bytes) -> bytes:
    """Bytes replaced at so many after the first `start`."""
    at = content.index(start) + offset
    return content[:at] + value + content[at + len(value) :]


LOCAL, CENTRAL = b"PK\x03\x04", b"PK\x01\x02"
PACKED = archive(*GOOD)
BZIP2 = archive(*GOOD, method=zipfile.ZIP_BZIP2)
LZMA = archive(*GOOD, method=zipfile.ZIP_LZMA)


@pytest.mark.parametrize(
    "content",
    [
        PACKED[: len(PACKED) // 2],
        PACKED[30:],
        damaged(PACKED, CENTRAL, 16, b"\0\0\0\0"),
        damaged(damaged(PACKED, LOCAL, 6, b"\1"), CENTRAL, 8, b"\1"),
        damaged(damaged(PACKED, LOCAL, 8, b"\x63"), CENTRAL, 10, b"\x63"),
        damaged(PACKED, CENTRAL, 42, b"\xf0\xff\xff\xff"),
        damaged(PACKED, CENTRAL, 20, b"\0\0\0\0"),
        damaged(PACKED, b"in/a.tsv", 8, b"\xff"),
        damaged(BZIP2, b"in/a.tsv", 8, bytes(9)),
        damaged(LZMA, b"in/a.tsv", 12, b"\xff" * 5),
    ],
    ids=[
        "half",
        "tail",
        "CRC",
        "encrypted",
        "method",
        "offset",
        "size",
        "deflate",
        "bzip2",
        "lzma",
    ],
)
def test_damaged_archive(site: Site, tmp_path: Path, content: bytes):
    sources = zipped(site, content)
    with pytest.raises(FetchError, match=r"set\.zip is not a sound zip archive.* rerun to down"):
        get(tmp_path, sources)
    assert not [name for name in files(tmp_path) if name != "checksums.json"]


def test_a_full_disk_keeps_the_archive(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sources = zipped(site, archive(*GOOD))
    with monkeypatch.context() as patched:
        patched.setattr("data.fetch._blocks", full)
        with pytest.raises(FetchError, match=r"set\.zip cannot be unpacked to .*No space left"):
            get(tmp_path, sources)
    assert files(tmp_path) == ["set.zip.part", "set.zip.part.tag"]
    sent = site.sent
    assert [path.read_bytes() for path in get(tmp_path, sources)] == [b"a", b"b"]
    assert site.sent == sent, "the archive does not come again"


def full(*args: object, **options: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# The sources themselves


def test_sources_are_sound():
    assert set(COURSE) <= set(ALL) == set(SOURCES)
    seen = set()
    for name, source in SOURCES.items():
        assert source.url.startswith("https://"), name
        assert source.url.endswith((".zip", "/")), name
        assert source.licence and source.homepage.startswith("https://"), name
        for file in [*source.files.values(), *(source.derived or {}).values()]:
            assert file.path not in seen, f"{file.path} has two sources"
            seen.add(file.path)
            assert file.sha256 is None or len(file.sha256) == 64, file
            assert file.git_blob is None or len(file.git_blob) == 40, file


def test_sources_serve_the_tasks():
    """Each file of a task is fetched to where the reader looks: a folder of the target."""
    files = [file.path for source in SOURCES.values() for file in source.files.values()]
    files += [file.path for source in SOURCES.values() for file in (source.derived or {}).values()]
    wanted = [table.path for task in TASKS.values() for table in task.tables.values()]
    assert wanted
    for path in wanted:
        assert [file.split("/", 1)[1] for file in files].count(path) == 1, path


def test_mrpc_is_split_as_in_glue(tmp_path: Path):
    """The corpus and the list of dev pairs become three tables."""
    folder = tmp_path / "glue" / "MRPC"
    folder.mkdir(parents=True)
    head = "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n"
    rows = [f"{i % 2}\t{i}\t{i + 10}\tone {i}\ttwo {i}\r\n" for i in range(4)]
    (folder / "msr_paraphrase_train.txt").write_text(head + "".join(rows), encoding="utf-8")
    (folder / "msr_paraphrase_test.txt").write_text(head + "".join(rows[:2]), encoding="utf-8")
    (folder / "mrpc_dev_ids.tsv").write_text("2\t12\n0\t11\n", encoding="utf-8")
    source = SOURCES["mrpc"]
    assert source.derive is not None
    source.derive(tmp_path)
    text = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.tsv.part")}
    header = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
    assert text["dev.tsv.part"] == f"\ufeff{header}0\t2\t12\tone 2\ttwo 2\n"
    assert text["train.tsv.part"].count("\n") == 4
    assert text["test.tsv.part"] == (
        "index\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
        "0\t0\t10\tone 0\ttwo 0\n"
        "1\t1\t11\tone 1\ttwo 1\n"
    )


def test_what_git_calls_a_content_is_a_checksum(site: Site, tmp_path: Path):
    """As in the book on git: `echo 'test content' | git hash-object --stdin`."""
    (tmp_path / "t").write_bytes(b"test content\n")
    assert git_blob_of(tmp_path / "t") == "d670460b4b4aece5915caf5c68d12f560a9fe3e4"
    path = "set/text.csv"
    blob = hashlib.sha1(b"blob %d\0" % len(TEXT) + TEXT).hexdigest()
    right = source(site, files={"text.csv": File(path, git_blob=blob)})
    assert get(tmp_path / "new", right)[0].read_bytes() == TEXT
    other = source(site, files={"text.csv": File(path, git_blob="0" * 40)})
    with pytest.raises(FetchError, match=f"has git blob {blob}, not 0{{40}}; it was removed"):
        get(tmp_path / "other", other)
    assert files(tmp_path / "other") == []
