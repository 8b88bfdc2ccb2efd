"""The whole: training with all exercises, and whose functions do otherwise there."""

import pytest
from planting import blanked, plant

from lab.answers.batches import last_left_out, mask_at_the_end, padding_in_front
from lab.answers.scores import f1_weighted
from lab.answers.step import break_for_continue
from lab.checks.whole import APART
from lab.diagnose import Verdict
from lab.exercises import BY_NAME, EXERCISES, TRAINED, WHOLE
from lab.golden import expected, outcome
from lab.planting import planted, resolve
from lab.source import Target
from lab.suspects import OWNERS, alike, judge_whole, suspects_of, withdraw

SEED = 5


@pytest.fixture(scope="module")
def right():
    return expected(WHOLE, SEED)[0]


@pytest.fixture(scope="module")
def untraced():
    return expected(TRAINED, SEED)[0]


def target(exercise, of=""):
    return next(p for p in BY_NAME[exercise].places if of in ("", p.name))


def detached_layers(self, input_ids, token_type_ids, layout, attentions):
    states = [self.embeddings(input_ids, token_type_ids, layout.positions)]
    for layer in self.layers:
        states.append(self.run(layer, states[-1].detach(), layout, attentions))
    return states


def three_layers(self, input_ids, token_type_ids, layout, attentions):
    states = [self.embeddings(input_ids, token_type_ids, layout.positions)]
    for layer in self.layers[:3]:
        states.append(self.run(layer, states[-1], layout, attentions))
    return states


def without_pooler(self, last_hidden_state, layout):
    return layout.first(last_hidden_state)


def detached_attention(self, x, layout, attentions=None):
    right = ATTENTION(self, x, layout, attentions)
    return right.detach() + 0 * right


def without_adapter(cls, config, encoder):
    from dataclasses import replace

    return FROM_CONFIG(replace(config, extensions=()), encoder)


def squashed(self, features, task):
    outputs = HEADS(self, features, task)
    return outputs.sigmoid() if self.tasks[task].kind == "binary" else outputs


def clipped_one_by_one(parameters, limit):
    norms = [CLIP([parameter], limit) for parameter in parameters]
    return sum(norm**2 for norm in norms) ** 0.5


def mean_of_means(self, task, shares, *, reduce):
    parts = [BACKWARD(self, task, [share], reduce=reduce) for share in shares]
    return sum(parts) / len(parts)


CLIP, BACKWARD = (
    resolve(target("clipping"))[2],
    resolve(target("accumulation", "Engine._backward_each"))[2],
)
ATTENTION = resolve(target("self_attention", "SelfAttention.forward"))[2]
FROM_CONFIG = resolve(target("freezing"))[2]
HEADS = resolve(target("classifier"))[2]


def test_the_librarys_own_code_trains_as_it_should(right, untraced):
    assert judge_whole(outcome(WHOLE, SEED), right).status == "done"
    found = outcome(TRAINED, SEED)
    assert judge_whole(found, untraced).status == "done"
    assert [title for title, _ in found["cases"]] == [title for title, _ in right["right"]["cases"]]
    assert not any(run["calls"] for _, run in found["cases"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "exercise, of, function",
    [
        ("encoder", "", detached_layers),
        ("encoder", "", three_layers),
        ("pooler", "Bert.pool", without_pooler),
        ("self_attention", "SelfAttention.forward", detached_attention),
        ("freezing", "", without_adapter),
        ("classifier", "", squashed),
        ("adamw_step", "", break_for_continue),
        ("batch", "lay_out", padding_in_front),
        ("batch", "layout_of", mask_at_the_end),
        ("batch", "BatchStream._order", last_left_out),
        ("clipping", "", clipped_one_by_one),
        ("accumulation", "Engine._backward_each", mean_of_means),
        ("metrics", "_macro_f1", f1_weighted),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_small_wrong_is_a_suspect_and_nobody_else(exercise, of, function, right, untraced):
    with planted(target(exercise, of), function):
        found = judge_whole(outcome(WHOLE, SEED), right)
        seen = judge_whole(outcome(TRAINED, SEED), untraced)  # for which the trace is made
    assert found.status == seen.status == "wrong" and set(found.suspects) == {exercise}


def test_every_exercise_has_a_part_but_those_that_are_said_to_have_none(right):
    called = {OWNERS[name].name for _, run in right["right"]["cases"] for name, *_ in run["calls"]}
    assert called == {exercise.name for exercise in EXERCISES} - APART.keys()


def test_any_order_of_what_is_drawn_is_right(right):
    place = target("batch", "BatchStream._order")
    order = resolve(place)[2]
    with planted(place, lambda self, number: [rows[::-1] for rows in order(self, number)][::-1]):
        assert judge_whole(outcome(WHOLE, SEED), right).status == "done"


def test_many_at_once_are_suspects_and_lose_their_points(right):
    wrong = [
        (target("self_attention", "SelfAttention.forward"), detached_attention),
        (target("freezing"), without_adapter),
        (target("adamw_step"), break_for_continue),
    ]
    with plant(wrong):
        found = outcome(WHOLE, SEED)
    verdicts = {name: Verdict("done") for name in ("self_attention", "freezing", "attention")}
    notes = withdraw(verdicts, found, right)
    assert [verdict.status for verdict in verdicts.values()] == ["wrong", "wrong", "done"]
    assert "alone it is right, and in training it is not" in verdicts["freezing"].message
    assert len(notes) == 1 and notes[0].startswith("the whole: training comes out otherwise")


def test_what_is_not_started_is_waited_for(right):
    place = target("embeddings")
    with planted(place, blanked(BY_NAME["embeddings"], place)):
        found = judge_whole(outcome(WHOLE, SEED), right)
    assert found.status == "not started" and "exercise 1: embeddings" in found.message


def test_what_comes_after_a_wrong_call_is_nobodys_fault():
    step = str(Target("optim.adamw", "AdamW.step"))
    mask, pooler = "minbert.attention:key_mask", "minbert.encoders.bert:Bert.pool"
    right = [[mask, 0, [1], [2]], [pooler, 1, [3], [4]], [step, 0, [0], [0]], [mask, 0, [5], [6]]]
    mine = [[mask, 0, [1], [9]], [pooler, 1, [3], [9]], [step, 0, [0], [0]], [mask, 0, [5], [9]]]
    assert set(suspects_of(mine, right)) == {"attention_mask"}
    assert set(suspects_of([[pooler, 0, [3], [9]]], right)) == {"pooler"}
    assert suspects_of([[mask, 0, [7], [9]]], right) == {}  # the reference was never asked this


def test_rounding_is_no_difference():
    one = {"of": [2], "sums": [3.0, 1.0], "learns": True}
    assert alike(one, {**one, "sums": [3.00001, 1.00001]})
    assert not alike(one, {**one, "sums": [3.0, 1.1]})
    assert not alike(one, {**one, "learns": False})
    assert alike([1, 2.0], [1.0, 2]) and not alike(True, 1)
