"""Models and training as students write it, and mistakes that change a line."""

from __future__ import annotations

import math

import numpy as np
import torch

from lab.answers import plain


@plain("freezing")
def from_config(cls, config, encoder):
    from data.tasks import get_task
    from minbert.adapters import load_adapter
    from multitask.model import set_up

    tasks = [get_task(name) for name in config.tasks]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = cls(
            encoder,
            tasks,
            head=config.head,
            pooling=config.pooling,
            pair=config.pair,
            layer_mix=config.layer_mix,
            head_size=config.head_size,
            head_layers=config.head_layers,
            head_activation=config.head_activation,
            head_dropout=config.head_dropout,
        )
        set_up(encoder, config)
        if config.frozen:
            for p in encoder.parameters():
                p.requires_grad = False
        if config.adapter is not None:
            model.left_out = tuple(load_adapter(config.adapter, encoder))
        for extension in config.extensions:
            extension.prepare(model)
    return model


from_config.but("the seed is written as a number; it is `config.seed`", "config.seed", "0")
from_config.but(
    "the encoder is always frozen; `config.frozen` says whether", "if config.frozen:", "if True:"
)
from_config.but(
    "`config.frozen` is taken the other way round", "if config.frozen:", "if not config.frozen:"
)
from_config.but(
    "extensions are given the encoder; they prepare the model",
    "extension.prepare(model)",
    "extension.prepare(encoder)",
)
from_config.but(
    "only the first extension prepares the model",
    "in config.extensions:",
    "in config.extensions[:1]:",
)
from_config.but(
    "extensions draw from everybody's random numbers; theirs follow from the seed too",
    (
        "        for extension in config.extensions:\n"
        "            extension.prepare(model)\n"
        "    return"
    ),
    "    for extension in config.extensions:\n        extension.prepare(model)\n    return",
)
from_config.but("`config.pooling` is not used", "            pooling=config.pooling,\n", "")
from_config.but("`config.pair` is not used", "            pair=config.pair,\n", "")
from_config.but(
    "`config.head_dropout` is not used", "            head_dropout=config.head_dropout,\n", ""
)
from_config.but(
    "`config.head_activation` is not used",
    "            head_activation=config.head_activation,\n",
    "",
)
from_config.but(
    "only the first task has a head", "for name in config.tasks]", "for name in config.tasks[:1]]"
)
from_config.but(
    "the model has a copy of the encoder, and what is set up and frozen is the original",
    "            encoder,\n",
    "            __import__('copy').deepcopy(encoder),\n",
)
from_config.but(
    "the seed is set for everybody afterwards; random numbers elsewhere stay as they were",
    "    return model",
    "    torch.manual_seed(config.seed)\n    return model",
)


@plain("sampling")
def uniform_task(tasks, *, seed, step):
    generator = np.random.default_rng([seed, step])
    return tasks[int(generator.integers(len(tasks)))]


uniform_task.but(
    "seed and step are multiplied, so that with seed 0 all steps draw the same task",
    "[seed, step]",
    "seed * step",
)
uniform_task.but(
    "the first and the last task are drawn half as often: round() gives them half a step",
    "int(generator.integers(len(tasks)))",
    "round(generator.random() * (len(tasks) - 1))",
)
uniform_task.but(
    "hash() of a text is another one in each process: a resumed run would draw other tasks",
    "np.random.default_rng([seed, step])",
    "np.random.default_rng(abs(hash(f'{seed} {step}')))",
)
uniform_task.but(
    "the draw sets everybody's random numbers (np.random.seed); make a generator of your own",
    (
        "    generator = np.random.default_rng([seed, step])\n"
        "    return tasks[int(generator.integers(len(tasks)))]"
    ),
    (
        "    np.random.seed((seed * 1000003 + step) % 2**32)\n"
        "    return tasks[np.random.randint(len(tasks))]"
    ),
)
uniform_task.but(
    "the task's number is returned; its name is asked for",
    "return tasks[int(generator.integers(len(tasks)))]",
    "return int(generator.integers(len(tasks)))",
)
uniform_task.but("steps share their draws; each draws anew", "[seed, step]", "[seed, step // 2]")
uniform_task.but(
    (
        "tasks come in shuffled rounds, so that the next one follows from the last; each "
        "step draws anew"
    ),
    "return tasks[int(generator.integers(len(tasks)))]",
    (
        "order = np.random.default_rng([seed, step // len(tasks)]).permutation(len(tasks))\n"
        "    return tasks[int(order[step % len(tasks)])]"
    ),
)


@plain("surgery")
def pcgrad(products, generator):
    from multitask.extensions.gradient_surgery import others

    n = len(products)
    C = np.eye(n)
    for i in range(n):
        for j in others(i, n, generator):
            dot = C[i] @ products[:, j]
            if dot < 0:
                C[i, j] -= dot / products[j, j]
    return C


pcgrad.but(
    "rows and columns of the coefficients have changed places: row i is of task i",
    "return C",
    "return C.T",
)
pcgrad.but(
    "g_j is changed as well; the turn is g_i's alone",
    "C[i, j] -= dot / products[j, j]",
    "C[i, j] -= dot / products[j, j]\n                C[j, i] -= dot / products[i, i]",
)
pcgrad.but(
    "the coefficients begin at 0; g_i' begins as g_i, so as the identity",
    "np.eye(n)",
    "np.zeros((n, n))",
)
pcgrad.but(
    "the result is divided by the number of tasks; the gradients are added up later",
    "return C",
    "return C / n",
)
pcgrad.but(
    "the product is of g_i with column j of the coefficients; it is row i that says what g_i' is",
    "C[i] @ products[:, j]",
    "products[i] @ C[:, j]",
)
pcgrad.but(
    "only the first conflict is resolved; go on to the other tasks",
    "C[i, j] -= dot / products[j, j]",
    "C[i, j] -= dot / products[j, j]\n                break",
)
pcgrad.but(
    "the order does not come from `generator`, so a resumed run has others",
    "others(i, n, generator)",
    "others(i, n, np.random.default_rng())",
)


@plain("vaccine")
def gradvac(products, averages, beta, generator):
    from multitask.extensions.gradient_surgery import others

    n = len(products)
    C = np.eye(n)
    averages = averages.copy()
    for i in range(n):
        for j in others(i, n, generator):
            own = math.sqrt(max(C[i] @ products @ C[i], 0))
            other = math.sqrt(products[j, j])
            if own == 0 or other == 0:
                continue
            c = C[i] @ products[:, j] / (own * other)
            c = max(-1.0, min(1.0, float(c)))
            a = averages[i, j]
            if c < a:
                s = math.sqrt(1 - a * a)
                C[i, j] += own * (a * math.sqrt(1 - c * c) - c * s) / (other * s)
            averages[i, j] = (1 - beta) * a + beta * c
    return C, averages


gradvac.but(
    "an average moves only where the cosine is below it; it always moves",
    "            averages[i, j] = (1 - beta) * a + beta * c",
    "                averages[i, j] = (1 - beta) * a + beta * c",
)
gradvac.but(
    "the average that moves is a_ji; it is a_ij", "averages[i, j] = (1", "averages[j, i] = (1"
)
gradvac.but(
    "the cosine is changed where it is above its average; where it is below, it is raised",
    "if c < a:",
    "if c > a:",
)
gradvac.but(
    "the two lengths have changed places: |g_i'| is above, |g_j| below",
    "C[i, j] += own *",
    "C[i, j] += other *",
    "/ (other * s)",
    "/ (own * s)",
)
gradvac.but("√(1 - a²) is missing below the line", "/ (other * s)", "/ other")
gradvac.but(
    "the two terms have changed places: it is a √(1 - c²) - c √(1 - a²)",
    "(a * math.sqrt(1 - c * c) - c * s)",
    "(c * s - a * math.sqrt(1 - c * c))",
)
gradvac.but(
    "a gradient of zero has no cosine: skip it, and leave its average",
    "            if own == 0 or other == 0:\n                continue\n",
    "",
)
gradvac.but(
    "the coefficients are returned in the averages' place", "return C, averages", "return C, C"
)
gradvac.but(
    (
        "rounding takes the cosine beyond 1 in size, and the root of 1 - c² has no value; "
        "cut it off first"
    ),
    "            c = max(-1.0, min(1.0, float(c)))\n",
    "",
)
gradvac.but(
    "this is surgery, which raises the cosine to 0; it is raised to its average",
    "C[i, j] += own * (a * math.sqrt(1 - c * c) - c * s) / (other * s)",
    "C[i, j] -= c * own / other",
)
gradvac.but(
    "the own length is that of g_i; g_i' has another by now",
    "C[i] @ products @ C[i]",
    "products[i, i]",
)
