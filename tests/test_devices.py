"""Apple's GPU (mps): a stand-in, for no test has one, and nothing of 64 bits is made for it."""

import pytest
import torch
from helpers import config
from torch.utils._python_dispatch import TorchDispatchMode

from multitask import Predictor, train
from multitask.environment import choose_device, random_numbers_of
from multitask.extensions.gradient_surgery import GradientSurgery

MPS = torch.device("mps")


@pytest.fixture
def mac(monkeypatch):
    """As on a Mac whose PyTorch finds its GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *sizes, device: empty(*sizes, device="meta"))
    return monkeypatch


def test_auto_is_apples_gpu_where_there_is_one(mac):
    assert choose_device("auto") == MPS
    mac.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu")
    assert choose_device("mps") == MPS, "as it was asked for"


def test_several_processes_and_16_bits_are_refused_there_with_the_remedy(mac):
    for precision in ("bf16", "fp16"):
        with pytest.raises(ValueError, match=f"precision {precision} .* Apple's GPUs; use .* fp32"):
            choose_device("auto", precision)
    mac.setenv("WORLD_SIZE", "2")
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(ValueError, match="one process; start one, or use --device cpu"):
        choose_device("mps")


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="there is one")
def test_apples_gpu_where_there_is_none_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match=r"device 'mps' cannot be used: .*; try --device cpu"):
        choose_device("mps")


def test_its_random_numbers_follow_from_seed_and_step_and_are_put_back(monkeypatch):
    states = ["before"]
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: states[-1])
    monkeypatch.setattr(torch.mps, "set_rng_state", states.append)
    monkeypatch.setattr(torch.mps, "manual_seed", states.append)
    for step in (1, 2, 1):
        with random_numbers_of(3, step, MPS):
            pass
    _, first, back, second, _, third, _ = states
    assert first == third != second and back == states[-1] == "before"


class No64(TorchDispatchMode):
    """Raises where an operation makes floating-point numbers of 64 bits."""

    def __init__(self):
        super().__init__()
        self.seen = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for each in made if isinstance(made, tuple | list) else [made]:
            if isinstance(each, torch.Tensor):
                self.seen += 1
                assert each.dtype not in (torch.float64, torch.complex128), func
        return made


@pytest.mark.parametrize("surgery", [False, True])
def test_training_and_answering_make_no_number_of_64_bits(folder, no_figure, monkeypatch, surgery):
    monkeypatch.setattr("multitask.loop.optimizer.FUSED_DEVICES", ())  # step by step, as there
    more = {"extensions": (GradientSurgery(),)} if surgery else {"accumulate": 2}
    settings = config(folder, out=folder / f"mps-{surgery}", epochs=1, **more)
    with No64() as watch:
        run = train(settings, progress=False)
        predictor = Predictor(run.folder)
        predictor.predict("sst", ["A joy."])
        predictor.evaluate("dev")
    assert watch.seen > 1000
    with pytest.raises(AssertionError), No64():
        torch.zeros(2).double()
