"""Loss scaling for float16, whose small gradients would be zero, without a wait each step.

A loss is multiplied by a large number and its gradients divided by it; a step whose gradients
overflow is left out, and the number is halved. The plain way reads from the device whether they do.
Here the optimizer's kernel leaves the step out by itself, and the host hears of it a step later.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from minbert.transfer import copied, to_host
from optim import AdamW


class Scaler(torch.amp.GradScaler):
    """PyTorch's scaler, which waits for the device only where an optimizer is not fused."""

    _news: tuple[list[dict[str, Any]], Tensor, torch.cuda.Event | None] | None = None
    """What the optimizer counted in the last step, and whether that was left out, on its way to the
    host."""

    def step(self, optimizer: Optimizer, *args: Any, **kwargs: Any) -> Any:
        """Update the parameters by gradients after `unscale_`, unless one is not finite."""
        if not (self.is_enabled() and isinstance(optimizer, AdamW) and optimizer.fused):
            return super().step(optimizer, *args, **kwargs)
        self.settle()
        (found,) = self._found_inf_per_device(optimizer).values()
        result = optimizer.step(*args, **kwargs, found_inf=found)
        updated = (p for group in optimizer.param_groups for p in group["params"])
        counted = [optimizer.state[p] for p in updated if p.grad is not None]
        self._news = counted, to_host(found), copied(found.device)
        return result

    def settle(self) -> None:
        """Have the optimizer count no step that was left out; to be called before it is saved."""
        if self._news is None:
            return
        (counted, found, arrived), self._news = self._news, None
        if arrived is not None:
            arrived.synchronize()
        if found.item():
            for state in counted:
                state["step"] -= 1

    def state_dict(self) -> dict[str, Any]:
        self.settle()
        return super().state_dict()
