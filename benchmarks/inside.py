"""How long `minbert show` lets one wait: a page to open, and a sentence to be answered.

What is measured is what a user sees: Chromium, driven by Playwright, from the start of navigation
until the page has been painted; and a question over HTTP, as the page asks it, from the first byte
that is sent to the last of its answer.
"""

from __future__ import annotations

import http.client
import json
import shutil
import threading
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from minbert.files import write_text
from multitask.inside.asked import Answerer
from multitask.inside.live import LiveServer
from multitask.inside.page import PageSettings, make_page

SENTENCE = "A joy from start to end, though not for all who have seen it."
HEADER = ("run of", "rows", "page", "what", "median", "least", "most")
PAINTED = """() => new Promise((done) => requestAnimationFrame(
  () => requestAnimationFrame(() => done(performance.now()))))"""


def measure(run: Path, *, data_dir: Path | None, repeats: int) -> dict[str, Any]:
    """Milliseconds of opening a run's page, and of live answers of its first task.

    Args:
        run: folder of a finished run.
        data_dir: where its rows are, by default where it read them.
        repeats: pages that are opened; a question is asked four times as often.

    Raises:
        ValueError: there is no Chromium.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "show.html"
        write_text(path, make_page([run], PageSettings(data_dir=data_dir)))
        size, opens = path.stat().st_size, _opened(path, repeats)
    answerer = Answerer([run], PageSettings(data_dir=data_dir, rows=200))
    (looked,) = answerer.looked
    name, found = next(iter(looked.found.items()))
    server = LiveServer(b"", answerer.answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        question = {"task": name, "texts": [SENTENCE] * (1 + found.task.is_pair)}
        answers = _answered(server, question, 4 * repeats)
        attributed = _answered(server, question | {"steps": 16}, repeats)
    finally:
        server.shutdown()
        server.server_close()
    milliseconds = {
        "page opens": opens,
        "live answer": answers,
        "live answer, attributions": attributed,
    }
    return {
        "task": name,
        "rows": found.all_rows,
        "page_bytes": size,
        "milliseconds": milliseconds,
    }


def _opened(page: Path, repeats: int) -> list[float]:
    """Milliseconds until the page is painted, in a new browser context each time."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        raise ValueError("no Chromium is installed; on Debian: apt-get install chromium")
    found = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for _ in range(repeats + 1):  # the first warms up
            tab = browser.new_page(viewport={"width": 1200, "height": 900})
            tab.goto(page.as_uri())
            tab.wait_for_selector("html[data-ready]")
            found.append(tab.evaluate(PAINTED))
            tab.close()
        browser.close()
    return found[1:]


def _answered(server: LiveServer, question: dict[str, Any], repeats: int) -> list[float]:
    """Milliseconds of a question, over a connection of its own each time."""
    found = []
    for turn in range(repeats + 2):  # the first warm up
        typed = [*question["texts"][:-1], f"{question['texts'][-1]} {turn}"]  # one has typed on
        body = json.dumps(question | {"texts": typed})
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port)
        began = time.perf_counter()
        headers = {"Content-Type": "application/json"}
        connection.request("POST", f"/{server.secret}/ask", body, headers)
        reply = connection.getresponse()
        answer = reply.read()
        found.append(1000 * (time.perf_counter() - began))
        connection.close()
        if reply.status != 200:
            raise RuntimeError(answer.decode())
    return found[2:]


def rows(runs: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Rows of the table of times."""
    return [
        (
            run["task"],
            f"{run['rows']:,}",
            f"{run['page_bytes'] / 1e6:.2f} MB",
            name,
            *(f"{of(times):.0f} ms" for of in (median, min, max)),
        )
        for run in runs
        for name, times in run["milliseconds"].items()
    ]
