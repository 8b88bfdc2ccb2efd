"""Texts to vectors, for search, clustering or features.

backbone = load_backbone("minilm")
vectors = embed(backbone, ["A first text.", "And a second."])  # (2, 384)
similarity = vectors @ vectors.T
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from minbert.checks import texts_of, warn_of_cut
from minbert.encoder import EncoderOutput
from minbert.layouts import Packed
from minbert.loading import Backbone
from minbert.transfer import to_device

POOLINGS: dict[str, Callable[[EncoderOutput], Tensor]] = {
    "cls": lambda output: output.layout.first(output.last_hidden_state),
    "mean": lambda output: output.layout.mean(output.last_hidden_state),
    "max": lambda output: output.layout.max(output.last_hidden_state),
}
"""Name -> one vector (B, H) for each sequence."""


@torch.no_grad()
def embed(
    backbone: Backbone,
    texts: Sequence[str],
    *,
    pooling: str = "mean",
    normalize: bool = True,
    max_length: int | None = None,
    tokens: int = 4096,
    progress: bool = False,
) -> Tensor:
    """One vector for each text, in the texts' order.

    Texts of similar length go through the encoder together, without padding.

    Args:
        backbone: from `load_backbone`; it is used in eval mode and left as it was.
        texts: any number of them, in a list, an array or a column of a table.
        pooling: cls, mean or max, over a text's tokens.
        normalize: scale each vector to length 1, so that a dot product is a cosine.
        max_length: longest text in tokens, by default the model's own limit (`Backbone.max_length`)
            or all that the encoder has positions for. A warning says how many texts were cut.
        tokens: about how many go through the encoder at once.
        progress: show a progress bar.

    Returns:
        (len(texts), hidden size), on the encoder's device; an ordinary tensor without gradients,
        which a classifier may be trained on.

    Raises:
        ValueError: a row is no text, or there is no such pooling.
    """
    texts = texts_of(texts)
    if pooling not in POOLINGS:
        raise ValueError(f"no pooling is called {pooling!r}; choose one of {', '.join(POOLINGS)}")
    encoder, config = backbone.encoder, backbone.encoder.config
    device = next(encoder.parameters()).device
    vectors = torch.empty(len(texts), config.hidden_size, device=device)
    longest = max_length
    if longest is None:
        longest = backbone.max_length or config.max_positions
    encodings = backbone.tokenizer.encode(texts, max_length=longest)
    warn_of_cut(encodings.cut, len(texts), longest)
    lengths = [len(ids) for ids in encodings.input_ids]
    training = encoder.training
    encoder.eval()
    try:
        with tqdm(total=len(texts), desc="embed", unit="text", disable=not progress) as bar:
            for rows in batches_by_length(lengths, tokens=tokens):
                layout = Packed([lengths[row] for row in rows]).to(device)
                ids = torch.from_numpy(np.concatenate([encodings.input_ids[row] for row in rows]))
                pooled = POOLINGS[pooling](encoder(to_device(ids.long(), device), layout=layout))
                vectors[to_device(torch.from_numpy(rows), device)] = pooled.float()
                bar.update(len(rows))
    finally:
        encoder.train(training)
    return F.normalize(vectors, dim=-1) if normalize else vectors


def batches_by_length(
    lengths: Sequence[int] | np.ndarray, *, tokens: int = 4096
) -> Iterator[np.ndarray]:
    """Row numbers for inference, longest rows first, about `tokens` tokens a batch."""
    batch: list[int] = []
    total = 0
    for row in np.argsort(-np.asarray(lengths), kind="stable"):
        batch.append(int(row))
        total += int(lengths[row])
        if total >= tokens:
            yield np.array(batch)
            batch, total = [], 0
    if batch:
        yield np.array(batch)
