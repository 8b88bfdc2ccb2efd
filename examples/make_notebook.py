"""Writes examples/minbert.ipynb, the notebook of the first hour: from install over a first training
to data of one's own, a comparison, transformers' pipeline and a report.

    python examples/make_notebook.py

The cells below are the notebook; tests/test_notebook.py runs them, with a small backbone.
"""

from __future__ import annotations

import json
from pathlib import Path

NOTEBOOK = Path(__file__).with_name("minbert.ipynb")
CELLS: tuple[tuple[str, str], ...] = (
    (
        "markdown",
        """
# minbert: your own data in an hour

A pretrained BERT, written by hand in PyTorch, is fine-tuned on a few tasks, then on data that you
make here; its answers are compared, handed to transformers, and reported.

On a laptop run `bash setup.sh` in the clone, and open this notebook with the Python of `.venv`. On
Colab or Kaggle first bring the clone there, as with `!git clone ADDRESS minbert` or an upload: the
next cell installs into the Python that runs, and leaves its PyTorch alone. With a GPU all of it
takes minutes, on two CPU cores some ten of them.
""",
    ),
    (
        "code",
        """
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

if importlib.util.find_spec("minbert") is None:
    places = (Path("minbert"), Path(".."), Path("."))
    clone = next(path for path in places if (path / "setup.sh").is_file()).resolve()
    setup = ["bash", str(clone / "setup.sh"), "--here"]
    subprocess.run(setup, check=True, env={**os.environ, "PYTHON": sys.executable})
    sys.path.insert(0, str(clone))  # this Python has started already
""",
    ),
    (
        "code",
        """
BACKBONE = "minilm"  # or a folder, or a name on the hub such as "bert-base-uncased"
""",
    ),
    (
        "markdown",
        """
## A first training

Four tasks on one encoder, on the small data that comes along: what `minbert demo` does, with fewer
rows. `constant` is what one answer to all rows would score.
""",
    ),
    (
        "code",
        """
from IPython.display import SVG, Image, Markdown, display

from multitask import Predictor, TrainConfig, train
from multitask.commands.words import record_table

shared = {"backbone": BACKBONE, "lr": 1e-4, "overwrite": True}
demo = train(
    TrainConfig(
        tasks=("sst", "para", "sts", "cola"),
        pooling="mean",
        epochs=1,
        limit=100,
        out="runs/first",
        **shared,
    )
)
print(record_table(demo.record()))
Image(filename=demo.figure_path)
""",
    ),
    (
        "markdown",
        """
## Data of your own

A CSV file with a header, a text and a label in each row. Put your own in its place.
""",
    ),
    (
        "code",
        """
import csv

THINGS = ["kettle", "lamp", "chair", "clock", "radio", "bag", "coat", "knife", "phone", "bicycle"]
SAID = {
    "praise": ["I love this {}.", "A fine {}, well made.", "The best {} that I ever had.",
               "My new {} works like a charm.", "What a beautiful {}!", "This {} was worth it.",
               "Everybody asks where I got my {}.", "The {} came early and is perfect."],
    "complaint": ["The {} was broken after a week.", "I want my money back for this {}.",
                  "A bad {}, badly made.", "Nobody answers when I write about the {}.",
                  "The {} never came.", "This {} is much too loud.", "What an ugly {}!",
                  "My {} fell apart, do not buy it."],
}
with open("reviews.csv", "w", encoding="utf-8", newline="") as file:
    rows = csv.writer(file)
    rows.writerow(["review", "verdict"])
    for thing in THINGS:
        for verdict, sentences in SAID.items():
            rows.writerows([sentence.format(thing), verdict] for sentence in sentences)
""",
    ),
    (
        "markdown",
        """
`minbert task new` says what it takes each column for, and why, and writes a task file. A guess is a
guess: read the file, and mend it where it is wrong.
""",
    ),
    (
        "code",
        """
!{sys.executable} -m multitask task new reviews.csv --overwrite
print(Path("reviews.toml").read_text(encoding="utf-8"))
""",
    ),
    (
        "markdown",
        """
## Two models of it, and which is better

The library's own head on the mean of all tokens, and transformers' head on the first.
""",
    ),
    (
        "code",
        """
own = {"task_files": ("reviews.toml",), "epochs": 3, **shared}
plain = train(TrainConfig(pooling="mean", out="runs/plain", **own))
linear = train(TrainConfig(head="linear", out="runs/linear", **own))
""",
    ),
    (
        "code",
        """
from multitask.commands.compare_commands import described
from multitask.experiments.compare_runs import compare_runs
from multitask.experiments.groups import group_of
from multitask.experiments.curves import draw_curves

print(described(compare_runs("runs/plain", "runs/linear"), rows=2))
SVG(draw_curves([group_of("runs/plain"), group_of("runs/linear")], Path("figures/curves.svg")))
""",
    ),
    (
        "markdown",
        """
An interval with zero in it says that on these rows the two may well be alike. What is answered
wrong with most confidence is worth a look: `minbert evaluate runs/linear --mistakes 5`.

## Answers
""",
    ),
    (
        "code",
        """
texts = ["I would buy this teapot again.", "It stopped working on the second day."]
for answer in Predictor("runs/linear").predict("reviews", texts):
    print(f"{answer.label} ({answer.probability:.2f}): {answer.texts[0]}")
""",
    ),
    (
        "markdown",
        """
## To transformers

A folder that `AutoModelForSequenceClassification` and `pipeline` load, with the same answers, the
names of the labels, and a model card.
""",
    ),
    (
        "code",
        """
import shutil

from multitask.export.folders import export_run

shutil.rmtree("my-classifier", ignore_errors=True)
export_run("runs/linear", "my-classifier", task="reviews")
if importlib.util.find_spec("transformers"):
    from transformers import pipeline

    for answer in pipeline("text-classification", model="my-classifier")(texts):
        print(answer)
else:
    print("pip install transformers, then run this cell again")
""",
    ),
    (
        "markdown",
        """
## A report

Records of runs are kept, a few kilobytes each, and tables of a document are drawn from them: nobody
types a number. `docs/report-template.md` is a report to fill in.
""",
    ),
    (
        "code",
        """
from multitask.report.document import RESULTS, report_on_records
from multitask.report.keeping import keep

for run in (plain, linear):
    keep(run.folder)
report = Path("Report.md")
if not report.exists():
    begin, end = RESULTS
    report.write_text(f"# Reviews of things\\n\\n{begin}{end}\\n", encoding="utf-8")
report_on_records([report])
display(Markdown(report.read_text(encoding="utf-8")))
""",
    ),
    (
        "markdown",
        """
Go on with `docs/tasks.md` (pairs, numbers, several labels at once), `docs/sweep.md` (a search over
settings), `docs/comparing.md`, `docs/export.md`, and with `examples/bert_written_out.py`, BERT on
one page.
""",
    ),
)


def notebook() -> str:
    """The notebook's text, in nbformat 4.5."""
    cells = []
    for number, (kind, text) in enumerate(CELLS, start=1):
        cell = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}}
        if kind == "code":
            cell |= {"execution_count": None, "outputs": []}
        cells.append({**cell, "source": text.strip().splitlines(keepends=True)})
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    whole = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    NOTEBOOK.write_text(notebook(), encoding="utf-8", newline="\n")
    print(NOTEBOOK)
