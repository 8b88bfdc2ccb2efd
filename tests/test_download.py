"""data.download: what servers, proxies and disks do that they should not."""

from __future__ import annotations

import errno
import os
import ssl
from http.server import HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from serving import TEXT, Site

from data import download
from data.download import FetchError

OK = b'HTTP/1.1 200 OK\r\nETag: "1"\r\n'
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
HALF = 300_000


def get(site: Site, folder: Path, **options: float) -> bytes:
    """What is downloaded; the tests look at the part, which has no name of its own yet."""
    hint, url = "place it there", f"{site.url}text.csv"
    given = {"max_bytes": 10**6, "hint": hint, "progress": False, **options}
    return download.download(url, folder / "text.csv", **given).read_bytes()


def part_of(folder: Path) -> bytes:
    return (folder / "text.csv.part").read_bytes()


# Bodies that are not what they say


@pytest.mark.parametrize(
    "raw",
    [
        CHUNKED + b"%x\r\n" % HALF + TEXT[:HALF] + b"\r\n",
        CHUNKED + b"%x\r\n" % len(TEXT) + TEXT[:HALF],
        CHUNKED + b"%x\r\n" % HALF + TEXT[:HALF] + b"\r\nzz\r\n",
        OK + b"Content-Length: %d\r\n\r\n" % len(TEXT) + TEXT[:HALF],
        OK + b"Content-Length: 999999\r\n\r\n" + TEXT[:HALF],
    ],
    ids=["between chunks", "in a chunk", "no chunk", "cut off", "length too large"],
)
def test_half_a_body_is_resumed(site: Site, tmp_path: Path, raw: bytes):
    site.raw = [raw]
    assert get(site, tmp_path) == TEXT
    assert [wanted for _, wanted in site.asked] == [None, f"bytes={HALF}-"]
    assert site.sent == len(TEXT) - HALF, "only the rest comes again"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n",
        OK + b"Content-Length: abc\r\n\r\n" + TEXT,
        OK + b"Content-Length: -5\r\n\r\n" + TEXT,
        OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n" + TEXT,
        OK + b"Content-Length: " + b"9" * 500 + b"\r\n\r\n" + TEXT,
        OK + b"X: " + b"y" * 10**6,
        b"HTTP/1.1 206 Partial\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 206 Partial\r\nContent-Range: bytes 7-11/12\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 416 Range\r\nContent-Range: bytes */0\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=["nothing", "SSH", "length abc", "negative", "two lengths", "huge length", "long header",
         "part of what", "another part", "416 unasked"],
)  # fmt: skip
def test_an_answer_that_is_none_is_asked_for_again(
    site: Site, tmp_path: Path, raw: bytes, monkeypatch: pytest.MonkeyPatch
):
    site.raw = [raw]
    assert get(site, tmp_path) == TEXT
    monkeypatch.setattr(download, "TRIES", 2)
    site.raw = [raw] * 2
    with pytest.raises(FetchError, match=r"in 2 tries; the last one: .*; or download it by hand"):
        get(site, tmp_path / "again")


@pytest.mark.parametrize(
    "head, rule",
    [
        (b"", "does not say its length"),
        (b"Content-Encoding: gzip\r\nContent-Length: 5\r\n", "sends it as 'gzip' alone"),
    ],
)
def test_a_body_that_cannot_be_trusted_is_refused(
    site: Site, tmp_path: Path, head: bytes, rule: str
):
    site.raw = [OK + head + b"\r\nhello"]
    with pytest.raises(FetchError, match=rf"text\.csv: .*{rule}.*place it there"):
        get(site, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("chunked", [True, False])
def test_a_file_without_end_is_removed(site: Site, tmp_path: Path, chunked: bool):
    body = b"5000\r\n" + TEXT[:0x5000] + b"\r\n"
    site.raw = [CHUNKED + body * 9 if chunked else OK + b"Content-Length: 99999\r\n\r\n" + TEXT]
    with pytest.raises(FetchError, match="more than max_bytes 40000 of its source"):
        get(site, tmp_path, max_bytes=40_000)
    assert not list(tmp_path.iterdir())


# Two parts of one file


DATE = "Fri, 27 Nov 2026 10:00:00 GMT"


@pytest.mark.parametrize(
    "headers, tag",
    [
        ({"ETag": '"2"'}, '"2"'),
        ({"ETag": 'W/"2"', "Last-Modified": DATE}, DATE),
        ({"Last-Modified": DATE}, DATE),
        ({}, None),
        ({"ETag": '"caf\xe9"'}, None),
    ],
    ids=["ETag", "weak ETag", "Last-Modified", "nothing", "no ASCII"],
)
def test_a_part_is_gone_on_with_only_if_the_file_is_the_same(
    site: Site, tmp_path: Path, headers: dict[str, str], tag: str | None
):
    (tmp_path / "text.csv.part").write_bytes(TEXT[:HALF])
    (tmp_path / "text.csv.part.tag").write_text('"1"', encoding="utf-8")
    new = TEXT[::-1]
    site.files["text.csv"], site.headers, site.cut_at = new, headers, [100]
    assert get(site, tmp_path) == new, "no mixture of two versions"
    again = None if tag is None else "bytes=100-"
    assert [wanted for _, wanted in site.asked] == [f"bytes={HALF}-", again]


def test_a_server_that_answers_with_another_version_all_the_same(site: Site, tmp_path: Path):
    site.cut_at = [HALF]
    (tmp_path / "text.csv.part").write_bytes(TEXT[:100])
    (tmp_path / "text.csv.part.tag").write_text('"1"', encoding="utf-8")
    rest = b'ETag: "2"\r\nContent-Range: bytes 100-104/105\r\nContent-Length: 5\r\n\r\nhello'
    site.raw = [b"HTTP/1.1 206 Partial\r\n" + rest]
    assert get(site, tmp_path) == TEXT
    assert [wanted for _, wanted in site.asked] == ["bytes=100-", None, f"bytes={HALF}-"]


# Limits


@pytest.mark.parametrize(
    "drip", [b"", OK + b"X: ", OK + b"Content-Length: 500000\r\n\r\n"],
    ids=["status", "headers", "body"],
)  # fmt: skip
def test_two_bytes_now_and_then(
    site: Site, tmp_path: Path, drip: bytes, monkeypatch: pytest.MonkeyPatch
):
    site.drip = drip
    with pytest.raises(FetchError, match=r"could not be downloaded in 0\.3 s; .* --time-limit"):
        get(site, tmp_path, time_limit=0.3)
    monkeypatch.setattr(download, "TIMEOUT_S", 0.1)
    monkeypatch.setattr(download, "TRIES", 2)
    with pytest.raises(FetchError, match=r"in 2 tries; .*(no answer in|under 1000 bytes a second)"):
        get(site, tmp_path)


@pytest.mark.parametrize("after", ["7200", "Fri, 27 Nov 2999 10:00:00 GMT"])
@pytest.mark.parametrize("status", [429, 503])
def test_the_wait_that_a_server_asks_for(site: Site, tmp_path: Path, status: int, after: str):
    site.statuses, site.headers["Retry-After"] = [status], after
    with pytest.raises(FetchError, match=rf"{status}.* asks for a wait of \d{{4,}} s\. Rerun"):
        get(site, tmp_path)
    assert len(site.asked) == 1


@pytest.mark.parametrize("after", ["0", "soon", "-1", "Fri, 27 Nov 1999 10:00:00 GMT", "\xb2"])
def test_a_wait_that_is_none(site: Site, tmp_path: Path, after: str):
    site.statuses, site.headers["Retry-After"] = [503], after
    assert get(site, tmp_path) == TEXT


# Ways there


@pytest.mark.parametrize(
    "place, rule",
    [
        ("text.csv", "more than 10 times, perhaps in a circle"),
        ("file:///etc/passwd", "redirects to 'file://127.0.0.1/etc/passwd', which is refused"),
        ("ftp://127.0.0.1/x", "which is refused"),
        ("data:,x", "leads to, no web address"),
        ("http://127.0.0.1:x/", "in 5 tries; .*Invalid URL in location header"),
        ("", "more than 10 times"),
    ],
)
def test_redirects_that_lead_nowhere(site: Site, tmp_path: Path, place: str, rule: str):
    site.headers["Location"] = place
    site.redirect = place or "/"
    site.statuses = [302] * 100
    with pytest.raises(FetchError, match=rf"text\.csv.*{rule}"):
        get(site, tmp_path)


def test_the_proxy_of_the_environment(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("no_proxy")
    monkeypatch.setenv("http_proxy", site.url)
    site.files["http://nowhere.invalid/text.csv"], site.url = TEXT, "http://nowhere.invalid/"
    assert get(site, tmp_path) == TEXT
    monkeypatch.setenv("http_proxy", "gopher://127.0.0.1:1")
    with pytest.raises(FetchError, match="a proxy that the environment names cannot be used"):
        get(site, tmp_path / "again")


CERTIFICATE = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgjHTXUkX4Q5ybzVvY
p/Dv2pBdScmi/MA75fzVKEBc2kqhRANCAAQC+uKFzFGG7Yj5f1Lr2frIuElBKSYj
RduQ1q8Km5qjdichUq5IFSRlwBgLrMkGc6n5lIRLvisxF2tOJ7rKo5TD
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBkTCCATagAwIBAgIUT8ksUE3or3ccixquh9cMSl7/zlcwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJMTI3LjAuMC4xMCAXDTI2MTEyNzE3NDkwMloYDzIxMjYxMTAz
MTc0OTAyWjAUMRIwEAYDVQQDDAkxMjcuMC4wLjEwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAQC+uKFzFGG7Yj5f1Lr2frIuElBKSYjRduQ1q8Km5qjdichUq5IFSRl
wBgLrMkGc6n5lIRLvisxF2tOJ7rKo5TDo2QwYjAdBgNVHQ4EFgQU5Y+M9taVe7hR
5YD5j/QVYBqO2s4wHwYDVR0jBBgwFoAU5Y+M9taVe7hR5YD5j/QVYBqO2s4wDwYD
VR0TAQH/BAUwAwEB/zAPBgNVHREECDAGhwR/AAABMAoGCCqGSM49BAMCA0kAMEYC
IQDmwExPjgCbeStzxodEZ+IJNtz9Y2CFEM2rKhehX3NtgwIhAJ2eU9sSvZhGPDrr
Go3dJh3BlrBUTBx9ptO2jKWUCmPj
-----END CERTIFICATE-----
"""
"""Of 127.0.0.1, signed by itself, made for this test alone."""


def test_a_certificate_that_nobody_vouches_for_is_named(site: Site, tmp_path: Path):
    (tmp_path / "both.pem").write_text(CERTIFICATE, encoding="utf-8")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "both.pem")
    with HTTPServer(("127.0.0.1", 0), None) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = Thread(target=server.handle_request)  # fails in the handshake
        thread.start()
        site.url = f"https://127.0.0.1:{server.server_port}/"
        with pytest.raises(FetchError, match=r"certificate is not trusted .*SSL_CERT_FILE"):
            get(site, tmp_path)
        thread.join()


def test_a_full_disk_is_named_and_the_part_stays(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    site.cut_at = [HALF]
    open_ = Path.open

    def full(path: Path, mode: str = "r", *args: object, **options: object):
        if mode == "ab" and path.stat().st_size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return open_(path, mode, *args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", full)
        with pytest.raises(
            FetchError, match=r"text\.csv cannot be written to .*text\.csv\.part: No"
        ):
            get(site, tmp_path)
    assert part_of(tmp_path) == TEXT[:HALF]
    assert get(site, tmp_path) == TEXT
    assert site.sent == len(TEXT) + len(TEXT) - HALF, "one answer came in vain"
