"""The pages under docs/: commands parse, Python runs, links lead somewhere."""

import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import MagicMock

import pytest
from own_data import task_file, write_csv

from data.tasks import TASKS
from lab.commands import parser as lab_parser
from minbert import Bert, load_backbone, save_pretrained
from multitask import training
from multitask.commands.main import Train, parse
from multitask.extensions import base

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGES = sorted(DOCS.rglob("*.md"))


def blocks(page, language):
    text = page.read_text(encoding="utf-8")
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return [block for name, block in found if name == language]


def commands(page):
    lines = [line.partition("#")[0] for block in blocks(page, "") for line in block.split("\n")]
    return [line.strip() for line in lines if line.startswith("minbert ")]


LOUDER = """
from dataclasses import dataclass
from multitask.extensions.base import Extension

@dataclass(frozen=True, kw_only=True)
class {name}(Extension):
    by: float = 1.0
    \"\"\"Factor.\"\"\"
"""


@pytest.fixture(autouse=True)
def own_files(tmp_path, monkeypatch):
    """What a user has made whom docs/tasks.md speaks to."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(base, "EXTENSIONS", dict(base.load_extensions()))
    monkeypatch.setattr(sys, "path", [*sys.path])
    labels = ("negative", "positive")
    rows = [[f"number {n}", labels[n % 2]] for n in range(20)]
    write_csv(tmp_path / "my-data/reviews.csv", [["review", "sentiment"], *rows])
    keys = {"text": '"review"', "label": '"sentiment"', "classes": '["negative", "positive"]'}
    for name in ("reviews", "tickets", "newer"):
        task_file(tmp_path, name, **keys, hold_out=0.2)
    (tmp_path / "my_package").mkdir()
    for place, name in (("my_file.py", "Louder"), ("my_package/extras.py", "Quieter")):
        (tmp_path / place).write_text(LOUDER.format(name=name), encoding="utf-8")
    modules, known = set(sys.modules), set(TASKS)
    yield
    for name in set(TASKS) - known:
        del TASKS[name]
    for name in {"my_file", "my_package", "my_package.extras"} & (set(sys.modules) - modules):
        del sys.modules[name]


def test_there_are_pages_with_commands():
    assert sum(len(commands(page)) for page in PAGES) > 10


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_parse(page):
    for command in commands(page):
        _, *words = shlex.split(command)
        if words[0] == "lab":
            assert lab_parser().parse_args(words[1:]).run
            continue
        found = parse(words)
        if isinstance(found, Train):
            uses = "--use" in command or re.search(r" --[\w-]+\.", command) is not None
            assert bool(found.chosen()) == uses


@pytest.fixture(scope="module")
def short_minilm(minilm_folder, tmp_path_factory):
    """The first layer of MiniLM, for what is done with it and not what comes of it."""
    whole = load_backbone(minilm_folder)
    weights = whole.encoder.state_dict()
    encoder = Bert(replace(whole.encoder.config, num_layers=1))
    encoder.load_state_dict({name: weights[name] for name in encoder.state_dict()})
    return save_pretrained(tmp_path_factory.mktemp("short"), encoder, whole.tokenizer)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_python_runs(page, tmp_path, monkeypatch, short_minilm):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("minbert.backbones._find_package", lambda package: short_minilm)
    monkeypatch.setattr(training, "draw_run", lambda run: None)
    tracker = MagicMock()  # which is not installed
    monkeypatch.setitem(sys.modules, "wandb", tracker)
    for block in blocks(page, "python"):
        exec(block, {})
    if page.stem == "watching":
        logged = [call.args[0] for call in tracker.log.call_args_list]
        assert {"loss/sst", "lr", "grad_norm", "step"} == logged[0].keys()
        assert logged[-1]["step"] == 4 and "dev/sst/accuracy" in logged[-1]
        assert tracker.finish.call_count == tracker.init.call_count == 1


@pytest.mark.parametrize("saved", [(), ("config.json",), ("config.json", "last.safetensors")])
def test_the_slurm_script_starts_a_run_once_and_then_continues_it(tmp_path, saved):
    (script,) = blocks(DOCS / "distributed.md", "bash")
    for name in saved:
        (tmp_path / name).touch()
    stubs = "scontrol() { echo node1; }\nsrun() { echo $@; }\n"
    script = stubs + script.replace("/shared/runs/sst", str(tmp_path))
    command = subprocess.run(["bash", "-c", script], capture_output=True, encoding="utf-8").stdout
    _, _, words = command.partition(" -m multitask ")
    found = parse(words.split())
    assert isinstance(found, Train)
    assert (found.out, found.resume) == ((None, tmp_path) if saved else (tmp_path, None))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), link
