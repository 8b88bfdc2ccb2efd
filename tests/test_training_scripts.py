"""The scripts that compare ways to train run as they say, here on tiny data."""

import runpy
from pathlib import Path

import pytest
from helpers import write_backbone, write_data_with_bad_rows

from minbert.files import checked, read_json
from multitask import training
from multitask.experiments import jobs
from multitask.experiments.compare import Comparison
from multitask.runs.file_types import ComparedGroup
from multitask.runs.run import Run

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
PARTS = ("embeddings", "layer 1", "layer 2", "pooler")
ROWS = {
    "layer_lr": ("one rate", "decay 0.95", "decay 0.8"),
    "sampling": ("uniform", "proportional", "square_root", "annealed", "round_robin"),
    "gradient_surgery": ("none", "pcgrad", "gradvac"),
    "task_adapters": ("all shared", "PALs", "Houlsby", "Pfeiffer", "Pfeiffer, one for all",
                      "prefixes"),
    "unfreezing": ("all", "gradual", *PARTS),
    "pooling": ("mean", "cls", "max", "attention", "mean, layer mix", "attention, layer mix"),
    "regularisation": ("plain", "smart", "smart, smoothness alone", "smart, proximal alone",
                       "rdrop", "anchor"),
    "two_stage": ("multitask", "sst alone", "sst after multitask", "sts alone",
                  "sts after multitask"),
    "contrastive": ("contrastive stage", "plain", "after the stage"),
    "distillation": ("plain", "sst alone", "sts alone", "distilled", "distilled, annealed"),
}  # fmt: skip
SETTINGS = {
    "sampling": {"tasks": ("sst", "sts")},
    "gradient_surgery": {"tasks": ("sst", "sts"), "steps_per_epoch": 2},
    "two_stage": {"tasks": ("sst", "sts")},
    "regularisation": {"task": "sts"},
    "distillation": {"tasks": ("sst", "sts")},
}


@pytest.mark.parametrize("name", ROWS)
def test_a_script_ends_with_a_table_of_what_it_compared(
    folder, tmp_path, name, capsys, monkeypatch
):
    monkeypatch.setattr(training, "draw_run", lambda run: None)
    main = runpy.run_path(str(SCRIPTS / f"{name}.py"))["main"]
    data = write_data_with_bad_rows(tmp_path)
    common = Comparison(
        data_dir=data,
        backbone=str(folder / "backbone"),
        epochs=1,
        limit=16,
        device="cpu",
        out=folder / name,
    )
    main(common, **SETTINGS.get(name, {}))
    out, err = capsys.readouterr()
    assert f"left out {data}" in err
    lines = out.splitlines()
    ends = len(lines) - 1 - lines[::-1].index("")  # then comes how far each is from the first
    rows = lines[ends - len(ROWS[name]) : ends]
    assert f"{len(rows)} runs, with a score after each epoch:" in lines
    assert lines[ends - len(rows) - 1].startswith("---")
    for row, start in zip(rows, ROWS[name], strict=True):
        assert row.startswith(f"{start} ")
        assert float(row.split()[-1]) >= -1
    folders = {path.parent for path in (folder / name).glob("*/record.json")}
    assert {Run(made).config().limit for made in folders} == {16}
    points = checked(read_json(folder / name / "comparison.json"), list[ComparedGroup])
    answering = [row for row in ROWS[name] if row != "contrastive stage"]
    assert answering[0] == points[0].name == lines[ends + 3].split("  ")[0]
    assert {point.name for point in points} <= set(answering)
    scores = Run(Path(points[-1].runs[0])).record()["dev"]
    for task, compared in points[-1].scores.items():
        for metric, score in compared.items():
            assert score.score == pytest.approx(scores[task][metric], abs=2e-3)
            assert score.low <= score.difference <= score.high and 0 <= score.p <= 1


def test_accumulation_refuses_runs_of_other_settings(folder, tmp_path, capsys, monkeypatch):
    main = runpy.run_path(str(SCRIPTS / "accumulation.py"))["main"]
    write_backbone(folder / "long", max_positions=128)
    settings = {"data_dir": folder / "data", "backbone": str(folder / "long"), "task": "sst",
                "rows": 8, "batch_sizes": (8, 4), "precisions": ("fp32",), "limit": 16,
                "on_bad_row": "skip", "device": "cpu", "out": tmp_path}  # fmt: skip
    main(**settings)
    printed = capsys.readouterr().out
    assert printed == (tmp_path / "table.txt").read_text(encoding="utf-8")
    records = [Run(tmp_path / f"sst-{size}-fp32").record() for size in (8, 4)]
    assert [record["config"]["accumulate"] for record in records] == [1, 2]
    monkeypatch.setattr(jobs, "train", None)
    main(**settings)
    assert capsys.readouterr().out == printed
    for name, value in {"limit": 12, "rows": 16, "lr": 0.1, "on_bad_row": "stop"}.items():
        with pytest.raises(ValueError, match="sst-8-fp32 holds a run with "):
            main(**settings | {name: value})


def test_no_script_hides_a_package_of_its_own_name():
    """`python scripts/x.py` puts scripts/ first on the path."""
    packages = {path.parent.name for path in SCRIPTS.parent.glob("*/__init__.py")}
    assert {"multitask", "data"} <= packages
    assert not packages & {path.stem for path in SCRIPTS.glob("*.py")}


@pytest.mark.parametrize("path", sorted(SCRIPTS.glob("*.py")), ids=lambda path: path.stem)
def test_a_mistake_ends_in_a_message(path, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [str(path), "--data-dir", "nowhere"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(path), run_name="__main__")
    assert stop.value.code == 2
    message = "error: data directory nowhere does not exist; give one with --data-dir\n"
    assert capfd.readouterr().err.endswith(message)
