"""What to change of a row and of a model before it answers: what does the answer do then?"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from data.batching import Batch
from minbert.encoder import Encoder
from minbert.tokenization import Tokenizer

Hook = Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]


@dataclass(frozen=True, kw_only=True)
class Edit:
    """Changes of a row's tokens, counted from 0 over all sequences of the row, and parts of the
    encoder to leave out, counted from 0 too."""

    masked: tuple[int, ...] = ()
    """Tokens in whose place [MASK] stands."""
    swapped: tuple[tuple[int, int], ...] = ()
    """Tokens that change places, after masking."""
    heads_off: tuple[tuple[int, int], ...] = ()
    """(layer, head): attention heads that give zeros."""
    layers_off: tuple[int, ...] = ()
    """Layers that hand on what they get."""


UNCHANGED = Edit()


def edited(batch: Batch, edit: Edit, tokenizer: Tokenizer) -> Batch:
    """A packed batch of one row with its tokens changed.

    Raises:
        ValueError: there is no such token.
    """
    assert batch.input_ids is not None
    ids = batch.input_ids.clone()
    last = len(ids) - 1
    for place in (*edit.masked, *(place for pair in edit.swapped for place in pair)):
        if not 0 <= place <= last:
            raise ValueError(f"the row has tokens 0 to {last}, and token {place} is to be changed")
    ids[list(edit.masked)] = tokenizer.mask_id
    for one, other in edit.swapped:
        ids[[one, other]] = ids[[other, one]]
    return replace(batch, input_ids=ids)


@contextmanager
def without_parts(encoder: Encoder, edit: Edit) -> Generator[None]:
    """Leave heads and layers out while the block runs.

    Raises:
        ValueError: there is no such head or layer.
    """
    layers = [part for name, part in encoder.depths() if name.startswith("layer ")]
    heads = num_heads(encoder)
    for layer in (*edit.layers_off, *(layer for layer, _ in edit.heads_off)):
        if not 0 <= layer < len(layers):
            raise ValueError(
                f"the encoder has layers 0 to {len(layers) - 1}, and layer {layer} is to be left "
                "out"
            )
    for _, head in edit.heads_off:
        if not 0 <= head < heads:
            raise ValueError(
                f"a layer has heads 0 to {heads - 1}, and head {head} is to be left out"
            )
    with ExitStack() as stack:
        for number in set(edit.layers_off):
            handle = layers[number].register_forward_hook(lambda layer, inputs, output: inputs[0])
            stack.callback(handle.remove)
        for number in {layer for layer, _ in edit.heads_off}:
            off = [head for layer, head in edit.heads_off if layer == number]
            last: nn.Module = layers[number].get_submodule("attention.output")
            handle = last.register_forward_pre_hook(_zeroing(off, heads, _width(encoder)))
            stack.callback(handle.remove)
        yield


def num_heads(encoder: Encoder) -> int:
    """N, heads of attention in a layer; ConvBERT's of convolution are none."""
    config: Any = encoder.config
    return config.mixed_heads if hasattr(config, "mixed_heads") else config.num_heads


def _width(encoder: Encoder) -> int:
    """Features that attention's heads give together: H, and in ConvBERT the first half of them."""
    hidden = encoder.config.hidden_size
    return hidden // 2 if hasattr(encoder.config, "mixed_heads") else hidden


def _zeroing(heads: Sequence[int], count: int, width: int) -> Hook:
    """A hook that zeroes slices of the features that go into a linear map."""
    size = width // count

    def zero(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        x = inputs[0].clone()
        for head in heads:
            x[..., head * size : (head + 1) * size] = 0
        return (x, *inputs[1:])

    return zero
