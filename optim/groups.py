"""Parameter groups: which parameters decay, and at which learning rate each one trains."""

import math
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor


def is_bias_or_norm(name: str, param: Tensor) -> bool:
    """True for biases and for the weights of normalisation layers, which BERT does not decay.

    Both are vectors, but for the odd bias kept as a column, which its name gives away.
    """
    return param.ndim < 2 or name.split(".")[-1] == "bias"


def parameter_groups(
    named_parameters: Iterable[tuple[str, Tensor]],
    *,
    lr: float,
    weight_decay: float,
    no_decay: Callable[[str, Tensor], bool] | None = None,
    lr_scale: Callable[[str], float] | None = None,
) -> list[dict[str, Any]]:
    """Groups for an optimizer, one per pair of learning rate and weight decay.

    Args:
        named_parameters: as `model.named_parameters()` gives them. A parameter that comes twice,
            as tied weights do, counts once, under its first name; a frozen one is left out.
        lr: the learning rate.
        weight_decay: the weight decay, where `no_decay(name, param)` is False; 0 elsewhere.
        no_decay: says which parameters do not decay; `is_bias_or_norm` where None.
        lr_scale: the factor on `lr` for a parameter of this name; 1 throughout where None.

    Returns:
        Dictionaries with the keys params, lr, weight_decay and names (of params, in their order).
        Groups come in the order of their first parameter.

    Raises:
        ValueError: no parameter is trainable, or a factor is negative or not finite.
    """
    spared = is_bias_or_norm if no_decay is None else no_decay
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    seen: set[Tensor] = set()  # a tensor hashes by identity
    for name, param in named_parameters:
        if param in seen or not param.requires_grad:
            continue
        seen.add(param)
        scale = 1.0 if lr_scale is None else lr_scale(name)
        if not 0 <= scale < math.inf:
            raise ValueError(
                f"lr_scale must be finite and at least 0; got {scale} for {name}; "
                "return 1 to leave the rate as it is, 0 to hold the parameter still"
            )
        key = (lr * scale, 0.0 if spared(name, param) else weight_decay)
        if key not in groups:
            groups[key] = {"params": [], "lr": key[0], "weight_decay": key[1], "names": []}
        groups[key]["params"].append(param)
        groups[key]["names"].append(name)
    if not groups:
        raise ValueError(
            "no trainable parameter: got none with requires_grad=True; "
            "unfreeze the model, or add what should train before making the optimizer"
        )
    return list(groups.values())
