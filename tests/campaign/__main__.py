"""Runs the campaign: `python -m tests.campaign --help`."""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: no thread may start before a fork
os.environ["HF_HUB_OFFLINE"] = "1"

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # where pytest finds these modules, too

from campaign.running import Campaign, load_kinds


def main() -> int:
    kinds = load_kinds()
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="how long to begin new cases")
    parser.add_argument("--cases", type=int, help="try so many of each kind, however long it takes")
    parser.add_argument("--kinds", nargs="+", choices=kinds, default=list(kinds), metavar="KIND",
                        help=f"of {', '.join(kinds)}; by default all, in turn")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="another seed tries other cases")
    parser.add_argument("--only", nargs="+", metavar="KIND:NUMBER", help="try these cases alone")
    parser.add_argument("--out", type=Path, help="a line of JSON for each case; a later call with "
                        "the same file goes on after them")  # fmt: skip
    parser.add_argument("--failures", type=Path, default=Path("runs/campaign"),
                        help="where the files of cases that did not hold are kept")  # fmt: skip
    parser.add_argument("--record", action="store_true",
                        help="keep the counts, and put them into docs/reliability.md")  # fmt: skip
    given = parser.parse_args()
    campaign = Campaign(given.seed, given.failures, given.out)
    try:
        if given.only:
            campaign.try_only(given.only)
        else:
            campaign.try_in_turn(given.kinds, minutes=given.minutes, cases=given.cases)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
    print(campaign.table())
    if given.record:
        campaign.record()
    return 0 if campaign.held else 1


if __name__ == "__main__":
    sys.exit(main())
