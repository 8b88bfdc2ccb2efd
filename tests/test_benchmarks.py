"""The benchmarks compare what they say they compare; no test looks at how quick anything is."""

import sys
import time
from dataclasses import replace
from functools import partial
from importlib.metadata import version

import numpy as np
import pytest
import torch
from helpers import write_backbone, write_data
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import gpu, gpu_suite, growth, host, length
from benchmarks.__main__ import main
from benchmarks.inference import ours_embed, ours_encode, torch_encode, transformers_encode
from benchmarks.measure import compare, matmul_peak, useful_flops
from benchmarks.rows import load_rows
from benchmarks.table import (
    DOCUMENTS,
    ROOT,
    all_results,
    all_tables,
    draw,
    speed_table,
    with_tables,
)
from benchmarks.train_speed import ours_lora, ours_train, peft_lora, transformers_train
from benchmarks.workloads import WORKLOADS
from minbert import Bert, load_backbone
from minbert.files import read_json
from minbert.quick import route_of
from multitask.config import TrainConfig
from multitask.predictor import Predictor
from multitask.training import train


def wait(seconds):
    return partial(time.sleep, seconds)


def fail():
    raise ImportError("no such library")


def leave():
    raise SystemExit(3)


def test_candidates_take_turns_and_are_compared_turn_by_turn():
    candidates = {"minbert": partial(wait, 0.02), "other": partial(wait, 0.2), "broken": fail}
    results = compare(candidates, threads=1, repeats=3)
    assert results["broken"] == {"error": "ImportError: no such library"}
    for name, seconds in (("minbert", 0.02), ("other", 0.2)):
        found = results[name]
        assert len(found["seconds"]) == 3
        assert min(found["seconds"]) >= seconds
        assert found["lowest"] <= found["ratio"] <= found["highest"]
        assert found["peak_memory_mb"] > 50
    pairs = zip(results["minbert"]["seconds"], results["other"]["seconds"], strict=True)
    assert results["minbert"]["ratio"] == sorted(other / ours for ours, other in pairs)[1]
    assert results["other"]["ratio"] == 1


def test_a_candidate_that_ends_is_named():
    with pytest.raises(RuntimeError, match="minbert ended with exit code 3"):
        compare({"minbert": leave, "other": fail}, threads=1, repeats=1)


@pytest.mark.parametrize("wrong", ["threads", "repeats"])
def test_nothing_is_started_for_no_threads_or_no_repeats(monkeypatch, wrong):
    monkeypatch.setattr("benchmarks.measure.Candidate", lambda *_: pytest.fail("started"))
    with pytest.raises(ValueError, match=f"{wrong} must be at least 1, it is 0"):
        compare({"minbert": None}, **{"threads": 1, "repeats": 1, wrong: 0})


def test_useful_flops_are_those_that_pytorch_counts(tmp_path):
    encoder = load_backbone(write_backbone(tmp_path)).encoder
    lengths = [9, 4]
    counter = FlopCounterMode(display=False)  # it does not know the quick kernel of attention
    with torch.no_grad(), route_of("plain"), counter:
        for length in lengths:
            encoder(torch.ones(1, length, dtype=torch.long))
    pooler = 2 * len(lengths) * encoder.config.hidden_size**2
    counted = counter.get_total_flops() - pooler
    assert useful_flops(encoder.config, lengths, passes=1) == counted
    assert useful_flops(encoder.config, lengths, passes=3) == 3 * counted
    assert matmul_peak(seconds=0.01) > 0


@pytest.mark.parametrize(
    "candidate",
    [
        ours_encode,
        partial(ours_encode, ordered=True, precision="bf16"),
        transformers_encode,
        partial(transformers_encode, ordered=True, attention="eager"),
        partial(transformers_encode, dtype=torch.bfloat16),
        torch_encode,
        ours_embed,
        partial(ours_train, size=4),
        partial(ours_train, size=4, ordered=True),
        partial(transformers_train, size=4),
        partial(ours_train, size=4, precision="bf16"),
        partial(transformers_train, size=4, ordered=True, fused=True, precision="bf16"),
        partial(ours_lora, size=4),
        partial(peft_lora, size=4, ordered=True, fused=True),
    ],
)
def test_candidates_run(tmp_path, candidate):
    folder = write_backbone(tmp_path / "backbone")
    data = load_rows("sst", 12, write_data(tmp_path / "data"), folder)
    assert len(data.texts) == len(data.labels) == 12
    work = candidate(data)
    work()
    work()


def test_growth_changes_one_thing_at_a_time():
    for point in growth.CURVES.points:
        start = growth.EPOCH if point["grows"] == "data" else growth.START
        changed = {name for name, size in start.items() if point[name] != size}
        assert changed <= {point["grows"]}
    assert {point["grows"] for point in growth.CURVES.points} == {*growth.GROWTH, "data"}


def test_length_measures_both_works_at_every_length():
    found = [(point["work"], point["length"]) for point in length.CURVES.points]
    assert len(set(found)) == len(found) == 10


@pytest.mark.parametrize("curves", [growth.CURVES, length.CURVES], ids=["growth", "length"])
def test_curves_are_measured_and_drawn(tmp_path, monkeypatch, curves):
    def compare(candidates, *, threads, repeats):
        assert list(candidates) == ["minbert", "transformers"] and (threads, repeats) == (1, 3)
        return {name: {"median": 0.5, "peak_memory_mb": 7} for name in candidates}

    monkeypatch.setattr("benchmarks.curves.compare", compare)
    results = curves.measure(threads=1, repeats=3)
    assert [{**point, "candidates": compare(dict.fromkeys(("minbert", "transformers")),
             threads=1, repeats=3)} for point in curves.points] == results  # fmt: skip
    curves.draw(results, tmp_path / "curves.svg")
    drawn = (tmp_path / "curves.svg").read_text(encoding="utf-8")
    assert all(curve in drawn for curve in curves.along)


@pytest.mark.parametrize("candidate", [growth.ours, growth.theirs])
def test_a_step_of_growth_runs(candidate):
    candidate({"length": 5, "batch": 2, "layers": 1})()


@pytest.mark.parametrize("candidate", ["ours", "theirs"])
def test_an_epoch_of_growth_visits_every_text_once(monkeypatch, candidate):
    visited = []
    monkeypatch.setattr(growth, "_learn", lambda optimizer, outputs: visited.append(len(outputs)))
    epoch = getattr(growth, candidate)({"rows": 11, "batch": 4, "layers": 1})
    epoch()
    assert sorted(visited) == [3, 4, 4]


@pytest.mark.parametrize("work", length.WORK)
@pytest.mark.parametrize("candidate", [length.ours, length.theirs])
def test_a_text_of_length_runs(monkeypatch, candidate, work):
    monkeypatch.setattr(length, "SIZES", {**length.SIZES, "hidden_size": 48})
    candidate({"work": work, "length": 7, "layers": 2})()


def test_curves_are_recorded_with_the_versions_of_both(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.curves.compare", lambda *_, **__: {"minbert": {}})
    monkeypatch.setattr(torch, "__version__", "2.13.0+cu130")  # a build that metadata lacks
    out = tmp_path / "growth.json"
    monkeypatch.setattr(sys, "argv", ["benchmarks", "growth", "--threads", "1", "--out", str(out)])
    main()
    found = read_json(out)
    assert found["versions"]["transformers"] == version("transformers")
    assert found["versions"]["torch"] == "2.13.0+cu130" and found["threads"] == 1
    assert len(found["points"]) == len(growth.CURVES.points)


def test_every_workload_has_an_alternative():
    assert len({workload.name for workload in WORKLOADS}) == len(WORKLOADS) > 5
    for workload in WORKLOADS:
        ours, other, *_ = workload.candidates
        assert ours.startswith("minbert")
        assert not other.startswith("minbert")


RESULTS = {
    "matmul_peak_gflops": 200.0,
    "threads": 2,
    "route": "blas",
    "workloads": {
        "reading": {
            "rows": 100,
            "date": "2026-11-21",
            "versions": {"torch": "2.13.0+cpu"},
            "candidates": {
                "minbert": {"median": 2.0, "ratio": 4.0, "lowest": 3.0, "highest": 4.5,
                            "useful_gflops": 150.0, "peak_memory_mb": 500},
                "theirs": {"median": 8.0, "ratio": 1.0, "lowest": 1.0, "highest": 1.0,
                           "useful_gflops": 50.0, "peak_memory_mb": 900},
                "minbert, sorted": {"median": 1.0, "ratio": 8.0, "lowest": 7.0, "highest": 9.0,
                                    "useful_gflops": 180.0, "peak_memory_mb": 500},
                "tuned": {"median": 3.0, "ratio": 2.7, "lowest": 2.0, "highest": 3.0,
                          "useful_gflops": 100.0, "peak_memory_mb": 800},
                "missing": {"error": "ImportError"},
            },
        }
    },
}  # fmt: skip


def test_the_documents_show_the_recorded_results():
    results = all_results()
    for found in results.values():
        assert found["route"] and found["device"]
        for workload in found["workloads"].values():
            assert workload["date"] and workload["versions"]["torch"]
            assert workload["commit"] and "+" not in workload["commit"]
    shown = [(ROOT / name).read_text(encoding="utf-8") for name in DOCUMENTS]
    tables = all_tables(results)
    speed = {f"speed: {name}" for name in results}
    assert tables.keys() == {"class", "drift", "host", "inside", "student", *speed}
    for text in shown:
        assert with_tables(text, tables) == text
    assert all(f"<!-- {name} -->" in "".join(shown) for name in tables)


def test_rows_are_made_equally_long(tmp_path):
    folder = write_backbone(tmp_path / "backbone")
    data = load_rows("sst", 3, write_data(tmp_path / "data"), folder, length=8)
    tokenizer = load_backbone(folder).tokenizer
    texts = [text for (text,) in data.texts]
    encodings = tokenizer.encode(texts, max_length=data.max_length)
    assert [len(ids) for ids in encodings.input_ids] == [8] * 3


def test_the_table_says_what_the_results_say(tmp_path):
    *_, row, empty, how = speed_table(RESULTS).splitlines()
    assert [cell.strip() for cell in row.split("|")[1:-1]] == [
        "reading", "50 rows/s", "theirs", "**4.00** (3.00-4.50)", "75%", "500 MB : 900 MB",
        "3.00 x tuned",
    ]  # fmt: skip
    assert not empty and how == (
        "Measured 2026-11-21 on 2 threads by route blas, PyTorch 2.13.0+cpu; the best matrix "
        "product reached 200 GFLOP/s."
    )
    draw(RESULTS, tmp_path / "speed.svg")
    assert "theirs" in (tmp_path / "speed.svg").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="lacks the lines"):
        with_tables("<!-- drift -->\n", {"drift": "| task |\n"})


def test_drift_compares_answers_in_bfloat16_with_float32(tmp_path, capsys, monkeypatch):
    """On a tiny run: what is recorded is what two evaluations differ by."""
    write_backbone(tmp_path / "backbone")
    write_data(tmp_path / "data")
    run = TrainConfig(
        tasks=("sst", "sts"), data_dir=tmp_path / "data", backbone=str(tmp_path / "backbone"),
        pooling="mean", epochs=1, batch_size=8, out=tmp_path / "run", device="cpu",
    )  # fmt: skip
    train(run, progress=False)
    out = tmp_path / "drift.json"
    monkeypatch.setattr(sys, "argv", ["benchmarks", "drift", str(run.out), "--out", str(out)])
    main()
    sst, sts = read_json(out)["runs"]
    exact, low = (
        Predictor(run.out, precision=precision).evaluate("dev") for precision in ("fp32", "bf16")
    )
    apart = [np.abs(exact["sst"].probabilities - low["sst"].probabilities).max(),
             np.abs(exact["sts"].answers - low["sts"].answers).max()]  # fmt: skip
    assert [sst["furthest"], sts["furthest"]] == pytest.approx(apart) and min(apart) > 0
    assert sst["changed"] == (exact["sst"].answers != low["sst"].answers).sum()
    assert sts["changed"] is None
    assert (sst["fp32"], sst["bf16"]) == tuple(e["sst"].metrics["accuracy"] for e in (exact, low))
    assert (sts["fp32"], sts["bf16"]) == tuple(e["sts"].metrics["pearson"] for e in (exact, low))
    assert sst["rows"] == len(exact["sst"].ids)
    printed = capsys.readouterr().out
    assert f"{sts['bf16']:.4f}" in printed and f"{sst['furthest']:.3f}" in printed


def test_drift_wants_a_run(tmp_path, capsys, monkeypatch):
    out = tmp_path / "drift.json"
    for runs, says in (((), "no run is named"), ((str(tmp_path),), "holds no run")):
        monkeypatch.setattr(sys, "argv", ["benchmarks", "drift", *runs, "--out", str(out)])
        with pytest.raises(SystemExit, match="2"):
            main()
        assert says in capsys.readouterr().err and not out.exists()


def test_the_gpu_benchmark_refuses_a_cpu(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["benchmarks", "gpu", "--data-dir", "nowhere"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "measures a GPU, and PyTorch finds none" in capsys.readouterr().err


def test_the_gpu_benchmark_is_rehearsed_on_a_cpu(tmp_path, monkeypatch, capsys):
    """Each job once, and nothing is written."""
    out = tmp_path / "gpu.json"
    turns = []
    monkeypatch.setattr(
        gpu_suite, "jobs", lambda scale, *_: [job("a", scale.device, lambda: turns.append(1) or 2)]
    )
    words = ["gpu", "--rehearse", "--data-dir", str(write_data(tmp_path)), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["benchmarks", *words])
    main()
    assert turns == [1] and not out.exists()
    assert "a: cpu: 6 tokens/s" in capsys.readouterr().out


SMALL = gpu_suite.Scale.rehearsal()


def test_every_job_of_the_gpu_benchmark_runs(tmp_path, monkeypatch):
    """On a CPU with tiny sizes, but for what is compiled."""
    monkeypatch.setattr(length, "SIZES", {**length.SIZES, "hidden_size": 48})
    folder = write_backbone(tmp_path, encoder=Bert)
    found = gpu_suite.jobs(
        replace(SMALL, compiled=True), {"SST's lengths": [3, 9, 5]}, folder, ["bet", "bon dot"]
    )
    wanted = [job for job in found if "compiled" not in job.candidate]
    assert len(found) > len(wanted) and all(job.expected >= 60 for job in {*found} - {*wanted})
    seen = set()
    for one in wanted:
        if "flash attention 2" in one.candidate:
            continue  # it wants a package and a GPU
        outcome = one.run()
        seen.add(one.workload)
        if isinstance(outcome, dict):
            assert len(outcome["kernels"]) == 10 and outcome["step_ms"] > 0
            assert "launches" in gpu_suite.line("profile", "minbert", outcome)
        else:
            assert outcome > 0 and one.amount > 0 and one.unit in ("tokens", "texts")
    assert seen == {one.workload for one in found}


def job(workload, candidate, run, **changes):
    known = {"amount": 12, "unit": "tokens", "expected": 0, "flops": 6e9}
    return gpu_suite.Job(workload=workload, candidate=candidate, run=run, **{**known, **changes})


def test_jobs_run_again_while_there_is_time_and_errors_end_nothing(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(gpu_suite.time, "perf_counter", lambda: now[0])

    def lasting(*seconds):
        left = list(seconds)

        def run():
            now[0] += left[0]
            return left.pop(0)

        return run

    def facts():
        now[0] += 1
        return {"kernels": [], "busy": 0.5}

    jobs = [
        job("a", "minbert", lasting(2, 4)), job("a", "theirs", lasting(8, 6)),
        job("a", "broken", fail), job("profile", "minbert", facts),
        job("b", "minbert", lasting(3), expected=60), job("a", "slow", lasting(1), expected=8),
    ]  # fmt: skip
    written = []
    found = gpu_suite.measure(
        jobs, device="cpu", peak=1e9, seconds=20, write=lambda *args: written.append(args[1:])
    )
    assert written == [
        ("a", "minbert"), ("a", "theirs"), ("a", "broken"), ("profile", "minbert"),
        ("a", "slow"), ("a", "minbert"), ("a", "theirs"),
    ]  # fmt: skip
    assert found["a"]["broken"] == {"error": "ImportError: no such library"}
    assert found["a"]["minbert"] == {
        "seconds": [2, 4], "speed": 4, "unit": "tokens/s", "utilisation": 2.0,
        "ratio": pytest.approx(4 / (12 / 7)),
    }  # fmt: skip
    assert found["profile"]["minbert"] == {"kernels": [], "busy": 0.5} and "b" not in found


def test_the_gpu_benchmark_times_the_same_steps_of_both(monkeypatch):
    ticks = []
    monkeypatch.setattr(gpu.Clock, "step_begins", recorded(gpu.Clock.step_begins, ticks))
    plan = gpu.Plan(config=SMALL.base, batch_size=4, warm_up=2, steps=3, device="cpu")
    rows = gpu.RandomRows([3, 9, 5] * 8, plan.config.vocab_size)
    for run in (gpu.ours, partial(gpu.theirs, grouped=True)):
        assert run(plan, rows) > 0
    assert ticks == [0, 1, 2, 3, 4, 5] * 2
    found = gpu_suite._training("a", plan, rows, "minbert", gpu.ours)
    assert found.amount == pytest.approx(3 * 4 * 17 / 3)
    assert found.flops == pytest.approx(4 * useful_flops(plan.config, [3, 9, 5], passes=3))


def test_the_host_benchmark_counts_operations_a_layer(tmp_path, monkeypatch, capsys):
    small = replace(host.PLAN.config, num_layers=4)
    plan = replace(host.PLAN, config=small, batch_size=4, warm_up=2, steps=2)
    monkeypatch.setattr(host, "measure", partial(host.measure, plan))
    out = tmp_path / "host.json"
    monkeypatch.setattr(sys, "argv", ["benchmarks", "host", "--repeats", "1", "--out", str(out)])
    main()
    found = read_json(out)["candidates"]
    assert found.keys() == host.CANDIDATES.keys()
    printed = capsys.readouterr().out
    for one in found.values():
        assert f"{one['operations']:,}" in printed
        layers = one["forward_per_layer"] + one["backward_per_layer"]
        assert 4 * layers < one["operations"] and one["forward_per_layer"] > 20
        assert 0 < one["lowest"] <= one["milliseconds"] <= one["highest"]


@pytest.mark.parametrize(("precision", "forward", "backward"), [("fp32", 47, 83), ("bf16", 44, 58)])
def test_a_layer_on_a_gpu_has_few_operations(precision, forward, backward):
    """With two or three for other versions of PyTorch; a dropout is six more here than on a GPU."""
    small = replace(host.PLAN.config, num_layers=4)
    plan = replace(host.PLAN, config=small, batch_size=4, warm_up=2, steps=1, precision=precision)
    (found,) = host.measure(
        plan, repeats=1, candidates={"ours": host.CANDIDATES["minbert, as on a GPU"]}
    ).values()
    assert found["forward_per_layer"] <= forward + 3
    assert found["backward_per_layer"] <= backward + 3


def test_operations_are_counted_apart_for_backward_passes():
    x = torch.ones(3, requires_grad=True)
    with host.Operations() as counted:
        (x * 2).sum().backward()
    assert counted.forward >= 2 and counted.backward >= 2


def recorded(method, seen):
    def act(self, number):
        seen.append(number)
        method(self, number)

    return act


def fail_with_arguments(*_):
    fail()


def test_lengths_are_those_of_the_tokens(tmp_path):
    found = gpu.real_lengths("sts", write_data(tmp_path))
    texts = (
        (tmp_path / "sts-train.csv").read_text(encoding="utf-8").splitlines()[1].split("\t")[2:4]
    )
    words = sum(len(text.split()) for text in texts)
    assert len(found) == 22 and found[0] >= words + 3  # [CLS] and two [SEP]
    assert gpu.matmul_peak("cpu", size=8, repeats=1) > 0
