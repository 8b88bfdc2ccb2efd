"""What the README says is so: its Python runs, its commands parse, its figures are recorded."""

import functools
import json
import os
import re
import shlex
from pathlib import Path

import pytest

from data.tasks import TASKS
from multitask.commands import main
from multitask.config import PLACES, TrainConfig
from multitask.extensions.distill import split
from multitask.report.document import with_results
from multitask.report.records import passes, read_records
from multitask.report.study_tables import results_table

README = Path(__file__).resolve().parent.parent / "README.md"
RECORDS = README.parent / "records"
TEXT = README.read_text(encoding="utf-8")


parse = functools.cache(lambda *words: main.parse(words))


def blocks(language: str) -> list[str]:
    """The code blocks of a language; blocks without one are shell."""
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    lines = [line.partition("#")[0].strip() for block in blocks("") for line in block.split("\n")]
    names = (
        "train|pretrain|evaluate|compare|average|predict|info|data|export|demo|glue|study|report|"
        "sweep|task|show"
    )
    found = [re.search(rf"\bminbert ({names}).*", line) for line in lines]
    return [match[0] for match in found if match]


@pytest.mark.slow
def test_python_blocks_run(tmp_path, monkeypatch, capsys):
    found = blocks("python")
    assert len(found) >= 3
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in found:
        exec(block, names)
    assert names["batch"].token_type_ids[0][-1] == 1
    assert names["embeddings"].shape == (2, 384)
    assert 0 < float(capsys.readouterr().out.split()[0]) < 1
    assert names["predictor"].run.folder.parent == Path("runs")


@pytest.mark.parametrize("command", commands())
def test_commands_parse(command):
    program, *words = shlex.split(command)
    assert program == "minbert"
    assert parse(*words)


def test_there_are_commands():
    assert len(commands()) > 10


def test_results_table_is_drawn_from_the_records():
    records = read_records(RECORDS)
    assert len(records) >= 3
    assert with_results(TEXT, records) == TEXT


def comparable(extensions):
    """Extensions by their names, with teachers wherever they lie."""
    for extension in extensions:
        if "teachers" in extension:
            pairs = [split(teacher) for teacher in extension["teachers"]]
            extension["teachers"] = [(task, Path(folder).name) for task, folder in pairs]
    return sorted(extensions, key=lambda extension: extension["name"])


def test_each_row_of_the_results_has_the_command_that_made_it():
    found = re.findall(r"^# ([\w-]+).*\nminbert (.*)$", TEXT, flags=re.MULTILINE)
    commands = {name: parse(*shlex.split(words)) for name, words in found}
    elsewhere = PLACES | {"command", "data_dir", "seed", "on_bad_row"}
    checked = set()
    for name, record in read_records(RECORDS).items():
        experiment = name.removesuffix(f"-{record['config']['seed']}")
        config = TrainConfig(**commands[experiment].values()).to_dict()
        config = json.loads(json.dumps(config))  # tuples as lists
        for setting, value in record["config"].items():
            if setting == "backbone":
                assert Path(config[setting]).name == Path(value).name, name
            elif setting == "extensions":
                assert comparable(config[setting]) == comparable(value), name
            elif setting not in elsewhere:
                assert config[setting] == value, (name, setting)
        checked.add(experiment)
    assert checked == commands.keys() and len(checked) > 5


def test_results_table_shows_what_the_records_say():
    def record(task, metric, value, seconds, steps, seed=1, accumulate=1):
        config = {"batch_size": 16, "accumulate": accumulate, "seed": seed, "extensions": []}
        rows = {task: {"train": 800, "dev": 99}}
        return {"dev": {task: {metric: value}}, "config": config, "seconds": seconds,
                "steps": steps, "rows": rows}  # fmt: skip

    table = results_table(
        {
            "a-1": record("sst", "accuracy", 0.25, 3.0, 100),
            "a-2": record("sst", "accuracy", 0.75, 5.0, 100, seed=2),
            "b-1": record("sts", "pearson", 0.5, 1.0, 15, accumulate=2),
            "a-mean": record("sst", "accuracy", 0.5, 4.0, 100),
            "demo": record("sst", "accuracy", 0.6, 4.0, 100),
        }
    )
    header, _, a, b, *alone = (line.split("|")[1:-1] for line in table.strip().split("\n"))
    assert [cell.strip() for cell in header[:4]] == [
        "experiment", "SST accuracy", "STS pearson", "passes",
    ]  # fmt: skip
    assert [cell.strip() for cell in a[:5]] == ["a", "0.500 ± 0.354", "", "2", "4"]
    assert [cell.strip() for cell in b[:5]] == ["b", "", "0.500", "0.6", "1"]
    assert [[cell.strip() for cell in row[:2]] for row in alone] == [
        ["a-mean", "0.500"], ["demo", "0.600"],
    ]  # fmt: skip


def test_a_step_with_a_batch_of_every_task_counts_for_all():
    config = {"batch_size": 16, "accumulate": 1, "extensions": [{"name": "gradient_surgery"}]}
    rows = {task: {"train": 32, "dev": 9} for task in ("sst", "sts")}
    assert passes({"config": config, "rows": rows, "steps": 4}) == 2
    assert passes({"config": {**config, "extensions": []}, "rows": rows, "steps": 4}) == 1


def test_records_name_what_made_them():
    for name, record in read_records(RECORDS).items():
        assert record["commit"] and "+" not in record["commit"], name
        assert record["versions"]["torch"] and record["device"], name
        assert set(record["config"]["tasks"]) <= TASKS.keys(), name
        assert not any(str(value).startswith(os.sep) for value in record["config"].values()), name


def test_an_afternoons_reading_is_as_long_as_it_says():
    rows = re.findall(r"^\| \[(\S+\.py)\]\(\1\) \| (\d+) \|", TEXT, flags=re.MULTILINE)
    assert len(rows) >= 6
    for name, said in rows:
        count = len((README.parent / name).read_text(encoding="utf-8").splitlines())
        assert abs(count - int(said)) <= 5, f"{name} has {count} lines"
    total = int(re.search(r"^About ([\d,]+) lines", TEXT, flags=re.MULTILINE)[1].replace(",", ""))
    assert abs(sum(int(said) for _, said in rows) - total) <= 50


def test_what_the_readme_finds_is_there():
    section = TEXT[TEXT.index("## Where things are") :]
    rows = re.findall(r"^\| .* \| (.*`.*\]\(.*) \|$", section, flags=re.MULTILINE)
    found = [pair for row in rows for pair in re.findall(r"`(\w+)` in \[\S+\]\((\S+)\)", row)]
    assert len(rows) >= 8 and len(found) >= 10
    for name, path in found:
        text = (README.parent / path).read_text(encoding="utf-8")
        assert re.search(rf"(def|class) {name}\b|^{name} =", text, flags=re.MULTILINE), name


def test_links_of_the_readme_exist():
    links = re.findall(r"\]\(([^)#:]+)\)", TEXT)
    assert len(links) > 3
    for link in links:
        assert (README.parent / link).exists(), link
    assert RECORDS.is_dir()
