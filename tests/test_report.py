"""The report: tables and figures from records alone, the same from the same records."""

import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import MADE_UP_CONFIG, MADE_UP_RECORD, contents, write_table

from data.tasks import TASKS, get_task
from minbert.files import read_json, write_json, write_text
from multitask.analysis import analyse
from multitask.evaluate import Evaluation
from multitask.report import document, study_figures, study_tables
from multitask.report.document import FIGURES, MARKER, TITLES, redraw, report_on_records, skeleton
from multitask.report.keeping import keep
from multitask.report.records import Study
from multitask.report.run_blocks import BLOCKS
from multitask.study.deviations import chosen
from multitask.study.folder import merged
from multitask.study.plan import make_plan
from multitask.study.table_rows import MAIN, SCALES, rows
from multitask.study.table_rows import TASKS as STUDIED

NAME = "made-up"
PARTS = ["embeddings", *(f"layer {n}" for n in range(1, 7)), "pooler"]


def made_up_evaluation(task, draw, count=300):
    """Answers with about the right share of mistakes."""
    ids = tuple(f"{task.name}-{n}" for n in range(count))
    if task.kind == "regression":
        labels = draw.uniform(0, 5, count)
        answers = np.clip(labels + draw.normal(0, 0.8, count), 0, 5)
        return Evaluation(ids=ids, answers=answers, probabilities=None, labels=labels, metrics={})
    classes = len(task.classes)
    labels = draw.integers(classes, size=count)
    logits = 2.0 * np.exp(-np.abs(np.arange(classes) - labels[:, None]))
    logits += draw.normal(0, 0.7, (count, classes))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    answers = probabilities.argmax(axis=1)
    return Evaluation(
        ids=ids, answers=answers, probabilities=probabilities, labels=labels, metrics={}
    )


def made_up_record(stage, number):
    """A record with the shape of a real one."""
    draw = np.random.default_rng(number)
    mlm = stage.kind == "mlm"
    names = ["mlm"] if mlm else list(stage.config.tasks)
    chance = {"accuracy": 0.6, "pearson": 0.7, "spearman": 0.7, "matthews": 0.3, "loss": 1.0}
    scores = {
        name: {
            metric: chance.get(metric, 0.5) + float(draw.uniform(0, 0.2))
            for metric in (*get_task(name).metrics, "loss")
        }
        for name in names
    }
    trained = 20_000 * len(stage.config.extensions) + 100_000
    record = MADE_UP_RECORD | {
        "kind": stage.kind,
        "start": stage.start.name if stage.start else None,
        "dev": scores,
        "analysis": {} if mlm else
        {name: analyse(TASKS[name], made_up_evaluation(TASKS[name], draw)) for name in names},
        "seconds": float(draw.integers(10, 100)),
        "parameters": {"trained": trained, "all": 22_000_000},
        "curves": {
            "loss": {name: [[s, 2.0 / (s + 1) + 0.3] for s in range(1, 30, 3)] for name in names},
            "dev": {name: [[e, 0.5 + 0.1 * e] for e in (1, 2)] for name in names},
        },
        "config": MADE_UP_CONFIG | {"epochs": stage.config.epochs, "seed": stage.config.seed},
    }  # fmt: skip
    if any(e.combines for e in stage.config.extensions):
        matrix = np.eye(4) + 0.1 * draw.normal(size=(4, 4))
        mean = ((matrix + matrix.T) / 2).round(4).tolist()
        record["cosines"] = {"tasks": list(STUDIED), "steps": 9, "mean": mean, "below_0": mean}
    return record


def write_study(records, seeds=2, only=None):
    """The records of a study that was never run, in both presets."""
    scale = SCALES["small"]
    known = rows(scale, PARTS)
    folder = records / NAME
    write_json(folder / "study.json", {"scale": "small", "backbone": "minilm", "data_dir": "d"})
    for preset, wanted in (("corrected", only or known), ("as-published", ["mt", "lora-4"])):
        variant, deviations = chosen(preset)
        plan = make_plan([known[row] for row in wanted], scale, variant=variant,
                         deviations=deviations, seeds=seeds)  # fmt: skip
        write_json(folder / "plans" / f"{variant}.json", plan.to_dict())
        for number, stage in enumerate(plan.stages):
            path = folder / "stages" / f"{stage.name}.json"
            if not path.exists():
                write_json(path, made_up_record(stage, number))
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with a report, a README and the records of a made-up study."""
    root = tmp_path_factory.mktemp("project")
    folder = write_study(root / "records")
    prose = "Some words of a person.\n"
    text = skeleton(Study.of_records(folder)).replace("\n## Table 1", f"\n{prose}\n## Table 1")
    write_text(root / "Report.md", text + "\nThe end, by hand.\n")
    write_text(root / "README.md", "".join(("# Top\n", *document.RESULTS, "Below.\n")))
    report_on_records([root / "Report.md", root / "README.md"], root / "records")
    return root


@pytest.mark.slow
def test_deleted_figures_come_back_the_same(project):
    before = contents(project / "figures")
    text = (project / "Report.md").read_bytes()
    assert before.keys() == {f"{NAME}-{block.removeprefix('figure-')}.svg" for block in FIGURES}
    assert all(figure.startswith(b"<?xml") for figure in before.values())
    shutil.rmtree(project / "figures")
    report_on_records([project / "Report.md", project / "README.md"], project / "records")
    assert contents(project / "figures") == before
    assert (project / "Report.md").read_bytes() == text


@pytest.mark.slow
def test_prose_outside_the_markers_stays(project):
    text = (project / "Report.md").read_text(encoding="utf-8")
    assert "\nSome words of a person.\n\n## Table 1" in text
    assert text.endswith("\nThe end, by hand.\n")
    assert (project / "README.md").read_text(encoding="utf-8").startswith("# Top\n")


@pytest.mark.slow
def test_a_report_shows_what_the_records_say(project):
    study = Study.of_records(project / "records" / NAME)
    scores = study.scores("corrected", "ft+pll", "sst")
    assert len(scores) == 2
    mean, spread = np.mean(scores), np.std(scores, ddof=1)
    text = (project / "Report.md").read_text(encoding="utf-8")
    (line,) = [row for row in study_tables.scores_table(study, "table-1").splitlines()
               if row.startswith("| `ft+pll`")]  # fmt: skip
    cells = [cell.strip() for cell in line.split("|")[1:-1]]
    assert cells[2:7] == ["0.518", "0.885", "0.852", "0.850", f"{mean:.3f} ± {spread:.3f}"]
    assert line in text
    assert "SST 0.557, PARA 0.892, STS 0.871, overall 0.795" in text
    for block in TITLES:
        assert f"<!-- report: {NAME}/{block} -->" in text


@pytest.mark.slow
def test_every_score_has_its_record(project):
    study = Study.of_records(project / "records" / NAME)
    table = study_tables.records_table(study)
    text = (project / "Report.md").read_text(encoding="utf-8")
    assert table in text
    without = {"notes", "deviations", "records"}
    assert text.count(f"(#{NAME}-records)") == len(set(TITLES) - without)
    for plan in study.plans:
        for result in plan["results"]:
            last, before = result["stages"][-1], result["stages"][:-1]
            begin = f"| `{result['row']}` | {plan['variant']} |"
            (line,) = [line for line in table.splitlines() if line.startswith(begin)]
            cells = [cell.strip() for cell in line.split("|")[3:-1]]
            links = [f"[{result['seed']}](records/{NAME}/stages/{last}.json)"]
            links += [f"[{name}](records/{NAME}/stages/{name}.json)" for name in before]
            assert links[0] in cells[STUDIED.index(result["task"])].split(", ")
            assert set(links[1:]) <= set(cells[-1].split(", "))


def test_every_row_of_the_study_is_in_a_table():
    shown = [row for section in study_tables.SECTIONS.values() for row in section]
    assert len(shown) == len(set(shown))
    assert set(shown) == set(study_tables.BY_ID)
    assert {row.id for row in MAIN} <= set(shown)


@pytest.mark.slow
def test_records_that_are_missing_are_said_to_be(tmp_path):
    folder = write_study(tmp_path / "records", seeds=1, only=["ft"])
    study = Study.of_records(folder)
    path = tmp_path / "Report.md"
    write_text(path, skeleton(study))
    redraw(path, lambda name: study)
    text = path.read_text(encoding="utf-8")
    assert text.count("There is no record of these rows yet") >= 5
    assert "| `ft` | full fine-tuning | 0.513" in text
    assert {p.name for p in (tmp_path / "figures").iterdir()} == {
        f"{NAME}-curves.svg", f"{NAME}-errors.svg"
    }  # fmt: skip
    nothing = Study.of_records(tmp_path / "records" / "nowhere")
    redraw(path, lambda name: nothing)
    assert (
        path.read_text(encoding="utf-8").count("There is no record of these rows yet")
        == len(TITLES) - 1
    )


@pytest.mark.slow
def test_a_wrong_marker_is_an_error(project, tmp_path):
    study = Study.of_records(project / "records" / NAME)
    path = tmp_path / "Report.md"
    write_text(path, f"<!-- report: {NAME}/table-9 -->\n<!-- end of {NAME}/table-9 -->\n")
    with pytest.raises(ValueError, match="no block is called 'table-9'; known are notes, table-1"):
        redraw(path, lambda name: study)
    write_text(path, f"<!-- report: {NAME}/table-1 -->\n")
    with pytest.raises(ValueError, match="lacks the lines"):
        redraw(path, lambda name: study)


@pytest.mark.slow
def test_mistakes_have_their_texts_where_the_data_is(project, tmp_path):
    study = Study.of_records(project / "records" / NAME)
    (*_, last) = study.results("corrected", "ft", "para")[0]
    number = last["analysis"]["para"]["worst"][0]["id"]
    head = ["", "id", "sentence1", "sentence2", "is_duplicate"]
    pair = [0, number, "one | two ?", "two or one ?", 1]
    write_table(tmp_path / "quora-dev.csv", [head, pair])
    lines = study_tables.worst_table(study, "ft").splitlines()
    there = study_tables.worst_table(replace(study, data_dir=tmp_path), "ft").splitlines()
    assert len(lines) == len(there) and not any("one" in line for line in lines[2:])
    assert lines[0] == "| task | id | label | answer | probability |"
    assert there[0] == "| task | id | label | answer | text | probability |"
    with_text = [(a, b) for a, b in zip(lines, there) if f"`{number}`" in a]
    for without, line in with_text:
        start, end = without.rsplit("|", 2)[0], without.rsplit("|", 2)[1]
        assert line == rf"{start}| one \| two ? / two or one ? |{end}|"
    assert len(with_text) == 1


def test_published_curves_have_their_lengths():
    assert len(study_figures.FIGURE_1) == 14 and max(study_figures.FIGURE_1) == 0.839
    assert len(study_figures.FIGURE_2) == 31 and study_figures.FIGURE_2[-1] == 0.535


def test_plans_of_a_variant_are_one():
    def plan(variant, *rows):
        results = [{"row": r, "task": "sst", "seed": 1, "stages": [r]} for r in rows]
        return {"variant": variant, "results": results}

    found = merged([plan("as-published", "a"), plan("corrected", "b"), plan("corrected", "a", "b")])
    assert [p["variant"] for p in found] == ["corrected", "as-published"]
    assert [r["row"] for r in found[0]["results"]] == ["a", "b"]


def test_the_command_of_rows_on_some_tasks_names_the_tasks(tmp_path):
    write_study(tmp_path, only=["ft"])
    path = tmp_path / NAME / "plans" / "corrected.json"
    plan = read_json(path, dict)
    everything = study_tables.notes(Study.of_records(tmp_path / NAME))
    plan["results"] = [r for r in plan["results"] if r["task"] in ("sts", "sst")]
    write_json(path, plan)
    some = study_tables.notes(Study.of_records(tmp_path / NAME))
    assert "run ft --scale small --preset corrected" in everything
    assert "run ft --tasks sst sts --scale small --preset corrected" in some
    assert "--seeds 2`: 4 of 4 results" in some


# What a record holds


def test_the_analysis_counts_what_is_wrong():
    draw = np.random.default_rng(0)
    evaluation = made_up_evaluation(TASKS["sst"], draw)
    found = analyse(TASKS["sst"], evaluation)
    confusion = np.array(found["confusion"])
    assert confusion.sum() == len(evaluation.ids)
    right = evaluation.answers == evaluation.labels
    assert np.trace(confusion) == right.sum()
    assert confusion[1, 2] == np.sum((evaluation.labels == 1) & (evaluation.answers == 2))
    confidence = evaluation.probabilities.max(axis=1)
    error = 0.0
    for low in np.arange(10) / 10:
        inside = (confidence >= low) & (confidence < low + 0.1)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert found["expected_calibration_error"] == pytest.approx(error, abs=1e-4)
    assert sum(rows for rows, _, _ in found["calibration"]) == len(evaluation.ids)
    surest = max(np.flatnonzero(~right), key=lambda row: confidence[row])
    assert found["worst"][0]["id"] == evaluation.ids[surest]
    assert len(found["worst"]) == 10

    evaluation = made_up_evaluation(TASKS["sts"], draw)
    found = analyse(TASKS["sts"], evaluation)
    deviation = evaluation.answers - evaluation.labels
    for edge, count in found["deviations"]:
        assert count == np.sum((deviation >= edge) & (deviation < edge + 0.25))
    assert sum(count for _, count in found["deviations"]) == len(deviation)
    assert found["worst"][0]["id"] == evaluation.ids[np.abs(deviation).argmax()]


@pytest.mark.slow
def test_a_record_is_small_and_has_no_path(tmp_path):
    from helpers import config, tiny

    from multitask import train
    from multitask.extensions.gradient_surgery import GradientSurgery

    home = tiny(tmp_path / "home")
    run = train(config(home, epochs=1, extensions=(GradientSurgery(),)), progress=False)
    path = keep(run.folder, tmp_path / "records")
    record = read_json(path)
    assert path.name == f"{run.folder.name}.json"
    assert path.stat().st_size < 20_000
    assert str(tmp_path) not in path.read_text(encoding="utf-8")
    steps = [line for line in run.metrics() if line["kind"] == "cosines"]
    mean = np.mean([line["cosines"] for line in steps], axis=0)
    assert record["cosines"]["tasks"] == ["sst", "sts"]
    assert np.allclose(record["cosines"]["mean"], mean, atol=1e-4)
    losses = [line["loss"] for line in run.metrics()
              if line["kind"] == "step" and line["task"] == "sst"]  # fmt: skip
    assert record["curves"]["loss"]["sst"] == [
        [number, round(loss, 4)] for number, loss in enumerate(losses, start=1)
    ]
    assert len(record["curves"]["dev"]["sts"]) == 1
    assert set(record["analysis"]) == {"sst", "sts"}


def test_long_curves_are_shortened():
    from multitask.report.records import _losses

    draw = random.Random(0)
    lines = [{"kind": "step", "step": n, "task": "sst", "loss": draw.random()} for n in range(1000)]
    points = _losses(lines)["sst"]
    assert len(points) == 40 and points[-1][0] == 1000
    assert points[3][1] == pytest.approx(sum(line["loss"] for line in lines[75:100]) / 25, abs=1e-4)


def test_the_projects_report_has_every_block():
    """And each is drawn from the records: see test_made_files.py."""
    text = (Path(__file__).parent.parent / "Report.md").read_text(encoding="utf-8")
    found = {block for _, block in MARKER.findall(text)}
    assert {*TITLES, *BLOCKS} - found == {"sweeps", "figure-batch-sizes", "figure-warmups"}
    assert not found - {*TITLES, *BLOCKS}
