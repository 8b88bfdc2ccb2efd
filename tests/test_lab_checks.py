"""The checks of the exercises: every catalogued mistake is caught and named, alone and beside
others; blanks are blanks, and upstream is supplied."""

from itertools import cycle, islice

import pytest
from planting import SEED, TARGETS, blanked, numbers, plant, verdict

from lab.answers import MISTAKES, RIGHT
from lab.diagnose import judge
from lab.exercises import BY_NAME, EXERCISES
from lab.golden import expected, outcome
from lab.planting import planted
from lab.source import Target
from lab.upstream import upstream

EVERY_EXERCISE = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.name)


def test_every_exercise_has_a_check_an_answer_and_mistakes():
    assert len(EXERCISES) >= 51 and len(BY_NAME) == len(EXERCISES) + 2  # and the whole, twice
    assert len(MISTAKES) >= 950
    for exercise in EXERCISES:
        assert all(place in RIGHT for place in exercise.places)
        assert sum(m.exercise == exercise.name for m in MISTAKES) >= 4
        assert len(exercise.hints) == 3
        for name in exercise.uses:
            assert BY_NAME[name].number < exercise.number
    assert len({place for _, place in TARGETS}) == len(TARGETS)


@EVERY_EXERCISE
def test_the_librarys_own_code_is_right(exercise):
    assert verdict(exercise).status == "done"


@EVERY_EXERCISE
def test_a_blank_is_not_started(exercise):
    for target in exercise.places:
        with planted(target, blanked(exercise, target)):
            assert verdict(exercise).status == "not started"


@EVERY_EXERCISE
def test_an_exercise_can_be_done_while_all_others_are_blank(exercise):
    others = [(place, blanked(e, place)) for e, place in TARGETS if e is not exercise]
    assert len(others) >= 24
    with plant(others):
        assert verdict(exercise).status == "done"


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda m: f"{m.exercise}-{m.name}")
def test_a_mistake_is_named(mistake):
    with planted(mistake.target, mistake.function):
        found = verdict(BY_NAME[mistake.exercise])
    assert found.status == "wrong" and found.named
    assert found.message.rstrip(".") == mistake.says.rstrip(".")


@EVERY_EXERCISE
def test_mistakes_elsewhere_change_nothing(exercise):
    """With a mistake in every other exercise at once, in a dozen rounds."""
    others = [
        [m for m in MISTAKES if m.target == place] for e, place in TARGETS if e is not exercise
    ]
    for mistakes in zip(*(islice(cycle(group), 12) for group in others), strict=True):
        with plant((m.target, m.function) for m in mistakes):
            assert verdict(exercise).status == "done", [m.name for m in mistakes]


@EVERY_EXERCISE
def test_upstream_is_really_supplied(exercise):
    """Without the record, an exercise that uses others fails where they are blank."""
    if not exercise.uses:
        return
    right, calls = numbers(exercise.name)
    called = {call["target"] for call in calls}
    assert called <= set(map(str, upstream(exercise)))
    assert all(called & set(map(str, BY_NAME[name].places)) for name in exercise.uses)
    blanks = [(place, blanked(exercise, place)) for place in upstream(exercise)]
    with plant(blanks):
        assert judge(outcome(exercise, SEED), right).status != "done"


def test_another_seed_gives_other_inputs():
    exercise = BY_NAME["attention"]
    assert (
        numbers("attention")[0]["right"]["cases"]
        != expected(exercise, SEED + 1)[0]["right"]["cases"]
    )


def test_planting_is_undone():
    from minbert import attend, attention

    target = Target.parse("minbert.attention:split_heads")
    original = attention.split_heads
    with planted(target, lambda x, n: x):
        assert attend.split_heads is attention.split_heads is not original
    assert attend.split_heads is attention.split_heads is original
