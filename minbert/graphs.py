"""An encoder's forward and backward passes as one launch each: CUDA graphs.

A GPU's host calls each operation of a step, and where batches are small the GPU waits for it. A
CUDA graph is a recording of such calls, which the host starts as one. It works on the same memory
each time, so all shapes in it are fixed: a batch is filled up to one of a few numbers of tokens by
a sequence at its end that nobody looks at. Batches that are not met often go call by call, in the
same shapes and with the same random numbers.

What is recorded is all that an encoder does to packed tokens with its copies in 16 bits. Heads,
losses, clipping and the optimizer go call by call. A reader of the encoders may skip this file.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Generator, Hashable, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minbert.checks import warn
from minbert.encoder import Encoder
from minbert.layouts import Layout, Packed
from minbert.low_precision import LowPrecision
from minbert.transfer import on_gpu

MEETINGS = 3
"""Batches of a shape that go by before it is recorded, which takes as long as many steps."""
MOST_GRAPHS = 48
"""Shapes that are recorded."""


class Recorded(LowPrecision):
    """Copies of an encoder's parameters in 16 bits, with which its passes are recorded."""

    def __init__(self, encoder: Encoder, dtype: torch.dtype) -> None:
        super().__init__(encoder, dtype)
        self._encoder = encoder
        self._graphs: dict[Hashable, Callable[..., Tensor]] = {}
        self._met: Counter[Hashable] = Counter()
        self._failed = self._replayed = self._all_states = False
        self._first = False  # until the block's first forward pass, whose memory is not taken
        (_, embeddings), *_ = encoder.depths()
        self._inner = [module for module in encoder.modules() if module is not encoder]
        self._own_hooks = _hooks(self._inner)
        self._embeddings = list(embeddings.parameters())
        self._parameters = [one.tensor for one in self._copies] + self._embeddings
        self._hooks.append(encoder.register_forward_pre_hook(self._look, with_kwargs=True))

    @contextmanager
    def in_use(self) -> Generator[None]:
        with super().in_use():
            self._first, self._replayed = True, False
            self._encoder.encode = self._encode
            try:
                yield
            finally:
                del self._encoder.encode

    def _hand_over(self) -> None:
        super()._hand_over()
        if self._replayed:  # into a graph's memory
            for parameter in self._embeddings:
                if parameter.grad is not None:
                    parameter.grad = parameter.grad.clone()

    def _look(self, encoder: nn.Module, _: Any, wanted: dict[str, Any]) -> None:
        self._all_states = bool(wanted.get("output_hidden_states"))

    def _encode(
        self,
        input_ids: Tensor,
        token_type_ids: Tensor,
        layout: Layout,
        attentions: list[Tensor] | None,
    ) -> list[Tensor]:
        """In place of the encoder's own: the last layer's output, where no other is asked for."""
        encode = type(self._encoder).encode
        last = attentions is None and not self._all_states
        if not (self._encoder.training and isinstance(layout, Packed) and last):
            return encode(self._encoder, input_ids, token_type_ids, layout, attentions)
        first, self._first = self._first, False
        tokens = len(input_ids)
        layout = filled_up(layout)
        fill = (0, layout.shape[0] - tokens)
        inputs = (
            F.pad(input_ids, fill), F.pad(token_type_ids, fill), layout.offsets, layout.positions,
        )  # fmt: skip
        # Who has hooks inside looks at each pass, and a second pass would take the first one's
        # memory; in equal shapes they draw equal random numbers.
        recordable = first and torch.is_grad_enabled() and _hooks(self._inner) == self._own_hooks
        graph = self._graph(inputs, layout.max_length) if recordable else None
        if graph is None:
            return [encode(self._encoder, *inputs[:2], layout, None)[-1][:tokens]]
        self._replayed = True
        return [graph(*inputs, *self._parameters)[:tokens].clone()]

    def _graph(self, inputs: tuple[Tensor, ...], longest: int) -> Callable[..., Tensor] | None:
        """The recording for a batch's shapes, and for what of the encoder learns."""
        learns = tuple(p.requires_grad for p in self._parameters)
        key = (*(x.shape for x in inputs), longest, learns)
        self._met[key] += 1
        new = key not in self._graphs and self._met[key] > MEETINGS
        if new and not self._failed and len(self._graphs) < MOST_GRAPHS:
            try:
                self._graphs[key] = self._record(inputs, longest)
            except (RuntimeError, AttributeError) as error:
                self._failed = True
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                warn(f"cuda_graphs: steps go on without, for recording one failed: {reason}")
        return self._graphs.get(key)

    def _record(self, inputs: tuple[Tensor, ...], longest: int) -> Callable[..., Tensor]:
        """A function of such inputs and of the parameters, which replays the encoder's passes."""

        def last_state(ids: Tensor, types: Tensor, *bounds: Tensor) -> Tensor:
            layout = Bounds(bounds[0], bounds[1], longest)
            return type(self._encoder).encode(self._encoder, ids, types, layout, None)[-1]

        device = inputs[0].device
        memory = tuple(x.clone() for x in inputs)
        # Trial runs draw random numbers, which are the step's.
        devices = [device] if on_gpu(device) else []
        with torch.random.fork_rng(devices=devices):
            graph = torch.cuda.make_graphed_callables(
                last_state, (*memory, *self._parameters), allow_unused_input=True
            )
        return cast(Callable[..., Tensor], graph)


def _hooks(modules: Sequence[nn.Module]) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules)


class Bounds(Packed):
    """A packed layout that knows no more than a kernel for packed sequences asks for."""

    def __init__(self, offsets: Tensor, positions: Tensor, longest: int) -> None:
        self.offsets, self.positions, self.max_length = offsets, positions, longest
        self.batch_size, self.shape = len(offsets) - 1, tuple(positions.shape)


def filled_up(layout: Packed) -> Packed:
    """A layout with a sequence at its end, so that few numbers of tokens and of longest lengths are
    met: at most a sixteenth more tokens, or 63."""
    tokens = layout.shape[0]
    step = max(64, 2 ** (tokens.bit_length() - 5))
    more = -tokens % step
    filled = layout.with_sequence(more).to(layout.offsets.device) if more else copy.copy(layout)
    filled.positions = F.pad(layout.positions, (0, more))  # an encoder may have too few for it
    filled.max_length = max(32, 2 ** (max(layout.max_length, more) - 1).bit_length())
    return filled
