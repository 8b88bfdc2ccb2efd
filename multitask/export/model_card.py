"""README.md of a folder that is handed on: a model card in the hub's format, from the run's record.

Its head of YAML is what the hub searches and shows (model-index, datasets, metrics); its text says
what the model was trained on and with, how well it does, what it cannot, and how to load it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.glue import GLUE
from data.readers import SAMPLES, read_split
from data.sources import SOURCES
from data.tasks import Task, get_task
from minbert.backbones import PACKAGES, portable_name
from minbert.checks import changed_fields
from minbert.files import brief, write_text
from multitask.config import PLACES, RunConfig, TrainConfig
from multitask.evaluate import prediction_path, read_predictions
from multitask.metrics import METRICS
from multitask.predictor import Predictor
from multitask.report.markdown import markdown
from multitask.runs.run import Run

HUB_METRICS = {
    "macro_f1": "f1",
    "matthews": "matthews_correlation",
    "pearson": "pearsonr",
    "spearman": "spearmanr",
}
"""Metric -> its name on the hub, where that is another."""
RESAMPLES = 400
"""Draws of the bootstrap behind an interval."""
TEXT = {
    "transformers": """\
```python
from transformers import pipeline

classify = pipeline("text-classification", model="{folder}")
print(classify({example}, truncation=True))
```
""",
    "encoder": """\
```python
from transformers import AutoModel, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{folder}")
encoder = AutoModel.from_pretrained("{folder}")
```
""",
    "sentence-transformers": """\
```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("{folder}")
vectors = model.encode(["A first text.", "And a second."])
print(model.similarity(vectors, vectors))
```
""",
    "onnx": """\
```python
import onnxruntime
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{folder}")
session = onnxruntime.InferenceSession("{folder}/model.onnx")
rows = tokenizer({example}, truncation=True, return_tensors="np")
names = [each.name for each in session.get_inputs()]
print(session.run(None, {{name: rows[name].astype("int64") for name in names}}))
```
""",
}
"""What is handed on -> how it is loaded."""


def write_card(folder: Path, predictor: Predictor, task: str | None, format: str) -> Path:
    """Write the card of a folder.

    Args:
        folder: with the model.
        predictor: of the run that it is from.
        task: whose head, or whose vectors, are in the folder; None for the encoder alone.
        format: as of `export_run`.
    """
    from huggingface_hub import ModelCard  # which takes a while

    record, config, model = predictor.run.record(), predictor.config, predictor.model
    tasks = [model.tasks[name] for name in ([task] if task else model.tasks)]
    data = _metadata(folder, config, tasks, task, format, record)
    parts = [
        f"# {folder.name}",
        _what(config, tasks, task, format),
        "## How to load it",
        _loading(folder, tasks, task, format),
        "## Data",
        *(_data(config, each, record) for each in tasks),
        "## Scores",
        _scores(predictor, tasks, record),
        "## Limits",
        _limits(predictor, tasks, record),
        "## Settings",
        _settings(config, record),
    ]
    text = "\n\n".join(part.strip("\n") for part in parts)
    card = ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text}\n", ignore_metadata_errors=False)
    path = folder / "README.md"
    write_text(path, str(card))
    return path


def write_stage_card(folder: Path, run: Run, format: str) -> Path:
    """Write the card of a folder with the encoder of a contrastive stage."""
    from huggingface_hub import ModelCard, ModelCardData  # which takes a while

    record, config = run.record(), run.config()
    loading = format if format == "sentence-transformers" else "encoder"
    known = {name: SOURCES[name] for name in config.reads if name in SOURCES and config.data_dir}
    (scored,) = record["dev"]
    rows = [
        [metric, *(f"{found[scored][metric]:.3f}" for found in (record["before"], record["dev"]))]
        for metric in get_task(scored).metrics
        if record["before"]
    ]
    data = ModelCardData(
        library_name=format,
        pipeline_tag="sentence-similarity" if loading == format else "feature-extraction",
        base_model=_base(config.backbone),
        tags=["minbert"],
    )
    terms = [f"{name}: {each.licence}, {each.homepage}." for name, each in known.items()]
    parts = [
        f"# {folder.name}",
        "An encoder whose embeddings of texts that mean the same are near each other, trained from "
        f"{_base(config.backbone) or 'another encoder'} by a contrastive stage on "
        f"{record['rows'][scored]['train']:,} rows of {', '.join(config.tasks) or 'text'}.",
        "## How to load it",
        TEXT[loading].format(folder=folder.name),
        "## Data",
        "\n".join(terms) or "Made up by a program, or the user's own.",
        "## Scores",
        markdown([scored, "before", "after"], rows, left=1),
        "On the development rows, which also chose the epoch.",
        "## Settings",
        _settings(config, record),
    ]
    text = "\n\n".join(part.strip("\n") for part in parts)
    path = folder / "README.md"
    card = ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text}\n", ignore_metadata_errors=False)
    write_text(path, str(card))
    return path


def _metadata(
    folder: Path,
    config: TrainConfig,
    tasks: Sequence[Task],
    task: str | None,
    format: str,
    record: Mapping[str, Any],
) -> Any:
    """The card's head: a ModelCardData."""
    from huggingface_hub import EvalResult, ModelCardData

    kind = "text-classification" if task else "feature-extraction"
    if format == "sentence-transformers":
        kind = "sentence-similarity"
    real = config.data_dir is not None
    known = [each for each in tasks if each.name in SOURCES]
    terms: dict[str, Any] = {}
    if real and len(tasks) == 1 and known:  # as the data's, of which a model is made
        source = SOURCES[tasks[0].name]
        terms = {
            "license": "other",
            "license_name": f"terms-of-{tasks[0].name}",
            "license_link": source.homepage,
        }
    glue = {each.name for each in GLUE} | {"cola"}
    results = [
        EvalResult(
            task_type=kind,
            dataset_type="nyu-mll/glue" if each.name in glue else each.name,
            dataset_name=each.title,
            dataset_config=each.name if each.name in glue else None,
            dataset_split="validation" if each.name in glue else "dev",
            metric_type=HUB_METRICS.get(metric, metric),
            metric_name=metric,
            metric_value=round(record["dev"][each.name][metric], 4),
        )
        for each in tasks
        for metric in (each.metrics if real else ())
    ]
    sets = ["nyu-mll/glue"] if real and any(each.name in glue for each in tasks) else None
    metrics = {HUB_METRICS.get(m, m) for each in tasks for m in each.metrics}
    return ModelCardData(
        language="en" if len(known) == len(tasks) else None,
        library_name="transformers" if format == "transformers" else format,
        pipeline_tag=kind,
        base_model=_base(config.backbone),
        datasets=sets,
        metrics=sorted(metrics),
        tags=["minbert"],
        model_name=folder.name if results else None,
        eval_results=results or None,
        **terms,
    )


def _base(backbone: str) -> str | None:
    """The backbone's name on the hub; a folder has none."""
    here = Path(backbone).expanduser().exists() and backbone not in PACKAGES
    return None if here else portable_name(backbone, Path())


def _what(config: TrainConfig, tasks: Sequence[Task], task: str | None, format: str) -> str:
    titles = "; ".join(each.title for each in tasks)
    base = _base(config.backbone) or "another encoder"
    if task is None:
        return f"The encoder of a model that was trained from {base} on: {titles}."
    what = "A model of embeddings" if format == "sentence-transformers" else "A classifier"
    if tasks[0].kind == "regression" and format != "sentence-transformers":
        what = "A model that answers with a number"
    labels = f" Its labels: {', '.join(tasks[0].classes)}." if tasks[0].classes else ""
    if format == "sentence-transformers":
        labels = ""
    return f"{what} for: {titles}. It was trained from {base}.{labels}"


def _loading(folder: Path, tasks: Sequence[Task], task: str | None, format: str) -> str:
    pair = tasks[0].is_pair
    example = '"A joy from start to end."'
    if pair:
        keys = '{"text": "A first text.", "text_pair": "And a second."}'
        example = keys if format == "transformers" else '"A first text.", "And a second."'
    kind = format if task else "encoder"
    text = TEXT[kind].format(folder=folder.name, example=example)
    if format == "onnx" and tasks[0].classes:
        text += "\nThe softmax of the logits gives the labels' probabilities."
    return text


def _data(config: TrainConfig, task: Task, record: Mapping[str, Any]) -> str:
    counts = record["rows"].get(task.name, {})
    rows = ", ".join(f"{count:,} {split}" for split, count in counts.items() if count)
    if config.data_dir is None and task.source is None:
        return (
            f"{task.name}: {rows} rows that were made up by a program. Scores on them say nothing "
            "about real text."
        )
    source = SOURCES.get(task.name)
    terms = f" Source: {source.licence}, {source.homepage}." if source else ""
    return f"{task.name}: {rows} rows.{terms}"


def _scores(predictor: Predictor, tasks: Sequence[Task], record: Mapping[str, Any]) -> str:
    rows = []
    for task in tasks:
        for metric in task.metrics:
            between = interval(predictor, task, metric)
            shown = f"{between[0]:.3f} to {between[1]:.3f}" if between else ""
            rows.append([task.name, metric, f"{record['dev'][task.name][metric]:.3f}", shown])
    text = markdown(["task", "metric", "score", "95% interval"], rows, left=2)
    return (
        f"{text}\nOn the development rows, which also chose the epoch (the best of "
        f"{record['epochs']}), so that they are a little high. Intervals are of a bootstrap over "
        "these rows; another seed changes scores too."
    )


def interval(predictor: Predictor, task: Task, metric: str) -> tuple[float, float] | None:
    """The middle 95% of a score over resamples of the development rows; None where the rows, or the
    run's predictions for them, are not at hand."""
    if metric not in METRICS:
        return None
    config = predictor.config
    path = prediction_path(predictor.run.predictions, task, "dev")
    try:
        rows = read_split(
            task, "dev", config.data_dir or SAMPLES, on_bad_row=config.on_bad_row
        ).examples
        found = read_predictions(path, task)
    except (OSError, ValueError):
        return None
    if found.keys() != {row.id for row in rows} or any(row.label is None for row in rows):
        return None
    labels = np.array([row.label for row in rows], dtype=np.float64)
    predictions = np.array([found[row.id] for row in rows], dtype=np.float64)
    draws = np.random.default_rng(0).integers(0, len(rows), (RESAMPLES, len(rows)))
    scores = [METRICS[metric](labels[draw], predictions[draw]) for draw in draws]
    low, high = np.quantile(scores, [0.025, 0.975])
    return float(low), float(high)


def _limits(predictor: Predictor, tasks: Sequence[Task], record: Mapping[str, Any]) -> str:
    lines = [f"Rows longer than {predictor.max_length} tokens lose their end."]
    for task in tasks:
        cut = record.get("truncated", {}).get(task.name, {}).get("dev", 0)
        if cut:
            lines.append(f"Of the development rows of {task.name}, {cut} did.")
    lines.append(
        "It was scored on rows like those that it was trained on, and on no others; what such data "
        "holds of its authors' views and errors, it may have learnt. Probabilities are as the "
        "model has them and are not calibrated."
    )
    if any(task.name in SOURCES for task in tasks):
        lines.append("The data is English.")
    return "\n".join(lines)


def _settings(config: RunConfig, record: Mapping[str, Any]) -> str:
    """What is not at its default, and what was used; paths are left out."""
    hidden = PLACES | {"data_dir", "backbone", "adapter", "extensions", "tasks"}
    hidden |= {"batch_size", "lr", "seed"}  # shown in any case
    changed = [
        f"{name} {brief(value)}"
        for name, value in changed_fields(config).items()
        if name not in hidden
    ]
    extensions = [brief(each) for each in config.extensions]
    versions = ", ".join(f"{name} {v}" for name, v in record.get("versions", {}).items())
    commit = (record["commit"] or "no commit")[:12]
    trained, everything = record["parameters"]["trained"], record["parameters"]["all"]
    return "\n".join(
        [
            f"- tasks {', '.join(config.tasks)}; batch size {config.batch_size}, learning rate "
            f"{config.lr}, seed {config.seed}",
            f"- not at its default: {'; '.join(changed) or 'nothing'}",
            *([f"- extensions: {'; '.join(extensions)}"] if extensions else []),
            f"- {record['steps']:,} steps, best epoch {record['best_epoch']} of "
            f"{record['epochs']}, {record['seconds']:.0f} s, {trained:,} of {everything:,} "
            "parameters trained",
            f"- {record['device']}; {versions}; minbert at {commit}",
        ]
    )
