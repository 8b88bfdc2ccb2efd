"""The students' lab: exercises cut out of this library, checks that say what went wrong, grading.

    exercises/     the list of exercises: one record each             <- start reading here
                   reading.py: what to read before each part
    checks/        what is tried on an exercise's functions           (in the handout)
    answers/       what is right, and the catalogue of mistakes       (never in the handout)
    handout.py     writes a student's copy: bodies out, expected numbers in
    stamp.py       which version of the library a copy was made from
    runner.py      runs checks on the student's code, in a process of its own
    diagnose.py    compares what came out with what should have
    check.py       `minbert lab check`: the runner, the diagnosis, a list of progress
    course/        ... in a checkout of CS224N's or CMU's minBERT, by the names of its own
    watch.py       ... --watch: again at each save; warm.py is a runner that waits
    progress.py    `minbert lab next`, and `lab diff`: the library's body beside a student's
    handin.py      `minbert lab hand-in`: the zip file; helpers.py says which files count
    whose.py       whose code runs: the library's or a copy's
    grade.py       `minbert lab grade`: the same on many submissions, each in a sandbox
    collect.py     a class in one archive or many; submission.py reads one, hostile or not
    results.py     what is written of each; similar.py: who looks alike
    predictions.py the course's prediction files: their format and scores
    sandbox.py     its walls, of bubblewrap or namespaces; guard.py is the inside, nursery.py
                   the way to one that has imported PyTorch already
    golden.py      the expected numbers, made from the answers
    terminal.py    streams, Ctrl-C and errors of the lab's command line, and of every other here
    bundle.py      `minbert lab bundle`: an autograder for Gradescope

To add an exercise: a record in exercises/, a check in checks/, the right answer and its mistakes
in answers/, a page in docs/assignment.md. Nothing here imports more than the standard library at
start-up, for it has to run beside broken code.
"""
