"""Runs the campaign: `python -m tests.campaign --help`."""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: no thread may start before a fork
os.environ["HF_HUB_OFFLINE"] = "1"

import argparse
import importlib.util
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # where pytest finds these modules, too

from lab.terminal import errors_as_messages


def minutes(text: str) -> float:
    """A time above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no time; give minutes, above 0")
    return value


def main() -> int:
    if importlib.util.find_spec("pytest") is None:
        raise ValueError("the tests' packages are not installed; bash setup.sh pytest --version")
    from campaign.running import Campaign, load_kinds

    kinds = load_kinds()

    def case(text: str) -> tuple[str, int]:
        kind, _, number = text.rpartition(":")
        if kind not in kinds or not re.fullmatch("[0-9]+", number):
            raise argparse.ArgumentTypeError(
                f"{text!r} is no case; name one as kill:17, of {', '.join(kinds)}"
            )
        return kind, int(number)

    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("--minutes", type=minutes, default=1.0, help="how long to begin new cases")
    parser.add_argument("--cases", type=int, help="try so many of each kind, however long it takes")
    parser.add_argument("--kinds", nargs="+", choices=kinds, default=list(kinds), metavar="KIND",
                        help=f"of {', '.join(kinds)}; by default all, in turn")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="another seed tries other cases")
    parser.add_argument(
        "--only", nargs="+", type=case, metavar="KIND:NUMBER", help="try these cases alone"
    )
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
    with errors_as_messages():
        sys.exit(main())
