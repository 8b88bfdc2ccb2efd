"""The report's blocks about folders of runs: from kept records alone, the same from the same."""

import re
import runpy
import shutil
from dataclasses import asdict, replace
from math import log
from pathlib import Path

import pytest
from helpers import MADE_UP_CONFIG, MADE_UP_RECORD, config, contents, tiny, write_data_with_bad_rows

from data.tasks import get_task
from minbert.files import read_json, write_json, write_text
from multitask import train, training
from multitask.commands.study_commands import Report
from multitask.glue import peft
from multitask.glue.score import CONVENTIONS
from multitask.report.document import redraw
from multitask.report.keeping import keep
from multitask.report.latex_text import escaped
from multitask.report.records import Study
from multitask.report.run_blocks import BLOCKS, batches_rows
from multitask.report.run_set import RunSet

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
FOLDERS = {
    "glue": ("tasks", "overall"),
    "peft": (
        "methods",
        "figure-parameters",
        "figure-rates",
        "sweeps",
        "figure-batch-sizes",
        "figure-warmups",
    ),
    "accumulation": ("batches",),
    "ensembles": ("comparison",),
    "encoders": ("encoders", "figure-perplexity"),
    "plateau": ("plateau",),
}
CURVE = [[10, 1.5, 900.0], [20, 3.25, 420.5], [30, 5.0, 300.25]]


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch):
    monkeypatch.setattr(training, "draw_run", lambda run: None)


def made_up_record(dev, task=None, **settings):
    """What the blocks read of a record."""
    whole = {
        name: dict.fromkeys(get_task(name.removesuffix("-mm")).metrics, 0.25) | scores
        for name, scores in dev.items()
    }
    own = {"tasks": [task or next(iter(dev))], **settings}
    return MADE_UP_RECORD | {"dev": whole, "steps": 1100, "config": MADE_UP_CONFIG | own}


def glue_runs():
    runs = {
        f"mrpc-{seed}": made_up_record({"mrpc": {"f1": f1, "accuracy": f1 - 0.1}}) | {"seconds": s}
        for seed, f1, s in ((1, 0.90, 30.0), (2, 0.70, 50.0), (3, 0.85, 70.0))
    }
    runs["mnli-1"] = made_up_record(
        {"mnli": {"accuracy": 0.81}, "mnli-mm": {"accuracy": 0.79}}, lr=2e-5, limit=5000
    )
    return runs


def points():
    """Two tasks, each method at its rates, LoRA at two ranks."""
    found = []
    for task in ("cola", "mrpc"):
        for number, (method, rates) in enumerate(peft.RATES.items()):
            for place, lr in enumerate(rates):
                for rank in (4, 8) if method.startswith("LoRA") else (None,):
                    if rank == 4 and place != 2:
                        continue
                    score = 0.5 - 0.1 * abs(place - 2) + 0.02 * number
                    name = f"{task}/{number}-{rank}-{lr:g}"
                    found.append(
                        peft.Point(
                            task=task, method=method, rank=rank, lr=lr, seed=1, score=score,
                            trained=10 ** (number + 3), seconds=12.0, run=name,
                        )
                    )  # fmt: skip
    at_best = [p for p in found if p.lr == peft.RATES[p.method][2] and p.rank in (None, 8)]
    for p in at_best:
        for size in (16, 32):
            found.append(replace(p, sweep="batch size", batch_size=size, score=size / 64))
        found.append(replace(p, sweep="warm-up", warmup=0.3, score=0.75))
    return found


def encoder_points():
    return [
        {
            "encoder": name, "run": f"{name}-mlm", "tuned": f"{name}-sst2", "layers": 400_000,
            "embeddings": 200_000, "tokens": 1000, "characters": 4000,
            "curve": [[step, seconds * slow, value] for step, seconds, value in CURVE],
        }
        for name, slow in (("bert", 1), ("convbert", 1.5), ("modernbert", 2))
    ]  # fmt: skip


def plateau_points():
    return [
        {
            "start": start, "change": "as it is", "run": f"{start}-{seed}", "left": left,
            "first_norm": 10.0 * seed, "plateau_norm": 4.0, "after_norm": left and 6.0,
        }
        for start, seed, left in (("minilm", 1, 70), ("minilm", 2, 90), ("after MLM", 1, None))
    ]  # fmt: skip


def write_records(folder):
    """Records of five folders of runs that never were."""
    RunSet("glue", glue_runs(), {}).write(folder / "glue")
    metric = {"cola": "matthews", "mrpc": "f1"}
    runs = {p.run: made_up_record({p.task: {metric[p.task]: p.score}}) for p in points()}
    RunSet("peft", runs, {"peft.json": [asdict(p) for p in points()]}).write(folder / "peft")
    runs = {
        f"mrpc-{size}-{precision}": made_up_record(
            {"mrpc": {"f1": 0.8125}}, batch_size=size, accumulate=32 // size, precision=precision
        )
        for size in (8, 32)
        for precision in ("bf16", "fp32")
    }
    RunSet("accumulation", runs, {}).write(folder / "accumulation")
    runs = {}
    for point in encoder_points():
        mlm = {"mlm": {"perplexity": 300.25, "loss": log(300.25)}}
        runs[point["run"]] = made_up_record(mlm, "sst", command="pretrain")
        runs[point["tuned"]] = made_up_record({"sst2": {"accuracy": 0.75}})
    RunSet("encoders", runs, {"encoders.json": encoder_points()}).write(folder / "encoders")
    runs = {f"sst-{n}": made_up_record({"sst": {"accuracy": 0.5, "loss": 1 + n}}) for n in (1, 2)}
    analysis = {"worst": [], "confusion": [[0] * 5] * 5, "calibration": [[1, 0.5, 0.5]]}
    analysis["expected_calibration_error"] = 0.125
    runs = {name: record | {"analysis": {"sst": analysis}} for name, record in runs.items()}
    RunSet("ensembles", runs, {"comparison.json": compared_points()}).write(folder / "ensembles")
    runs = {p["run"]: made_up_record({"sts": {"pearson": 0.75}}) for p in plateau_points()}
    RunSet("plateau", runs, {"plateau.json": plateau_points()}).write(folder / "plateau")
    return folder


def compared_points():
    beside = {"score": 0.625, "difference": 0.125, "low": -0.25, "high": 0.5, "p": 0.031}
    points = [
        ("sst", None, {"score": 0.5}),
        ("mean of sst", "mean", beside),
    ]
    return [
        {
            "name": name, "runs": ["sst-1", "sst-2"], "together": together,
            "scores": {"sst": {"accuracy": score, "macro_f1": score}},
        }
        for name, together, score in points
    ]  # fmt: skip


def report(path, *marks):
    """A report with these marks alone, drawn from the records beside it."""
    lines = [f"<!-- report: {mark} -->\n<!-- end of {mark} -->\n" for mark in marks]
    write_text(path, "".join(lines))
    records = path.parent / "records"
    redraw(path, lambda name: Study.of_records(records / name), records)
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with made-up records, and a report with every block."""
    root = tmp_path_factory.mktemp("project")
    write_records(root / "records")
    marks = [f"{name}/{block}" for name, blocks in FOLDERS.items() for block in blocks]
    assert {mark.split("/")[1] for mark in marks} == BLOCKS.keys()
    report(root / "Report.md", *marks)
    return root


def rows_of(text, block):
    """The cells of a block's first table, below its header."""
    inside = re.search(rf"<!-- report: \S+/{block} -->\n(.*?)<!-- end", text, re.S)[1]
    lines = [line for line in inside.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]]


# What the blocks show


@pytest.mark.slow
def test_drawn_again_the_files_are_the_same(project):
    text, before = (project / "Report.md").read_bytes(), contents(project / "figures")
    names = ("parameters", "rates", "batch-sizes", "warmups")
    assert before.keys() == {*(f"peft-{n}.svg" for n in names), "encoders-perplexity.svg"}
    assert all(figure.startswith(b"<?xml") for figure in before.values())
    shutil.rmtree(project / "figures")
    redraw(project / "Report.md", Study.of_records, project / "records")
    assert (project / "Report.md").read_bytes() == text
    assert contents(project / "figures") == before


@pytest.mark.slow
def test_a_changed_record_changes_its_figure(project, tmp_path):
    shutil.copytree(project / "records", tmp_path / "records")
    path = tmp_path / "records" / "encoders" / "encoders.json"
    changed = read_json(path)
    changed[0]["curve"][1][2] = 500.0
    write_json(path, changed)
    report(tmp_path / "Report.md", "encoders/figure-perplexity")
    name = "encoders-perplexity.svg"
    drawn = [(folder / "figures" / name).read_bytes() for folder in (project, tmp_path)]
    assert drawn[0] != drawn[1]


def test_a_figure_has_no_background_and_no_black(project):
    for figure in contents(project / "figures").values():
        found = figure.decode()
        assert "#000000" not in found and "fill: #ffffff" not in found
        assert "#7a7a7a" in found and "#0072b2" in found


def test_scores_of_glue(project):
    text = (project / "Report.md").read_text(encoding="utf-8")
    rows = rows_of(text, "tasks")
    assert rows[0][:6] == ["mrpc", "f1", "0.850", "0.700-0.900", "3", "0.558 to 1.075"]
    assert rows[0][6:] == ["", "4.4", "0.0001", "16", "50"]  # passes: 1,100 * 16 / 4,000
    assert rows[1][:5] == ["mrpc", "accuracy", "0.750", "0.600-0.800", "3"]
    assert rows[1][5:7] == ["0.458 to 0.975", "✗ 0.80"]  # mean ± 4.303 · 0.104 / √3
    assert [row[:3] for row in rows[2:]] == [
        ["mnli", "accuracy", "0.810"], ["mnli-mm", "accuracy", "0.790"],
    ]  # fmt: skip
    assert rows[3][5:] == ["", "✗ 0.80", "4.4", "2e-05", "16", "40"]
    assert "Only 5,000 training rows of a task, taken at equal distances." in text
    overall = {row[0]: row for row in rows_of(text, "overall")}
    assert overall.keys() == {convention.name for convention in CONVENTIONS}
    assert overall["GLUE"][1] == "2 of 9" and "CoLA" in overall["GLUE"][2]
    assert overall["GLUE"][3] == f"{100 * ((0.85 + 0.75) / 2 + 0.80) / 2:.1f}"
    assert overall["BERT"][3] == f"{100 * (0.81 + 0.79 + 0.85) / 3:.1f}"


def test_methods_at_their_best_rates(project):
    rows = rows_of((project / "Report.md").read_text(encoding="utf-8"), "methods")
    assert [row[:4] for row in rows[:6]] == [
        ["cola matthews", "full", "", "0.0001"],
        ["cola matthews", "LoRA", "4", "0.001"],
        ["cola matthews", "LoRA", "8", "0.001"],
        ["cola matthews", "LoRA, rank-stabilised", "4", "0.001"],
        ["cola matthews", "LoRA, rank-stabilised", "8", "0.001"],
        ["cola matthews", "BitFit", "", "0.002"],
    ]
    assert rows[5][4:] == ["1,000,000", "0.560", "1", "12"] and len(rows) == 12


def test_sweeps_over_batch_sizes_and_warmups(project):
    rows = rows_of((project / "Report.md").read_text(encoding="utf-8"), "sweeps")
    assert rows[:3] == [
        ["cola matthews", "full", "batch size", "16", "0.0001", "0.250", "12"],
        ["cola matthews", "full", "batch size", "32", "0.0001", "0.500", "12"],
        ["cola matthews", "full", "warm-up", "0.3", "0.0001", "0.750", "12"],
    ]
    assert len(rows) == 3 * 2 * len(peft.RATES)


def test_batches_and_precisions(project):
    assert rows_of((project / "Report.md").read_text(encoding="utf-8"), "batches") == [
        ["32", "1", "fp32", "40", "900", "0.812"],
        ["8", "4", "fp32", "40", "900", "0.812"],
        ["32", "1", "bf16", "40", "900", "0.812"],
        ["8", "4", "bf16", "40", "900", "0.812"],
    ]
    runs = [made_up_record({"mrpc": {"f1": 0.5}}), made_up_record({"sst2": {"accuracy": 0.5}})]
    with pytest.raises(ValueError, match="runs of several tasks, mrpc, sst2, are no comparison"):
        batches_rows(runs)


def test_encoders_side_by_side(project):
    rows = rows_of((project / "Report.md").read_text(encoding="utf-8"), "encoders")
    bits = log(300.25) / log(2) / 4
    assert [row[0] for row in rows] == ["bert", "convbert", "modernbert"]
    assert rows[0][1:] == [
        "400,000", "200,000", "0.250", "300.2", f"{bits:.3f}", "40", "0.750", "40",
    ]  # fmt: skip


def test_runs_beside_the_first(project):
    text = (project / "Report.md").read_text(encoding="utf-8")
    assert rows_of(text, "comparison") == [
        ["sst", "sst", "accuracy", "0.500", "", "", "", "2.500", "0.125"],
        ["mean of sst", "sst", "accuracy", "0.625", "+0.125", "-0.250 to +0.500", "0.031", "", ""],
    ]
    assert "2 runs a row, of other seeds" in text


def test_runs_on_and_after_the_plateau(project):
    assert rows_of((project / "Report.md").read_text(encoding="utf-8"), "plateau") == [
        ["minilm", "as it is", "0.750, 0.750", "70, 90", "15.0", "4.0", "6.0"],
        ["after MLM", "as it is", "0.750", "-", "10.0", "4.0", "-"],
    ]


@pytest.mark.slow
def test_as_latex_the_report_has_the_same_tables_and_its_figures_as_pdf(project, tmp_path, capsys):
    shutil.copytree(project / "records", tmp_path / "records")
    shutil.copy(project / "Report.md", tmp_path)
    command = Report(documents=(tmp_path / "Report.md",), records=tmp_path / "records", latex=True)
    command.run()

    def written():
        files = (path for path in tmp_path.rglob("*") if path.is_file())
        return {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in files}

    made = written()
    text = made["Report.tex"].decode()
    assert capsys.readouterr().out.split() == [str(tmp_path / f"Report.{s}") for s in ("md", "tex")]
    assert made["Report.md"] == (project / "Report.md").read_bytes()
    figures = ("peft-parameters", "peft-rates", "encoders-perplexity")
    for name in figures:
        assert made[f"figures/{name}.pdf"].startswith(b"%PDF-")
        assert f"{{figures/{name}.pdf}}" in text
    for block in ("tasks", "methods", "batches", "encoders", "plateau"):
        assert f"\\caption{{{BLOCKS[block].title}}}\\label{{tab:" in text
        for row in rows_of(made["Report.md"].decode(), block):
            assert " & ".join(map(escaped, row)) in text
    command.run()
    assert written() == made


def test_every_block_names_its_records(project):
    text = (project / "Report.md").read_text(encoding="utf-8")
    for name, blocks in FOLDERS.items():
        runs = RunSet.of_records(project / "records" / name).runs
        for block in blocks:
            inside = text.partition(f"<!-- report: {name}/{block} -->")[2].partition("<!-- end")[0]
            assert f"From the [{len(runs)} records](records/{name}) of" in inside
            assert len(runs) == len([*(project / "records" / name).rglob("*-*.json")])


# What is not there, or not what it should be


def test_blocks_without_records_say_so(tmp_path):
    marks = [f"{name}/{block}" for name, blocks in FOLDERS.items() for block in blocks]
    text = report(tmp_path / "Report.md", *marks)
    for block in BLOCKS.values():
        assert f"There is no record of these runs yet: make them with `{block.command}`." in text
    assert not (tmp_path / "figures").exists()


@pytest.mark.parametrize(
    "mark, message",
    [
        ("glue/methods", "records/glue does not fit block methods, for it lacks peft.json: the "
                         "block is drawn from what minbert glue peft wrote"),
        ("peft/encoders", "lacks encoders.json.*what python scripts/encoders.py wrote"),
        ("encoders/tasks", "encoders does not fit block tasks, for it lacks runs with one task"),
        ("accumulation/nothing", "no block is called 'nothing'; known are notes, .*, tasks, "),
        ("study/tasks", "study holds the records of a study, not of single runs"),
        ("glue/table-1", "glue holds the records of single runs, not of a study"),
    ],
)  # fmt: skip
def test_a_block_of_other_records_is_an_error(project, tmp_path, mark, message):
    shutil.copytree(project / "records", tmp_path / "records")
    write_json(tmp_path / "records" / "study" / "study.json", {"scale": "tiny"})
    with pytest.raises(ValueError, match=message):
        report(tmp_path / "Report.md", mark)


def test_a_folder_without_runs_cannot_be_kept(tmp_path):
    with pytest.raises(ValueError, match="is no run, and holds neither a study nor finished runs"):
        keep(tmp_path, tmp_path / "records")
    write_json(tmp_path / "peft.json", [{"run": "runs/peft/cola/full-1"}])
    write_json(tmp_path / "records" / "runs" / "study.json", {})
    with pytest.raises(ValueError, match="holds the records of a study"):
        RunSet("runs", {}, {}).write(tmp_path / "records" / "runs")


# Real runs


@pytest.mark.slow
def test_kept_runs_are_those_that_were_made(tmp_path):
    home = tiny(tmp_path / "home")
    for name in ("a", "b"):
        train(config(home, out=f"runs/{name}", tasks=("cola",), epochs=1), progress=False)
    place = keep(home / "runs", tmp_path / "records")
    kept = RunSet.of_records(place)
    assert place.name == "runs" and kept.runs.keys() == {"a", "b"}
    assert kept.runs["a"]["dev"] == read_json(home / "runs" / "a" / "record.json")["dev"]
    assert str(tmp_path) not in "".join(
        path.read_text(encoding="utf-8") for path in place.iterdir()
    )
    shutil.rmtree(home / "runs" / "b")
    keep(home / "runs", tmp_path / "records")
    assert RunSet.of_records(place).runs.keys() == {"a"}


@pytest.mark.slow
def test_three_encoders_from_scratch(tmp_path, capsys, monkeypatch):
    data = write_data_with_bad_rows(tmp_path / "data")
    script = runpy.run_path(str(SCRIPTS / "encoders.py"))
    settings = {
        "data_dir": data, "text": ("sst", "cola"), "task": "sst", "steps": 4, "on_bad_row": "skip",
        "scorings": 2, "epochs": 1, "vocab_size": 400, "device": "cpu",
        "out": tmp_path / "runs" / "encoders",
    }  # fmt: skip
    script["main"](**settings)
    printed = capsys.readouterr().out
    keep(settings["out"], tmp_path / "records")
    text = report(tmp_path / "Report.md", "encoders/encoders", "encoders/figure-perplexity")
    rows = rows_of(text, "encoders")
    assert [row[0] for row in rows] == ["bert", "convbert", "modernbert"]
    for row in rows:
        assert re.search(" +".join(map(re.escape, row)), printed)
    layers = [int(row[1].replace(",", "")) for row in rows]
    assert max(layers) < 1.06 * min(layers)
    for point in read_json(tmp_path / "records" / "encoders" / "encoders.json"):
        record = read_json(tmp_path / "records" / "encoders" / f"{point['run']}.json")
        assert [step for step, _, _ in point["curve"]] == [2, 4]
        assert 0 < point["curve"][0][1] <= point["curve"][1][1] <= record["seconds"] + 0.1
        best = min(value for _, _, value in point["curve"])
        assert best == pytest.approx(record["dev"]["mlm"]["perplexity"], abs=1e-3)
    assert (tmp_path / "figures" / "encoders-perplexity.svg").exists()

    def refuse(*args, **kwargs):
        raise AssertionError("trained again")

    monkeypatch.setattr("multitask.experiments.jobs.train", refuse)
    script["main"](**settings)
    assert capsys.readouterr().out == printed
    with pytest.raises(SystemExit, match="4 steps are not 3 equal parts; choose a divisor"):
        script["main"](**settings | {"scorings": 3})
