"""Checkpoints: one safetensors file, the tensors with their JSON state and checksum in its header.

One file, because one file can be replaced atomically: whenever a process is killed, the file under
a checkpoint's name is a whole one. It holds what training may change, the trainable parameters;
a frozen encoder stays where it came from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from minbert.backbones import write_tensors
from minbert.files import brief, checked, regular
from multitask.distributed import split_like

FORMAT = "minbert checkpoint 2"


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write tensors and JSON values to one file, atomically."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(state)
    header = {"format": FORMAT, "state": text, "sha256": _checksum(plain, text)}
    write_tensors(path, plain, header)


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_checkpoint` wrote.

    Raises:
        ValueError: there is no such file, it is damaged, or another program wrote it.
    """
    if not path.exists():
        raise ValueError(f"{path} does not exist; this is no run with a checkpoint")
    try:
        with safe_open(regular(path), framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged or no checkpoint: {brief(error)}; take another checkpoint of the "
            "run, or train again"
        ) from None
    if header.get("format") != FORMAT:
        raise ValueError(
            f"{path} is no checkpoint of this version ({FORMAT!r}), its format is "
            f"{brief(header.get('format'))}; a plain model folder is loaded with --backbone"
        )
    state = header.get("state", "")
    actual = _checksum(tensors, state)
    if actual != header.get("sha256"):
        raise ValueError(
            f"{path} is damaged: its contents have checksum {actual}, not "
            f"{brief(header.get('sha256'))}; "
            "take another checkpoint of the run, or train again"
        )
    try:
        return tensors, checked(json.loads(state), dict[str, Any])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {brief(error)}; train again") from None


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that training changes, by name; tied ones once."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def load_trained(model: nn.Module, tensors: Mapping[str, Tensor], source: Path) -> None:
    """Copy tensors into a model's trainable parameters of the same names; both must agree."""
    load_tensors(trainable(model), tensors, source)


def check_tensors(
    expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor], source: Path
) -> None:
    """Raise ValueError unless tensors have the names and shapes of these."""
    problems = [f"lacks {name}" for name in expected.keys() - tensors.keys()]
    problems += [
        f"has {name}, which the model does not" for name in tensors.keys() - expected.keys()
    ]
    problems += [
        f"has {name} of shape {tuple(tensors[name].shape)}, not {tuple(parameter.shape)}"
        for name, parameter in expected.items()
        if name in tensors and _shape(tensors[name]) != _shape(parameter)
    ]
    if problems:
        raise ValueError(f"{source} does not fit the model: " + "; ".join(sorted(problems)[:20]))


def load_tensors(
    expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor], source: Path
) -> None:
    """Copy tensors into those of the same names, such as parameters; both must agree."""
    check_tensors(expected, tensors, source)
    with torch.no_grad():
        for name, parameter in expected.items():
            parameter.copy_(split_like(tensors[name], parameter))


def optimizer_state(
    optimizer: torch.optim.Optimizer, names: Mapping[Tensor, str]
) -> tuple[dict[str, Tensor], dict[str, int]]:
    """An optimizer's moments, as `{moment}/{parameter}`, and step counts, by parameter name."""
    tensors, steps = {}, {}
    for parameter, state in optimizer.state.items():
        name = names[parameter]
        steps[name] = state["step"]
        tensors |= {f"{k}/{name}": v for k, v in state.items() if isinstance(v, Tensor)}
    return tensors, steps


def load_optimizer(
    optimizer: torch.optim.Optimizer,
    tensors: Mapping[str, Tensor],
    steps: Mapping[str, int],
    parameters: Mapping[str, nn.Parameter],
) -> None:
    """Put back what `optimizer_state` gave.

    Raises:
        ValueError: moments or steps are of other parameters.
    """
    moments = {key: _shape(tensor) for key, tensor in tensors.items()}
    names = ("exp_avg", "exp_avg_sq")
    shapes = {name: _shape(parameters[name]) if name in parameters else None for name in steps}
    if moments != {f"{m}/{name}": shape for name, shape in shapes.items() for m in names}:
        raise ValueError("the optimizer's moments are not of the parameters that are trained")
    for name, step in steps.items():
        state: dict[str, Any] = {"step": step}
        for key, tensor in tensors.items():
            moment, _, owner = key.partition("/")
            if owner == name:
                state[moment] = split_like(tensor, parameters[name])
        optimizer.state[parameters[name]] = state


def _shape(tensor: Tensor) -> tuple[int, ...]:
    """A tensor's shape; that of a scalar, as version 0.1.0 has some, is a vector's of one."""
    return tuple(tensor.shape) or (1,)


def _checksum(tensors: Mapping[str, Tensor], state: str) -> str:
    digest = hashlib.sha256(state.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
