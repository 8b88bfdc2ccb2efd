"""Prediction files, byte for byte as the course's graders read them."""

import csv
import re

import numpy as np
import pytest
import torch
from helpers import config, tiny, write_data

from data.readers import read_split
from data.tasks import TASKS, get_task
from minbert.checks import InputWarning
from multitask import Predictor, train, training
from multitask.evaluate import Evaluation, prediction_path, write_predictions
from multitask.extensions.loss_weights import LossWeights

HEADERS = {
    "sst": b"id \t Predicted_Sentiment \n",
    "para": b"id \t Predicted_Is_Paraphrase \n",
    "sts": b"id \t Predicted_Similiary \n",
    "cola": b"id \t Predicted_Linguistic \n",
}
STEMS = {"sst": "sst", "para": "para", "sts": "sts", "cola": "lin"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tiny(tmp_path_factory.mktemp("tiny"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "draw_run", lambda run: None)
        return train(config(folder, tasks=tuple(HEADERS), epochs=3), progress=False)


@pytest.mark.parametrize(
    "name, answers, expected",
    [
        ("sst", np.array([3, 0, 4]), b"a , 3 \nb , 0 \nc , 4 \n"),
        ("para", np.array([1, 0, 1]), b"a , 1.0 \nb , 0.0 \nc , 1.0 \n"),
        ("cola", np.array([0, 1, 1]), b"a , 0.0 \nb , 1.0 \nc , 1.0 \n"),
        (
            "sts",
            np.array([2.4000001, -0.1, 1e-7], dtype=np.float32),
            b"a , 2.4 \nb , -0.1 \nc , 1e-07 \n",
        ),
        ("sts", np.array([5, 2.3333333, 1 / 3]), b"a , 5.0 \nb , 2.3333333 \nc , 0.33333334 \n"),
    ],
)
def test_a_file_is_written_byte_for_byte(tmp_path, name, answers, expected):
    evaluation = Evaluation(
        ids=("a", "b", "c"), answers=answers, probabilities=None, labels=None, metrics={}
    )
    path = write_predictions(tmp_path / "new", TASKS[name], "dev", evaluation)
    assert path == tmp_path / "new" / f"{STEMS[name]}-dev-output.csv"
    assert path.read_bytes() == HEADERS[name] + expected


def test_every_task_writes_to_a_file_of_its_own(tmp_path):
    paths = {prediction_path(tmp_path, task, "test") for task in TASKS.values()}
    assert len(paths) == len(TASKS) > 4


def test_a_run_writes_a_file_for_every_task_and_split(run):
    found = {path.name for path in run.predictions.iterdir()}
    assert found == {f"{s}-{split}-output.csv" for s in STEMS.values() for split in ("dev", "test")}


def course_lines(run, name, split):
    """The lines as the course's own program writes them, from one padded batch a row."""
    predictor = Predictor(run.folder, device="cpu")
    model = predictor.model
    for row in read_split(get_task(name), split, predictor.config.data_dir).examples:
        seconds = [row.texts[1]] if len(row.texts) == 2 else None
        encoding = predictor.tokenizer.encode([row.texts[0]], seconds)
        with torch.inference_mode():
            output = model.encoder(
                torch.tensor(encoding.input_ids), None, torch.tensor(encoding.token_type_ids)
            )
            outputs = model.heads(output.pooler_output, name)
        if name == "sst":
            prediction = outputs.argmax(dim=1).numpy()[0]
        elif name == "sts":
            prediction = outputs.flatten().numpy()[0]
        else:
            prediction = outputs.sigmoid().round().flatten().numpy()[0]
        yield row.id, prediction


@pytest.mark.parametrize("split", ["dev", "test"])
@pytest.mark.parametrize("name", HEADERS)
def test_the_files_of_a_run_hold_the_models_answers(run, name, split):
    header, *lines = (
        (run.predictions / f"{STEMS[name]}-{split}-output.csv").read_bytes().split(b"\n")
    )
    assert header + b"\n" == HEADERS[name] and lines.pop() == b""
    expected = list(course_lines(run, name, split))
    assert len(lines) == len(expected) == {"dev": 15, "test": 7}[split]
    for line, (row_id, prediction) in zip(lines, expected):
        if name == "sts":
            number = line.decode().removeprefix(f"{row_id} , ").removesuffix(" ")
            assert str(np.float32(number)) == number
            assert float(number) == pytest.approx(float(prediction), abs=1e-4)
        else:
            assert line == f"{row_id} , {prediction} ".encode()
    if split == "dev" and name in ("sst", "sts"):
        assert len({line.split(b",")[1] for line in lines}) > 1  # not the same answer throughout


@pytest.mark.parametrize("name", ["sst", "para", "sts"])
def test_every_unlabelled_id_is_answered_once_in_the_order_of_the_file(run, name):
    source = run.config().data_dir / get_task(name).tables["test"].path
    with source.open(newline="", encoding="utf-8") as file:
        expected = [row["id"] for row in csv.DictReader(file, delimiter="\t")]
    lines = (
        (run.predictions / f"{STEMS[name]}-test-output.csv")
        .read_text(encoding="utf-8")
        .splitlines()[1:]
    )
    assert [line.split(" , ")[0] for line in lines] == expected


# Predictor


@pytest.mark.parametrize("name", HEADERS)
def test_the_predictor_gives_the_runs_answers_in_any_order(run, name):
    predictor = Predictor(run.folder, device="cpu")
    task, settings = get_task(name), run.config()
    rows = read_split(task, "dev", settings.data_dir).examples
    written = (
        (run.predictions / f"{STEMS[name]}-dev-output.csv")
        .read_text(encoding="utf-8")
        .splitlines()[1:]
    )
    texts = [row.texts if task.is_pair else row.texts[0] for row in rows]
    order = np.random.default_rng(0).permutation(len(rows))
    found = predictor.predict(name, [texts[i] for i in order])
    assert [p.texts for p in found] == [rows[i].texts for i in order]
    for place, prediction in zip(order, found):
        expected = float(written[place].split(" , ")[1])
        assert prediction.value == pytest.approx(expected, abs=1e-4)
        if task.kind == "regression":
            assert prediction.label is None and prediction.probability is None
        else:
            assert prediction.label == task.classes[int(expected)]
            assert 1 / len(task.classes) <= prediction.probability <= 1
    assert predictor.predict(name, []) == []


def test_all_rows_are_answered_as_they_are_whatever_the_run_trained_on(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "draw_run", lambda run: None)
    folder = tiny(tmp_path)
    extension = LossWeights(weights={"sst": 0.5})
    run = train(config(folder, tasks=("sst", "para"), epochs=1, limit=4, both_orders=True,
                       extensions=(extension,)), progress=False)  # fmt: skip
    predictor = Predictor(run.folder)
    for name, found in predictor.evaluate("train").items():
        rows = read_split(get_task(name), "train", folder / "data").examples
        assert found.ids == tuple(example.id for example in rows) and len(rows) == 22
    (folder / "data" / "ids-sst-dev.csv").unlink()
    assert list(predictor.evaluate("dev")) == ["para"]
    (folder / "data" / "quora-dev.csv").unlink()
    assert predictor.evaluate("dev") == {}


def test_the_predictor_scores_what_the_run_recorded(run):
    predictor = Predictor(run.folder, device="cpu")
    for name, evaluation in predictor.evaluate("dev").items():
        assert evaluation.metrics == pytest.approx(run.record()["dev"][name], abs=1e-5)
        labels = [
            e.label for e in read_split(get_task(name), "dev", run.config().data_dir).examples
        ]
        assert evaluation.labels.tolist() == pytest.approx(labels)
    assert set(predictor.evaluate("test")) == set(HEADERS)
    assert all(e.metrics == {} for e in predictor.evaluate("test").values())


@pytest.mark.parametrize(
    "task, rows, message",
    [
        ("cfimdb", ["a"], "was not trained on task 'cfimdb'; it knows sst, para, sts, cola"),
        ("sst", ["bat", " "], "'sst' takes 1 text a row, none of them empty; row 2 is ' '"),
        ("sst", [("bat", "bet")], "'sst' takes 1 text a row.*row 1 is"),
        ("para", ["bat"], "'para' takes 2 texts a row, none of them empty; row 1 is 'bat'"),
        ("para", [("bat", "")], "'para' takes 2 texts a row"),
        ("sst", "bat", r"rows are a list of texts, and not 'bat'; put it in \[\]"),
        ("para", [{"sentence1": "bat", "sentence2": "bet"}], r"row 1 is \{'sentence1': 'bat'"),
        ("para", {"sentence1": "bat"}, r"rows are a list of texts, and not \{'sentence1': 'bat'\}"),
        ("para", [("bat", "bet"), {"bat", "bet"}], "row 2 is {'b.t', 'b.t'}"),
        ("sst", ["bat", None], "'sst' takes 1 text a row, none of them empty; row 2 is None"),
        ("sst", [float("nan")], "row 1 is nan"),
        ("para", [("bat", float("nan"))], r"row 1 is \('bat', nan\)"),
        ("sst", 5, "rows are a list of texts, and not 5"),
    ],
)
def test_the_predictor_refuses_what_it_cannot_answer(run, task, rows, message):
    with pytest.raises(ValueError, match=message):
        Predictor(run.folder, device="cpu").predict(task, rows)


def test_a_precision_that_is_not_known_is_refused(run):
    with pytest.raises(ValueError, match="precision is 'bfloat16'; choose one of auto, fp32, tf32"):
        Predictor(run.folder, device="cpu", precision="bfloat16")


def test_rows_may_come_in_arrays_and_what_is_cut_is_said(run):
    predictor = Predictor(run.folder, device="cpu")
    rows = np.array([["bat", "bet"], ["bat " * 40, "bet"], ["bit", "bet " * 50]])
    with pytest.warns(InputWarning, match="2 of 3 rows are longer than 32 tokens.*first is row 2"):
        found = predictor.predict("para", rows)
    assert [prediction.cut for prediction in found] == [False, True, True]
    assert found[0] == predictor.predict("para", [tuple(rows[0])])[0]


def test_evaluate_says_what_it_left_out_and_what_it_cut(run, tmp_path):
    data = write_data(tmp_path / "data")
    with (data / "ids-sst-dev.csv").open("a", encoding="utf-8") as file:
        file.write("a row of one column\n" + f"90\tlong\t{'bat ' * 60}\t1\n")
    predictor = Predictor(run.folder, device="cpu")
    with pytest.warns(InputWarning) as said:
        found = predictor.evaluate("dev", data_dir=data, on_bad_row="skip")
    assert len(found["sst"].ids) == 16
    said = [str(each.message) for each in said]
    assert any(re.search("left out .*ids-sst-dev.csv:17: 1 columns where", each) for each in said)
    assert "sst dev: cut 1 rows to 32 tokens, first id long" in said
    assert len(said) == 2
