"""`minbert lab grade`: many submissions, each in a sandbox, against hidden numbers.

Of a submission the files that hold exercises are taken, and Python files that it has added, into a
clean copy of the library in which all exercises are blank: its tests, lab, conftest and site hooks
are not even looked at but to name what was altered. The code runs on a fresh seed in a sandbox
(lab/sandbox.py), and the numbers that it gives are compared here, out of its reach. Whatever a
submission is or does, it gets a grade, and the class goes on.

    OUT/NAME/results.json    as Gradescope reads it
    OUT/class.csv            a line for each submission; written anew after each
    OUT/similar.csv          pairs of submissions that look alike (lab/similar.py)
"""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import sandbox
from lab.collect import Handed, collect, folder_name, without_suffix
from lab.diagnose import Verdict, judge, shown
from lab.exercises import EXERCISES, TRAINED, WHOLE, Exercise
from lab.intake import altered, other_version, put_in
from lab.marking import Marking
from lab.outcomes import KEPT, Launch, Output, outcomes
from lab.parallel import in_parallel
from lab.results import Grade, write_class, write_results
from lab.similar import bodies_of, write_similar
from lab.submission import open_submission
from lab.suspects import judge_whole, withdraw

if TYPE_CHECKING:
    from lab.predictions import Labels


MANY = 4
"""Submissions from which on PyTorch is imported once for all of them."""


def grade(
    paths: Sequence[Path],
    out: Path,
    *,
    exercises: Sequence[Exercise] = EXERCISES,
    seed: int | None = None,
    data_dir: Path | None = None,
    predictions: Collection[str] = (),
    unsafe: bool = False,
    jobs: int = 1,
) -> list[Grade]:
    """Grade submissions and write the results.

    Args:
        paths: folders or archives, of one student or of a class.
        out: folder for the results.
        exercises: those that were set.
        seed: of the hidden inputs, by default a fresh one, which the results name.
        data_dir: folder with the tasks' data, to score predictions for the leaderboard.
        predictions: tasks whose prediction files were asked for.
        unsafe: whether to grade where no sandbox can be made.
        jobs: how many submissions are graded at once.

    Raises:
        ValueError: no sandbox can be made, or the data cannot be read. Nothing that was handed in
            raises.
    """
    from lab.predictions import read_labels

    seed = secrets.randbelow(2**31) if seed is None else seed
    labels = {} if data_dir is None else read_labels(data_dir)
    total = sum(exercise.points for exercise in exercises)
    grades: list[Grade] = []
    bodies: dict[str, dict[str, str]] = {}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(
            tempfile.TemporaryDirectory(prefix="grade-", ignore_cleanup_errors=True)
        ))  # fmt: skip
        folder.chmod(0o755)  # another user comes by
        class_ = collect(paths, folder)
        kind = sandbox.choose(unsafe=unsafe, hidden=[out, *paths], many=len(class_) >= MANY)
        marking = Marking.prepare(folder, exercises, seed, kind, jobs)
        stack.callback(marking.close)
        names: dict[str, Handed] = {}
        for handed in class_:
            plain = handed.name == handed.path.name
            names[folder_name(handed.path if plain else Path(handed.name), names)] = handed

        def one(item: tuple[str, Handed]) -> Grade:
            name, handed = item
            try:
                if handed.problem:
                    raise ValueError(handed.problem)
                found = grade_one(
                    handed.path, marking, name=name, as_=handed.name, labels=labels,
                    predictions=predictions,
                )  # fmt: skip
                found.notes = [shown(note, 2000) for note in found.notes]
                write_results(out / name / "results.json", found, exercises, seed)
            except Exception as error:
                why = shown(f"it could not be graded: {type(error).__name__}: {error}")
                found = Grade(name, {e.name: Verdict("wrong", why) for e in exercises}, [why])
                with contextlib.suppress(OSError):  # the table says so in any case
                    write_results(out / name / "results.json", found, exercises, seed)
            return found

        for found in in_parallel(one, list(names.items()), jobs):
            grades.append(found)
            bodies[found.name] = bodies_of(found.texts, exercises)  # while others are graded
            write_class(out / "class.csv", grades, exercises)
            print(f"{found.name}: {found.score} of {total} points", flush=True)
            for note in (*found.notes, *found.private):
                print(f"  {note}")
    write_class(out / "class.csv", grades, exercises)
    pairs = write_similar(out / "similar.csv", bodies, exercises)
    if pairs:
        print(
            f"{pairs} pairs of submissions look alike; {out / 'similar.csv'} is a list to look at"
        )
    print(f"seed {seed}; results are in {out}")
    return grades


def grade_one(
    path: Path,
    marking: Marking,
    *,
    name: str,
    as_: str = "",
    labels: Labels | None = None,
    predictions: Collection[str] = (),
) -> Grade:
    """Grade one submission.

    Args:
        path: the folder or archive.
        marking: what it is held against.
        name: the grade's.
        as_: the name that it was handed in by, if it is not that of the path.
        labels: of predictions, to score them.
        predictions: tasks whose prediction files must be there.
    """
    began = time.monotonic()
    found = Grade(name, {})
    as_ = as_ or os.path.basename(os.path.abspath(path))
    if name not in (as_, without_suffix(as_)):
        found.private.append(f"handed in as {shown(as_, 200)}")
    try:
        submission = open_submission(path, marking.wanted, as_)
    except ValueError as error:
        return nothing(found, marking, shown(str(error)))
    found.notes += submission.notes
    version = other_version(submission, marking.clean)
    found.notes += [*version, *altered(submission, marking, packages=not version)]
    with marking.copies.one() as copy:
        put_in(submission, copy, marking, found)
        if not found.texts:
            return nothing(found, marking, "None of the files of the exercises could be read.")
        output = Output()
        launch = Launch(
            root=copy.root,
            supplied=marking.supplied,
            seed=marking.seed,
            seconds=marking.seconds,
            wait=marking.wait,
            command=sandbox.command(
                marking.kind,
                copy.root,
                copy.place,
                own=[marking.supplied],
                nursery=marking.nursery,
            ),
            environment=sandbox.ENVIRONMENT,
        )
        wanted = [*marking.exercises, TRAINED, WHOLE]
        with contextlib.closing(outcomes(launch, wanted, output)) as run:
            for exercise, outcome in run:
                if take(exercise, outcome, marking, found):
                    break
        if output.length > KEPT:
            found.private.append(f"printed {output.length:,} bytes")
    if labels or predictions or any("predictions/" in each for each in submission.places):
        from lab.predictions import inspect

        problems, found.leaderboard = inspect(submission, labels or {}, predictions)
        found.notes += problems
    found.seconds = time.monotonic() - began
    return found


def take(exercise: Exercise, outcome: dict[str, Any], marking: Marking, found: Grade) -> bool:
    """Add what there is to say of an outcome; whether that is all there is to say.

    What comes next has hardly begun then. All have to be done before they are trained together, and
    the whole, which takes the points of who trains otherwise than alone, is asked where that comes
    out wrong.
    """
    expected = marking.expected[exercise.name]
    if exercise == TRAINED:
        with contextlib.suppress(Exception):  # as below; the whole says so
            return judge_whole(outcome, expected).status == "done"
        return False
    try:
        if exercise == WHOLE:
            found.notes += withdraw(found.verdicts, outcome, expected)
        else:
            found.verdicts[exercise.name] = judge(outcome, expected)
    except Exception:  # values that no check gives: the submission wrote them itself
        if exercise == WHOLE:
            found.notes.append("the whole: what came out of it cannot be read")
        else:
            found.verdicts[exercise.name] = Verdict("wrong", "What came out of it cannot be read.")
    every = len(found.verdicts) == len(marking.exercises)
    return every and any(v.status != "done" for v in found.verdicts.values())


def nothing(found: Grade, marking: Marking, why: str) -> Grade:
    """The grade of what could not be read."""
    found.verdicts = {e.name: Verdict("wrong", why) for e in marking.exercises}
    if why not in found.notes:
        found.notes.append(why)
    return found
