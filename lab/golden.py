"""The expected numbers of each exercise, made from lab/answers: what is right, and what each
catalogued mistake gives; and the calls of upstream functions, with which they are supplied.

    FOLDER/expected/NAME.json    for the comparison
    FOLDER/supplied/NAME.json    for the process that runs the student's code

Imports torch, and is never in a handout.
"""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from lab.answers import MISTAKES, RIGHT, Mistake, load_answers
from lab.calls import Shown, watched
from lab.exercises import TRAINED, WHOLE, Exercise
from lab.harness import cases
from lab.planting import planted
from lab.runner import describe
from lab.upstream import Call, recorded


def outcome(exercise: Exercise, seed: int) -> dict[str, Any]:
    """What the check of an exercise gives on the code as it is: its cases, and the exception."""
    found: dict[str, Any] = {"cases": [], "error": None}
    try:
        for case in cases(exercise, seed):
            found["cases"].append(case)
    except Exception as error:
        found["error"] = describe(error)
    return found


def expected(exercise: Exercise, seed: int) -> tuple[dict[str, Any], list[Call]]:
    """Right outcome and mistakes' outcomes of an exercise, and the calls upstream.

    Of the whole the library's own code is right: answers stand for one exercise at a time.
    """
    load_answers()
    if exercise in (TRAINED, WHOLE):
        return {"right": outcome(exercise, seed), "mistakes": []}, []
    calls: list[Call] = []
    with ExitStack() as stack:
        for target, function in RIGHT.items():
            stack.enter_context(planted(target, function))
        with recorded(exercise, calls):
            right = outcome_with_calls(exercise, seed)
            assert right["error"] is None, f"{exercise}: the answer raised {right['error']}"
            mistakes = []
            for mistake in mistakes_of(exercise):
                with planted(mistake.target, mistake.function), warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # as it divides by 0, say
                    wrong = outcome(exercise, seed)
                mistakes.append({"says": mistake.says, **wrong})
    return {"right": right, "mistakes": mistakes}, _once(calls)


def expected_of(
    exercises: Sequence[Exercise], seed: int, jobs: int = 1
) -> Iterator[tuple[dict[str, Any], list[Call]]]:
    """The same of each of many exercises, of which `jobs` are worked on at once, by as many
    processes as there are cores at most."""
    load_answers()
    jobs = min(jobs, os.cpu_count() or 1)
    of_seed = functools.partial(expected, seed=seed)
    if jobs == 1 or "forkserver" not in multiprocessing.get_all_start_methods():
        yield from map(of_seed, exercises)
        return
    context = multiprocessing.get_context("forkserver")  # this one's threads are in no fork's way
    context.set_forkserver_preload([__name__])
    own = {"initializer": torch.set_num_threads, "initargs": (1,)}
    with ProcessPoolExecutor(jobs, mp_context=context, **own) as processes:
        yield from processes.map(of_seed, exercises)


def outcome_with_calls(exercise: Exercise, seed: int) -> dict[str, Any]:
    """An outcome, with the last call that each case makes, in words."""
    calls: list[Shown] = []
    found: dict[str, Any] = {"cases": [], "error": None, "calls": []}
    with watched(exercise, calls):
        try:
            for case in cases(exercise, seed):
                found["cases"].append(case)
                found["calls"].append(str(calls[-1]) if calls else "")
        except Exception as error:
            found["error"] = describe(error)
    return found


def mistakes_of(exercise: Exercise) -> list[Mistake]:
    load_answers()
    return [mistake for mistake in MISTAKES if mistake.exercise == exercise.name]


def write(folder: Path, exercises: Iterable[Exercise], seed: int = 0) -> None:
    """Write the expected numbers of exercises, and of the whole, into a folder."""
    for kind in ("expected", "supplied"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    wanted = [WHOLE, TRAINED, *exercises]
    both = expected_of(wanted, seed, jobs=4)
    for exercise, (numbers, calls) in zip(wanted, both):
        for kind, value in (("expected", numbers), ("supplied", calls)):
            text = json.dumps(value, separators=(",", ":")) + "\n"
            (folder / kind / f"{exercise.name}.json").write_text(text, encoding="utf-8")


def _once(calls: list[Call]) -> list[Call]:
    """Calls without repetitions."""
    return [json.loads(text) for text in dict.fromkeys(json.dumps(call) for call in calls)]
