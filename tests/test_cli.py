"""The command line: what it prints, and how it ends."""

import dataclasses
import hashlib
import inspect
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import config, contents, write_data, write_table

from data.readers import read_split
from data.sources import File
from data.tasks import TASKS
from minbert import load_backbone, quick
from minbert.edition import VERSION
from multitask import ContrastConfig, Predictor, PretrainConfig, TrainConfig, train, training
from multitask.commands import Group, data_commands
from multitask.commands import main as cli
from multitask.commands.words import finished
from multitask.extensions import base
from multitask.runs.run import Run
from multitask.settings import SECTIONS
from optim import AdamW

GROUPS = {name: group.commands for name, group in cli.COMMANDS.items() if issubclass(group, Group)}
"""Group -> its commands."""
WORDS = {"run_folder": "run", "task_files": "task-file"}
"""Field -> its flag, where that is another."""
PROGRAM = [sys.executable, "-c", "from lab.__main__ import main; main()"]
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def run(folder):
    """The folder of a run of all four tasks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "draw_run", lambda run: None)
        tasks = ("sst", "para", "sts", "cola")
        return train(config(folder, "run", tasks=tasks, epochs=1), progress=False).folder


class Stdin(io.TextIOWrapper):
    """Bytes of a pipe, as Python opens it, or a keyboard with nobody at it."""

    def __init__(self, text, terminal):
        content = text if isinstance(text, bytes) else text.encode()
        super().__init__(
            io.BytesIO(content), encoding="utf-8", errors="surrogateescape", newline="\n"
        )
        self.isatty = lambda: terminal


@pytest.fixture
def minbert(monkeypatch, command_line, tmp_path):
    """Call the command line in an empty folder; gives the exit code, the output and the errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "draw_run", lambda run: None)

    def call(*words, stdin="", terminal=False):
        monkeypatch.setattr(sys, "stdin", Stdin(stdin, terminal))
        return command_line(*words)

    return call


def subprocess_of(*words, **options):
    return subprocess.run(
        [*PROGRAM, *map(str, words)], cwd=ROOT, capture_output=True, encoding="utf-8", **options
    )


# Help


def test_help_lists_every_command(minbert):
    code, out, err = minbert("--help")
    assert (code, err) == (0, "") and len(cli.COMMANDS) > 5
    for name, command in cli.COMMANDS.items():
        assert f" {name} " in out
        assert command.__doc__.split()[0] in out


@pytest.mark.slow
@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_of_a_command_explains_every_setting(minbert, name):
    command = cli.COMMANDS[name]
    code, out, err = minbert(name, "--help")
    assert (code, err) == (0, "")
    flat = " ".join(out.replace("│", " ").split())
    assert " ".join(command.__doc__.split("\n\n")[0].split())[:60] in flat
    if name in GROUPS:
        for part, nested in GROUPS[name].items():
            assert f" {part} " in out
            code, help_of_part, err = minbert(name, part, "--help")
            assert (code, err) == (0, "") and f"usage: minbert {name} {part} " in help_of_part
            for field in dataclasses.fields(nested):
                if "Positional" not in field.type:
                    assert (
                        f"--{WORDS.get(field.name, field.name.replace('_', '-'))}" in help_of_part
                    )
        return
    assert "(default: )" not in flat
    for field in dataclasses.fields(command):
        if field.name != "extensions" and "Positional" not in field.type:
            assert f"--{WORDS.get(field.name, field.name.replace('_', '-'))}" in out


@pytest.mark.slow
@pytest.mark.parametrize("cls", [TrainConfig, PretrainConfig, ContrastConfig])
def test_help_shows_a_box_for_each_section_after_what_a_beginner_needs(minbert, cls, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")  # where lines are broken decides what begins with a flag
    _, out, _ = minbert(cls.command, "--help")
    parts = re.split(r"^\W*((?:[\w-]+ )?options)\W*$", out, flags=re.MULTILINE)
    boxes = dict(zip(parts[1::2], parts[2::2], strict=True))
    # Help is further in, beside a flag or below it, and a line of it may begin with another flag.
    shown = {title: re.findall(r"^. --(\w[\w.-]*)", box, re.M) for title, box in boxes.items()}
    first = shown.pop("options")
    needed = ["data-dir", "backbone", "out", "epochs", "batch-size", "lr", "device"]
    assert first[: first.index("device") + 1] == (
        [
            *(["objective"] if cls is ContrastConfig else []),
            "tasks",
            "task-file",
            *([] if cls is TrainConfig else ["text"]),
            *needed,
        ]
    )
    sections = {title: section for title, section in SECTIONS.items() if issubclass(cls, section)}
    assert list(shown)[: len(sections)] == [f"{title} options" for title in sections]
    for title, section in sections.items():
        own = [WORDS.get(n, n.replace("_", "-")) for n in section.__annotations__]
        assert shown.pop(f"{title} options") == [name for name in own if name not in first]
    extensions = {
        name.replace("_", "-") for name, x in base.EXTENSIONS.items() if dataclasses.fields(x)
    }
    assert shown.keys() == {f"{name} options" for name in extensions}
    assert len(shown["lora options"]) > 5 and all("lora." in name for name in shown["lora options"])


@pytest.mark.slow
def test_a_wrong_flag_points_to_the_help_of_its_command(minbert):
    for words, message in {
        ("train", "--lora.rank", "0"): "Error parsing lora: rank must be at least 1, it is 0",
        ("train", "--tasks", "sst", "sst"): "Error parsing Train: tasks ['sst', 'sst'] name one",
        ("predict", "--runs", "x"): "Unrecognized options: --runs",
        ("glue", "run", "--tasks", "x"): "Missing from minbert glue run",
    }.items():
        code, out, err = minbert(*words)
        flat = " ".join(err.replace("│", " ").split())
        assert (code, out) == (2, "") and message in flat
        group = " run" * (words[0] == "glue")
        assert f"minbert {words[0]}{group} --help" in flat


@pytest.mark.parametrize(
    ("given", "spins"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, None)],
)
def test_threads_sleep_unless_the_user_says_how_they_wait(monkeypatch, minbert, given, spins):
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "environ", {**os.environ, **given})
    minbert("--help")
    assert os.environ.get("GOMP_SPINCOUNT") == spins


@pytest.mark.slow
def test_help_imports_no_torch():
    """So what `main` puts into the environment is there when a command imports it."""
    code = (
        "import sys\nfrom lab.__main__ import main\n"
        "sys.argv = ['minbert', '--help']\n"
        "try: main()\nexcept SystemExit as end: assert end.code == 0\n"
        "print([m for m in ('torch', 'transformers', 'scipy', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]" and "evaluate" in done.stdout


# Commands that succeed


@pytest.mark.slow
def test_train_takes_every_setting_as_a_flag(minbert, folder, tmp_path):
    words = ["--tasks", "sst", "sts", "--data-dir", folder / "data", "--out", "new"]
    words += ["--backbone", folder / "backbone", "--epochs", 1, "--batch-size", 11, "--lr", 1e-3]
    words += ["--head-dropout", 0, "--pooling", "mean", "--device", "cpu", "--evaluate-first"]
    code, out, err = minbert("train", *words)
    assert code == 0, err
    expected = TrainConfig(
        tasks=("sst", "sts"), data_dir=folder / "data", out=Path("new"), epochs=1, batch_size=11,
        backbone=str(folder / "backbone"), lr=1e-3, head_dropout=0.0, pooling="mean", device="cpu",
        evaluate_first=True,
    )  # fmt: skip
    run = Run.open(tmp_path / "new")
    assert run.config() == expected
    record = run.record()
    lines = [line.split() for line in out.splitlines()]
    whens = ("before", "dev", "constant")
    accuracy = [f"{record[when]['sst']['accuracy']:.3f}" for when in whens]
    assert ["sst", "accuracy", *accuracy] in lines
    assert "best epoch 1 of 1, 4 steps" in out and "new: record.json, metrics.jsonl" in out
    assert any(line[:3] == ["minbert", "evaluate", "new"] for line in lines)

    (tmp_path / "new" / "record.json").unlink()
    code, out, _ = minbert("train", "--resume", "new")
    assert code == 0 and "best epoch 1 of 1, 4 steps" in out


@pytest.mark.slow
def test_a_step_is_few_calls_from_the_command(minbert, folder):
    """Who reads from `minbert train` to the optimizer passes through few functions and files."""
    step, chain = inspect.unwrap(AdamW.step).__code__, []

    def watch(frame, event, _):
        if frame.f_code is step and not chain:
            while frame is not None:
                path = Path(frame.f_code.co_filename)
                if path.is_relative_to(ROOT) and path.parts[len(ROOT.parts)] not in (
                    ".venv",
                    "tests",
                ):
                    chain.insert(0, (path.relative_to(ROOT).as_posix(), frame.f_code.co_name))
                frame = frame.f_back

    words = ["--data-dir", folder / "data", "--backbone", folder / "backbone", "--device", "cpu"]
    sys.setprofile(watch)
    try:
        code, _, err = minbert("train", "--tasks", "sst", "--epochs", 1, *words)
    finally:
        sys.setprofile(None)
    assert code == 0, err
    assert chain[0] == ("lab/__main__.py", "main")
    assert chain[-2:] == [("multitask/loop/trainer.py", "step"), ("optim/adamw.py", "step")]
    assert len(chain) <= 8 and len({path for path, _ in chain}) <= 5, chain


@pytest.mark.slow
def test_commands_alone_set_how_the_process_keeps_memory(minbert, run, folder, monkeypatch):
    asked = []
    monkeypatch.setattr(quick, "keep_freed_memory", lambda: asked.append(True))
    train(config(folder, tasks=("sst",), epochs=1, overwrite=True), progress=False)
    assert not asked, "a program that calls the library has settings of its own"
    code, _, err = minbert("train", "--resume", run)
    assert code == 0 and asked, err


@pytest.mark.slow
def test_pretrain_makes_a_backbone_that_train_takes(minbert, folder, tmp_path):
    (tmp_path / "lines.txt").write_text(
        "ban bet fit\ngot ban\nbet fit got kun\n" * 9, encoding="utf-8"
    )
    words = ["--tasks", "sst", "--text", "lines.txt", "--data-dir", folder / "data"]
    words += ["--backbone", folder / "backbone", "--epochs", 1, "--device", "cpu", "--hold-out", 5]
    words += ["--mask-share", 1, "--random-share", 0, "--whole-words", "--out", "made"]
    code, out, err = minbert("pretrain", *words)
    assert code == 0, err
    assert Run.open(tmp_path / "made").config() == PretrainConfig(
        tasks=("sst",), text=(tmp_path / "lines.txt",), data_dir=folder / "data", epochs=1,
        backbone=str(folder / "backbone"), device="cpu", hold_out=5, mask_share=1.0,
        random_share=0.0, whole_words=True, out=Path("made"),
    )  # fmt: skip
    assert any(line.split()[:2] == ["mlm", "perplexity"] for line in out.splitlines())
    assert "    minbert train --backbone made/backbone --tasks sst" in out.splitlines()

    code, again, err = minbert("pretrain", "--resume", "made")
    assert code == 0 and again == out, err
    code, out, _ = minbert("info", "made")
    assert code == 0 and "mask_share = 1.0" in out and "perplexity" in out
    for command in ("evaluate", "export"):
        code, _, err = minbert(command, "made", *(["new"] if command == "export" else []))
        assert code == 2 and "made is a pre-training run and answers no task" in err

    words = ["--tasks", "sst", "--data-dir", folder / "data", "--backbone", "made/backbone"]
    code, _, err = minbert("train", *words, "--epochs", 1, "--device", "cpu")
    assert code == 0, err


@pytest.fixture
def pull(monkeypatch):
    """An extension with two settings, known for one test."""
    monkeypatch.setattr(base, "EXTENSIONS", dict(base.load_extensions()))

    @base.register("a_pull")
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Pull(base.Extension):
        """Pulls at the weights."""

        strength: float = 1.0
        """How hard."""
        layers: int = 2
        """How many."""

    return Pull


@pytest.mark.slow
def test_a_flag_of_an_extension_uses_it(pull):
    used = {
        (): (),
        ("--a-pull.strength", "2"): (pull(strength=2.0),),
        ("--a_pull.layers=2",): (pull(),),  # given, and equal to the default
        ("--use", "a_pull"): (pull(),),
        ("--use", "a-pull"): (pull(),),
        ("--use", "a_pull", "--a-pull.layers", "3"): (pull(layers=3),),
    }
    for words, extensions in used.items():
        assert cli.parse(["train", "--tasks", "sst", *words]).chosen() == extensions, words


@pytest.mark.slow
def test_an_unknown_extension_lists_the_known_ones(minbert, pull):
    code, out, err = minbert("train", "--use", "push")
    assert (code, out) == (2, "")
    assert err.startswith("error: no extension is called 'push'; known are") and "a_pull" in err


@pytest.mark.slow
def test_a_run_without_a_name_gets_one_and_is_found(minbert, folder, tmp_path):
    words = ["--data-dir", folder / "data", "--backbone", folder / "backbone", "--device", "cpu"]
    assert minbert("train", "--tasks", "sst", "--steps-per-epoch", 1, *words)[0] == 0
    (made,) = (tmp_path / "runs").iterdir()
    assert made.name.endswith("-sst") and (made / "record.json").exists()
    code, out, err = minbert("predict", "bat")
    assert code == 0 and f"run runs/{made.name}" in err and out.endswith("\tbat\n")


def test_evaluate_scores_and_writes_predictions(minbert, run, tmp_path):
    code, out, _ = minbert("evaluate", run, "--out", tmp_path / "there")
    record = Run.open(run).record()
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    for task, metrics in record["dev"].items():
        for metric, value in metrics.items():
            if metric != "loss":
                constant = record["constant"][task][metric]
                assert [task, metric, f"{value:.3f}", f"{constant:.3f}"] in lines
    assert ["overall", "mean:", f"{record['overall']['mean']:.3f}"] in lines
    recorded = contents(run / "predictions")
    assert contents(tmp_path / "there") == {k: v for k, v in recorded.items() if "-dev-" in k}
    assert str(tmp_path / "there" / "sst-dev-output.csv") in out


@pytest.mark.slow
def test_answers_to_other_data_do_not_replace_the_runs_own(minbert, run, tmp_path):
    write_data(tmp_path / "other", seed=1)
    before = contents(run / "predictions")
    words = ["evaluate", run, "--data-dir", tmp_path / "other"]
    code, out, _ = minbert(*words)
    assert code == 0 and contents(run / "predictions") == before
    assert "sst   accuracy" in out and out.endswith("to have them, name a folder: --out\n")
    code, same, _ = minbert(*words, "--out", "there")
    assert code == 0 and same.startswith(out[: out.index("no predictions are written")])
    assert contents(tmp_path / "there").keys() == {k for k in before if "-dev-" in k}


@pytest.mark.slow
def test_evaluate_shows_what_is_most_wrong(minbert, run, folder, tmp_path):
    code, out, _ = minbert("evaluate", run, "--mistakes", 3, "--out", tmp_path / "there")
    assert code == 0
    for name, evaluation in Predictor(run).evaluate("dev").items():
        (part,) = (p for p in out.split("\n\n") if p.startswith(f"{name}: what is most wrong\n"))
        lines = [line.split("\t") for line in part.splitlines()[2:]]
        lines = [line for line in lines if len(line) > 1]  # the last task's are followed by paths
        labels, answers = evaluation.labels, evaluation.answers
        if name == "sts":
            badness = np.abs(answers - labels)
        else:
            badness = evaluation.probabilities.max(axis=1) * (answers != labels)
        order = np.argsort(-badness, kind="stable")[: min(3, np.count_nonzero(badness))]
        assert [line[3] for line in lines] == [evaluation.ids[i] for i in order]
        rows = read_split(TASKS[name], "dev", folder / "data").examples
        texts = {row.id: row.texts for row in rows}
        for (label, answer, chance, number, *found), i in zip(lines, order, strict=True):
            assert tuple(found) == texts[number]
            if name == "sts":
                assert (label, answer, chance) == (f"{labels[i]:.1f}", f"{answers[i]:.1f}", "-")
            else:
                classes = TASKS[name].classes
                assert (label, answer) == (classes[int(labels[i])], classes[int(answers[i])])
                assert float(chance) == pytest.approx(badness[i], abs=6e-4)

    code, out, _ = minbert("evaluate", run, "--split", "test", "--mistakes", 1)
    assert code == 0 and "sst: rows without labels, so that no answer is known to be wrong" in out
    code, _, err = minbert("evaluate", run, "--mistakes", 0)
    assert code == 2 and "mistakes must be at least 1, it is 0" in err


@pytest.mark.slow
def test_mistakes_of_a_run_on_the_samples_are_shown(minbert, folder):
    words = ["--backbone", folder / "backbone", "--limit", 8, "--epochs", 1, "--device", "cpu"]
    assert minbert("train", "--tasks", "sst", "--out", "new", *words)[0] == 0
    code, out, _ = minbert("evaluate", "new", "--mistakes", 1)
    assert code == 0 and "sst: what is most wrong" in out


def test_evaluate_answers_rows_without_labels(minbert, run):
    before = contents(run / "predictions")
    (run / "predictions" / "lin-test-output.csv").unlink()
    code, out, _ = minbert("evaluate", run, "--split", "test")
    assert code == 0 and "accuracy" not in out
    assert contents(run / "predictions") == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "way", ["arguments", "file", "pipe", "file with byte order mark", "pipe with byte order mark"]
)
@pytest.mark.parametrize(
    "task, rows", [("sst", ["bat bet", "superb"]), ("sts", [("bat", "one"), ("bet bit", "two")])]
)
def test_predict_answers_texts_however_they_come(minbert, run, tmp_path, task, rows, way):
    texts = [text for row in rows for text in ((row,) if isinstance(row, str) else row)]
    lines = "".join(("\t".join(row) if isinstance(row, tuple) else row) + "\n" for row in rows)
    words = ["predict", "--task", task, "--run", run]
    stdin = ""
    mark = "\ufeff" * ("mark" in way)
    if way == "arguments":
        words[1:1] = texts
    elif way.startswith("pipe"):
        stdin = mark + lines
    else:
        (tmp_path / "texts.txt").write_bytes((mark + lines).replace("\n", "\r\n").encode())
        words += ["--file", tmp_path / "texts.txt"]
    expected = Predictor(run).predict(task, rows)

    code, out, err = minbert(*words, stdin=stdin)
    assert (code, err) == (0, "")
    for line, prediction in zip(out.splitlines(), expected, strict=True):
        number, label, chance, *found = line.split("\t")
        assert tuple(found) == prediction.texts
        if task == "sst":
            assert (number, label) == (str(int(prediction.value)), prediction.label)
            assert chance == f"{prediction.probability:.3f}"
        else:
            assert (number, label, chance) == (f"{prediction.value:.3f}", "-", "-")

    code, out, _ = minbert(*words, "--json", stdin=stdin)
    found = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and len(found) == len(rows)
    for values, prediction in zip(found, expected):
        assert values == {**dataclasses.asdict(prediction), "texts": list(prediction.texts)}


@pytest.mark.slow
def test_predict_says_once_what_it_cut(minbert, run):
    lines = ["bat", "bet " * 50, *["bit"] * 1100, "bit " * 50]
    code, out, err = minbert("predict", "--task", "sst", "--run", run, stdin="\n".join(lines))
    assert code == 0 and len(out.splitlines()) == len(lines)
    assert err.count("lost their end") == 1
    assert (
        "2 of 1103 rows are longer than 32 tokens and lost their end; the first is row 2\n" in err
    )
    assert "Warning" not in err


@pytest.mark.slow
def test_predict_takes_more_rows_than_it_holds_at_once(minbert, run):
    lines = [f"bat {'bet ' * (n % 5)}".strip() for n in range(1030)]
    code, out, _ = minbert("predict", "--task", "sst", "--run", run, stdin="\n".join(lines))
    assert code == 0 and [line.split("\t")[3] for line in out.splitlines()] == lines


@pytest.mark.slow
def test_info_describes_the_installation_and_a_run(minbert, folder, run):
    code, out, _ = minbert("info", "--data-dir", folder / "data")
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    assert ["sts", "pairs", "pearson", "train", "dev", "test"] in lines
    assert ["cfimdb", "texts", "accuracy", "-"] in lines

    code, out, _ = minbert("info", run)
    value = Run.open(run).record()["dev"]["cola"]["matthews"]
    assert code == 0 and ["cola", "matthews", f"{value:.3f}", "0.000"] in [
        x.split() for x in out.split("\n")
    ]
    assert "head_size = 8" in out and "pooling" not in out  # what differs from the defaults
    lines = Run.open(run).metrics()
    steps, (epoch,) = lines[:-1], lines[-1:]
    norms = [line["grad_norm"] for line in steps]
    for task, metric in (("sst", "accuracy"), ("cola", "matthews")):
        score = epoch["scores"][task]
        assert [
            "1", str(len(steps)), f"{steps[-1]['lr']:.2g}", f"{np.median(norms):.3g}",
            f"{max(norms):.3g}", task, f"{epoch['train_loss'][task]:.4f}", f"{score['loss']:.4f}",
            metric, f"{score[metric]:.3f}", "*",
        ] in [line.split() for line in out.splitlines()]  # fmt: skip


def test_the_version(minbert):
    code, out, _ = minbert("--version")
    assert code == 0 and re.fullmatch(r"minbert \d+\.\d+\.\d+(, commit [0-9a-f]{40}\+?)?\n", out)
    assert out.split()[1].rstrip(",") == VERSION


def test_info_of_a_run_that_was_stopped(minbert, folder, run, tmp_path):
    stopped = tmp_path / "stopped"
    stopped.mkdir()
    for name in ("config.json", "metrics.jsonl"):
        (stopped / name).write_bytes((run / name).read_bytes())
    code, out, _ = minbert("info", stopped)
    assert code == 0
    assert f"not finished: 1 epochs scored; minbert train --resume {stopped}" in out
    assert "development loss" in out
    (stopped / "metrics.jsonl").unlink()
    assert minbert("info", stopped)[1].endswith("no epoch is scored yet\n")


def test_data_check_counts_rows_and_lists_the_bad_ones(minbert, folder, tmp_path):
    code, out, err = minbert("data", "check", "--data-dir", folder / "data")
    lines = [line.split() for line in out.splitlines()]
    assert ["0", "bad", "rows"] in lines
    assert "8,522 rows fewer than the 8,544 published: sst train" in out
    assert code == 2 and "12 files differ from the published ones" in err
    assert ["para", "22", "15", "7", "-", "-"] in lines
    assert ["mnli", *"-----"] in lines

    rows = [["", "id", "sentence", "sentiment"], [0, "a", "fine", 1], [1, "b", "bad", 9]]
    path = write_table(tmp_path / "ids-sst-train.csv", rows)
    code, out, _ = minbert("data", "check", "--data-dir", tmp_path)
    assert code == 2 and ["sst", "1", *"----"] in [line.split() for line in out.splitlines()]
    assert f"{path}:3: column 'sentiment' is '9'" in out
    assert "1 bad rows; train with --on-bad-row skip to leave them out" in out


@pytest.mark.parametrize(
    "known, code, verdict",
    [
        ({"rows": 3}, 0, "not compared, as many rows, but no checksum is known"),
        ({}, 0, "not compared, nothing of it is known"),
        ({"rows": 3, "sha256": "own"}, 0, "as published, byte for byte"),
        ({"sha256": "own"}, 0, "as published, byte for byte"),
        ({"rows": 4}, 2, "differs from what is published, 1 rows fewer than the 4 published"),
        ({"rows": 1}, 2, "differs from what is published, 2 rows more than the 1 published"),
        ({"rows": 3, "sha256": "0" * 64}, 2, "its bytes, with as many rows"),
        ({"sha256": "0" * 64}, 2, "differs from what is published, in its bytes"),
    ],
)
def test_data_check_compares_with_what_is_published(
    minbert, tmp_path, monkeypatch, known, code, verdict
):
    rows = [["", "id", "sentence", "sentiment"], *([n, f"i{n}", "fine", n * 3] for n in range(3))]
    path = write_table(tmp_path / "ids-sst-train.csv", rows)  # the last row is bad, and counts
    if known.get("sha256") == "own":
        known = {**known, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    monkeypatch.setitem(data_commands.FILES, path.name, File("any", **known))
    found, out, err = minbert("data", "check", "--data-dir", tmp_path)
    assert found == code and f"{verdict}: sst train\n" in out
    assert ("1 files differ from the published ones" in err) == (code == 2)


@pytest.mark.slow
def test_data_check_of_the_small_data_compares_with_nothing(minbert):
    code, out, _ = minbert("data", "check")
    assert code == 0 and "published" not in out


def test_data_check_goes_on_after_a_file_that_cannot_be_used(minbert, folder, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(folder / "data", data)
    rows = [["", "id", "sentence", "sentiment"], [0, "a", "fine", 7]]
    write_table(data / "ids-sst-train.csv", rows)
    (data / "ids-sst-dev.csv").write_bytes("é\n".encode("latin-1"))
    code, out, err = minbert("data", "check", "--data-dir", data)
    lines = [line.split() for line in out.splitlines()]
    assert ["sst", "unusable", "unusable", "7", "-", "-"] in lines
    assert ["para", "22", "15", "7", "-", "-"] in lines
    assert code == 2 and "column 'sentiment' is '7'" in err and "is not UTF-8 text" in err


def test_evaluate_elsewhere_skips_bad_rows_and_names_tasks_without_a_file(
    minbert, folder, run, tmp_path
):
    rows = (folder / "data" / "ids-sst-dev.csv").read_text(encoding="utf-8") + "99\tz\tbat\t9\n"
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "ids-sst-dev.csv").write_text(rows, encoding="utf-8")
    words = ["evaluate", run, "--data-dir", tmp_path / "data", "--out", "answers"]
    code, _, err = minbert(*words)
    assert code == 2 and "leave such rows out with --on-bad-row skip" in err
    code, out, err = minbert(*words, "--on-bad-row", "skip")
    assert code == 0 and "sst" in out
    assert err.count("has no file for its dev split in") == 3
    assert (
        len((tmp_path / "answers" / "sst-dev-output.csv").read_text(encoding="utf-8").splitlines())
        == 16
    )


def test_rows_of_a_file_are_those_of_a_pipe(minbert, run, tmp_path):
    text = "\ufeffbat\rbet\r\nbit\n"
    (tmp_path / "rows.txt").write_bytes(text.encode())
    words = ["predict", "--run", run, "--task", "sst"]
    code, out, _ = minbert(*words, "--file", "rows.txt")
    assert code == 0 and (out == minbert(*words, stdin=text)[1]) and out.count("\n") == 2


@pytest.mark.slow
def test_a_run_goes_on_where_its_data_has_moved(minbert, folder, tmp_path):
    shutil.copytree(folder / "data", tmp_path / "home" / "data")
    settings = {"tasks": ("sst",), "epochs": 2, "data_dir": tmp_path / "home" / "data"}
    alone = train(config(folder, tmp_path / "alone", **settings), progress=False)
    words = ["train", "--resume", alone.folder, "--data-dir", "moved", "--device=cpu"]
    (tmp_path / "home" / "data").rename(tmp_path / "moved")
    scores = alone.record()["dev"]
    alone.record_path.unlink()
    code, _, err = minbert("train", "--resume", alone.folder)
    assert code == 2 and "does not exist; give one with --data-dir" in err
    code, _, err = minbert(*words)
    assert code == 0 and alone.record()["dev"] == scores
    assert alone.config().data_dir == tmp_path / "moved" and alone.config().device == "cpu"
    assert minbert("evaluate", alone.folder)[0] == 0

    write_data(tmp_path / "moved", seed=1)
    code, _, err = minbert(*words)
    assert code == 2 and "rows" in err
    alone.last.unlink()
    code, _, err = minbert(*words)
    assert code == 2 and "is finished, and its last.safetensors, where it could go on from" in err
    assert alone.record()["dev"] == scores


@pytest.mark.slow
def test_a_home_directory_may_be_written_with_a_tilde(minbert, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    made = train(config(folder, str(tmp_path / "made"), tasks=("sst",), epochs=1,
                        data_dir="~/data"), progress=False)  # fmt: skip
    assert made.config().data_dir == folder / "data"
    assert minbert("evaluate", made.folder)[0] == 0
    for out in ("--out=~/tilde/shell", "--out ~/tilde/shell --overwrite"):
        words = f"train --tasks sst --epochs 1 --data-dir ~/data {out} --backbone ~/backbone"
        code, _, err = minbert(*words.split(), "--device=cpu")
        assert code == 0, err
    settings = config(folder, tasks=("sst",), epochs=1)
    train(dataclasses.replace(settings, out=Path("~/tilde/python")), progress=False)
    assert sorted(path.name for path in (folder / "tilde").iterdir()) == ["python", "shell"]
    assert {path.name for path in tmp_path.iterdir()} == {"made"}  # and no folder "~"


@pytest.mark.slow
def test_bad_rows_that_are_skipped_are_named(minbert, folder, tmp_path):
    rows = (folder / "data" / "ids-sst-train.csv").read_text(encoding="utf-8") + "99\tz\tbat\t9\n"
    for name in ("dev", "test-student"):
        source = folder / "data" / f"ids-sst-{name}.csv"
        (tmp_path / source.name).write_bytes(source.read_bytes())
    (tmp_path / "ids-sst-train.csv").write_text(rows, encoding="utf-8")
    words = ["train", "--tasks", "sst", "--data-dir", tmp_path, "--out", "run", "--device", "cpu",
             "--backbone", folder / "backbone", "--epochs", 1]  # fmt: skip
    code, _, err = minbert(*words)
    assert code == 2 and "ids-sst-train.csv:24: column 'sentiment' is '9'" in err
    code, _, err = minbert(*words, "--on-bad-row", "skip")
    assert code == 0 and f"left out {tmp_path / 'ids-sst-train.csv'}:24" in err
    assert len(Run.open(tmp_path / "run").record()["skipped"]) == 1


@pytest.mark.slow
def test_export_writes_a_backbone(minbert, run, tmp_path):
    code, out, _ = minbert("export", run, tmp_path / "model")
    assert code == 0 and out.strip() == str(tmp_path / "model")
    found = load_backbone(tmp_path / "model").encoder.state_dict()
    expected = Predictor(run).model.encoder.state_dict()
    assert found.keys() == expected.keys()
    assert all((found[name] == value).all() for name, value in expected.items())
    code, _, err = minbert("export", run, tmp_path / "model")
    assert code == 2 and "holds a model or a run already; choose another folder" in err


@pytest.mark.slow
def test_what_to_try_next_works(minbert, run, tmp_path):
    own = tmp_path / "a run"  # a name that a shell must have in quotes
    shutil.copytree(run, own)
    _, words = finished(Run(own)).split("try next:")
    commands = [shlex.split(line) for line in words.strip().split("\n")]
    assert [command[1] for command in commands] == ["predict", "evaluate", "export"]
    for _, *words in commands:
        assert minbert(*words)[0] == 0
    assert load_backbone(tmp_path / "my-sst").encoder


# Mistakes


@pytest.mark.slow
@pytest.mark.parametrize(
    "words, message",
    [
        ("", "Expected one of {{demo, train"),
        ("trian", "trian"),
        ("train --epoch-s 3", "--epoch-s"),
        ("train --epochs three", "three"),
        ("train --pooling sum", "sum"),
        ("train --use lora --use layer_lr", "--use stands 2 times, and only the last would count"),
        ("train --head-size 9 --head_size=8", "--head-size stands 2 times"),
        ("glue run --tasks rte --out x --tasks mrpc", "--tasks stands 2 times"),
        ("train --epochs 0", "epochs must be at least 1, it is 0"),
        ("train --tasks sst qa", "no task is called 'qa'; known are sst, para, sts, cola, cfimdb"),
        ("train --frozen --pair cosine", "use pair concat with frozen"),
        ("train --data-dir nowhere --backbone {folder}/backbone", "data directory nowhere does"),
        ("train --backbone ./nowhere", "backbone './nowhere' is no folder here"),
        ("train --backbone {folder}/data", "config.json does not exist"),
        ("train --resume nowhere", "nowhere holds no run (no config.json); name a run folder"),
        ("train --resume {run} --epochs 3 --lr=1", "leave out --epochs, --lr"),  # 3 by default
        ("train --resume={run} --use lora --lora.rank 4", "leave out --use, --lora.rank"),
        ("train --resume {run} --show-groups --head_size 9", "leave out --head_size"),
        ("pretrain --resume {run} --no-shard", "leave out --no-shard"),
        ("train --device abacus --backbone {folder}/backbone", "device 'abacus' cannot be used"),
        ("train --precision fp16 --device cpu", "precision fp16 needs a GPU, the device is cpu"),
        ("train --head-size 10000000000000 --data-dir {folder}/data --backbone {folder}/backbone",
         "error: not enough memory: "),
        ("evaluate nowhere", "nowhere holds no run"),
        ("evaluate", "there is no finished run under runs/; name one, or make one: minbert demo"),
        ("evaluate {run} --data-dir nowhere", "data directory nowhere does not exist"),
        ("evaluate {run} --split tset", "tset"),
        ("info nowhere", "nowhere holds no run"),
        ("info runs/x --backbone minilm", "info shows a run or a backbone; name one of the two"),
        ("info --text word", "--text is cut by a backbone's tokenizer; name it"),
        ("info --data-dir nowhere", "data directory nowhere does not exist"),
        ("data check --data-dir nowhere", "data directory nowhere does not exist"),
        ("data", "Expected one of {{fetch, check, convert}}"),
        ("export {run}", "required"),
        ("predict bat --run {run}", "name a task with --task: sst, para, sts, cola"),
        ("predict bat --run {run} --task cfimdb", "was not trained on task 'cfimdb'; it knows sst"),
        ("predict a b c --run {run} --task para", "takes texts two by two, and 3 are given"),
        ("predict a --file b --run {run} --task sst", "give one of them"),
        ("predict --file nowhere --run {run} --task sst", "nowhere"),
        ("predict --file {run} --run {run} --task sst", "{run}"),
        ("predict --file empty.txt --run {run} --task sst", "empty.txt:2: a line must hold one te"),
        ("predict --file empty.txt --run {run} --task sts", "empty.txt:1: a line must hold two te"),
        ("predict --file latin.txt --run {run} --task sst", "latin.txt:1: byte 0xe9 in column 4, "),
        ("predict a caf\udce9 --run {run} --task sts", r"argument 'caf\udce9' is not text in the"),
    ],
)  # fmt: skip
def test_a_mistake_gives_one_message_and_exit_code_2(minbert, folder, run, words, message):
    Path("empty.txt").write_text("bat\n\nbet\n", encoding="utf-8")
    Path("latin.txt").write_bytes("café\n".encode("latin-1"))
    words, message = (text.format(folder=folder, run=run) for text in (words, message))
    code, out, err = minbert(*words.split())
    assert code == 2
    assert message in " ".join(err.replace("│", " ").split())
    assert "Traceback" not in err and err.count("error: ") <= 1
    assert out == ""


def test_a_row_of_a_pipe_is_named_and_a_terminal_is_not_waited_for(minbert, run):
    words = ["predict", "--run", run, "--task", "sst"]
    assert "<stdin>:2: a line must hold one text" in minbert(*words, stdin="bat\n \n")[2]
    code, _, err = minbert(*words, stdin="bat\ncafé\n".encode("latin-1"))
    assert code == 2 and err.startswith("error: <stdin>:2: byte 0xe9 in column 4, at offset 7, is")
    assert minbert(*words, terminal=True)[::2] == (
        2,
        "error: no text: give one as an argument, with --file, or through a pipe\n",
    )


def test_a_traceback_is_there_for_those_who_ask(minbert, monkeypatch):
    monkeypatch.setenv("MINBERT_TRACEBACK", "1")
    with pytest.raises(ValueError, match="nowhere holds no run"):
        minbert("evaluate", "nowhere")


@pytest.mark.slow
def test_an_error_of_the_program_itself_is_not_hidden(minbert, monkeypatch):
    def fail(config):
        raise RuntimeError("a bug")

    monkeypatch.setattr(training, "train", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        minbert("train")


@pytest.mark.slow
def test_the_program_itself_ends_with_these_codes(run, tmp_path):
    done = subprocess_of("evaluate", tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: {tmp_path} holds no run (no config.json); name a run folder\n"


@pytest.mark.slow
def test_a_reader_that_has_seen_enough_is_no_error(run):
    words = [*PROGRAM, "predict", "--task", "sst", "--run", str(run)]
    process = subprocess.Popen(
        words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    _, err = process.communicate(b"bat\n" * 5000)
    assert (process.returncode, err) == (141, b"")
