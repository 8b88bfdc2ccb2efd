"""Keep records: copy what reports need of a run, a folder of runs or a study to records/."""

from __future__ import annotations

from pathlib import Path

from minbert.files import write_json
from multitask.report.records import RECORDS, Study, record_of
from multitask.report.run_set import RunSet
from multitask.runs.run import Run
from multitask.study.folder import StudyFolder


def keep(folder: Path, records: Path = RECORDS) -> Path:
    """Keep the records of a run, of the runs in a folder, or of a study, under the folder's name.

    Raises:
        ValueError: the folder holds none of these.
    """
    path = records / folder.resolve().name
    if (folder / "study.json").exists():
        _keep_study(Study.of_runs(StudyFolder.open(folder)), path)
    elif (folder / "config.json").exists():
        path = path.with_name(f"{path.name}.json")
        write_json(path, record_of(Run(folder)))
    else:
        RunSet.of_runs(folder).write(path)
    return path


def _keep_study(study: Study, folder: Path) -> None:
    write_json(folder / "study.json", study.settings)
    for plan in study.plans:
        write_json(folder / "plans" / f"{plan['variant']}.json", plan)
    for name, record in study.stages.items():
        write_json(folder / "stages" / f"{name}.json", record)
