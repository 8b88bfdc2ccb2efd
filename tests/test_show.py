"""What stands in the page of a run: the record's numbers, Python's explanations, and no harm."""

import base64
import hashlib
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import pretrain_config
from own_data import forget_own_tasks
from scipy.stats import bootstrap
from shown import HARM, LABELS, block_of, hostile_run, several_tasks

from data.tasks import get_task
from minbert.checks import InputWarning
from multitask import Predictor, train, training
from multitask.experiments import significance
from multitask.experiments.significance import score_interval
from multitask.inside import page as pages
from multitask.inside.answered import principal
from multitask.inside.explain import explain
from multitask.inside.packed import nearest, quantised
from multitask.inside.page import PageSettings, html_page, make_page
from multitask.inside.told import curves, thinned
from multitask.runs.run import Run

SETTINGS = PageSettings(explain=5, steps=4)


@pytest.fixture(scope="module", autouse=True)
def registry():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "draw_run", lambda run: None)
        yield
    forget_own_tasks()


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("shown")


@pytest.fixture(scope="module")
def run(home):
    return several_tasks(home)


@pytest.fixture(scope="module")
def page(run):
    return make_page([run], SETTINGS)


@pytest.fixture(scope="module")
def told(page):
    return block_of(page)[0]["runs"][0]


def test_the_page_has_the_records_numbers(run, told):
    record = Run(run).record()
    assert told["name"] == "several" and told["finished"]
    for name, scores in record["dev"].items():
        lines = {line["metric"]: line for line in told["scores"][name]}
        assert {metric: line["score"] for metric, line in lines.items()} == scores
        for metric, constant in record["constant"][name].items():
            assert lines[metric]["constant"] == constant
        low, high = lines[get_task(name).metrics[0]]["interval"]
        assert low <= lines[get_task(name).metrics[0]]["score"] <= high
    rows = told["tasks"]["sst"]["rows"]
    counts = np.zeros((5, 5), int)
    np.add.at(counts, (rows["labels"], rows["answers"]), 1)
    assert counts.tolist() == record["analysis"]["sst"]["confusion"]
    assert told["facts"]["best_epoch"] == record["best_epoch"]
    assert {name: value for name, value, _ in told["settings"]}["pair"] == "concat"
    assert not any("/" in value for _, value, _ in told["settings"]), "no path of this machine"


def test_rows_are_the_predictors(run, told):
    predictor = Predictor(run)
    for name, task in told["tasks"].items():
        rows = task["rows"]
        texts = list(zip(*rows["texts"], strict=True))
        found = predictor.predict(name, texts)
        assert rows["answers"] == pytest.approx([p.value for p in found], abs=2e-3)
        if name != "sts":
            chances = np.array(rows["chances"])[[int(p.value) for p in found], range(len(found))]
            expected = [1e4 * p.probability for p in found]
            assert chances.tolist() == pytest.approx(expected, abs=1)
        assert len(rows["tokens"]) == len(rows["ids"]) == rows["all"] == 60


def test_explanations_are_those_of_explain(run, told, page):
    data = block_of(page)[1]
    predictor = Predictor(run)
    for name, task in told["tasks"].items():
        assert len(task["explained"]) == 5
        row, shown = next(iter(task["explained"].items()))
        (found,) = explain(predictor, [tuple(shown["texts"])], task=name, steps=4)
        assert shown["texts"] == [column[int(row)] for column in task["rows"]["texts"]]
        np.testing.assert_allclose(shown["outputs"], found.outputs, atol=1e-3)
        assert len(shown["sequences"]) == (1 if name == "sst" else 2)
        for ours, theirs in zip(shown["sequences"], found.sequences, strict=True):
            assert ours["tokens"] == list(theirs.tokens)
            np.testing.assert_allclose(ours["integrated"], theirs.integrated_gradients, atol=1e-3)
            np.testing.assert_allclose(ours["path"], theirs.rollout.mean(axis=1), atol=1e-3)
            cells = theirs.attentions.size
            kept = np.frombuffer(data, np.uint8, cells, ours["attention"]) / 255
            expected = theirs.attentions.ravel()
            np.testing.assert_allclose(kept, expected, atol=0.5 / 255 + 1e-4)


def test_worst_mistakes_are_explained_first(run, told):
    worst = Run(run).record()["analysis"]["sst"]["worst"]
    task = told["tasks"]["sst"]
    first = task["rows"]["ids"].index(worst[0]["id"])
    assert str(first) in task["explained"]


def test_the_same_run_gives_the_same_bytes(run, page):
    assert make_page([run], SETTINGS) == page


def test_several_runs_and_one_that_is_not_finished(home, run):
    other = several_tasks(home, "other", lr=3e-3, tasks=("sst",))
    (other / "record.json").unlink()
    found = block_of(make_page([run, other], PageSettings(rows=8, explain=0)))[0]["runs"]
    assert [each["name"] for each in found] == ["several", "other"]
    assert [each["finished"] for each in found] == [True, False]
    assert found[1]["scores"]["sst"][0]["metric"] == "accuracy"
    assert len(found[0]["tasks"]["sst"]["rows"]["ids"]) == 8
    assert found[0]["tasks"]["sst"]["rows"]["all"] == 60


def test_rows_that_cannot_be_read_stop_the_page_or_are_left_out(home, run):
    data = home / "damaged"
    shutil.copytree(home / "data", data)
    with (data / "ids-sst-dev.csv").open("a", encoding="utf-8") as file:
        file.write("a row of one column\n")
    with pytest.raises(ValueError, match=r"ids-sst-dev\.csv:62"):
        make_page([run], PageSettings(data_dir=data, explain=0))
    settings = PageSettings(data_dir=data, explain=0, on_bad_row="skip")
    with pytest.warns(InputWarning, match=r"ids-sst-dev\.csv:62"):
        page = make_page([run], settings)
    (found,) = block_of(page)[0]["runs"]
    assert len(found["tasks"]["sst"]["rows"]["ids"]) == 60


def test_no_more_rows_are_explained_than_there_is_room_for(run, monkeypatch):
    bare = len(make_page([run], PageSettings(explain=0)))
    monkeypatch.setattr(pages, "LARGEST", bare + 30_000)
    full = make_page([run], PageSettings(explain=60, steps=0))
    assert bare + 6_000 < len(full) < bare + 30_000
    counts = [len(x["explained"]) for x in block_of(full)[0]["runs"][0]["tasks"].values()]
    assert all(0 < count < 60 for count in counts)


class Elements(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def test_the_page_asks_nothing_and_runs_one_script(page):
    parser = Elements()
    parser.feed(page)
    tags = [tag for tag, _ in parser.found]
    assert sorted(set(tags)) == [
        "body", "div", "head", "html", "meta", "noscript", "script", "style", "title",
    ]  # fmt: skip
    assert tags.count("script") == 2
    assert not any(name in attrs for _, attrs in parser.found for name in ("src", "href", "style"))
    policy = next(a["content"] for _, a in parser.found if "http-equiv" in a)
    script = re.search(r"<script>(.*)</script>", page, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy and policy.startswith("default-src 'none'")
    assert "connect" not in policy and "unsafe" not in policy.replace(
        "style-src 'unsafe-inline'", ""
    )
    assert "@import" not in page and "url(" not in page.partition("<body>")[0]


def test_hostile_rows_stay_data(tmp_path):
    folder = hostile_run(tmp_path)
    page = make_page([folder], SETTINGS)
    assert HARM not in page and "<img" not in page and page.count("</script>") == 2
    assert "<title>&lt;img src=x onerror=" in page
    task = block_of(page)[0]["runs"][0]["tasks"]["hostile"]
    assert task["classes"] == list(LABELS)
    assert any(HARM in text for text in task["rows"]["texts"][0])


def test_a_pre_training_run_has_curves_and_no_rows(home):
    folder = train(pretrain_config(home, epochs=1)).folder
    (found,) = block_of(make_page([folder]))[0]["runs"]
    assert found["tasks"] == {} and found["curves"]["loss"]["mlm"]
    assert [line["metric"] for line in found["scores"]["mlm"]] == ["loss", "perplexity", "accuracy"]


def test_errors_say_what_to_do(tmp_path, run):
    with pytest.raises(ValueError, match="holds no run"):
        make_page([tmp_path])
    with pytest.raises(ValueError, match="steps is -1; it must be at least 0"):
        PageSettings(steps=-1)
    with pytest.raises(ValueError, match="nowhere"):
        make_page([run], PageSettings(data_dir=tmp_path / "nowhere"))


def test_the_command_writes_a_page(run, command_line, tmp_path):
    path = tmp_path / "page.html"
    code, out, err = command_line("show", run, "--out", path, "--explain", 1, "--no-open")
    assert code == 0, err
    assert out.startswith(f"{path}: 0.") and path.read_text(encoding="utf-8").startswith(
        "<!doctype"
    )
    code, _, err = command_line("show", run, "--port", 80)
    assert code == 2 and "a file needs no port" in err


def test_a_scores_interval_is_scipys(monkeypatch):
    draw = np.random.default_rng(0)
    labels, answers = draw.integers(0, 2, (2, 90))
    found = score_interval("accuracy", labels, answers)
    expected = bootstrap(
        (labels, answers), lambda x, y, axis: (x == y).mean(axis), paired=True, n_resamples=2000,
        method="percentile", random_state=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    assert found == pytest.approx(tuple(expected), abs=0.03)
    monkeypatch.setattr(significance, "SEVERAL", 5)
    several = draw.integers(0, 2, (90, 3))
    assert score_interval("micro_f1", several, several) == (1, 1)


def test_the_map_is_of_principal_components():
    vectors = torch.randn(40, 7, generator=torch.Generator().manual_seed(0)).numpy()
    places, shares = principal(vectors)
    centred = vectors - vectors.mean(axis=0)
    _, sizes, directions = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(np.abs(places), np.abs(centred @ directions[:2].T), atol=1e-4)
    np.testing.assert_allclose(shares, sizes[:2] ** 2 / (sizes**2).sum(), atol=1e-5)
    assert principal(np.ones((5, 3)))[1] == (0, 0)
    assert (principal(vectors[:, :1])[0][:, 1] == 0).all()


def test_curves_of_long_runs_are_thinned():
    points = thinned([(step, step % 2) for step in range(10_000)])
    assert len(points) == 400 and points[0] == [12, 0.48]
    assert curves([])["loss"] == {}


def test_neighbours_are_the_nearest_states_of_other_rows(run):
    found = explain(run, ["superb bon", "awful bon dot", "bon superb"], task="sst", steps=0)
    bank = [(n, each.sequences[0]) for n, each in enumerate(found)]
    (near,) = nearest(found[0].sequences, bank, 0)
    assert near[0] == [] and len(near[1]) == 3
    own = found[0].sequences[0].hidden_states[-1][1]
    cosines = {}
    for row, sequence in bank[1:]:
        for place, state in enumerate(sequence.hidden_states[-1]):
            if not sequence.special[place]:
                norm = np.linalg.norm(own) * np.linalg.norm(state)
                cosines[sequence.tokens[place], row] = float(own @ state / norm)
    best = max(cosines, key=cosines.get)
    assert tuple(near[1][0][:2]) == best
    assert near[1][0][4] == pytest.approx(cosines[best], abs=1e-3)


def test_weights_are_kept_in_a_byte():
    assert quantised(np.array([0, 0.5, 1, 1.0001])) == bytes([0, 128, 255, 255])


def test_the_committed_script_can_stand_in_a_page():
    page = html_page(b"")
    assert page.count("</script>") == 2 and page.count("</style>") == 1
    licences = (Path(pages.ASSETS) / "LICENSES.txt").read_text(encoding="utf-8")
    assert "@observablehq/plot" in licences and "Permission to use, copy, modify" in licences
