"""Explanations in few bytes: JSON for what is read, bytes for attention, in one block.

    4 bytes      length of the JSON, little-endian
    JSON         UTF-8, padded with spaces to a multiple of 4
    bytes        attention probabilities in 1/255, (L, N, S, S) of each sequence, one after another

A page holds such a block, deflated, as base64, and the live server answers with one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from data.tasks import Task
from multitask.inside.explain import Explanation, TokenSequence

NEIGHBOURS = 3
"""Nearest tokens of other rows that are listed of each token."""


class Blob:
    """Bytes that JSON refers to."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.size = 0

    def add(self, attentions: np.ndarray) -> int:
        """Keep probabilities in 1/255; returns where they begin."""
        part, start = quantised(attentions), self.size
        self.parts.append(part)
        self.size += len(part)
        return start

    def block(self, value: Mapping[str, Any]) -> bytes:
        """JSON with the bytes behind it."""
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        data = text.encode(errors="replace")  # half a surrogate pair is no text
        data += b" " * (-len(data) % 4)
        return b"".join([len(data).to_bytes(4, "little"), data, *self.parts])


def quantised(attentions: np.ndarray) -> bytes:
    """Probabilities in 1/255, a byte each."""
    return np.rint(255 * np.clip(attentions, 0, 1)).astype(np.uint8).tobytes()


def as_json(
    found: Explanation,
    task: Task,
    blob: Blob,
    *,
    mean_path: bool,
    neighbours: Sequence[Sequence[Any]] | None = None,
) -> dict[str, Any]:
    """An explanation for the page.

    Args:
        found: the explanation.
        task: whose.
        blob: takes the attention.
        mean_path: whether the pooled vector is of all tokens, and not of [CLS].
        neighbours: of each sequence's tokens, as `nearest` gives them.
    """
    return {
        "texts": list(found.texts),
        "cut": found.cut,
        "outputs": _rounded(found.outputs),
        "chances": None if found.probabilities is None else _rounded(found.probabilities),
        "answer": found.answer,
        "layers": _rounded(
            found.layer_outputs if found.layer_probabilities is None else found.layer_probabilities
        ),
        "target": found.target,
        "output": round(found.output, 5),
        "baseline": round(found.baseline, 5),
        "error": float(f"{found.completeness_error:.2g}"),
        "sequences": [
            _sequence(each, blob, mean_path, neighbours[number] if neighbours else None)
            for number, each in enumerate(found.sequences)
        ],
    }


def _sequence(
    found: TokenSequence, blob: Blob, mean_path: bool, neighbours: Sequence[Any] | None
) -> dict[str, Any]:
    path = found.rollout.mean(axis=1) if mean_path else found.rollout[:, 0]  # (L, S)
    layers, heads = found.attentions.shape[:2]
    return {
        "tokens": list(found.tokens),
        "special": np.flatnonzero(found.special).tolist(),
        "segments": found.segments.tolist(),
        "layers": layers,
        "heads": heads,
        "attention": blob.add(found.attentions),
        "gradient": _rounded(found.gradient_x_input),
        "integrated": _rounded(found.integrated_gradients),
        "path": _rounded(path),
        "neighbours": neighbours,
    }


def _rounded(values: np.ndarray) -> Any:
    return np.round(values.astype(np.float64), 4).tolist()


def nearest(
    asked: Sequence[TokenSequence], bank: Sequence[tuple[Any, TokenSequence]], own: Any = None
) -> list[list[list[Any]]]:
    """For each token of each sequence, those of other rows whose last hidden states are nearest.

    Args:
        asked: the sequences of a row.
        bank: sequences of rows, each with a name of its row.
        own: the name of the row that is asked about, none of whose tokens count.

    Returns:
        For each sequence and token up to NEIGHBOURS of [token, name of its row, the text about it,
        cosine]; special tokens are left out, and have none.
    """
    names: list[tuple[Any, TokenSequence, int]] = [
        (name, sequence, place)
        for name, sequence in bank
        if name != own
        for place in np.flatnonzero(~sequence.special).tolist()
    ]
    if not names:
        return [[[] for _ in sequence.tokens] for sequence in asked]
    others = [s.hidden_states[-1][~s.special] for name, s in bank if name != own]
    vectors = _directions(np.concatenate(others))  # (M, H)
    found = []
    for sequence in asked:
        cosines = _directions(sequence.hidden_states[-1]) @ vectors.T  # (S, M)
        best = np.argsort(-cosines, axis=1, kind="stable")[:, :NEIGHBOURS]
        found.append(
            [
                []
                if sequence.special[place]
                else [_neighbour(names[n], float(cosines[place, n])) for n in best[place]]
                for place in range(len(sequence.tokens))
            ]
        )
    return found


def _directions(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


AROUND = 2
"""Tokens on either side that a neighbour is shown with."""


def _neighbour(found: tuple[Any, TokenSequence, int], cosine: float) -> list[Any]:
    name, sequence, place = found
    tokens = sequence.tokens
    before, after = tokens[max(0, place - AROUND) : place], tokens[place + 1 : place + 1 + AROUND]
    return [tokens[place], name, " ".join(before), " ".join(after), round(cosine, 3)]
