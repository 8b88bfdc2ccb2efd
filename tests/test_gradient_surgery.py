"""Gradient surgery against both algorithms written out on whole vectors in float64, and in runs."""

import math

import numpy as np
import pytest
import torch
from helpers import config, make_trainer, weights, without_seconds
from torch.nn import functional as F

from multitask import TrainConfig, resume, train
from multitask.extensions.base import Step
from multitask.extensions.gradient_surgery import GradientSurgery, gradvac, pcgrad
from multitask.extensions.sampling import Sampling
from multitask.loop.trainer import Trainer
from multitask.runs.checkpoint import load_checkpoint

pytestmark = pytest.mark.usefixtures("no_figure")

TASKS = ("sst", "para", "sts", "cola")
SHAPES = ((3, 5), (7,), (2, 2, 2))


def moment(number, memory=None, lines=None, tasks=TASKS):
    return Step(
        number=number, total=10, per_epoch=5, rows=dict.fromkeys(tasks, 8), seed=3, parameters={},
        groups=(), memory={} if memory is None else memory,
        log=[].append if lines is None else lines.append,
    )  # fmt: skip


def random_gradients(seed, dtype=torch.float64, tasks=TASKS):
    """Gradients with much conflict: of three shared parameters, and of a head for each task."""
    draw = np.random.default_rng(seed)
    gradients = {}
    for place, task in enumerate(tasks):
        parts = [torch.tensor(draw.normal(size=shape) - 0.1, dtype=dtype) for shape in SHAPES]
        heads = [None] * len(tasks)
        heads[place] = torch.tensor(draw.normal(size=4), dtype=dtype)
        gradients[task] = parts + heads
    return gradients


def flat(parts):
    return np.concatenate([part.double().numpy().ravel() for part in parts[: len(SHAPES)]])


def order(i, n, generator):
    return [j for j in generator.permutation(n) if j != i]


def projected(vectors, generator):
    """PCGrad as in its paper, Algorithm 1."""
    changed = []
    for i, g in enumerate(vectors):
        pc = g.copy()
        for j in order(i, len(vectors), generator):
            if pc @ vectors[j] < 0:
                pc -= pc @ vectors[j] / np.linalg.norm(vectors[j]) ** 2 * vectors[j]
        changed.append(pc)
    return changed


def vaccinated(vectors, averages, beta, generator):
    """GradVac as in its paper, Algorithm 1, over the whole model; `averages` are updated."""
    changed = []
    for i, g in enumerate(vectors):
        new = g.copy()
        for j in order(i, len(vectors), generator):
            other, aim = vectors[j], averages[i, j]
            cosine = new @ other / (np.linalg.norm(new) * np.linalg.norm(other))
            if cosine < aim:
                above = aim * math.sqrt(1 - cosine**2) - cosine * math.sqrt(1 - aim**2)
                below = np.linalg.norm(other) * math.sqrt(1 - aim**2)
                new = new + np.linalg.norm(new) * above / below * other
            averages[i, j] = (1 - beta) * aim + beta * cosine
        changed.append(new)
    return changed


TOLERANCES = [(torch.float64, 1e-12), (torch.float32, 2e-6)]


@pytest.mark.parametrize("dtype, tolerance", TOLERANCES)
def test_pcgrad_is_the_algorithm_of_the_paper(dtype, tolerance):
    changed = 0
    for seed in range(20):
        gradients = random_gradients(seed, dtype)
        before = [flat(parts) for parts in gradients.values()]
        expected = projected(before, np.random.default_rng((3, 3, seed)))
        found = GradientSurgery().combine(gradients, moment(seed))
        for parts, want, start in zip(found.values(), expected, before, strict=True):
            np.testing.assert_allclose(flat(parts), want, rtol=0, atol=tolerance * 10)
            changed += not np.allclose(want, start)
    assert 40 < changed < 80  # of 20 x 4 gradients


@pytest.mark.parametrize("dtype, tolerance", TOLERANCES)
def test_gradvac_is_the_algorithm_of_the_paper_over_many_steps(dtype, tolerance):
    memory, averages = {}, np.zeros((4, 4))
    surgery = GradientSurgery(method="gradvac", beta=0.2)
    for number in range(30):
        gradients = random_gradients(number, dtype)
        vectors = [flat(parts) for parts in gradients.values()]
        expected = vaccinated(vectors, averages, 0.2, np.random.default_rng((3, 3, number)))
        found = surgery.combine(gradients, moment(number, memory))
        for parts, want in zip(found.values(), expected, strict=True):
            np.testing.assert_allclose(flat(parts), want, rtol=0, atol=tolerance * 10)
        np.testing.assert_allclose(memory["gradient_surgery"], averages, atol=tolerance * 10)
    assert np.abs(averages).max() > 0.05 and np.diag(averages).max() == 0


def test_two_tasks_by_hand():
    """g_1 = (1, 0) and g_2 = (-1, 1): along each other -1, so g_1' = (1/2, 1/2), g_2' = (0, 1)."""
    vectors = np.array([[1.0, 0.0], [-1.0, 1.0]])
    coefficients = pcgrad(vectors @ vectors.T, np.random.default_rng(0))
    np.testing.assert_allclose(coefficients @ vectors, [[0.5, 0.5], [0.0, 1.0]], atol=1e-15)
    # GradVac raises the cosine, here -1 / sqrt(2), to the aim, here 1 / 2.
    aims = np.full((2, 2), 0.5)
    coefficients, averages = gradvac(vectors @ vectors.T, aims, 0.1, np.random.default_rng(0))
    first = coefficients[0] @ vectors
    assert first @ vectors[1] / (np.linalg.norm(first) * math.sqrt(2)) == pytest.approx(0.5)
    assert averages[0, 1] == pytest.approx(0.9 * 0.5 - 0.1 / math.sqrt(2))
    assert averages[1, 1] == 0.5


def test_gradients_that_agree_and_those_of_heads_stay_as_they_are():
    for method in ("pcgrad", "gradvac", "none"):
        gradients = random_gradients(1)
        heads = {task: parts[len(SHAPES) :] for task, parts in gradients.items()}
        found = GradientSurgery(method=method).combine(gradients, moment(0))
        for task, parts in found.items():
            assert all(a is b for a, b in zip(parts[len(SHAPES) :], heads[task], strict=True))
        alike = random_gradients(1, tasks=("sst", "sts"))
        alike["sts"][:3] = [2 * part for part in alike["sst"][:3]]
        wanted = [part.clone() for part in alike["sts"][:3]]
        found = GradientSurgery(method=method).combine(alike, moment(0, tasks=("sst", "sts")))
        for part, want in zip(found["sts"][:3], wanted, strict=True):
            torch.testing.assert_close(part, want, rtol=1e-12, atol=0)


def test_a_gradient_of_zeros_changes_nothing():
    for method in ("pcgrad", "gradvac"):
        gradients = random_gradients(2, tasks=("sst", "sts"))
        gradients["sts"] = [None if p is None else torch.zeros_like(p) for p in gradients["sts"]]
        before, memory = flat(gradients["sst"]), {}
        found = GradientSurgery(method=method).combine(gradients, moment(0, memory, tasks=("sst",)))
        assert np.array_equal(flat(found["sst"]), before)
        assert not flat(found["sts"]).any()


def test_a_gradient_that_is_not_finite_leaves_the_averages_alone():
    gradients, memory = random_gradients(2), {}
    gradients["sst"][0][0, 0] = math.inf
    GradientSurgery(method="gradvac").combine(gradients, moment(0, memory))
    assert memory == {}


# In runs


def run_of(folder, dtype=torch.float64, method="pcgrad", **changes):
    surgery = GradientSurgery(method=method, **({"beta": 0.3} if method == "gradvac" else {}))
    trainer = make_trainer(
        config(folder, tasks=TASKS, epochs=1, steps_per_epoch=4, extensions=(surgery,), **changes),
        dtype,
    )
    trainer.fit()
    return trainer


def mean_loss(task, outputs, labels):
    if task == "sst":
        return F.cross_entropy(outputs, labels.long())
    if task == "sts":
        return ((outputs[:, 0] - labels) ** 2).mean()
    return F.binary_cross_entropy_with_logits(outputs[:, 0], labels.double())


@pytest.mark.parametrize("pair, own", [("cross", "heads.outputs."), ("concat", "heads.")])
def test_the_cosines_are_those_between_the_gradients_of_the_tasks_losses(folder, pair, own):
    """With concat, pairs have a shared layer of their own, so that no task shares all of it."""
    trainer = run_of(folder, method="none", pair=pair, lr=0.0)
    lines = [line for line in trainer.run.metrics() if line["kind"] == "cosines"]
    assert [line["step"] for line in lines] == list(range(4))
    assert lines[2]["tasks"] == list(TASKS)
    shared = [p for name, p in trainer.parameters.items() if not name.startswith(own)]
    units = []
    for task in TASKS:
        batch = trainer.data[task].train.batch(trainer.engine.streams[task][2])
        loss = mean_loss(task, trainer.model(batch, task), batch.labels)
        parts = torch.autograd.grad(loss, shared)
        gradient = torch.cat([part.flatten() for part in parts])
        units.append(gradient / gradient.norm())
    units = torch.stack(units)
    np.testing.assert_allclose(lines[2]["cosines"], (units @ units.T).numpy(), atol=2e-6)


def test_tasks_that_share_nothing_that_trains_are_left_as_they_are(folder):
    """A frozen encoder, and a shared layer for pairs beside the one for single texts."""
    changes = {"frozen": True, "pair": "concat", "pooling": "mean"}
    settings = {"tasks": ("sst", "para"), "epochs": 1, "steps_per_epoch": 3, **changes}
    found = []
    for method in ("none", "pcgrad"):
        surgery = GradientSurgery(method=method)
        trainer = make_trainer(config(folder, extensions=(surgery,), **settings))
        before = {name: p.detach().clone() for name, p in trainer.parameters.items()}
        trainer.fit()
        assert all(not torch.equal(p, before[name]) for name, p in trainer.parameters.items())
        found.append(trainer.parameters)
    assert all(torch.equal(p, found[1][name]) for name, p in found[0].items())


def test_surgery_changes_the_step_and_takes_every_task(folder):
    none, other = (run_of(folder, method=method) for method in ("none", "pcgrad"))
    name = "encoder.layers.0.feed_forward.inner.weight"
    assert not torch.equal(weights(none)[name], weights(other)[name])
    tasks = [line["task"] for line in other.run.metrics() if line["kind"] == "step"]
    assert tasks == list(TASKS) * 4


@pytest.mark.parametrize("log_every", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_a_run_that_was_cut_goes_on_with_its_averages(folder, monkeypatch, log_every):
    settings = {
        **{"tasks": ("sst", "sts"), "epochs": 2, "save_every": 1, "log_every": log_every},
        "extensions": (GradientSurgery(method="gradvac", beta=0.3),),
    }
    alone = train(config(folder, **settings), progress=False)
    cut, original = config(folder, **settings), Trainer.step

    def stop(self):
        if self.progress.step == 5:
            raise ConnectionError
        original(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", stop)
        with pytest.raises(ConnectionError):
            train(cut, progress=False)
    memory = load_checkpoint(cut.out / "last.safetensors")[1]["progress"]["memory"]
    assert 0 < abs(memory["gradient_surgery"][0][1]) < 1
    found = resume(cut.out, progress=False)
    assert without_seconds(found.metrics()) == without_seconds(alone.metrics())
    lines = [line["step"] for line in found.metrics() if line["kind"] == "cosines"]
    assert lines == list(range(12))
    tensors, wanted = (load_checkpoint(run.last) for run in (found, alone))
    assert all(torch.equal(tensors[0][key], value) for key, value in wanted[0].items())
    assert tensors[1]["progress"]["memory"] == wanted[1]["progress"]["memory"]


@pytest.mark.parametrize(
    "extensions, message",
    [
        ((GradientSurgery(), Sampling()), "gradient_surgery and sampling both choose the tasks"),
        ((GradientSurgery(),), "shard does not go with an extension that combines"),
    ],
)
def test_what_does_not_go_together_is_refused(extensions, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(extensions=extensions, shard=len(extensions) == 1)


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="beta must be above 0 and at most 1, it is 0"):
        GradientSurgery(beta=0)
    with pytest.raises(ValueError, match=r"beta is .* and has no effect: the method is pcgrad"):
        GradientSurgery(beta=0.3)
    with pytest.raises(ValueError, match="method is 'mgda'; choose one of pcgrad, gradvac, none"):
        GradientSurgery(method="mgda")
