"""The commands of the lab: start, check, next, show, hint, replay, diff, predictions, hand-in,
grade and bundle."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from lab.exercises import EXERCISES, PARTS, numbered, parse_numbers
from lab.whose import ROOT, copy_around, described, quoted

LIMITS = (
    "An exercise may compute for 10 seconds, however busy the machine is, and take 60 with what it "
    "waits for; its check takes a small part of one."
)


def parser() -> argparse.ArgumentParser:
    """The command line of `minbert lab`."""
    top = argparse.ArgumentParser(
        prog="minbert lab",
        description="Exercises cut out of this library: start a student's copy, check it, get "
        "hints, grade.",
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    start = commands.add_parser("start", help="write a student's copy, with bodies to fill in")
    start.add_argument("folder", type=Path, help="new folder for the copy")
    start.add_argument("--only", choices=PARTS, help="set the exercises of one part alone")
    start.add_argument("--with-solutions", metavar="1-4", help="leave these exercises solved")
    start.add_argument(
        "--with-references", action="store_true",
        help="permit `minbert lab diff`: the copy then holds the solutions, packed",
    )  # fmt: skip
    start.set_defaults(run=run_start)

    check = commands.add_parser(
        "check", help="say what is done, what is wrong, and why", epilog=LIMITS
    )
    check.add_argument("number", nargs="?", type=int, help="one exercise; by default all")
    check.add_argument(
        "--folder", type=Path, default=Path(),
        help="the copy to check, or a checkout of CS224N's or CMU's minBERT; by default this one",
    )  # fmt: skip
    check.add_argument("--all", action="store_true", help="do not stop at the first that is wrong")
    how = check.add_mutually_exclusive_group()
    how.add_argument(
        "--watch", action="store_true", help="check again what a saved file changes, until Ctrl-C"
    )
    how.add_argument(
        "--pdb", action="store_true", help="stay in the terminal: breakpoint() and errors debug"
    )
    check.set_defaults(run=run_check)

    following = commands.add_parser("next", help="what to do now: where, how hard, how long")
    following.set_defaults(run=run_next)

    show = commands.add_parser("show", help="an exercise's inputs and results as pictures")
    show.add_argument("number", type=int)
    show.add_argument("--out", type=Path, help="file to write; by default in pictures/")
    show.add_argument("--no-open", action="store_true", help="do not open it in the browser")
    show.set_defaults(run=run_show)

    hint = commands.add_parser("hint", help="three hints on an exercise, each stronger")
    hint.add_argument("number", type=int)
    hint.add_argument("level", nargs="?", type=int, choices=(1, 2, 3), default=1)
    hint.set_defaults(run=run_hint)

    replay = commands.add_parser("replay", help="open the first case that is wrong in a prompt")
    replay.add_argument("number", type=int)
    replay.add_argument("--print", action="store_true", help="print it, and open no prompt")
    replay.set_defaults(run=run_replay)

    diff = commands.add_parser("diff", help="your solution of an exercise beside the library's")
    diff.add_argument("number", type=int)
    diff.set_defaults(run=run_diff)

    predictions = commands.add_parser("predictions", help="what is wrong with prediction files")
    predictions.add_argument("folder", nargs="?", type=Path, default=Path("predictions"))
    predictions.add_argument("--data-dir", type=Path, help="the tasks' data, to score them")
    predictions.set_defaults(run=run_predictions)

    hand_in = commands.add_parser("hand-in", help="make the zip file to hand in, and check it")
    hand_in.add_argument("path", nargs="?", type=Path, help="by default hand-in.zip in the copy")
    hand_in.set_defaults(run=run_hand_in)

    grade = commands.add_parser(
        "grade", help="for teachers: grade submissions in a sandbox", epilog=LIMITS
    )
    grade.add_argument("submissions", nargs="+", type=Path, help="folders, zip or tar files")
    grade.add_argument("--out", type=Path, default=Path("results"), help="folder for the results")
    grade.add_argument("--only", choices=PARTS, help="the part that was set")
    grade.add_argument("--exclude", metavar="1-4", help="exercises that were solved in the copy")
    grade.add_argument("-j", "--jobs", type=int, default=1, help="submissions graded at once")
    grade.add_argument(
        "--predictions", nargs="+", default=[], metavar="TASK",
        help="tasks whose prediction files were asked for",
    )  # fmt: skip
    grade.add_argument("--data-dir", type=Path, help="the tasks' data, to score predictions")
    grade.add_argument("--seed", type=int, help="hidden seed; by default a fresh one")
    grade.add_argument(
        "--unsafe", action="store_true", help="grade even where no sandbox can be made"
    )
    grade.set_defaults(run=run_grade)

    bundle = commands.add_parser("bundle", help="for teachers: an autograder for Gradescope")
    bundle.add_argument("path", type=Path, help="zip file to write")
    bundle.add_argument("--only", choices=PARTS, help="the part that was set")
    bundle.add_argument("--exclude", metavar="1-4", help="exercises that were solved in the copy")
    bundle.set_defaults(run=run_bundle)
    return top


def run_start(given: argparse.Namespace) -> int:
    from lab import handout

    exercises = tuple(e for e in EXERCISES if given.only in (None, e.part))
    solved = parse_numbers(given.with_solutions) if given.with_solutions else ()
    handout.start(
        given.folder, exercises=exercises, solved=solved, references=given.with_references
    )
    folder = quoted(given.folder)
    print(f"{len(exercises)} exercises are in {folder}; README.md is the assignment. Then:")
    print(f"  cd {folder}")
    print("  minbert lab check             # with this environment; to train, take the copy's own:")
    print("  bash setup.sh --cpu           # 2 GB of disk; without --cpu, on Linux, 5.5 GB")
    print("  source .venv/bin/activate")
    return 0


def run_check(given: argparse.Namespace) -> int:
    from lab.check import assigned, check, find_copy, stamp_of

    folder = given.folder.resolve()
    if copy_around(folder) is None and (checkout := other_courses(folder)) is not None:
        return check_checkout(checkout, given)
    root = find_copy(folder)
    exercises = assigned(root)
    if given.number is not None:
        if numbered(given.number) not in exercises:
            raise ValueError(f"exercise {given.number} is not set in this copy")
        exercises = (numbered(given.number),)
    say_whose(root)
    if given.watch:
        from lab.watch import CopyWatch

        CopyWatch(root, exercises).run()
    all_done = check(root, exercises, go_on=given.all, terminal=given.pdb)
    if made_from := stamp_of(root):
        print(f"This copy was made from {made_from}.")
    return 0 if all_done else 1


def other_courses(folder: Path) -> Path | None:
    """The checkout of another course's project that a folder is in; a copy knows of none."""
    if not Path(__file__).with_name("course").is_dir():
        return None
    from lab.course.layout import checkout_around

    return checkout_around(folder)


def check_checkout(root: Path, given: argparse.Namespace) -> int:
    """Check another course's project, by the names of its own."""
    from lab.course import parts, report

    chosen = parts.PARTS if given.number is None else (parts.numbered(given.number),)
    if given.watch:
        from lab.course.watch import CheckoutWatch

        report.begin(root)
        CheckoutWatch(root, chosen).run()
    return 0 if report.check(root, chosen, go_on=given.all, terminal=given.pdb) else 1


def copy_here() -> Path:
    """The student's copy that the current folder is in.

    Raises:
        ValueError: it is in none.
    """
    from lab.check import find_copy

    folder = Path.cwd()
    if copy_around(folder) is None and other_courses(folder) is not None:
        raise ValueError(
            "in another course's project there are minbert lab check, replay and hint; this "
            "command takes the lab's own copies: minbert lab start my-work"
        )
    return find_copy(folder)


def say_whose(root: Path) -> None:
    """Say whose code is checked, and that `minbert` is another's, where it is."""
    print(f"checking the code in {quoted(root)}")
    if root != ROOT:
        print(f"`minbert` is {described(ROOT)}: it checks this copy, and trains nothing with it")


def run_next(given: argparse.Namespace) -> int:
    from lab.progress import show_next

    show_next(copy_here())
    return 0


def run_diff(given: argparse.Namespace) -> int:
    from lab.progress import show_beside

    show_beside(copy_here(), numbered(given.number))
    return 0


def run_predictions(given: argparse.Namespace) -> int:
    from lab.handin import predictions_lint

    return predictions_lint(given.folder, given.data_dir)


def run_hand_in(given: argparse.Namespace) -> int:
    from lab.handin import NAME, hand_in

    root = copy_here()
    return hand_in(root, given.path or root / NAME)


def run_show(given: argparse.Namespace) -> int:
    from lab.check import assigned
    from lab.show import show
    from lab.terminal import open_page

    root, exercise = copy_here(), numbered(given.number)
    if exercise not in assigned(root):
        raise ValueError(f"exercise {given.number} is not set in this copy")
    path = given.out or root / "pictures" / f"{exercise.number}-{exercise.name}.html"
    print(show(root, exercise, path))
    if not given.no_open:
        open_page(path.resolve().as_uri())
    return 0


def run_hint(given: argparse.Namespace) -> int:
    exercise = numbered(given.number)
    print(f"{exercise.heading}, hint {given.level} of 3")
    print(f"  {exercise.hints[given.level - 1]}")
    if given.level < 3:
        print(f"More: minbert lab hint {given.number} {given.level + 1}")
    return 0


def run_replay(given: argparse.Namespace) -> int:
    from lab.replay import start

    folder = Path.cwd()
    if copy_around(folder) is None and (checkout := other_courses(folder)) is not None:
        from lab.course import parts, replay

        return replay.start(checkout, parts.numbered(given.number), printed=given.print)
    return start(copy_here(), numbered(given.number), printed=given.print)


def run_grade(given: argparse.Namespace) -> int:
    from lab import grade

    if given.jobs < 1:
        raise ValueError(f"-j {given.jobs} grades nothing; it is 1 or more")
    solved = parse_numbers(given.exclude) if given.exclude else ()
    exercises = [e for e in EXERCISES if given.only in (None, e.part) and e not in solved]
    if not exercises:
        raise ValueError("no exercise is left to grade; see --only and --exclude")
    grades = grade.grade(
        given.submissions,
        given.out,
        exercises=exercises,
        seed=given.seed,
        data_dir=given.data_dir,
        predictions=given.predictions,
        unsafe=given.unsafe,
        jobs=given.jobs,
    )
    gone = [quoted(path) for path in given.submissions if not path.exists()]
    if gone:
        print(f"error: not there: {', '.join(gone)}", file=sys.stderr)
    elif not any(each.texts for each in grades):
        print("error: nothing was there to grade; the notes say why", file=sys.stderr)
        return 1
    return 1 if gone else 0


def run_bundle(given: argparse.Namespace) -> int:
    from lab.bundle import bundle

    parse_numbers(given.exclude or "1")
    print(bundle(given.path, only=given.only, exclude=given.exclude))
    return 0


def lab(words: Sequence[str]) -> int:
    """Run a command of the lab; gives the exit code."""
    given = parser().parse_args(words)
    lab = Path(__file__).resolve().parent
    if given.run in (run_start, run_grade, run_bundle):
        why = ""
        if not (lab / "handout.py").exists():
            why = "this is a student's copy; this takes the project itself"
        elif not (lab.parent / "setup.sh").exists():
            why = (
                "copies are made from a clone of the project, and this is a package of it; in a "
                "clone: bash setup.sh minbert lab ..."
            )
        if why:
            print(f"error: {why}", file=sys.stderr)
            return 2
    if not hasattr(os, "fork") and given.run in (run_check, run_grade, run_bundle):
        print(
            "error: code to be checked is started as Linux and macOS do it; on Windows work in WSL "
            "(wsl --install), or run the same checks with pytest tests/exercises",
            file=sys.stderr,
        )
        return 2
    try:
        return given.run(given)
    except BrokenPipeError:  # no mistake: see lab/terminal.py
        raise
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
