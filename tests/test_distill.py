"""Distillation: its formula against PyTorch's distributions, the right answers beside each row, and
runs that go on without their teachers."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import config, make_trainer, pretrain_config, without_seconds, write_backbone
from torch.distributions import Bernoulli, Categorical, kl_divergence

from data.tasks import get_task
from multitask import Predictor, TrainConfig, resume, train, training
from multitask.commands import main as cli
from multitask.experiments.ensemble import ensemble
from multitask.extensions.base import extension_from_dict, extension_to_dict
from multitask.extensions.distill import Distill, soft_losses
from multitask.extensions.lora import LoRA
from multitask.extensions.rdrop import RDrop
from multitask.loop.engine import Draw
from multitask.loop.trainer import Trainer
from multitask.report.records import record_of
from multitask.runs.checkpoint import load_checkpoint

pytestmark = pytest.mark.usefixtures("no_figure")

TAGS = replace(get_task("sst"), name="tags", kind="labels", classes=("a", "b", "c"))
PRICE = replace(get_task("sts"), name="price", label_range=(0.0, 40.0), unit=20.0)
TASKS = {name: get_task(name) for name in ("sst", "para", "sts")} | {"tags": TAGS, "price": PRICE}
FOUR = ("sst", "para", "sts", "cola")


@pytest.fixture(scope="module")
def teachers(folder):
    """Two runs of four tasks, the second one on another backbone and with pairs compared."""
    write_backbone(folder / "wide", hidden_size=20, seed=1)
    ways = ({}, {"backbone": str(folder / "wide"), "pair": "concat", "pooling": "mean"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "draw_run", lambda run: None)
        made = [config(folder, tasks=FOUR, epochs=1, seed=n, **way) for n, way in enumerate(ways)]
        return [str(train(settings, progress=False).folder) for settings in made]


def numbers(task, seed):
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(7, task.num_outputs, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_the_loss_is_that_of_pytorchs_distributions(task, temperature):
    student, teacher = numbers(task, 0).requires_grad_(), numbers(task, 1)
    if task.kind == "regression":
        answers = teacher
        wanted = ((student - teacher) / (task.unit or 1)).square()[:, 0]
    elif task.kind == "classes":
        answers = teacher.softmax(dim=1)
        wanted = kl_divergence(
            Categorical(logits=teacher / temperature), Categorical(logits=student / temperature)
        )
    else:
        answers = teacher.sigmoid()
        wanted = kl_divergence(
            Bernoulli(logits=teacher / temperature), Bernoulli(logits=student / temperature)
        ).mean(dim=1)
    if task.kind != "regression":
        wanted = temperature**2 * wanted
    found = soft_losses(task, student, answers.float(), temperature)
    assert found.shape == (7,) and (wanted > 1e-5).all()
    torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-6)
    counts = torch.linspace(0.5, 2, 7, dtype=torch.float64)
    ours, theirs = (torch.autograd.grad((counts * x).sum(), student)[0] for x in (found, wanted))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    own = student.detach() if task.kind == "regression" else answers.logit()
    own = answers.log() if task.kind == "classes" else own
    assert soft_losses(task, own, own if task.kind == "regression" else answers.float(),
                       temperature).abs().max() < 1e-5  # fmt: skip


@pytest.mark.parametrize("sure", [0.0, 1.0])
def test_a_teacher_may_be_sure(sure):
    outputs = torch.tensor([[-200.0, 3.0, 200.0]], requires_grad=True)
    answers = torch.tensor([[sure, 1 - sure, 0.0]])
    for task in (TAGS, replace(TASKS["sst"], classes=("a", "b", "c"))):
        loss = soft_losses(task, outputs, answers, 2.0)
        assert loss.isfinite().all()
        assert torch.autograd.grad(loss.sum(), outputs)[0].isfinite().all()


def test_the_answers_are_those_of_the_ensemble(folder, teachers, capsys):
    chosen = config(folder, tasks=FOUR, extensions=(Distill(teachers=teachers),))
    kept = make_trainer(chosen).model.kept
    together = ensemble(teachers, "train", "mean", data_dir=folder / "data")
    for name, found in together.evaluations.items():
        wanted = found.answers[:, None] if found.probabilities is None else found.probabilities
        wanted = wanted[:, 1:] if name in ("para", "cola") else wanted
        np.testing.assert_allclose(kept[f"distill/answers/{name}"], wanted, rtol=1e-5, atol=1e-6)
    said = capsys.readouterr().err.splitlines()
    wanted = {
        f"teacher {run}: {name} {metric} {each[name].metrics[metric]:.3f} on the 22 training rows"
        for run, each in zip(teachers, together.single, strict=True)
        for name, metric in zip(FOUR, ("accuracy", "accuracy", "pearson", "matthews"), strict=True)
    }
    assert wanted <= set(said)


WAYS = {
    "limit": {"limit": 13},
    "both orders": {"both_orders": True, "batches": "bucketed"},
    "accumulate": {"batch_size": 3, "accumulate": 2, "layout": "padded"},
    "lora": {"also": (LoRA(rank=2),)},
    "frozen": {"frozen": True},
    "rdrop": {"also": (RDrop(),), "head_dropout": 1e-9},
}


@pytest.mark.parametrize("way", WAYS)
def test_a_student_that_is_its_teacher_has_nothing_to_learn(folder, teachers, way):
    """Each row meets its own answer, and no other."""
    changes = dict(WAYS[way])
    extensions = (Distill(teachers=teachers[:1], weight=1.0), *changes.pop("also", ()))
    own = {"backbone": teachers[0], "keep_heads": True, "tasks": FOUR}
    chosen = config(folder, extensions=extensions, **own, **changes)
    trainer = make_trainer_of_run(chosen)
    for task in FOUR:
        assert largest_gradient(trainer, task) < 1e-5
        answers = trainer.model.kept[f"distill/answers/{task}"]
        answers.copy_(answers.roll(1, dims=0))
        assert largest_gradient(trainer, task) > 1e-3


def make_trainer_of_run(settings):
    """`make_trainer`, of a run whose backbone is another run."""
    made = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "_fit", lambda trainer, *_, **__: made.append(trainer))
        train(settings, progress=False)
    (trainer,) = made
    if settings.frozen:
        training.cache_features(trainer.model, trainer.data, progress=False)
    return trainer


def largest_gradient(trainer, task):
    trainer.engine.backward([Draw(task, 0)])
    return max(p.grad.abs().max() for p in trainer.parameters.values() if p.grad is not None)


def test_labels_and_teachers_are_weighed(folder, teachers):
    """Gradients are (1 - weight) those of the labels and weight those of the teachers."""
    task, found = "sst", {}
    for weight in (None, 1.0, 0.3):
        own = () if weight is None else (Distill(teachers=[f"sst={teachers[0]}"], weight=weight),)
        trainer = make_trainer(config(folder, extensions=own), torch.float64)
        [part] = trainer.engine.backward([Draw(task, 0)])
        found[weight] = {n: p.grad for n, p in trainer.parameters.items() if p.grad is not None}
        assert part.loss.item() == pytest.approx(found.setdefault("loss", part.loss.item()))
    for name, gradient in found[0.3].items():
        wanted = 0.7 * found[None][name] + 0.3 * found[1.0][name]
        torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-6)
    assert any((found[1.0][n] - g).abs().max() > 1e-3 for n, g in found[None].items())
    trainer.engine.backward([Draw("sts", 0)])  # which has no teacher
    plain = make_trainer(config(folder), torch.float64)
    plain.engine.backward([Draw("sts", 0)])
    for name, parameter in plain.parameters.items():
        other = trainer.parameters[name].grad
        assert (parameter.grad is None and other is None) or torch.equal(parameter.grad, other)


def test_the_weight_falls_to_nothing(folder, teachers):
    own = Distill(teachers=teachers, weight=0.8, anneal=True)
    trainer = make_trainer(config(folder, extensions=(own,)))
    weights = []
    for _ in range(trainer.total_steps):
        trainer.step()
        weights.append(trainer.model.kept["distill/weight"].item())
    assert weights == pytest.approx(np.linspace(0.8, 0, trainer.total_steps + 1)[:-1])


@pytest.mark.parametrize("saved", [True, False])
def test_a_run_goes_on_without_its_teachers(folder, teachers, tmp_path, monkeypatch, saved):
    own = Distill(teachers=[f"sst={teachers[0]}", f"sts={teachers[1]}"])
    dropped = {"encoder_dropout": 0.1, "head_dropout": 0.1, "save_every": 1 if saved else None}
    chosen = config(folder, extensions=(own,), out=tmp_path / "alone", **dropped)
    run = train(chosen, progress=False)
    original = Trainer.step

    def deadly(trainer):
        if trainer.progress.step == 2:
            raise MemoryError
        return original(trainer)

    monkeypatch.setattr(Trainer, "step", deadly)
    with pytest.raises(MemoryError):
        train(replace(chosen, out=tmp_path / "cut"), progress=False)
    monkeypatch.setattr(Trainer, "step", original)
    asked = []
    with monkeypatch.context() as patch:
        load = Predictor.__init__
        patch.setattr(Predictor, "__init__", lambda *a, **k: (asked.append(a[1]), load(*a, **k))[1])
        again = resume(tmp_path / "cut", progress=False)
    assert asked == ([] if saved else teachers)
    assert without_seconds(again.metrics()) == without_seconds(run.metrics())
    (found, _), (wanted, _) = (load_checkpoint(one.last) for one in (again, run))
    assert found.keys() == wanted.keys() >= {"kept/distill/answers/sst", "kept/distill/answers/sts"}
    assert all(torch.equal(found[key], value) for key, value in wanted.items())
    assert Predictor(again.folder).predict("sst", ["superb"])  # and a run is a run
    assert record_of(run)["config"]["extensions"][0]["teachers"] == [
        f"{task}={Path(run).name}" for task, run in zip(("sst", "sts"), teachers, strict=True)
    ]


@pytest.mark.parametrize(
    "teach, message",
    [
        (["nowhere"], r"nowhere holds no run \(no config.json\); name a run folder"),
        (["{para}"], "para cannot teach sst: it answers para; a teacher of one task is named T"),
        (["sst={para}"], "cannot teach sst: it answers para"),
        (["{pretrained}"], "cannot teach sst: it answers no task, for it is a pre-training run"),
        (["para={para}", "sst=nowhere"], "nowhere holds no run"),
        (
            ["para={unfinished}"],
            "unfinished cannot teach: it is not finished; end it with ",
        ),
    ],
)
def test_a_teacher_that_cannot_teach_is_refused_before_there_is_a_run(
    folder, tmp_path, teach, message, capsys
):
    if not (folder / "para").exists():
        train(config(folder, out="para", tasks=("para",), epochs=1), progress=False)
        train(pretrain_config(folder, out=folder / "pretrained", epochs=1), progress=False)
        shutil.copytree(folder / "para", folder / "unfinished")
        (folder / "unfinished/record.json").unlink()
    places = {name: folder / name for name in ("para", "pretrained", "unfinished")}
    own = Distill(teachers=[each.format(**places) for each in teach])
    chosen = config(folder, tasks=("sst", "para"), extensions=(own,), out=tmp_path / "new")
    with pytest.raises(ValueError, match=message):
        train(chosen, progress=False)
    assert not (tmp_path / "new/config.json").exists()
    assert "teacher" not in capsys.readouterr().err  # none has answered in vain


def test_a_teacher_means_the_same_by_its_answers(folder, teachers, monkeypatch):
    chosen = config(folder, tasks=("sst",), extensions=(Distill(teachers=teachers[:1]),))
    trainer = make_trainer(chosen)
    task = trainer.model.tasks["sst"]
    trainer.model.tasks["sst"] = replace(task, classes=task.classes[::-1])
    with pytest.raises(ValueError, match="cannot teach sst: a run has a task 'sst' whose classes"):
        trainer.begin()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"teachers": ()}, "distill has no teachers; name runs with --distill.teachers"),
        ({"teachers": ("cola=a",)}, r"teachers has cola=\S+/a, and tasks of this run are sst, sts"),
        ({"teachers": ("a", "sst=a/../a")}, "sst has a teacher twice: .*; name it once"),
        ({"teachers": ("b", "a"), "out": "a"}, "a is to teach sst; write to another --out"),
        ({"teachers": ("sst=",)}, "teachers has 'sst='; give FOLDER or TASK=FOLDER"),
        ({"temperature": 0.0}, "temperature must be positive and finite, it is 0.0"),
        ({"weight": 0.0}, "weight must be above 0 and at most 1, it is 0.0"),
        ({"weight": 1.5}, "weight must be above 0 and at most 1, it is 1.5"),
    ],
)
def test_wrong_settings_are_refused(changes, message):
    def make(out=None, **settings):
        own = Distill(**{"teachers": ("a",), **settings})
        TrainConfig(tasks=("sst", "sts"), out=out, extensions=(own,))

    with pytest.raises(ValueError, match=message):
        make(**changes)


def test_pre_training_has_no_rows_with_answers(folder):
    with pytest.raises(ValueError, match="distill learns answers to the rows of tasks, and pre-tr"):
        pretrain_config(folder, extensions=(Distill(teachers=("a",)),))


def test_flags_and_config_json(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["--distill.teachers", "runs/a", "sst=../b", "./lr=3", "--distill.anneal"]
    [found] = cli.parse(["train", "--tasks", "sst", *words]).chosen()
    above = tmp_path.parent
    folders = (f"{tmp_path}/runs/a", f"sst={above}/b", f"{tmp_path}/lr=3")
    assert found == Distill(teachers=folders, anneal=True)
    assert extension_from_dict(extension_to_dict(found)) == found
    taught = found.taught(("sst", "sts"))
    assert taught == {
        "sst": [folders[0], f"{above}/b", folders[2]],
        "sts": [folders[0], folders[2]],
    }
    assert Distill(teachers=("sts=a",)).taught(("sst", "sts")) == {"sts": [f"{tmp_path}/a"]}
