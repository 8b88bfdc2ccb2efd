"""Right solutions pass however they are written; generic wrong answers never do."""

import dataclasses
import inspect
import math

import numpy as np
import pytest
import solutions.bert  # noqa: F401
import solutions.extensions  # noqa: F401
import solutions.heads  # noqa: F401
import solutions.loop  # noqa: F401
import solutions.optim  # noqa: F401
import solutions.tokens_costs  # noqa: F401
import torch
from planting import TARGETS, blanked, plant, verdict
from solutions import SOLUTIONS
from torch import Tensor, nn

from lab.answers import PLAIN
from lab.exercises import BY_NAME
from lab.planting import planted, resolve

FLAGS = {"freeze", "train_biases", "BitFit.prepare"}
"""What these change is which parameters train; the others give or change numbers and words."""
THE_SAME = {("transposed", "BatchStream._order")}
"""A batch is the same in whatever order its rows are."""


def test_every_function_has_a_right_solution_written_differently():
    assert {target for _, target, _ in SOLUTIONS} == {target for _, target in TARGETS}
    assert len(SOLUTIONS) > len(TARGETS) >= 52


@pytest.mark.parametrize(
    "exercise, target, function", SOLUTIONS, ids=lambda value: getattr(value, "__name__", "")
)
def test_right_solutions_written_differently_pass(exercise, target, function):
    others = [(place, blanked(e, place)) for e, place in TARGETS if e is not exercise]
    # The layer written out calls modules of other exercises, as a student may.
    with plant([] if exercise.name == "layer" else others), planted(target, function):
        found = verdict(exercise)
    assert found.status == "done", found.message


@pytest.mark.parametrize("plain", PLAIN, ids=lambda p: p.function.__name__)
def test_what_mistakes_change_a_line_of_is_right(plain):
    with planted(plain.target, plain.function):
        found = verdict(BY_NAME[plain.exercise])
    assert found.status == "done", found.message


# Generic wrong answers


def as_half(x):
    if x.dtype == torch.float64:
        return x.float()
    return x.double() if x.is_floating_point() else x.to(torch.int8)


def shifted(x):
    if x.is_floating_point():
        return x + 1e-3
    return ~x if x.dtype == torch.bool else x + 1


def turned(x):
    if x.dim() > 1:
        return x.transpose(-1, -2)
    return x.flip(0) if x.dim() else -x - 1


def noise(x):
    return torch.rand(x.shape, generator=torch.Generator().manual_seed(0)).to(x.dtype)


GENERIC = {
    "zeros": torch.zeros_like,
    "random": noise,
    "transposed": turned,
    "off by 1e-3": shifted,
    "wrong dtype": as_half,
    "nan": lambda x: torch.full(x.shape, math.nan),
}


def changed(change, value):
    """A result with its tensors, numbers and words changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, np.ndarray):
        return change(torch.from_numpy(value)).numpy()
    if isinstance(value, nn.Module):
        for parameter in value.parameters():
            parameter.data = change(parameter.data)
        return value
    if dataclasses.is_dataclass(value):
        return type(value)(*(changed(change, item) for item in vars(value).values()))
    if isinstance(value, tuple | list):
        return type(value)(changed(change, item) for item in value)
    if isinstance(value, dict):
        return {key: changed(change, item) for key, item in value.items()}
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return change(torch.tensor(float(value))).item() + 1e-3 * (change is as_half)
    return f"{value}x" if isinstance(value, str) else None


def held(argument):
    """The tensors that a function may change in place: an argument, or its parameters."""
    if isinstance(argument, nn.Module):
        return list(argument.parameters())
    if hasattr(argument, "param_groups"):
        return [p for group in argument.param_groups for p in group["params"]]
    return [argument] if isinstance(argument, Tensor) else []


def distorted(change, target):
    """The library's function, with what it gives or changes in place distorted."""
    right = resolve(target)[2]

    def wrong(*args, **kwargs):
        tensors = [tensor for argument in args for tensor in held(argument)]
        before = [tensor.detach().clone() for tensor in tensors]
        result = right(*args[inspect.ismethod(right) :], **kwargs)
        for tensor, old in zip(tensors, before, strict=True):
            if not torch.equal(tensor, old):
                tensor.data = change(tensor.data)
        return changed(change, result)

    return wrong


@pytest.mark.parametrize("change", GENERIC)
def test_generic_wrong_answers_are_never_right(change):
    count = 0
    for exercise, target in TARGETS:
        if target.name in FLAGS or (change, target.name) in THE_SAME:
            continue
        with planted(target, distorted(GENERIC[change], target)):
            found = verdict(exercise)
        assert found.status == "wrong" and found.message, f"{change}: {target}"
        count += 1
    same = sum(change == each for each, _ in THE_SAME)
    assert count == len(TARGETS) - len(FLAGS) - same


@pytest.mark.parametrize("flags", ["all", "none", "inverted"])
def test_training_the_wrong_parameters_is_never_right(flags):
    for exercise, target in TARGETS:
        if target.name not in FLAGS:
            continue
        right = resolve(target)[2]

        def wrong(*args, right=right, **kwargs):
            right(*args, **kwargs)
            for parameter in held(args[-1] if isinstance(args[-1], nn.Module) else args[0]):
                chosen = {"all": True, "none": False, "inverted": not parameter.requires_grad}
                parameter.requires_grad = chosen[flags]

        with planted(target, wrong):
            assert verdict(exercise).status == "wrong", target


def test_a_function_that_does_nothing_is_wrong():
    for exercise, target in TARGETS:
        with planted(target, lambda *args, **kwargs: None):
            assert verdict(exercise).status == "wrong", target


def test_a_function_that_returns_what_it_was_given_is_wrong():
    for exercise, target in TARGETS:
        with planted(target, lambda *args, **kwargs: args[-1]):
            assert verdict(exercise).status == "wrong", target
