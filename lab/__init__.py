"""The students' lab: exercises cut out of this library, checks that say what went wrong, grading.

    exercises/     the list of exercises: one record each             <- start reading here
    checks/        what is tried on an exercise's functions           (in the handout)
    answers/       what is right, and the catalogue of mistakes       (never in the handout)
    handout.py     writes a student's copy: bodies out, expected numbers in
    stamp.py       which version of the library a copy was made from
    runner.py      runs checks on the student's code, in a process of its own
    diagnose.py    compares what came out with what should have
    check.py       `minbert lab check`: the runner, the diagnosis, a list of progress
    grade.py       `minbert lab grade`: the same on many submissions, each in a sandbox
    sandbox.py     its walls, made by bubblewrap or of namespaces; guard.py is the inside
    golden.py      the expected numbers, made from the answers
    terminal.py    streams, Ctrl-C and errors of the lab's command line, and of every other here
    bundle.py      `minbert lab bundle`: an autograder for Gradescope

To add an exercise: a record in exercises/, a check in checks/, the right answer and its mistakes
in answers/, a page in docs/assignment.md. Nothing here imports more than the standard library at
start-up, for it has to run beside broken code.
"""
