"""AdamW by hand: Adam (Kingma & Ba, 2015) with decoupled weight decay (Loshchilov & Hutter, 2019).

    m_t = b1 m_{t-1} + (1 - b1) g_t        a running mean of the gradient
    v_t = b2 v_{t-1} + (1 - b2) g_t^2      a running mean of its square
    p_t = p_{t-1} - lr * (m_t / c1) / (sqrt(v_t / c2) + eps)    with c1 = 1 - b1^t, c2 = 1 - b2^t

m and v start at zero, so early on they are too small by the factors c1 and c2: the bias that the
division corrects. Weight decay is decoupled: it shrinks p directly, by lr * weight_decay * p, and
never enters the gradient, so that m and v do not see it.

`AdamW.step` calls one small function per line of the above, on one parameter at a time. The second
half of the file holds the fused route, the same numbers from one PyTorch call; skip it at will.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from inspect import unwrap
from numbers import Real
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

DECAYS = ("after", "before")
FUSED_DEVICES = ("cpu", "cuda")


class AdamW(Optimizer):
    """Adam with decoupled weight decay, in the conventions that are in use.

    Args:
        params: parameters, or groups as dictionaries that may set any option below but `fused`.
        lr: learning rate, at least 0.
        betas: decay rates b1, b2 of the two running means, each in [0, 1).
        eps: keeps the division finite, at least 0.
        weight_decay: strength of the decoupled decay, at least 0.
        correct_bias: False takes c1 = c2 = 1, as the first BERT code did.
        efficient: True takes the cheaper form at the end of section 2 of Kingma & Ba,
            p -= lr * sqrt(c2) / c1 * m / (sqrt(v) + eps), where eps is not corrected.
            False takes p -= lr * (m / c1) / (sqrt(v / c2) + eps), as torch.optim.AdamW does.
        decay: "after" shrinks the parameter that the Adam update has made, as the CS224N handout
            does; "before" shrinks it and then updates, as torch.optim.AdamW does. Both use lr
            without bias correction.
        fused: True computes the same in PyTorch's fused kernel: quicker, on CPU and CUDA. It is
            how a step is computed and not what, so it is no part of `state_dict()`: a state
            saved by either route continues in the other.

    A parameter whose gradient is None is left as it is, and its own step count with it.

    Raises:
        TypeError, ValueError: an option breaks its rule.
        RuntimeError: a gradient or a parameter is of a kind that the update cannot take.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        correct_bias: bool = True,
        efficient: bool = True,
        decay: str = "after",
        fused: bool = False,
    ) -> None:
        check_flag("fused", fused)
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "correct_bias": correct_bias,
            "efficient": efficient,
            "decay": decay,
        }
        super().__init__(params, defaults)  # checks them in add_param_group
        self.fused = fused

    # PyTorch wraps four methods, these and the two below, to keep its compiler out of them, and
    # imports the compiler for that: two seconds at the start of a run that compiles nothing.
    zero_grad = unwrap(Optimizer.zero_grad)
    state_dict = unwrap(Optimizer.state_dict)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; what it leaves out is taken from the optimizer's own options."""
        check_options({**self.defaults, **param_group})
        unwrap(Optimizer.add_param_group)(self, param_group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what `state_dict()` gave, of either route; its options replace one's own.

        Raises:
            ValueError: the state is another optimizer's, or an option breaks its rule.
        """
        for group in state_dict["param_groups"]:
            missing = [name for name in self.defaults if name not in group]
            if missing:
                raise ValueError(
                    f"the state has no {', '.join(missing)}, so another optimizer saved it; load "
                    "one of this AdamW, or go on without, with new moments"
                )
            check_options({name: group[name] for name in self.defaults})
        unwrap(Optimizer.load_state_dict)(self, state_dict)

    @torch.no_grad()
    def step(
        self, closure: Callable[[], Any] | None = None, *, found_inf: Tensor | None = None
    ) -> Any:
        """Update every parameter that has a gradient.

        `closure`, where given, computes the loss and the gradients first; its loss is returned.
        With `found_inf`, a float32 scalar on the device, the fused kernel changes nothing where it
        is not 0, and nobody waits to read it; the step is counted all the same.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()

        for group in self.param_groups:
            params = [param for param in group["params"] if param.grad is not None]
            states = [self.next_state(param) for param in params]
            if self.fused:
                fused_update(params, states, group, found_inf)
                continue

            lr, betas, weight_decay = group["lr"], group["betas"], group["weight_decay"]
            for param, state in zip(params, states, strict=True):
                m, v = state["exp_avg"], state["exp_avg_sq"]
                if group["decay"] == "before":
                    decay_weights(param, lr, weight_decay)

                update_moments(m, v, param.grad, betas)
                c1, c2 = bias_corrections(state["step"], betas, group["correct_bias"])
                if group["efficient"]:
                    efficient_update(param, m, v, lr, c1, c2, group["eps"])
                else:
                    textbook_update(param, m, v, lr, c1, c2, group["eps"])

                if group["decay"] == "after":
                    decay_weights(param, lr, weight_decay)
        return loss

    def next_state(self, param: Tensor) -> dict[str, Any]:
        """The moments of `param` (zeros at first) with its step count moved on by one.

        The count is a Python int: exact, and read without waiting for the device.
        """
        check_gradient(param)
        state = self.state[param]
        if not state:
            state["step"] = 0
            state["exp_avg"] = torch.zeros_like(param)
            state["exp_avg_sq"] = torch.zeros_like(param)
        state["step"] += 1
        return state

    def __getstate__(self) -> dict[str, Any]:
        # copy.deepcopy and pickle ask for this, and PyTorch's own version would drop `fused`.
        return {**super().__getstate__(), "fused": self.fused}


# The algorithm, line by line. Every function changes its first tensors in place.


def update_moments(m: Tensor, v: Tensor, grad: Tensor, betas: tuple[float, float]) -> None:
    """m = b1 m + (1 - b1) g and v = b2 v + (1 - b2) g^2, elementwise."""
    beta1, beta2 = betas
    m.lerp_(grad, 1 - beta1)
    v.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)


def bias_corrections(
    step: int, betas: tuple[float, float], correct_bias: bool
) -> tuple[float, float]:
    """c1 = 1 - b1^t and c2 = 1 - b2^t at step t = 1, 2, ...; both 1 without bias correction."""
    if not correct_bias:
        return 1.0, 1.0
    beta1, beta2 = betas
    return 1 - beta1**step, 1 - beta2**step


def efficient_update(
    param: Tensor, m: Tensor, v: Tensor, lr: float, c1: float, c2: float, eps: float
) -> None:
    """p = p - lr_t m / (sqrt(v) + eps) with lr_t = lr sqrt(c2) / c1."""
    step_size = lr * math.sqrt(c2) / c1
    param.addcdiv_(m, v.sqrt().add_(eps), value=-step_size)


def textbook_update(
    param: Tensor, m: Tensor, v: Tensor, lr: float, c1: float, c2: float, eps: float
) -> None:
    """p = p - lr (m / c1) / (sqrt(v / c2) + eps)."""
    param.addcdiv_(m, (v / c2).sqrt_().add_(eps), value=-lr / c1)


def decay_weights(param: Tensor, lr: float, weight_decay: float) -> None:
    """p = p - lr weight_decay p."""
    if weight_decay:
        param.mul_(1 - lr * weight_decay)


# The fused route: many tensors to a call. The kernel knows only the conventions of
# torch.optim.AdamW; the others are brought to it by what it is handed.


def fused_update(
    params: list[Tensor],
    states: list[dict[str, Any]],
    group: dict[str, Any],
    found_inf: Tensor | None = None,
) -> None:
    """What `AdamW.step` does to the parameters of one group, through `torch._fused_adamw_`."""
    # One call takes one device, one dtype and (for eps and the count below) one step.
    buckets = defaultdict(list)
    for param, state in zip(params, states, strict=True):
        check_fused(param, state)
        buckets[param.device, param.dtype, state["step"]].append((param, state))

    lr, weight_decay = group["lr"], group["weight_decay"]
    if group["decay"] == "after":
        # (p - lr u) k with k = 1 - lr wd is p k - (lr k) u, so the kernel, which decays before the
        # update, gives the same at the rate lr k with the product of rate and decay left as it is.
        kept = 1 - lr * weight_decay or 1e-30  # nothing is kept where lr wd is 1
        lr, weight_decay = lr * kept, weight_decay / kept
    for (device, _, step), members in buckets.items():
        _, c2 = bias_corrections(step, group["betas"], group["correct_bias"])
        # The kernel corrects by its step count; after infinitely many, b^t = 0 and c1 = c2 = 1.
        count = float(step) if group["correct_bias"] else math.inf
        # Its denominator is sqrt(v / c2) + eps, so eps / sqrt(c2) makes it (sqrt(v) + eps) /
        # sqrt(c2), which is the efficient form.
        eps = group["eps"] / math.sqrt(c2) if group["efficient"] else group["eps"]
        tensors = [param for param, _ in members]
        torch._fused_adamw_(
            tensors,
            # The kernel walks raw memory, so a gradient that is a view needs its own.
            [param.grad.contiguous() for param in tensors],
            [state["exp_avg"] for _, state in members],
            [state["exp_avg_sq"] for _, state in members],
            [],  # the maxima of v, of AMSGrad only
            # Only read, so the parameters can share it.
            [torch.full((), count, dtype=torch.float32, device=device)] * len(tensors),
            lr=lr,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=weight_decay,
            eps=eps,
            amsgrad=False,
            maximize=False,
            found_inf=found_inf,
        )


# What can be wrong with the arguments.


def check_options(options: dict[str, Any]) -> None:
    """Raise TypeError or ValueError if an option of the optimizer or of a group breaks its rule."""
    for name in ("lr", "eps", "weight_decay"):
        value = options[name]
        if not isinstance(value, Real):
            raise TypeError(f"{name} must be a number; got {value!r}; pass a float")
        if not 0 <= float(value) < math.inf:
            raise ValueError(f"{name} must be finite and at least 0; got {value}; choose 0 or more")
    betas = options["betas"]
    if not (isinstance(betas, (tuple, list)) and len(betas) == 2):
        raise TypeError(f"betas must be two numbers; got {betas!r}; pass (0.9, 0.999) or the like")
    for beta in betas:
        if not (isinstance(beta, Real) and 0 <= float(beta) < 1):
            raise ValueError(
                f"betas must be in [0, 1); got {betas!r}; choose below 1, such as (0.9, 0.999)"
            )
    for name in ("correct_bias", "efficient"):
        check_flag(name, options[name])
    if options["decay"] not in DECAYS:
        raise ValueError(f"unknown decay {options['decay']!r}; choose one of {', '.join(DECAYS)}")
    if "fused" in options:
        raise ValueError(
            f"fused holds for the whole optimizer; got fused={options['fused']!r} in a group; "
            "pass it to AdamW itself"
        )


def check_flag(name: str, value: object) -> None:
    """Raise TypeError unless `value` is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False; got {value!r}; pass a bool")


def check_gradient(param: Tensor) -> None:
    """Raise RuntimeError if the gradient is sparse or complex."""
    grad = param.grad
    assert grad is not None
    if grad.layout != torch.strided or grad.is_complex():
        raise RuntimeError(
            "AdamW needs dense real gradients; "
            f"got layout {grad.layout}, dtype {grad.dtype}, "
            f"for a parameter of shape {tuple(param.shape)}; "
            "build embeddings with sparse=False, and complex numbers from two real parameters"
        )


def check_fused(param: Tensor, state: dict[str, Any]) -> None:
    """Raise RuntimeError if the fused kernel cannot update `param`."""
    if param.device.type not in FUSED_DEVICES:
        raise RuntimeError(
            f"fused AdamW runs on {', '.join(FUSED_DEVICES)}; "
            f"got a parameter on {param.device}; pass fused=False"
        )
    # The kernel walks raw memory: other strides would give wrong numbers without an error.
    for tensor in (param, state["exp_avg"], state["exp_avg_sq"]):
        if not tensor.is_contiguous():
            raise RuntimeError(
                "fused AdamW needs contiguous parameters and moments; "
                f"got shape {tuple(tensor.shape)} with strides {tensor.stride()}; "
                "make the parameter from tensor.contiguous(), or pass fused=False"
            )
