"""The whole: a few steps of training through the exercises, and what each function did in them.

An exercise is tried alone; here all work together, as they do when a model is trained. Each run
gives what training gives: losses, the gradient of every parameter, parameters, states, answers.
Where that is not right, it is run again with a trace: what every function was given, and what it
gave. A function that gives another result for the same input is a suspect (lab/suspects.py). APART
says who has no part in it, and why.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lab.checks.bert import tiny_config
from lab.checks.trace import Trace, digest, in_one, in_order
from lab.exercises import EXERCISES
from lab.harness import Draw, check, mark_dropouts, plain
from lab.source import Target

TASKS = ("cola", "sst", "para", "sts")

APART = {
    **dict.fromkeys(("pair", "wordpiece", "bpe_merge", "bpe"), "texts are ids before a step"),
    **dict.fromkeys(("sampling", "mlm_masking"), "what is drawn may be drawn in many ways"),
    **dict.fromkeys(("parameters", "memory_flops", "few_rate"), "what is counted moves no weight"),
    "loading": "nothing is loaded",
    **dict.fromkeys(("rope", "local_attention", "convolution"), "they are no part of BERT"),
    **dict.fromkeys(("bitfit", "bottleneck", "surgery", "vaccine", "smart", "contrastive"),
                    "a run of its own would be as long as all that are here"),
}  # fmt: skip
"""The exercises that no run calls, and why."""


@check("trained")
def trained(draw: Draw) -> Iterator[tuple[str, Any]]:
    yield from runs(draw, [])


@check("whole")
def whole(draw: Draw) -> Iterator[tuple[str, Any]]:
    yield from runs(draw, [place for e in EXERCISES if e.name not in APART for place in e.places])


def runs(draw: Draw, targets: Sequence[Target]) -> Iterator[tuple[str, Any]]:
    """What comes of each run, with a trace of these functions."""
    from minbert.quick import route_of

    for name in MODULES:  # first of all: a name that is imported while a trace watches stays its
        importlib.import_module(name)
    seeds = [draw.random.randrange(2**31) for _ in RUNS]  # whatever one run draws, or leaves
    trace = Trace()
    with route_of("plain"), trace.watching(targets):
        for seed, (title, run) in zip(seeds, RUNS.items(), strict=True):
            trace.begin(gradients=title.startswith(("four tasks", "LoRA")))
            found: Any = None
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


def looped(draw: Draw) -> Any:
    """From rows to batches to one clipped gradient, a pass over each task; then scores."""
    from data.draws import BatchStream
    from minbert.encoders.bert import Bert
    from multitask.config import TrainConfig
    from multitask.experiments import significance
    from multitask.extensions.base import Together
    from multitask.heads import answers
    from multitask.loop.engine import Engine, Share
    from multitask.loop.optimizer import make_optimizer
    from multitask.model import MultitaskModel
    from multitask.objective import Objective

    kinds: dict[str, tuple[Any, tuple[str, ...]]] = {
        "sst": ("packed", ("macro_f1", "matthews")),
        "sts": ("padded", ("pearson",)),
    }
    config = TrainConfig(tasks=tuple(kinds), seed=3, head_size=6, lr=0.02)
    model = MultitaskModel.from_config(config, Bert(replace(tiny_config(), num_layers=1)))
    draw.fill(mark_dropouts(model.train()))
    objective, found = Objective(model, config.extensions), {}
    engine, optimizer = Engine(config, objective, {}), make_optimizer(config, model, Together(()))
    lengths = np.array([3, 5, 1, 6, 2, 7, 4])
    texts = [draw.integers(1, 11, int(length)).numpy() for length in lengths]
    labels = draw.integers(0, 2, len(texts)).float()
    for task, (kind, scores) in kinds.items():
        stream = BatchStream(lengths, 4, seed=3, name=task, bucketed=True)
        every = batch_of(texts, labels, kind)
        said = [answers(model.tasks[task], model(every, task))[0].detach()]
        steps = zip(in_order(stream[n] for n in range(2)), (0.5, 1000.0))
        for number, (chosen, limit) in enumerate(steps, start=1):
            shares = [
                Share(batch_of([texts[n] for n in part], labels[part], kind), 1.0)
                for part in (chosen[:2], chosen[2:])
            ]
            engine._begin()
            loss = engine._backward_each(task, shares, reduce=True)
            norm = engine.clip(optimizer, limit)
            gradient = in_one([p.grad for p in engine.parameters if p.grad is not None])
            parts = {"loss": loss, "norm": norm, "gradient": gradient}
            found |= {f"{k} of {task} at step {number}": digest(x) for k, x in parts.items()}
            optimizer.step()
        said.append(answers(model.tasks[task], model(every, task))[0].detach())
        for score in scores:
            scored = getattr(significance, f"_{score}")(labels.numpy(), torch.stack(said).numpy())
            found[f"{score} of {task}, before and after"] = digest(scored)
    return found


def batch_of(texts: list[np.ndarray], labels: Tensor, kind: Any) -> Any:
    """A batch of these rows, by the functions that make one."""
    from data.batching import Batch, lay_out, layout_of

    input_ids = lay_out(texts, kind, fill=0)
    return Batch(
        ids=tuple(map(str, range(len(texts)))),
        labels=labels,
        input_ids=input_ids,
        token_type_ids=torch.zeros_like(input_ids),
        layout=layout_of(np.array([len(text) for text in texts]), kind),
    )


RUNS: dict[str, Callable[[Draw], Any]] = {
    "four tasks, default settings": functools.partial(fine_tuned, layers=4),
    "pairs as two embeddings, means, a rate for each layer": rates,
    "cosines, maxima, gradient checkpointing, large values": functools.partial(
        fine_tuned, pair="cosine", pooling="max", gradient_checkpointing=True, large=3.0
    ),
    "LoRA, linear heads, small values": adapted,
    "the masked language model": pretrained,
    "batches of rows, added up and clipped; scores": looped,
}
MODULES = (
    "multitask.experiments.significance",
    "multitask.extensions.layer_lr",
    "multitask.extensions.lora",
    "multitask.loop.engine",
    "multitask.loop.optimizer",
    "multitask.model",
)
"""What the runs import, with all that these import."""
