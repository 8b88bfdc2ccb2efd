"""A class for the tests of grading: exercises that are set, right submissions, changes to them."""

import shutil
import zipfile
from pathlib import Path

from lab import sandbox
from lab.exercises import BY_NAME
from lab.marking import Marking
from lab.source import replace_body

ROOT = Path(__file__).parent.parent
SET = ("embeddings", "attention", "heads", "add_norm", "feed_forward", "moments",
       "bias_correction", "weight_decay", "no_decay", "warmup", "pooling", "sampling",
       "mlm_masking", "layer_rates", "bitfit", "lora_merge", "surgery", "rope")  # fmt: skip
"""Exercises of every part."""
EXERCISES_SET = [BY_NAME[name] for name in SET]
POINTS = sum(e.points for e in EXERCISES_SET)


def walls() -> sandbox.Kind:
    """The best sandbox here, or none."""
    return next((kind for kind in sandbox.WALLS if sandbox.failure(kind) is None), "none")


def prepare(folder: Path, kind: sandbox.Kind) -> Marking:
    folder.chmod(0o755)
    made = Marking.prepare(folder, EXERCISES_SET, 4321, kind)
    made.seconds = 3.0
    return made


def hand_in(folder: Path) -> Path:
    """What a student hands in who has done everything; only files with exercises."""
    for exercise in EXERCISES_SET:
        for place in exercise.places:
            (folder / place.path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / place.path, folder / place.path)
    return folder


def edit(folder: Path, name: str, *lines: str, of: int = 0) -> None:
    """Put other lines into the body of an exercise."""
    place = BY_NAME[name].places[of]
    path = folder / place.path
    text = replace_body(path.read_text(encoding="utf-8"), place.name, list(lines))
    path.write_text(text, encoding="utf-8")


def zipped(folder: Path, path: Path, inside: str = "") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, inside + file.relative_to(folder).as_posix())
    return path


def points(found) -> set[str]:
    """The exercises that are right."""
    return {name for name, verdict in found.verdicts.items() if verdict.status == "done"}
