"""An encoder computing in 16 bits alone, with its parameters kept in 32.

Autocast casts each weight where it is used, each activation where it goes into a product, and back
for what comes between: a third of what a GPU's host has to do in a step, and of what the GPU moves.
Here the weights are cast once a step, all in one call, and the encoder has copies in 16 bits in
their place: residual sums, LayerNorm and GELU take and give 16 bits too (their sums and statistics
are 32 bits within a kernel). Gradients come back in 16 bits, and are cast and added up in 32.
Embeddings stay in 32 bits, for their gradients are sums over many tokens, and what comes out of
them is cast. Heads go by autocast as ever.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from minbert.adapters.layers import IA3, LoRA
from minbert.encoder import Encoder


class LowPrecision:
    """An encoder with copies in 16 bits of its parameters, but for those of its embeddings."""

    def __init__(self, encoder: Encoder, dtype: torch.dtype) -> None:
        """Make copies, which have no values before the first `refresh`."""
        (_, embeddings), *_ = encoder.depths()
        exact = set(embeddings.parameters())
        self._places = [
            (module, name, parameter)
            for module in encoder.modules()
            for name, parameter in module.named_parameters(recurse=False)
            if parameter not in exact
        ]
        self._dtype = dtype
        self._copies = {p: torch.empty_like(p, dtype=dtype) for *_, p in self._places}
        self._sums: dict[Tensor, Tensor] = {}  # the parameters' gradients, step after step
        self._outside: torch.autocast | None = None  # while the encoder computes with copies
        self._in_use = False
        encoder.register_forward_pre_hook(self._enter)
        encoder.register_forward_hook(self._leave, always_call=True)
        embeddings.register_forward_hook(self._cast)

    @torch.no_grad()
    def refresh(self) -> None:
        """Cast the parameters, to be done after each change of them."""
        torch._foreach_copy_(list(self._copies.values()), list(self._copies))

    @contextmanager
    def in_use(self) -> Generator[None]:
        """A block for a forward and backward pass with the copies.

        At its end their gradients are added to those of the parameters. Where a parameter has none,
        it gets the same tensor each time, so whoever keeps it beyond a step has to copy it.
        """
        for module, name, parameter in self._places:
            copy = self._copies[parameter]
            if copy.requires_grad != parameter.requires_grad:
                copy.requires_grad_(parameter.requires_grad)
            module._parameters[name] = copy  # pyrefly: ignore[unsupported-operation]
        self._in_use = True
        try:
            yield
            self._hand_over()
        finally:
            self._in_use = False
            for module, name, parameter in self._places:
                module._parameters[name] = parameter
            for copy in self._copies.values():
                copy.grad = None

    @torch.no_grad()
    def _hand_over(self) -> None:
        first: list[tuple[Tensor, Tensor]] = []
        more: list[tuple[Tensor, Tensor]] = []
        for parameter, copy in self._copies.items():
            if copy.grad is None:
                continue
            if parameter.grad is None:
                if parameter not in self._sums:
                    self._sums[parameter] = torch.empty_like(parameter)
                parameter.grad = self._sums[parameter]
                first.append((parameter.grad, copy.grad))
            else:
                more.append((parameter.grad, copy.grad))
        if first:
            torch._foreach_copy_([to for to, _ in first], [gradient for _, gradient in first])
        if more:
            torch._foreach_add_([to for to, _ in more], [gradient for _, gradient in more])

    # The encoder takes 16 bits as they are, and what is around it goes by autocast.

    def _enter(self, encoder: nn.Module, _: Any) -> None:
        if self._in_use:
            device = next(iter(self._copies)).device.type
            self._outside = torch.autocast(device, enabled=False)
            self._outside.__enter__()

    def _cast(self, embeddings: nn.Module, _: Any, output: Tensor) -> Tensor | None:
        return output.to(self._dtype) if self._in_use else None

    def _leave(self, encoder: nn.Module, *_: Any) -> None:
        if self._outside is not None:
            self._outside.__exit__(None, None, None)
            self._outside = None


def suits(encoder: nn.Module) -> bool:
    """Whether an encoder learns as well with parameters of 16 bits in its forward pass.

    IA3's and DoRA's factors stand near 1, where 16 bits do not show what they learn.
    """
    factors = (m for m in encoder.modules() if isinstance(m, IA3 | LoRA))
    return all(isinstance(m, LoRA) and m.magnitude is None for m in factors)
