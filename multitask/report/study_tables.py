"""The report's tables, in Markdown, drawn from records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from statistics import mean

from data.readers import has_split, texts_by_id
from data.tasks import TASKS
from multitask.metrics import overall
from multitask.report.markdown import markdown
from multitask.report.notes import commits, machines
from multitask.report.records import Record, Study, passes, published_metric
from multitask.study.deviations import DEVIATIONS
from multitask.study.table_rows import MAIN, METHODS, SCALES, Row
from multitask.study.table_rows import TASKS as STUDIED
from multitask.text_table import spread

LABELS = {"sst": "SST", "para": "PARA", "sts": "STS", "cola": "LIN"}
"""Names of the published tables; LIN is CoLA."""
NOTHING = "There is no record of these rows yet: run them with `minbert study run`.\n"
SECTIONS: Mapping[str, tuple[str, ...]] = {
    "table-1": ("frozen", "ft", "ft+pll"),
    "table-2": ("lora-1", "lora-2", "lora-4", "lora-8", "bitfit", "ia3", "mt+lora-4",
                "mlm15-task+lora-4"),
    "table-3": ("mlm15-task", "mlm15-all", "mlm30-task", "mlm30-all"),
    "table-4": ("mt", "mt-together", "mt-surgery", "mlm15-task+mt", "mlm15-all+mt",
                "mlm30-task+mt"),
}  # fmt: skip
TEST_PUBLISHED = (0.557, 0.892, 0.871, 0.795)
BY_ID: Mapping[str, Row] = {row.id: row for row in (*MAIN, *METHODS)}


def scores_table(study: Study, section: str, variant: str = "corrected") -> str:
    """Published scores of bert-base beside ours, a row for each experiment."""
    ids = SECTIONS[section]
    if not study.names(variant, ids):
        return NOTHING
    header = [
        "row",
        "stages before the last",
        *LABELS.values(),
        *(f"{label}, ours" for label in LABELS.values()),
        "seeds",
    ]
    rows = []
    for row_id in ids:
        row = BY_ID[row_id]
        published = [_number(value) for value in row.published or [None] * len(STUDIED)]
        scores = [study.scores(variant, row_id, task) for task in STUDIED]
        seeds = str(max(map(len, scores), default=0))
        rows.append(
            [f"`{row_id}`", row.title, *published, *(spread(s) or "-" for s in scores), seeds]
        )
    lasts = [s[-1] for i in ids for task in STUDIED for s in study.results(variant, i, task)]
    constant = constant_cells(lasts, STUDIED, [published_metric(task) for task in STUDIED])
    if constant:
        rows.append(["", CONSTANT, *[""] * len(STUDIED), *constant, ""])
    note = (
        "Development sets; SST, PARA, LIN: accuracy, STS: Pearson's r. The columns without "
        f"“ours” are published, of bert-base-uncased; ours are of {study.settings['backbone']}. "
        f"{_cut_of_para(lasts)}\n"
    )
    return markdown(header, rows, left=2) + "\n" + note + sources(study)


def _cut_of_para(lasts: Iterable[Record]) -> str:
    """Which of Quora's rows PARA is of."""
    sizes = {f"{r['rows']['para']['dev']:,}" for r in lasts if "para" in r["rows"]}
    ours = f", ours of {' or '.join(sorted(sizes))} rows" if sizes else ""
    return f"Published PARA is of the 40,429 rows of the course's Quora of 2024{ours}."


def best_table(study: Study, variant: str = "corrected") -> str:
    """Overall scores, mean(SST, PARA, (1 + STS) / 2), of the published rows, best first."""
    rows = []
    for row in MAIN:
        sst, para, sts, _ = row.published
        ours = {task: study.scores(variant, row.id, task) for task in ("sst", "para", "sts")}
        means = {task: mean(found) for task, found in ours.items() if found}
        total = overall(means).get("mean_normalised")
        rows.append(
            (row.id, overall({"sst": sst, "para": para, "sts": sts})["mean_normalised"], total)
        )
    if all(total is None for *_, total in rows):
        return NOTHING
    rows.sort(key=lambda row: (row[2] is None, -(row[2] or row[1])))
    lines = [[f"`{row_id}`", _number(published), _number(ours)] for row_id, published, ours in rows]
    note = (
        "Overall is mean(SST, PARA, (1 + STS) / 2) on the development sets. On the test sets, "
        "whose labels are not public, the last published row had SST {:.3f}, PARA {:.3f}, "
        "STS {:.3f}, overall {:.3f}. "
    ).format(*TEST_PUBLISHED)
    note += _cut_of_para(r[-1] for row in MAIN for r in study.results(variant, row.id, "para"))
    header = ["row", "overall, published", f"overall, {study.settings['backbone']}"]
    return markdown(header, lines) + "\n" + note + "\n" + sources(study)


def deviations_table() -> str:
    """The eight differences between the published code and text, and what they touch."""
    ordered = sorted(DEVIATIONS, key=lambda deviation: deviation.number)
    rows = [[f"{d.number}. `{d.name}`", d.title, d.touches] for d in ordered]
    return markdown(["deviation", "what the code did", "touches"], rows, left=3)


def presets_table(study: Study) -> str:
    """Rows that were run in other variants than `corrected`, beside that."""
    others = [variant for variant in study.variants if variant != "corrected"]
    rows = []
    for row in BY_ID.values():
        by_variant = {v: [study.scores(v, row.id, task) for task in STUDIED] for v in others}
        by_variant = {variant: scores for variant, scores in by_variant.items() if any(scores)}
        if not by_variant:
            continue
        corrected = [study.scores("corrected", row.id, task) for task in STUDIED]
        for variant, scores in {"corrected": corrected, **by_variant}.items():
            rows.append([f"`{row.id}`", variant, *(spread(s) or "-" for s in scores)])
        if row.published:
            rows.append(["", "published, bert-base", *map(_number, row.published)])
    if not rows:
        return (
            "There is no record of another variant than corrected yet: `--preset as-published`.\n"
        )
    table = markdown(["row", "variant", *LABELS.values()], rows, left=2)
    lasts = [r[-1] for v in others for i in BY_ID for r in study.results(v, i, "para")]
    return f"{table}\n{_cut_of_para(lasts)}\n{sources(study)}"


def costs_table(study: Study, variant: str = "corrected") -> str:
    """What each method costs on its last stage: parameters, time, memory; sums over tasks."""
    rows, ids = [], []
    for row in BY_ID.values():
        lasts, chains = [], defaultdict(list)
        for task in STUDIED:
            for stages in study.results(variant, row.id, task)[:1]:
                lasts.append(stages[-1])
                chains[task] = stages
        if not lasts:
            continue
        ids.append(row.id)
        before = {id(r): r["seconds"] for stages in chains.values() for r in stages[:-1]}
        seconds, steps = (sum(record[key] for record in lasts) for key in ("seconds", "steps"))
        memory = max(record["peak_memory_mb"] for record in lasts)
        numbers = [seconds, sum(before.values()), 1000 * seconds / steps, memory]
        trained = lasts[0]["parameters"]["trained"]
        rows.append([f"`{row.id}`", f"{trained:,}", *(f"{number:.0f}" for number in numbers)])
    if not rows:
        return NOTHING
    header = [
        "row",
        "parameters trained",
        "seconds, last stages",
        "seconds, stages before",
        "ms a step",
        "peak memory, MB",
    ]
    made_on = machines(study.stages[name] for name in study.names(variant, ids))
    note = (
        "Seconds are the sum over the tasks with the first seed, scoring of the development sets "
        f"included; stages before are shared with other rows. {made_on}\n"
    )
    return markdown(header, rows) + "\n" + note + sources(study)


def worst_table(study: Study, row: str | None, variant: str = "corrected") -> str:
    """The most confidently wrong answers: with their texts in the report of a study's own folder;
    in the project's by id alone, for the sentences are not ours to give."""
    if row is None:
        return NOTHING
    rows = []
    for task in STUDIED:
        texts: dict[str, tuple[str, ...]] = {}
        if study.data_dir and has_split(TASKS[task], "dev", study.data_dir):
            texts = texts_by_id(TASKS[task], "dev", study.data_dir)
        for stages in study.results(variant, row, task)[:1]:
            for wrong in stages[-1]["analysis"][task]["worst"][:5]:
                sure = f"{wrong['probability']:.3f}" if "probability" in wrong else "-"
                label, answer = (TASKS[task].named(wrong[key]) for key in ("label", "answer"))
                text = " / ".join(texts.get(wrong["id"], ())).replace("|", "\\|")
                rows.append([LABELS[task], f"`{wrong['id']}`", label, answer, text, sure])
    header = ["task", "id", "label", "answer", "text", "probability"]
    if not study.data_dir:
        header, *rows = (line[:4] + line[5:] for line in (header, *rows))
    return markdown(header, rows, left=len(header) - 1) + "\n" + sources(study, [row])


def notes(study: Study) -> str:
    """What was run: commands, and what differs from the published settings."""
    scale = SCALES[study.settings["scale"]]
    lines = [f"Scale `{scale.name}`: {scale.note}.\n\n"]
    for plan in study.plans:
        seeds: dict[str, set[int]] = defaultdict(set)
        for result in plan["results"]:
            seeds[result["row"]].add(result["seed"])
        preset, *names = plan["variant"].split("+")
        for count in sorted({len(found) for found in seeds.values()}):
            rows = [row for row, found in seeds.items() if len(found) >= count]
            wanted = [
                result
                for result in plan["results"]
                if result["row"] in rows and result["seed"] in sorted(seeds[result["row"]])[:count]
            ]
            every = set(BY_ID) <= set(rows)
            tasks = [task for task in STUDIED if any(r["task"] == task for r in wanted)]
            command = [
                "minbert study run",
                *([] if every else rows),
                *(["--tasks", *tasks] if tasks != list(STUDIED) else []),
                f"--scale {scale.name}",
                f"--preset {preset}",
                *([f"--deviations {' '.join(names)}"] if names else []),
                f"--backbone {study.settings['backbone']}",
                f"--data-dir {study.settings['data_dir']}",
                f"--seeds {count}",
            ]
            done = sum(result["stages"][-1] in study.stages for result in wanted)
            lines.append(f"- `{' '.join(command)}`: {done} of {len(wanted)} results\n")
    made = study.stages.values()
    lines.append(
        f"\n{machines(made)} {commits(made)} Each of the "
        f"{len(study.stages)} records has its settings, seed, commit and versions.\n"
    )
    return "".join(lines)


def sources(study: Study, rows: Sequence[str] = ()) -> str:
    """Where the records behind a table or figure are: in the list of them, by row."""
    these = ", ".join(f"`{row}`" for row in rows) or "these rows"
    return f"\nFrom the [records](#{study.name}-records) of {these}.\n"


def records_table(study: Study) -> str:
    """The record of each score, under its seed; of the stages before, under their names."""

    def links(names: Iterable[str], texts: Iterable[str]) -> str:
        found = dict(zip(names, texts))
        return ", ".join(f"[{t}]({study.link(n)})" for n, t in found.items() if n in study.stages)

    rows = []
    for plan in study.plans:
        ordered = [row for row in BY_ID if any(r["row"] == row for r in plan["results"])]
        others = {r["row"] for r in plan["results"]}.difference(ordered)
        for row in [*ordered, *sorted(others)]:
            results = [r for r in plan["results"] if r["row"] == row]
            cells = []
            for task in STUDIED:
                own = [r for r in results if r["task"] == task]
                cells.append(links((r["stages"][-1] for r in own), (str(r["seed"]) for r in own)))
            before = dict.fromkeys(name for r in results for name in r["stages"][:-1])
            if any(cells):
                rows.append([f"`{row}`", plan["variant"], *cells, links(before, before)])
    if not rows:
        return NOTHING
    header = ["row", "variant", *LABELS.values(), "stages before the last"]
    return f'<a id="{study.name}-records"></a>\n\n' + markdown(header, rows, left=len(header))


def results_table(records: Mapping[str, Record]) -> str:
    """The README's table: a row for each experiment, runs that differ in their seed together.

    A record is called experiment-seed; one whose name does not end in its seed stands alone. A
    cell is the mean over seeds, with ± the standard deviation where there are several.
    """
    seeds = {name: str(record["config"]["seed"]) for name, record in records.items()}
    experiments: dict[str, list[str]] = defaultdict(list)
    for name, seed in seeds.items():
        experiments[name.removesuffix(f"-{seed}")].append(name)
    tasks = [name for name in TASKS if any(name in record["dev"] for record in records.values())]
    header = [
        "experiment",
        *(f"{name.upper()} {TASKS[name].metrics[0]}" for name in tasks),
        "passes",
        "seconds",
        "records",
    ]
    rows = []
    for experiment, names in experiments.items():
        runs = [records[name] for name in names]
        cells = [experiment]
        for task in tasks:
            metric = TASKS[task].metrics[0]
            cells.append(spread([run["dev"][task][metric] for run in runs if task in run["dev"]]))
        cells.append(f"{passes(runs[0]):g}")
        cells.append(f"{mean(run['seconds'] for run in runs):.0f}")
        cells.append(", ".join(f"[{seeds[n]}](records/{n}.json)" for n in names))
        rows.append(cells)
    constant = constant_cells(records.values(), tasks, [TASKS[name].metrics[0] for name in tasks])
    if constant:
        rows.append([CONSTANT, *constant, "", "", ""])
    return markdown(header, rows)


CONSTANT = "one answer to all rows"


def constant_cells(
    records: Collection[Record], tasks: Sequence[str], metrics: Sequence[str]
) -> list[str]:
    """The constant answer's score on each task, where records have it; nothing where none has one
    but 0, which all correlations are.

    It follows from the development rows; of other rows, as with a limit, there are several.
    """
    scores = [
        {
            record["constant"][task][metric]
            for record in records
            if metric in record.get("constant", {}).get(task, {})
        }
        for task, metric in zip(tasks, metrics)
    ]
    if not any(map(any, scores)):
        return []
    return [", ".join(sorted({f"{score:.3f}" for score in found})) for found in scores]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
