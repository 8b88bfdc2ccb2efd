"""BERT on one page: token ids to vectors, with nothing but tensors.

    python examples/bert_written_out.py "A joy from start to end."

Devlin et al. (2019), arXiv:1810.04805. `w` holds a checkpoint's tensors by the names that
transformers gives them. minbert/encoders/bert.py computes the same as modules that train, and
tests/test_bert.py holds the two equal, gradients and places of dropout included.

B batch, S sequence, N heads, D head size, H = N * D hidden size, I intermediate size
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from minbert.backbones import find_backbone


def bert(
    w: Mapping[str, Tensor],
    config: Mapping[str, Any],
    ids: Tensor,
    mask: Tensor,
    types: Tensor,
    dropout: Callable[[Tensor, str], Tensor] = lambda x, place: x,
) -> Tensor:
    """The last hidden state (B, S, H).

    Args:
        w: tensors by name.
        config: a hub config.json.
        ids, mask, types: (B, S) token ids, 1 at real tokens and 0 at padding, and segments.
        dropout: called with what is dropped and the name of the place; by default nothing is.
    """

    def norm(x: Tensor, name: str) -> Tensor:
        x = x - x.mean(-1, keepdim=True)
        x = x / (x.pow(2).mean(-1, keepdim=True) + config["layer_norm_eps"]).sqrt()
        return x * w[f"{name}.LayerNorm.weight"] + w[f"{name}.LayerNorm.bias"]

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def embedding(index: Tensor, name: str) -> Tensor:
        return w[f"embeddings.{name}_embeddings.weight"][index]

    positions = torch.arange(ids.size(1))
    x = embedding(ids, "word") + embedding(positions, "position") + embedding(types, "token_type")
    x = dropout(norm(x, "embeddings"), "embeddings")  # (B, S, H)

    head_size = config["hidden_size"] // config["num_attention_heads"]
    for n in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{n}"
        query, key, value = (
            linear(x, f"{layer}.attention.self.{part}").unflatten(-1, (-1, head_size))
            for part in ("query", "key", "value")
        )  # (B, S, N, D)
        query, key, value = (t.transpose(1, 2) for t in (query, key, value))  # (B, N, S, D)
        scores = query @ key.mT / math.sqrt(head_size)  # (B, N, S, S)
        scores = scores.masked_fill(mask[:, None, None] == 0, -math.inf)  # padding gets no weight
        probabilities = dropout(scores.softmax(-1), f"{n} probabilities")
        context = (probabilities @ value).transpose(1, 2).flatten(2)  # (B, S, H)
        attended = linear(context, f"{layer}.attention.output.dense")
        x = norm(x + dropout(attended, f"{n} attention"), f"{layer}.attention.output")

        inner = linear(x, f"{layer}.intermediate.dense")  # (B, S, I)
        inner = inner * (1 + torch.erf(inner / math.sqrt(2))) / 2  # GELU
        output = linear(inner, f"{layer}.output.dense")
        x = norm(x + dropout(output, f"{n} output"), f"{layer}.output")
    return x


def main(text: str) -> None:
    """Print each token of a text with the first numbers of its vector."""
    folder = find_backbone("minilm")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    encoding = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text)
    ids, mask = torch.tensor([encoding.ids]), torch.tensor([encoding.attention_mask])
    ids, mask = ids[mask == 1][None], mask[mask == 1][None]  # the file asks for padding
    states = bert(load_file(folder / "model.safetensors"), config, ids, mask, torch.zeros_like(ids))
    for token, vector in zip(encoding.tokens, states[0]):
        print(f"{token:12}", *(f"{number:7.3f}" for number in vector[:6]), "...")


if __name__ == "__main__":
    main(" ".join(sys.argv[1:]) or "A joy from start to end.")
