"""GLUE's own files: their columns, labels and oddities, written small and read back."""

import csv

import pytest
from glue_files import GOLD, HEADERS, TEXTS, WORDS, write
from helpers import config, write_backbone

from data.glue import GLUE
from data.readers import has_split, read_split
from data.tasks import TASKS, get_task
from multitask import Predictor, train, training

PATHS = {
    ("mrpc", "dev"): "MRPC/dev.tsv",
    ("mnli", "dev"): "MNLI/dev_matched.tsv",
    ("mnli", "test_mismatched"): "MNLI/test_mismatched.tsv",
    ("sst2", "test"): "SST-2/test.tsv",
    ("stsb", "train"): "STS-B/train.tsv",
    ("ax", "test"): "diagnostic/diagnostic.tsv",
}
CASES = [(name, split) for name, splits in HEADERS.items() for split in splits]


def test_every_task_of_glue_is_here():
    assert {task.name for task in GLUE} == HEADERS.keys()
    assert {*HEADERS, "cola"} <= TASKS.keys()
    for task in GLUE:
        assert task.tables.keys() == HEADERS[task.name].keys()
    for (name, split), path in PATHS.items():
        assert get_task(name).tables[split].path == path


@pytest.mark.parametrize("name, split", CASES)
def test_rows_are_those_of_the_file(tmp_path, name, split):
    path = write(tmp_path / "glue", name, split)  # in a folder of the data directory, as fetched
    task = get_task(name)
    assert has_split(task, split, tmp_path)
    found = read_split(task, split, tmp_path)
    assert found.path == path and not found.skipped
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert len(found.examples) == len(rows) == 7
    for number, (example, row) in enumerate(zip(found.examples, rows, strict=True)):
        assert example.texts == tuple(v.strip() for k, v in row.items() if k in TEXTS)
        assert len(example.texts) == 1 + task.is_pair
        assert example.id == row.get("index", row.get("id", str(number)))
        gold = [v for k, v in row.items() if k in GOLD]
        if split.startswith("test"):
            assert example.label is None and not gold
        elif name == "stsb":
            assert example.label == float(gold[0])
        else:
            assert WORDS.get(name, ["0", "1"])[int(example.label)] == gold[0]
            assert name not in WORDS or task.classes[int(example.label)] == gold[0]


@pytest.mark.parametrize("label", ["-", "0", "Entailment", ""])
def test_a_word_that_is_no_label_is_a_bad_row(tmp_path, label):
    """As - is in MNLI's original files, where the five raters did not agree."""
    path = write(tmp_path, "mnli", "dev")
    path.write_text(
        path.read_text(encoding="utf-8").replace("label5-0\tentailment", f"label5-0\t{label}", 1),
        encoding="utf-8",
    )
    message = rf"dev_matched.tsv:2: column 'gold_label' is '{label}', and not one of entailment, n"
    with pytest.raises(ValueError, match=message):
        read_split(get_task("mnli"), "dev", tmp_path)
    found = read_split(get_task("mnli"), "dev", tmp_path, on_bad_row="skip")
    assert len(found.examples) == 6 and len(found.skipped) == 1


def test_a_split_that_a_task_does_not_have():
    with pytest.raises(ValueError, match="task 'ax' has no train split; it has test"):
        read_split(get_task("ax"), "train")
    assert not has_split(get_task("sst2"), "dev_mismatched", None)


def test_mnli_is_scored_on_both_of_its_development_sets(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "draw_run", lambda run: None)
    for name in ("mnli", "rte"):
        for split in HEADERS[name]:
            write(tmp_path / "data", name, split, count=9 if split == "dev_mismatched" else 7)
    write_backbone(tmp_path / "backbone")
    run = train(config(tmp_path, tasks=("mnli", "rte"), epochs=1), progress=False)
    assert run.record()["dev"].keys() == {"mnli", "rte"}
    predictor = Predictor(run.folder)
    matched = predictor.evaluate("dev")["mnli"]
    assert matched.metrics["accuracy"] == run.record()["dev"]["mnli"]["accuracy"]
    mismatched = predictor.evaluate("dev_mismatched")
    assert mismatched.keys() == {"mnli"}
    assert len(mismatched["mnli"].answers) == 9 and "accuracy" in mismatched["mnli"].metrics
    assert predictor.evaluate("test_mismatched")["mnli"].metrics == {}
