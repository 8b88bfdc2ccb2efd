"""`minbert lab check` in a checkout of CS224N's or CMU's minBERT: their code, checked as ours is.

    layout.py     what such a checkout is, and which packages it wants that are not there
    parts.py      the parts that a handout leaves to its students: one record each
    checks.py     what is tried on a part's functions, by the handout's names and conventions
    reference.py  the same classes with right bodies: the lab's answers, brought to these names
    mistakes.py   the lab's catalogue of mistakes, brought to them too, and a few of their own
    expected.py   what is right and what each mistake gives, worked out when it is asked for
    runner.py     runs the checks on the student's modules, in a process of its own
    watch.py      ... again at each save; warm.py is a runner that waits
    replay.py     the first case that is wrong, in a prompt
    report.py     the list of what is right, wrong, not begun, and not there

A student's copy of this library has none of it, for it has no answers; nothing of it is graded.
"""
