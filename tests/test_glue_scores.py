"""GLUE's overall scores against the averages that papers print and sums by hand."""

import json
import re

import pytest
from helpers import MADE_UP_CONFIG, MADE_UP_RECORD
from scipy.stats import sem, t

from minbert.files import write_json
from multitask.commands.glue_commands import ScoreGlue
from multitask.glue.glue_run import read_runs
from multitask.glue.score import (
    CONVENTIONS,
    METRICS,
    PASS_MARKS,
    PUBLISHED,
    as_json,
    describe,
    overall_rows,
    read_system,
    system_of,
    task_rows,
)

BY_NAME = {convention.name: convention for convention in CONVENTIONS}
BERT_TEST = {
    ("mnli", "accuracy"): 84.6,
    ("mnli-mm", "accuracy"): 83.4,
    ("qqp", "f1"): 71.2,
    ("qnli", "accuracy"): 90.5,
    ("sst2", "accuracy"): 93.5,
    ("cola", "matthews"): 52.1,
    ("stsb", "spearman"): 85.8,
    ("mrpc", "f1"): 88.9,
    ("rte", "accuracy"): 66.4,
}
"""BERT-base's row in table 1 of its paper, whose average there is 79.6."""
DEV = {
    "cola": {"matthews": 0.5, "accuracy": 0.8},
    "sst2": {"accuracy": 0.9},
    "mrpc": {"f1": 0.9, "accuracy": 0.85},
    "stsb": {"pearson": 0.88, "spearman": 0.86},
    "qqp": {"f1": 0.86, "accuracy": 0.9},
    "mnli": {"accuracy": 0.8},
    "qnli": {"accuracy": 0.84},
    "rte": {"accuracy": 0.7},
    "wnli": {"accuracy": 0.5},
}
MISMATCHED = {"accuracy": 0.82, "loss": 1.0}
BY_HAND = {
    "GLUE": (0.5 + 0.9 + 0.875 + 0.87 + 0.88 + 0.81 + 0.84 + 0.7 + 0.5) / 9,
    "BERT": (0.8 + 0.82 + 0.86 + 0.84 + 0.9 + 0.5 + 0.86 + 0.9 + 0.7) / 9,
    "LoRA": (0.81 + 0.9 + 0.85 + 0.5 + 0.84 + 0.9 + 0.7 + 0.88) / 8,
    "ELECTRA": (0.5 + 0.9 + 0.85 + 0.86 + 0.9 + 0.8 + 0.84 + 0.7) / 8,
}


def write_run(folder, task, seed=1, **metrics):
    """A finished run, so far as scores read it."""
    record = MADE_UP_RECORD | {
        "dev": {task: {**DEV[task], **metrics, "loss": 1.0}},
        "config": MADE_UP_CONFIG | {"tasks": [task], "seed": seed},
        "seconds": 2.0,
    }
    write_json(folder / f"{task}-{seed}" / "record.json", record)
    if task == "mnli":
        write_json(folder / f"{task}-{seed}" / "mnli-mm.json", MISMATCHED)


@pytest.fixture
def all_runs(tmp_path):
    for task in DEV:
        write_run(tmp_path, task)
    return tmp_path


def test_bert_average_is_that_of_its_paper():
    assert round(BY_NAME["BERT"].overall(BERT_TEST), 1) == 79.6


@pytest.mark.parametrize(
    "row, convention, printed",
    [
        ("RoBERTa-base, LoRA's table, dev", "LoRA", 86.4),
        ("RoBERTa-base with LoRA of rank 8, LoRA's table, dev", "LoRA", 87.2),
        ("ConvBERT-base, its paper, test", "ELECTRA", 86.4),
        ("ModernBERT-base, its paper, dev", "ELECTRA", 88.4),
    ],
)
def test_published_rows_have_their_printed_average(row, convention, printed):
    scores, rule = PUBLISHED[row], BY_NAME[convention]
    assert rule.covered(scores) == list(rule.columns)
    assert 100 * rule.overall(scores) == pytest.approx(printed, abs=0.06)


def test_published_rows_and_pass_marks_name_metrics_that_are_scored():
    for scores in PUBLISHED.values():
        assert scores.keys() <= set(METRICS)
        assert all(0 < value < 1 for value in scores.values())
    marked = [metric for metrics in PASS_MARKS for metric in metrics]
    assert set(marked) <= set(METRICS) and len(set(marked)) == len(marked)


def test_a_mark_is_on_the_mean_of_its_metrics_and_a_constant_that_reaches_it_is_named():
    def found(**constant: float) -> list[str]:
        dev = {"stsb": {"pearson": 0.85, "spearman": 0.76}, "mrpc": {"f1": 0.9, "accuracy": 0.79}}
        record = {"seconds": 1.0, "dev": dev, "constant": {"mrpc": constant}}
        rows = task_rows(system_of("ours", [record]))
        assert rows["mrpc", "f1"][-1] == "" == rows["stsb", "spearman"][-1]
        return [rows[metric][-1] for metric in (("stsb", "pearson"), ("mrpc", "accuracy"))]

    stsb = "✓ 0.80 (mean with spearman)"
    assert found() == found(accuracy=0.68) == [stsb, "✗ 0.80"]
    assert found(accuracy=0.81) == [stsb, "✗ 0.80 (a constant answer: 0.810)"]


def test_losses_stand_in_the_table_and_that_of_stsb_is_a_mean_squared_error(all_runs):
    found = read_system(all_runs)
    rows = task_rows(found)
    losses = {row[0]: row[1] for (_, metric), row in rows.items() if metric == "loss"}
    assert losses == {name: "mse" if name == "stsb" else "loss" for name, _ in METRICS}
    assert [metric for name, metric in rows if name == "stsb"] == ["pearson", "spearman", "loss"]
    metrics = {(m["set"], m["metric"]): m for m in as_json(found)["metrics"]}
    assert metrics["stsb", "mse"]["median"] == 1.0 and ("stsb", "loss") not in metrics


@pytest.mark.parametrize("convention", BY_HAND)
def test_each_convention_by_hand(all_runs, convention):
    (row,) = (r for r in overall_rows(read_system(all_runs)) if r["convention"] == convention)
    assert row["score"] == pytest.approx(BY_HAND[convention], abs=1e-12)
    assert row["missing"] == [] and len(row["columns"]) == len(BY_NAME[convention].columns)


def test_a_score_is_over_what_was_run_and_says_so(tmp_path):
    for task in ("cola", "sst2", "stsb"):
        write_run(tmp_path, task)
    found = read_system(tmp_path)
    text = describe(found)
    score = 100 * (0.5 + 0.9 + 0.87) / 3
    rest = "without MRPC, QQP, MNLI, QNLI, RTE, WNLI"
    assert f"GLUE score: {score:.1f} over 3 of 9 columns, {rest}" in text
    glue = overall_rows(found)[0]
    bert = 100 * (0.565 + 0.923 + (0.886 + 0.885) / 2) / 3
    assert re.search(rf"{bert:.1f}  BERT-base-cased", text)
    assert list(glue["published"]) == ["BERT-base-cased, transformers' run_glue, dev"]


def test_mnli_needs_both_sets_where_they_count_together(tmp_path):
    write_run(tmp_path, "mnli")
    (tmp_path / "mnli-1" / "mnli-mm.json").unlink()
    found = read_system(tmp_path)
    columns = {row["convention"]: row["columns"] for row in overall_rows(found)}
    assert columns == {"GLUE": [], "BERT": ["MNLI-m"], "LoRA": [], "ELECTRA": ["MNLI"]}
    assert "GLUE score: - over 0 of 9 columns" in describe(found)


def test_seeds_give_median_range_and_ticks(tmp_path, capsys):
    for seed, accuracy in enumerate([0.7, 0.9, 0.89], start=1):
        write_run(tmp_path, "sst2", seed, accuracy=accuracy)
    write_run(tmp_path, "rte", accuracy=0.69)
    ScoreGlue(folders=(tmp_path,)).run()
    low, high = t.interval(0.95, 2, loc=0.83, scale=sem([0.7, 0.9, 0.89]))
    interval = [f"{low:.3f}", "to", f"{high:.3f}"]
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["sst2", "accuracy", "0.890", "0.700-0.900", "3", *interval, "✓", "0.88"] in lines
    assert ["rte", "accuracy", "0.690", "1", "✗", "0.70"] in lines
    assert ["rte", "loss", "1.000", "1"] in lines
    ScoreGlue(folders=(tmp_path,), json=True).run()
    (found,) = json.loads(capsys.readouterr().out)
    assert found["seconds"] == 8.0
    metric = next(m for m in found["metrics"] if m["set"] == "sst2")
    assert metric == {"set": "sst2", "metric": "accuracy", "median": 0.89,
                      "seeds": [0.7, 0.9, 0.89], "pass_mark": 0.88}  # fmt: skip
    assert found["overall"][0]["score"] == pytest.approx((0.89 + 0.69) / 2)


def test_runs_come_in_order_and_unfinished_ones_do_not_count(all_runs):
    (all_runs / "rte-2").mkdir()
    write_run(all_runs, "cola", seed=0)
    runs = [(run.task, run.record["config"]["seed"]) for run in read_runs(all_runs)]
    assert len(runs) == 10 and runs[:2] == [("cola", 0), ("cola", 1)]
    assert [run.task for run in read_runs(all_runs / "mnli-1")] == ["mnli"]


def test_folders_that_hold_no_runs_of_glue(tmp_path):
    with pytest.raises(ValueError, match="holds no finished run; make some: minbert glue run"):
        read_system(tmp_path)
    own = {"dev": {}, "config": MADE_UP_CONFIG | {"tasks": ["sst", "rte"]}}
    record = MADE_UP_RECORD | own
    write_json(tmp_path / "both" / "record.json", record)
    with pytest.raises(ValueError, match="a run of GLUE has one task"):
        read_system(tmp_path)
