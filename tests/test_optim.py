"""The optimizer against torch.optim.AdamW and float64 formulas; schedules against transformers."""

import copy
import io
import itertools
import json
import pickle

import numpy as np
import pytest
import torch
import transformers
from torch import nn

from optim import (
    SCHEDULES,
    AdamW,
    clip_gradients,
    constant,
    cosine,
    linear,
    parameter_groups,
    set_lr,
)

SHAPES = [(5, 3), (7,), (), (2, 3, 4)]
CONVENTIONS = [
    {"correct_bias": correct_bias, "efficient": efficient, "decay": decay}
    for correct_bias, efficient, decay in itertools.product(
        (True, False), (True, False), ("after", "before")
    )
]
AS_TORCH = {"efficient": False, "decay": "before"}
DTYPES = [torch.float64, torch.float32, torch.float32, torch.bfloat16]
ROUTES = pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])


def name_of(convention):
    return ",".join(f"{key}={value}" for key, value in convention.items())


EVERY_CONVENTION = pytest.mark.parametrize("convention", CONVENTIONS, ids=name_of)


def make_params(dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype))
        for shape in SHAPES
    ]


def make_gradients(steps, dtype=torch.float64, seed=1, skip=True):
    """Gradients per step and parameter. With `skip`, the second parameter has one at every third
    step only, like the head of a task that is seldom drawn."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for step in range(steps):
        row = [
            torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
            for shape in SHAPES
        ]
        if skip and step % 3 != 2:
            row[1] = None
        rows.append(row)
    return rows


def two_groups(params):
    return [
        {"params": params[:2], "lr": 0.02, "weight_decay": 0.1},
        {"params": params[2:], "lr": 0.005, "weight_decay": 0.0},
    ]


def train(optimizer, params, rows):
    for row in rows:
        for param, grad in zip(params, row, strict=True):
            param.grad = None if grad is None else grad.clone()
        optimizer.step()


def train_at_falling_rate(optimizer, params, rows):
    for step, row in enumerate(rows):
        set_lr(optimizer, linear(step, total=len(rows), warmup=len(rows) // 10))
        train(optimizer, params, [row])


def assert_close(got, want, tolerance, hint):
    assert len(got) == len(want) > 0
    for index, (a, b) in enumerate(zip(got, want, strict=True)):
        a, b = torch.as_tensor(a).detach().double(), torch.as_tensor(b).detach().double()
        off = (a - b).abs().max().item()
        assert off <= tolerance, f"parameter {index} is off by {off:.2e} (> {tolerance}): {hint}"


def assert_equal(got, want, hint):
    assert len(got) == len(want) > 0
    for index, (a, b) in enumerate(zip(got, want, strict=True)):
        assert torch.equal(a, b), f"parameter {index} is not bit for bit the same: {hint}"


def by_formula(
    params, rows, *, lr, betas, eps, weight_decay, correct_bias=True, efficient=True, decay="after"
):
    """The two papers in float64 numpy, one parameter at a time and from its own gradients only."""
    b1, b2 = betas
    results = []
    for index, param in enumerate(params):
        p = param.detach().double().numpy().copy()
        m, v, t = np.zeros_like(p), np.zeros_like(p), 0
        for row in rows:
            if row[index] is None:
                continue
            t += 1
            g = row[index].double().numpy()
            m = b1 * m + (1 - b1) * g
            v = b2 * v + (1 - b2) * g**2
            c1, c2 = (1 - b1**t, 1 - b2**t) if correct_bias else (1.0, 1.0)
            if efficient:
                update = lr * np.sqrt(c2) / c1 * m / (np.sqrt(v) + eps)
            else:
                update = lr * (m / c1) / (np.sqrt(v / c2) + eps)
            if decay == "before":
                p = p - lr * weight_decay * p - update
            else:
                p = p - update
                p = p - lr * weight_decay * p
        results.append(p)
    return results


# Against torch.optim.AdamW


@pytest.mark.parametrize(
    "fused", [pytest.param(False, marks=pytest.mark.slow), True], ids=["plain", "fused"]
)
def test_equals_torch_over_1000_steps_with_groups_and_a_changing_rate(fused):
    params, rows = make_params(), make_gradients(1000)
    reference = copy.deepcopy(params)
    ours = AdamW(two_groups(params), betas=(0.8, 0.99), eps=1e-5, fused=fused, **AS_TORCH)
    theirs = torch.optim.AdamW(two_groups(reference), betas=(0.8, 0.99), eps=1e-5, foreach=False)
    train_at_falling_rate(ours, params, rows)
    train_at_falling_rate(theirs, reference, rows)
    assert_close(params, reference, 1e-10, "wrong moments, bias correction, or a group's options")
    for p, q in zip(params, reference, strict=True):
        for key in ("exp_avg", "exp_avg_sq"):
            assert_close([ours.state[p][key]], [theirs.state[q][key]], 1e-12, f"wrong {key}")
        assert ours.state[p]["step"] == theirs.state[q]["step"].item()


def test_defaults():
    options = AdamW([nn.Parameter(torch.ones(1))]).param_groups[0]
    del options["params"]
    assert options == {
        "lr": 1e-3,
        "betas": (0.9, 0.999),
        "eps": 1e-6,
        "weight_decay": 0.0,
        "correct_bias": True,
        "efficient": True,
        "decay": "after",
    }


# Conventions. A large eps and rate make them differ by far more than the tolerance.

STRONG = {"lr": 0.05, "betas": (0.8, 0.95), "eps": 0.1, "weight_decay": 0.3}


@ROUTES
@EVERY_CONVENTION
def test_equals_the_formula(convention, fused):
    params, rows = make_params(), make_gradients(60)
    want = by_formula(params, rows, **STRONG, **convention)
    train(AdamW(params, fused=fused, **STRONG, **convention), params, rows)
    assert_close(params, want, 1e-12, "this convention is not applied, or at the wrong place")


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6)], ids=str
)
@EVERY_CONVENTION
def test_fused_equals_plain(convention, dtype, tolerance):
    plain, rows = make_params(dtype), make_gradients(60, dtype)
    fused = copy.deepcopy(plain)
    train_at_falling_rate(AdamW(plain, **STRONG, **convention), plain, rows)
    train_at_falling_rate(AdamW(fused, fused=True, **STRONG, **convention), fused, rows)
    assert_close(fused, plain, tolerance, "the kernel is not handed this convention")


def test_conventions_differ():
    rows, results = make_gradients(5), []
    # Without bias correction there is nothing left in which `efficient` could differ.
    distinct = [c for c in CONVENTIONS if c["correct_bias"] or c["efficient"]]
    assert len(distinct) == 6
    for convention in distinct:
        params = make_params()
        train(AdamW(params, **STRONG, **convention), params, rows)
        results.append(params[0].detach())
    for a, b in itertools.combinations(range(len(distinct)), 2):
        off = (results[a] - results[b]).abs().max().item()
        assert off > 1e-3, f"{name_of(distinct[a])} and {name_of(distinct[b])} do the same"


@ROUTES
def test_decay_after_shrinks_the_updated_parameter(fused):
    # One step from p = 2 with g = 3 and eps = 0 moves p by lr, whatever the gradient's size.
    for decay, want in (("after", (2 - 0.1) * 0.95), ("before", 2 * 0.95 - 0.1)):
        param = nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
        param.grad = torch.tensor([3.0], dtype=torch.float64)
        AdamW([param], lr=0.1, weight_decay=0.5, eps=0.0, decay=decay, fused=fused).step()
        assert param.item() == pytest.approx(want, abs=1e-12), decay


@ROUTES
def test_first_step_without_bias_correction(fused):
    # m = 0.1 g and v = 0.001 g^2 as they stand: a first step of 0.1 / sqrt(0.001) rates.
    param = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    param.grad = torch.full((1,), 3.0, dtype=torch.float64)
    AdamW([param], lr=0.01, eps=0.0, correct_bias=False, fused=fused).step()
    assert param.item() == pytest.approx(-0.01 * 0.1 / 0.001**0.5, abs=1e-12)


@ROUTES
def test_betas_of_zero_follow_the_sign_of_the_gradient(fused):
    for correct_bias in (True, False):
        param = nn.Parameter(torch.zeros(2, dtype=torch.float64))
        param.grad = torch.tensor([3.0, -5.0], dtype=torch.float64)
        options = {"lr": 0.5, "betas": (0.0, 0.0), "eps": 0.0, "correct_bias": correct_bias}
        AdamW([param], fused=fused, **options).step()
        assert param.tolist() == pytest.approx([-0.5, 0.5], abs=1e-12)


# Steps, closures, gradients


@ROUTES
def test_closure_is_called_once_with_gradients_enabled_and_its_loss_returned(fused):
    param = nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = AdamW([param], lr=0.1, fused=fused)
    calls = []

    def closure():
        optimizer.zero_grad()
        loss = param.square().sum()
        loss.backward()
        calls.append(loss.item())
        return loss

    with torch.no_grad():
        first = optimizer.step(closure)
    assert calls == [5.0] and first.item() == 5.0
    assert optimizer.step(closure).item() < 5.0, "the step must use the closure's gradients"
    assert len(calls) == 2
    assert optimizer.step() is None


@ROUTES
def test_parameters_without_gradient_are_untouched_and_count_their_own_steps(fused):
    params = make_params()
    start = copy.deepcopy(params)
    rows = make_gradients(10)
    for row in rows:
        row[0] = None
    optimizer = AdamW(params, lr=0.1, weight_decay=0.5, fused=fused)
    train(optimizer, params, rows)
    assert torch.equal(params[0], start[0]), "no gradient, so neither an update nor decay"
    assert params[0] not in optimizer.state
    assert [optimizer.state[p]["step"] for p in params[1:]] == [3, 10, 10]
    assert not torch.equal(params[1], start[1])


@ROUTES
def test_gradients_in_any_memory_layout(fused):
    # An expanded gradient occupies one number of memory, a transposed one another order.
    a, b = nn.Parameter(torch.zeros(4, 3)), nn.Parameter(torch.zeros(4, 3))
    transposed = torch.arange(12.0).view(3, 4).t()
    a.grad, b.grad = torch.ones(()).expand(4, 3), transposed
    optimizer = AdamW([a, b], fused=fused)
    optimizer.step()
    m = [optimizer.state[p]["exp_avg"] for p in (a, b)]
    assert_close(m, [torch.full((4, 3), 0.1), 0.1 * transposed], 1e-6, "strides were ignored")


def test_fused_takes_mixed_dtypes_in_one_group():
    rows = [
        [g.to(d) for g, d in zip(row, DTYPES, strict=True)] for row in make_gradients(5, skip=False)
    ]
    plain = [nn.Parameter(p.detach().to(d)) for p, d in zip(make_params(), DTYPES, strict=True)]
    fused = copy.deepcopy(plain)
    exact = [nn.Parameter(p.detach().double().clone()) for p in plain]
    train(AdamW(plain, lr=0.01, weight_decay=0.1), plain, rows)
    train(AdamW(fused, lr=0.01, weight_decay=0.1, fused=True), fused, rows)
    train(AdamW(exact, lr=0.01, weight_decay=0.1), exact, [[g.double() for g in r] for r in rows])
    assert [p.dtype for p in fused] == DTYPES
    assert_close(fused[:1], plain[:1], 1e-12, "float64 mixed with another dtype")
    assert_close(fused[1:3], plain[1:3], 1e-6, "float32 mixed with another dtype")
    # The kernel rounds once a step, and the plain route after the update and after the decay.
    assert_close(fused[3:], exact[3:], 0.025, "bfloat16 rounds to about 3 digits a step")
    assert_close(plain[3:], exact[3:], 0.05, "bfloat16 rounds to about 3 digits, twice a step")


def test_fused_calls_the_kernel_and_plain_does_not(monkeypatch):
    calls = []
    kernel = torch._fused_adamw_

    def counted(tensors, *args, **options):
        calls.append(len(tensors))
        return kernel(tensors, *args, **options)

    monkeypatch.setattr(torch, "_fused_adamw_", counted)
    params, rows = make_params(), make_gradients(1, skip=False)
    train(AdamW(params), params, rows)
    assert calls == []
    train(AdamW(params, fused=True), params, rows)
    assert calls == [len(SHAPES)], "parameters at the same step must go in one call"


# Saving and loading


def through_torch_save(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def through_tensors_and_json(state):
    """As a checkpoint keeps it: tensors by flat names, and the rest as JSON."""
    tensors, numbers = {}, {}
    for index, entries in state["state"].items():
        for key, value in entries.items():
            place = tensors if isinstance(value, torch.Tensor) else numbers
            place[f"{index}.{key}"] = value
    text = json.dumps({"numbers": numbers, "param_groups": state["param_groups"]})
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}

    loaded = json.loads(text)
    entries = {}
    for name, value in {**tensors, **loaded["numbers"]}.items():
        index, key = name.split(".")
        entries.setdefault(int(index), {})[key] = value
    return {"state": entries, "param_groups": loaded["param_groups"]}


@ROUTES
@pytest.mark.parametrize("through", [through_torch_save, through_tensors_and_json])
@pytest.mark.parametrize("correct_bias", [True, False])
def test_a_loaded_state_continues_bit_for_bit(through, correct_bias, fused):
    rows = make_gradients(20, torch.float32)
    straight = make_params(torch.float32)
    optimizer = AdamW(two_groups(straight), fused=fused, correct_bias=correct_bias)
    train(optimizer, straight, rows[:11])

    resumed = copy.deepcopy(straight)
    fresh = AdamW(resumed[:2], fused=fused)  # its own options, which loading replaces
    fresh.add_param_group({"params": resumed[2:]})
    fresh.load_state_dict(through(optimizer.state_dict()))
    for step, row in enumerate(rows[11:]):
        for one, params in ((optimizer, straight), (fresh, resumed)):
            set_lr(one, cosine(step, total=9, warmup=0))
            train(one, params, [row])
    assert_equal(resumed, straight, "a part of the state was not saved")
    assert [fresh.state[p]["step"] for p in resumed] == [20, 6, 20, 20]


def test_the_state_of_another_optimizer_is_refused_and_changes_nothing():
    params = make_params()
    optimizer = AdamW(params)
    train(optimizer, params, make_gradients(2))
    before = copy.deepcopy(optimizer.state_dict())
    foreign = torch.optim.AdamW(params).state_dict()
    with pytest.raises(ValueError, match="no correct_bias, efficient, decay, so another optimizer"):
        optimizer.load_state_dict(foreign)
    wrong = copy.deepcopy(before)
    wrong["param_groups"][0]["lr"] = -5.0
    with pytest.raises(ValueError, match="lr must be finite and at least 0; got -5"):
        optimizer.load_state_dict(wrong)
    after = optimizer.state_dict()
    assert after["param_groups"] == before["param_groups"]
    for index, state in before["state"].items():
        assert torch.equal(after["state"][index]["exp_avg"], state["exp_avg"])


@ROUTES
def test_a_state_continues_in_the_other_route(fused):
    rows = make_gradients(20)
    straight = make_params()
    optimizer = AdamW(straight, fused=fused, **STRONG)
    train(optimizer, straight, rows[:11])

    crossed = copy.deepcopy(straight)
    other = AdamW(crossed, fused=not fused)
    other.load_state_dict(through_torch_save(optimizer.state_dict()))
    assert other.fused is (not fused), "loading must not change the route"
    for p, q in zip(straight, crossed, strict=True):
        assert optimizer.state[p]["step"] == other.state[q]["step"]
        moments = [
            [s[k] for k in ("exp_avg", "exp_avg_sq")] for s in (optimizer.state[p], other.state[q])
        ]
        assert_equal(moments[1], moments[0], "loading must not round the state")
    train(optimizer, straight, rows[11:])
    train(other, crossed, rows[11:])
    assert_close(crossed, straight, 1e-12, "the routes keep different state")

    # And back: what the other route saves is as good.
    back = copy.deepcopy(crossed)
    again = AdamW(back, fused=fused)
    again.load_state_dict(through_torch_save(other.state_dict()))
    train(again, back, rows)
    train(optimizer, straight, rows)
    assert_close(back, straight, 1e-12, "the routes keep different state")


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copied_optimizer_keeps_its_route(clone):
    params, rows = make_params(), make_gradients(4)
    optimizer = AdamW(params, fused=True)
    train(optimizer, params, rows)
    copied = clone(optimizer)
    params_copied = copied.param_groups[0]["params"]
    assert copied.fused is True
    train(optimizer, params, rows)
    train(copied, params_copied, rows)
    assert_equal(params_copied, params, "the copy lost state")


# Groups


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(6, 4)
        self.dense = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)
        self.column = nn.Module()
        self.column.bias = nn.Parameter(torch.zeros(4, 1))
        self.output = nn.Linear(4, 6, bias=False)


def names_of(groups):
    return {(group["lr"], group["weight_decay"]): group["names"] for group in groups}


def test_groups_split_off_what_does_not_decay():
    model = Block()
    groups = parameter_groups(model.named_parameters(), lr=0.1, weight_decay=0.01)
    assert names_of(groups) == {
        (0.1, 0.01): ["embedding.weight", "dense.weight", "output.weight"],
        (0.1, 0.0): ["dense.bias", "norm.weight", "norm.bias", "column.bias"],
    }
    by_name = dict(model.named_parameters())
    for group in groups:
        assert list(group) == ["params", "lr", "weight_decay", "names"]
        assert all(p is by_name[n] for p, n in zip(group["params"], group["names"], strict=True))


def test_groups_take_another_predicate():
    groups = parameter_groups(
        Block().named_parameters(),
        lr=0.1,
        weight_decay=0.01,
        no_decay=lambda name, param: name.startswith("embedding") or param.ndim == 1,
    )
    assert names_of(groups) == {
        (0.1, 0.0): ["embedding.weight", "dense.bias", "norm.weight", "norm.bias"],
        (0.1, 0.01): ["dense.weight", "column.bias", "output.weight"],
    }


def test_groups_scale_the_rate_per_name_and_merge_equal_ones():
    groups = parameter_groups(
        Block().named_parameters(),
        lr=0.5,
        weight_decay=0.01,
        lr_scale=lambda name: 1.0 if name.startswith(("norm", "output")) else 0.5,
    )
    assert names_of(groups) == {
        (0.25, 0.01): ["embedding.weight", "dense.weight"],
        (0.25, 0.0): ["dense.bias", "column.bias"],
        (0.5, 0.0): ["norm.weight", "norm.bias"],
        (0.5, 0.01): ["output.weight"],
    }
    assert len(parameter_groups(Block().named_parameters(), lr=0.5, weight_decay=0.0)) == 1


def test_groups_count_shared_parameters_once_and_leave_out_frozen_ones():
    model = Block()
    model.output.weight = model.embedding.weight
    model.dense.requires_grad_(False)
    every_name = model.named_parameters(remove_duplicate=False)
    groups = parameter_groups(every_name, lr=0.1, weight_decay=0.01)
    assert names_of(groups) == {
        (0.1, 0.01): ["embedding.weight"],
        (0.1, 0.0): ["norm.weight", "norm.bias", "column.bias"],
    }


def test_groups_train():
    model = nn.Linear(2, 2)
    groups = parameter_groups(
        model.named_parameters(), lr=0.1, weight_decay=0.5, lr_scale={"weight": 1, "bias": 0}.get
    )
    before = copy.deepcopy(model)
    optimizer = AdamW(groups, eps=0.0)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    assert torch.equal(model.bias, before.bias), "its rate is 0"
    assert_close([model.weight], [(before.weight - 0.1) * 0.95], 1e-6, "a group's options are lost")
    names = [group["names"] for group in optimizer.state_dict()["param_groups"]]
    assert names == [["weight"], ["bias"]]


# Schedules


def rates_of_transformers(name, total, warmup, steps):
    make = {
        "constant": lambda o: transformers.get_constant_schedule_with_warmup(o, warmup),
        "linear": lambda o: transformers.get_linear_schedule_with_warmup(o, warmup, total),
        "cosine": lambda o: transformers.get_cosine_schedule_with_warmup(o, warmup, total),
    }[name]
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.3)
    schedule = make(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


@pytest.mark.parametrize(("total", "warmup"), [(50, 0), (50, 1), (50, 7), (50, 50), (1, 0), (1, 1)])
@pytest.mark.parametrize("name", ["constant", "linear", "cosine"])
def test_schedule_equals_transformers_at_every_step(name, total, warmup):
    optimizer = AdamW([nn.Parameter(torch.ones(1))], lr=0.3)
    rates = []
    for step in range(total + 5):
        set_lr(optimizer, SCHEDULES[name](step, total, warmup))
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == rates_of_transformers(name, total, warmup, total + 5)


def test_schedules_by_name():
    assert list(SCHEDULES.items()) == [
        ("constant", constant),
        ("linear", linear),
        ("cosine", cosine),
    ]


def test_set_lr_keeps_the_base_rate_of_each_group():
    a, b = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    optimizer = AdamW([{"params": [a], "lr": 0.5}, {"params": [b]}], lr=0.25)
    for multiplier in (0.0, 0.5, 1.0, 0.5):
        set_lr(optimizer, multiplier)
        assert [g["lr"] for g in optimizer.param_groups] == [0.5 * multiplier, 0.25 * multiplier]
    resumed = AdamW([{"params": [a]}, {"params": [b]}], lr=9.0)
    resumed.load_state_dict(optimizer.state_dict())
    set_lr(resumed, 1.0)
    assert [g["lr"] for g in resumed.param_groups] == [0.5, 0.25], "the base rate must be saved"


# Errors: each states the rule, the value and the remedy.

WRONG_OPTIONS = [
    ({"lr": -0.1}, ValueError, r"lr must be finite and at least 0; got -0.1; choose"),
    ({"lr": float("nan")}, ValueError, r"lr must be finite and at least 0; got nan; choose"),
    ({"lr": float("inf")}, ValueError, r"lr must be finite and at least 0; got inf; choose"),
    ({"lr": "1e-3"}, TypeError, r"lr must be a number; got '1e-3'; pass a float"),
    ({"eps": -1e-9}, ValueError, r"eps must be finite and at least 0; got -1e-09; choose"),
    ({"weight_decay": -1}, ValueError, r"weight_decay must be finite .* got -1; choose"),
    ({"betas": (0.9, 1.0)}, ValueError, r"betas must be in \[0, 1\); got \(0.9, 1.0\); choose"),
    ({"betas": (-0.1, 0.9)}, ValueError, r"betas must be in \[0, 1\); got \(-0.1, 0.9\); choose"),
    ({"betas": 0.9}, TypeError, r"betas must be two numbers; got 0.9; pass \(0.9, 0.999\)"),
    ({"betas": (0.9,)}, TypeError, r"betas must be two numbers; got \(0.9,\); pass"),
    ({"correct_bias": "no"}, TypeError, r"correct_bias must be True or False; got 'no'; pass"),
    ({"efficient": 1}, TypeError, r"efficient must be True or False; got 1; pass a bool"),
    ({"decay": "during"}, ValueError, r"unknown decay 'during'; choose one of after, before"),
]


@pytest.mark.parametrize(("options", "error", "message"), WRONG_OPTIONS)
def test_a_wrong_option_is_refused_everywhere(options, error, message):
    param = nn.Parameter(torch.ones(1))
    with pytest.raises(error, match=message):
        AdamW([param], **options)
    with pytest.raises(error, match=message):
        AdamW([{"params": [param], **options}])
    optimizer = AdamW([param])
    with pytest.raises(error, match=message):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(1))], **options})
    assert len(optimizer.param_groups) == 1


def test_fused_is_one_setting_and_a_bool():
    param = nn.Parameter(torch.ones(1))
    with pytest.raises(TypeError, match=r"fused must be True or False; got 'auto'; pass a bool"):
        AdamW([param], fused="auto")
    with pytest.raises(ValueError, match=r"whole optimizer; got fused=True .* pass it to AdamW"):
        AdamW([{"params": [param], "fused": True}])


@ROUTES
def test_sparse_and_complex_gradients_are_refused(fused):
    embedding = nn.Embedding(5, 2, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match=r"dense real .*sparse_coo.*\(5, 2\); .*sparse=False"):
        AdamW(embedding.parameters(), fused=fused).step()
    param = nn.Parameter(torch.ones(2, dtype=torch.complex64))
    param.grad = torch.ones_like(param)
    with pytest.raises(RuntimeError, match=r"dense real gradients; got .*complex64.*; build"):
        AdamW([param], fused=fused).step()


def test_fused_refuses_what_the_kernel_cannot_take():
    param = nn.Parameter(torch.ones(2, device="meta"))
    param.grad = torch.ones_like(param)
    with pytest.raises(RuntimeError, match=r"on cpu, cuda; got .* on meta; pass fused=False"):
        AdamW([param], fused=True).step()

    param = nn.Parameter(torch.ones(2, 3).t())
    param.grad = torch.ones(3, 2)
    with pytest.raises(RuntimeError, match=r"contiguous .* \(3, 2\) with strides \(1, 3\); make"):
        AdamW([param], fused=True).step()
    assert torch.equal(param, torch.ones(3, 2))

    contiguous = nn.Parameter(torch.ones(3, 2))
    for saved, loaded in ((param, contiguous), (contiguous, param)):
        saved.grad = loaded.grad = torch.ones(3, 2)
        plain, fused = AdamW([saved], lr=0.0), AdamW([loaded], fused=True)
        plain.step()
        fused.load_state_dict(plain.state_dict())
        with pytest.raises(RuntimeError, match=r"contiguous parameters and moments; got shape"):
            fused.step()
    AdamW([param], lr=0.5, eps=0.0).step()
    assert_close([param], [torch.full((3, 2), 0.5)], 1e-6, "the plain route takes any strides")


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_schedule_errors(schedule):
    for total in (0, -1):
        with pytest.raises(ValueError, match=rf"total must be positive; got {total}; give"):
            schedule(0, total, 0)
    with pytest.raises(ValueError, match=r"warmup must be at least 0; got -1; choose 0"):
        schedule(0, 10, -1)
    with pytest.raises(ValueError, match=r"exceed total; got warmup 11 of total 10; shorten"):
        schedule(0, 10, 11)
    with pytest.raises(ValueError, match=r"step must be at least 0; got -1; count steps from 0"):
        schedule(-1, 10, 0)


@pytest.mark.parametrize("multiplier", [-0.5, float("nan"), float("inf")])
def test_set_lr_errors(multiplier):
    optimizer = AdamW([nn.Parameter(torch.ones(1))])
    with pytest.raises(ValueError, match=rf"multiplier .* got {multiplier}; take it from a sched"):
        set_lr(optimizer, multiplier)


def test_group_errors():
    model = Block().requires_grad_(False)
    for named in (model.named_parameters(), []):
        with pytest.raises(ValueError, match=r"no trainable parameter: .*requires_grad.*unfreeze"):
            parameter_groups(named, lr=0.1, weight_decay=0.0)
    for scale in (-1.0, float("nan")):
        with pytest.raises(ValueError, match=rf"lr_scale .* got {scale} for dense.weight; return"):
            parameter_groups(
                [("dense.weight", nn.Parameter(torch.ones(2, 2)))],
                lr=0.1,
                weight_decay=0.0,
                lr_scale=lambda name, scale=scale: scale,
            )


@pytest.mark.parametrize("limit", [0.1, 2.0, 1e6])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_clipping_is_pytorchs_to_the_bit(limit, scale):
    shapes = ((3, 5), (7,), (), (2, 2, 2))
    ours, theirs = ([nn.Parameter(torch.zeros(shape)) for shape in shapes] for _ in range(2))
    for n, (one, other) in enumerate(zip(ours[1:], theirs[1:], strict=True)):
        one.grad = scale * torch.randn(one.shape, generator=torch.Generator().manual_seed(n))
        other.grad = one.grad.clone()
    norm = clip_gradients(ours, limit)
    assert torch.equal(norm, nn.utils.clip_grad_norm_(theirs, limit))
    assert ours[0].grad is None
    for one, other in zip(ours[1:], theirs[1:], strict=True):
        assert torch.equal(one.grad, other.grad)


def test_clipping_nothing_has_a_norm_of_zero():
    assert clip_gradients([nn.Parameter(torch.ones(2))], 1.0).item() == 0
