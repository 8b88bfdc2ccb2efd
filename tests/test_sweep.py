"""Search over settings: what is chosen, what is trained, which runs are stopped."""

import random
from pathlib import Path
from statistics import median

import pytest
from helpers import config

from multitask import TrainConfig
from multitask.commands.main import parse
from multitask.experiments import queue
from multitask.experiments.sweep import Axis, changed, choices, draw_sweep, sweep, sweep_table
from multitask.extensions.lora import LoRA
from multitask.extensions.median_stop import MedianStop
from multitask.runs.run import Run


@pytest.fixture
def here(monkeypatch):
    """Runs in this process, which has its imports done."""

    def run(self, job, left):
        job.make(progress=False)

    monkeypatch.setattr(queue.Queue, "_run", run)


@pytest.mark.parametrize(
    "text, values",
    [
        ("lr=1e-5,5e-5", (1e-5, 5e-5)),
        ("batch-size=8,16", (8, 16)),
        ("pooling=mean,cls", ("mean", "cls")),
        ("frozen=true,false", (True, False)),
        ("steps_per_epoch=5", (5,)),
        ("lora.rank=4,8", (4, 8)),
        ("lora.dora=true", (True,)),
    ],
)
def test_values_have_the_type_of_their_setting(text, values):
    axis = Axis.parse(text)
    assert axis.values == values and not axis.is_range
    assert [type(value) for value in axis.values] == [type(value) for value in values]


@pytest.mark.parametrize(
    "text, message",
    [
        ("lr", "write NAME=VALUE,VALUE or NAME=LOW..HIGH"),
        ("lr=", "write NAME=VALUE,VALUE or NAME=LOW..HIGH"),
        ("rate=1", "'rate' is no setting to search; known are .*batch_size.*lr"),
        ("out=a,b", "'out' is no setting to search"),
        ("seed=1,2", "'seed' is no setting to search"),
        ("lr=fast", "lr=fast: Expected `float`"),
        ("batch_size=1.5", "batch_size=1.5: Expected `int`"),
        ("pooling=sum", "pooling is one of pooler, cls, mean, max, attention, and not 'sum'"),
        ("lora.width=1", "'lora.width' is no setting to search; known are rank"),
        ("nothing.rank=1", "no extension is called 'nothing'"),
        ("lr=1e-3..1e-5", "a range goes from a number above 0 to a larger one"),
        ("lr=0..1", "a range goes from a number above 0 to a larger one"),
        ("lr=1e-5,1e-5", "names a value twice"),
    ],
)
def test_mistakes_in_what_is_searched(text, message):
    with pytest.raises(ValueError, match=message):
        Axis.parse(text)


def test_a_grid_has_every_choice_once():
    axes = [Axis.parse("lr=1e-5,5e-5"), Axis.parse("batch_size=8,16,32")]
    found = choices(axes, None, 1)
    assert len(found) == 6 and {tuple(choice) for choice in found} == {("lr", "batch_size")}
    assert len({tuple(choice.values()) for choice in found}) == 6
    with pytest.raises(ValueError, match=r"lr has a range, .*--trials"):
        choices([Axis.parse("lr=1e-5..1e-3")], None, 1)
    with pytest.raises(ValueError, match="name each setting to search once"):
        choices([axes[0], axes[0]], None, 1)
    with pytest.raises(ValueError, match="name each setting to search once"):
        choices([], None, 1)


def test_draws_are_of_the_seed_and_within_the_range():
    axes = [Axis.parse("lr=1e-5..1e-3"), Axis.parse("batch_size=4..64")]
    found = choices(axes, 200, 7)
    assert found == choices(axes, 200, 7) != choices(axes, 200, 8)
    rates = [choice["lr"] for choice in found]
    assert all(1e-5 <= rate <= 1e-3 for rate in rates)
    assert 0.4 < sum(rate < 1e-4 for rate in rates) / len(rates) < 0.6  # even on a log scale
    assert {type(choice["batch_size"]) for choice in found} == {int}
    assert len(choices([Axis.parse("batch_size=8,16")], 10, 1)) == 2  # there are no more
    with pytest.raises(ValueError, match="trials must be at least 1"):
        choices(axes, 0, 1)


def test_settings_of_extensions_change_or_add_them():
    base = TrainConfig(tasks=("sst",), extensions=(LoRA(rank=2, alpha=3.0),))
    found = changed(base, {"lr": 0.1, "lora.rank": 4, "layer_lr.decay": 0.5})
    assert found.lr == 0.1 and found.extensions[0] == LoRA(rank=4, alpha=3.0)
    assert [extension.name for extension in found.extensions] == ["lora", "layer_lr"]


@pytest.mark.slow
def test_a_sweep_is_tabled_drawn_and_not_trained_again(folder, tmp_path, here, monkeypatch):
    base = config(folder, tasks=("sst",), epochs=1)
    over = ["lr=1e-3,1e-5", "lora.rank=2"]
    found = sweep(base, over, tmp_path, seeds=2)
    assert [len(trial.runs) for trial in found] == [2, 2]
    folders = {path.parent.name for path in tmp_path.glob("*/record.json")}
    assert "lr-0.001-lora.rank-2-11711" in folders and len(folders) == 4
    for trial in found:
        for run in trial.runs:
            own = run.config()
            assert own.lr == trial.settings["lr"] and own.extensions[0].rank == 2
        assert {run.config().seed for run in trial.runs} == {11711, 11712}
    medians = [median(trial.scores) for trial in found]
    assert medians == sorted(medians, reverse=True)
    first = sweep_table(found).splitlines()[2].split()
    assert first[:2] == [f"{found[0].settings['lr']:g},", "2"]
    assert f"{medians[0]:.3f}" in first
    svg = draw_sweep(found, tmp_path / "figure.svg").read_text(encoding="utf-8")
    assert "lora.rank" in svg and svg.count("<use") > 4
    assert all(f"<!-- {value} -->" in svg for value in ("0.001", "1e-05", "2"))  # a tick each
    monkeypatch.setattr("multitask.experiments.jobs.train", None)
    assert sweep(base, over, tmp_path, seeds=2) == found
    with pytest.raises(ValueError, match="holds a run with batch_size"):
        sweep(config(folder, tasks=("sst",), epochs=1, batch_size=3), over, tmp_path, seeds=2)


def test_the_command_says_what_it_wants(tmp_path, folder):
    words = ["sweep", "--tasks", "sst", "--over", "lr=1e-3", "--backbone", str(folder / "backbone")]
    with pytest.raises(ValueError, match="name one with --out"):
        parse(words).run()
    with pytest.raises(ValueError, match="leave out --resume"):
        parse(["sweep", "--resume", str(tmp_path)]).run()


def test_the_median_stopping_rule():
    rule = MedianStop(least=3)
    for score, others, stops in [(0.4, [0.5, 0.5, 0.6], True), (0.5, [0.5, 0.5, 0.6], False),
                                 (0.1, [0.5, 0.5], False), (0.55, [0.5, 0.5, 0.6, 0.6], False),
                                 (0.54, [0.5, 0.5, 0.6, 0.6], True)]:  # fmt: skip
        assert rule.stops(1, score, lambda epoch, others=others: others) == stops
    assert not MedianStop(after=2).stops(1, 0.0, lambda epoch: [1.0] * 9)
    with pytest.raises(ValueError, match="least must be at least 1"):
        MedianStop(least=0)


@pytest.mark.slow
def test_a_run_that_lags_behind_ends_early(folder, tmp_path, here):
    """Rates that learn, and one that does not: it ends after its first epoch."""
    base = config(folder, tasks=("sst",), epochs=3, evaluate_first=False)
    found = sweep(base, ["lr=1e-2,2e-2,3e-2,1e-12"], tmp_path, stop_hopeless=True)
    by_rate = {trial.settings["lr"]: trial.runs[0] for trial in found}
    epochs = {rate: run.record()["epochs"] for rate, run in by_rate.items()}
    beside = by_rate[1e-12].scores_beside(1)
    assert len(beside) == 3
    lags = by_rate[1e-12].best_score(1) < median(beside)
    assert epochs[1e-12] == (1 if lags else 3)
    assert all(Run(run.folder).record_path.exists() for run in by_rate.values())


def test_a_random_draw_is_rounded_to_three_digits():
    axis = Axis.parse("lr=1e-5..1e-3")
    drawn = [axis.draw(random.Random(seed)) for seed in range(5)]
    assert all(float(f"{value:.3g}") == value for value in drawn)
    assert Path(f"lr-{drawn[0]:g}").name  # what a folder is called
