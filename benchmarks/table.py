"""The README's table and figure of speed, drawn from benchmarks/results/cpu.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks import growth, length
from minbert.files import read_json, replacing, write_text
from multitask.figures import COLOURS
from multitask.study.markdown import README, ROOT, put_between

RESULTS = Path(__file__).parent / "results" / "cpu.json"
FIGURE = ROOT / "docs" / "speed.svg"
BEGIN, END = "<!-- speed: python -m benchmarks table -->\n", "<!-- end of speed -->\n"
OURS = "minbert"


def speed_table(results: dict[str, Any]) -> str:
    """A row for each workload: rows a second, ratios turn by turn, share of the peak, memory."""
    lines = [
        "| workload | minbert | compared with | times as fast | aim | of peak | memory | "
        "best of the others, ours at its best |",
        "|" + " --- |" * 8,
    ]
    for name, workload in results["workloads"].items():
        candidates = {n: c for n, c in workload["candidates"].items() if "median" in c}
        ours = candidates[OURS]
        other, *_ = (n for n, c in candidates.items() if c["ratio"] == c["lowest"] == 1)
        best = min((n for n in candidates if not n.startswith(OURS)), key=_median(candidates))
        ours_best = min((n for n in candidates if n.startswith(OURS)), key=_median(candidates))
        at_best = candidates[best]["median"] / candidates[ours_best]["median"]
        aim = "" if workload["aim"] is None else f"{workload['aim']:g}"
        share = ours["useful_gflops"] / results["matmul_peak_gflops"]
        memory = f"{ours['peak_memory_mb']} MB : {candidates[other]['peak_memory_mb']} MB"
        lines.append(
            f"| {name} | {workload['rows'] / ours['median']:.0f} rows/s | {other} | "
            f"**{ours['ratio']:.2f}** ({ours['lowest']:.2f}-{ours['highest']:.2f}) | {aim} | "
            f"{share:.0%} | {memory} | {at_best:.2f} x {best} |"
        )
    return "\n".join(lines) + "\n"


def _median(candidates: dict[str, dict[str, Any]]) -> Any:
    return lambda name: candidates[name]["median"]


def draw(results: dict[str, Any], path: Path = FIGURE) -> None:
    """Bars of how many times quicker than the second candidate each one is."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    workloads = results["workloads"]
    figure = Figure(figsize=(9, 0.32 * sum(len(w["candidates"]) + 1.5 for w in workloads.values())))
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
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
    with replacing(path) as temporary:
        figure.savefig(temporary, format="svg", bbox_inches="tight", metadata={"Date": None})


def put_into_readme() -> Path:
    """Draw the table and the figures anew."""
    results = read_json(RESULTS)
    write_text(README, with_speed(README.read_text(encoding="utf-8"), results))
    draw(results)
    for name, one in (("growth", growth), ("length", length)):
        recorded = RESULTS.parent / f"{name}.json"
        if recorded.exists():
            one.draw(read_json(recorded)["points"], ROOT / "docs" / f"{name}.svg")
    return README


def with_speed(readme: str, results: dict[str, Any]) -> str:
    """The README with its table of speed drawn anew."""
    return put_between(readme, BEGIN, END, speed_table(results))
