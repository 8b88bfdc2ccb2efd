"""Keep records: copy what reports need of a run, a folder of runs or a study to records/."""

from __future__ import annotations

from pathlib import Path

from minbert.files import write_json
from multitask.run import Run
from multitask.study.folder import StudyFolder
from multitask.study.records import RECORDS, Study, record_of
from multitask.study.run_set import RunSet


def keep(folder: Path, records: Path = RECORDS) -> Path:
    """Keep the records of a run, of the runs in a folder, or of a study, under the folder's name.

    Raises:
        ValueError: the folder holds none of these.
    """
    place = records / folder.resolve().name
    if (folder / "study.json").exists():
        _keep_study(Study.of_runs(StudyFolder.open(folder)), place)
    elif (folder / "config.json").exists():
        place = place.with_name(f"{place.name}.json")
        write_json(place, record_of(Run(folder)))
    else:
        RunSet.of_runs(folder).write(place)
    return place


def _keep_study(study: Study, place: Path) -> None:
    write_json(place / "study.json", study.settings)
    for plan in study.plans:
        write_json(place / "plans" / f"{plan['variant']}.json", plan)
    for name, record in study.stages.items():
        write_json(place / "stages" / f"{name}.json", record)
