"""The study: plans, deviations, and a runner that survives kills."""

import functools
import multiprocessing
import os
import re
import sys
import time
from dataclasses import replace
from pathlib import Path

import matplotlib.backends.backend_agg  # noqa: F401 - imported once, not in every fork
import pytest
import torch
from helpers import config, make_trainer, tiny

from minbert.files import read_json
from multitask.commands.main import parse
from multitask.experiments import queue
from multitask.experiments.jobs import missing
from multitask.experiments.queue import Queue
from multitask.extensions.one_segment import OneSegment
from multitask.study.deviations import DEVIATIONS, NAMES, apply, chosen
from multitask.study.folder import StudyFolder, merged
from multitask.study.plan import make_plan, parts_of, select_rows, settings_of
from multitask.study.table_rows import MAIN, SCALES, TASKS, rows

ROOT = Path(__file__).resolve().parent.parent
SCALE = SCALES["tiny"]
PARTS = ["embeddings", "layer 1", "layer 2", "pooler"]
ROWS = rows(SCALE, PARTS)


@functools.cache
def plan_of(*names, seeds=1, deviations=()):
    variant, found = chosen("corrected", deviations)
    wanted = select_rows(ROWS, names)
    return make_plan(wanted, SCALE, variant=variant, deviations=found, seeds=seeds)


# Recipes and plans


def test_the_published_figures_are_those_of_the_study():
    """Against the published table, typed a second time."""
    table = """
        frozen .404 .731 .587 .750 | ft .513 .886 .860 .844 | ft+pll .518 .885 .852 .850
        lora-1 .513 .873 .859 .861 | lora-2 .502 .882 .865 .861 | lora-4 .524 .882 .869 .862
        lora-8 .506 .884 .862 .861 | mt+lora-4 .513 .882 .864 .856
        mlm15-task+lora-4 .484 .858 .749 .761 | mlm15-task .529 .889 .866 .848
        mlm15-all .518 .889 .879 .841 | mlm30-task .535 .895 .874 .848
        mlm30-all .506 .893 .879 .837 | mt .523 .889 .866 .858
        mlm15-task+mt .527 .890 .882 .848 | mlm15-all+mt .514 .892 .877 .835
        mlm30-task+mt .540 .893 .885 .850"""
    found = {}
    for line in table.replace("|", "\n").strip().splitlines():
        if line.strip():
            name, *values = line.split()
            found[name] = tuple(map(float, values))
    assert {row.id: row.published for row in MAIN} == found


def test_every_row_ends_with_fine_tuning_of_one_task():
    plan = plan_of()
    assert {result.row for result in plan.results} == ROWS.keys()
    for result in plan.results:
        last = result.stages[-1]
        assert (last.kind, last.config.tasks) == ("finetune", (result.task,))
        assert all(after.start is before for before, after in zip(result.stages, result.stages[1:]))
        assert [stage.kind for stage in result.stages] == sorted(
            (stage.kind for stage in result.stages), key=["mlm", "multitask", "finetune"].index
        )


def test_rows_share_stages():
    plan = plan_of("mt", "mt+lora-4", "mlm15-task", "mlm30-task", "mlm15-task+mt", "mlm15-all")
    users = plan.users()
    kinds = {kind: [s for s in plan.stages if s.kind == kind] for kind in ("mlm", "multitask")}
    first_legs = [s for s in kinds["mlm"] if s.start is None]
    assert len(first_legs) == len(TASKS) + 1  # each task's own text, and all text
    for stage in first_legs:
        if len(stage.config.tasks) == 1:
            assert users[stage.name] == ["mlm15-task", "mlm30-task", "mlm15-task+mt"]
    (plain,) = [s for s in kinds["multitask"] if s.start is None]
    assert users[plain.name] == ["mt", "mt+lora-4"]
    assert len(plan.stages) < sum(len(result.stages) for result in plan.results)
    places = {stage.name: place for place, stage in enumerate(plan.stages)}
    assert all(places[s.start.name] < places[s.name] for s in plan.stages if s.start)


def test_points_of_figure_2_are_legs_of_the_rows():
    chain = plan_of("mlm30-task").results[0].stages[:-1]
    assert [s.config.seed for s in chain] == [11711, 12711]  # masks of their own
    for legs, result in enumerate(plan_of("mlm-1", "mlm-2").results, start=1):
        assert [s.name for s in result.stages[:-1]] == [s.name for s in chain[:legs]]


def test_full_scale_has_the_published_epochs():
    full = SCALES["full"]
    plan = make_plan([ROWS["mlm15-task"], ROWS["mlm30-all"]], full)
    epochs = [sum(s.config.epochs for s in r.stages if s.kind == "mlm") for r in plan.results]
    assert epochs == [15] * 4 + [30] * 4
    (multitask,) = {s for s in make_plan([ROWS["mt"]], full).stages if s.kind == "multitask"}
    assert (multitask.config.epochs, multitask.config.steps_per_epoch) == (3, 1000)


def test_small_scale_cuts_what_is_read_but_for_fine_tuning_on_cola():
    plan = make_plan([ROWS["frozen"], ROWS["mlm15-task"], ROWS["lora-4"]], SCALES["small"])
    limits = {(s.kind, *s.config.tasks): s.config.limit for s in plan.stages}
    assert limits == {
        **{("finetune", task): None if task == "cola" else 2000 for task in TASKS},
        **{("mlm", task): 2000 for task in TASKS},
    }


def test_medium_scale_has_ten_epochs_on_a_quarter_of_the_rows():
    plan = make_plan([ROWS["mlm30-task"], ROWS["mt"]], SCALES["medium"])
    assert {s.config.limit for s in plan.stages if s.kind != "multitask"} == {8544 // 4}  # of SST
    epochs = {s.config.epochs for s in plan.stages if s.kind == "finetune"}
    mlm = [sum(s.config.epochs for s in r.stages if s.kind == "mlm") for r in plan.results]
    assert epochs == {10} and mlm == [8] * 4 + [0] * 4


def test_a_stage_is_known_by_what_it_computes():
    stage = plan_of("ft").stages[0]
    name = stage.name
    same = replace(stage.config, device="cpu", data_dir=Path("elsewhere"), log_every=3)
    assert replace(stage, config=same).name == name
    assert replace(stage, config=replace(stage.config, lr=1.0)).name != name
    assert replace(stage, start=stage).name != name
    assert len({s.name for s in plan_of("ft", seeds=3).stages}) == 3 * len(TASKS)


def test_an_unknown_row_or_deviation_lists_the_known():
    with pytest.raises(ValueError, match="no row is called 'nope'; known are frozen, ft"):
        select_rows(ROWS, ["nope"])
    with pytest.raises(ValueError, match="no task of the study is called 'qqp'; known are sst, "):
        select_rows(ROWS, ["ft"], ["qqp"])
    with pytest.raises(ValueError, match="only-layer-1 is about sts alone; add it to tasks"):
        select_rows(ROWS, ["ft", "only-layer-1"], ["sst"])
    with pytest.raises(ValueError, match=r"no deviation is called 'nope'; known are .*slow-lora"):
        chosen("corrected", ["nope"])


def test_rows_on_some_tasks_are_the_same_stages():
    every = plan_of("ft", "mt")
    some = make_plan(select_rows(ROWS, ["ft", "mt"], ["sts", "sst"]), SCALE)
    wanted = [r for r in every.results if r.task in ("sst", "sts")]
    assert list(some.results) == wanted and len(wanted) == 4
    assert {row.id for row in select_rows(ROWS, (), ["cola"])} == {
        name for name, row in ROWS.items() if "cola" in row.tasks
    }


def test_the_latest_plan_says_how_a_row_is_made(tmp_path):
    """A recipe was changed between two calls: the tables follow the later one."""
    study = StudyFolder(tmp_path, "tiny", "minilm", tmp_path)
    plans = [make_plan([ROWS["ft"]], replace(SCALE, epochs=epochs)) for epochs in (2, 3)]
    for plan in (*plans, *plans):
        for path in (tmp_path / "plans").glob("*"):
            os.utime(path, (0, 0))
        study.add_plan(plan)
        (latest,) = merged(study.plans())
        assert latest["results"] == sorted(plan.to_dict()["results"], key=lambda r: r["task"])


# Deviations


def differences(name):
    """(row, task, kind) -> settings that a deviation changes in that place, over all rows."""
    found = {}
    plain, changed = plan_of(), plan_of(deviations=(name,))
    for before, after in zip(plain.results, changed.results, strict=True):
        for one, other in zip(before.stages, after.stages, strict=True):
            a, b = settings_of(one.config), settings_of(other.config)
            diff = {k: (a.get(k), b.get(k)) for k in {**a, **b} if a.get(k) != b.get(k)}
            if diff:
                found.setdefault((before.row, before.task, one.kind), diff)
    return found


def changed_extensions(diff):
    before, after = ({e["name"]: e for e in values or []} for values in diff["extensions"])
    return {name: e for name, e in after.items() if before.get(name) != e}


EXPECTED = {
    "slow-lora": (
        lambda row, task, kind: row == "mlm15-task+lora-4" and kind == "finetune",
        lambda diff: diff == {"lr": (1e-3, 1e-5)},
    ),
    "cola-left-out": (
        lambda row, task, kind: kind == "multitask" and row not in ("mt-surgery", "mt-together"),
        lambda diff: (
            diff.keys() == {"extensions"}
            and changed_extensions(diff) == {"sampling": {"name": "sampling", "leave_out": "cola"}}
        ),
    ),
    "sts-for-cola": (
        lambda row, task, kind: kind == "mlm" and task == "cola" and "all" not in row,
        lambda diff: diff == {"tasks": (["cola"], ["sts"])},
    ),
    "masks-alone": (
        lambda row, task, kind: kind == "mlm",
        lambda diff: diff == {"mask_share": (None, 1.0), "random_share": (None, 0.0)},
    ),
    "divided-twice": (
        lambda row, task, kind: kind == "multitask" or (kind == "finetune" and task != "sst"),
        lambda diff: (
            diff.keys() == {"extensions"}
            and all(
                weight == 1 / 16 and task in ("para", "sts", "cola")
                for task, weight in changed_extensions(diff)["loss_weights"]["weights"].items()
            )
        ),
    ),
    "uneven-runs": (
        lambda row, task, kind: kind == "finetune",
        lambda diff: diff.keys() <= {"epochs", "batch_size"} and diff,
    ),
    "lora-everywhere": (
        lambda row, task, kind: "lora" in row and kind == "finetune",
        lambda diff: (
            diff.keys() == {"extensions"}
            and changed_extensions(diff).keys() == {"lora"}
            and changed_extensions(diff)["lora"]["targets"] == ("all",)
            and changed_extensions(diff)["lora"]["alpha"] == 1.0
        ),
    ),
    "one-segment": (
        lambda row, task, kind: task in ("para", "sts") or kind == "multitask" or "all" in row,
        lambda diff: changed_extensions(diff) == {"one_segment": {"name": "one_segment"}},
    ),
}


def test_there_are_the_eight_deviations():
    assert sorted(d.number for d in DEVIATIONS) == list(range(1, 9))
    assert EXPECTED.keys() == NAMES.keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPECTED)
def test_a_deviation_changes_what_it_says_and_nothing_else(name):
    touches, changes = EXPECTED[name]
    found = differences(name)
    assert found
    for (row, task, kind), diff in found.items():
        assert touches(row, task, kind), (row, task, kind)
        assert changes(diff), (row, task, kind, diff)
    if name in ("slow-lora", "masks-alone", "divided-twice", "cola-left-out", "lora-everywhere"):
        places = {(r.row, r.task, s.kind) for r in plan_of().results for s in r.stages}
        assert {place for place in places if touches(*place)} == found.keys()


def test_as_published_has_all_of_them_and_corrected_none():
    config = plan_of("lora-4").stages[1].config
    assert apply((), config, row="lora-4", task="para") == config
    assert chosen("corrected") == ("corrected", ())
    assert chosen("as-published") == ("as-published", DEVIATIONS)
    variant, found = chosen("corrected", ["masks-alone", "slow-lora"])
    assert variant == "corrected+slow-lora+masks-alone" and len(found) == 2


# Runs


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tiny(tmp_path_factory.mktemp("study"))


def study_of(home, out):
    return StudyFolder(out, "tiny", str(home / "backbone"), home / "data")


@pytest.fixture
def forked(monkeypatch):
    """Stages in forks of this process, which has its imports done."""
    monkeypatch.setattr(queue, "_context", lambda: multiprocessing.get_context("fork"))
    monkeypatch.setattr(queue, "POLL", 0.05)


def queue_of(study, plan, keep_weights="starts"):
    return Queue(study.jobs_of(plan, device="cpu"), keep_weights=keep_weights)


def in_a_process(study, plan):
    """Start a runner as another process would."""
    process = multiprocessing.get_context("fork").Process(
        target=lambda: sys.exit(0 if queue_of(study, plan).work() else 1)
    )
    process.start()
    return process


def finished(study, plan):
    """Stage -> when its record was written."""
    runs = {stage.name: study.run_of(stage.name) for stage in plan.stages}
    return {n: r.record_path.stat().st_mtime_ns for n, r in runs.items() if r.record_path.exists()}


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_a_killed_study_goes_on_and_two_processes_share_the_work(home, tmp_path, forked, capfd):
    plan = plan_of("mlm-1", "mlm-2", "only-layer-1", "only-layer-2")
    study = study_of(home, tmp_path)
    study.create()
    first = in_a_process(study, plan)
    wait_until(lambda: len(finished(study, plan)) >= 2)
    first.kill()
    first.join()
    before = finished(study, plan)
    assert 2 <= len(before) < len(plan.stages)

    capfd.readouterr()
    both = [in_a_process(study, plan) for _ in range(2)]
    for process in both:
        process.join()
    out = capfd.readouterr().err
    assert [process.exitcode for process in both] == [0, 0], out
    done = [line.split()[1].rstrip(":") for line in out.splitlines() if line.startswith("done: ")]
    assert len(done) == len(set(done))  # none was run by both
    after = finished(study, plan)
    assert after.keys() == {stage.name for stage in plan.stages}
    assert {name: after[name] for name in before} == before  # none was run again
    assert not list(study.folder.rglob(".*"))  # neither locks nor half-written files
    starts = {s.start.name for s in plan.stages if s.start}
    kept = {s.name for s in plan.stages if study.run_of(s.name).best.exists()}
    assert kept == starts
    assert not list((study.folder / "stages").glob("*/last.safetensors"))


@pytest.mark.slow
def test_a_failed_stage_stops_what_needs_it_and_nothing_else(home, tmp_path, forked, capsys):
    study = study_of(home, tmp_path)
    plan = plan_of("mlm-1", "only-layer-1")
    study.create()
    broken = plan.stages[0]
    place = study.run_of(broken.name).folder
    place.parent.mkdir()
    place.write_text("a file where a folder is wanted", encoding="utf-8")
    session = queue_of(study, plan)
    assert not session.work()
    assert set(session.failed) == {broken.name}
    left = {job.name for job in missing(session.jobs)}
    assert left == {s.name for s in plan.stages if broken in s.chain}
    assert "failed" in capsys.readouterr().err
    place.unlink()
    assert queue_of(study, plan, keep_weights="none").work()
    assert not list(tmp_path.glob("stages/*/*.safetensors"))


@pytest.mark.slow
def test_the_commands_run_show_and_report_a_study(home, tmp_path, forked, capsys):
    places = ["--backbone", str(home / "backbone"), "--data-dir", str(home / "data"),
              "--out", str(tmp_path / "study")]  # fmt: skip
    words = ["only-layer-1", "frozen", *places]
    parse(["study", "plan", *words]).run()
    shown = capsys.readouterr().out
    assert "5 results from 5 stages, 0 of them finished" in shown
    assert not (tmp_path / "study").exists()
    parse(["study", "run", *words, "--device", "cpu"]).run()
    shown = capsys.readouterr()
    assert shown.err.count("done: ") == 5 and "finished: " in shown.out
    parse(["study", "run", *words, "--device", "cpu"]).run()
    shown = capsys.readouterr()
    assert "5 of them finished" in shown.out and "done: " not in shown.err
    parse(["study", "status", str(tmp_path / "study")]).run()
    assert "5 of 5 stages are finished" in capsys.readouterr().out
    parse(["study", "compare", str(tmp_path / "study"), "frozen", "only-layer-1"]).run()
    header, _, *lines = capsys.readouterr().out.splitlines()
    assert header.split()[:5] == ["row", "task", "metric", "seeds", "first"]
    cells = {line.split()[2]: line.split()[:6] for line in lines}
    assert cells.keys() == {"pearson", "spearman"}  # STS is what both have
    records = map(read_json, tmp_path.glob("study/stages/finetune-sts-*/record.json"))
    (expected,) = (r["dev"]["sts"]["pearson"] for r in records if r["config"]["frozen"])
    assert cells["pearson"][:2] == ["only-layer-1", "sts"] and cells["pearson"][3:5] == ["1,", "1"]
    assert float(cells["pearson"][5]) == pytest.approx(expected, abs=6e-4)
    for names, message in (["frozen"], "at least two"), (["frozen", "mt"], "no task in common"):
        with pytest.raises(ValueError, match=message):
            parse(["study", "compare", str(tmp_path / "study"), *names]).run()
    parse(["report", str(tmp_path / "study")]).run()
    text = (tmp_path / "study" / "Report.md").read_text(encoding="utf-8")
    score = read_json(next(tmp_path.glob("study/stages/finetune-cola-*/record.json")))["dev"]
    assert f" {score['cola']['accuracy']:.3f} |" in text
    for link in re.findall(r"\]\(([^)]+)\)", text):
        here = link.startswith("#") and f'id="{link[1:]}"' in text
        assert here or (tmp_path / "study" / link).exists(), link


def test_a_study_keeps_to_its_scale_and_data(home, tmp_path):
    study = study_of(home, tmp_path)
    study.create()
    study.create()
    with pytest.raises(ValueError, match="holds a study with another scale"):
        replace(study, scale="small").create()
    assert StudyFolder.open(tmp_path) == study
    plan = plan_of("ft")
    study.add_plan(plan)
    study.add_plan(plan)
    assert study.plans() == [plan.to_dict()]
    assert read_json(tmp_path / "study.json")["scale"] == "tiny"


def test_one_segment_encodes_pairs_without_segment_ids(home):
    settings = config(home, tasks=("sts",))
    plain = make_trainer(settings)
    changed = make_trainer(config(home, tasks=("sts",), extensions=(OneSegment(),)))
    batch = plain.data["sts"].train.batch(range(5))
    assert batch.token_type_ids.max() == 1
    without = replace(batch, token_type_ids=torch.zeros_like(batch.token_type_ids))
    plain.model.eval(), changed.model.eval()
    found = changed.model(batch, "sts")
    assert not torch.allclose(found, plain.model(batch, "sts"))
    assert torch.equal(found, plain.model(without, "sts"))
    found.sum().backward()
    segments = changed.model.encoder.embeddings.token_type.weight
    assert segments.grad[0].abs().sum() > 0
    assert segments.grad[1].abs().sum() == 0


def test_parts_of_a_backbone(home):
    assert parts_of(str(home / "backbone")) == PARTS
