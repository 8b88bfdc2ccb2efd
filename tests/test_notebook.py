"""The notebook: it is what its script writes, and runs from its first cell to its last."""

import json
import os
import sys
from pathlib import Path

import pytest
from helpers import write_backbone

from examples.make_notebook import CELLS, NOTEBOOK, notebook

ROOT = Path(__file__).resolve().parent.parent


def test_the_notebook_is_what_its_script_writes():
    assert NOTEBOOK.read_text(encoding="utf-8") == notebook()
    assert max(len(line) for _, text in CELLS for line in text.splitlines()) <= 100


@pytest.mark.slow
def test_the_notebook_runs(tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="bash setup.sh pytest installs it")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    write_backbone(tmp_path / "tiny")
    started = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel = tmp_path / "jupyter" / "kernels" / "python3" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    kernel.write_text(json.dumps({"argv": started, "display_name": "Python 3"}), encoding="utf-8")
    for name, value in {
        "JUPYTER_PATH": kernel.parents[2],
        "JUPYTER_RUNTIME_DIR": tmp_path / "runtime",
        "IPYTHONDIR": tmp_path / "ipython",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }.items():
        monkeypatch.setenv(name, str(value))

    found = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(found)
    (chosen,) = (cell for cell in found.cells if cell.source.startswith("BACKBONE ="))
    chosen.source = f"BACKBONE = {str(tmp_path / 'tiny')!r}"
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(found, timeout=100, resources=resources).execute()

    outputs = {
        cell.source.splitlines()[0]: [*cell.get("outputs", [])]
        for cell in found.cells
        if cell.cell_type == "code"
    }
    text = json.dumps(list(outputs.values()))
    assert "2 classes: praise 80, complaint 80" in text
    assert "McNemar, exact" in text and "one answer to all rows" in text
    assert "image/png" in text and "image/svg+xml" in text
    assert "'label': 'praise'" in text or "'label': 'complaint'" in text
    assert (tmp_path / "my-classifier" / "model.safetensors").is_file()
