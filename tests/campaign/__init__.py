"""Tries the library as the world does: kills, full disks, damaged files, hostile people.

    python -m tests.campaign                          # a minute, each kind in turn
    python -m tests.campaign --minutes 120 --out campaign.jsonl
    python -m tests.campaign --only kill:17           # one case again

A case is a function of the seed, its kind and its number, so that it can be tried again alone. What
must hold is said once for each kind, and judged by one rule for all of its cases.
"""
