"""The results table of the README, drawn from the records that are kept under records/.

python -m multitask.records runs/sst-11711 ...   keep the records of these runs
python -m multitask.records                      draw the table anew
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from data.tasks import TASKS
from minbert.files import read_json, write_json, write_text
from multitask.run import Run

ROOT = Path(__file__).parent.parent
RECORDS = ROOT / "records"
README = ROOT / "README.md"
BEGIN, END = "<!-- results: python -m multitask.records -->\n", "<!-- end of results -->\n"


def keep(folder: Path) -> Path:
    """Copy a run's record into records/, under the run's name."""
    path = RECORDS / f"{folder.name}.json"
    write_json(path, Run.open(folder).record())
    return path


def read_records() -> dict[str, dict[str, Any]]:
    """The records that are kept, by name."""
    return {path.stem: read_json(path) for path in sorted(RECORDS.glob("*.json"))}


def results_table(records: dict[str, dict[str, Any]]) -> str:
    """A row for each experiment, runs that differ in their seed alone together.

    A cell is the mean over seeds, with ± the standard deviation where there are several.
    """
    experiments: dict[str, list[str]] = defaultdict(list)
    for name in records:
        experiments[name.rpartition("-")[0]].append(name)
    tasks = [name for name in TASKS if any(name in record["dev"] for record in records.values())]
    header = [
        "experiment",
        *(f"{name.upper()} {TASKS[name].metrics[0]}" for name in tasks),
        "epochs",
        "seconds",
        "records",
    ]
    lines = [f"| {' | '.join(header)} |", "|" + " --- |" * len(header)]
    for experiment, names in experiments.items():
        runs = [records[name] for name in names]
        cells = [experiment]
        for task in tasks:
            metric = TASKS[task].metrics[0]
            cells.append(_spread([run["dev"][task][metric] for run in runs if task in run["dev"]]))
        cells.append(str(runs[0]["config"]["epochs"]))
        cells.append(f"{mean(run['seconds'] for run in runs):.0f}")
        cells.append(", ".join(f"[{n.rpartition('-')[2]}](records/{n}.json)" for n in names))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def with_results(readme: str, records: dict[str, dict[str, Any]]) -> str:
    """The README with its table drawn anew."""
    return put_between(readme, BEGIN, END, results_table(records))


def put_between(text: str, begin: str, end: str, new: str) -> str:
    """The text with what stands between two lines of it replaced."""
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    if not after:
        raise ValueError(f"the text lacks the lines {begin!r} and {end!r}, in this order")
    return f"{before}{begin}{new}{end}{after}"


def _spread(scores: list[float]) -> str:
    if not scores:
        return ""
    return f"{mean(scores):.3f}" + (f" ± {stdev(scores):.3f}" if len(scores) > 1 else "")


def main() -> None:
    """Keep the records of the runs named on the command line, and draw the table."""
    for folder in sys.argv[1:]:
        print(keep(Path(folder)))
    write_text(README, with_results(README.read_text(encoding="utf-8"), read_records()))


if __name__ == "__main__":
    main()
