"""The records of runs that lie in one folder, as `minbert glue run` and some scripts write them.

runs/glue/mrpc-11711/ ...           the runs
records/glue/mrpc-11711.json ...    what `minbert report --keep runs/glue` keeps of them

A folder of folders goes the same way: records/peft/cola/full-5e-05-11711.json. What a command
wrote beside the runs about all of them, its points, is kept too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from minbert.claim import claimed
from minbert.files import checked, read_json, write_json
from multitask.glue.glue_run import scores_of
from multitask.glue.peft import Point
from multitask.report.records import Record, read_kept, record_of
from multitask.runs.file_types import ComparedGroup, EncoderPoint, PlateauPoint
from multitask.runs.run import Run

POINTS = {
    "peft.json": list[Point],
    "encoders.json": list[EncoderPoint],
    "plateau.json": list[PlateauPoint],
    "comparison.json": list[ComparedGroup],
}
"""What `minbert glue peft`, two scripts, and all that compare write beside
their runs: a list of points, each with its run, or its runs."""


@dataclass(frozen=True)
class RunSet:
    """What tables and figures about the runs of one folder are drawn from."""

    name: str
    runs: dict[str, Record]
    """Name of a run, such as mrpc-11711 or cola/full-5e-05-11711 -> its record."""
    points: dict[str, list[Record]]
    """File of POINTS -> the points in it."""

    @classmethod
    def of_runs(cls, folder: Path) -> RunSet:
        """Those of the finished runs in a folder, and in its folders.

        Raises:
            ValueError: there is none.
        """
        paths = sorted([*folder.glob("*/record.json"), *folder.glob("*/*/record.json")])
        if not paths:
            raise ValueError(
                f"{folder} is no run, and holds neither a study nor finished runs; name a folder "
                "that a command or a script wrote its runs to"
            )
        runs = {}
        for path in paths:
            run = Run(path.parent)
            name = path.parent.relative_to(folder).as_posix()
            runs[name] = record_of(run) | {"dev": scores_of(run, run.record())}
        points = {name: _read_points(folder / name) for name in POINTS if (folder / name).exists()}
        for point in (point for found in points.values() for point in found):
            if "runs" in point:
                point["runs"] = [_name_of(run, runs, folder) for run in point["runs"]]
            else:
                point["run"] = _name_of(point["run"], runs, folder)
        return cls(folder.resolve().name, runs, points)

    @classmethod
    def of_records(cls, folder: Path) -> RunSet:
        """Those that `write` wrote; of a folder that is not there, a set without runs."""
        _refuse_study(folder)
        paths = {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*.json"))}
        points = {name: _read_points(paths.pop(name)) for name in POINTS if name in paths}
        runs = {name.removesuffix(".json"): read_kept(p) for name, p in paths.items()}
        return cls(folder.name, runs, points)

    def write(self, folder: Path) -> None:
        """Keep these records in a folder, in the place of what was kept there before."""
        _refuse_study(folder)
        files = {f"{name}.json": record for name, record in self.runs.items()} | self.points
        with claimed(folder, wait=10):
            for name, value in files.items():
                write_json(folder / name, value)
            for path in folder.rglob("*.json"):
                if path.relative_to(folder).as_posix() not in files:
                    path.unlink()


def _read_points(path: Path) -> list[Record]:
    points = read_json(path, list[Record])
    checked(points, POINTS[path.name], path)
    return points


def _name_of(run: str, runs: dict[str, Record], folder: Path) -> str:
    """The name of a point's run, whose path may begin anywhere."""
    for name in runs:
        if Path(run).parts[-len(Path(name).parts) :] == Path(name).parts:
            return name
    raise ValueError(f"{folder} has a point of {run}, and no record of that run; run it again")


def _refuse_study(folder: Path) -> None:
    if (folder / "study.json").exists():
        raise ValueError(
            f"{folder} holds the records of a study, not of single runs; give the folder of runs "
            "another name"
        )
