"""The hub's parquet files of GLUE, written small with pyarrow and read back as GLUE's tables."""

import sys

import pytest

from data.hub import FOLDERS, convert
from data.readers import read_split
from data.tasks import TASKS
from multitask.commands.data_commands import Convert

TEXTS = {"cola": ("sentence",), "sst2": ("sentence",), "qqp": ("question1", "question2"),
         "qnli": ("question", "sentence"), "mnli": ("premise", "hypothesis"),
         "ax": ("premise", "hypothesis")}  # fmt: skip
NAMES = {"train": "train", "dev": "validation", "test": "test"}
MNLI = {"train": "train", "dev": "validation_matched", "dev_mismatched": "validation_mismatched",
        "test": "test_matched", "test_mismatched": "test_mismatched"}  # fmt: skip
CASES = [(name, split) for name in FOLDERS for split in TASKS[name].tables]


def write(folder, name, split, rows=6, shards=1):
    """A split as the hub has it: integer labels, -1 where they are secret, float ones in STS-B."""
    arrow = pytest.importorskip("pyarrow", reason="the extra parquet is not installed")
    from pyarrow import parquet

    columns = TEXTS.get(name, ("sentence1", "sentence2"))
    kinds = len(TASKS[name].classes)
    table = []
    for n in range(rows):
        row = {column: f' {column} "{n}\ttab\nline ' for column in columns}
        label = n * 0.75 if name == "stsb" else n % kinds
        table.append({**row, "label": -1 if split.startswith("test") else label, "idx": n + 40})
    path = folder / name / f"{(MNLI if name == 'mnli' else NAMES)[split]}-00000-of-00001.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    for number in range(shards):
        part = path.with_name(path.name.replace("00000-of-00001", f"0000{number}-of-0000{shards}"))
        parquet.write_table(arrow.Table.from_pylist(table[number::shards]), part)
    return table


@pytest.mark.parametrize("name, split", CASES)
def test_rows_are_those_of_the_parquet_file(tmp_path, name, split):
    table = write(tmp_path / "hub", name, split)
    (path,) = convert(tmp_path / "hub", tmp_path / "glue")
    found = read_split(TASKS[name], split, tmp_path / "glue")
    assert found.path == path
    assert [example.id for example in found.examples] == [str(n) for n in range(len(table))]
    for example, row in zip(found.examples, table, strict=True):
        texts = [v for k, v in row.items() if k not in ("label", "idx")]
        assert example.texts == tuple(" ".join(text.split()) for text in texts)
        assert example.label == (None if split.startswith("test") else row["label"])


def test_shards_of_a_split_follow_each_other_and_the_command_names_the_files(tmp_path, capsys):
    table = write(tmp_path / "hub", "qqp", "train", shards=2)
    Convert(source=tmp_path / "hub", target=tmp_path / "glue").run()
    assert capsys.readouterr().out == f"{tmp_path}/glue/QQP/train.tsv\n"
    labels = [e.label for e in read_split(TASKS["qqp"], "train", tmp_path / "glue").examples]
    assert labels == [row["label"] for row in table[0::2] + table[1::2]]


def test_folders_that_hold_something_else(tmp_path):
    with pytest.raises(ValueError, match=r"holds no parquet file of GLUE, such as mrpc/train-"):
        convert(tmp_path, tmp_path / "glue")
    write(tmp_path / "hub", "mnli", "dev")
    (tmp_path / "hub" / "mnli").rename(tmp_path / "hub" / "rte")
    with pytest.raises(ValueError, match=r"validation_matched.*parquet is no split of rte"):
        convert(tmp_path / "hub", tmp_path / "glue")
    write(tmp_path / "other", "sst2", "dev")
    (tmp_path / "other" / "sst2").rename(tmp_path / "other" / "rte")
    with pytest.raises(ValueError, match=r"has \['sentence', .*; 2 columns of text and a label"):
        convert(tmp_path / "other", tmp_path / "glue")
    (tmp_path / "other" / "rte" / "validation-00000-of-00001.parquet").write_text(
        "no parquet", encoding="utf-8"
    )
    with pytest.raises(ValueError, match="parquet is no parquet file, or damaged: "):
        convert(tmp_path / "other", tmp_path / "glue")


@pytest.mark.parametrize(
    "change, rule",
    [
        ({"sentence1": None}, "row 4: column 'sentence1' is None, and no text"),
        ({"sentence2": None}, "row 4: column 'sentence2' is None, and no text"),
        ({"label": None}, "row 4: column 'label' is None, and no number"),
    ],
)
def test_a_value_that_is_missing_is_named_by_its_row(tmp_path, change, rule):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = write(tmp_path, "rte", "train")
    rows[4].update(change)
    path = tmp_path / "rte" / "train-00000-of-00001.parquet"
    parquet.write_table(arrow.Table.from_pylist(rows), path)
    with pytest.raises(ValueError, match=rf"{path}: {rule}$"):
        convert(tmp_path, tmp_path / "glue")


def test_a_shard_that_is_missing_is_missed(tmp_path):
    write(tmp_path, "qqp", "train", shards=3)
    (tmp_path / "qqp" / "train-00001-of-00003.parquet").unlink()
    with pytest.raises(ValueError, match=r"has 2 of 3 shards of train, such as train-00000-of"):
        convert(tmp_path, tmp_path / "glue")


@pytest.mark.parametrize(
    "damage",
    [lambda b: b[: len(b) // 2], lambda b: b[:4] + bytes(60) + b[64:], lambda b: b""],
    ids=["half", "zeros", "empty"],
)
def test_damaged_parquet_is_named(tmp_path, damage):
    write(tmp_path, "sst2", "dev")
    (path,) = (tmp_path / "sst2").iterdir()
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match="is no parquet file, or damaged") as error:
        convert(tmp_path, tmp_path / "glue")
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


def test_without_pyarrow_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    path = tmp_path / "rte" / "train-00000-of-00001.parquet"
    path.parent.mkdir()
    path.touch()
    with pytest.raises(ValueError, match=r"needs pyarrow; install it: pip install 'minbert\[parq"):
        convert(tmp_path, tmp_path / "glue")
