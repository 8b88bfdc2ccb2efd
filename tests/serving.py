"""A small web server on this machine that can be told to misbehave."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TEXT = b"".join(b"%d\tsome text of row %d\n" % (i, i) for i in range(20_000))


class Site:
    """What the server has, how it misbehaves, and what it was asked."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {"text.csv": TEXT}
        self.headers: dict[str, str] = {"ETag": '"1"'}
        """What each answer has beside its length."""
        self.ranges = True
        self.redirect = ""
        """Answer with this place to go to."""
        self.cut_at: list[int] = []
        """Send only so many bytes of the next answers, though the length says more."""
        self.statuses: list[int] = []
        """Answer with these first."""
        self.raw: list[bytes] = []
        """Send just these bytes first, and close."""
        self.drip: bytes | None = None
        """Send this, then two bytes now and then for ever."""
        self.asked: list[tuple[str, str | None]] = []
        """Names and ranges."""
        self.sent = 0
        self.url = ""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def do_GET(self) -> None:
        site, name, wanted = self.site, self.path.lstrip("/"), self.headers["Range"]
        site.asked.append((name, wanted))
        self.close_connection = True
        if site.raw:
            self.wfile.write(site.raw.pop(0))
            return None
        if site.drip is not None:
            return self._drip(site.drip)
        if site.statuses:
            return self._answer(site.statuses.pop(0), b"")
        if site.redirect:
            return self._answer(302, b"", Location=site.redirect)
        if name not in site.files:
            return self._answer(404, b"")
        content, start = site.files[name], 0
        same = self.headers["If-Range"] in site.headers.values()
        if wanted and site.ranges and same:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                where = f"bytes */{len(content)}"
                return self._answer(416, b"", **{"Content-Range": where})
            where = f"bytes {start}-{len(content) - 1}/{len(content)}"
            return self._answer(206, content[start:], **{"Content-Range": where})
        return self._answer(200, content)

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        for key, value in {**self.site.headers, **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        body = body[: self.site.cut_at.pop(0)] if self.site.cut_at and body else body
        self.site.sent += len(body)
        self.wfile.write(body)

    def _drip(self, start: bytes) -> None:
        try:
            self.wfile.write(start)
            while True:
                self.wfile.write(b"ab")
                time.sleep(0.02)
        except OSError:  # the client has had enough
            pass

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[Site]:
    """A server that runs meanwhile."""
    site = Site()
    handler = type("Handler", (_Handler,), {"site": site})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    site.url = f"http://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
