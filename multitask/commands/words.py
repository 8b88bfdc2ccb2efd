"""What the commands print of a run: scores, mistakes, closing words."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from data.tasks import Task, get_task, is_built_in
from multitask.analysis import worst
from multitask.config import ContrastConfig, TrainConfig
from multitask.runs.run import Run
from multitask.text_table import table

if TYPE_CHECKING:
    from multitask.evaluate import Evaluation

Scores = Mapping[str, Mapping[str, float]]


CONSTANT = "constant: one answer to all rows, the most frequent of their labels or the mean"
HELP = """what usually helps: a lower --lr (with --frozen or adapters a higher one), more --warmup,
more --epochs, another --seed; and a look at the labels, as by minbert data check"""


def scores_table(
    after: Scores, before: Scores | None = None, constant: Scores | None = None
) -> str:
    """A row for each metric of each task, with the scores before training and those of the constant
    answer where known."""
    columns = {"before": before, "after" if before else "score": after, "constant": constant}
    shown = {header: scores for header, scores in columns.items() if scores}
    rows = [
        [name, metric, *(f"{s[name][metric]:.3f}" if name in s else "-" for s in shown.values())]
        for name in after
        for metric in get_task(name).metrics
    ]
    text = table(["task", "metric", *shown], rows)
    return f"{text}\n\n{CONSTANT}" if constant else text


def doubts(found: Mapping[str, str]) -> list[str]:
    """Lines that warn of tasks that a model seems not to have learnt, and how to go on.

    Args:
        found: task -> why: see `multitask.analysis.learnt_nothing`.
    """
    lines = [f"warning: {name} seems not to be learnt: {why}" for name, why in found.items() if why]
    return [*lines, HELP] if lines else []


def mistakes(
    task: Task, evaluation: Evaluation, texts: Mapping[str, Sequence[str]], count: int
) -> str:
    """The rows of `worst`, in columns that a tab divides, with their texts, found by id."""
    if evaluation.labels is None:
        return f"{task.name}: rows without labels, so that no answer is known to be wrong"
    lines = [f"\n{task.name}: what is most wrong", "label\tanswer\tprobability\tid\ttext"]
    for row in worst(evaluation, count):
        chance = f"{row['probability']:.3f}" if "probability" in row else "-"
        label, answer = task.named(row["label"]), task.named(row["answer"])
        lines.append("\t".join([label, answer, chance, row["id"], *texts[row["id"]]]))
    return "\n".join(lines)


def finished(run: Run) -> str:
    """What a run reached, where its files are, and what to try next."""
    record = run.record()
    lines = ["", record_table(record), ""]
    if record["overall"]:
        mean, normalised = record["overall"]["mean"], record["overall"]["mean_normalised"]
        lines.append(
            f"overall: {mean:.3f} = mean(SST, PARA, STS); "
            f"{normalised:.3f} = mean(SST, PARA, (1 + STS) / 2)"
        )
    trained, everything = record["parameters"]["trained"], record["parameters"]["all"]
    lines += [
        f"best epoch {record['best_epoch']:.4g} of {record['epochs']:.4g}, "
        f"{record['steps']} steps in {record['seconds']:.0f} s, "
        f"{trained:,} of {everything:,} parameters trained",
        f"{run.folder}: record.json, metrics.jsonl, figure.png, best.safetensors, "
        + ("backbone/" if run.config().makes_backbone else "predictions/"),
        "",
        "try next:",
        *(f"    {command}" for command in _next_commands(run)),
    ]
    return "\n".join(lines)


def record_table(record: Mapping[str, Any]) -> str:
    """The scores of a finished run, and warnings."""
    text = scores_table(record["dev"], record["before"], record.get("constant"))
    return "\n".join([text, *doubts(record.get("doubts", {}))])


def _next_commands(run: Run) -> list[str]:
    config = run.config()
    if config.makes_backbone:
        labelled = [name for name in config.reads if get_task(name).kind != "pairs"]
        command = f"minbert train --backbone {run.backbone} --tasks {' '.join(labelled) or 'sst'}"
        if not isinstance(config, ContrastConfig):
            return [command]
        handed = f"minbert export {shlex.quote(str(run.folder))} my-embedder"
        return [
            f"{command} --pooling {config.pooling} --pair cosine",
            f"{handed} --format sentence-transformers",
        ]
    name = config.tasks[0]
    texts = {
        "sst": '"A joy from start to end."',
        "cfimdb": '"A joy from start to end."',
        "para": '"How old are you?" "What is your age?"',
        "sts": '"A dog runs on the beach." "A dog is running along the sea."',
        "cola": '"The book was written by she."',
    }
    text = texts.get(name, '"a text" "another text"' if get_task(name).is_pair else '"a text"')
    folder = shlex.quote(str(run.folder))
    commands = [
        f"minbert predict {text} --task {name} --run {folder}",
        f"minbert evaluate {folder} --mistakes 5",
    ]
    if config.data_dir is None and is_built_in(name):
        return [
            *commands,
            f"minbert train --tasks {name} --frozen --epochs 10 --lr 1e-3",
            "minbert data fetch --target real-data && minbert train --data-dir real-data",
        ]
    if not all(extension.exports for extension in config.extensions):
        return commands
    whole = ""
    if isinstance(config, TrainConfig) and config.head == "linear":
        whole = f" --task {name}"
    elif isinstance(config, TrainConfig) and config.embeds_pairs(name):
        whole = " --format sentence-transformers"
    return [*commands, f"minbert export {folder} my-{name}{whole}"]
