"""Which tests are slow, and where their fixtures are: in shared_fixtures.py."""

import gc
import os
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # before huggingface_hub is imported: no test needs the net
# What small tensors want, and the same sums on every machine; processes of tests have it too.
os.environ["OMP_NUM_THREADS"] = "1"
# Of what processes of tests import; in this one pyproject.toml rules.
os.environ["PYTHONWARNINGS"] = "ignore::EncodingWarning"

SLOW = """
    adapter_runs benchmarks campaign claim compile damage distill distributed docs every_encoder
    ensemble epoch_lines export lab_grade lab_checks lab_handout lab_sandbox lab_show
    lab_solutions linear_head live made_files old_runs own_runs page
    pretraining resume setup show site trainer training_scripts two_stage
    windows
"""
"""Files whose tests train, start processes or draw: `pytest -m "not slow"` leaves them out."""
SLOW_FILES = {f"test_{name}.py" for name in SLOW.split()}


def pytest_configure(config: pytest.Config) -> None:
    """With -n, the process that hands tests to others does without what fixtures import."""
    assert all((Path(__file__).parent / name).is_file() for name in SLOW_FILES)
    if not config.getoption("numprocesses", None):
        config.pluginmanager.import_plugin("shared_fixtures")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The quick tier does not even import the files whose tests are all slow."""
    quick = config.getoption("markexpr") == "not slow"
    return True if quick and collection_path.name in SLOW_FILES else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.name in SLOW_FILES:
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish() -> None:
    """Spare the garbage collector, which each training calls, what the tests have imported."""
    gc.collect()
    gc.freeze()
