"""Learning-rate schedules as pure functions of the step.

A schedule gives the factor on the base rate at a step, counted from 0. Nothing is kept between
steps, so nothing has to be saved: a resumed run calls it with the step at which it resumes.

    set_lr(optimizer, linear(step, total=1000, warmup=100))

All three rise from 0 to 1 over the first `warmup` steps, step / warmup, and then differ. The
numbers are those of the schedules of the same names in Hugging Face transformers, past `total`
too: there `linear` stays at 0, and `cosine` rises again.
"""

import math
from collections.abc import Callable

import torch

Schedule = Callable[[int, int, int], float]


def constant(step: int, total: int, warmup: int = 0) -> float:
    """1 after the warm-up. Args as `linear`."""
    check_schedule(step, total, warmup)
    return step / warmup if step < warmup else 1.0


def linear(step: int, total: int, warmup: int = 0) -> float:
    """Falls from 1 to 0 in a straight line: (total - step) / (total - warmup).

    Args:
        step: the step about to be taken, from 0.
        total: steps of the whole run, warm-up included.
        warmup: steps of the warm-up, at most `total`.

    Raises:
        ValueError: total <= 0, warmup outside [0, total], or step < 0.
    """
    check_schedule(step, total, warmup)
    if step < warmup:
        return step / warmup
    return max(0.0, (total - step) / max(1, total - warmup))


def cosine(step: int, total: int, warmup: int = 0) -> float:
    """Falls from 1 to 0 along half a cosine (Loshchilov & Hutter, 2017, without restarts).

    (1 + cos(pi x)) / 2 with x = (step - warmup) / (total - warmup). Args as `linear`.
    """
    check_schedule(step, total, warmup)
    if step < warmup:
        return step / warmup
    progress = (step - warmup) / max(1, total - warmup)
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * progress)))


SCHEDULES: dict[str, Schedule] = {"constant": constant, "linear": linear, "cosine": cosine}


def set_lr(optimizer: torch.optim.Optimizer, multiplier: float) -> None:
    """Set the rate of every group to its base rate times `multiplier`.

    The base rate is group["initial_lr"], which the first call takes from group["lr"]; the
    optimizer's state_dict() keeps it. Groups may differ in it.

    Raises:
        ValueError: the multiplier is negative, infinite or not a number.
    """
    if not 0 <= multiplier < math.inf:
        raise ValueError(
            f"the multiplier must be finite and at least 0; got {multiplier}; "
            "take it from a schedule"
        )
    for group in optimizer.param_groups:
        group["lr"] = group.setdefault("initial_lr", group["lr"]) * multiplier


def check_schedule(step: int, total: int, warmup: int) -> None:
    """Raise ValueError if the three numbers do not make a schedule."""
    if total <= 0:
        raise ValueError(f"total must be positive; got {total}; give the steps of the whole run")
    if warmup < 0:
        raise ValueError(f"warmup must be at least 0; got {warmup}; choose 0 for no warm-up")
    if warmup > total:
        raise ValueError(
            f"warmup must not exceed total; got warmup {warmup} of total {total}; "
            "shorten the warm-up or lengthen the run"
        )
    if step < 0:
        raise ValueError(f"step must be at least 0; got {step}; count steps from 0")
