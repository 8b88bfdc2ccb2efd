"""What stands under tables and figures: on what their runs were made, and where the records are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from multitask.report.records import RECORDS, Record

if TYPE_CHECKING:
    from multitask.report.run_set import RunSet


def was_run(found: RunSet) -> str:
    """On what and from what the runs were made, and what was cut of their data."""
    records = found.runs.values()
    limits = sorted({r["config"]["limit"] for r in records if r["config"]["limit"]})
    rows = " or ".join(f"{limit:,}" for limit in limits)
    cut = f" Only {rows} training rows of a task, taken at equal distances." if limits else ""
    backbones = sorted({r["backbone"]["source"] for r in records})
    start = f" Backbone: {backbones[0]}." if len(backbones) == 1 else ""
    return f"{machines(records)}{start}{cut} {commits(records)}"


def sources(found: RunSet) -> str:
    """Where the records behind a block are."""
    return f"\nFrom the [{len(found.runs)} records]({RECORDS.name}/{found.name}) of these runs.\n"


def _short(commit: str | None) -> str:
    """A commit in seven digits, with its + where files differed from it."""
    if not commit:
        return "unknown"
    return f"{commit[:7]}+" if commit.endswith("+") else commit[:7]


def machines(records: Iterable[Record]) -> str:
    """What records were made on."""
    names = set()
    for record in records:
        threads = "threads" if record["threads"] > 1 else "thread"
        names.add(f"{record['device']}, {record['threads']} {threads}")
    return f"Device: {'; '.join(sorted(names))}."


def commits(records: Iterable[Record]) -> str:
    """The commits that records were made with."""
    return f"Commits {', '.join(sorted({_short(r['commit']) for r in records}))}."


def only_task(record: Record) -> str:
    """The one task of a run; a KeyError of a run with several, as the block lacks such runs."""
    tasks = record["config"]["tasks"]
    if record["config"]["command"] != "train" or len(tasks) != 1:
        raise KeyError("runs with one task each")
    return tasks[0]
