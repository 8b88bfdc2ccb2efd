"""Texts to vectors, for search, clustering or features.

backbone = load_backbone("minilm")
vectors = embed(backbone, ["A first text.", "And a second."])  # (2, 384)
similarity = vectors @ vectors.T
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from minbert.checks import texts_of, warn_of_cut
from minbert.encoder import EncoderOutput
from minbert.inference import (
    answering,
    autocast,
    batches_by_length,
    chosen_precision,
    tokens_at_once,
)
from minbert.layouts import Packed
from minbert.loading import Backbone
from minbert.tokenization import Encodings, Tokenizer
from minbert.transfer import on_gpu, to_device

POOLINGS: dict[str, Callable[[EncoderOutput], Tensor]] = {
    "cls": lambda output: output.layout.first(output.last_hidden_state),
    "mean": lambda output: output.layout.mean(output.last_hidden_state),
    "max": lambda output: output.layout.max(output.last_hidden_state),
}
"""Name -> one vector (B, H) for each sequence."""
TEXTS = 8192
"""So many are tokenized while a GPU works on those before."""


@torch.no_grad()
def embed(
    backbone: Backbone,
    texts: Sequence[str],
    *,
    pooling: str = "mean",
    normalize: bool = True,
    max_length: int | None = None,
    tokens: int | None = None,
    precision: str = "auto",
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
        tokens: about how many go through the encoder at once; by default 4,096 on a CPU, and on a
            GPU by its memory.
        precision: fp32, tf32, bf16, fp16, or auto: an encoder with weights in 32 bits computes in
            16 on a GPU, in bf16 where the GPU has it. Weights that are in 16 bits stay what they
            are.
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
    precision = chosen_precision(precision, device)
    if next(encoder.parameters()).dtype != torch.float32:
        precision = "fp32"  # as it is
    if tokens is None:
        tokens = tokens_at_once(encoder)
    # A CPU works on one thing at a time, so there all texts are sorted by length.
    window = TEXTS if on_gpu(device) else len(texts)
    cut: list[int] = []
    training = encoder.training
    encoder.eval()
    try:
        with (
            tqdm(total=len(texts), desc="embed", unit="text", disable=not progress) as bar,
            answering(encoder, precision),
        ):
            for start, encodings in _encoded(backbone.tokenizer, texts, longest, window):
                cut += [start + row for row in encodings.cut]
                lengths = [len(ids) for ids in encodings.input_ids]
                for rows in batches_by_length(lengths, tokens=tokens):
                    layout = Packed([lengths[row] for row in rows]).to(device)
                    ids = np.concatenate([encodings.input_ids[row] for row in rows])
                    inputs = to_device(torch.from_numpy(ids).long(), device)
                    with autocast(device, precision):
                        pooled = POOLINGS[pooling](encoder(inputs, layout=layout))
                    vectors[to_device(torch.from_numpy(start + rows), device)] = pooled.float()
                    bar.update(len(rows))
    finally:
        encoder.train(training)
    warn_of_cut(cut, len(texts), longest)
    return F.normalize(vectors, dim=-1) if normalize else vectors


def _encoded(
    tokenizer: Tokenizer, texts: Sequence[str], longest: int, window: int
) -> Iterator[tuple[int, Encodings]]:
    """The number of a window's first text, and the tokens of the window's texts.

    The next window is tokenized on a second thread while the caller works on the one it has.
    """
    starts = range(0, len(texts), max(window, 1))

    def encode(start: int) -> Encodings:
        return tokenizer.encode(texts[start : start + window], max_length=longest)

    with ThreadPoolExecutor(1) as thread:
        ahead = thread.submit(encode, 0)
        for start in starts:
            found = ahead.result()
            ahead = thread.submit(encode, start + window)  # past the end there are no texts
            yield start, found
