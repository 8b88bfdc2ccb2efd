"""Small made-up data of a user's own, of the words that the tiny backbone knows: reviews with text
labels, pairs with a number, tickets with several labels at once."""

import csv
import random

from helpers import FILLERS

from data import tasks

SIGNS = {"bad": "awful", "fine": "plain", "great": "superb"}
TAGS = {"billing": "zero", "delivery": "one", "login": "two"}


def forget_own_tasks():
    """Leave the tasks that come along, as in another process."""
    for name in [name for name in tasks.TASKS if not tasks.is_built_in(name)]:
        del tasks.TASKS[name]
    tasks._OF_RUNS.clear()


def words(draw, *signs):
    found = [*draw.choices(FILLERS, k=draw.randint(2, 6)), *signs]
    draw.shuffle(found)
    return " ".join(found)


def write_csv(path, rows, *, delimiter=",", encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding=encoding, newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return path


def reviews(folder, count=60, **how):
    """One of three words gives the label away; every seventh text has a line end and quotes."""
    draw = random.Random(1)
    rows = [["review", "verdict"]]
    for number in range(count):
        label = list(SIGNS)[number % 3]
        text = words(draw, SIGNS[label])
        rows.append([f'{text}\nand "so", on' if number % 7 == 0 else text, label])
    return write_csv(folder / "reviews.csv", rows, **how)


def pairs(folder, count=60, **how):
    draw = random.Random(2)
    rows = [["id", "text_1", "text_2", "closeness"]]
    for number in range(count):
        level = number % 4
        sign = ["zero", "one", "two", "three"][level]
        rows.append([f"p{number}", words(draw), words(draw, sign), level * 500])
    return write_csv(folder / "pairs.csv", rows, **how)


def tickets(folder, count=80, separator=";", **how):
    draw = random.Random(3)
    rows = [["ticket", "tags"]]
    for number in range(count):
        held = [tag for bit, tag in enumerate(TAGS) if number >> bit & 1]
        rows.append([words(draw, *(TAGS[tag] for tag in held)), separator.join(held)])
    return write_csv(folder / "tickets.csv", rows, **how)


def task_file(folder, stem="mine", files=None, **keys):
    """A task file; values are TOML."""
    keys = {"name": f'"{stem}"', "kind": '"classes"', **keys}
    lines = [f"{key} = {value}" for key, value in keys.items() if key != "hold_out"]
    lines += ["[hold_out]", f"dev = {keys.get('hold_out', 0.2)}"] if "hold_out" in keys else []
    for file in files or [{"path": '"reviews.csv"', "split": '"train"'}]:
        lines += ["[[files]]", *(f"{key} = {value}" for key, value in file.items())]
    path = folder / f"{stem}.toml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
