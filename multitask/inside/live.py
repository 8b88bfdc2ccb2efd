"""`minbert show --live`: a web server for this machine's own user, on the standard library.

It listens on 127.0.0.1. Its addresses have a secret word in them, and it answers requests that name
it by this machine's name and come from its own page: so no other user of the machine, and no other
site in the browser, has anything of it. What is large, or too much at once, is refused.
"""

from __future__ import annotations

import contextlib
import hmac
import secrets
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from minbert.files import brief, parse_json, text_of
from multitask.inside.asked import Answerer, Question
from multitask.inside.packed import Blob
from multitask.inside.page import PageSettings, html_page, page_data

LARGEST_BODY = 64 * 1024
"""Bytes of a request."""
AT_ONCE = 16
"""Connections that are open at once."""
WAITING = 4
"""Questions that are answered or wait for it."""
PATIENCE_S = 10.0
"""How long a connection may keep silent."""
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Refused(Exception):
    """A request that is not answered, with its status and the reason in words."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class LiveServer(ThreadingHTTPServer):
    """Serves the page, and answers its questions."""

    daemon_threads = True

    def __init__(self, page: bytes, answer: Callable[[Question], bytes], port: int = 0) -> None:
        """Listen on a port of 127.0.0.1.

        Args:
            page: the page's HTML.
            answer: what answers a question; called by one thread at a time.
            port: 0 for one that is free.
        """
        self.page, self.answer = page, answer
        self.secret = secrets.token_urlsafe(16)
        self._connections = threading.BoundedSemaphore(AT_ONCE)
        self._questions = threading.BoundedSemaphore(WAITING)
        self._turn = threading.Lock()
        try:
            super().__init__(("127.0.0.1", port), Handler)
        except OverflowError:
            raise ValueError(f"port {port} is no port; choose one from 1024 to 65535") from None
        except OSError as error:
            raise ValueError(
                f"port {port} cannot be had ({error.strerror}); choose another with --port"
            ) from None

    @property
    def hosts(self) -> tuple[str, str]:
        """The names by which a request may call this server."""
        return f"127.0.0.1:{self.server_port}", f"localhost:{self.server_port}"

    @property
    def address(self) -> str:
        return f"http://{self.hosts[0]}/{self.secret}/"

    def process_request(self, request: Any, client_address: Any) -> None:
        """One thread a connection, of which there are only so many."""
        if not self._connections.acquire(blocking=False):
            with contextlib.suppress(OSError):
                request.sendall(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nRetry-After: 1\r\n\r\n")
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke is the business of its other end."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handle_error(request, client_address)

    def in_turn(self, question: Question) -> bytes:
        """The answer to a question, after those that were asked before."""
        if not self._questions.acquire(blocking=False):
            raise Refused(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"{WAITING} questions are being answered; ask again in a moment",
            )
        try:
            with self._turn:
                return self.answer(question)
        finally:
            self._questions.release()


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    timeout = PATIENCE_S
    server_version, sys_version = "minbert", ""
    protocol_version = "HTTP/1.1"

    @property
    def live(self) -> LiveServer:
        assert isinstance(self.server, LiveServer)
        return self.server

    def do_GET(self) -> None:
        self._answered(self._page)

    def do_POST(self) -> None:
        self._answered(self._block)

    def _answered(self, make: Callable[[], tuple[str, bytes]]) -> None:
        try:
            self._check_sender()
            kind, body = make()
            status, extra = HTTPStatus.OK, {}
        except Refused as refusal:
            status, kind, body, extra = _said(refusal.status, str(refusal))
        except (ValueError, NotImplementedError) as error:
            status, kind, body, extra = _said(HTTPStatus.BAD_REQUEST, str(error))
        except OSError:
            self.close_connection = True
            return
        except Exception as error:  # the server goes on
            traceback.print_exc()
            reason = f"this went wrong: {type(error).__name__}: {brief(error)}"
            status, kind, body, extra = _said(HTTPStatus.INTERNAL_SERVER_ERROR, reason)
        self.close_connection |= status != HTTPStatus.OK
        self.send_response(status)
        for name, value in {**HEADERS, **extra}.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def _check_sender(self) -> None:
        """Refuse what does not come from the page itself, whatever name leads here (DNS
        rebinding), and who does not know the secret word."""
        hosts, named = self.live.hosts, self.headers.get_all("Host") or []
        if len(named) != 1 or named[0] not in hosts:
            host = brief(", ".join(named))
            raise Refused(
                HTTPStatus.FORBIDDEN, f"this server is {hosts[0]} alone, and was called {host}"
            )
        origin = self.headers.get("Origin")
        if origin is not None and origin not in [f"http://{host}" for host in hosts]:
            raise Refused(
                HTTPStatus.FORBIDDEN, f"a page of {brief(origin)} may ask nothing of this server"
            )
        word = self.path.partition("?")[0].split("/")[1:2]
        if not hmac.compare_digest("".join(word).encode(), self.live.secret.encode()):
            raise Refused(
                HTTPStatus.NOT_FOUND,
                "nothing is here; open the address that minbert show --live has printed",
            )

    def _page(self) -> tuple[str, bytes]:
        if self.path.partition("?")[0] != f"/{self.live.secret}/":
            raise Refused(HTTPStatus.NOT_FOUND, "nothing is here; the page is one folder up")
        return "text/html; charset=utf-8", self.live.page

    def _block(self) -> tuple[str, bytes]:
        if self.path != f"/{self.live.secret}/ask":
            raise Refused(HTTPStatus.NOT_FOUND, "questions go to ask")
        if self.headers.get_content_type() != "application/json":
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "a question is application/json")
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdecimal()):
            raise Refused(HTTPStatus.LENGTH_REQUIRED, "a question says its Content-Length")
        if len(length) > 9 or int(length) > LARGEST_BODY:
            raise Refused(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"a question has {length} bytes, and at most {LARGEST_BODY} are read; shorten it",
            )
        text = text_of(self.rfile.read(int(length)), "the question")
        question = parse_json(text, Question, "the question")
        return "application/octet-stream", self.live.in_turn(question)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: texts and the secret word are nobody's business."""


def _said(status: HTTPStatus, reason: str) -> tuple[HTTPStatus, str, bytes, dict[str, str]]:
    extra = {"Retry-After": "1"} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    return status, "text/plain; charset=utf-8", reason.encode(errors="replace"), extra


def live_server(folders: Sequence[Path], settings: PageSettings, *, port: int = 0) -> LiveServer:
    """A server of the page of runs, which is not running yet."""
    answerer = Answerer(folders, settings)
    told = [each.told for each in answerer.looked]
    data = page_data(told, Blob(), live=answerer.described())
    names = [each["name"] for each in told]
    page = html_page(data, names, connect="; connect-src 'self'")
    return LiveServer(page.encode(), answerer.answer, port)


def serve(
    folders: Sequence[Path],
    settings: PageSettings,
    *,
    port: int = 0,
    when_ready: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve the page of runs until Ctrl-C."""
    import torch

    with live_server(folders, settings, port=port) as server:
        torch.set_num_threads(1)  # a sentence is quicker so than where threads wait for each other
        print(f"{server.address}\nCtrl-C ends it.", flush=True)
        when_ready(server.address)
        server.serve_forever()
