"""Pictures of an exercise: a student's numbers beside those that are right."""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from shown import block_of, several_tasks
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
    assert "in eval mode: the context" in first and text.count("<h3>yours</h3>") == 9
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


FIRST_LAYER = """
import sys, numpy as np
from multitask.inside.explain import explain
(found,) = explain(sys.argv[1], ["bon superb dot"], task="sst", steps=0)
print(found.sequences[0].attentions[0].ravel().tolist())
"""


def test_a_page_in_a_copy_is_of_the_students_functions(copy, tmp_path, no_figure):
    run = several_tasks(tmp_path, tasks=("sst",), epochs=1)
    found = []
    handout.solve(copy, numbered(4))
    for body in (None, UNSCALED):
        if body is None:
            handout.solve(copy, numbered(3))
        else:
            edit(copy, "minbert/attention.py", ATTENTION, body)
        command = [sys.executable, "-B", "-c", FIRST_LAYER, str(run)]
        env = {**os.environ, "PYTHONPATH": ""}
        done = subprocess.run(
            command, cwd=copy, env=env, capture_output=True, encoding="utf-8", check=True
        )
        found.append(np.array(json.loads(done.stdout)).reshape(-1, 5))  # a query's weights a line
    scaled, unscaled = found
    power = scaled ** np.sqrt(8)  # heads of 8 features: softmax(√D s) of what softmax(s) was
    np.testing.assert_allclose(unscaled, power / power.sum(axis=1, keepdims=True), atol=1e-4)
    assert np.abs(scaled - unscaled).max() > 0.05
    page = tmp_path / "page.html"
    words = ("show", str(run), "--out", str(page), "--explain", "1", "--rows", "9", "--no-open")
    done = in_copy(copy, *words)
    assert done.returncode == 0, done.stderr
    told = block_of(page.read_text(encoding="utf-8"))[0]
    assert "a student's copy" in told["version"]
    assert len(told["runs"][0]["tasks"]["sst"]["explained"]) == 1
