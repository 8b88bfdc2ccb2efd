"""GLUE's runs on tiny data: done once, gone on with, passed over; recipes; pairs in both orders."""

import re
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median

import pytest
import torch
from glue_files import HEADERS, write
from helpers import config, make_trainer, write_backbone, write_data

from data.readers import read_split
from data.tasks import TASKS
from minbert import load_backbone
from minbert.encoders import encoder_class
from minbert.files import read_json
from multitask import Predictor, TrainConfig, train, training
from multitask.commands.glue_commands import ComparePeft, DrawGlue, RunGlue
from multitask.commands.main import parse
from multitask.dataset import both_orders
from multitask.evaluate import prediction_path
from multitask.experiments import jobs
from multitask.extensions.bitfit import BitFit
from multitask.extensions.lora import LoRA
from multitask.glue import glue_recipes, peft, score
from multitask.glue.glue_recipes import RECIPES, method_of, recipe_config
from multitask.glue.glue_run import read_runs
from multitask.model import MultitaskModel
from multitask.runs.run import Run
from optim import AdamW


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A backbone, and data of all tasks."""
    folder = tmp_path_factory.mktemp("glue")
    write_backbone(folder / "backbone", max_positions=128)
    for name, splits in HEADERS.items():
        for split in splits:
            write(folder / "data", name, split, count={"dev_mismatched": 9}.get(split, 7))
    write(folder / "data", "ax", "test", count=5)
    write_data(folder / "course")
    (folder / "course" / "CoLA").rename(folder / "data" / "CoLA")
    return folder


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch):
    monkeypatch.setattr(training, "draw_run", lambda run: None)


def command(folder, out, **settings):
    return RunGlue(
        data_dir=folder / "data", out=out, device="cpu",
        **{"epochs": 1, "backbone": str(folder / "backbone"), **settings},
    )  # fmt: skip


def without_times(record):
    return {k: v for k, v in record.items() if k not in ("seconds", "peak_memory_mb", "config")}


# Runs


@pytest.mark.slow
def test_all_tasks_run_each_in_a_folder_of_its_own(folder, tmp_path, capsys):
    command(folder, tmp_path).run()
    assert {path.name for path in tmp_path.iterdir()} == {f"{t}-11711" for t in glue_recipes.TASKS}
    assert len(glue_recipes.TASKS) == 9
    out = capsys.readouterr().out
    for name in ("GLUE", "BERT", "LoRA", "ELECTRA"):
        assert f"{name} score: " in out
    assert out.count("over all") == 4 and "without" not in out


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["bert", "convbert", "modernbert"])
def test_an_encoders_own_recipe_runs_as_published(folder, tmp_path, encoder):
    """To its last epoch: only the backbone is smaller than the one it was published for."""
    cls = encoder_class(encoder)
    write_backbone(tmp_path / "backbone", encoder=cls, max_positions=256)
    own = {"backbone": str(tmp_path / "backbone"), "epochs": None}
    for task in ("sst2", "rte"):
        command(folder, tmp_path / "runs", tasks=(task,), **own).run()
        record = Run(tmp_path / "runs" / f"{task}-11711").record()
        published = RECIPES[encoder](task)
        assert record["epochs"] == published.epochs and record["steps"] == published.epochs
        changed = {"backbone", "data_dir", "device", "out", "tasks"}
        for name, value in published.to_dict().items():
            assert name in changed or record["config"][name] == value, name


@pytest.mark.slow
def test_folders_of_runs_are_drawn_over_each_other(folder, tmp_path, capsys):
    early = {"epochs": 3, "patience": 1, "scores_per_epoch": 1}
    command(folder, tmp_path / "one", tasks=("mrpc",), seeds=2).run()
    command(folder, tmp_path / "two", tasks=("mrpc", "rte"), **early).run()
    config = Run(tmp_path / "two" / "rte-11711").config()
    assert (config.patience, config.scores_per_epoch) == (1, 1)
    capsys.readouterr()
    DrawGlue(folders=(tmp_path / "one", tmp_path / "two"), out=tmp_path / "figures").run()
    assert capsys.readouterr().out == f"{tmp_path / 'figures' / 'mrpc.svg'}\n"
    text = (tmp_path / "figures" / "mrpc.svg").read_text(encoding="utf-8")
    for words in ("<!-- one -->", "<!-- two -->", "<!-- f1 -->", "<!-- accuracy -->"):
        assert words in text
    with pytest.raises(ValueError, match="at least two"):
        DrawGlue(folders=(tmp_path / "one",)).run()


@pytest.mark.slow
def test_mnli_answers_its_second_set_and_the_diagnostic_set(folder, tmp_path):
    command(folder, tmp_path, tasks=("mnli",)).run()
    (run,) = read_runs(tmp_path)
    assert run.scores.keys() == {"mnli", "mnli-mm"}
    predictor = Predictor(run.run.folder)
    second = predictor.evaluate("dev_mismatched")["mnli"]
    assert len(second.ids) == 9 and second.metrics == run.scores["mnli-mm"]
    answers = (
        prediction_path(run.run.predictions, TASKS["ax"], "test")
        .read_text(encoding="utf-8")
        .splitlines()
    )
    pairs = [example.texts for example in read_split(TASKS["ax"], "test", folder / "data").examples]
    wanted = [int(p.value) for p in predictor.predict("mnli", pairs)]
    assert [int(line.split(" , ")[1]) for line in answers[1:]] == wanted and len(wanted) == 5
    for split in ("test", "test_mismatched"):
        assert prediction_path(run.run.predictions, TASKS["mnli"], split).exists()


@pytest.mark.slow
def test_what_is_done_is_passed_over_and_what_was_cut_short_goes_on(folder, tmp_path, monkeypatch):
    again = command(folder, tmp_path, tasks=("rte", "wnli"), seeds=2, epochs=2)
    again.run()
    names = ["rte-11711", "rte-11712", "wnli-11711", "wnli-11712"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    records = [run.record for run in read_runs(tmp_path)]
    assert records[0]["config"]["seed"] != records[1]["config"]["seed"]

    def refuse(*args, **kwargs):
        raise AssertionError("trained again")

    calls = []
    go_on = jobs.resume
    monkeypatch.setattr(jobs, "train", refuse)
    monkeypatch.setattr(jobs, "resume", lambda f, **k: calls.append(f.name) or go_on(f, **k))
    again.run()
    assert calls == []
    (tmp_path / "rte-11712" / "record.json").unlink()
    again.run()
    assert calls == ["rte-11712"]
    found = [without_times(run.record) for run in read_runs(tmp_path)]
    assert found == [without_times(record) for record in records]


@pytest.mark.slow
def test_a_folder_without_a_checkpoint_starts_again(folder, tmp_path):
    again = command(folder, tmp_path, tasks=("wnli",))
    again.run()
    run = Run(tmp_path / "wnli-11711")
    record = run.record()
    run.record_path.unlink()
    run.last.unlink()
    again.run()
    assert without_times(run.record()) == without_times(record)
    assert run.config().overwrite is False  # as the command said
    again.run()


@pytest.mark.slow
def test_bad_rows_stop_or_are_skipped(folder, tmp_path):
    for split in HEADERS["wnli"]:
        path = write(tmp_path / "data", "wnli", split)
        path.write_text(
            path.read_text(encoding="utf-8") + "a row of one column\n", encoding="utf-8"
        )
    words = f"--data-dir {tmp_path}/data --out {tmp_path}/runs --backbone {folder}/backbone".split()
    words = ["glue", "run", *words, "--tasks", "wnli", "--epochs", "1", "--device", "cpu"]
    with pytest.raises(ValueError, match="leave such rows out with --on-bad-row skip"):
        parse(words).run()
    parse([*words, "--on-bad-row", "skip"]).run()
    (run,) = read_runs(tmp_path / "runs")
    assert len(run.record["skipped"]) == 3


@pytest.mark.slow
def test_another_setting_in_the_same_folder_is_refused(folder, tmp_path):
    command(folder, tmp_path, tasks=("wnli",), method="lora").run()
    command(folder, tmp_path, tasks=("wnli",), method="lora").run()  # lists come back from JSON
    with pytest.raises(ValueError, match=r"holds a run with epochs 1 \(not 2\); choose another"):
        command(folder, tmp_path, tasks=("wnli",), method="lora", epochs=2).run()
    with pytest.raises(ValueError, match=r"lr 0.0005 \(not 2e-05\).*extensions"):
        command(folder, tmp_path, tasks=("wnli",)).run()


@pytest.mark.slow
def test_a_finished_run_is_found_however_its_place_is_written(folder, tmp_path, monkeypatch):
    again = command(folder, tmp_path / "runs", tasks=("wnli",))
    again.run()
    (tmp_path / "link").symlink_to(folder / "data")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(jobs, "train", None)
    for changes in (
        {"data_dir": Path("data"), "backbone": "backbone"},
        {"data_dir": tmp_path / "link", "device": "auto"},
    ):
        replace(again, **changes).run()
    with pytest.raises(ValueError, match=r"data_dir '.*data' \(not '.*course'\)"):
        replace(again, data_dir=Path("course")).run()


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"tasks": ("sst",)}, "'sst' is no task of GLUE; known are all, cola, sst2"),
        ({"tasks": ("ax",)}, "'ax' is no task of GLUE"),
        ({"seeds": 0}, "seeds must be at least 1, it is 0"),
        ({"epochs": 0}, "epochs must be at least 1, it is 0"),
        ({"recipe": "none"}, "no recipe is called 'none'; known are bert, convbert"),
    ],
)
def test_mistakes_in_a_command(folder, tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        command(folder, tmp_path, **settings).run()
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_tasks_that_gain_from_mnli_start_from_it(folder, tmp_path):
    settings = {"tasks": ("mnli",), "data_dir": folder / "data"}
    run = train(config(folder, **settings, epochs=1), progress=False)
    found = command(folder, tmp_path, start_from=run.folder).configs()
    starts = {c.tasks[0] for c in found if c.backbone == str(run.folder)}
    assert starts == {"rte", "mrpc", "stsb"} and len(found) == 9
    assert {c.backbone for c in found} == {str(run.folder), str(folder / "backbone")}
    other = train(config(folder, tasks=("wnli",), data_dir=folder / "data", epochs=1))
    with pytest.raises(ValueError, match="was not trained on mnli; name a run of MNLI"):
        command(folder, tmp_path, start_from=other.folder).configs()


# Recipes


@pytest.mark.parametrize("task", glue_recipes.TASKS)
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_has_every_task(name, task):
    found = RECIPES[name](task)
    assert found.tasks == (task,) and found.out is None
    assert RECIPES[name].__doc__
    assert TrainConfig.from_dict(found.to_dict()).lr == found.lr


def test_epochs_of_a_recipe_are_passes():
    for name in RECIPES:
        for task in glue_recipes.TASKS:
            assert RECIPES[name](task).steps_per_epoch is None, (name, task)


def test_published_settings():
    mrpc = RECIPES["modernbert_short"]("mrpc")
    assert (mrpc.epochs, mrpc.lr, mrpc.batch_size, mrpc.warmup, mrpc.schedule) == (
        2, 8e-5, 32, 0, "linear",
    )  # fmt: skip
    sst = RECIPES["modernbert"]("sst2")
    assert (sst.epochs, sst.lr, sst.batch_size) == (3, 3e-5, 16)
    assert (sst.beta1, sst.beta2, sst.eps, sst.warmup) == (0.9, 0.98, 1e-6, 0.1)
    mnli = RECIPES["mosaicbert"]("mnli")
    assert (mnli.epochs, mnli.batch_size, mnli.warmup) == (3, 48, 0.06)
    both = {task for task in glue_recipes.TASKS if RECIPES["convbert"](task).both_orders}
    assert both == {"mrpc", "stsb"}
    for task in glue_recipes.TASKS:
        found = RECIPES["lora"](task)
        (lora,) = found.extensions
        assert 4e-4 <= found.lr <= 5e-4 and found.weight_decay == 0.1
        assert (lora.rank, lora.alpha, lora.targets) == (8, 16, ("query", "value"))
    assert RECIPES["bitfit"]("cola").lr == 1e-3


def test_the_page_has_the_settings_of_both_sources_of_modernbert():
    page = (Path(__file__).parent.parent / "docs" / "glue.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if "| (8e-6) |" in line]
    assert len(rows) == 9 and rows[-1][0] == "WNLI"
    for name, *cells in rows[:-1]:
        task = name.lower().replace("-", "")
        code, notebook = RECIPES["modernbert"](task), RECIPES["modernbert_short"](task)
        for found, texts in (code, cells[:4]), (notebook, cells[4:]):
            lr, decay, epochs, size = (float(text.strip("()")) for text in texts)
            assert (found.lr, found.epochs, found.batch_size) == (lr, epochs, size)
            share = found.lr if found is code else 1
            assert found.weight_decay * share == pytest.approx(decay)


def test_layers_of_convbert_learn_at_the_rates_of_its_code(folder):
    """`_get_layer_lrs` of its model/optimization.py: lr * decay^(layers + 2 - depth), where the
    embeddings have depth 0, the first layer 1, the classifier layers + 2."""
    write_backbone(folder / "convbert", encoder=encoder_class("convbert"))
    published = RECIPES["convbert"]("rte")
    model = MultitaskModel.from_config(published, load_backbone(folder / "convbert").encoder)
    (decayed,) = published.extensions
    rates = {name: published.lr * s for name, s in decayed.lr_scale(model).items()}
    depths = {"embeddings": 0, "layers.0": 1, "layers.1": 2, "heads": 4}
    assert len(rates) > 20
    for name, rate in rates.items():
        (depth,) = (d for part, d in depths.items() if f"{part}." in name)
        assert rate == pytest.approx(1e-4 * 0.8 ** (2 + 2 - depth)), name


@pytest.mark.parametrize(
    "name, task, share",
    [("modernbert", "sst2", 3e-6), ("modernbert", "rte", 1e-5), ("mosaicbert", "mnli", 5e-6)],
)
def test_the_decay_of_a_job_is_the_share_that_goes_in_a_step(name, task, share):
    """As Composer's DecoupledAdamW has it: weight *= 1 - rate / highest rate * decay."""
    found = RECIPES[name](task)
    weight = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    weight.grad = torch.zeros_like(weight)
    AdamW([weight], lr=found.lr, weight_decay=found.weight_decay).step()
    torch.testing.assert_close(weight.detach(), torch.full_like(weight, 1 - share).detach())


@pytest.mark.parametrize("backbone", ["minilm", "bert-base-cased"])
@pytest.mark.parametrize("method", ["full", "lora", "bitfit"])
def test_a_method_gives_its_adapters_to_any_recipe(method, backbone):
    kinds = {"full": (), "lora": (LoRA,), "bitfit": (BitFit,)}
    for name in (None, "bert", "lora", "bitfit", "minilm"):
        found = recipe_config(name, method, backbone, "rte")
        assert tuple(type(e) for e in found.extensions) == kinds[method]
        assert method_of(found) == method and found.backbone == backbone
    published = {"full": "bert", "lora": "lora", "bitfit": "bitfit"}[method]
    own = recipe_config(None, method, "bert-base-cased", "rte")
    assert own.lr == RECIPES[published]("rte").lr


# Pairs in both orders


def test_symmetric_pairs_train_in_both_orders(folder, tmp_path):
    write_data(tmp_path / "data")
    settings = {"tasks": ("para", "sst"), "data_dir": tmp_path / "data", "limit": 10}
    once = make_trainer(config(folder, **settings))
    twice = make_trainer(config(folder, **settings, both_orders=True))
    for split in ("dev", "test"):
        for name in settings["tasks"]:
            wanted = once.data[name].sources[split].ids
            assert twice.data[name].sources[split].ids == wanted
    assert twice.data["sst"].train.ids == once.data["sst"].train.ids
    one, both = once.data["para"].train, twice.data["para"].train
    assert len(one.ids) == 10 and len(set(both.ids)) == 20
    first, second, third = (both.batch([n]).input_ids.tolist() for n in (0, 1, 2))
    sep = 3
    assert first == one.batch([0]).input_ids.tolist() and third == one.batch([1]).input_ids.tolist()
    cut = first.index(sep)
    assert second == [first[0], *first[cut + 1 : -1], sep, *first[1:cut], sep]
    assert both.labels.tolist() == [label for label in one.labels.tolist() for _ in "ab"]


def test_only_tasks_whose_order_means_nothing_are_symmetric(tmp_path):
    symmetric = {"para", "para_large", "sts", "mrpc", "stsb", "qqp"}
    assert {t.name for t in TASKS.values() if t.symmetric} == symmetric
    assert all(task.is_pair for task in TASKS.values() if task.symmetric)
    write(tmp_path, "mrpc", "train")
    (example, *_) = read_split(TASKS["mrpc"], "train", tmp_path).examples
    one, other = both_orders(example)
    assert one is example and other.texts == example.texts[::-1] and other.label == example.label


# The comparison of methods


@pytest.mark.slow
def test_methods_are_compared_at_the_best_rate_of_each(folder, tmp_path, capsys, monkeypatch):
    rates = {"full": (1e-2,), "LoRA": (1e-3, 1e-1), "BitFit": (1e-9, 1e-1)}
    rates["LoRA, rank-stabilised"] = (1e-3,)
    monkeypatch.setattr(peft, "RATES", rates)
    write_data(tmp_path / "course")
    settings = {"data_dir": tmp_path / "course", "backbone": str(folder / "backbone")}
    compare = ComparePeft(
        **settings, out=tmp_path / "out", tasks=("cola",), ranks=(1, 8), seeds=2, epochs=1, limit=8,
        batch_size=4, batch_sizes=(2, 4), warmups=(0.5,), device="cpu",
    )  # fmt: skip
    compare.run()
    printed = capsys.readouterr().out
    points = read_json(tmp_path / "out" / "peft.json")
    swept = [point for point in points if point["sweep"] != "rate"]
    assert len({(p["method"], p["sweep"], p["run"]) for p in points}) == len(points)
    shared = {p["method"] for p in points if p["run"].endswith("lora-8-0.001-11711")}
    assert shared == {"LoRA", "LoRA, rank-stabilised"}
    assert [(p["sweep"], p["batch_size"], p["warmup"]) for p in swept] == len(rates) * [
        ("batch size", 2, 0.0), ("batch size", 4, 0.0), ("warm-up", 4, 0.5),
    ]  # fmt: skip
    for point in swept:
        settings = read_json(Path(point["run"]) / "config.json")
        for name in ("batch_size", "warmup", "lr"):
            assert settings[name] == point[name]
        shown = (f"{v:g}" for v in (point["batch_size"], point["lr"]))
        if point["sweep"] == "batch size":
            assert re.search(r"batch size +" + r" +".join(map(re.escape, shown)), printed)
    runs = {str(run.run.folder): run for run in read_runs(tmp_path / "out" / "cola")}
    assert runs.keys() == {point["run"] for point in points}
    for point in points:
        record = runs[point["run"]].record
        assert point["score"] == record["dev"]["cola"]["matthews"]
        assert point["trained"] == record["parameters"]["trained"]
        assert (point["lr"], point["seed"]) == (record["config"]["lr"], record["config"]["seed"])
    for method, tried in rates.items():
        own = [p for p in points if p["method"] == method and p["sweep"] == "rate"]
        sweep = [p for p in own if p["seed"] == 11711 and p["rank"] in (None, 8)]
        assert [p["lr"] for p in sweep] == list(tried)
        best = max(sweep, key=lambda p: p["score"])["lr"]
        ranks = [None] if sweep[0]["rank"] is None else [1, 8]
        wanted = {(rank, seed, best) for rank in ranks for seed in (11711, 11712)}
        assert {(p["rank"], p["seed"], p["lr"]) for p in own} == wanted | {
            (p["rank"], 11711, p["lr"]) for p in sweep
        }
        for rank in ranks:
            chosen = [p for p in own if (p["rank"], p["lr"]) == (rank, best)]
            cells = [method, *([str(rank)] if rank else []), f"{best:g}"]
            cells += [f"{chosen[0]['trained']:,}", f"{median(p['score'] for p in chosen):.3f}", "2"]
            assert re.search(r"matthews +" + r" +".join(map(re.escape, cells)), printed)
    for name in ("parameters", "rates", "batch-sizes", "warmups"):
        assert (tmp_path / "out" / f"{name}.svg").read_text(encoding="utf-8").count("<path") > 10
    monkeypatch.setattr(jobs, "train", lambda *a, **k: pytest.fail("trained again"))
    compare.run()
    assert read_json(tmp_path / "out" / "peft.json") == points


@pytest.mark.slow
def test_a_comparison_keeps_the_tasks_of_calls_before(tmp_path):
    def point(task, score):
        return peft.Point(task=task, method="full", rank=None, lr=1e-4, seed=1, score=score,
                          trained=9, seconds=1.0, run=f"out/{task}/full")  # fmt: skip

    mrpc, cola, better = point("mrpc", 0.5), point("cola", 0.25), point("mrpc", 0.75)
    for written in (mrpc, cola, better):
        peft.write_comparison([written], tmp_path)
    assert read_json(tmp_path / "peft.json") == [asdict(cola), asdict(better)]
    drawn = (tmp_path / "rates.svg").read_text(encoding="utf-8")
    assert "cola" in drawn and "mrpc" in drawn


def test_strength_of_lora_over_ranks():
    for rank in peft.RANKS:
        (constant,) = peft.extensions_of("LoRA", rank)
        (stabilised,) = peft.extensions_of("LoRA, rank-stabilised", rank)
        assert constant.rank == stabilised.rank == rank and stabilised.rank_stabilised
        assert constant.alpha / rank == 2 and not constant.rank_stabilised
        scale = stabilised.alpha / rank**0.5
        assert scale == pytest.approx(2 * (8 / rank) ** 0.5)


def test_commands_and_python_of_the_page_about_glue():
    text = (Path(__file__).parent.parent / "docs" / "glue.md").read_text(encoding="utf-8")
    commands = re.findall(r"^minbert (.+)$", text, flags=re.MULTILINE)
    assert len(commands) >= 8
    for command in commands:
        assert parse(command.split())
    (block,) = re.findall(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    names: dict = {}
    exec(block, names)
    assert names["config"].lr == 8e-5 and names["config"].epochs == 2
    for name in RECIPES:
        assert f"`{name}`" in text
    for convention in score.CONVENTIONS:
        assert f"| {convention.name} |" in text
