"""The report: tables and figures put between markers of a Markdown file, its prose left alone.

    <!-- report: NAME/table-1 -->
    (drawn anew by `minbert report`)
    <!-- end of NAME/table-1 -->

NAME is a study: a folder of records/, or the folder of a study that was run. Blocks about folders
of runs are in run_blocks.py; there NAME is a folder of records/.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from minbert.files import write_text
from multitask.report import run_blocks
from multitask.report import study_figures as figures
from multitask.report import study_tables as tables
from multitask.report.latex import to_latex
from multitask.report.markdown import MARKER, RESULTS, put_between
from multitask.report.mistakes import draw_mistakes
from multitask.report.records import RECORDS, Study, read_records
from multitask.report.run_set import RunSet
from multitask.study.folder import StudyFolder
from multitask.study.table_rows import TASKS

ANALYSED = ("mlm30-task+mt", "mlm15-task+mt", "mt", "ft+pll", "ft", "frozen")
"""Rows whose mistakes are worth a look, the published best first."""

FIGURES: dict[str, tuple[str, Callable[[Study, Path], Path | None], tuple[str, ...]]] = {
    "figure-1": (
        "STS with one part of the encoder trained",
        figures.one_part_trained,
        ("only-",),
    ),
    "figure-2": ("SST against epochs of MLM", figures.mlm_epochs, ("mlm-", "ft+pll")),
    "figure-lora": (
        "Score and size of LoRA against its rank",
        figures.lora_ranks,
        ("lora-",),
    ),
    "figure-methods": (
        "Ways to train few parameters",
        figures.methods,
        figures.METHODS,
    ),
    "figure-curves": ("Learning curves", figures.learning_curves, figures.CURVES),
    "figure-cosines": (
        "Cosines between the tasks' gradients",
        figures.cosines,
        ("mt-together", "mt-surgery"),
    ),
    "figure-errors": (
        "What is answered wrong",
        lambda study, path: draw_mistakes(study, analysed(study), path),
        ANALYSED,
    ),
}
"""Block -> title, how it is drawn, and the rows that it is drawn from: see `_rows_like`."""
TABLES: dict[str, Callable[[Study], str]] = {
    "notes": tables.notes,
    **{name: lambda study, name=name: tables.scores_table(study, name) for name in tables.SECTIONS},
    "table-5": tables.best_table,
    "deviations": lambda study: tables.deviations_table(),
    "presets": tables.presets_table,
    "costs": tables.costs_table,
    "worst": lambda study: tables.worst_table(study, analysed(study)),
    "records": tables.records_table,
}
TITLES = {
    "notes": "What was run",
    "table-1": "Table 1: heads alone, full fine-tuning, per-layer rates",
    "table-2": "Table 2: few parameters",
    "table-3": "Table 3: further pre-training",
    "table-4": "Table 4: multitask training first",
    "table-5": "Table 5: overall scores",
    "deviations": "Where the published code and text disagree",
    "presets": "What the deviations cost",
    "costs": "What each method costs",
    "worst": "Most confidently wrong",
    **{block: title for block, (title, _, _) in FIGURES.items()},
    "records": "Records",
}


def analysed(study: Study) -> str | None:
    """The row whose mistakes are shown: of those that were run on the most tasks, the first."""
    tasks = {row: sum(bool(study.scores("corrected", row, t)) for t in TASKS) for row in ANALYSED}
    best = max(ANALYSED, key=lambda row: tasks[row])
    return best if tasks[best] else None


def block_text(study: Study, block: str, report: Path, kind: str = "svg") -> str:
    """What stands between the markers of a block; draws the figure, where it is one, as svg or
    pdf."""
    if not study.stages and block != "deviations":
        return tables.NOTHING
    if block in TABLES:
        return TABLES[block](study)
    title, draw, rows = FIGURES[block]
    path = report.parent / "figures" / f"{study.name}-{block.removeprefix('figure-')}.{kind}"
    if draw(study, path) is None:
        return tables.NOTHING
    row = analysed(study) if block == "figure-errors" else None
    used = _rows_like(study, rows) if row is None else [row]
    link = path.relative_to(report.parent).as_posix()
    return f"![{title}]({link})\n" + tables.sources(study, used)


def _rows_like(study: Study, names: tuple[str, ...]) -> list[str]:
    """The rows that there are records of, of these names; a name that ends in - stands for all
    that begin with it."""
    every = {result["row"] for plan in study.plans for result in plan["results"]}
    beginnings = tuple(name for name in names if name.endswith("-"))
    rows = (row for row in sorted(every) if row in names or row.startswith(beginnings))
    return [row for row in rows if study.names("corrected", [row])]


def redraw(report: Path, find: Callable[[str], Study], records: Path = RECORDS) -> list[str]:
    """Draw every block of a report anew, and return their names.

    Args:
        report: the Markdown file.
        find: gives the study of a name.
        records: folder with the records of runs.

    Raises:
        ValueError: a marker names no block, or has no end.
    """
    text = report.read_text(encoding="utf-8")
    found = []
    for match in MARKER.finditer(text):
        name, block = match["study"], match["block"]
        new = _drawn(report, name, block, find, records)
        end = f"<!-- end of {name}/{block} -->\n"
        text = put_between(text, match[0], end, f"\n{new}\n")
        found.append(f"{name}/{block}")
    write_text(report, text)
    return found


def _drawn(
    report: Path,
    name: str,
    block: str,
    find: Callable[[str], Study],
    records: Path,
    kind: str = "svg",
) -> str:
    if block in run_blocks.BLOCKS:
        return run_blocks.block_text(RunSet.of_records(records / name), block, report, kind)
    if block in TITLES:
        return block_text(find(name), block, report, kind)
    known = ", ".join([*TITLES, *run_blocks.BLOCKS])
    raise ValueError(f"{report}: no block is called {block!r}; known are {known}")


def write_latex(report: Path, find: Callable[[str], Study], records: Path = RECORDS) -> Path:
    """Write a report that is drawn as LaTeX too, NAME.tex beside it, with its figures as PDF.

    Raises:
        ValueError: the report shows a figure that LaTeX cannot include.
    """
    text = report.read_text(encoding="utf-8")
    titles = {"results": "Results"}
    for match in MARKER.finditer(text):
        name, block = match["study"], match["block"]
        if block.startswith("figure-"):
            _drawn(report, name, block, find, records, "pdf")
        found = run_blocks.BLOCKS.get(block)
        title = found.title if found else TITLES[block]
        titles[f"{name}/{block}"] = re.sub(r"^Table \d+: ", "", title)  # LaTeX counts itself
    path = report.with_suffix(".tex")
    write_text(path, to_latex(text, titles))
    return path


def skeleton(study: Study) -> str:
    """A report without prose: a heading and empty markers for each block."""
    parts = [f"# Report of {study.name}\n"]
    for block, title in TITLES.items():
        mark = f"{study.name}/{block}"
        parts.append(f"\n## {title}\n\n<!-- report: {mark} -->\n<!-- end of {mark} -->\n")
    return "".join(parts)


def report_on(folder: Path, *, latex: bool = False) -> list[Path]:
    """Draw the report of a study's own folder from its runs: FOLDER/Report.md.

    Returns:
        It, and with `latex` FOLDER/Report.tex.
    """
    study = Study.of_runs(StudyFolder.open(folder))
    path = folder / "Report.md"
    if not path.exists():
        write_text(path, skeleton(study))
    redraw(path, lambda name: study)
    return [path, *([write_latex(path, lambda name: study)] if latex else [])]


def report_on_records(
    documents: Iterable[Path], records: Path = RECORDS, *, latex: bool = False
) -> list[Path]:
    """Draw the blocks of documents, and the results table of those that have its marker, anew.

    Returns:
        The documents, and with `latex` after each the same as LaTeX.

    Raises:
        ValueError: a document is not there, or a marker in it names no block.
    """
    studies: dict[str, Study] = {}

    def find(name: str) -> Study:
        if name not in studies:
            studies[name] = Study.of_records(records / name)
        return studies[name]

    written = []
    for path in documents:
        if not path.is_file():
            raise ValueError(
                f"{path} is no document and no folder of a study; name a Markdown file with the "
                "markers of docs/study.md, or the folder that minbert study run wrote"
            )
        redraw(path, find, records)
        text = path.read_text(encoding="utf-8")
        if RESULTS[0] in text:
            write_text(path, with_results(text, read_records(records)))
        written += [path, *([write_latex(path, find, records)] if latex else [])]
    return written


def with_results(text: str, records: dict) -> str:
    """The README, or another text, with its results table drawn anew."""
    return put_between(text, *RESULTS, tables.results_table(records))
