"""Pictures of an exercise: a student's numbers beside those that are right."""

import re
import shutil

import pytest
from test_lab_handout import edit, in_copy

from lab import handout
from lab.exercises import numbered
from lab.show import page, picture
from lab.values import encode

ATTENTION = "scaled_dot_product_attention"
UNSCALED = [
    "scores = query @ key.transpose(-2, -1)",
    "if mask is not None:",
    "    scores = scores.masked_fill(~mask, float('-inf'))",
    "probabilities = scores.softmax(dim=-1)",
    "return dropout(probabilities) @ value, probabilities",
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures") / "my-work"
    return handout.start(folder, exercises=[numbered(3), numbered(4)])


@pytest.fixture
def copy(made, tmp_path):
    return shutil.copytree(made, tmp_path / "my-work")


def shown(copy, *words):
    done = in_copy(copy, "lab", "show", "3", "--no-open", *words)
    assert done.returncode == 0, done.stderr
    (path,) = copy.glob("pictures/*.html")
    assert path.name == "3-attention.html" and str(path) in done.stdout
    return path.read_text(encoding="utf-8")


def test_an_unscaled_attention_is_seen(copy):
    edit(copy, "minbert/attention.py", ATTENTION, UNSCALED)
    text = shown(copy)
    assert "<strong>wrong</strong> the scores are not scaled" in text
    first = text.split("<section>")[1]
    assert "in eval mode: the context" in first and text.count("<h3>yours</h3>") == 7
    inputs = re.findall(r"<h4>(\w+)</h4>", first)
    assert inputs == ["query", "key", "value", "mask", "dropout"]
    expected, yours = first.split("<h3>yours</h3>")
    assert 'class="first"' not in expected and yours.count('class="first"') == 1
    assert yours.count('class="off"') > 20
    assert 'class="off"' not in first.split("<h3>expected</h3>")[0]
    assert "<script" not in text and "http:" not in text


def test_a_right_one_has_no_marks_and_a_blank_one_says_so(copy):
    assert "<strong>not started</strong>" in shown(copy)
    handout.solve(copy, numbered(3))
    text = shown(copy)
    assert "<strong>done</strong>" in text and 'class="first"' not in text
    done = in_copy(copy, "lab", "show", "9")
    assert done.returncode == 2 and "exercise 9 is not set in this copy" in done.stderr


def test_what_a_student_returns_stays_data():
    harm = "<script>harm()</script>"
    right = encode([1.0])
    expected = {"right": {"cases": [["a", right]], "error": None}, "mistakes": []}
    for value in (
        harm,
        {"result": harm, "calls": [{"target": harm, "given": {harm: harm}}]},
        {"result": {"dtype": harm, "shape": [2], "data": [1.0]}, "calls": harm},
        {"result": {"dtype": "x", "shape": [-1, 10**9], "data": []}, "calls": [None]},
    ):
        text = page(numbered(3), {"cases": [["a", value]], "error": None}, expected)
        assert harm not in text and "<strong>wrong</strong>" in text


def test_tensors_are_drawn_as_tables():
    import torch

    value = encode(torch.arange(12.0).view(2, 2, 3) - 5)
    text = picture(value)
    assert text.count("<table>") == 2 and text.count("<td") == 12
    assert "[1, 0, 2]: 3.0" in text and "rgba(0,114,178,0.35)" in text
    assert picture(encode(torch.tensor(float("nan")))).count("<td") == 1
    assert picture(encode(torch.zeros(60, 60))).count("<td") == 48 * 48
