"""Task choice: shares over many draws against the published formulas."""

import itertools
import math
from collections import Counter

import pytest
from helpers import config, make_trainer, tiny

from data.draws import uniform_task, weighted_task
from multitask import TrainConfig
from multitask.commands import main as cli
from multitask.extensions.base import Step, extension_from_dict, extension_to_dict
from multitask.extensions.sampling import Sampling

ROWS = {"sst": 8544, "para": 283003, "sts": 6040, "cola": 7695}
DRAWS = 6000


def moment(number, *, total=3 * DRAWS, per_epoch=DRAWS, seed=5):
    return Step(
        number=number,
        total=total,
        per_epoch=per_epoch,
        rows=ROWS,
        seed=seed,
        parameters={},
        groups=(),
        memory={},
        log=lambda line: None,
    )


def drawn(sampling, first=0, count=DRAWS, **changes):
    chosen = [sampling.choose_tasks(moment(n, **changes)) for n in range(first, first + count)]
    assert all(len(tasks) == 1 for tasks in chosen)
    return [tasks[0] for tasks in chosen]


def assert_shares(names, weights):
    """Shares of tasks, to 4.5 standard deviations of a binomial: chance fails 1 in 100 000."""
    counts = Counter(names)
    assert counts.keys() <= weights.keys()
    for name, weight in weights.items():
        share = weight / sum(weights.values())
        bound = 4.5 * math.sqrt(share * (1 - share) / len(names))
        assert counts[name] / len(names) == pytest.approx(share, abs=bound), name


@pytest.mark.parametrize(
    "sampling, weight",
    [
        (Sampling(), lambda n: 1),
        (Sampling(strategy="square_root"), math.sqrt),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                (Sampling(strategy="proportional"), lambda n: n),
                (Sampling(strategy="temperature", temperature=5.0), lambda n: n**0.2),
                (Sampling(strategy="temperature", temperature=1.0), lambda n: n),
            )
        ),
    ],
    ids=["uniform", "square_root", "proportional", "temperature 5", "temperature 1"],
)
def test_tasks_come_with_their_probability_and_one_by_one(sampling, weight):
    names = drawn(sampling)
    assert_shares(names, {name: weight(count) for name, count in ROWS.items()})
    share = {name: count / len(names) for name, count in Counter(names).items()}
    same = sum(a == b for a, b in itertools.pairwise(names)) / len(names)
    assert same == pytest.approx(sum(p * p for p in share.values()), abs=0.02)  # no memory
    assert names[700:720] == drawn(sampling, first=700, count=20)
    assert names[:200] != drawn(sampling, count=200, seed=6)


@pytest.mark.slow
def test_annealing_goes_from_proportional_to_the_power_one_fifth():
    sampling = Sampling(strategy="annealed")
    for epoch, alpha in enumerate((1.0, 0.6, 0.2)):  # 1 - 0.8 (e - 1) / (E - 1) with E = 3
        weights = {name: count**alpha for name, count in ROWS.items()}
        assert_shares(drawn(sampling, first=epoch * DRAWS), weights)
    weights = {name: float(count) for name, count in ROWS.items()}
    assert_shares(drawn(sampling, total=DRAWS), weights)  # one epoch is the first


@pytest.mark.parametrize(
    "sampling, powers",
    [
        (Sampling(strategy="proportional"), (1, 1, 1)),
        (Sampling(strategy="square_root"), (0.5, 0.5, 0.5)),
        (Sampling(strategy="temperature", temperature=5.0), (0.2, 0.2, 0.2)),
        (Sampling(strategy="annealed"), (1, 0.6, 0.2)),
    ],
    ids=lambda value: getattr(value, "strategy", ""),
)
def test_weights_are_powers_of_the_rows_in_each_epoch(monkeypatch, sampling, powers):
    """What is drawn with these weights, the tests above count."""
    seen = []

    def draw(weights, *, seed, step):
        seen.append((weights, seed, step))
        return "sst"

    monkeypatch.setattr("multitask.extensions.sampling.weighted_task", draw)
    for epoch, power in enumerate(powers):
        for number in (epoch * DRAWS, epoch * DRAWS + DRAWS - 1):
            sampling.choose_tasks(moment(number))
            weights, *which = seen.pop()
            assert weights == pytest.approx({name: n**power for name, n in ROWS.items()})
            assert which == [5, number]


def test_round_robin_takes_the_tasks_in_turn():
    assert drawn(Sampling(strategy="round_robin"), count=9) == [*ROWS, *ROWS, "sst"]
    assert drawn(Sampling(strategy="round_robin", leave_out="para"), count=4) == [
        *("sst", "sts", "cola", "sst")
    ]


@pytest.mark.parametrize("strategy", ["uniform", "proportional", "annealed"])
def test_a_task_that_is_left_out_is_never_drawn(strategy):
    names = drawn(Sampling(strategy=strategy, leave_out="cola"), count=2000)
    assert set(names) == {"sst", "para", "sts"}


def test_weights_need_not_add_up_to_one():
    names = [weighted_task({"a": 30.0, "b": 0.0, "c": 10.0}, seed=1, step=n) for n in range(DRAWS)]
    assert_shares(names, {"a": 3, "b": 0, "c": 1})


def test_the_default_draws_what_a_run_without_the_extension_draws():
    plain = [uniform_task(tuple(ROWS), seed=5, step=step) for step in range(300)]
    assert drawn(Sampling(), count=300) == plain


def test_a_run_trains_on_what_is_drawn(tmp_path):
    folder = tiny(tmp_path)
    sampling = Sampling(strategy="round_robin", leave_out="sts")
    trainer = make_trainer(
        config(folder, tasks=("sts", "sst", "cola"), epochs=1, extensions=(sampling,))
    )
    trainer.fit()
    tasks = [line["task"] for line in trainer.run.metrics() if line["kind"] == "step"]
    assert tasks == ["sst", "cola"] * 4 + ["sst"]  # 9 steps, one pass over three tasks
    assert trainer.progress.draws == {"sts": 0, "sst": 5, "cola": 4}


def test_flags_and_config_json():
    words = ["--sampling.strategy", "temperature", "--sampling.temperature", "4"]
    (found,) = cli.parse(["train", *words]).chosen()
    assert found == Sampling(strategy="temperature", temperature=4.0)
    assert extension_from_dict(extension_to_dict(found)) == found


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"strategy": "fair"}, "strategy is 'fair'; choose one of uniform, proportional"),
        ({"temperature": 0.0}, "temperature must be positive and finite, it is 0.0"),
        ({"temperature": 5.0}, "temperature is 5.0 and has no effect: the strategy is unifo"),
        ({"leave_out": "sick"}, r"leave_out is 'sick'; choose one of the tasks \['sst', 'sts'\]"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(tasks=("sst", "sts"), extensions=(Sampling(**settings),))


def test_two_choices_and_no_choice_are_refused():
    with pytest.raises(ValueError, match="sampling and sampling both choose the tasks of a step"):
        TrainConfig(extensions=(Sampling(), Sampling()))
    with pytest.raises(ValueError, match="leave_out leaves no task; train on others than sst"):
        TrainConfig(tasks=("sst",), extensions=(Sampling(leave_out="sst"),))
