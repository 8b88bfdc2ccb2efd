"""Downloads a file over http or https, and resumes a download that was cut off.

httpx2 speaks HTTP: proxies of the environment, the system's certificates, and bodies that end
before they are whole as errors. Time limits hold for all of it, from the name lookup to the last
byte, which is why the requests are asynchronous. A part is gone on with where the server's ETag or
Last-Modified, kept in `<file>.part.tag`, says that its file is the same one still.
"""

from __future__ import annotations

import re
import ssl
import sys
import time
from email.utils import parsedate_to_datetime
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import httpx2
from anyio.from_thread import start_blocking_portal
from tqdm import tqdm

TIMEOUT_S = 30.0
"""For an answer to begin, and for each wait for a part of it."""
LEAST_RATE = 1000
"""Bytes a second; an answer that is slower for TIMEOUT_S counts as cut off."""
TIME_LIMIT_S = 3600.0
"""For one file, all tries together."""
TRIES = 5
BACK_OFF_S = 1.0
"""Wait before the second try; each further wait is twice as long, or what the server asks for."""
REDIRECTS = 10
_TRANSIENT = {408, 425, 429, 500, 502, 503, 504}


class FetchError(ValueError):
    """A data set could not be had; the message says why and what to do."""


class _Interrupted(Exception):
    """A failure that another try may mend, after a wait of so many seconds at least."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class _Refused(Exception):
    """An answer that another try will not change."""


def say(text: str) -> None:
    """Tell the user something, out of the way of a program's output."""
    print(text, file=sys.stderr)


def download(
    url: str,
    path: Path,
    *,
    max_bytes: int,
    hint: str,
    progress: bool = True,
    time_limit: float = TIME_LIMIT_S,
) -> Path:
    """Download to `<path>.part`, going on from what is there; returns that path.

    Args:
        url: a web address; redirects are followed to web addresses only, and from https never to
            http.
        path: what the file will be called.
        max_bytes: a larger file is refused.
        hint: what to do with the file when one downloads it by hand.
        progress: show a bar.
        time_limit: seconds for all tries together.

    Raises:
        FetchError: the file is not to be had, after a few tries where another may help.
    """
    if not url.startswith(("http://", "https://")):
        raise FetchError(f"{url} is not a web address; a source's url starts with https://")
    part, end = path.with_name(f"{path.name}.part"), time.monotonic() + time_limit
    by_hand = f"or download it by hand and {hint}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        reason, wait = "", 0.0
        for attempt in range(TRIES):
            try:
                with start_blocking_portal() as portal:  # a thread: notebooks have a loop of theirs
                    portal.call(_attempt, url, part, max_bytes, progress, end)
                return part
            except _Refused as error:
                raise FetchError(
                    f"{url}: {error}; the file may have moved. Search for it by its name and {hint}"
                ) from None
            except _Interrupted as error:
                reason, wait = str(error), max(error.wait, BACK_OFF_S * 2**attempt)
            if time.monotonic() + wait > end:
                raise FetchError(
                    f"{url} could not be downloaded in {time_limit:g} s; the last try: {reason}. "
                    f"Rerun, which resumes, with a larger --time-limit; {by_hand}"
                )
            if attempt + 1 < TRIES:
                say(f"{url}: {reason}; trying again in {wait:g} s")
                time.sleep(wait)
    except OSError as error:
        raise FetchError(
            f"{url} cannot be written to {part}: {error.strerror or error}. Make room, or name "
            "another folder, and rerun, which resumes"
        ) from None
    raise FetchError(
        f"{url} could not be downloaded in {TRIES} tries; the last one: {reason}. Check the "
        f"connection and rerun, which resumes; {by_hand}"
    )


def discard(part: Path) -> None:
    """Remove a part and what is kept beside it."""
    part.unlink(missing_ok=True)
    _tag_of(part).unlink(missing_ok=True)


async def _attempt(url: str, part: Path, max_bytes: int, progress: bool, end: float) -> None:
    """Get the missing bytes. Raises _Interrupted if another try may help."""

    async def check(request: httpx2.Request) -> None:
        if request.url.scheme not in ("https", urlsplit(url).scheme):
            raise FetchError(f"{url} redirects to {str(request.url)[:200]!r}, which is refused")

    try:
        client = httpx2.AsyncClient(
            timeout=TIMEOUT_S,
            verify=_certificates(),
            headers={"User-Agent": "minbert", "Accept-Encoding": "identity"},
            follow_redirects=True,
            max_redirects=REDIRECTS,
            event_hooks={"request": [check]},
        )
    except (ValueError, ImportError) as error:  # the latter for socks, which wants a package
        raise FetchError(f"a proxy that the environment names cannot be used: {error}") from None
    with anyio.move_on_after(end - time.monotonic()):
        try:
            async with client:
                return await _transfer(client, url, part, max_bytes, progress)
        except httpx2.TransportError as error:
            reason = (str(error) or type(error).__name__)[:200]
            if "CERTIFICATE_VERIFY_FAILED" in reason:
                raise FetchError(
                    f"{url}: the server's certificate is not trusted ({reason}). Check the clock, "
                    "and whether a proxy stands between; SSL_CERT_FILE names a file of "
                    "certificates to trust"
                ) from None
            raise _Interrupted(f"no connection, or it broke: {reason}") from None
        except httpx2.InvalidURL as error:
            raise FetchError(f"{url} is, or leads to, no web address: {error}") from None
        except httpx2.TooManyRedirects:
            raise FetchError(
                f"{url} redirects more than {REDIRECTS} times, perhaps in a circle"
            ) from None
    raise _Interrupted("the time limit was reached")


async def _transfer(
    client: httpx2.AsyncClient, url: str, part: Path, max_bytes: int, progress: bool
) -> None:
    tag = _tag_of(part).read_text("ascii", "replace") if _tag_of(part).exists() else ""
    have = part.stat().st_size if part.exists() and tag else 0
    only = {"Range": f"bytes={have}-", "If-Range": tag} if have else {}
    with anyio.move_on_after(TIMEOUT_S) as opening:
        response = await client.send(client.build_request("GET", url, headers=only), stream=True)
    if opening.cancelled_caught:
        raise _Interrupted(f"no answer in {TIMEOUT_S:g} s")
    start, total = _extent(response)
    if response.status_code == 416 and 0 < have == total:
        return
    if response.status_code == 200:  # all of it: the part is of another file, or Range is unknown
        part.write_bytes(b"")
        _tag_of(part).write_text(_tag(response.headers), encoding="ascii")
    elif not 0 < have == start or _tag(response.headers) not in ("", tag):
        discard(part)
        raise _Interrupted("what the server sent is no end to the part here; starting over")
    done = seen = start
    since = time.monotonic()
    with (
        part.open("ab") as out,
        tqdm(
            desc=part.name.removesuffix(".part"),
            initial=start,
            total=total,
            unit="B",
            unit_scale=True,
            unit_divisor=1024,
            leave=False,
            disable=not progress,
        ) as bar,
    ):
        async for block in response.aiter_raw():
            done += len(block)
            if max(done, total or 0) > max_bytes:
                break
            out.write(block)
            bar.update(len(block))
            if (passed := time.monotonic() - since) > TIMEOUT_S:
                if done - seen < LEAST_RATE * passed:
                    raise _Interrupted(f"under {LEAST_RATE} bytes a second, after {done} bytes")
                seen, since = done, time.monotonic()
    if max(done, total or 0) > max_bytes:
        discard(part)
        raise FetchError(
            f"{url} has {total or f'at least {done}'} bytes, more than max_bytes {max_bytes} of "
            "its source; it is not what it should be"
        )
    if total is not None and done != total:
        raise _Interrupted(f"it ended after {done} of {total} bytes")


def _extent(response: httpx2.Response) -> tuple[int, int | None]:
    """Where the bytes of an answer start (-1 if it does not say) and how long the whole file is."""
    status, headers = response.status_code, response.headers
    if status in _TRANSIENT:
        wait = _retry_after(headers)
        asked = f" and asks for a wait of {wait:.0f} s" if wait > 0 else ""
        raise _Interrupted(f"the server answered {_named(response)}{asked}", wait)
    if status not in (200, 206, 416):
        raise _Refused(f"the server answered {_named(response)}")
    if headers.get("Content-Encoding", "identity") != "identity":
        raise _Refused(f"the server sends it as {headers['Content-Encoding'][:20]!r} alone")
    if status == 200 and "Transfer-Encoding" in headers:  # in chunks, of which the last one says so
        return 0, None
    if status == 200 and "Content-Length" in headers:
        return 0, int(headers["Content-Length"])
    if status == 200:
        raise _Refused("the server does not say its length, and half of it would pass for all")
    where = headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes (?:\*|(\d{1,18})-\d{1,18})/(\d{1,18})", where, re.ASCII)
    return (int(match[1] or -1), int(match[2])) if match else (-1, None)


def _tag_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.tag")


def _tag(headers: httpx2.Headers) -> str:
    """What tells this file from a later one of the same address; "" if the server does not say."""
    etag, modified = headers.get("ETag", ""), headers.get("Last-Modified", "")
    tag = modified if not etag or etag.startswith("W/") else etag  # If-Range takes no weak ones
    return tag if tag.isascii() else ""


def _retry_after(headers: httpx2.Headers) -> float:
    """The wait that the server asks for: seconds, or a date."""
    text = headers.get("Retry-After", "")
    if re.fullmatch(r"\d{1,9}", text, re.ASCII):
        return float(text)
    try:
        return parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return 0.0


@cache
def _certificates() -> ssl.SSLContext:
    """The system's, or those of SSL_CERT_FILE; reading them takes a while."""
    return httpx2.create_ssl_context()


def _named(response: httpx2.Response) -> str:
    return f"{response.status_code} {response.reason_phrase[:80]}".rstrip()
