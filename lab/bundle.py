"""`minbert lab bundle`: a zip file that Gradescope takes as an autograder.

Gradescope unpacks it to /autograder/source, runs setup.sh once to make the container, and
run_autograder for each submission, which it puts into /autograder/submission.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from zipfile import ZIP_DEFLATED

from lab.handout import ASSIGNMENT, REPORT, ROOT, project_files, stamp
from lab.stamp import PLACE, UNKNOWN

SETUP = """#!/usr/bin/env bash
# Makes the container: Python, and what the project needs.
set -euo pipefail
apt-get update
apt-get install -y bubblewrap python3 python3-venv
bash /autograder/source/project/setup.sh
"""

RUN = """#!/usr/bin/env bash
# Grades one submission.
set -euo pipefail
cd /autograder/source/project
# Where the container permits no sandbox, the submission runs as a user who cannot read these.
chmod -R go= lab minbert optim data multitask tests
bash setup.sh minbert lab grade /autograder/submission --out /autograder/graded --unsafe{options} ||
    test -f /autograder/graded/submission/results.json # nothing was handed in: that is a result
mkdir -p /autograder/results
cp /autograder/graded/submission/results.json /autograder/results/results.json
"""


def bundle(path: Path, *, only: str | None = None, exclude: str | None = None) -> Path:
    """Write the zip file, whole or not at all; `only` names the part that was set, `exclude` what
    was given solved."""
    from minbert.files import replacing

    if path.exists():
        raise ValueError(f"{path} is there already; choose another name")
    options = f" --only {only}" if only else ""
    options += f" --exclude {exclude}" if exclude else ""
    lab = sorted((ROOT / "lab").rglob("*.py"))
    files = dict.fromkeys([*project_files(), *lab, ASSIGNMENT, REPORT])
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", ZIP_DEFLATED) as archive:
        for name, text in (("setup.sh", SETUP), ("run_autograder", RUN.format(options=options))):
            info = zipfile.ZipInfo(name, date_time=(2020, 1, 1, 0, 0, 0))
            info.external_attr = 0o100755 << 16  # a file that may be run
            archive.writestr(info, text)
        for file in files:
            name = file.relative_to(ROOT).as_posix()
            if name == PLACE:  # in the container there is no git to ask
                text = file.read_text(encoding="utf-8").replace(UNKNOWN, stamp().commit or UNKNOWN)
                archive.writestr(f"project/{name}", text)
            else:
                archive.write(file, f"project/{name}")
    return path
