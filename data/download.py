"""Downloads a file over http or https, and resumes a download that was cut off."""

from __future__ import annotations

import http.client
import re
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from tqdm import tqdm

TIMEOUT_S = 30.0
TRIES = 5
BACK_OFF_S = 1.0
"""Wait before the second try; each further wait is twice as long."""
CHUNK_BYTES = 1 << 16
_TRANSIENT = {408, 425, 429, 500, 502, 503, 504}


class FetchError(ValueError):
    """A data set could not be had; the message says why and what to do."""


class _Interrupted(Exception):
    """A failure that another try may mend."""


class _Refused(Exception):
    """An answer that another try will not change."""


def say(text: str) -> None:
    """Tell the user something, out of the way of a program's output."""
    print(text, file=sys.stderr)


def download(url: str, path: Path, *, max_bytes: int, hint: str, progress: bool = True) -> Path:
    """Download to `<path>.part`, going on from what is there; returns that path.

    Args:
        url: a web address; redirects are followed to web addresses only.
        path: what the file will be called.
        max_bytes: a larger file is refused.
        hint: what to do with the file when one downloads it by hand.
        progress: show a bar.

    Raises:
        FetchError: the file is not to be had, after a few tries where another may help.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise FetchError(f"{url} is not a web address; a source's url starts with https://")
    path.parent.mkdir(parents=True, exist_ok=True)
    part, opener = path.with_name(f"{path.name}.part"), _opener()
    for attempt in range(TRIES):
        try:
            _attempt(opener, url, part, max_bytes, progress)
            return part
        except _Refused as error:
            raise FetchError(
                f"{url}: {error}; the file may have moved. Search for it by its name and {hint}"
            ) from None
        except _Interrupted as error:
            reason = str(error)
        if attempt + 1 < TRIES:
            wait = BACK_OFF_S * 2**attempt
            say(f"{url}: {reason}; trying again in {wait:g} s")
            time.sleep(wait)
    raise FetchError(
        f"{url} could not be downloaded in {TRIES} tries; the last one: {reason}. Check the "
        f"connection and rerun, which resumes; or download it by hand and {hint}"
    )


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects between web addresses only, and never from https to http."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        old, new = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if new not in ("http", "https") or (old, new) == ("https", "http"):
            raise FetchError(f"{req.full_url} redirects to {newurl}, which is refused")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """An opener that knows http and https and nothing else: no file, no ftp, no data URLs."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    opener.addheaders = [("User-Agent", "minbert"), ("Accept-Encoding", "identity")]
    return opener


def _attempt(
    opener: urllib.request.OpenerDirector, url: str, part: Path, max_bytes: int, progress: bool
) -> None:
    """Get the missing bytes. Raises _Interrupted if another try may help."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url)
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = opener.open(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # nothing from there on: complete, or something else
            if error.headers.get("Content-Range", "") != f"bytes */{have}":
                part.unlink()
                raise _Interrupted("the file there is shorter than the part here") from None
            return
        if error.code in _TRANSIENT:
            raise _Interrupted(f"the server answered {error.code} {error.reason}") from None
        if 300 <= error.code < 400:  # to a file, or in circles
            raise FetchError(f"{url} redirects where it is not followed: {error.reason}") from None
        raise _Refused(f"the server answered {error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
        raise _Interrupted(f"no answer ({getattr(error, 'reason', error)})") from None

    with response:
        start, total = _extent(response, have)
        if start is None:
            part.unlink(missing_ok=True)
            raise _Interrupted("the server sent another range than the one asked for")
        if (total or 0) > max_bytes:
            raise FetchError(_too_large(url, str(total), max_bytes))
        with (
            part.open("ab" if start else "wb") as out,
            tqdm(
                desc=part.name.removesuffix(".part"), initial=start, total=total, unit="B",
                unit_scale=True, unit_divisor=1024, leave=False, disable=not progress,
            ) as bar,
        ):  # fmt: skip
            done = start
            while True:
                try:
                    block = response.read(CHUNK_BYTES)
                except http.client.IncompleteRead as error:
                    block = error.partial
                except (OSError, http.client.HTTPException) as error:
                    raise _Interrupted(f"cut off after {done} bytes ({error})") from None
                if not block:
                    break
                done += len(block)
                if done > max_bytes:
                    out.close()
                    part.unlink()
                    raise FetchError(_too_large(url, f"at least {done}", max_bytes))
                out.write(block)
                bar.update(len(block))
    if total is not None and done < total:
        raise _Interrupted(f"cut off after {done} of {total} bytes")


def _extent(response: http.client.HTTPResponse, have: int) -> tuple[int | None, int | None]:
    """Where the answer starts and how long the whole file is; (None, None) if misplaced."""
    if response.status == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers["Content-Range"] or "")
        if found is None or int(found[1]) != have:
            return None, None
        return have, None if found[2] == "*" else int(found[2])
    length = response.headers["Content-Length"]
    return 0, int(length) if length is not None else None  # 200: the server ignores Range


def _too_large(url: str, size: str, max_bytes: int) -> str:
    return (
        f"{url} has {size} bytes, more than max_bytes {max_bytes} of its source; it is not what "
        "it should be"
    )
