"""One model whose weights are the mean of several runs' weights: a model soup.

Wortsman et al. (2022), arXiv:2203.05482. Runs that started from one backbone often lie in one basin
of the loss, and so does their mean, which can be better than each; it answers as quickly as one.

    uniform   the mean of all runs
    greedy    from the best run on: each run, the better ones first, is taken into the mean if the
              mean's development score is then no lower than before

Layers that started from other random values, as the heads of runs of other seeds did, have no
meaning in common, and their mean may be bad. Runs of one seed that differ in other settings start
from the same heads, and so do runs that continue one run with --keep-heads.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from data.readers import SAMPLES
from minbert.claim import claimed
from minbert.files import write_json
from multitask.analysis import analyse
from multitask.config import TrainConfig
from multitask.environment import environment, peak_memory_mb
from multitask.evaluate import Evaluation, write_predictions
from multitask.experiments.ensemble import check_runs
from multitask.metrics import summary
from multitask.predictor import Predictor
from multitask.runs.checkpoint import load_checkpoint, load_trained, save_checkpoint
from multitask.runs.run import Run, located

SAME = (
    "tasks", "head", "pooling", "layer_mix", "pair", "pair_of", "head_size", "head_layers",
    "head_activation", "adapter",
)  # fmt: skip
"""Settings in which runs must agree, for their weights to be of one model."""


def average(
    runs: Sequence[str | Path], folder: str | Path, *, greedy: bool = False, device: str = "auto"
) -> Run:
    """Write a run folder whose model is the mean of several runs' best models.

    Its record is the best run's with the mean's scores, and has `averaged`: the runs, those that
    were kept, and each run's development score.

    Args:
        runs: finished runs of one backbone, tasks and heads; their data must be where it was.
        folder: to write; it must not hold a run.
        greedy: keep only runs that do not make the mean's development score worse.
        device: where the development rows are answered.

    Raises:
        ValueError: the runs are not of one model, or the folder holds a run.
    """
    check_runs(runs)
    target, found = Run(Path(folder)), [Run.open(run) for run in runs]
    with claimed(target.folder):
        if target.config_path.exists():
            raise ValueError(f"{target.folder} holds a run already; choose another folder")
        check_one_model(found)
        scores = {run.folder: run.record()["score"] for run in found}
        ordered = sorted(found, key=lambda run: -scores[run.folder])
        predictor = Predictor(ordered[0].folder, device=device, precision="fp32")
        kept = ordered
        if greedy:
            kept, best = ordered[:1], _score(predictor, ordered[:1])
            for run in ordered[1:]:
                score = _score(predictor, [*kept, run])
                if score >= best:
                    kept, best = [*kept, run], score
        averaged = {
            "runs": {str(run.folder): scores[run.folder] for run in found},
            "kept": [str(run.folder) for run in kept],
            "greedy": greedy,
        }
        _write(target, predictor, kept, averaged)
    return target


def check_one_model(runs: Sequence[Run]) -> None:
    """Raise ValueError unless the runs' weights are of one model, and their mean is one too."""
    configs = []
    for run in runs:
        config = run.config()
        if not isinstance(config, TrainConfig):
            raise ValueError(f"{run.folder} is a pre-training run; average runs of training")
        adapters = [e.name for e in config.extensions if e.name in ("lora", "ia3")]
        if adapters or config.adapter is not None:
            raise ValueError(
                f"{run.folder} trained {(adapters or ['an adapter'])[0]}, whose factors multiply, "
                "so that their mean is not the mean of the weights; average other runs, or answer "
                "together: minbert evaluate --ensemble mean"
            )
        configs.append(config)
        for name in SAME:
            values = [getattr(each, name) for each in (configs[0], config)]
            if values[0] != values[1]:
                raise ValueError(
                    f"{runs[0].folder} has {name} {values[0]} and {run.folder} {values[1]}; only "
                    "weights of one model have a mean"
                )
        if run.source() != runs[0].source():
            raise ValueError(
                f"{run.folder} started from other weights than {runs[0].folder}; only runs of one "
                "backbone have a mean that means something"
            )


def mean_weights(runs: Sequence[Run]) -> dict[str, Tensor]:
    """The mean of the runs' best weights, by parameter name.

    Raises:
        ValueError: they trained different parameters.
    """
    total: dict[str, Tensor] = {}
    for run in runs:
        tensors, _ = load_checkpoint(run.best)
        if total and tensors.keys() != total.keys():
            name = sorted(tensors.keys() ^ total.keys())[0]
            raise ValueError(
                f"{run.folder} and {runs[0].folder} did not train the same parameters: {name} is "
                "in one of them; average runs that train the same"
            )
        for name, tensor in tensors.items():
            total[name] = total[name] + tensor.double() if name in total else tensor.double()
    return {name: (tensor / len(runs)).float() for name, tensor in total.items()}


def _score(predictor: Predictor, runs: Sequence[Run]) -> float:
    """The development score of the runs' mean."""
    load_trained(predictor.model, mean_weights(runs), predictor.run.best)
    return summary(_scores(_dev(predictor)), predictor.model.tasks)["score"]


def _dev(predictor: Predictor) -> dict[str, Evaluation]:
    evaluations = predictor.evaluate("dev")
    if lacking := predictor.model.tasks.keys() - evaluations.keys():
        raise ValueError(
            f"the development rows of {', '.join(sorted(lacking))} are not in "
            f"{predictor.config.data_dir or SAMPLES}; put them back, for the mean is scored on them"
        )
    return evaluations


def _scores(evaluations: Mapping[str, Evaluation]) -> dict[str, dict[str, float]]:
    return {name: evaluation.metrics for name, evaluation in evaluations.items()}


def _write(
    target: Run, predictor: Predictor, kept: Sequence[Run], averaged: Mapping[str, Any]
) -> None:
    """The folder of a run that has the mean's weights."""
    tensors, tasks = mean_weights(kept), predictor.model.tasks
    load_trained(predictor.model, tensors, predictor.run.best)
    evaluations = {"dev": _dev(predictor), "test": predictor.evaluate("test")}
    scores = _scores(evaluations["dev"])
    shutil.copytree(predictor.run.backbone, target.backbone, dirs_exist_ok=True)
    save_checkpoint(target.best, tensors, {"epoch": predictor.state["epoch"], "scores": scores})
    for split, by_task in evaluations.items():
        for name, evaluation in by_task.items():
            write_predictions(target.predictions, tasks[name], split, evaluation)
    config = located(replace(predictor.config, out=target.folder)).to_dict()
    records = [run.record() for run in kept]
    record = {
        **predictor.run.record(),
        "dev": scores,
        **summary(scores, tasks),
        "analysis": {name: analyse(tasks[name], e) for name, e in evaluations["dev"].items()},
        "before": None,
        "steps": sum(each["steps"] for each in records),
        "seconds": round(sum(each["seconds"] for each in records), 1),
        "peak_memory_mb": peak_memory_mb(),
        "averaged": averaged,
        "config": config,
        **environment(predictor.model.device),
    }
    write_json(target.config_path, config)
    write_json(target.record_path, record)  # last: a run with a record is a finished one
