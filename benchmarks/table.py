"""The tables and figures of speed in README.md and docs/speed.md, drawn from results/."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import drift, grade, growth, host, inside, length, student
from minbert.files import read_json, write_text
from multitask.report.markdown import markdown, put_between
from multitask.runs.run_figure import COLOURS, save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = ("README.md", "docs/speed.md", "docs/gpu.md", "docs/show.md", "docs/teaching.md")
OURS = "minbert"


def speed_table(results: dict[str, Any]) -> str:
    """A row for each workload: rows a second, ratios turn by turn, share of the peak, memory; and
    a line on how they were measured."""
    lines = [
        "| workload | minbert | compared with | times as fast | of peak | memory | "
        "best of the others, ours at its best |",
        "|" + " --- |" * 7,
    ]
    for name, workload in results["workloads"].items():
        candidates = {n: c for n, c in workload["candidates"].items() if "median" in c}
        ours = next(c for n, c in candidates.items() if n.startswith(OURS))
        other, *_ = (n for n, c in candidates.items() if c["ratio"] == c["lowest"] == 1)
        best = min((n for n in candidates if not n.startswith(OURS)), key=_median(candidates))
        ours_best = min((n for n in candidates if n.startswith(OURS)), key=_median(candidates))
        at_best = candidates[best]["median"] / candidates[ours_best]["median"]
        share = ours["useful_gflops"] / results["matmul_peak_gflops"]
        memory = f"{ours['peak_memory_mb']} MB : {candidates[other]['peak_memory_mb']} MB"
        lines.append(
            f"| {name} | {workload['rows'] / ours['median']:.0f} rows/s | {other} | "
            f"**{ours['ratio']:.2f}** ({ours['lowest']:.2f}-{ours['highest']:.2f}) | "
            f"{share:.0%} | {memory} | {at_best:.2f} x {best} |"
        )
    return "\n".join([*lines, "", _how(results)]) + "\n"


def _how(results: dict[str, Any]) -> str:
    """When, on how many threads, by which route, and against which peak a table was measured."""
    workloads = results["workloads"].values()
    days = " and ".join(sorted({workload["date"] for workload in workloads}))
    torch = " and ".join(sorted({workload["versions"]["torch"] for workload in workloads}))
    return (
        f"Measured {days} on {results['threads']} threads by route {results['route']}, PyTorch "
        f"{torch}; the best matrix product reached {results['matmul_peak_gflops']:.0f} GFLOP/s."
    )


def _median(candidates: dict[str, dict[str, Any]]) -> Any:
    return lambda name: candidates[name]["median"]


def draw(results: dict[str, Any], path: Path) -> None:
    """Bars of how many times quicker than the second candidate each one is."""
    workloads = results["workloads"]

    def bars(figure: Figure) -> None:
        axes = figure.subplots()
        place, ticks, labels = 0.0, [], []
        for name, workload in workloads.items():
            axes.text(0, place, name, weight="bold", va="center")
            for candidate, result in workload["candidates"].items():
                if "ratio" not in result:
                    continue
                place -= 1
                ticks.append(place)
                labels.append(candidate)
                ends = [[result["ratio"] - result["lowest"]], [result["highest"] - result["ratio"]]]
                colour = COLOURS[0] if candidate.startswith(OURS) else COLOURS[5]
                axes.barh(place, result["ratio"], xerr=ends, color=colour, height=0.7)
            place -= 1.5
        axes.axvline(1, color="black", linewidth=0.8)
        axes.set_yticks(ticks, labels)
        axes.set(xlabel="times as fast as the default alternative (bar at 1)", ylim=(place + 1, 1))
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)

    height = 0.32 * sum(len(w["candidates"]) + 1.5 for w in workloads.values())
    save_figure(path, (9, height), bars)


def draw_all(root: Path = ROOT) -> list[Path]:
    """Draw the tables and figures of the project, or of a copy of its documents, anew; the files
    that hold the tables."""
    results = all_results()
    tables = all_tables(results)
    documents = [root / name for name in DOCUMENTS]
    for path in documents:
        write_text(path, with_tables(path.read_text(encoding="utf-8"), tables))
    draw(results["cpu"], root / "docs" / "speed.svg")
    for name, one in (("growth", growth), ("length", length)):
        recorded = RESULTS / f"{name}.json"
        if recorded.exists():
            one.draw(read_json(recorded)["points"], root / "docs" / f"{name}.svg")
    return documents


def all_results() -> dict[str, dict[str, Any]]:
    """The recorded results of each machine, by the name of their file."""
    return {path.stem: read_json(path) for path in sorted(RESULTS.glob("cpu*.json"))}


def all_tables(results: Mapping[str, dict[str, Any]]) -> dict[str, str]:
    """Every table by the name of its markers."""
    tables = {f"speed: {name}": speed_table(found) for name, found in results.items()}
    for name, key, mark, module, left in (
        ("drift", "runs", "drift", drift, 2),
        ("inside", "runs", "inside", inside, 4),
        ("grade", "classes", "class", grade, 0),
        ("student", "steps", "student", student, 1),
    ):
        if (RESULTS / f"{name}.json").exists():
            found = read_json(RESULTS / f"{name}.json")[key]
            tables[mark] = markdown(module.HEADER, module.rows(found), left=left)
    found = {}
    for path in sorted(RESULTS.glob("host*.json")):
        found = {**read_json(path)["candidates"], **found}
    if found:
        tables["host"] = markdown(host.HEADER, host.rows(found))
    return tables


def with_tables(text: str, tables: Mapping[str, str]) -> str:
    """A document with those of its tables drawn anew that stand between markers."""
    for name, table in tables.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
        if begin in text:
            text = put_between(text, begin, end, table)
    return text
