"""The report's figures of scores, losses and gradients, each a function of a study's records.

Each writes an SVG file and returns its path, or None where the records hold nothing to draw.
Published values are drawn dashed with open marks.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from data.tasks import TASKS
from multitask.report.drawing import OURS, THEIRS, heat_map, plot_seeds, save
from multitask.report.records import Study
from multitask.report.study_tables import LABELS
from multitask.runs.run_figure import COLOURS
from multitask.study.table_rows import MAIN, SCALES
from multitask.study.table_rows import TASKS as STUDIED

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURE_1 = (
    .700, .796, .802, .812, .828, .831, .829, .837, .839, .830, .822, .808, .802, .679,
)  # fmt: skip
"""Published Pearson r of STS with one part trained: embeddings, layers 1 to 12, pooler; read off a
plot, ± .001."""
FIGURE_2 = (
    .518, .521, .518, .527, .520, .522, .524, .520, .528, .525, .521, .524, .520, .525, .524, .526,
    .525, .527, .530, .527, .528, .530, .532, .532, .530, .532, .530, .531, .538, .532, .535,
)  # fmt: skip
"""Published accuracy of SST after 0, 1, ..., 30 epochs of MLM."""
RANKS = (1, 2, 4, 8)
METHODS = ("frozen", "ia3", "bitfit", "lora-1", "lora-4", "ft+pll")
CURVES = ("ft", "ft+pll", "lora-4", "mt", "mlm30-task")
METRICS = {"sst": "accuracy", "para": "accuracy", "sts": "Pearson's r", "cola": "accuracy"}
PUBLISHED = {row.id: dict(zip(STUDIED, row.published)) for row in MAIN}


def one_part_trained(study: Study, path: Path) -> Path | None:
    """Figure 1: STS with one part of the encoder trained at a time."""
    rows = list(
        dict.fromkeys(
            r["row"]
            for plan in study.plans
            for r in plan["results"]
            if r["row"].startswith("only-")
        )
    )
    order = {"embeddings": -1, "pooler": 1000}
    parts = {row: row.removeprefix("only-").replace("layer-", "") for row in rows}
    rows.sort(key=lambda row: order.get(parts[row], 0) or int(parts[row]))
    by_part = {parts[row]: study.scores("corrected", row, "sts") for row in rows}
    by_part = {part: scores for part, scores in by_part.items() if scores}
    if not by_part:
        return None

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, width_ratios=(14, max(6, len(by_part))))
        names = ["emb.", *map(str, range(1, 13)), "pool."]
        left.plot(range(len(names)), FIGURE_1, **THEIRS)
        left.set(title="bert-base, published", ylabel="STS dev, Pearson's r")
        plot_seeds(right, range(len(by_part)), list(by_part.values()))
        right.set(title=f"{study.settings['backbone']}, ours")
        short = {"embeddings": "emb.", "pooler": "pool."}
        for axes, labels in ((left, names), (right, [short.get(part, part) for part in by_part])):
            axes.set_xticks(range(len(labels)), labels)
            axes.set_xlabel("layer (or part) trained")

    return save(path, (9, 3.4), draw)


def mlm_epochs(study: Study, path: Path) -> Path | None:
    """Figure 2: SST after fine-tuning, against epochs of further pre-training."""
    leg = SCALES[study.settings["scale"]].mlm_leg
    rows = {r["row"] for plan in study.plans for r in plan["results"]}
    epochs = sorted(int(r[4:]) for r in rows if r.startswith("mlm-"))
    points = {0: study.scores("corrected", "ft+pll", "sst")}
    points |= {epoch: study.scores("corrected", f"mlm-{epoch}", "sst") for epoch in epochs}
    points = {epoch: scores for epoch, scores in points.items() if scores}
    if len(points) < 2:
        return None

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        left.plot(range(len(FIGURE_2)), FIGURE_2, **THEIRS)
        left.set(title="bert-base, published", ylabel="SST dev, accuracy")
        plot_seeds(right, list(points), list(points.values()))
        right.set(title=f"{study.settings['backbone']}, ours (stages of {leg})")
        for axes in (left, right):
            axes.set_xlabel("epochs of MLM on SST's text")
            axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)

    return save(path, (9, 3.2), draw)


def lora_ranks(study: Study, path: Path) -> Path | None:
    """LoRA: score of each task, and trained parameters, against the rank."""
    rows = [f"lora-{rank}" for rank in RANKS]
    if not study.names("corrected", rows):
        return None

    def draw(figure: Figure) -> None:
        *panels, last = figure.subplots(1, 5)
        for axes, task in zip(panels, STUDIED):
            theirs = [PUBLISHED[row][task] for row in rows]
            axes.plot(RANKS, theirs, **THEIRS, label="bert-base, published")
            ours = {r: study.scores("corrected", row, task) for r, row in zip(RANKS, rows)}
            ours = {rank: scores for rank, scores in ours.items() if scores}
            plot_seeds(axes, list(ours), list(ours.values()), f"{study.settings['backbone']}, ours")
            axes.set(title=f"{LABELS[task]} dev", ylabel=METRICS[task])
        trained = {}
        for rank, row in zip(RANKS, rows):
            for stages in study.results("corrected", row, "sst")[:1]:
                trained[rank] = stages[-1]["parameters"]["trained"]
        last.plot(trained.keys(), [n / 1e3 for n in trained.values()], **OURS)
        last.set(title="Size", ylabel="parameters trained, thousands", ylim=(0, None))
        for axes in (*panels, last):
            axes.set_xscale("log", base=2)
            axes.set_xticks(RANKS, map(str, RANKS))
            axes.set_xlabel("rank")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)

    return save(path, (11, 3), draw)


def methods(study: Study, path: Path) -> Path | None:
    """Heads alone, IA3, BitFit, LoRA and full fine-tuning, side by side."""
    rows = [row for row in METHODS if study.names("corrected", [row])]
    if len(rows) < 2:
        return None

    def draw(figure: Figure) -> None:
        panels = figure.subplots(1, 4, sharey=True)
        for axes, task in zip(panels, STUDIED):
            for place, row in enumerate(rows):
                scores = study.scores("corrected", row, task)
                axes.plot(scores, [place] * len(scores), "o", color=COLOURS[0])
                if row in PUBLISHED:
                    axes.plot(
                        PUBLISHED[row][task], place, "D", color=COLOURS[1], markerfacecolor="none"
                    )
            axes.set(title=f"{LABELS[task]} dev", xlabel=METRICS[task])
            axes.margins(y=0.12)
        panels[0].set_yticks(range(len(rows)), [_with_size(study, row) for row in rows])
        panels[0].plot([], [], "o", color=COLOURS[0], label=f"{study.settings['backbone']}, ours")
        panels[0].plot(
            [], [], "D", color=COLOURS[1], markerfacecolor="none", label="bert-base, published"
        )
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2)

    return save(path, (11, 0.9 + 0.42 * len(rows)), draw)


def learning_curves(study: Study, path: Path) -> Path | None:
    """Training loss and development score of the last stages, as they went."""
    rows = [row for row in CURVES if study.names("corrected", [row])]
    if not rows:
        return None

    def draw(figure: Figure) -> None:
        above, below = figure.subplots(2, 4)
        for losses, scores, task in zip(above, below, STUDIED):
            for row, colour in zip(rows, COLOURS):
                for stages in study.results("corrected", row, task)[:1]:
                    curves = stages[-1]["curves"]
                    losses.plot(*zip(*curves["loss"][task]), color=colour, label=row)
                    scores.plot(*zip(*curves["dev"][task]), "o-", color=colour)
            losses.set(title=LABELS[task], xlabel="optimizer step")
            scores.set(xlabel="epoch")
            scores.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
            scores.set_ylabel(f"dev, {TASKS[task].metrics[0]}")
        above[0].set_ylabel("training loss")
        figure.legend(*above[0].get_legend_handles_labels(), loc="outside lower center", ncols=6)

    return save(path, (11, 5.4), draw)


def cosines(study: Study, path: Path) -> Path | None:
    """Mean cosine between the gradients of two tasks, with and without gradient surgery."""
    tables = {}
    for row, title in (("mt-together", "added up"), ("mt-surgery", "gradient surgery (PCGrad)")):
        for stages in study.results("corrected", row, "sst")[:1]:
            tables[title] = next((s["cosines"] for s in stages if "cosines" in s), None)
    tables = {title: table for title, table in tables.items() if table}
    if not tables:
        return None
    largest = max(
        abs(value)
        for table in tables.values()
        for i, line in enumerate(table["mean"])
        for j, value in enumerate(line)
        if i != j
    )

    def draw(figure: Figure) -> None:
        panels = figure.subplots(1, len(tables), squeeze=False)[0]
        images = []
        for axes, (title, table) in zip(panels, tables.items()):
            names = [LABELS[task] for task in table["tasks"]]
            images += [heat_map(axes, table["mean"], names, names, "{:.3f}", limits=largest)]
            axes.set(title=f"{title}, {table['steps']} steps")
        figure.colorbar(images[-1], ax=panels, label="mean cosine of gradients", shrink=0.8)

    return save(path, (4.2 * len(tables) + 0.8, 3.6), draw)


def _with_size(study: Study, row: str) -> str:
    stages = study.results("corrected", row, "sst") or study.results("corrected", row, "sts")
    if not stages:
        return row
    trained = stages[0][-1]["parameters"]["trained"]
    size = f"{trained / 1e6:.1f} M" if trained >= 1e6 else f"{trained / 1e3:.0f} k"
    return f"{row}, {size}"
