"""What a contrastive stage has of its own: its pairs, and its backbone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import islice

from data.pairs import PairRows
from data.readers import SAMPLES, BadRow, Example, read_split, spread
from data.tasks import COSINES, NEIGHBOURS, Split, Task, get_task
from data.text import held_out, lines_of
from minbert.loading import save_pretrained
from minbert.tokenization import Tokenizer
from multitask.config import ContrastConfig
from multitask.dataset import TaskData, longest_row
from multitask.runs.origin import trained_backbone
from multitask.runs.run import Run

# Pairs


def load_pairs(
    config: ContrastConfig, tokenizer: Tokenizer, max_positions: int
) -> dict[str, TaskData]:
    """Read and tokenize what a stage trains on, and the rows that score it.

    These are pairs with labels where there are any (COSINES), and else rows like those that it
    trains on (NEIGHBOURS).

    Raises:
        ValueError: no row is left to train on or to score.
    """
    skipped: list[BadRow] = []
    train = training_rows(config, "train", skipped)
    if not train:
        raise ValueError(
            f"none of the training rows of {', '.join(config.tasks)} is a positive pair; lower "
            "positive_above"
        )
    widths = {len(example.texts) for example in train}
    if len(widths) > 1:
        raise ValueError(
            "some rows have a negative of their own, a third text, and others have not; train on "
            "them in two stages, the second with --backbone and the first one's run"
        )
    labelled = labelled_rows(config, skipped)
    task = COSINES if labelled else NEIGHBOURS
    data = TaskData(task, {}, skipped, {})
    length = longest_row(config, max_positions)

    def add(split: Split, examples: list[Example], **more: object) -> None:
        rows = PairRows(
            examples, tokenizer, max_length=length, layout=config.layout,
            **more,  # pyrefly: ignore[bad-argument-type]
        )  # fmt: skip
        data.sources[split] = rows
        data.truncated[split] = [rows.ids[row] for row in rows.cut]

    add("train", train)
    if not labelled:
        dev = training_rows(config, "dev", skipped)
        if len(dev) < 2:
            raise ValueError(
                f"there are {len(dev)} development rows to compare; give more, hold out more of "
                "the text (--hold-out), or name tasks to score on (--score-on sts)"
            )
        add("dev", dev)
        return {task.name: data}
    alike = [is_positive(example, get_task(name), config) for name, example in labelled]
    if not any(alike):
        raise ValueError(
            f"none of the {len(labelled)} development pairs is a positive one, and alignment is "
            "measured on them; lower positive_above"
        )
    examples = [scaled(example, get_task(name), config) for name, example in labelled]
    add("dev", examples, alike=alike, tasks=[name for name, _ in labelled])
    return {task.name: data}


def training_rows(config: ContrastConfig, split: Split, skipped: list[BadRow]) -> list[Example]:
    """What the objective trains on, of the training or of the development rows.

    simcse has every different text once, mnr the positive pairs, the others all pairs with labels
    from 0 to 1. Bad rows are added to `skipped`.
    """
    rows: list[Example] = []
    for name in config.tasks:
        task = get_task(name)
        found = read(config, name, split, skipped)
        if config.objective == "simcse":
            found = [Example(f"{x.id}.{n}", (text,), None) for x in found
                     for n, text in enumerate(x.texts)]  # fmt: skip
        elif config.objective == "mnr":
            found = [replace(x, label=None) for x in found if is_positive(x, task, config)]
        else:
            found = [scaled(x, task, config) for x in found]
        if split == "train":
            found = spread(found, config.limit)
        rows += [replace(x, id=f"{name}:{x.id}") for x in found] if len(config.tasks) > 1 else found
    if config.objective != "simcse":
        return rows
    texts = [Example(f"line {n}", text, None) for n, text in enumerate(_lines(config, split), 1)]
    return list({example.texts: example for example in [*rows, *texts]}.values())


def labelled_rows(config: ContrastConfig, skipped: list[BadRow]) -> list[tuple[str, Example]]:
    """The development pairs with labels, and the task of each."""
    found: list[tuple[str, Example]] = []
    for name in config.score_on or config.tasks:
        task = get_task(name)
        graded = task.is_pair and task.kind in ("binary", "classes", "regression")
        if not graded or (task.kind != "regression" and not config.knows_positives(task)):
            continue
        found += [(name, example) for example in read(config, name, "dev", skipped)]
    return found


def read(config: ContrastConfig, name: str, split: Split, skipped: list[BadRow]) -> list[Example]:
    """A task's rows; bad ones are added to `skipped`."""
    place = config.data_dir or SAMPLES
    rows = read_split(get_task(name), split, place, on_bad_row=config.on_bad_row)
    skipped += (bad for bad in rows.skipped if bad not in skipped)
    return rows.examples


def is_positive(example: Example, task: Task, config: ContrastConfig) -> bool:
    """Whether the first two texts of a row mean the same."""
    if task.kind == "pairs":
        return True
    assert isinstance(example.label, float)
    if task.kind == "regression":
        low, high = task.label_range
        return (example.label - low) / (high - low) >= config.positive_above - 1e-9
    return example.label == config.class_of_positives(task)


def scaled(example: Example, task: Task, config: ContrastConfig) -> Example:
    """A row with a label from 0 to 1: how alike its texts are."""
    assert isinstance(example.label, float)
    if task.kind == "regression":
        low, high = task.label_range
        return replace(example, label=(example.label - low) / (high - low))
    return replace(example, label=float(example.label == config.class_of_positives(task)))


def _lines(config: ContrastConfig, split: Split) -> Iterable[tuple[str, ...]]:
    """The lines of text files that are trained on, or those that are held out."""
    if split == "train":
        lines = lines_of(config.text)
        if not config.dev_text:
            lines = held_out(lines, config.hold_out, kept=True)
        return islice(lines, config.limit)
    if config.dev_text:
        return lines_of(config.dev_text)
    return held_out(lines_of(config.text), config.hold_out, kept=False)


# The backbone


def save_embedder(run: Run) -> None:
    """Write a run's best encoder, with adapters merged, as an ordinary backbone to its folder."""
    backbone = trained_backbone(run)
    save_pretrained(run.backbone, backbone.encoder, backbone.tokenizer)
