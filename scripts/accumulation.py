"""What gradient accumulation and mixed precision cost and save, on one task, as a table.

    python scripts/accumulation.py --data-dir real-data
    python scripts/accumulation.py --data-dir real-data --task rte --batch-sizes 64 16 4 --rows 64

Every line takes optimizer steps of as many rows, split into batches of another size. Each is a run
in a process of its own, for the most memory that a process took is known for the whole of it alone.
Runs that are done are not repeated, and a folder with runs of other settings is refused.
"""

import sys
from pathlib import Path
from typing import Literal

from data.readers import OnBadRow
from minbert.files import write_text
from multitask import TrainConfig
from multitask.commands.messages import run_script
from multitask.experiments.jobs import jobs_of
from multitask.experiments.queue import Queue
from multitask.report.run_blocks import batches_rows
from multitask.text_table import table


def main(
    data_dir: Path,
    task: str = "mrpc",
    backbone: str = "minilm",
    rows: int = 32,
    batch_sizes: tuple[int, ...] = (32, 16, 8),
    precisions: tuple[Literal["fp32", "bf16", "fp16"], ...] = ("fp32", "bf16"),
    epochs: int = 1,
    lr: float = 1e-4,
    limit: int | None = None,
    on_bad_row: OnBadRow = "stop",
    device: str = "auto",
    out: Path = Path("runs/accumulation"),
) -> None:
    """Train a task with steps of the same rows in several ways, and print what each took.

    Args:
        data_dir: folder with the task's files.
        task: any task.
        backbone: minilm, a folder, or a hub name.
        rows: of an optimizer step.
        batch_sizes: rows that go through the model at once; each must divide `rows`.
        precisions: fp32, tf32, bf16, fp16.
        epochs: passes over the data.
        lr: learning rate.
        limit: use so many training rows, taken at equal distances.
        on_bad_row: stop at a row that cannot be read, or skip it.
        device: auto, cpu, cuda, ...
        out: folder of the runs, and of table.txt.
    """
    uneven = [size for size in batch_sizes if size < 1 or rows % size]
    if uneven:
        sys.exit(f"batches of {uneven[0]} do not make steps of {rows} rows; choose divisors")
    configs = [
        TrainConfig(
            tasks=(task,),
            data_dir=data_dir,
            backbone=backbone,
            pooling="mean",
            max_length=128,
            epochs=epochs,
            lr=lr,
            batch_size=size,
            accumulate=rows // size,
            precision=precision,
            limit=limit,
            on_bad_row=on_bad_row,
            device=device,
            out=out / f"{task}-{size}-{precision}",
        )
        for precision in precisions
        for size in batch_sizes
    ]
    queue = Queue(jobs_of(configs))
    if not queue.work():
        raise ValueError("; ".join(dict.fromkeys(queue.failed.values())))
    text = table(*batches_rows([job.run.record() for job in queue.jobs]))
    write_text(out / "table.txt", f"{text}\n")
    print(text)


if __name__ == "__main__":
    run_script(main)
