"""What is said of a wrong answer that is in no catalogue."""

import pytest
import torch

from lab.diagnose import Verdict, judge
from lab.runner import describe
from lab.values import decode, encode, same

X = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))


def outcome(*values, titles=None, error=None):
    titles = titles or [f"case {n}" for n in range(len(values))]
    return {"cases": [[t, encode(v)] for t, v in zip(titles, values, strict=True)], "error": error}


def message(found, right, titles=None):
    expected = {"right": outcome(*right, titles=titles), "mistakes": []}
    verdict = judge(outcome(*found, titles=titles), expected)
    assert verdict.status == "wrong" and not verdict.named
    return verdict.message


def changed(index, by=0.5):
    y = X.clone()
    y[index] += by
    return y


@pytest.mark.parametrize(
    "found, right, text",
    [
        (None, X, "case 0: the result is None; is there a return?"),
        (3, X, "the result is 3; it should be a float32 tensor of shape (2, 5, 4)."),
        (X[0], X, "the shape is (5, 4); it should be (2, 5, 4)."),
        (X[:1, :1], X[0, :1], "a dimension of size 1 is too many; see squeeze."),
        (X.transpose(1, 2), X, "The numbers are right and in another order"),
        (X.flip(1), X, "The numbers are right and in another order: look at the transposes."),
        (X.double(), X, "the dtype is float64; it should be float32."),
        (changed((1, 0, 2)), X, " at [1, 0, 2], should be "),
        (changed((1, 0, 2)), X, "; 1 of 40 numbers differ."),
        (changed((1, slice(3, 5))), X, "8 of 40 numbers differ: only where there is padding."),
        (2.5 * X, X, "all are off by the same factor, 2.5."),
        (X * 0, X, "all of them are 0."),
        (X / 0 * 0, X, "some are not a number (nan)"),
        ([X], [X, X], "there are 1 results; there should be 2."),
        ([X, -X], [X, X], "number 2 of 2: "),
        ({"a": 1}, {"a": 1, "b": 2}, "missing: b."),
        ({"a": 1, "b": 3}, {"a": 1, "b": 2}, "b: the result is 3; it should be 2."),
        (False, True, "the result is False; it should be True."),
        ("drawn in about 90%", True, "case 0: drawn in about 90%."),
        ("x", 1.5, "the result is 'x'; it should be 1.5."),
        ([X, "no gradient: cut off"], [X, X], "case 0: number 2 of 2: no gradient: cut off."),
        (object(), 1.5, "an object of type object"),
    ],
)  # fmt: skip
def test_what_differs_is_said(found, right, text):
    assert text in message([found], [right])


def test_the_first_case_that_differs_is_the_one_described():
    assert message([X, X + 1, X + 2], [X, X, X]).startswith("case 1: ")


def test_right_in_eval_mode_and_wrong_in_train_mode_is_noticed():
    titles = ["in eval mode: x", "in train mode: x"]
    assert "In eval mode all is right" in message([X, X + 1], [X, X], titles)
    assert "In eval mode" not in message([X + 1, X + 1], [X, X], titles)


@pytest.mark.parametrize(
    "error, text",
    [
        (("SystemExit", "0", "a.py:3"), "the code calls exit() at a.py:3;"),
        (("SyntaxError", "invalid syntax", "a.py:3"), "a.py:3 is not Python: invalid syntax."),
        (("KeyError", "'x'", "a.py:3"), "case 1: KeyError at a.py:3: 'x'."),
        (("timeout", "no answer within 10 seconds", None), "no answer within 10 seconds."),
    ],
)
def test_exceptions_are_described(error, text):
    error = dict(zip(("type", "message", "where"), error, strict=True))
    expected = {"right": outcome(X, X), "mistakes": []}
    assert text in judge(outcome(X, error=error), expected).message


def test_a_blank_of_another_kind_is_not_taken_for_a_blank():
    expected = {"right": outcome(X), "mistakes": []}
    for text, status in (("exercise 3: x", "not started"), ("not yet", "wrong")):
        error = {"type": "NotImplementedError", "message": text, "where": None}
        assert judge(outcome(error=error), expected).status == status


def test_a_mistake_is_named_by_all_of_its_cases():
    expected = {
        "right": outcome(X, X),
        "mistakes": [{"says": "twice as much", **outcome(2 * X, X)}],
    }
    assert judge(outcome(2 * X, X), expected) == Verdict("wrong", "twice as much.", named=True)
    both = judge(outcome(2 * X, 2 * X), expected)
    assert both.named and both.message == (
        "case 0: as if twice as much. That is not all that differs; check again when this is right."
    )
    assert judge(outcome(X, X), expected) == Verdict("done")
    extra = {"type": "KeyError", "message": "", "where": None}
    assert judge(outcome(X, X, error=extra), expected).status == "wrong"


def test_the_first_case_that_differs_is_held_against_the_catalogue():
    mistakes = [
        {"says": "twice as much", **outcome(2 * X, X, X)},
        {"says": "all is lost", **outcome(0 * X, X, X)},
        {"says": "half of it is right", **outcome(X, False, X)},
        {"says": "none of it is right", **outcome(X, False, X / 2)},
    ]
    expected = {"right": {**outcome(X, True, X), "calls": ["f(x (2, 5, 4))"] * 3}}
    expected["mistakes"] = mistakes

    def said(*values):
        return judge(outcome(*values), expected)

    assert "as if twice as much. That is not all" in said(2 * X, X, -X).message
    near = said(2.01 * X, True, X)
    assert (
        "closest to, without being equal: twice as much. The call: f(x (2, 5, 4))." in near.message
    )
    assert not near.named and "closest" not in said(3 * X, True, X).message
    yes_or_no = said(X, False, -X)  # which more than one mistake gives, and none the rest
    assert not yes_or_no.named and "as if" not in yes_or_no.message


def test_an_exception_is_a_mistakes_own_by_its_message_too():
    def raising(text):
        return outcome(X, error={"type": "RuntimeError", "message": text, "where": None})

    expected = {"right": outcome(X, X), "mistakes": [{"says": "in place", **raising("in-place")}]}
    assert judge(raising("in-place"), expected).message == "in place."
    other = judge(raising("a and b have other shapes"), expected)
    assert not other.named and "RuntimeError: a and b have other shapes" in other.message


def test_a_yes_or_no_is_no_mistakes_that_differs_before():
    """What that mistake does first is right, so it is another."""
    mistakes = [{"says": "A is zero", **outcome(False, False)}]
    expected = {"right": outcome(True, True), "mistakes": mistakes}
    assert not judge(outcome(True, False), expected).named
    assert judge(outcome(False, False), expected).named


def test_a_breakpoint_without_a_terminal_names_the_flag():
    error = {"type": "BdbQuit", "message": "", "where": "optim/adamw.py:3"}
    found = judge(outcome(error=error), {"right": outcome(X), "mistakes": []})
    assert "breakpoint() at optim/adamw.py:3 needs a terminal: minbert lab check" in found.message


@pytest.mark.parametrize(
    "value", [X, X.double(), X > 0, torch.tensor(3), torch.tensor([-float("inf")]), [X, 1, None]]
)
def test_values_come_back_as_they_were(value):
    assert same(encode(decode(encode(value))), encode(value))


@pytest.mark.parametrize(
    "a, b, equal",
    [
        (1.0, 1.0 + 1e-6, True), (1.0, 1.001, False), (1, 1.0, True), (1, True, False),
        (float("nan"), float("nan"), True), (float("nan"), 1.0, False),
        (float("inf"), float("inf"), True), (float("inf"), -float("inf"), False),
        (float("inf"), 1e9, False), ("a", "a", True), (None, 0, False),
        ([1.0], [1.0, 2.0], False), ({"a": 1}, {"b": 1}, False),
    ],
)  # fmt: skip
def test_what_is_the_same(a, b, equal):
    assert same(a, b) == same(b, a) == equal


@pytest.mark.parametrize(
    "package", [".venv/lib/python3.11/site-packages/torch/nn.py", "env/lib/dist-packages/x.py"]
)
def test_an_error_is_at_the_students_line(package, tmp_path):
    names = {}
    exec(compile("def fail():\n    raise TypeError('of two')", tmp_path / package, "exec"), names)
    exec(compile("\n\ndef own():\n    fail()", tmp_path / "minbert" / "bert.py", "exec"), names)
    with pytest.raises(TypeError) as raised:
        names["own"]()
    assert describe(raised.value, tmp_path)["where"] == "minbert/bert.py:4"


def test_a_short_list_is_shown_as_it_is():
    assert (
        message([["un", "##k"]], [["[UNK]"]])
        == "case 0: the result is ['un', '##k']; it should be ['[UNK]']."
    )
    assert "there are 1 results; there should be 2" in message([[X]], [[X, X]])


def test_a_large_whole_number_tells_of_a_mistake_beside_another():
    expected = {
        "right": outcome(3099, 40),
        "mistakes": [{"says": "a layer has one LayerNorm here; it has two", **outcome(3027, 40)}],
    }
    verdict = judge(outcome(3027, 7), expected)
    assert verdict.named and verdict.message.startswith("case 0: as if a layer has one LayerNorm")
    small = {"right": outcome(3, 40), "mistakes": [{"says": "no", **outcome(2, 40)}]}
    assert not judge(outcome(2, 7), small).named


def test_the_call_follows_a_sentence_of_any_kind():
    right = {**outcome(X), "calls": ["f(x (2, 5, 4))"]}
    late = {"type": "timeout", "message": "no answer; is there an endless loop?", "where": None}
    verdict = judge(outcome(error=late), {"right": right, "mistakes": []})
    assert verdict.message == "no answer; is there an endless loop? The call: f(x (2, 5, 4))."
