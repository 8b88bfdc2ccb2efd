"""The test answers in records/predictions: of each id of a test file one, and one that may be."""

import hashlib
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "records" / "predictions"
FILES = {
    "sst": ("da424f17d19bf202fb6019ca5df9523cd829d73dabab4924b65fafc3b0a4ad7c", 2210),
    "sts": ("de97092e0d4e884d36c2763acf038dc195f59e83b75f87a618ef6f9bcba03e75", 1725),
}
"""Task -> SHA-256 of the sorted ids of the course's test file, and how many they are."""


@pytest.mark.parametrize("task", FILES)
def test_each_id_of_the_course_is_answered_once(task):
    digest, count = FILES[task]
    text = (FOLDER / f"{task}-test-output.csv").read_text(encoding="utf-8")
    header, *lines = text.splitlines()
    assert header.startswith("id \t Predicted_")
    rows = [line.split(" , ") for line in lines]
    ids, answers = zip(*rows, strict=True)
    assert len(set(ids)) == len(ids) == count
    assert hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest() == digest
    if task == "sst":
        assert {answer.strip() for answer in answers} <= set("01234")
    else:
        assert all(-1 < float(answer) < 6 for answer in answers)


def test_each_row_of_mrpc_is_answered_once():
    """GLUE numbers its 1,725 test rows from 0."""
    header, *lines = (FOLDER / "MRPC.tsv").read_text(encoding="utf-8").splitlines()
    assert header == "index\tprediction"
    indices, answers = zip(*(line.split("\t") for line in lines), strict=True)
    assert indices == tuple(map(str, range(1725)))
    assert set(answers) == {"0", "1"}
