"""The device that a run computes on, and what a record says of program and machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from minbert import flash
from minbert.inference import chosen_precision
from minbert.quick import current_route
from minbert.transfer import on_gpu
from minbert.version import commit
from multitask import distributed


def choose_device(name: str, precision: str = "fp32") -> torch.device:
    """The device of this name, checked against what is there and what it can compute."""
    if name == "auto":
        name = _best_device()
    if name == "cuda" and "LOCAL_RANK" in os.environ:  # torchrun: a GPU for each process
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {name!r} cannot be used: {reason}; try --device cpu") from None
    if device.type == "mps" and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("an Apple GPU serves one process; start one, or use --device cpu")
    chosen_precision(precision, device)
    return device


def _best_device() -> str:
    """CUDA's GPU or Apple's, where there is one. Several processes share none of Apple's."""
    if torch.cuda.is_available():
        return "cuda"
    alone = int(os.environ.get("WORLD_SIZE", "1")) == 1
    return "mps" if alone and torch.backends.mps.is_available() else "cpu"


def environment(device: torch.device) -> dict[str, Any]:
    """What a figure's reader may want to know of the program and the machine that made it."""
    packages = ("numpy", "tokenizers", "safetensors")
    kernels = {"attention": flash.described(device)} if on_gpu(device) else {}
    return {
        "commit": commit(),
        "versions": {
            "python": platform.python_version(),
            "torch": str(torch.__version__),  # with its build, +cu130, which metadata may lack
            **{name: importlib.metadata.version(name) for name in packages},
        },
        "device": _device_name(device),
        "threads": torch.get_num_threads(),
        "processes": distributed.count(),
        "route": current_route(),
        **kernels,
    }


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far, in MB; 0 where it is not known (Windows)."""
    try:  # getrusage counts the process that started this one too
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM"):
                return round(int(line.split()[1]) / 2**10, 1)
    except OSError:
        pass
    try:
        import resource
    except ImportError:
        return 0.0
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(used / (2**20 if sys.platform == "darwin" else 2**10), 1)


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_cpu_name()}, its GPU" if device.type == "mps" else _cpu_name()


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


@contextmanager
def random_numbers_of(seed: int, step: int, device: torch.device) -> Generator[None]:
    """Dropout draws what (seed, step, process) gives; the caller's random state stays as it was."""
    entropy = (seed, 2, step, distributed.rank())
    number = int(np.random.SeedSequence(entropy).generate_state(1)[0])
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(number)  # torch.manual_seed takes a millisecond
        if device.type == "cuda":
            with torch.cuda.device(device):  # which need not be the current one
                torch.cuda.manual_seed(number)
        with _mps_of(number) if device.type == "mps" else nullcontext():
            yield


@contextmanager
def _mps_of(number: int) -> Generator[None]:
    """Apple's GPU draws what a number gives; fork_rng does not know its generator."""
    former = torch.mps.get_rng_state()
    torch.mps.manual_seed(number)
    try:
        yield
    finally:
        torch.mps.set_rng_state(former)
