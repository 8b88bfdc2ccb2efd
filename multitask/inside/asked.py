"""What the live page asks, and what it is answered: the work behind live.py, without the web."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
from msgspec import Meta, Struct, field

from data.schema import Example
from data.tasks import Task
from minbert.checks import InputWarning
from minbert.layouts import Packed
from minbert.loading import Backbone, load_backbone
from multitask.config import PretrainConfig
from multitask.heads import answers
from multitask.inside.answered import worth_explaining
from multitask.inside.edits import Edit, edited, without_parts
from multitask.inside.explain import TokenSequence, explain_row, in_packed
from multitask.inside.packed import Blob, as_json, nearest
from multitask.inside.page import Looked, PageSettings, explain_found, look, pools_all
from multitask.predictor import Predictor

Number = Annotated[int, Meta(ge=0, lt=100_000)]
BANK = 40
"""Rows whose tokens are looked through for neighbours."""
GUESSES = 5
"""Tokens that are named for a [MASK]."""


class Changes(Struct):
    """An `Edit`, as JSON."""

    masked: list[Number] = []
    swapped: list[tuple[Number, Number]] = []
    heads_off: list[tuple[Number, Number]] = []
    layers_off: list[Number] = []

    def edit(self) -> Edit:
        return Edit(
            masked=tuple(self.masked),
            swapped=tuple(self.swapped),
            heads_off=tuple(self.heads_off),
            layers_off=tuple(self.layers_off),
        )


class Question(Struct):
    """What the page asks of a text, or of one of the rows."""

    texts: Annotated[list[str], Meta(max_length=2)] = []
    task: str = ""
    """The task whose inside is to be shown."""
    run: Number | None = None
    """Of one run alone; of all where it is left out."""
    row: Number | None = None
    """One of the development rows, in place of texts."""
    changes: Changes = field(default_factory=Changes)
    steps: Annotated[int, Meta(ge=0, le=200)] = 0
    """Of integrated gradients; 0 for no attributions."""
    target: Number | None = None


class Answerer:
    """Runs that are loaded to answer the live page's questions, one at a time."""

    def __init__(self, folders: Sequence[Path], settings: PageSettings) -> None:
        """Load runs and answer their development rows."""
        self.looked = [look(folder, settings) for folder in folders]
        self.masked = [_masked_model(each) for each in self.looked]
        self.banks = [_banks(each) for each in self.looked]

    def described(self) -> dict[str, Any]:
        """What the page has to know of what can be asked."""
        return {"masks": [isinstance(each, Backbone) for each in self.masked]}

    def answer(self, question: Question) -> bytes:
        """A block (packed.py) with a list for each run: the answers of its heads, and the inside.

        Raises:
            ValueError: something that is asked for is not there.
        """
        if question.run is not None and question.run >= len(self.looked):
            raise ValueError(
                f"the page has {len(self.looked)} runs, and run {question.run} is none"
            )
        blob = Blob()
        asked = range(len(self.looked)) if question.run is None else [question.run]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", InputWarning)  # the page says what was cut
            found = [self._of_run(number, question, blob) for number in asked]
        return blob.block({"runs": found})

    def _of_run(self, number: int, question: Question, blob: Blob) -> dict[str, Any]:
        looked = self.looked[number]
        made: dict[str, Any] = {"run": number, "answers": {}, "inside": None, "guesses": []}
        texts = [text for text in question.texts if text.strip()]
        if (model := self.masked[number]) and isinstance(model, Backbone) and texts:
            made["guesses"] = guesses(model, texts)
        predictor = looked.predictor
        if predictor is None:
            return made
        tasks = predictor.model.tasks
        if question.row is not None:
            if question.task not in looked.found:
                raise ValueError(f"the page has no rows of task {question.task!r}")
            found = looked.found[question.task]
            if question.row >= len(found.examples):
                raise ValueError(f"{question.task} has no row {question.row} here")
            explanation = explain_found(
                predictor, found, question.row, steps=question.steps, target=question.target
            )
            own: Any = question.row
        else:
            fitting = [t for t in tasks.values() if (2 if t.is_pair else 1) <= len(texts)]
            chosen = next((t for t in fitting if t.name == question.task), None)
            others = [t for t in fitting if t is not chosen]
            made["answers"] = _answers(predictor, others, texts, question.changes.edit(), chosen)
            if chosen is None:
                return made
            batch, cut = _batch(predictor, chosen, texts)
            explanation = explain_row(
                predictor.model,
                predictor.tokenizer,
                chosen,
                batch,
                texts=tuple(texts[: 2 if chosen.is_pair else 1]),
                cut=cut,
                target=question.target,
                steps=question.steps,
                edit=question.changes.edit(),
            )
            own = None
        task = tasks[explanation.task]
        bank = self.banks[number].get(task.name, [])
        made["inside"] = as_json(
            explanation,
            task,
            blob,
            mean_path=pools_all(predictor),
            neighbours=nearest(explanation.sequences, bank, own),
        )
        made["answers"][task.name] = {
            key: made["inside"][key] for key in ("answer", "chances", "outputs")
        }
        return made


def _batch(predictor: Predictor, task: Task, texts: Sequence[str]) -> tuple[Any, bool]:
    """The texts as a packed batch of one row of a task, and whether their end was cut."""
    row = Example("0", tuple(texts[: 2 if task.is_pair else 1]), None)
    rows = predictor.encoded([row], task.name)
    return in_packed(rows.batch([0])), bool(rows.cut)


@torch.inference_mode()
def _answers(
    predictor: Predictor,
    tasks: Sequence[Task],
    texts: Sequence[str],
    edit: Edit,
    chosen: Task | None,
) -> dict[str, Any]:
    """The answers of tasks; tokens are changed where the row has the form of the chosen task's."""
    found: dict[str, Any] = {}
    of_form: dict[tuple[bool, bool], list[Task]] = {}
    for task in tasks:
        of_form.setdefault(_form(predictor, task), []).append(task)
    for form, alike in of_form.items():
        same = chosen is not None and _form(predictor, chosen) == form
        own = edit if same else replace(edit, masked=(), swapped=())
        batch = edited(_batch(predictor, alike[0], texts)[0], own, predictor.tokenizer)
        batch = batch.to(predictor.model.device)
        for task in alike:
            model = predictor.model
            with without_parts(model.encoder, own), model.encoder.choice.of(task.name):
                outputs = model(batch, task.name)
            value, chances = answers(task, outputs)
            found[task.name] = {
                "answer": value[0].nonzero().flatten().tolist()
                if value.dim() > 1
                else float(value),
                "chances": None if chances is None else [round(x, 4) for x in chances[0].tolist()],
                "outputs": [round(x, 4) for x in outputs[0].tolist()],
            }
    return found


def _form(predictor: Predictor, task: Task) -> tuple[bool, bool]:
    """Whether a task's rows are pairs, and whether these are two sequences."""
    return task.is_pair, predictor.config.embeds_pairs(task.name)


def _banks(looked: Looked) -> dict[str, list[tuple[int, TokenSequence]]]:
    """Of each task the sequences of some rows, to look for neighbours in."""
    if looked.predictor is None:
        return {}
    return {
        name: [
            (row, sequence)
            for row in worth_explaining(found, BANK)
            for sequence in explain_found(looked.predictor, found, row, steps=0).sequences
        ]
        for name, found in looked.found.items()
    }


def _masked_model(looked: Looked) -> Backbone | str:
    """The backbone that the run started from, or has made, if it has a masked-language-model head;
    otherwise why it answers no [MASK]."""
    config = looked.run.config()
    pretrained = isinstance(config, PretrainConfig)
    try:
        return load_backbone(
            looked.run.backbone if pretrained else config.backbone,
            revision=None if pretrained else config.revision,
            offline=True,
            mlm_head=True,
            fresh=("pooler",),
        )
    except (ValueError, OSError) as error:
        return str(error)


@torch.inference_mode()
def guesses(backbone: Backbone, texts: Sequence[str]) -> list[list[list[Any]]]:
    """For each [MASK] in the texts the tokens that the masked language model finds likeliest:
    [token, probability]."""
    tokenizer, head = backbone.tokenizer, backbone.mlm_head
    assert head is not None
    longest = backbone.max_length or backbone.encoder.config.max_positions
    pairs = list(texts[1:2]) or None
    encoded = tokenizer.encode(list(texts[:1]), pairs, max_length=longest)
    ids = torch.tensor(encoded.input_ids[0])
    masked = (ids == tokenizer.mask_id).nonzero().flatten()
    if not len(masked):
        return []
    types = torch.tensor(encoded.token_type_ids[0])
    output = backbone.encoder(ids, token_type_ids=types, layout=Packed([len(ids)]))
    chances = head(output.last_hidden_state[masked]).softmax(dim=-1)  # (M, V)
    best, which = chances.topk(min(GUESSES, chances.size(-1)), dim=-1)
    return [
        [[token, round(chance, 4)] for token, chance in zip(tokenizer.tokens(ids), line)]
        for ids, line in zip(which.tolist(), best.tolist())
    ]
