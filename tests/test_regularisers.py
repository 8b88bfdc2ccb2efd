"""What changes the loss of a row or adds to it: each against its formula in float64, value and
gradient, and all of them on every encoder, in every way of computing a step, killed and resumed."""

from dataclasses import replace
from functools import partialmethod
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import (
    config,
    make_pretrainer,
    make_trainer,
    pretrain_config,
    weights,
    write_backbone,
    write_data,
)
from sklearn.utils.class_weight import compute_class_weight
from torch.func import functional_call
from torch.nn import functional as F

from data.tasks import get_task
from minbert.encoder import ENCODERS, Encoder
from multitask import TrainConfig
from multitask.commands import main as cli
from multitask.extensions import distill
from multitask.extensions.anchor import Anchor
from multitask.extensions.base import extension_from_dict, extension_to_dict
from multitask.extensions.class_weights import ClassWeights, balanced_weights
from multitask.extensions.distill import Distill
from multitask.extensions.focal import Focal
from multitask.extensions.gradient_surgery import GradientSurgery
from multitask.extensions.label_smoothing import LabelSmoothing
from multitask.extensions.lora import LoRA
from multitask.extensions.rdrop import RDrop
from multitask.extensions.smart import Smart
from multitask.forward_pass import ForwardPass
from multitask.heads import divergences, row_losses
from multitask.loop import engine
from multitask.loop.engine import Draw
from multitask.loop.trainer import Trainer

pytestmark = pytest.mark.usefixtures("no_figure")

EXACT = {"rtol": 1e-9, "atol": 1e-11}
SINGLE = {"rtol": 2e-5, "atol": 1e-7}
"""Losses are computed in float32 whatever the weights are in."""
ALL = {
    "smart": Smart(weight=3.0, ascent_steps=2, radius=0.3, step_size=0.2, noise=0.1),
    "rdrop": RDrop(weight=2.0),
    "label_smoothing": LabelSmoothing(epsilon=0.2),
    "focal": Focal(gamma=1.5),
    "class_weights": ClassWeights(),
    "anchor": Anchor(strength=5.0),
    "distill": Distill(teachers=("one", "sst=two"), temperature=3.0, weight=0.7, anneal=True),
}
TAGS = replace(get_task("sst"), name="tags", kind="labels", classes=("a", "b", "c"))
TASKS = {"sst": get_task("sst"), "para": get_task("para"), "sts": get_task("sts"), "tags": TAGS}


@pytest.fixture(scope="module", params=ENCODERS)
def every(request, tmp_path_factory):
    """A tiny random backbone and tiny data."""
    folder = tmp_path_factory.mktemp("tiny")
    sizes = {
        "convbert": {"embedding_size": 12, "batch_invariant": True},
        "modernbert": {"local_attention": 8},
    }.get(request.param, {})
    write_backbone(folder / "backbone", encoder=ENCODERS[request.param], **sizes)
    write_data(folder / "data")
    return folder


@pytest.fixture(autouse=True)
def _teachers(monkeypatch):
    """Teachers that need no run, but answer by a row's number: see test_distill.py for others."""

    def ask(teacher, task, examples, *, progress):
        draw = np.random.default_rng(len(teacher))
        return draw.dirichlet(np.ones(max(task.num_outputs, 2)), len(examples))[
            :, : task.num_outputs
        ]

    monkeypatch.setattr(distill, "Predictor", lambda folder, **_: folder)
    monkeypatch.setattr(distill, "check_teacher", lambda folder, tasks: None)
    monkeypatch.setattr(distill, "ask", ask)


def settings(folder, *extensions, **changes):
    return config(folder, **{"pooling": "mean", "extensions": extensions, **changes})


def rows(task, seed=0):
    """Outputs and labels of seven rows, in float64."""
    generator = torch.Generator().manual_seed(seed)
    outputs = 2 * torch.randn(7, task.num_outputs, generator=generator, dtype=torch.float64)
    labels = torch.arange(7.0, dtype=torch.float64) % (len(task.classes) or 5)
    if task.kind == "labels":
        labels = torch.stack([labels // 2, labels % 2, 1 - labels % 2], dim=1)
    return outputs.requires_grad_(), labels


def pass_of(task, labels):
    """What a pass of such rows says of them."""
    return SimpleNamespace(task=task, labels=labels.float())


def assert_agree(found, wanted, *inputs):
    """Values, and the gradients of sums in which each number counts differently."""
    torch.testing.assert_close(found.double(), wanted, **SINGLE)
    counts = torch.linspace(0.5, 2, wanted.numel(), dtype=torch.float64).view_as(wanted)
    ours, theirs = (torch.autograd.grad((counts * x).sum(), inputs) for x in (found, wanted))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-5, atol=2e-7)


# The loss of a row


def two_classes(outputs, labels):
    """A binary task's outputs and labels as those of a task with two classes."""
    return torch.stack([torch.zeros_like(outputs), outputs], dim=-1), labels.long()


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_label_smoothing_is_pytorchs(task):
    outputs, labels = rows(task)
    plain = row_losses(task, outputs, labels.float())
    found = LabelSmoothing(epsilon=0.2).losses(plain, outputs, pass_of(task, labels))

    def smoothed(logits, classes):
        losses = F.cross_entropy(
            logits.flatten(0, -2), classes.flatten(), label_smoothing=0.2, reduction="none"
        )
        return losses.view(classes.shape)

    if task.kind == "regression":
        assert found is plain
        return
    if task.kind == "classes":
        wanted = smoothed(outputs, labels.long())
    elif task.kind == "binary":
        wanted = smoothed(*two_classes(outputs[:, 0], labels))
    else:
        wanted = smoothed(*two_classes(outputs, labels)).mean(dim=1)
    assert_agree(found, wanted, outputs)


def focal(logits, labels, gamma):
    """-(1 - p)^gamma log p of the label's class, from the definition."""
    p = logits.softmax(-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    return -((1 - p) ** gamma) * p.log()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_focal_loss_is_its_formula(task, gamma):
    outputs, labels = rows(task)
    plain = row_losses(task, outputs, labels.float())
    found = Focal(gamma=gamma).losses(plain, outputs, pass_of(task, labels))
    if task.kind == "regression":
        assert found is plain
        return
    if task.kind == "classes":
        wanted = focal(outputs, labels.long(), gamma)
    elif task.kind == "binary":
        wanted = focal(*two_classes(outputs[:, 0], labels), gamma)
    else:
        wanted = focal(*two_classes(outputs, labels), gamma).mean(dim=1)
    assert_agree(found, wanted, outputs)


def test_focal_loss_has_a_gradient_however_sure_the_model_is():
    task, outputs = TASKS["sst"], torch.zeros(2, 5).index_fill_(1, torch.tensor(0), 1e3)
    outputs.requires_grad_()
    labels = torch.tensor([0.0, 1.0])
    plain = row_losses(task, outputs, labels)
    losses = Focal(gamma=0.5).losses(plain, outputs, pass_of(task, labels))
    losses.sum().backward()
    torch.testing.assert_close(losses.detach(), torch.tensor([0.0, 1e3]))
    torch.testing.assert_close(outputs.grad.abs().sum(1), torch.tensor([0.0, 2.0]))


def test_balanced_weights_are_scikit_learns():
    labels = torch.tensor([0.0, 0, 0, 2, 2, 4, 4, 4, 4, 4])
    found = balanced_weights(labels, 6)
    classes = np.array([0, 2, 4])
    wanted = compute_class_weight("balanced", classes=classes, y=labels.numpy())
    torch.testing.assert_close(found[[0, 2, 4]].double(), torch.tensor(wanted), rtol=1e-6, atol=0)
    assert found[[1, 3, 5]].tolist() == [1, 1, 1]  # of which there are no rows
    assert found[labels.long()].mean().item() == pytest.approx(1)


@pytest.mark.parametrize(
    "extension, weight",
    [
        (ClassWeights(weights={"sst:very negative": 3.0, "sst:neutral": 0.0}), [3, 1, 0, 1, 1]),
        (ClassWeights(balanced=("sst",)), [22 / 25, 22 / 25, 22 / 20, 22 / 20, 22 / 20]),
        (ClassWeights(balanced=("para",)), [1, 1, 1, 1, 1]),
    ],
)
def test_class_weights_are_pytorchs_of_each_row(folder, extension, weight):
    chosen = settings(folder, extension, tasks=("sst", "sts", "para"))
    model = make_trainer(chosen).model
    outputs, labels = rows(TASKS["sst"])
    task, weight = TASKS["sst"], torch.tensor(weight, dtype=torch.float64)
    factors = extension.row_weights(labels, task, model)
    found = factors * row_losses(task, outputs, labels.float())
    wanted = F.cross_entropy(outputs, labels.long(), weight=weight, reduction="none")
    assert_agree(found, wanted, outputs)
    assert extension.row_weights(labels, TASKS["sts"], model) is None


# Two outputs


def kl(p, q):
    """KL(p‖q) over the last dimension."""
    return (p * (p.log() - q.log())).sum(-1)


def both_ways(task, a, b):
    """The symmetric divergence from its definition, in float64."""
    if task.kind == "regression":
        return (a - b)[:, 0] ** 2
    if task.kind == "classes":
        p, q = a.softmax(-1), b.softmax(-1)
        return kl(p, q) + kl(q, p)
    p, q = (torch.stack([1 - x.sigmoid(), x.sigmoid()], dim=-1) for x in (a, b))
    return (kl(p, q) + kl(q, p)).mean(dim=1)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_divergence_is_the_symmetric_one_of_kullback_and_leibler(task):
    (a, _), (b, _) = rows(task), rows(task, seed=1)
    assert_agree(divergences(task, a, b), both_ways(task, a, b), a, b)
    assert not divergences(task, a, a).any()


def own_losses(losses, outputs, seen):
    """Of a run without extensions."""
    return losses


def passes(trainer, task, *, draw=0, seed=5):
    """A forward pass of a task's batch, with a draw of dropout that can be made again."""
    batch = trainer.data[task].train.batch(trainer.engine.streams[task][draw])
    torch.manual_seed(seed)
    return ForwardPass(trainer.model, batch, trainer.model.tasks[task], own_losses)


def gradients(loss, model):
    names, parameters = zip(*model.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True))


def assert_same_gradients(found, wanted):
    for name, gradient in wanted.items():
        if gradient is None:
            assert found[name] is None, name
            continue
        largest = gradient.abs().max().item()
        torch.testing.assert_close(
            found[name], gradient, rtol=0, atol=5e-5 * largest + 1e-7, msg=lambda m, n=name: n + m
        )


@pytest.mark.parametrize("task", ["sst", "para", "sts"])
def test_rdrop_is_the_published_code(folder, task):
    """0.5 (CE + CE) + alpha (KL + KL) / 2, each KL by F.kl_div, in float64."""
    chosen = settings(folder, tasks=(task,), encoder_dropout=0.3, head_dropout=0.2)
    trainer = make_trainer(chosen, torch.float64)
    seen = passes(trainer, task)
    found = (seen.losses + RDrop(weight=2.0).penalty(seen)).sum()

    model, batch, labels = trainer.model, seen.batch, seen.batch.labels.double()
    torch.manual_seed(5)
    first, second = model(batch, task), model(batch, task)
    assert not torch.equal(first, second), "nothing drops out"
    if task == "sts":
        losses = [(x[:, 0] - labels) ** 2 for x in (first, second)]
        apart = (first - second).square().sum() / 2
    else:
        pair = [first, second]
        if task == "para":
            pair = [two_classes(x[:, 0], labels)[0] for x in pair]
        losses = [F.cross_entropy(x, labels.long(), reduction="none") for x in pair]
        p, q = (x.log_softmax(-1) for x in pair)
        each = [F.kl_div(x, y, log_target=True, reduction="sum") for x, y in ((p, q), (q, p))]
        apart = sum(each) / 2
    wanted = 0.5 * (losses[0] + losses[1]).sum() + 2.0 * apart
    assert found.item() == pytest.approx(wanted.item(), rel=1e-5)
    assert_same_gradients(gradients(found, model), gradients(wanted, model))


def test_a_pass_can_be_made_again(every):
    """With the same draw of dropout, with another one, and with other weights."""
    trainer = make_trainer(
        settings(every, tasks=("sst",), encoder_dropout=0.3, head_dropout=0.2), torch.float64
    )
    seen = passes(trainer, "sst")
    after = torch.get_rng_state()
    torch.testing.assert_close(seen.same(), seen.outputs, **EXACT)
    assert torch.equal(torch.get_rng_state(), after), "the draws that follow are others"
    assert not torch.allclose(seen.again(), seen.outputs)
    doubled = {name: 2 * p.detach() for name, p in trainer.model.named_parameters()}
    other = seen.same(weights=doubled)
    assert not torch.allclose(other, seen.outputs)
    torch.testing.assert_close(seen.same(), seen.outputs, **EXACT)  # they are back
    for parameter in trainer.model.parameters():
        parameter.data *= 2
    torch.testing.assert_close(seen.same(), other, **EXACT)


# SMART


def distinct(trainer, seed=0):
    """The trainer's first batch of sst with no token twice, so that noise on a token is a change of
    its row of the embedding table; and those rows."""
    batch = trainer.data["sst"].train.batch([0, 1, 2])
    places = batch.layout.real_tokens
    size = trainer.model.encoder.config.vocab_size
    order = torch.randperm(size - 10, generator=torch.Generator().manual_seed(seed)) + 9
    tokens = order[: len(places)]
    ids = batch.input_ids.flatten().clone()
    ids[places] = tokens
    return replace(batch, input_ids=ids.view(batch.input_ids.shape)), tokens


def with_noise(model, batch, tokens, noise):
    """Outputs with noise added to the rows of the embedding table."""
    name = "encoder.embeddings.word.weight"
    table = dict(model.named_parameters())[name]
    return functional_call(model, {name: table.index_add(0, tokens, noise)}, (batch, "sst"))


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_noise_is_added_to_the_word_embeddings_of_real_tokens(every, layout):
    trainer = make_trainer(settings(every, tasks=("sst",), layout=layout), torch.float64)
    model = trainer.model
    batch, tokens = distinct(trainer)
    seen = ForwardPass(model, batch, TASKS["sst"], own_losses)
    noise = 0.2 * seen.embedding_noise()
    assert noise.shape == (len(tokens), model.encoder.embeddings.word.weight.shape[1])
    noise.requires_grad_()
    found, wanted = seen.same(noise=noise), with_noise(model, batch, tokens, noise)
    torch.testing.assert_close(found, wanted, **EXACT)
    assert not torch.allclose(found, seen.outputs, atol=1e-3)
    parts = [torch.autograd.grad(x.square().sum(), noise)[0] for x in (found, wanted)]
    torch.testing.assert_close(*parts, **EXACT)
    torch.testing.assert_close(seen.same(), seen.outputs, **EXACT)  # it is gone


def reference_smart(model, batch, tokens, noise, extension, kept):
    """The penalties of SMART and its proximal point for each row, from the paper's formulas."""
    task, clean = TASKS["sst"], model(batch, "sst")
    for _ in range(extension.ascent_steps):
        noise = noise.detach().requires_grad_()
        apart = both_ways(task, with_noise(model, batch, tokens, noise), clean.detach())
        (g,) = torch.autograd.grad(apart.sum(), noise)
        noise = noise + extension.step_size * g / g.abs().max(dim=1, keepdim=True).values
        noise = torch.minimum(noise, torch.tensor(extension.radius))
        noise = torch.maximum(noise, torch.tensor(-extension.radius)).detach()
    worst = with_noise(model, batch, tokens, noise)
    with torch.no_grad():
        former = functional_call(model, kept, (batch, "sst"))
    smooth, near = both_ways(task, worst, clean), both_ways(task, former, clean)
    return extension.weight * smooth + extension.proximal * near


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_smart_is_the_paper(every, layout, monkeypatch):
    extension = replace(ALL["smart"], proximal=1.5)
    chosen = settings(every, extension, tasks=("sst",), layout=layout)
    trainer = make_trainer(chosen, torch.float64)
    model = trainer.model
    batch, tokens = distinct(trainer)
    generator = torch.Generator().manual_seed(3)
    for tensor in model.kept.values():  # weights that differ from the model's
        tensor += 0.05 * torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
    seen = ForwardPass(model, batch, TASKS["sst"], own_losses)
    width = model.encoder.embeddings.word.weight.shape[1]
    start = torch.randn(len(tokens), width, generator=generator, dtype=torch.float64)
    monkeypatch.setattr(ForwardPass, "embedding_noise", lambda self: start)
    found = extension.penalty(seen)
    kept = {name.removeprefix("smart/"): tensor for name, tensor in model.kept.items()}
    wanted = reference_smart(model, batch, tokens, extension.noise * start, extension, kept)
    assert (wanted > 1e-3).all()
    torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-7)
    both = [gradients(x.sum(), model) for x in (found, wanted)]
    assert_same_gradients(*both)


def test_the_ascent_finds_more_than_chance_and_stays_within_the_radius(folder):
    extension = Smart(radius=0.05, step_size=0.05, noise=0.01, ascent_steps=3)
    trainer = make_trainer(settings(folder, extension, tasks=("sst",)))
    seen = passes(trainer, "sst")
    worst = extension.worst_noise(seen)
    assert worst.abs().max() <= 0.05 and not worst.requires_grad
    assert (worst.abs().amax(dim=1) > 0.02).all()
    chance = worst.abs() * torch.randn(worst.shape).sign()  # as large, in any direction
    apart = [divergences(seen.task, seen.same(noise=n), seen.outputs) for n in (worst, chance)]
    assert (apart[0] > 2 * apart[1]).sum() > len(apart[0]) / 2
    assert all(p.grad is None for p in trainer.model.parameters())


def test_the_mean_of_the_weights_runs_behind_them(folder):
    extension = Smart(weight=0.0, momentum=(0.5, 0.9))
    trainer = make_trainer(settings(folder, extension, tasks=("sst",), epochs=5))
    name = "encoder.layers.0.attention.output.weight"
    mean, total = trainer.parameters[name].detach().double().clone(), trainer.total_steps
    assert total == 15
    for number in range(6):
        trainer.step()
        torch.testing.assert_close(trainer.model.kept[f"smart/{name}"].double(), mean, **SINGLE)
        beta = 0.5 if number + 1 <= 1.5 else 0.9
        mean = beta * mean + (1 - beta) * trainer.parameters[name].detach().double()


# Decay towards the pretrained values


def test_an_anchor_moves_weights_as_its_formula_says(folder):
    trainer = make_trainer(settings(folder, Anchor(strength=5.0), tasks=("sst",)))
    start = weights(trainer)
    for parameter in trainer.parameters.values():
        parameter.data.add_(torch.randn(parameter.shape))
    before = weights(trainer)
    for group in trainer.optimizer.param_groups:
        group["lr"] = 0.04
    trainer.extensions.begin_step(trainer.model, trainer._next_step([]))
    for name, parameter in trainer.parameters.items():
        pull = 5.0 * 0.04 if name.startswith("encoder.") else 0.0
        wanted = before[name].double() - pull * (before[name].double() - start[name].double())
        torch.testing.assert_close(parameter.double(), wanted, **SINGLE)


def test_a_strong_anchor_holds_the_encoder(folder):
    far = []
    for extensions in ((), (Anchor(strength=100.0),)):
        trainer = make_trainer(settings(folder, *extensions, tasks=("sst",), weight_decay=0.0))
        start = weights(trainer)
        trainer.fit()
        moved = {n: (p - start[n]).norm().item() for n, p in trainer.parameters.items()}
        far.append([sum(v for n, v in moved.items() if n.startswith(k)) for k in ("enc", "heads")])
    assert far[1][0] < 0.5 * far[0][0] and far[1][1] > 0.5 * far[0][1]


# In every way of computing a step


def first_gradients(chosen, task, *, noise=None, dtype=torch.float64):
    """Gradients of a task's first draw without dropout, and the loss that is shown."""
    trainer = make_trainer(chosen, dtype)
    trainer.model.eval()
    for tensor in trainer.model.kept.values():
        tensor *= 1.1
    [part] = trainer.engine.backward([Draw(task, 0)])
    return {n: p.grad for n, p in trainer.parameters.items()}, part.loss.item()


def noise_by_token(self):
    """The same for a token wherever its batch is."""
    ids = self.batch.input_ids.flatten()[self.batch.layout.real_tokens]
    places = self.batch.layout.positions.flatten()[self.batch.layout.real_tokens]
    width = self.model.encoder.word_embeddings.weight.shape[1]
    features = torch.arange(width, dtype=torch.float64)
    return torch.sin((ids * 7 + places * 3).unsqueeze(1) + 1.7 * features)


def test_penalties_of_every_encoder_add_up(every, monkeypatch):
    accumulated_and_padded(every, Smart(), "sst", monkeypatch)


@pytest.mark.parametrize("task", ["sst", "sts"])
@pytest.mark.parametrize("name", ALL)
def test_accumulated_batches_and_padding_make_the_same_step(folder, name, task, monkeypatch):
    same = name in ("rdrop", "anchor") or (task == "sts" and name not in ("smart", "distill"))
    differs = accumulated_and_padded(folder, ALL[name], task, monkeypatch)
    assert differs != same  # without dropout both passes of rdrop are one


def accumulated_and_padded(folder, extension, task, monkeypatch):
    """Whether an extension changes a gradient, which must be that of the same rows in any form."""
    monkeypatch.setattr(ForwardPass, "embedding_noise", noise_by_token)
    chosen = settings(folder, extension, tasks=("sst", "sts"), batch_size=6, head_dropout=0.1)
    plain, shown = first_gradients(replace(chosen, extensions=()), task)
    found, loss = first_gradients(chosen, task)
    assert loss == pytest.approx(shown) and loss > 0
    other, loss = first_gradients(
        replace(chosen, batch_size=2, accumulate=3, layout="padded"), task
    )
    assert loss == pytest.approx(shown)
    assert_same_gradients(other, found)
    return any(g is not None and not torch.allclose(g, found[n]) for n, g in plain.items())


WAYS = {
    "padded, checkpointing": {"layout": "padded", "gradient_checkpointing": True},
    "lora": {"also": (LoRA(rank=2),)},
    "surgery": {"also": (GradientSurgery(),)},
    "concat": {"tasks": ("sts", "sst"), "pair": "concat", "batch_size": 3, "accumulate": 2},
}
TOGETHER = tuple(e for name, e in ALL.items() if name not in ("label_smoothing", "focal"))


def test_all_together_go_on_bit_for_bit(every):
    goes_on(settings(every, *TOGETHER, encoder_dropout=0.1, head_dropout=0.1, tasks=("sst",)))


@pytest.mark.parametrize(
    "name, way",
    [
        ("smart", "lora"),
        ("smart", "padded, checkpointing"),
        ("rdrop", "surgery"),
        ("label_smoothing", "lora"),
        ("focal", "surgery"),
        ("class_weights", "concat"),
        ("anchor", "padded, checkpointing"),
        ("distill", "lora"),
        ("distill", "concat"),
    ],
)
def test_a_run_goes_on_bit_for_bit(folder, name, way):
    way = dict(WAYS[way])
    extensions = (ALL[name], *way.pop("also", ()))
    goes_on(settings(folder, *extensions, encoder_dropout=0.1, head_dropout=0.1, **way))


def goes_on(chosen):
    """Four steps, and three with another one after a save, leave the same weights."""
    alone, cut = make_trainer(chosen), make_trainer(replace(chosen, out=f"{chosen.out}-cut"))
    for trainer, steps in ((alone, 4), (cut, 3)):
        trainer.model.train()
        for _ in range(steps):
            trainer.step()
    cut.log.flush(cut.progress)
    cut.save()
    again = Trainer(chosen, make_trainer(chosen).model, cut.data, cut.run, progress_bar=False)
    again.restore()
    again.model.train()
    again.step()
    for one, other in ((again.parameters, alone.parameters), (again.model.kept, alone.model.kept)):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], value) for key, value in other.items())


@pytest.mark.parametrize("name", ["smart", "rdrop", "label_smoothing", "focal", "anchor"])
def test_pre_training_takes_what_is_not_about_classes(folder, name):
    dropout = {"encoder_dropout": 0.1}
    trainer = make_pretrainer(pretrain_config(folder, extensions=(ALL[name],), **dropout))
    trainer.model.train()
    for _ in range(2):
        trainer.step()
    trainer.log.flush(trainer.progress)
    assert all(line["loss"] < 10 for line in trainer.run.metrics())


@pytest.mark.slow
def test_compiled_layers_and_16_bits_take_penalties(folder, monkeypatch):
    """16 bits as on a GPU, with copies of the weights: the same losses but for rounding."""
    monkeypatch.setattr(ForwardPass, "embedding_noise", noise_by_token)
    quick = partialmethod(Encoder.compile_layers, backend="aot_eager")
    monkeypatch.setattr(Encoder, "compile_layers", quick)
    found = []
    for changes in ({}, {"compile": True}, {"precision": "bf16"}):
        monkeypatch.setattr(engine, "on_gpu", lambda device, low="precision" in changes: low)
        trainer = make_trainer(settings(folder, ALL["smart"], tasks=("sst",), **changes))
        assert (trainer.engine.low is not None) == ("precision" in changes)
        for _ in range(3):
            trainer.step()
        trainer.log.flush(trainer.progress)
        lines = trainer.run.metrics()
        found.append([(line["loss"], line["grad_norm"]) for line in lines])
    torch.compiler.reset()
    plain, compiled, low = torch.tensor(found).unbind()
    torch.testing.assert_close(compiled, plain, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(low, plain, rtol=0.1, atol=0.1)


# What is refused, and flags


@pytest.mark.parametrize(
    "extension, changes, message",
    [
        (Smart(), {"frozen": True}, "smart changes the word embeddings, and frozen computes the"),
        (Smart(), {"shard": True}, "shard does not go with smart"),
        (RDrop(), {"encoder_dropout": 0.0, "head_dropout": 0.0}, "nothing drops out; raise head_d"),
        (Focal(), {"tasks": ("sts",)}, "focal is about classes, and sts have numbers for labels"),
        (LabelSmoothing(), {"tasks": ("sts",)}, "label_smoothing is about classes, and sts have"),
        (ClassWeights(), {"tasks": ("sts",)}, "class_weights needs a task whose rows have one"),
        (ClassWeights(balanced=("para",)), {}, r"names 'para'; tasks .* are \['sst'\]"),
        (
            ClassWeights(weights={"sst:bad": 2.0}),
            {},
            "sst has no class 'bad'; its classes are",
        ),
        (Anchor(), {"frozen": True}, "anchor pulls pretrained weights back, and with frozen they"),
        (Anchor(), {"extensions": (Anchor(), LoRA())}, "with lora they stay where they are"),
        (Anchor(strength=1e5), {}, "goes beyond the pretrained values in one step; it may be at"),
        (
            Focal(),
            {"extensions": (Focal(), LabelSmoothing())},
            "each say what a row's loss is",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(extension, changes, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**{"tasks": ("sst", "sts"), "extensions": (extension,), **changes})


def test_pre_training_has_no_classes_to_weigh(folder):
    with pytest.raises(ValueError, match="one class each, and mlm is none; leave it out"):
        pretrain_config(folder, extensions=(ClassWeights(),))
    with pytest.raises(ValueError, match="from scratch has no pretrained values; leave anchor out"):
        pretrain_config(folder, from_scratch="bert", size="tiny", extensions=(Anchor(),))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Smart(radius=0.0), "radius must be positive and finite, it is 0.0"),
        (lambda: Smart(momentum=(0.9, 1.0)), r"momentum must be two numbers in \[0, 1\)"),
        (lambda: Smart(ascent_steps=0), "ascent_steps must be at least 1"),
        (lambda: Smart(weight=0.0, proximal=0.0), "both 0, and smart has no effect: raise one"),
        (lambda: RDrop(weight=-1.0), "weight must be finite and at least 0, it is -1.0"),
        (lambda: Focal(gamma=float("nan")), "gamma must be finite and at least 0, it is nan"),
        (lambda: LabelSmoothing(epsilon=1.0), "epsilon must be at least 0 and below 1"),
        (lambda: ClassWeights(weights={"sst:neutral": -1.0}), "weight of sst:neutral must be fin"),
        (
            lambda: ClassWeights(weights={"sst:neutral": 1.0}, balanced=("sst",)),
            "sst has weights and is to be balanced too; take one",
        ),
    ],
)
def test_wrong_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_flags_and_config_json():
    words = ["--smart.weight", "2", "--smart.momentum", "0.9", "0.99", "--rdrop.weight", "5"]
    words += ["--class-weights.weights", "sst:very negative", "2", "--use", "anchor", "focal"]
    found = cli.parse(["train", "--tasks", "sst", *words]).chosen()
    weighed = ClassWeights(weights={"sst:very negative": 2.0})
    wanted = [
        Anchor(),
        Focal(),
        weighed,
        RDrop(weight=5.0),
        Smart(weight=2.0, momentum=(0.9, 0.99)),
    ]
    assert sorted(found, key=str) == sorted(wanted, key=str)
    assert [extension_from_dict(extension_to_dict(one)) for one in found] == list(found)
