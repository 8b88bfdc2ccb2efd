"""The whole: a few steps of training through all exercises, and what each function did in them.

An exercise is tried alone; here all work together, as they do when a model is trained. Each run
gives what training gives (losses, the gradient of every parameter, parameters, states, answers),
and a trace: what every function was given, and what it gave. A function that gives another result
for the same input is a suspect (lab/suspects.py). Tensors are written down as a few sums.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lab.checks.bert import tiny_config
from lab.exercises import EXERCISES
from lab.harness import Draw, bound, check, mark_dropouts, plain, planted, resolve
from lab.source import Target

MOST = 8
"""Calls of a function that are written down in a run: of a layer, all before the first step."""
GRADIENTS = 5
"""Calls of which the gradient is written down too, in two of the runs."""
TASKS = ("cola", "sst", "para", "sts")


@check("whole")
def whole(draw: Draw) -> Iterator[tuple[str, Any]]:
    from minbert.quick import route_of

    seeds = [draw.random.randrange(2**31) for _ in RUNS]  # whatever one run draws, or leaves
    for seed, (title, run) in zip(seeds, RUNS.items(), strict=True):
        trace = Trace(gradients=title.startswith(("four tasks", "LoRA")))
        found: Any = None
        with route_of("plain"), trace.watching():
            try:
                found = run(Draw(seed, title))
            except NotImplementedError as error:
                if "exercise " not in str(error):
                    raise
                found = f"waits for {error}"
            except Exception as error:
                found = f"{type(error).__name__}: {error}"
        yield title, {"found": found, "calls": trace.calls}


def fine_tuned(
    draw: Draw,
    *,
    tasks: tuple[str, ...] = TASKS,
    layers: int = 2,
    large: float = 1.0,
    **settings: Any,
) -> Any:
    """Two steps on several tasks' batches, and what the model says then."""
    from minbert.encoders.bert import Bert
    from multitask.config import TrainConfig
    from multitask.heads import answers
    from multitask.model import MultitaskModel

    encoder = draw.fill(Bert(replace(tiny_config(), num_layers=layers)))
    settings = {"seed": 3, "head_size": 6, **settings}
    if settings.get("head") == "linear":
        settings.pop("head_size")
    config = TrainConfig(tasks=tasks, **settings)
    model = MultitaskModel.from_config(config, encoder)
    trained = sorted(name for name, p in model.named_parameters() if p.requires_grad)
    draw.fill(mark_dropouts(model.train()))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(large)
    found = {"which parameters train": trained, **trained_for(draw, model, config, tasks)}
    for extension in config.extensions:
        extension.export(model)
    model.eval()
    batch = rows(draw, model.tasks[tasks[0]], "cross")
    with torch.no_grad():
        output = model.encoder(
            batch.input_ids,
            token_type_ids=batch.token_type_ids,
            layout=batch.layout,
            output_hidden_states=True,
            output_attentions=True,
        )
        found["states in eval mode"] = digest(list(output.hidden_states or ()))
        found["attention maps"] = digest(list(output.attentions or ()))
        for task in tasks:
            outputs = model(rows(draw, model.tasks[task], config.pair), task)
            said, sure = answers(model.tasks[task], outputs)
            found[f"answers of {task}"] = digest([said.double(), sure])
    return found


def trained_for(draw: Draw, model: Any, config: Any, tasks: tuple[str, ...]) -> dict[str, Any]:
    """Two steps, of two batches each: losses, gradients and parameters after each."""
    from multitask.extensions.base import Together
    from multitask.loop.optimizer import make_groups
    from multitask.objective import Objective
    from optim.adamw import AdamW
    from optim.schedules import linear

    groups = make_groups(config, model, Together(config.extensions))
    groups[-1] |= {"betas": (0.6, 0.8), "eps": 0.3, "efficient": False, "decay": "before"}
    optimizer = AdamW(groups, lr=0.02, betas=(0.8, 0.95), eps=0.1, weight_decay=0.1)
    rates = [group["lr"] / config.lr for group in optimizer.param_groups]
    objective, found = Objective(model, config.extensions), {}
    for step in range(2):
        optimizer.zero_grad()
        for task in (tasks[2 * step % len(tasks)], tasks[(2 * step + 1) % len(tasks)]):
            batch = rows(draw, model.tasks[task], getattr(config, "pair", "cross"))
            loss, _ = objective(batch, task, torch.tensor(2.0 * batch.weight))
            found[f"loss of {task} at step {step + 1}"] = digest(loss)
            if loss.requires_grad:
                loss.backward()
        named = dict(model.named_parameters())
        for name, parameter in named.items():
            found[f"gradient of {name} at step {step + 1}"] = digest(flat(parameter.grad))
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = 0.02 * rate * plain(linear(step + 1, 6, 2))
        optimizer.step()
        found |= {f"{name} after step {step + 1}": digest(flat(p)) for name, p in named.items()}
    return found


def flat(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.detach().flatten()


def rows(draw: Draw, task: Any, pair: str) -> Any:
    """A padded batch of three rows of a task."""
    from data.batching import Batch
    from minbert.layouts import Padded

    lengths = [6, 3, 1]
    if task.is_pair and pair != "cross":
        lengths = [6, 3, 2, 4, 6, 5]  # all first texts, then all second
    mask = torch.tensor([[n < length for n in range(6)] for length in lengths])
    low, high = (0, 2) if task.is_pair and pair == "cross" else (0, 1)
    if task.kind == "regression":
        labels = draw.normal(3) + 2
    else:
        labels = draw.integers(0, max(2, len(task.classes)), 3).float()
    return Batch(
        ids=("0", "1", "2"),
        labels=labels,
        input_ids=draw.integers(1, 11, *mask.shape) * mask,
        token_type_ids=draw.integers(low, high, *mask.shape) * mask,
        layout=Padded(mask),
    )


def adapted(draw: Draw) -> Any:
    from multitask.extensions.lora import LoRA

    adapter = LoRA(rank=2, alpha=6, targets=("query", "value"))
    extensions = (adapter,)
    return fine_tuned(draw, tasks=("sst", "sts"), head="linear", large=0.3, extensions=extensions)


def rates(draw: Draw) -> Any:
    from multitask.extensions.layer_lr import LayerLR

    extensions = (LayerLR(decay=0.5, heads=2.0),)
    return fine_tuned(draw, pair="concat", pooling="mean", extensions=extensions)


def pretrained(draw: Draw) -> Any:
    """Two steps of the masked language model."""
    from data.batching import Batch
    from minbert.encoders.bert import Bert
    from minbert.layouts import Padded
    from multitask.heads import row_losses
    from multitask.model import MaskedLanguageModel

    encoder = Bert(replace(tiny_config(), num_layers=1))
    model = mark_dropouts(draw.fill(MaskedLanguageModel(encoder, encoder.make_mlm_head())))
    mask, found = torch.tensor([[True] * 5, [True] * 3 + [False] * 2]), {}
    for step in range(2):
        labels = draw.integers(0, 11, 3)
        batch = Batch(
            ids=("0", "1"),
            labels=labels,
            input_ids=draw.integers(1, 11, 2, 5) * mask,
            token_type_ids=torch.zeros(2, 5, dtype=torch.long),
            layout=Padded(mask),
            masked=torch.tensor([1, 3, 6]),
        )
        model.zero_grad()
        loss = row_losses(model.tasks["mlm"], model(batch, "mlm"), labels).sum()
        found[f"loss at step {step + 1}"] = digest(loss)
        if loss.requires_grad:
            loss.backward()
        found |= {
            f"gradient of {name} at step {step + 1}": digest(flat(p.grad))
            for name, p in model.named_parameters()
        }
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter -= 0.05 * parameter.grad
    return found


RUNS: dict[str, Callable[[Draw], Any]] = {
    "four tasks, default settings": functools.partial(fine_tuned, layers=4),
    "pairs as two embeddings, means, a rate for each layer": rates,
    "cosines, maxima, gradient checkpointing, large values": functools.partial(
        fine_tuned, pair="cosine", pooling="max", gradient_checkpointing=True, large=3.0
    ),
    "LoRA, linear heads, small values": adapted,
    "the masked language model": pretrained,
}


# What functions were given, and what they gave


class Trace:
    """The calls of all exercises' functions, in the order in which they end."""

    def __init__(self, *, gradients: bool) -> None:
        self.gradients = gradients
        """Whether the gradient of each call is written down too."""
        self.calls: list[list[Any]] = []
        """Of each: function, how many of those before it were inside of it, given, gave."""
        self._busy = False
        self._left: dict[str, int] = {}

    @contextmanager
    def watching(self) -> Generator[None]:
        with ExitStack() as stack:
            for exercise in EXERCISES:
                for target in exercise.places:
                    stack.enter_context(planted(target, self.wrapped(target)))
            yield

    def wrapped(self, target: Target) -> Callable[..., Any]:
        function = resolve(target)[2]
        function = getattr(function, "__func__", function)  # of a class method
        signature = inspect.signature(function)

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            name = str(target)
            left = self._left.setdefault(name, MOST)
            if self._busy or not left:
                return function(*args, **kwargs)
            self._left[name] = left - 1
            # What is left out is None; a signature may be without it.
            arguments = [x for x in bound(signature, args, kwargs) if x is not None]
            with self.aside():
                given, before = digest(arguments), len(self.calls)
            again = signature.bind(*args, **kwargs)
            again.arguments |= {k: [*v] for k, v in again.arguments.items() if isinstance(v, list)}
            try:
                result = function(*args, **kwargs)
            except Exception as error:
                if not type(error).__module__.startswith("torch."):  # checkpointing stops so
                    self.add(name, before, given, ["raises", type(error).__name__])
                raise
            with self.aside():
                changed = [x for x in arguments if result is None or isinstance(x, list)]
                gave = [digest(result), digest(changed)]
                if (
                    self.gradients
                    and left > MOST - GRADIENTS
                    and isinstance(result, Tensor | list | tuple)
                ):
                    gave.append(gradient_of(function, again))
            self.add(name, before, given, gave)
            return result

        return call

    def add(self, name: str, before: int, given: Any, gave: Any) -> None:
        self.calls.append([name, len(self.calls) - before, given, gave])

    @contextmanager
    def aside(self) -> Generator[None]:
        """Calls that come from writing down are no part of the trace."""
        self._busy, was = True, self._busy
        try:
            yield
        finally:
            self._busy = was


def gradient_of(function: Callable[..., Any], call: inspect.BoundArguments) -> Any:
    """Sums of the gradients that a call passes on to its inputs and its module's parameters.

    The function is called once more, on inputs without a history, for theirs is not its own.
    """
    for name, x in call.arguments.items():
        if isinstance(x, Tensor) and x.requires_grad:
            call.arguments[name] = x.detach().requires_grad_()
    outputs = [x for x in tensors(function(*call.args, **call.kwargs)) if x.requires_grad]
    inputs = [x for each in call.arguments.values() for x in tensors(each) if x.requires_grad]
    if not outputs or not inputs:
        return None
    weights = [torch.from_numpy(waves(x.numel())).view(x.shape).to(x.dtype) for x in outputs]
    found = torch.autograd.grad(outputs, inputs, weights, allow_unused=True)
    return [[x is not None for x in found], digest(in_one([x for x in found if x is not None]))]


def in_one(parts: list[Tensor]) -> Tensor:
    """All numbers of many tensors, so that rounding in a tiny one is small beside the others."""
    return torch.cat([torch.zeros(0), *(part.detach().flatten() for part in parts)])


def tensors(value: Any) -> list[Tensor]:
    """The tensors that a value holds; of a module its parameters."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, nn.Module):
        return list(value.parameters())
    if isinstance(value, list | tuple):
        return [x for item in value for x in tensors(item)]
    return []


@functools.lru_cache(maxsize=256)
def waves(count: int) -> np.ndarray:
    """A weight of its own for every number of a tensor, between -1 and 1."""
    return np.cos(1.7 * np.arange(1, count + 1))


def digest(value: Any) -> Any:
    """A value in a few numbers: of a tensor shape, two sums, and whether it has a gradient."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        if value.dim() == 0 and not value.requires_grad:
            return value.item()
        sums = sums_of(value.detach().numpy().ravel())
        return {"of": list(value.shape), "sums": sums, "learns": value.requires_grad}
    if isinstance(value, nn.Module):
        return [type(value).__name__, value.training, digest_all(list(value.parameters()))]
    if isinstance(value, torch.optim.Optimizer):
        params = [p for group in value.param_groups for p in group["params"]]
        grads = [p.grad for p in params if p.grad is not None]
        return [digest_all(params), digest(in_one(grads))]
    if isinstance(value, list | tuple):
        return [digest(item) for item in value]
    if hasattr(value, "per_sequence") or hasattr(value, "input_ids"):  # a layout, or a batch
        return [digest(x) for x in vars(value).values() if isinstance(x, Tensor)]
    return type(value).__name__


def digest_all(parts: list[Tensor]) -> Any:
    """The digest of many parameters, as one."""
    flat = [part.detach().numpy().ravel() for part in parts]
    return {
        "many": len(parts),
        "sums": sums_of(np.concatenate(flat) if flat else np.zeros(0)),
        "learns": sum(part.requires_grad for part in parts),
    }


def sums_of(numbers: np.ndarray) -> list[float]:
    """The root of the sum of squares, and a sum with weights."""
    found = math.sqrt(np.dot(numbers, numbers.astype(float))), numbers @ waves(len(numbers))
    return [float(f"{number:.7g}") for number in found]
