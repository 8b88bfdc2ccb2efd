"""Checks of part 4, pre-training.

What is drawn at random is counted, so that any order of the draws will do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lab.harness import Draw, check, gradients

Cases = Iterator[tuple[str, Any]]
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def near(share: float, wanted: float) -> bool | str:
    """Whether a share of very many draws is the one that is wanted; if not, about what it is."""
    return abs(share - wanted) < 0.03 or f"about {round(share, 1):.0%}"


@check("mlm_masking")
def mlm_masking(draw: Draw) -> Cases:
    from data.masking import Masker
    from minbert.tokenization import Tokenizer

    tokens = [*SPECIAL, *(f"w{n}" for n in range(50)), *(f"##p{n}" for n in range(10))]
    tokenizer = Tokenizer.from_tokens(tokens)
    ids = draw.integers(0, len(tokens), 20_000).numpy()
    special = ids < len(SPECIAL)
    seed = draw.random.randrange(1000)

    def apply(masker: Any, seed: int = seed) -> tuple[Any, Any]:
        row = ids.copy()
        seen, chosen = masker(row, np.random.default_rng(seed))
        assert (row == ids).all(), "the row that is passed in is changed; make a new one"
        return np.asarray(seen), np.asarray(chosen)

    settings: dict[str, Any] = {"rate": 0.6, "mask_share": 0.5, "random_share": 0.3}
    for name, options in (("rates of BERT: ", {}), ("other rates: ", settings)):
        masker = Masker(tokenizer, **options)
        seen, chosen = apply(masker)
        kinds = [kind.replace("int32", "int64") for kind in (str(seen.dtype), str(chosen.dtype))]
        yield name + "shapes and kinds", [*kinds, seen.shape, chosen.shape]
        chosen = chosen.astype(bool)
        yield name + "special tokens are never chosen", not chosen[special].any()
        yield (
            name + "the share of other tokens that is chosen",
            near(chosen[~special].mean(), masker.rate),
        )
        yield name + "what was not chosen stays", (seen == ids)[~chosen].all()
        if not chosen.any():
            return
        masked, stays = seen[chosen] == tokenizer.mask_id, (seen == ids)[chosen]
        yield (
            name + "the share of the chosen that is [MASK] now",
            near(masked.mean(), masker.mask_share),
        )
        kept = 1 - masker.mask_share - masker.random_share
        kept += masker.random_share / len(masker.ordinary)  # the random token may be the old one
        yield name + "the share of the chosen that stays", near(stays.mean(), kept)
        others = seen[chosen][~masked & ~stays]
        yield name + "a random token is no special one", (others >= len(SPECIAL)).all()
        drawn = set(others) & set(masker.ordinary)
        yield name + "any ordinary token may be drawn", len(drawn) > 0.9 * len(masker.ordinary)
    again, other = apply(masker), apply(masker, seed + 1)
    yield "the same generator masks the same", all(map(np.array_equal, (seen, chosen), again))
    yield "another generator masks other tokens", not np.array_equal(chosen, other[1])
    words = Masker(tokenizer, whole_words=True)
    word = words.words(ids)
    inside = (word[1:] == word[:-1]) & ~special[1:] & ~special[:-1]

    def together(masker: Any) -> Any:
        chosen = apply(masker)[1].astype(bool)
        return (chosen[1:] == chosen[:-1])[inside], chosen[~special]

    alike, chosen = together(words)
    yield "whole words: all tokens of a word are chosen together", alike.all()
    yield "whole words: the share of tokens that is chosen", near(chosen.mean(), 0.15)
    alike, _ = together(Masker(tokenizer, rate=0.5))
    yield "tokens of a word are chosen one by one, unless whole words are", alike.mean() < 0.75
    row, masker = ids[~special][:10], Masker(tokenizer, rate=0.3)
    counts = [masker(row.copy(), np.random.default_rng(n))[1].astype(bool).sum() for n in range(40)]
    yield "how many of ten tokens are chosen is another number each time", len(set(counts)) > 2
    none = Masker(tokenizer, rate=0.0)(row.copy(), np.random.default_rng(seed))[1]
    yield "at a rate of 0 no token is chosen", not np.asarray(none).any()


class _Encoder(nn.Module):
    """Stands for an encoder: the state of a token depends on its word and segment alone."""

    def __init__(self) -> None:
        super().__init__()
        self.word, self.token_type = nn.Embedding(11, 4), nn.Embedding(2, 4)
        self.layout: Any = None

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        *,
        layout: Any = None,
    ) -> Any:
        from minbert.encoder import EncoderOutput

        self.layout = layout
        types = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        states = self.word(input_ids) + self.token_type(types)
        pooled = states.flatten(0, -2)[:2]  # of two rows
        return EncoderOutput(last_hidden_state=states, pooler_output=pooled, layout=layout)


@check("masked_loss")
def masked_loss(draw: Draw) -> Cases:
    from data.batching import Batch
    from minbert.layouts import Packed, Padded
    from multitask.model import MaskedLanguageModel

    encoder: Any = _Encoder()
    model = draw.fill(MaskedLanguageModel(encoder, nn.Linear(4, 11)))
    layouts: dict[str, Any] = {
        "padded": Padded(torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])),
        "packed": Packed([5, 3]),
    }
    for name, layout in layouts.items():
        places = torch.tensor([1, 3, 6])  # among all tokens: two of the first row, one of the next
        labels = draw.integers(0, 11, 3)
        batch = Batch(
            ids=("0", "1"),
            labels=labels,
            input_ids=draw.integers(1, 11, *layout.shape),
            token_type_ids=draw.integers(0, 2, *layout.shape),
            layout=layout,
            masked=places,
        )
        scores = model(batch)
        yield f"scores of a {name} batch", scores
        yield f"the encoder is given the layout of a {name} batch", encoder.layout is layout
        loss = F.cross_entropy(scores, labels, reduction="sum")
        yield f"gradient of the words of a {name} batch", gradients(loss, encoder.word.weight)
