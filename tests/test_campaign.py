"""The campaign notices a promise that is not kept, and a case is the same whenever it is tried."""

import json
import os
import random
import re
import shutil
import signal
import sys
import time

import pytest
from campaign import recorded, running
from campaign.__main__ import main as campaign_command
from campaign.broken_rows import check_rows
from campaign.cases import Broken, Case, Done, Kind, check_message, check_text
from campaign.mutations import mutations_of
from campaign.same import check_same
from helpers import config

from data.readers import read_split
from data.tasks import TASKS
from lab.__main__ import main
from multitask import train
from multitask.commands.main import COMMANDS

pytestmark = pytest.mark.usefixtures("no_figure")


def attempt(folder, act, seconds=60.0):
    kind = Kind("made-up", "it holds", act, seconds)
    return running.attempt(kind, 1, 2, folder / "case", folder / "shared")


@pytest.mark.parametrize(
    "act, broken",
    [
        (lambda case: case.note("tried"), None),
        (lambda case: check_message(case.run("predict", "--run", "nowhere", "x"), "nowhere"), None),
        (lambda case: check_message(case.run("predict", "--run", "nowhere", "x"), "elsewhere"),
         "predict --run ended with 2, and the message names none of elsewhere: nowhere holds"),
        (lambda case: check_message(case.run("made-up")), "ended with 1 and a traceback: .*divis"),
        (lambda case: time.sleep(60), "it hung: no end after 0.5 seconds"),
        (lambda case: case.run("wait"), "it hung: no end after 0.5 seconds"),
        (lambda case: os.kill(os.getpid(), signal.SIGKILL), "the case itself ended with status"),
        (lambda case: 1 / 0, "(?s)the case itself failed: .*ZeroDivisionError"),
    ],
    ids=["holds", "message", "no name", "traceback", "hangs", "command hangs", "dies", "fails"],
)  # fmt: skip
def test_what_came_of_a_case(tmp_path, monkeypatch, act, broken):
    monkeypatch.setitem(COMMANDS, "made-up", type("MadeUp", (), {}))
    monkeypatch.setattr("lab.__main__.main", stub)
    limit = 0.5 if broken and "hung" in broken else 60
    outcome = attempt(tmp_path, act, limit)
    if broken is None:
        assert outcome.broken is None
    else:
        assert re.search(broken, outcome.broken)
    assert outcome.seconds < 30


def stub():
    if sys.argv[1] == "made-up":
        raise ZeroDivisionError("division by zero")
    if sys.argv[1] == "wait":
        time.sleep(60)
    main()


def test_a_case_is_the_same_whenever_it_is_tried(tmp_path):
    kind = Kind("kill", "", print, 1)
    draws = [
        Case(kind, *of, tmp_path, tmp_path).draw.random() for of in ((0, 5), (0, 5), (0, 6), (1, 5))
    ]
    assert draws[0] == draws[1] and len(set(draws)) == 3


def test_a_run_that_is_not_equal_is_noticed(folder, tmp_path):
    found = train(config(folder, out=tmp_path / "found", tasks=("sst",), epochs=1), progress=False)
    alone = tmp_path / "alone"
    shutil.copytree(found.folder, alone)
    check_same(found.folder, alone)
    lines = found.metrics_path.read_text(encoding="utf-8").splitlines(keepends=True)
    step = {**json.loads(lines[0]), "seconds": 1e9}
    found.metrics_path.write_text(json.dumps(step) + "\n" + "".join(lines[1:]), encoding="utf-8")
    check_same(found.folder, alone)  # but for the clock
    for name, change in {
        "metrics.jsonl": lambda text: text.replace(b'"step": 1', b'"step": 2', 1),
        "best.safetensors": lambda text: text[:-1] + bytes([text[-1] ^ 1]),
        "predictions/sst-dev-output.csv": lambda text: text + b" ",
        "record.json": lambda text: text.replace(b'"steps": 3', b'"steps": 4'),
        ".best.safetensors.x.tmp": lambda text: b"",
    }.items():
        path = found.folder / name
        before = path.read_bytes() if path.exists() else None
        path.write_bytes(change(before))
        with pytest.raises(Broken, match=name.replace(".x", r"\.x")):
            check_same(found.folder, alone)
        path.unlink() if before is None else path.write_bytes(before)
    check_same(found.folder, alone)


def test_a_row_that_is_lost_is_noticed(tmp_path):
    lines = [b"\tid\tsentence\tsentiment", b"0\ta\tone\t1", b"1\tb\ttwo\t2", b"2\tc\tthree\t3"]
    path = tmp_path / "ids-sst-dev.csv"
    path.write_bytes(b"\n".join(lines))
    rows = read_split(TASKS["sst"], "dev", tmp_path)
    check_rows(rows, rows, path.read_bytes(), path.read_bytes(), has_header=True)
    more = path.read_bytes() + b"\n3\td\tfour\t4"
    with pytest.raises(Broken, match="4 lines have come to 3 rows and 0 bad ones"):
        check_rows(rows, rows, path.read_bytes(), more, has_header=True)
    other = path.read_bytes().replace(b"two", b"one")
    path.write_bytes(other)
    with pytest.raises(Broken, match="lines that are as they were are other rows now"):
        check_rows(read_split(TASKS["sst"], "dev", tmp_path), rows, b"\n".join(lines),
                   b"\n".join(lines), has_header=True)  # fmt: skip


@pytest.mark.parametrize("text", ["a\n" * 9, "x" * 3000, "\x1b[2J"])
def test_a_message_is_short_and_plain(text):
    check_text("a line\n    another")
    with pytest.raises(Broken):
        check_text(text)


def test_memory_counts(tmp_path):
    with pytest.raises(Broken, match="took 9000 MB"):
        check_message(Done(("predict",), 0, "", "", 9000))


def test_mutations_change_files_and_say_how(tmp_path):
    text, same = json.dumps({"a": [1, {"b": 2.5}], "c": "text"}), 0
    for number in range(100):
        path = tmp_path / f"{number}.json"
        path.write_text(text, encoding="utf-8")
        mutations = mutations_of(path)
        assert mutations[number % len(mutations)](random.Random(number), path)
        same += path.is_file() and path.read_bytes() == text.encode()
    assert same < 10  # a value that is drawn may be the one that was there


def test_a_campaign_goes_on_and_keeps_what_did_not_hold(tmp_path, monkeypatch, capsys):
    def act(case):
        (case.folder / "file").write_text("kept", encoding="utf-8")
        if case.number == 1:
            raise Broken("it broke")

    monkeypatch.setattr(running, "KINDS", {name: Kind(name, "", act, 60) for name in ("a", "b")})
    monkeypatch.setattr(running, "warm_up", lambda: None)
    for number in (2, 1):
        campaign = running.Campaign(7, tmp_path / "failures", tmp_path / "out.jsonl")
        campaign.try_in_turn(["a", "b"], minutes=0, cases=number)
    assert campaign.counts()["a"] | {"seconds": 0} == {"tried": 3, "held": 2, "seconds": 0}
    assert not campaign.held
    assert (tmp_path / "failures" / "b-7-1" / "file").read_text(encoding="utf-8") == "kept"
    assert "python -m tests.campaign --seed 7 --only a:1" in capsys.readouterr().out
    lines = [
        json.loads(line)
        for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    tried = sorted((line["kind"], line["number"]) for line in lines[1:])
    assert tried == [(name, number) for name in ("a", "b") for number in range(3)]
    with pytest.raises(SystemExit, match="is of seed 7; give --seed 7"):
        running.Campaign(8, tmp_path, tmp_path / "out.jsonl")
    with (tmp_path / "out.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"kind": "a", "num')  # as a kill leaves it
    again = running.Campaign(7, tmp_path, tmp_path / "out.jsonl")
    assert again.outcomes == campaign.outcomes
    assert len((tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()) == len(lines)


@pytest.mark.parametrize(
    "words, message",
    [
        (["--only", "nosuch:1"], "'nosuch:1' is no case; name one as kill:17, of "),
        (["--only", "data:x"], "'data:x' is no case"),
        (["--minutes", "-1"], "-1 is no time; give minutes, above 0"),
    ],
)
def test_wrong_flags_are_named(words, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["campaign", *words])
    with pytest.raises(SystemExit, match="2"):
        campaign_command()
    assert message in capsys.readouterr().err


def test_the_table_is_that_of_the_record():
    assert recorded.is_drawn()
