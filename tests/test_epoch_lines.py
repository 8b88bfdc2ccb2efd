"""What a run says while it trains, what loggers are told, and scores several times an epoch."""

import re
import sys
from dataclasses import replace

import pytest
import torch
from helpers import config, contents, make_trainer, weights, without_seconds

from multitask import resume, train, training
from multitask.loop import epoch_lines
from multitask.loop.epoch_lines import EpochLines, epoch_line
from multitask.loop.trainer import Trainer
from multitask.runs.loggers import Logger, scalars
from multitask.runs.run import Run

pytestmark = pytest.mark.usefixtures("no_figure")


class Told(Logger):
    """Keeps what it is told."""

    def __init__(self):
        self.begun, self.lines, self.ended = [], [], 0

    def begin(self, run, lines, total_steps):
        self.begun.append((run.folder, list(lines), total_steps))

    def write(self, lines):
        self.lines += lines

    def end(self):
        self.ended += 1


def epochs_of(run):
    return [line for line in run.metrics() if line["kind"] == "epoch"]


@pytest.mark.parametrize("terminal", [False, True])
def test_a_line_an_epoch_says_losses_scores_the_best_and_the_time(
    folder, capsys, monkeypatch, terminal
):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    run = train(config(folder, epochs=3, evaluate_first=True))
    said = re.findall(r"^.*(?:before training|epoch \S+ of).*$", capsys.readouterr().err, re.M)
    lines = epochs_of(run)
    assert len(said) == len(lines) == 4
    best = -9.0
    for text, line in zip(said, lines):
        for task, metric in (("sst", "accuracy"), ("sts", "pearson")):
            scores = line["scores"][task]
            assert f"{task} {metric} {scores[metric]:.3f}, " in text
            assert f"development loss {scores['loss']:.3f}" in text
            if line["epoch"]:
                assert f", loss {line['train_loss'][task]:.3f}, " in text
        if line["epoch"]:
            assert f"epoch {line['epoch']} of 3: " in text and f"mean {line['score']:.3f}; " in text
            won = "the best so far" if line["score"] > best else f"best so far {best:.3f}"
            best = max(best, line["score"])
            assert won in text
    assert "before training: sst" in said[0] and "loss" in said[0]
    assert re.search(r"; \d+ s left$", said[1]) and "left" not in said[3]


def test_of_one_task_every_metric_is_said():
    line = {
        "epoch": 2, "step": 9, "score": 0.5, "train_loss": {"sst": 1.25},
        "scores": {"sst": {"accuracy": 0.5, "macro_f1": 0.25, "loss": 1.5}},
    }  # fmt: skip
    assert epoch_line(line, 3, 0.75) == (
        "epoch 2 of 3: sst accuracy 0.500, macro_f1 0.250, loss 1.250, development loss 1.500; "
        "best so far 0.750"
    )
    mlm = {"mlm": {"loss": 2.0, "perplexity": 7.4, "accuracy": 0.1}}
    line |= {"scores": mlm, "train_loss": {"mlm": 2.5}, "score": -2.0}
    assert "mlm perplexity 7.400, accuracy 0.100, loss 2.500, development loss 2.000; the best" in (
        epoch_line(line, 3, -2.5)
    )


def test_nothing_is_said_where_it_is_not_asked_for(folder, capsys):
    train(config(folder, epochs=1), progress=False)
    assert "epoch" not in capsys.readouterr().err


@pytest.mark.parametrize("terminal", [False, True])
def test_a_log_has_a_heartbeat_and_a_terminal_its_bar(folder, capsys, monkeypatch, terminal):
    clock = [0.0]

    def later():
        clock[0] += 40.0
        return clock[0]

    monkeypatch.setattr(epoch_lines.time, "monotonic", later)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    lines = [{"kind": "step", "step": n, "task": "sst", "loss": float(n)} for n in range(20)]
    printer = EpochLines()
    printer.begin(Run(make_trainer(config(folder)).run.folder), lines[:2], 40)
    for line in lines[2:]:
        printer.write([line])
    said = capsys.readouterr().err.splitlines()
    if terminal:
        assert not said
        return
    assert 1 < len(said) < 5
    step, loss = re.fullmatch(r"step (\d+) of 40: sst loss (\S+); \d+ min left", said[0]).groups()
    assert float(loss) == pytest.approx(sum(range(2, int(step))) / (int(step) - 2), abs=1e-3)


def test_the_time_left_is_by_the_steps_of_this_process(folder, capsys, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(epoch_lines.time, "monotonic", lambda: clock[0])
    lines = [{"kind": "step", "step": n, "task": "sst", "loss": 1.0} for n in range(60)]
    epoch = {
        "kind": "epoch", "epoch": 1, "step": 60, "score": 0.5, "train_loss": {},
        "scores": {"sst": {"accuracy": 0.5, "macro_f1": 0.5, "loss": 1.0}},
    }  # fmt: skip
    printer = EpochLines()
    printer.begin(Run(make_trainer(config(folder)).run.folder), lines[:50], 100)
    clock[0] += 100.0
    printer.write([*lines[50:], epoch])
    assert capsys.readouterr().err.endswith("the best so far; 7 min left\n")  # 40 of 10 s


# Loggers


def test_loggers_are_told_every_line_once(folder):
    told = Told()
    run = train(config(folder, log_every=4), progress=False, loggers=(told,))
    assert told.begun == [(run.folder, [], 12)] and told.ended == 1
    assert told.lines == run.metrics() and len(told.lines) == 14


def test_loggers_of_a_resumed_run_begin_with_the_lines_before(folder, monkeypatch):
    def killed(self):
        if self.progress.step == 8:
            raise RuntimeError("killed")
        return step(self)

    step, first, second = Trainer.step, Told(), Told()
    settings = config(folder, log_every=1, save_every=7)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", killed)
        with pytest.raises(RuntimeError, match="killed"):
            train(settings, progress=False, loggers=(first,))
    assert first.ended == 1 and len(first.lines) == 9
    run = resume(settings.out, progress=False, loggers=(second,))
    (begun,) = second.begun
    assert begun[1] == first.lines[:8] and begun[1] + second.lines == run.metrics()


def test_scalars_name_what_makes_curves(folder):
    told = Told()
    train(config(folder, tasks=("sst",), epochs=1), progress=False, loggers=(told,))
    first, last = scalars(told.lines[0]), scalars(told.lines[-1])
    assert first.keys() == {"loss/sst", "lr", "grad_norm"}
    assert last.keys() == {"dev/sst/accuracy", "dev/sst/macro_f1", "dev/sst/loss"}
    assert scalars({**told.lines[0], "grad_norm": None}).keys() == {"loss/sst", "lr"}


# Scores several times an epoch


def test_scores_within_an_epoch_change_no_weight_and_come_at_equal_distances(folder):
    changes = {"head_dropout": 0.2, "encoder_dropout": 0.2, "epochs": 2}
    plain, often = (make_trainer(config(folder, scores_per_epoch=n, **changes)) for n in (1, 4))
    for trainer in (plain, often):
        trainer.fit()
    expected = weights(plain)
    assert all(torch.equal(p, expected[name]) for name, p in weights(often).items())
    runs = [epochs_of(trainer.run) for trainer in (plain, often)]
    assert [line["epoch"] for line in runs[1]] == [0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2]
    assert [line["step"] for line in runs[1]] == [1, 3, 4, 6, 7, 9, 10, 12]
    assert [line["scores"] for line in runs[1][3::4]] == [line["scores"] for line in runs[0]]
    steps = [
        [line for line in without_seconds(t.run.metrics()) if line["kind"] == "step"]
        for t in (plain, often)
    ]
    assert steps[0] == steps[1]
    best = max(line["score"] for line in runs[1])
    assert often.progress.best_score == best


def test_the_best_of_all_scores_is_kept_and_patience_counts_epochs(folder, monkeypatch):
    scores = iter([0.1, 0.2, 0.6, 0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1])

    def pretend(trainer, epoch):
        told.append(epoch)
        return {"sst": {"accuracy": next(scores), "loss": 1.0}}

    told = []
    monkeypatch.setattr(Trainer, "_score", pretend)
    settings = config(folder, tasks=("sst",), epochs=5, scores_per_epoch=2, patience=2)
    trainer = make_trainer(settings)
    trainer.fit()
    assert told == [0.5, 1, 1.5, 2, 2.5, 3, 3.5]  # two epochs after the best
    assert trainer.progress.epoch_of(trainer.progress.best_epoch) == 1.5


def test_a_record_counts_epochs(folder):
    settings = config(folder, tasks=("sst",), epochs=1, scores_per_epoch=3)
    run = train(settings, progress=False)
    record, lines = run.record(), epochs_of(run)
    assert [line["epoch"] for line in lines] == [1 / 3, 2 / 3, 1] and record["epochs"] == 1
    best = max(lines, key=lambda line: line["score"])
    assert record["best_epoch"] == best["epoch"] and record["dev"] == best["scores"]
    with pytest.raises(ValueError, match="scores_per_epoch 9: an epoch has 3 steps; lower it"):
        train(replace(settings, scores_per_epoch=9, overwrite=True), progress=False)
    assert run.record() == record


@pytest.mark.parametrize(
    "at, name, late",
    [
        (2, "_score", 1),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in ((5, "step", 0), (9, "step", 0), (2, "_score", 0), (4, "_score", 0))
        ),
    ],
)
def test_a_run_scored_within_epochs_goes_on_after_a_kill(folder, monkeypatch, at, name, late):
    """Before an epoch's line is written, and after it, when no checkpoint says so yet."""
    changes = {"head_dropout": 0.2, "scores_per_epoch": 3, "log_every": 5, "save_every": 2}
    alone = train(config(folder, **changes), progress=False)
    calls, original = [], getattr(Trainer, name)

    def killed(self, *words):
        calls.append(words)
        if len(calls) == at and not late:
            raise RuntimeError("killed")
        result = original(self, *words)
        if len(calls) == at:
            raise RuntimeError("killed")
        return result

    settings = config(folder, **changes)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, name, killed)
        with pytest.raises(RuntimeError, match="killed"):
            train(settings, progress=False)
    run = resume(settings.out, progress=False)
    assert without_seconds(run.metrics()) == without_seconds(alone.metrics())
    assert contents(run.predictions) == contents(alone.predictions)
    assert run.record()["best_epoch"] == alone.record()["best_epoch"]


def test_the_figure_has_development_losses(folder, monkeypatch):
    from matplotlib.axes import Axes

    drawn = []
    plot = Axes.plot
    monkeypatch.setattr(Axes, "plot", lambda axes, *a, **k: drawn.append(a) or plot(axes, *a, **k))
    run = train(config(folder, tasks=("sst",), scores_per_epoch=2), progress=False)
    from multitask.runs.run_figure import draw_run

    draw_run(run)
    assert run.figure_path.stat().st_size > 5000
    wanted = [(line["step"], line["scores"]["sst"]["loss"]) for line in epochs_of(run)]
    assert list(zip(*wanted)) in [list(each[:2]) for each in drawn]
    assert training.draw_run is not draw_run
