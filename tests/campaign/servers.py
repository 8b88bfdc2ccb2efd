"""Servers that lie, stop, and send what is no answer, to `data fetch`."""

from __future__ import annotations

import hashlib
import io
import os
import random
import zipfile
from pathlib import Path

from serving import TEXT, Site, serving

from campaign.cases import Case, check_text, contents, kind, require
from campaign.mutations import ODD_BYTES
from data import download
from data.fetch import File, Source, fetch

HEADERS = (
    "Content-Length: {size}", "Content-Length: abc", "Content-Length: -1", "Content-Length: 1e3",
    "Content-Length: {size}\r\nContent-Length: 7", "Transfer-Encoding: chunked",
    "Transfer-Encoding: gzip", "Content-Encoding: gzip", "Content-Range: bytes 0-{size}/{size}",
    "Content-Range: bytes */0", "Content-Range: bytes 100-{size}/{size}", "Location: /text.csv",
    "Location: file:///etc/passwd", "Location: //", "Retry-After: 1e9", "Retry-After: -1",
    "ETag: \u00e9", "Connection: close", "X: " + "y" * 70_000, "no header", ": empty",
)  # fmt: skip
STATUSES = (
    200, 200, 200, 206, 206, 204, 301, 302, 304, 400, 401, 403, 404, 408, 416, 429, 500, 503, 999,
    99, 0, -1,
)  # fmt: skip


@kind(
    "server",
    "Whatever a server sends, a file is the right one or not there, and an honest server mends it.",
    60,
)
def server(case: Case) -> None:
    draw = case.draw
    os.environ["no_proxy"] = "127.0.0.1"
    download.BACK_OFF_S, download.TIMEOUT_S = 0.001, 10.0
    with serving() as site:
        packed = archive() if draw.random() < 0.3 else None
        body = TEXT if packed is None else packed
        site.files["text.csv" if packed is None else "set.zip"] = body
        source = source_of(site, packed)
        place = case.folder / "data"
        for _ in range(draw.choice([1, 2, 5, 8])):
            site.raw.append(answer(draw, body))
        site.cut_at = [draw.randrange(len(body)) for _ in range(draw.choice([0, 0, 1, 3]))]
        site.ranges = draw.random() < 0.8
        case.note(f"{[raw[:60] for raw in site.raw]}, cut at {site.cut_at}, ranges {site.ranges}")
        try:
            fetch(place, sources={"text": source}, progress=False)
        except (ValueError, OSError) as error:
            check_text(str(error), "text.csv", "set.zip", str(place))
        check_files(place)
        site.raw, site.cut_at = [], []
        fetch(place, sources={"text": source}, progress=False)
        check_files(place)
        require((place / "set" / "text.csv").exists(), "an honest server does not mend it")


def source_of(site: Site, packed: bytes | None) -> Source:
    return Source(
        url=site.url if packed is None else f"{site.url}set.zip",
        files={"text.csv": File("set/text.csv", hashlib.sha256(TEXT).hexdigest())},
        licence="any",
        homepage="none",
    )


def check_files(place: Path) -> None:
    """Nothing is there but the file as it should be, its parts, and notes of checksums."""
    for name, content in contents(place).items():
        known = name.endswith((".part", ".tag", ".lock")) or name in (
            "set/text.csv",
            "checksums.json",
        )
        require(known, f"{name} was written")
        require(name != "set/text.csv" or content == TEXT, "the file is another one")


def archive() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("text.csv", TEXT)
    return packed.getvalue()


def answer(draw: random.Random, body: bytes) -> bytes:
    """Bytes that a server sends: an answer with a status, headers and a body, all of them drawn."""
    if draw.random() < 0.1:
        return draw.choice([b"", b"\r\n\r\n", b"HTTP/1.1", b"SSH-2.0-x\r\n", draw.randbytes(50)])
    version, reason = draw.choice(["1.1", "1.1", "1.0", "2", "x"]), draw.choice(["OK", ""])
    lines = [f"HTTP/{version} {draw.choice(STATUSES)} {reason}"]
    for _ in range(draw.choice([0, 1, 1, 2, 4])):
        lines.append(draw.choice(HEADERS).format(size=len(body)))
    sent = body[: draw.randrange(len(body) + 1)] if draw.random() < 0.5 else body
    if draw.random() < 0.3:
        place = draw.randrange(len(sent) + 1)
        sent = sent[:place] + draw.choice(ODD_BYTES) + sent[place:]
    if "Transfer-Encoding: chunked" in lines:
        sent = chunked(draw, sent)
    return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + sent


def chunked(draw: random.Random, body: bytes) -> bytes:
    """In chunks, some of them broken."""
    parts, start = [], 0
    while start < len(body):
        size = draw.choice([1000, 60_000, 400_000])
        part = body[start : start + size]
        told = draw.choice([f"{len(part):x}"] * 9 + ["zz", "-1", f"{len(part) + 9:x}", "f" * 20])
        parts.append(told.encode() + b"\r\n" + part + b"\r\n")
        start += size
    return b"".join(parts) + draw.choice([b"0\r\n\r\n", b"0\r\n\r\n", b"", b"0"])
