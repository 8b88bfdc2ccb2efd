"""How time and memory of training grow with length, batch, layers and data, beside transformers.

One of the first three grows at a time: a step of a BERT of MiniLM's sizes on random tokens, without
padding. As the data grows, an epoch is timed, from texts of different lengths to their last step.
"""

from __future__ import annotations

import random
import string
from typing import Any

import torch

from benchmarks.curves import Curves, Point
from benchmarks.rows import Work, chunks, their_tokenizer

START = {"length": 64, "batch": 8, "layers": 6}
GROWTH = {
    "length": (32, 64, 128, 256, 512),
    "batch": (4, 8, 16, 32, 64),
    "layers": (2, 4, 6, 12, 24),
}
EPOCH = {"batch": 32, "layers": 2}
ROWS = (125, 250, 500, 1000, 2000)
SIZES: dict[str, Any] = {"vocab_size": 30522, "hidden_size": 384, "intermediate_size": 1536}


def ours(point: Point) -> Work:
    """Training of minbert's encoder, on packed batches."""
    from minbert import Bert, BertConfig
    from minbert.quick import keep_freed_memory
    from optim import AdamW

    keep_freed_memory()
    model = Bert(BertConfig(num_layers=point["layers"], num_heads=12, **SIZES)).train()
    optimizer = AdamW(model.parameters(), fused=True)
    work = _our_epoch if "rows" in point else _our_step
    return work(model, optimizer, point)


def _our_step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, point: Point) -> Work:
    from minbert import Packed

    length, batch = point["length"], point["batch"]
    ids = torch.randint(1000, 30000, (batch * length,))

    def step() -> None:
        layout = Packed([length] * batch)
        _learn(optimizer, layout.mean(model(ids, layout=layout).last_hidden_state))

    return step


def _our_epoch(model: torch.nn.Module, optimizer: torch.optim.Optimizer, point: Point) -> Work:
    """Bucketed batches."""
    from data.batching import EncodedRows
    from data.draws import BatchStream
    from data.readers import Example
    from minbert import load_backbone

    tokenizer = load_backbone("minilm").tokenizer
    texts = _texts(point["rows"])

    def epoch() -> None:
        examples = [Example(str(number), (text,), 0) for number, text in enumerate(texts)]
        rows = EncodedRows(examples, tokenizer, pair="cross", max_length=512)
        stream = BatchStream(rows.lengths, point["batch"], seed=0, name="growth", bucketed=True)
        for number in range(stream.batches_per_pass):
            batch = rows.batch(stream[number])
            outputs = model(batch.input_ids, layout=batch.layout)
            assert batch.layout is not None
            _learn(optimizer, batch.layout.first(outputs.last_hidden_state))

    return epoch


def theirs(point: Point) -> Work:
    """The same training of transformers' BertModel with sdpa, and torch.optim.AdamW."""
    from transformers import BertConfig, BertModel

    config = BertConfig(num_hidden_layers=point["layers"], num_attention_heads=12, **SIZES)
    model = BertModel(config).train()
    optimizer = torch.optim.AdamW(model.parameters())
    if "rows" in point:
        return _their_epoch(model, optimizer, point)
    ids = torch.randint(1000, 30000, (point["batch"], point["length"]))
    return lambda: _learn(optimizer, model(ids).last_hidden_state.mean(dim=1))


def _their_epoch(model: torch.nn.Module, optimizer: torch.optim.Optimizer, point: Point) -> Work:
    """Batches in the texts' order, each padded to its longest."""
    from minbert.backbones import find_backbone

    tokenizer = their_tokenizer(find_backbone("minilm"))
    texts = _texts(point["rows"])

    def epoch() -> None:
        for part in chunks(texts, point["batch"]):
            batch = tokenizer(part, padding=True, return_tensors="pt")
            _learn(optimizer, model(**batch).last_hidden_state[:, 0])

    return epoch


def _texts(count: int) -> list[str]:
    """Texts of 4 to 60 random tokens."""
    draw = random.Random(0)
    letters = string.ascii_lowercase
    return [" ".join(draw.choices(letters, k=draw.randint(4, 60))) for _ in range(count)]


def _learn(optimizer: torch.optim.Optimizer, outputs: torch.Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    outputs.square().sum().backward()
    optimizer.step()


CURVES = Curves(
    ours=ours,
    theirs=theirs,
    points=(
        *(
            {"grows": what, **START, what: value}
            for what, values in GROWTH.items()
            for value in values
        ),
        *({"grows": "data", **EPOCH, "rows": rows} for rows in ROWS),
    ),
    curve="grows",
    along={
        "length": ("length", "tokens in a sequence"),
        "batch": ("batch", "sequences"),
        "layers": ("layers", "layers"),
        "data": ("rows", "texts in an epoch"),
    },
    work="a step; of data, an epoch",
)
draw = CURVES.draw
