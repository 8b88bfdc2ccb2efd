"""The documentation's pages: built strictly and offline, with links that lead somewhere."""

import html
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).resolve().parent.parent
BUILD = """
import socket, sys

def offline(*_):
    raise OSError("the network is not to be used")

socket.socket.connect = socket.getaddrinfo = offline
from mkdocs.__main__ import cli
cli()
"""
pytestmark = pytest.mark.timeout(900)


class Page(HTMLParser):
    """What a page refers to, what it loads, and the places in it that others may refer to."""

    def __init__(self, path: Path):
        super().__init__()
        self.links, self.loads, self.places = [], [], {""}
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.places |= {given.get("id"), given.get("name")}
        found = [given[name] for name in ("href", "src") if given.get(name)]
        self.links += found
        if tag not in ("a", "area") and not (tag == "link" and given.get("rel") == "canonical"):
            self.loads += found


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Every page by its path."""
    pytest.importorskip("mkdocs", reason="bash setup.sh docs installs it")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-c", BUILD, "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0 and "WARNING" not in said, said
    return {path: Page(path) for path in sorted(folder.rglob("*.html"))}


def page(site, name):
    (found,) = (page for path, page in site.items() if path.as_posix().endswith(f"/{name}"))
    return found


def test_every_link_and_figure_is_there_and_nothing_is_loaded_from_elsewhere(site):
    count = 0
    for path, found in site.items():
        if path.name == "404.html":  # whose links are from the server's root
            continue
        assert not [link for link in found.loads if urlsplit(link).netloc], path
        for link in set(found.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            assert target.is_file(), f"{path}: {link}"
            if target in site:
                assert unquote(parts.fragment) in site[target].places, f"{path}: {link}"
            count += 1
    assert count > 5000
    figures = [link for link in page(site, "Report.html").links if link.endswith(".svg")]
    assert len(figures) > 5


def test_every_module_and_every_text_is_a_page(site):
    names = {"/".join(path.parts) for path in site}
    for package in ("minbert", "optim", "data", "multitask"):
        for path in (ROOT / package).rglob("*.py"):
            if path.name != "__main__.py":
                name = path.relative_to(ROOT).with_suffix("").as_posix()
                name = re.sub(r"__init__$", "index", name)
                assert any(each.endswith(f"/{name}.html") for each in names), path
    for path in [*(ROOT / "docs").rglob("*.md"), ROOT / "Report.md", ROOT / "CHANGELOG.md"]:
        name = path.relative_to(ROOT).with_suffix(".html").as_posix()
        assert any(each.endswith(f"/{name}") for each in names), path


@pytest.mark.parametrize(
    "name, place, words",
    [
        # A signature with types and defaults; several parameters in one line of the docstring.
        ("minbert/attend.html", "minbert.attend.attend",
         ["attend( layout: Layout, query: Tensor,", "window: int | None = None",
          "value Tensor (..., H), the N heads side by side.", "The context (..., H)."]),
        # The fields of a config, with what their docstrings say.
        ("multitask/settings.html", "multitask.settings.DataSettings",
         ["accumulate: int = 1", "Batches whose gradients make one optimizer step"]),
        ("multitask/config.html", "multitask.config.TrainConfig",
         ["accumulate: int = 1", "both_orders: bool = False", "Bases: HeadSettings, RunConfig"]),
        ("minbert/encoders/bert.html", "minbert.encoders.bert.BertConfig", ["hidden_size: int"]),
        ("optim/adamw.html", "optim.adamw.AdamW",
         ["betas: tuple[float, float] = (0.9, 0.999)", "lr float learning rate, at least 0."]),
        ("data/tasks.html", "data.tasks.Task", ["metrics"]),
        ("lab/grade.html", "lab.grade.grade",
         ["unsafe: bool = False", "ValueError no sandbox can be made"]),
    ],
)  # fmt: skip
def test_signatures_and_docstrings_are_on_the_pages(site, name, place, words):
    found = page(site, name)
    assert place in found.places
    text = re.sub(r"<details.*?</details>", "", found.text, flags=re.DOTALL)  # the source
    _, begin, text = text.partition(f'id="{place}"')
    text = " ".join(html.unescape(re.sub(r"<[^>]+>", "", text)).split())
    assert begin
    for each in words:
        assert each in text, each


def test_the_search_knows_modules_and_texts(site):
    (home,) = (path.parent for path in site if path.name == "404.html")
    index = (home / "search" / "search_index.json").read_text(encoding="utf-8")
    for each in ("minbert.attend.attend", "docs/study.html", "multitask.config.TrainConfig"):
        assert each in index
