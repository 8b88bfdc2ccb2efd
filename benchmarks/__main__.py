"""The command line of the benchmarks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from tqdm import tqdm
from tyro.conf import Positional, subcommand

from lab.terminal import errors_as_messages
from multitask.commands.messages import command_line

if TYPE_CHECKING:
    from benchmarks.curves import Curves

RESULTS = Path(__file__).parent / "results"
LIBRARIES = ("transformers", "sentence-transformers", "onnxruntime", "peft")


@dataclass(frozen=True, kw_only=True)
class Measure:
    """Measure every workload against its alternatives, and write the results as JSON."""

    data_dir: Path
    """Folder with the real data: see minbert data fetch."""
    threads: int = 2
    """Threads of each candidate."""
    repeats: int = 5
    """Turns of each candidate."""
    only: tuple[str, ...] = ()
    """Workloads whose names hold one of these words; by default all."""
    out: Path = RESULTS / "cpu.json"
    """File to write."""

    def run(self) -> None:
        import torch

        from benchmarks.measure import compare, matmul_peak, useful_flops
        from benchmarks.rows import backbone_folder, chunks, load_rows
        from benchmarks.workloads import WORKLOADS
        from minbert import load_backbone
        from minbert.files import read_json, write_json

        torch.set_num_threads(self.threads)
        chosen = [
            w for w in WORKLOADS if not self.only or any(word in w.name for word in self.only)
        ]
        if not chosen:
            names = "; ".join(workload.name for workload in WORKLOADS)
            raise ValueError(f"no workload has a name with {' or '.join(self.only)}: {names}")
        results = read_json(self.out) if self.only and self.out.exists() else {"workloads": {}}
        facts = {**_environment("cpu"), "threads": self.threads}
        own = {name: facts.pop(name) for name in ("commit", "versions")}
        results |= facts
        results["matmul_peak_gflops"] = max(matmul_peak(), results.get("matmul_peak_gflops", 0))
        folders = {size: backbone_folder(size) for size in {w.size for w in chosen}}
        for workload in tqdm(chosen, desc="workloads"):
            tqdm.write(workload.name)
            folder = folders[workload.size]
            data = load_rows(
                workload.task, workload.rows, self.data_dir, folder, length=workload.length
            )
            backbone = load_backbone(folder)
            parts = map(list, zip(*data.texts))
            encodings = backbone.tokenizer.encode(*parts, max_length=data.max_length)
            lengths = [len(ids) for ids in encodings.input_ids]
            flops = useful_flops(backbone.encoder.config, lengths, passes=workload.passes)
            candidates = {n: partial(make, data) for n, make in workload.candidates.items()}
            found = compare(candidates, threads=self.threads, repeats=self.repeats)
            for name, result in found.items():
                if "median" in result:
                    result["useful_gflops"] = flops / result["median"] / 1e9
                    share = result["useful_gflops"] / results["matmul_peak_gflops"]
                    tqdm.write(
                        f"  {name}: {result['median']:.2f} s, {result['ratio']:.2f}x, "
                        f"{share:.0%} of peak, {result['peak_memory_mb']} MB"
                    )
                else:
                    tqdm.write(f"  {name}: {result['error']}")
            results["workloads"][workload.name] = {
                "date": date.today().isoformat(),
                **own,
                "rows": workload.rows,
                "tokens": sum(lengths),
                "tokens_when_padded": sum(max(part) * len(part) for part in chunks(lengths)),
                "candidates": found,
            }
            write_json(self.out, results)
        print(self.out)


@dataclass(frozen=True, kw_only=True)
class Growth:
    """Measure how time and memory grow with length, batch, layers and data."""

    threads: int = 2
    """Threads of each candidate."""
    repeats: int = 5
    """Turns of each candidate."""
    out: Path = RESULTS / "growth.json"
    """File to write."""

    def run(self) -> None:
        from benchmarks.growth import CURVES

        _measure_curves(CURVES, self)


@dataclass(frozen=True, kw_only=True)
class Length:
    """Measure how time and memory of ModernBERT grow with the length of a text."""

    threads: int = 2
    """Threads of each candidate."""
    repeats: int = 3
    """Turns of each candidate."""
    out: Path = RESULTS / "length.json"
    """File to write."""

    def run(self) -> None:
        from benchmarks.length import CURVES

        _measure_curves(CURVES, self)


def _measure_curves(curves: Curves, command: Growth | Length) -> None:
    from minbert.files import write_json

    found = curves.measure(threads=command.threads, repeats=command.repeats)
    facts = {**_environment("cpu"), "threads": command.threads}
    write_json(command.out, {**facts, "points": found})
    print(command.out)


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """Measure training and inference on a GPU, most telling first, for some minutes."""

    data_dir: Path
    """Folder with the real data: see minbert data fetch."""
    minutes: float = 5
    """When no further measurement begins."""
    out: Path = RESULTS / "gpu.json"
    """File to write, anew after each measurement."""
    rehearse: bool = False
    """Run it all once with tiny sizes on the CPU, to see that it works, and write nothing."""

    def run(self) -> None:
        import torch

        if not self.rehearse and not torch.cuda.is_available():
            raise ValueError(
                "this benchmark measures a GPU, and PyTorch finds none; run it on a machine with "
                "one, try it here with --rehearse, or measure the CPU: python -m benchmarks run"
            )
        from benchmarks.gpu import matmul_peak
        from benchmarks.gpu_suite import Scale, line, measure, real_jobs
        from minbert.files import write_json

        scale = Scale.rehearsal() if self.rehearse else Scale()
        peak = matmul_peak(scale.device, **({"size": 64} if self.rehearse else {}))
        facts = {**_environment(scale.device), "matmul_peak_tflops": peak / 1e12}
        print(f"{facts['device']}, peak {peak / 1e12:.0f} TFLOP/s", flush=True)

        def write(found: dict[str, Any], job: str, candidate: str) -> None:
            if not self.rehearse:
                write_json(self.out, {**facts, "workloads": found})
            print(line(job, candidate, found[job][candidate]), flush=True)

        jobs = real_jobs(self.data_dir, scale)
        seconds = 60 * self.minutes
        measure(
            jobs, device=scale.device, peak=peak, seconds=seconds, write=write,
            once=self.rehearse,
        )  # fmt: skip
        if not self.rehearse:
            print(self.out)


@dataclass(frozen=True, kw_only=True)
class Host:
    """Count what a training step has a GPU's host dispatch, on any CPU."""

    repeats: int = 5
    """Turns of each candidate."""
    out: Path = RESULTS / "host.json"
    """File to write."""

    def run(self) -> None:
        import torch

        from benchmarks.host import HEADER, measure, rows
        from minbert.files import write_json
        from multitask.text_table import table

        torch.set_num_threads(1)
        found = measure(repeats=self.repeats)
        write_json(self.out, {**_environment("cpu"), "candidates": found})
        print(table(HEADER, rows(found)))
        print(self.out)


@dataclass(frozen=True, kw_only=True)
class Drift:
    """Measure how far bfloat16 takes the answers of trained runs from float32's."""

    runs: Positional[tuple[Path, ...]]
    """Run folders; their development rows are answered."""
    data_dir: Path | None = None
    """Folder with the tasks' files; by default the ones that the runs were trained on."""
    out: Path = RESULTS / "drift.json"
    """File to write."""

    def run(self) -> None:
        from benchmarks.drift import HEADER, drift_of, rows
        from minbert.files import write_json
        from multitask.text_table import table

        if not self.runs:
            raise ValueError("no run is named; give the folders of finished runs, as in runs/sst")
        found = [one for folder in self.runs for one in drift_of(folder, self.data_dir)]
        write_json(self.out, {**_environment("cpu"), "runs": found})
        print(table(HEADER, rows(found)))
        print(self.out)


@dataclass(frozen=True, kw_only=True)
class Inside:
    """Measure how long the page of minbert show takes to open, and a live answer."""

    runs: Positional[tuple[Path, ...]]
    """Run folders, of which the first task is asked."""
    data_dir: Path | None = None
    """Folder with the tasks' files; by default the ones that the runs were trained on."""
    repeats: int = 10
    """Pages that are opened."""
    out: Path = RESULTS / "inside.json"
    """File to write."""

    def run(self) -> None:
        import torch

        from benchmarks.inside import HEADER, measure, rows
        from minbert.files import write_json
        from multitask.text_table import table

        if not self.runs:
            raise ValueError("no run is named; give the folders of finished runs, as in runs/sst")
        torch.set_num_threads(1)  # as minbert show --live has it
        found = [
            measure(folder, data_dir=self.data_dir, repeats=self.repeats) for folder in self.runs
        ]
        write_json(self.out, {**_environment("cpu"), "runs": found})
        print(table(HEADER, rows(found)))
        print(self.out)


@dataclass(frozen=True, kw_only=True)
class Grade:
    """Time `minbert lab grade` on made-up classes, in archives of every form."""

    submissions: tuple[int, ...] = (30, 300)
    """Submissions of each class."""
    jobs: int = 4
    """Submissions graded at once."""
    out: Path = RESULTS / "grade.json"
    """File to write."""

    def run(self) -> None:
        from benchmarks.grade import HEADER, measure, rows
        from minbert.files import write_json
        from multitask.text_table import table

        if min(self.submissions, default=0) < 1:
            given = " ".join(map(str, self.submissions))
            raise ValueError(f"--submissions {given} is no class; it is 1 or more, for each")
        found = [measure(count, jobs=self.jobs) for count in self.submissions]
        write_json(self.out, {**_environment("cpu"), "classes": found})
        print(table(HEADER, rows(found)))
        print(self.out)


@dataclass(frozen=True, kw_only=True)
class Student:
    """Time what a student waits for, from the clone to the hand-in."""

    setup: bool = False
    """Make the copy's environment too, which installs; pip may be told of wheels at hand."""
    out: Path = RESULTS / "student.json"
    """File to write."""

    def run(self) -> None:
        from benchmarks.student import HEADER, measure, rows
        from minbert.files import write_json
        from multitask.text_table import table

        found = measure(setup=self.setup)
        write_json(self.out, {**_environment("cpu"), "steps": found})
        print(table(HEADER, rows(found)))
        print(self.out)


@dataclass(frozen=True, kw_only=True)
class Table:
    """Draw the tables and figures of README.md and docs/speed.md from the results."""

    def run(self) -> None:
        from benchmarks.table import draw_all

        for path in draw_all():
            print(path)


def _environment(device: str) -> dict[str, Any]:
    """What a result was made with, the versions of the libraries compared included."""
    import torch

    from multitask.environment import environment

    facts = environment(torch.device(device))
    facts["versions"] |= {name: found for name in LIBRARIES if (found := _version(name))}
    return facts


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def main() -> None:
    """Run the command line."""
    Command = (
        Annotated[Measure, subcommand("run")]
        | Annotated[Growth, subcommand("growth")]
        | Annotated[Length, subcommand("length")]
        | Annotated[Gpu, subcommand("gpu")]
        | Annotated[Host, subcommand("host")]
        | Annotated[Drift, subcommand("drift")]
        | Annotated[Inside, subcommand("inside")]
        | Annotated[Grade, subcommand("grade")]
        | Annotated[Student, subcommand("student")]
        | Annotated[Table, subcommand("table")]
    )
    with errors_as_messages():
        tyro.cli(
            Command,
            args=command_line(),
            prog="python -m benchmarks",
            description="minbert beside the libraries that one would otherwise use.",
            config=(tyro.conf.OmitSubcommandPrefixes, tyro.conf.OmitArgPrefixes),
        ).run()


if __name__ == "__main__":
    main()
