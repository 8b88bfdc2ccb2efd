"""BERT, ConvBERT and ModernBERT from scratch: equal size, equal steps, the same text.

    python scripts/encoders.py --data-dir real-data
    python scripts/encoders.py --text sst cola --task sst --steps 40 --epochs 1 --limit 200

Each encoder learns from random weights as a masked language model, with a tokenizer learnt from the
text, and is scored on held-out text several times on the way; then it is fine-tuned. The layers of
one size have about equal numbers of parameters in the three encoders. Runs that are done are not
repeated, and one that was cut short goes on.

OUT/bert-mlm/, OUT/bert-sst2/, ...   a run folder each
OUT/encoders.json                    the points that `minbert report` draws
"""

from pathlib import Path
from typing import Any

from data.readers import OnBadRow
from minbert.files import write_json
from minbert.loading import load_backbone
from multitask import PretrainConfig, TrainConfig
from multitask.commands.messages import run_script
from multitask.experiments.queue import finish
from multitask.pretraining import read_text
from multitask.report.run_blocks import encoders_rows
from multitask.runs.run import Run
from multitask.text_table import table

ENCODERS = ("bert", "convbert", "modernbert")


def main(
    data_dir: Path | None = None,
    text: tuple[str, ...] = ("sst", "sts", "cola", "sst2"),
    task: str = "sst2",
    size: str = "tiny",
    steps: int = 4000,
    scorings: int = 8,
    vocab_size: int = 4096,
    lr: float = 1e-3,
    epochs: int = 2,
    task_lr: float = 3e-4,
    batch_size: int = 32,
    limit: int | None = 20_000,
    seed: int = 11711,
    device: str = "auto",
    on_bad_row: OnBadRow = "stop",
    out: Path = Path("runs/encoders"),
) -> None:
    """Pre-train and fine-tune the three encoders, and print what came of it.

    Args:
        data_dir: folder with the tasks' files; by default the project's small data.
        text: tasks whose training rows are the text, and whose development rows are held out.
        task: what is fine-tuned afterwards.
        size: tiny, mini, small or base.
        steps: optimizer steps of pre-training.
        scorings: how often the held-out text is scored on the way.
        vocab_size: most tokens of a tokenizer.
        lr: learning rate of pre-training.
        epochs: passes over the rows of `task`.
        task_lr: learning rate of fine-tuning.
        batch_size: rows of a step.
        limit: use so many training rows, taken at equal distances of each task; without it, all.
        seed: of all runs.
        device: auto, cpu, cuda, ...
        on_bad_row: stop at a row that cannot be read, or skip it and list it.
        out: folder of the runs.
    """
    if scorings < 1 or steps % scorings:
        raise SystemExit(f"{steps} steps are not {scorings} equal parts; choose a divisor")
    common: dict[str, Any] = {
        "data_dir": data_dir,
        "batch_size": batch_size,
        "batches": "bucketed",
        "max_length": 128,
        "limit": limit,
        "seed": seed,
        "device": device,
        "on_bad_row": on_bad_row,
    }
    learnt = {
        encoder: PretrainConfig(
            from_scratch=encoder,
            size=size,
            tasks=text,
            vocab_size=vocab_size,
            lr=lr,
            epochs=scorings,
            steps_per_epoch=steps // scorings,
            out=out / f"{encoder}-mlm",
            **common,
        )
        for encoder in ENCODERS
    }
    tuned = {
        encoder: TrainConfig(
            tasks=(task,),
            backbone=str(Run(out / f"{encoder}-mlm").backbone),
            pooling="mean",
            lr=task_lr,
            epochs=epochs,
            out=out / f"{encoder}-{task}",
            **common,
        )
        for encoder in ENCODERS
    }
    runs = finish([*learnt.values(), *tuned.values()])
    points = [
        {
            "encoder": encoder,
            "run": run.folder.name,
            "tuned": f"{encoder}-{task}",
            **sizes(run, learnt[encoder]),
            "curve": curve(run),
        }
        for encoder, run in zip(ENCODERS, runs)
    ]
    write_json(out / "encoders.json", points)
    print(table(*encoders_rows(points, {run.folder.name: run.record() for run in runs})))


def sizes(run: Run, config: PretrainConfig) -> dict[str, int]:
    """Parameters of the encoder, and tokens and characters of the held-out text."""
    backbone = load_backbone(run.backbone, fresh=("pooler",))  # which masked words do not train
    counts = {"layers": 0, "embeddings": 0}
    for name, parameter in backbone.encoder.named_parameters():
        part = name.partition(".")[0]
        if part in counts:
            counts[part] += parameter.numel()
    texts = [part for row in read_text(config, "dev", []) for part in row]
    return {
        **counts,
        "tokens": sum(len(ids) - 2 for ids in backbone.tokenizer.encode(texts).input_ids),
        "characters": sum(map(len, texts)),
    }


def curve(run: Run) -> list[tuple[int, float, float]]:
    """Step, seconds and perplexity of held-out text; seconds count the scorings before."""
    points, seconds = [], 0.0
    for line in run.metrics():
        if line["kind"] == "step":
            seconds = line["seconds"]
        elif line["kind"] == "epoch":
            points.append((line["step"], seconds, round(line["scores"]["mlm"]["perplexity"], 3)))
    return points


if __name__ == "__main__":
    run_script(main)
