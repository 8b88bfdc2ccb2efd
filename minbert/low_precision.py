"""An encoder computing in 16 bits alone, with its parameters kept in 32.

Autocast casts each weight where it is used, each activation where it goes into a product, and back
for what comes between: a third of what a GPU's host has to do in a step, and of what the GPU moves.
Here the weights are cast once a step, all in one call, and the encoder has copies in 16 bits in
their place: residual sums, LayerNorm and GELU take and give 16 bits too (their sums and statistics
are 32 bits within a kernel). Gradients come back in 16 bits, and are cast and added up in 32.
Embeddings stay in 32 bits, for their gradients are sums over many tokens, and what comes out of
them is cast. Heads go by autocast as ever.

The copies of a layer's query, key and value are one matrix, so that the three maps are one product,
and their gradients too. A reader of the encoders may skip this file.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minbert.adapters.layers import IA3, LoRA
from minbert.encoder import Encoder
from minbert.quick import Linear

LOW: dict[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Precisions of 16 bits."""


@dataclass(frozen=True)
class Copy:
    """A tensor in 16 bits for one parameter, or for several, one after the other."""

    tensor: Tensor
    parameters: tuple[Tensor, ...]
    parts: tuple[Tensor, ...]
    """What of the tensor is each parameter's."""

    @classmethod
    def of(cls, *parameters: Tensor, dtype: torch.dtype) -> Copy:
        """A copy without values."""
        size = (sum(len(p) for p in parameters), *parameters[0].shape[1:])
        tensor = torch.empty(size, dtype=dtype, device=parameters[0].device)
        return cls(tensor, parameters, _split(tensor, parameters))

    def gradients(self) -> list[tuple[Tensor, Tensor]]:
        """The gradient of each parameter that learns, where the tensor has one."""
        if self.tensor.grad is None:
            return []
        found = zip(self.parameters, _split(self.tensor.grad, self.parameters), strict=True)
        return [(parameter, gradient) for parameter, gradient in found if parameter.requires_grad]


def _split(tensor: Tensor, parameters: Sequence[Tensor]) -> tuple[Tensor, ...]:
    if len(parameters) == 1:
        return (tensor,)
    return tensor.detach().split([len(p) for p in parameters])


class LowPrecision:
    """An encoder with copies in 16 bits of its parameters, but for those of its embeddings."""

    def __init__(self, encoder: Encoder, dtype: torch.dtype) -> None:
        """Make copies, which have no values before the first `refresh`."""
        (_, embeddings), *_ = encoder.depths()
        self._dtype = dtype
        self._joined = [JoinedMaps(maps, dtype) for maps in maps_of_one_input(encoder)]
        joined = [copy for maps in self._joined for copy in maps.copies]
        done = {*embeddings.parameters(), *(p for copy in joined for p in copy.parameters)}
        self._places = [
            (module, name, parameter)
            for module in encoder.modules()
            for name, parameter in module.named_parameters(recurse=False)
            if parameter not in done
        ]
        alone = {p: Copy.of(p, dtype=dtype) for *_, p in self._places}  # a shared one once
        self._alone = {parameter: copy.tensor for parameter, copy in alone.items()}
        self._copies = [*joined, *alone.values()]
        self._sums: dict[Tensor, Tensor] = {}  # the parameters' gradients, step after step
        self._outside: torch.autocast | None = None  # while the encoder computes with copies
        self._in_use = False
        self._hooks = [
            encoder.register_forward_pre_hook(self._enter),
            encoder.register_forward_hook(self._leave, always_call=True),
            embeddings.register_forward_hook(self._cast),
        ]

    @torch.no_grad()
    def refresh(self) -> None:
        """Cast the parameters, to be done after each change of them."""
        copies = self._copies
        torch._foreach_copy_(
            [part for copy in copies for part in copy.parts],
            [parameter for copy in copies for parameter in copy.parameters],
        )

    def remove(self) -> None:
        """Leave the encoder as if there had been no copies."""
        for hook in self._hooks:
            hook.remove()

    @contextmanager
    def in_use(self) -> Generator[None]:
        """A block for a forward and backward pass with the copies, or for forward passes alone.

        At its end their gradients are added to those of the parameters. Where a parameter has none,
        it gets the same tensor each time, so whoever keeps it beyond a step has to copy it.
        """
        learns = torch.is_grad_enabled()
        for copy in self._copies:
            wanted = learns and any(p.requires_grad for p in copy.parameters)
            if copy.tensor.requires_grad != wanted:
                copy.tensor.requires_grad_(wanted)
        for module, name, parameter in self._places:
            module._parameters[name] = self._alone[parameter]  # pyrefly: ignore[unsupported-operation]
        for maps in self._joined:
            maps.begin()
        self._in_use = True
        try:
            yield
            self._hand_over()
        finally:
            self._in_use = False
            for maps in self._joined:
                maps.end()
            for module, name, parameter in self._places:
                module._parameters[name] = parameter
            for copy in self._copies:
                copy.tensor.grad = None

    @torch.no_grad()
    def _hand_over(self) -> None:
        first: list[tuple[Tensor, Tensor]] = []
        more: list[tuple[Tensor, Tensor]] = []
        for parameter, gradient in (pair for copy in self._copies for pair in copy.gradients()):
            if parameter.grad is None:
                if parameter not in self._sums:
                    self._sums[parameter] = torch.empty_like(parameter)
                parameter.grad = self._sums[parameter]
                first.append((parameter.grad, gradient))
            else:
                more.append((parameter.grad, gradient))
        if first:
            torch._foreach_copy_([to for to, _ in first], [gradient for _, gradient in first])
        if more:
            torch._foreach_add_([to for to, _ in more], [gradient for _, gradient in more])

    # The encoder takes 16 bits as they are, and what is around it goes by autocast.

    def _enter(self, encoder: nn.Module, _: Any) -> None:
        if self._in_use:
            device = self._copies[0].tensor.device.type
            self._outside = torch.autocast(device, enabled=False)
            self._outside.__enter__()

    def _cast(self, embeddings: nn.Module, _: Any, output: Tensor) -> Tensor | None:
        return output.to(self._dtype) if self._in_use else None

    def _leave(self, encoder: nn.Module, *_: Any) -> None:
        if self._outside is not None:
            self._outside.__exit__(None, None, None)
            self._outside = None


class JoinedMaps:
    """Linear maps that are called with one x after each other: x (Q | K | V)ᵀ + (p | q | r).

    The first of them that is called computes for all, and the others give what is theirs.
    """

    def __init__(self, maps: Sequence[Linear], dtype: torch.dtype) -> None:
        self._maps = maps
        weight = Copy.of(*(m.weight for m in maps), dtype=dtype)
        self.copies = [weight]
        if maps[0].bias is not None:
            self.copies.append(Copy.of(*(m.bias for m in maps), dtype=dtype))
        self._sizes = [m.out_features for m in maps]
        self._input: Tensor | None = None
        self._outputs: dict[int, Tensor] = {}

    def begin(self) -> None:
        """Put the product in the maps' place."""
        for number, one in enumerate(self._maps):
            one.forward = partial(self._output, number)

    def end(self) -> None:
        """Let the maps compute on their own again."""
        self._input, self._outputs = None, {}
        for one in self._maps:
            del one.forward

    def _output(self, number: int, x: Tensor) -> Tensor:
        """What map `number` makes of x, which the others are asked for next."""
        weight, bias = self._maps[number].weight, self._maps[number].bias
        if weight is not self.copies[0].parameters[number]:  # another's, for a pass with those
            return F.linear(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype))
        if x is not self._input or number not in self._outputs:
            y = F.linear(x, *(copy.tensor for copy in self.copies))
            self._input, self._outputs = x, dict(enumerate(y.split(self._sizes, dim=-1)))
        found = self._outputs.pop(number)
        if not self._outputs:
            self._input = None
        return found


def maps_of_one_input(encoder: Encoder) -> list[list[Linear]]:
    """Each layer's maps for queries, keys and values, where they are three and plain."""
    found = []
    for module in encoder.modules():
        maps = [getattr(module, name, None) for name in ("query", "key", "value")]
        plain = [one for one in maps if type(one) is Linear]
        alike = len({(one.in_features, one.bias is None) for one in plain}) == 1
        if len(plain) == len(maps) and alike:
            found.append(plain)
    return found


def suits(encoder: nn.Module) -> bool:
    """Whether an encoder learns as well with parameters of 16 bits in its forward pass.

    IA3's and DoRA's factors stand near 1, where 16 bits do not show what they learn.
    """
    factors = (m for m in encoder.modules() if isinstance(m, IA3 | LoRA))
    return all(isinstance(m, LoRA) and m.magnitude is None for m in factors)
