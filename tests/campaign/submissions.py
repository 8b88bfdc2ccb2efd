"""Classes with hostile submissions among them, to `lab grade`."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

from lab_class import BY_NAME, edit, hand_in, walls, zipped
from test_lab_sandbox import ATTACKS, KILLERS, KILLING, PRELUDE

from campaign.cases import Case, contents, kind, require
from campaign.mutations import ANY, ODD_BYTES
from lab.grade import grade

NAMES = (
    "ada",
    "class.csv",
    "...",
    "-x",
    "a b",
    "\u202eada",
    "con",
    "x" * 200,
    "ADA",
    "=1+1",
    "\x1b[2J",
    "\n",
)
EXERCISES = ("embeddings", "moments", "pooling")


@kind("submission", "Whatever is handed in, each student has a grade, the honest one all points, "
      "and nothing outside changes.", 240)  # fmt: skip
def submission(case: Case) -> None:
    draw = case.draw
    handed = case.folder / "handed"
    honest = hand_in(handed / "honest")
    paths = [honest]
    for number in range(draw.choice([1, 2])):
        paths.append(hostile(case, handed / str(number)))
    draw.shuffle(paths)
    secret = case.folder / "secret"
    secret.write_text("[1]", encoding="utf-8")
    before, out = contents(handed), case.folder / "results"
    known = [BY_NAME[name] for name in EXERCISES]
    grades = grade(
        paths, out, exercises=known, seed=draw.randrange(2**31), unsafe=walls() == "none"
    )
    require(len(grades) == len(paths), f"{len(grades)} grades of {len(paths)}")
    with (out / "class.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    require(len(rows) == len(paths), f"{len(rows)} rows of {len(paths)} in class.csv")
    most = sum(exercise.points for exercise in known)
    row = rows[paths.index(honest)]
    require(row["name"] == "honest" and int(row["score"]) == most, f"the honest one has {row}")
    for path, row in zip(paths, rows):
        require(path == honest or int(row["score"]) < most, f"{path.name} has all points")
    require(contents(handed) == before, "what was handed in has changed")
    require(secret.read_text(encoding="utf-8") == "[1]", "a file outside has changed")
    here = {path.name for path in case.folder.iterdir()}
    require(here <= {"handed", "results", "secret", "notes.txt", "printed"}, f"new files: {here}")


def hostile(case: Case, parent: Path) -> Path:
    """A submission that is up to something; its embeddings are never right."""
    draw = case.draw
    name = draw.choice(NAMES)
    folder = hand_in(parent / name)
    place = folder / BY_NAME["embeddings"].places[0].path
    attacks = draw.sample(ATTACKS, 5)
    places = {name: str(case.folder / name) for name in ("secret", "outside", "neighbour")}
    places |= {"reference": str(place), "port": "9", "work": "/"}
    if draw.random() < 0.3:
        lines = [draw.choice([line for line, _ in KILLERS.values()])]
    else:
        lines = ["attack()", "return None"]
    edit(folder, "embeddings", *lines)
    code = f"\n{PRELUDE}\nATTACKS = {attacks!r}\nPLACES = {places!r}\n{KILLING}"
    place.write_text(place.read_text(encoding="utf-8") + code, encoding="utf-8")
    case.note(f"{name!r}: {lines[0]} {attacks if len(lines) > 1 else ''}")
    how = draw.choice(["folder", "folder", "damaged file", "odd file", "zip", "damaged zip"])
    case.note(how)
    if how == "damaged file":
        case.note(draw.choice(ANY)(draw, place))
    elif how == "odd file":
        odd = (
            folder
            / draw.choice(["minbert", "lab", "."])
            / draw.choice(["conftest.py", "x.pth", "\udcff"])
        )
        odd.parent.mkdir(exist_ok=True)
        odd.write_bytes(draw.choice(ODD_BYTES))
    elif "zip" in how:
        packed = zipped(folder, parent / f"{name[:100]}.zip")
        shutil.rmtree(folder)
        if how == "damaged zip":
            case.note(draw.choice(ANY[:-1])(draw, packed))
        return packed
    return folder
