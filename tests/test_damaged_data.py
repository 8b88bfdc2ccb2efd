"""Damaged data files are refused in a line, or read without losing a row."""

from random import Random

import pytest
from table_damage import DAMAGES, try_data_file

WHOLE = {"nothing", "CRLF", "BOM"}
NO_DATA = {"CR", "UTF-16", "UTF-16 without BOM", "UTF-32", "spaces", "Git LFS", "HTML", "gzip",
           "empty"}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_file_loses_no_row(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    found = {try_data_file(Random(seed), tmp_path, name=name) for seed in range(6)}
    if name in WHOLE:
        assert found == {"read"}
    if name in NO_DATA:
        assert found == {"refused"}
