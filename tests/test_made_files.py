"""What the repository ships as made from records is what the records make, byte for byte."""

import re
import shutil
from importlib.metadata import version
from pathlib import Path

from benchmarks import table
from benchmarks.table import draw_all
from multitask.report.document import report_on_records

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = ("Report.md", *table.DOCUMENTS)
BY_HAND = {Path("docs/overview.svg")}
DRAWING = ("matplotlib", "numpy", "kiwisolver", "contourpy")
"""What decides how a figure is drawn, to the last digit."""


def versions():
    """What draws here, beside what drew the figures."""
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pins = {name: re.search(rf"^{name}==(.+)$", text, re.M)[1] for name in DRAWING}
    return ", ".join(f"{name} {version(name)} (pinned: {pins[name]})" for name in DRAWING)


def test_documents_and_figures_are_made_from_the_records(tmp_path):
    for name in DOCUMENTS:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    report_on_records([tmp_path / "Report.md", tmp_path / "README.md"], ROOT / "records")
    draw_all(tmp_path)
    made = {path.relative_to(tmp_path) for path in tmp_path.rglob("*.*")}
    shipped = {path.relative_to(ROOT) for path in ROOT.glob("*/*.svg")}
    assert len(shipped) > 10 and shipped - BY_HAND == made - set(map(Path, DOCUMENTS))
    changed = [path for path in sorted(made)
               if (ROOT / path).read_bytes() != (tmp_path / path).read_bytes()]  # fmt: skip
    assert not changed, (
        f"{', '.join(map(str, changed))} are not what the records make. If the versions here are "
        f"the pinned ones, make them anew by minbert report and python -m benchmarks table: "
        f"{versions()}"
    )
