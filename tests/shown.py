"""Runs for the tests of `minbert show`: one whose texts and labels would do harm if they were read
as HTML, and one of several tasks."""

import json
import re
import zlib
from base64 import b64decode

from helpers import FILLERS, config, write_backbone, write_data
from own_data import task_file, write_csv

from data.task_files import register_task_file
from multitask import train

HARM = "window.harmed = true"
HOSTILE = [
    f"<script>{HARM}</script>",
    f"</script><script>{HARM}</script>",
    f'<img src=x onerror="{HARM}">',
    f"\"'><svg onload='{HARM}'>",
    f"javascript:{HARM}",
    "<!-- <script>",
    "]]> {{7*7}} ${1} \\u003cscript\\u003e \u2028 \u202e \x07",
]
LABELS = (f"<b onmouseover='{HARM}'>bad</b>", "</table></style>fine", 'great" onclick="x')


def hostile_run(folder):
    """A run of a task with three hostile labels, in a folder with a hostile name."""
    write_backbone(folder / "backbone")
    rows = [["review", "verdict"]]
    for number in range(36):
        text = HOSTILE[number % len(HOSTILE)]
        rows.append([f"{FILLERS[number]} {text} {FILLERS[-number]}", LABELS[number % 3]])
    write_csv(folder / "reviews.csv", rows)
    classes = json.dumps(list(LABELS))
    keys = {"text": '"review"', "label": '"verdict"', "classes": classes, "hold_out": 0.5}
    task = register_task_file(task_file(folder, "hostile", **keys))
    name = f"<img src=x onerror={HARM.replace(' ', '')}>&"
    settings = {"tasks": (task.name,), "epochs": 1, "data_dir": None}
    return train(config(folder, name, **settings), progress=False).folder


def several_tasks(folder, name="several", **changes):
    """A run of a task of classes, of two of pairs, and of one of numbers."""
    if not (folder / "data").exists():
        write_backbone(folder / "backbone")
        write_data(folder / "data", {"train": 22, "dev": 60, "test": 3})
    settings = {"tasks": ("sst", "para", "sts"), "epochs": 2, "pair": "concat", "pooling": "mean"}
    return train(config(folder, name, **settings | changes), progress=False).folder


def block_of(page):
    """The JSON and the bytes of a page."""
    text = re.search(r'<script id="data" type="application/octet-stream">([\w+/=]*)<', page)[1]
    return unpacked(zlib.decompress(b64decode(text)))


def unpacked(data):
    length = int.from_bytes(data[:4], "little")
    return json.loads(data[4 : 4 + length]), data[4 + length :]
