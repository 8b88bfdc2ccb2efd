"""The page of one run or several: one HTML file that asks nothing of anybody.

data block    what told.py and answered.py say, and explanations of some rows
script        assets/page.js, which web/ builds
policy        nothing may be loaded, and no script may run but this one
"""

from __future__ import annotations

import base64
import hashlib
import html
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data.readers import OnBadRow
from minbert.files import read_text
from minbert.version import describe_version
from multitask.config import TrainConfig
from multitask.inside.answered import Answered, answer_rows, columns, worth_explaining
from multitask.inside.attribution import STEPS
from multitask.inside.explain import Explanation, explain_row, in_packed
from multitask.inside.packed import Blob, as_json, nearest, quantised
from multitask.inside.told import described, told
from multitask.predictor import Predictor
from multitask.runs.run import Run

ASSETS = Path(__file__).parent / "assets"
LARGEST = 2_900_000
"""Bytes that a page may have: as many rows are explained as that leaves room for."""


@dataclass(frozen=True, kw_only=True)
class PageSettings:
    """What a page holds."""

    rows: int = 10_000
    """Development rows of each task, at equal distances where there are more."""
    explain: int = 40
    """Rows of each task that are explained: the worst mistakes, the least sure, and others."""
    steps: int = STEPS
    """Steps of integrated gradients."""
    data_dir: Path | None = None
    """Where the development rows are, by default where the run read them."""
    on_bad_row: OnBadRow | None = None
    """Stop at a row that cannot be read, or leave it out; by default as in training."""

    def __post_init__(self) -> None:
        for name in ("rows", "explain", "steps"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0")


def make_page(folders: Sequence[str | Path], settings: PageSettings | None = None) -> str:
    """The HTML of a page about runs.

    Raises:
        ValueError: there is no such run, or its development rows are not where they were.
    """
    settings = settings or PageSettings()
    looked = [look(Path(folder), settings) for folder in folders]
    bare = [each.told for each in looked]
    empty = len(html_page(page_data(bare, Blob())))
    room = max(0, LARGEST - empty) // max(1, sum(len(each.found) for each in looked))
    blob = Blob()
    for each in looked:
        each.explain_rows(settings, blob, room)
    return html_page(page_data(bare, blob), [each["name"] for each in bare])


@dataclass
class Looked:
    """A run whose development rows have been answered."""

    run: Run
    predictor: Predictor | None
    """None of a run without tasks, as of pre-training."""
    found: dict[str, Answered]
    told: dict[str, Any]

    def explain_rows(self, settings: PageSettings, blob: Blob, room: int) -> None:
        """Add explanations, of each task as many as so many bytes of page have room for."""
        predictor = self.predictor
        for name, found in self.found.items() if predictor else ():
            assert predictor is not None
            chosen, used = {}, 0
            rows = worth_explaining(found, settings.explain)
            for row in tqdm(rows, desc=f"explain {name}", unit="row", leave=False, disable=None):
                explanation = explain_found(predictor, found, row, steps=settings.steps)
                used += _cost(explanation)
                if used > room:
                    break
                chosen[row] = explanation
            bank = [(row, s) for row, each in chosen.items() for s in each.sequences]
            self.told["tasks"][name]["explained"] = {
                row: as_json(
                    each,
                    found.task,
                    blob,
                    mean_path=pools_all(predictor),
                    neighbours=nearest(each.sequences, bank, row),
                )
                for row, each in chosen.items()
            }


def look(folder: Path, settings: PageSettings) -> Looked:
    """Answer the development rows of a run."""
    run = Run.open(folder)
    config = run.config()
    if not isinstance(config, TrainConfig):
        return Looked(run, None, {}, {**told(run, {}), "tasks": {}})
    if not run.best.is_file():
        raise ValueError(
            f"{folder} has no best weights yet; wait until its first epoch is scored, or see its "
            f"curves with minbert info {folder}"
        )
    predictor = Predictor(folder, precision="fp32")
    predictor.model.requires_grad_(False)
    found = {}
    if settings.rows:
        for name, task in predictor.model.tasks.items():
            found[name] = answer_rows(
                predictor,
                task,
                limit=settings.rows,
                data_dir=settings.data_dir,
                on_bad_row=settings.on_bad_row,
            )
    evaluations = {name: each.evaluation for name, each in found.items()}
    tasks = {
        name: {
            **described(task),
            "rows": columns(found[name]) if name in found else None,
            "explained": {},
            "pooled": "all" if pools_all(predictor) else "first",
        }
        for name, task in predictor.model.tasks.items()
    }
    return Looked(run, predictor, found, {**told(run, evaluations), "tasks": tasks})


def explain_found(
    predictor: Predictor, found: Answered, row: int, *, steps: int, target: int | None = None
) -> Explanation:
    """Explain one of the rows that were answered."""
    return explain_row(
        predictor.model,
        predictor.tokenizer,
        found.task,
        in_packed(found.source.batch([row])),
        texts=found.examples[row].texts,
        cut=row in found.source.cut,
        target=target,
        steps=steps,
    )


def pools_all(predictor: Predictor) -> bool:
    """Whether a run's pooled vector is of all tokens, and not of the first."""
    pooling = predictor.config.pooling
    if pooling == "pooler":
        return getattr(predictor.model.encoder.config, "classifier_pooling", "cls") == "mean"
    return pooling != "cls"


def _cost(found: Explanation) -> int:
    """Bytes that an explanation takes in a page, about."""
    attention = b"".join(quantised(each.attentions) for each in found.sequences)
    tokens = sum(len(each.tokens) for each in found.sequences)
    return (len(zlib.compress(attention, 9)) + 150 * tokens) * 4 // 3


def page_data(runs: Sequence[dict[str, Any]], blob: Blob, live: Any = None) -> bytes:
    """What the page is drawn from: see packed.py."""
    return blob.block({"version": describe_version(), "runs": list(runs), "live": live})


POLICY = (
    "default-src 'none'; script-src '{script}'; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'"
)
"""Styles may be inline, for figures have their own; with nothing to be loaded they tell nobody."""


def html_page(data: bytes, names: Sequence[str] = ("",), connect: str = "") -> str:
    """The HTML of a page with this data block.

    Args:
        data: see packed.py.
        names: of the runs, for the title.
        connect: what the page may ask, as a part of its policy.
    """
    script, style = (read_text(ASSETS / name) for name in ("page.js", "page.css"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = POLICY.format(script=f"sha256-{digest}") + connect
    block = base64.b64encode(zlib.compress(data, 9)).decode()
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{html.escape(", ".join(names))} · minbert</title>
<style>{style}</style>
</head>
<body>
<noscript>This page draws with its own script, which this browser does not run.</noscript>
<div id="app"></div>
<script id="data" type="application/octet-stream">{block}</script>
<script>{script}</script>
</body>
</html>
"""
