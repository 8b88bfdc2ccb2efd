"""What a campaign found, kept as docs/reliability.json, and the table of docs/reliability.md."""

from __future__ import annotations

import platform
import textwrap
from datetime import date
from pathlib import Path
from typing import Any

import torch

from minbert.files import read_json, write_json, write_text
from multitask.environment import environment
from multitask.report.markdown import markdown, put_between

ROOT = Path(__file__).resolve().parent.parent.parent
RECORD = ROOT / "docs" / "reliability.json"
PAGE = ROOT / "docs" / "reliability.md"
MARKS = "<!-- campaign: python -m tests.campaign --record -->\n", "<!-- end of campaign -->\n"


def where() -> dict[str, Any]:
    """When, on what and with what a campaign runs."""
    found = environment(torch.device("cpu"))
    kept = {name: found[name] for name in ("commit", "device", "versions", "route")}
    return {"date": str(date.today()), "system": platform.system(), **kept}


def keep(kinds: dict[str, dict[str, Any]], head: dict[str, Any]) -> None:
    """Write down what was tried and held, and put it into the page."""
    write_json(RECORD, {**head, "kinds": kinds})
    write_text(PAGE, page(PAGE.read_text(encoding="utf-8"), read_json(RECORD)))


def page(text: str, record: dict[str, Any]) -> str:
    """The page with the table of a record."""
    return put_between(text, *MARKS, table(record))


def table(record: dict[str, Any]) -> str:
    """What was tried and held of each kind, and where."""
    rows = [
        [name, found["promise"], f"{found['tried']:,}", f"{found['held']:,}"]
        for name, found in record["kinds"].items()
    ]
    minutes = sum(found["seconds"] for found in record["kinds"].values()) / 60
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    commit = (record["commit"] or "")[:7]
    where = (
        f"Seed {record['seed']}, {record['date']}, {minutes:.0f} minutes, {record['device']}, "
        f"{record['system']}, {versions}, commit {commit}."
    )
    header = ["kind", "what must hold", "tried", "held"]
    return f"{markdown(header, rows, left=2)}\n{textwrap.fill(where, 100)}\n"


def is_drawn(path: Path = PAGE) -> bool:
    """Whether the page has the table of the record."""
    text = path.read_text(encoding="utf-8")
    return page(text, read_json(RECORD)) == text
