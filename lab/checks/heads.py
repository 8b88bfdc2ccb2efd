"""Checks of part 3: pooling, pairs, heads, losses, freezing, sampling."""

from __future__ import annotations

import builtins
import random
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import fields
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lab.harness import CUT_OFF, Draw, check, gradients, mark_dropouts, whole_numbers

Cases = Iterator[tuple[str, Any]]
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "one", "two", "three", "four", "five", "six")


@check("pooling")
def pooling(draw: Draw) -> Cases:
    from minbert.layouts import Padded

    x = (draw.normal(2, 5, 4) - 2).requires_grad_()  # mostly negative, as real features may be
    layout = Padded(torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]))
    for name in ("mean", "max"):
        pooled = getattr(layout, name)(x)
        yield f"the {name}", pooled
        yield f"gradients of the tokens through the {name}", gradients(pooled, x)
    x = draw.normal(3, 4, 2) - torch.tensor([0.0, 300.0])
    x[0, 0, 0] = x[1, 1, 0] = 0  # a feature may be 0, and a token real all the same
    layout = Padded(torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1], [1, 0, 0, 0]]))
    for name in ("mean", "max"):
        yield f"the {name} with zeros, large numbers and one token", getattr(layout, name)(x)


@check("pair")
def pair(draw: Draw) -> Cases:
    from tokenizers import Tokenizer as Fast
    from tokenizers.implementations import BertWordPieceTokenizer

    from minbert.tokenization import Tokenizer

    wordpiece = BertWordPieceTokenizer(vocab={word: n for n, word in enumerate(WORDS)})
    tokenizer = Tokenizer(Fast.from_str(wordpiece.to_str()))

    def text(length: int) -> str:
        return " ".join(draw.random.choices(WORDS[5:], k=length))

    firsts, seconds = [text(2), text(5)], [text(3), text(1)]
    for name, pairs, max_length in (
        ("texts", None, None),
        ("pairs", seconds, None),
        ("pairs, cut to 7 tokens", seconds, 7),
        ("pairs, of which one has 8 tokens, cut to 8", seconds, 8),
        ("pairs, after a cut", seconds, None),
        ("texts, of which one has 7 tokens, cut to 6", None, 6),
        ("texts, of which one has 7 tokens, cut to 7", None, 7),
    ):
        found = tokenizer.encode(firsts, pairs, max_length=max_length)
        yield f"{name}: input_ids", found.input_ids
        yield f"{name}: token_type_ids", found.token_type_ids
        yield f"{name}: the rows that were cut", list(found.cut)


def tasks(*names: str) -> list[Any]:
    from data.tasks import get_task

    return [get_task(name) for name in names]


def several() -> Any:
    """A task in which several labels may hold at once."""
    from dataclasses import replace

    return replace(tasks("sst")[0], name="tags", kind="labels", classes=("a", "b", "c"))


@check("classifier")
def classifier(draw: Draw) -> Cases:
    from multitask.heads import Heads

    heads = mark_dropouts(draw.fill(Heads(tasks("sst", "sts"), 4, pair="concat", head_size=6)))
    single, double = draw.normal(3, 4), draw.normal(3, 12)
    for mode, training in (("in eval mode: ", False), ("in train mode: ", True)):
        heads.train(training)
        yield mode + "five classes (sst)", heads(single, "sst")
        yield mode + "a regression on pairs (sts)", heads(double, "sts")
    mixed = {"para": "cross", "sts": "concat"}
    heads = draw.fill(Heads(tasks("para", "sts"), 4, pair_of=mixed, head_size=6)).eval()
    yield "a pair in one sequence, beside a task in `self.paired` (para)", heads(single, "para")
    names = "cola", "para", "sts"
    heads = mark_dropouts(draw.fill(Heads(tasks(*names), 4, pair="cross", head_size=6)))
    for name in names:
        kind = "a logit" if name != "sts" else "a number"
        yield f"one sequence, {kind} ({name})", heads(5 * draw.normal(3, 4), name)
    heads = draw.fill(Heads(tasks("sst"), 4, head_size=6, activation="tanh")).eval()
    yield "tanh as activation (sst)", heads(single, "sst")
    heads = draw.fill(Heads(tasks("sst", "sts"), 4, pair="cosine")).eval()
    yield "a cosine's output (sts)", heads(draw.normal(3, 1), "sts")


@check("compare")
def compare(draw: Draw) -> Cases:
    from multitask.heads import compare_concat, compare_cosine

    u, v = draw.normal(3, 4), draw.normal(3, 4)
    yield "compare_concat", compare_concat(u, v)
    yield "compare_cosine", compare_cosine(u, v)
    u, v = 1000 * draw.normal(1, 7, grad=True), 0.01 * draw.normal(1, 7, grad=True)
    for name, compared in (("concat", compare_concat(u, v)), ("cosine", compare_cosine(u, v))):
        yield f"compare_{name} of a long and a short vector", compared
        yield f"gradients through compare_{name}", gradients(compared, u, v)


@check("losses")
def losses(draw: Draw) -> Cases:
    from multitask.heads import row_losses

    classes, binary, regression = tasks("sst", "para", "sts")
    cases: list[tuple[str, Any, Tensor, Tensor]] = [
        ("classes", classes, draw.normal(4, 5, grad=True), draw.integers(0, 5, 4).float()),
        ("binary", binary, draw.normal(4, 1, grad=True), torch.tensor([0.0, 1.0, 1.0, 0.0])),
        ("regression", regression, draw.normal(4, 1, grad=True), draw.normal(4)),
        ("labels", several(), draw.normal(4, 3, grad=True), draw.integers(0, 2, 4, 3).float()),
    ]
    large = torch.tensor([[100.0], [-100.0], [100.0], [-100.0]])
    wide = large * torch.tensor([1.0, 0.5, -1.0])
    no_and_yes = torch.tensor([0.0, 1.0, 1.0, 0.0])
    cases += [
        ("classes, logits of 100", classes, wide.clone(), torch.tensor([0.0, 1.0, 2.0, 1.0])),
        ("binary, logits of 100", binary, large.clone(), no_and_yes),
        ("labels, logits of 100", several(), wide.clone(), draw.integers(0, 2, 4, 3).float()),
    ]
    cases += [("tokens", tasks("mlm")[0], draw.normal(4, 7), draw.integers(0, 7, 4))]
    for name, task, outputs, labels in cases:
        outputs.requires_grad_()
        loss = row_losses(task, outputs, labels)
        yield f"{name}: the losses", loss
        gradient = torch.autograd.grad(loss.sum(), outputs)[0] if loss.requires_grad else CUT_OFF
        yield f"{name}: its gradient", gradient
    for name, task, width in (("classes", classes, 5), ("regression", regression, 1)):
        outputs, labels = draw.normal(3, width).bfloat16(), torch.tensor([0.0, 3.0, 2.0])
        yield f"{name}, outputs in bfloat16: the losses", row_losses(task, outputs, labels)


@check("answers")
def answers(draw: Draw) -> Cases:
    from multitask import heads

    cases = zip(
        ("classes", "binary", "regression", "labels"),
        (*tasks("sst", "para", "sts"), several()),
        (5, 1, 1, 3),
    )
    for name, task, width in cases:
        outputs = draw.normal(4, width)
        outputs[:2, 0] = torch.tensor([-0.7, 0.4])  # a no and a yes
        for size, numbers in (("", outputs), (", logits of 100", 100 * outputs.sign())):
            found, probabilities = heads.answers(task, numbers)
            if not size or name != "classes":  # where several are alike, either is an answer
                yield f"{name}{size}: the answers", whole_numbers(found)
            yield f"{name}{size}: the probabilities", probabilities
    for name, task, width in (("binary", tasks("para")[0], 1), ("labels", several(), 3)):
        found, _ = heads.answers(task, torch.zeros(2, width))
        yield f"{name}, as likely as not: the answers", whole_numbers(found)
    found, probabilities = heads.answers(tasks("mlm")[0], draw.normal(3, 7))
    yield "tokens: the answers", whole_numbers(found)
    yield "tokens: no probabilities", probabilities


@check("freezing")
def freezing(draw: Draw) -> Cases:
    from lab.checks.bert import tiny_config
    from minbert.encoders.bert import Bert
    from multitask.config import TrainConfig
    from multitask.heads import POOLINGS
    from multitask.model import MultitaskModel

    shared: dict[str, Any] = {
        "pooling": "mean",
        "pair": "concat",
        "head_size": 3,
        "head_activation": "relu",
    }
    linear: dict[str, Any] = {"head": "linear"}
    for name, frozen, kind in (
        ("frozen", True, shared),
        ("trained, dropout 0", False, shared),
        ("frozen, a linear head", True, linear),
    ):
        encoder = draw.fill(Bert(tiny_config()))
        config = TrainConfig(
            tasks=("sst", "para"),
            **kind,
            head_dropout=0.25,
            seed=draw.random.randrange(1000),
            frozen=frozen,
            encoder_dropout=None if frozen else 0.0,
            gradient_checkpointing=not frozen,
        )
        torch.manual_seed(1)
        model = MultitaskModel.from_config(config, encoder)
        yield f"{name}: random numbers of others are left alone", torch.rand(())
        trained = {n: p.requires_grad for n, p in model.named_parameters()}
        yield f"{name}: which parameters train", trained
        rates = {n: m.p for n, m in model.named_modules() if isinstance(m, torch.nn.Dropout)}
        yield f"{name}: rates of dropout", rates
        yield f"{name}: gradient checkpointing", model.encoder.gradient_checkpointing
        yield f"{name}: the heads' first weights", [p.detach() for p in model.heads.parameters()]
        pooled = [key for key, pooling in POOLINGS.items() if pooling == model.pooling]
        yield f"{name}: the pooling", pooled
        yield f"{name}: whether embeddings are compared", model.compare is not None
        used: Any = getattr(model.heads, "activation", None)
        yield f"{name}: the activation", used and used.__name__
    encoder = Bert(tiny_config())
    seen: list[Any] = []
    stand_ins: Any = {"extensions": (_Preparing("first", seen), _Preparing("second", seen))}
    given: Any = SimpleNamespace(**{**_fields(config), **stand_ins, "encoder_dropout": 0.5})
    torch.manual_seed(1)
    MultitaskModel.from_config(given, encoder)
    yield "what two extensions are given to prepare: name, parameters that train, dropout", seen
    yield "random numbers of others are left alone by what extensions draw", torch.rand(())


class _Preparing:
    """Stands for an extension: writes down what it is given."""

    def __init__(self, name: str, seen: list[Any]) -> None:
        self.name, self.seen = name, seen

    def prepare(self, model: Any) -> None:
        torch.rand(())
        trained = sum(p.requires_grad for p in model.encoder.parameters())
        self.seen.append([self.name, trained, model.encoder.embeddings.dropout.p])


def _fields(config: Any) -> dict[str, Any]:
    return {field.name: getattr(config, field.name) for field in fields(config)}


@contextmanager
def other_process() -> Generator[None]:
    """A block in which hash() of a text is what it might be in another process."""

    def salted(value: Any) -> int:
        texts = isinstance(value, str | bytes) or (
            isinstance(value, tuple) and any(isinstance(item, str | bytes) for item in value)
        )
        return original(("another salt", value) if texts else value)

    original, builtins.hash = builtins.hash, salted
    try:
        yield
    finally:
        builtins.hash = original


def everybodys_numbers() -> list[Any]:
    """Where the generators stand that all code of a process shares."""
    _, keys, *rest = np.random.get_state()  # noqa: NPY002
    return [random.getstate(), np.asarray(keys).tolist(), rest, torch.get_rng_state().tolist()]


@check("sampling")
def sampling(draw: Draw) -> Cases:
    from data.draws import uniform_task

    names, seed, steps = ("a", "b", "c"), draw.random.randrange(1000), 900
    before = everybodys_numbers()

    def draws(seed: int, steps: int = steps) -> list[str]:
        return [uniform_task(names, seed=seed, step=step) for step in range(steps)]

    first = draws(seed)
    known = all(name in names for name in first)
    yield "every draw is one of the tasks", known
    yield "the same seed and step draw the same task", first[:90] == draws(seed, 90)
    with other_process():
        yield "another process draws the same", first[:50] == draws(seed, 50)
    yield "random numbers of others are left alone", everybodys_numbers() == before
    shares = sorted((first.count(name) / steps for name in names), reverse=True)
    even = all(0.25 < share < 0.42 for share in shares)
    drawn = " and ".join(f"{round(share, 1):.0%}" for share in shares)
    yield "each of three tasks is drawn in a third of all steps", even or f"drawn in about {drawn}"
    changes = sum(a != b for a, b in pairwise(first)) / steps
    drawn_anew = 0.57 < changes < 0.77
    found = f"it is another one after {round(changes, 1):.0%} of all steps, by chance 67%"
    yield "the next step's task does not follow from this one's", drawn_anew or found
    other = draws(seed + 1)
    differing = sum(a != b for a, b in zip(first, other)) / steps
    yield "another seed draws other tasks", 0.57 < differing < 0.77
    later = sum(a != b for a, b in zip(first[1:], other)) / steps
    yield "another seed does not draw the same a step later", 0.57 < later < 0.77
    zero = draws(0, 90)
    yield "seed 0 draws each task too", sorted(set(zero)) == sorted(names)
    yield "with one task there is no choice", uniform_task(("a",), seed=seed, step=3)
