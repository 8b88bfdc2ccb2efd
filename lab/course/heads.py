"""Checks of a checkout's classifiers, whose inside is the student's choice: what holds of any.

BERT's place takes a stand-in with the handout's output, `last_hidden_state` (B, S, H) and
`pooler_output` (B, H), of H = 768, for which many heads are written.
"""

from __future__ import annotations

import inspect
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lab.course.given import Config, Load, NotHere, bert_config, built, member
from lab.harness import Draw, without_chance
from lab.planting import planted
from lab.source import Target

Cases = Iterator[tuple[str, Any]]
H, VOCAB, RATE = 768, 120, 0.3
CLS, SEP = 101, 102


class Encoder:
    """Stands for BERT's forward: a token's state is its word's vector and the mean of all of them,
    and padding is far off. States that are set take their place.
    """

    def __init__(self, draw: Draw) -> None:
        generator = torch.Generator().manual_seed(draw.random.randrange(2**31))
        self.table = torch.randn(VOCAB, H, generator=generator)
        self.table[[CLS, SEP]] = 0
        self.hidden: Tensor | None = None
        self.pooled: Tensor | None = None
        self.calls: list[tuple[Any, ...]] = []

    def __call__(self, module: Any, input_ids: Any, attention_mask: Any) -> dict[str, Tensor]:
        self.calls.append((input_ids, attention_mask))
        hidden, pooled = self.hidden, self.pooled
        if hidden is None or pooled is None:
            mask = attention_mask.unsqueeze(-1).float()
            words = self.table[input_ids] * mask
            states = words + words.sum(1, keepdim=True) / mask.sum(1, keepdim=True)
            hidden = states * mask + 50 * (1 - mask)
            pooled = states[:, 0].flip(-1)
        return {"last_hidden_state": hidden, "pooler_output": pooled}


@contextmanager
def standing_in(load: Load, module: Any, encoder: Encoder) -> Generator[None]:
    """A small BERT where `module` loads a pretrained one, and the stand-in for its forward."""
    torch.manual_seed(0)  # of the heads' first values
    model = member(load("bert"), "BertModel")

    def small(cls: Any, *args: Any, **options: Any) -> Any:
        sizes = {"hidden_size": H, "num_attention_heads": 12, "intermediate_size": 8}
        return built(cls, bert_config(**sizes, num_hidden_layers=1, vocab_size=VOCAB))

    def forward(self: Any, input_ids: Any, attention_mask: Any = None, **more: Any) -> Any:
        return encoder(self, input_ids, attention_mask)

    with ExitStack() as stack:
        stack.enter_context(patch.object(model, "forward", forward))
        stack.enter_context(patch.object(model, "from_pretrained", classmethod(small)))
        tokenizer = getattr(module, "BertTokenizer", None)
        if hasattr(tokenizer, "from_pretrained"):
            marks = SimpleNamespace(cls_token_id=CLS, sep_token_id=SEP, pad_token_id=0)
            loaded = classmethod(lambda cls, *args, **options: marks)
            stack.enter_context(patch.object(tokenizer, "from_pretrained", loaded))
        yield


class Labels(int):
    """A number of classes that has a length too: the handouts' two trainers differ in this."""

    def __len__(self) -> int:
        return self


FROZEN = ("pretrain", "freeze")
"""What the handouts call the mode in which BERT stays as it is; the 2024 one says it otherwise."""


def head_config(cls: Any, *, frozen: bool) -> Config:
    """Options of a classifier."""
    try:
        source = inspect.getsource(inspect.getmodule(cls) or cls)
    except (OSError, TypeError):
        source = ""
    word = next((word for word in FROZEN if f"'{word}'" in source.replace('"', "'")), FROZEN[0])
    return Config(
        num_labels=Labels(5),
        hidden_size=H,
        hidden_dropout_prob=RATE,
        data_dir=".",
        option=word if frozen else "finetune",
        fine_tune_mode="last-linear-layer" if frozen else "full-model",
    )


def classifier_class(load: Load) -> Any:
    """The classifier: CMU's has another name."""
    module = load("classifier")
    for name in ("BertSentimentClassifier", "BertSentClassifier"):
        if hasattr(module, name):
            return getattr(module, name)
    raise NotHere("there is no BertSentimentClassifier, nor a BertSentClassifier")


def drawn(draw: Draw, *shape: int) -> Tensor:
    """Standard normal numbers: many, so not one by one from `draw`."""
    generator = torch.Generator().manual_seed(draw.random.randrange(2**31))
    return torch.randn(shape, generator=generator)


def texts(draw: Draw, *lengths: int) -> tuple[Tensor, Tensor]:
    """A padded batch of texts with their marks: ids and mask."""
    ids = torch.zeros(len(lengths), max(lengths), dtype=torch.int64)
    for row, length in enumerate(lengths):
        ids[row, 0], ids[row, length - 1] = CLS, SEP
        ids[row, 1 : length - 1] = draw.integers(1, 100, length - 2)
    return ids, (ids != 0).long()


def head_parameters(model: nn.Module, load: Load) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters of the model's BERT, and the others."""
    berts = [each for each in model.modules() if isinstance(each, load("bert").BertModel)]
    inside = {id(p) for bert in berts for p in bert.parameters()}
    found = dict(model.named_parameters())
    theirs = {name: p for name, p in found.items() if id(p) in inside}
    return theirs, {name: p for name, p in found.items() if id(p) not in inside}


def training(model: nn.Module, load: Load, *, frozen: bool) -> Any:
    """Whether the parameters train that should, or what is wrong with it."""
    berts, heads = head_parameters(model, load)
    if not heads:
        return "there is no parameter but BERT's: what maps its output to logits?"
    trained = [name for name, p in berts.items() if p.requires_grad]
    if frozen and trained:
        return f"{trained[0]} and {len(trained) - 1} others of BERT train; they stay as they are"
    wanted = heads if frozen else {**berts, **heads}
    still = [name for name, p in wanted.items() if not p.requires_grad]
    return f"{still[0]} and {len(still) - 1} others do not train" if still else True


def classifier(draw: Draw, load: Load) -> Cases:
    cls, encoder = classifier_class(load), Encoder(draw)
    ids, mask = texts(draw, 5, 4, 5)
    with standing_in(load, load("classifier"), encoder):
        model = built(cls, head_config(cls, frozen=True))
        yield "which parameters train, BERT frozen", training(model, load, frozen=True)
        model = built(cls, head_config(cls, frozen=False))
        yield "which parameters train, BERT too", training(model, load, frozen=False)
        encoder.hidden, encoder.pooled = drawn(draw, 3, 5, H), drawn(draw, 3, H)
        model.eval()
        logits = model(ids, mask)
        given = encoder.calls[-1]
        right = torch.equal(given[0], ids) and torch.equal(given[1], mask)
        yield "BERT is given the ids and the mask", right or "it is given something else"
        yield "rows and classes of the logits", list(logits.shape)
        yield from _pooled(model, encoder, ids, mask)
        yield from _dropped(model, encoder, ids, mask)


def _pooled(model: Any, encoder: Encoder, ids: Tensor, mask: Tensor) -> Cases:
    """What the logits depend on, and how."""
    hidden, pooled = encoder.hidden, encoder.pooled
    assert hidden is not None and pooled is not None

    def of(hidden: Tensor, pooled: Tensor) -> Tensor:
        encoder.hidden, encoder.pooled = hidden, pooled
        found = model(ids, mask)
        encoder.hidden, encoder.pooled = original
        return found

    original = hidden, pooled
    logits = of(hidden, pooled)
    large = of(20 * hidden, 20 * pooled)
    sums = large.sum(-1)
    unit = torch.allclose(sums, torch.ones_like(sums), atol=1e-4) and bool((large >= 0).all())
    yield (
        "the logits are no probabilities",
        "each row sums to 1: these are probabilities, and F.cross_entropy takes a softmax itself"
        if unit
        else "all lie between 0 and 1, as after a sigmoid; F.cross_entropy takes logits"
        if bool(((large >= 0) & (large <= 1)).all())
        else True,
    )
    later = hidden.clone()
    later[:, 1:] += 1
    moved = not torch.allclose(of(later, pooled), logits, atol=1e-4)
    first = hidden.clone()
    first[:, 0] += drawn(Draw(0, "first"), H)
    either = [of(first, pooled), of(hidden, pooled + drawn(Draw(0, "pooled"), H))]
    follows = any(not torch.allclose(each, logits, atol=1e-4) for each in either)
    yield (
        "the logits follow the [CLS] token",
        "they change with tokens after [CLS]; the handout classifies by BERT's pooler_output"
        if moved
        else True
        if follows
        else "they do not change with its pooler_output, nor with the first hidden state",
    )
    hidden, pooled = hidden.clone().requires_grad_(), pooled.clone().requires_grad_()
    found = of(hidden, pooled)
    parts = (
        torch.autograd.grad(found.sum(), (hidden, pooled), allow_unused=True)
        if (found.requires_grad)
        else (None, None)
    )
    reached = any(part is not None and bool(part.any()) for part in parts)
    yield "gradients reach BERT", reached or "its output is cut off (detach, no_grad?)"


def _dropped(model: Any, encoder: Encoder, ids: Tensor, mask: Tensor) -> Cases:
    """Where dropout acts: on the pooled vector, in train mode."""
    function = Target("torch.nn.functional", "dropout")

    def none(input: Tensor, *args: Any, **options: Any) -> Tensor:
        return input

    model.eval()
    marked = model(ids, mask)
    with planted(function, none):
        plain = model(ids, mask)
    yield (
        "no dropout in eval mode",
        torch.allclose(marked, plain, atol=1e-4)
        or "it acts there too; F.dropout wants training=self.training",
    )
    model.train()
    with planted(function, without_chance):
        found = model(ids, mask)
    rates = [each.p for each in model.modules() if isinstance(each, nn.Dropout)]
    on_logits = any(
        torch.allclose(found, without_chance(plain, rate), atol=1e-4) for rate in (RATE, *rates)
    )
    yield (
        "dropout on the pooled vector, in train mode",
        "there is none; the handout drops from the pooled output, then projects it"
        if torch.allclose(found, plain, atol=1e-4)
        else "it acts on the logits; it belongs before the linear map, on the pooled output"
        if on_logits
        else True,
    )


def multitask(draw: Draw, load: Load) -> Cases:
    cls, encoder = member(load("multitask_classifier"), "MultitaskBERT"), Encoder(draw)
    names = "predict_sentiment", "predict_paraphrase", "predict_similarity"
    for name, count in zip(names, (2, 4, 4), strict=True):
        takes_texts(member(cls, name), f"MultitaskBERT.{name}", count)
    first, second, other = texts(draw, 5, 3, 6), texts(draw, 4, 6, 5), texts(draw, 4, 6, 5)
    with standing_in(load, load("multitask_classifier"), encoder):
        model = built(cls, head_config(cls, frozen=True))
        yield "which parameters train, BERT frozen", training(model, load, frozen=True)
        model = built(cls, head_config(cls, frozen=False))
        yield "which parameters train, BERT too", training(model, load, frozen=False)
        model.eval()
        logits = model.predict_sentiment(*first)
        yield "predict_sentiment: rows and classes", list(logits.shape)
        sums = logits.sum(-1)
        unit = torch.allclose(sums, torch.ones_like(sums)) and bool((logits >= 0).all())
        yield (
            "predict_sentiment: no probabilities",
            "each row sums to 1: these are probabilities" if unit else True,
        )
        yield "predict_sentiment: padding", padded_alike(model.predict_sentiment, first)
        for name in names[1:]:
            predict = getattr(model, name)
            found = predict(*first, *second)
            yield f"{name}: one number a row", shaped(found, 3)
            for which, changed in (("first", (*other, *second)), ("second", (*first, *other))):
                same = torch.allclose(predict(*changed).flatten(), found.flatten(), atol=1e-5)
                yield f"{name}: the {which} text", not same or "nothing changes with it"
            yield f"{name}: padding", padded_alike(predict, first, second)
        yield (
            "predict_paraphrase: no probabilities",
            last_step(model.predict_paraphrase(*first, *second)) not in ("Sigmoid", "Softmax")
            or "its last step is a sigmoid; evaluation takes another, after which each is a yes",
        )


def last_step(found: Tensor) -> str:
    """The function that made a tensor, but for those that give it another shape."""
    node = found.grad_fn
    while node is not None:
        name = node.name().partition("Backward")[0]
        if not name.endswith(("View", "Squeeze", "Unsqueeze", "Select", "Slice", "Alias")):
            return name
        node = node.next_functions[0][0]
    return ""


def takes_texts(function: Any, name: str, count: int) -> None:
    """Raise NotHere unless a method takes this many tensors, and no more."""
    wanted = inspect.signature(function)
    try:
        wanted.bind(*[None] * (count + 1))  # and self
    except TypeError:
        arguments = ", ".join(list(wanted.parameters)[1:])
        raise NotHere(f"{name} takes ({arguments}), and the handout's {count} tensors") from None


def shaped(found: Any, rows: int) -> Any:
    """Whether there is one number for each row, or what there is."""
    shape = tuple(getattr(found, "shape", ()))
    return shape in ((rows,), (rows, 1)) or f"the shape is {shape}; it should be ({rows},)"


def padded_alike(predict: Any, *pairs: tuple[Tensor, Tensor]) -> Any:
    """Whether more padding leaves the answers as they are."""
    longer = [F.pad(each, (0, 2)) for pair in pairs for each in pair]
    found = predict(*[each for pair in pairs for each in pair])
    same = torch.allclose(predict(*longer), found, atol=1e-4)
    return same or "answers change with padding, which has states that mean nothing"
