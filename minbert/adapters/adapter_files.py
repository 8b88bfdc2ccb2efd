"""Adapters in the files of peft: adapter_model.safetensors and adapter_config.json.

peft's PeftModel.from_pretrained loads what `save_adapter` writes, and `load_adapter` reads what
peft wrote: LoRA, DoRA, rank-stabilised or not, on linear maps and embeddings; IA3; modules saved
whole. A tensor is called base_model.model.{module's name in transformers}.{lora_A.weight, ...}.
What a file asks for and this project does not compute is an error, never left out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from minbert.adapters.apply import adapted, adapter_names, attach, base_of, linear_of, lora_kind
from minbert.adapters.layers import IA3, LoRA, LoRAEmbedding, LoRALinear, Whole
from minbert.backbones import read_file, write_tensors
from minbert.encoder import Encoder, name_in, pattern_of
from minbert.files import brief, checked, read_json, write_json

ADAPTER_FILES = ("adapter_model.safetensors", "adapter_config.json")
ROOT = "base_model.model."
PARTS: Mapping[type[nn.Module], Mapping[str, str]] = {
    LoRALinear: {
        "A": "lora_A.weight",
        "B": "lora_B.weight",
        "magnitude": "lora_magnitude_vector",
    },
    LoRAEmbedding: {
        "A": "lora_embedding_A",
        "B": "lora_embedding_B",
        "magnitude": "lora_magnitude_vector",
    },
    IA3: {"scale": "ia3_l"},
}
"""Kind of adapter -> its parameters' names in peft's files."""


class Computed(msgspec.Struct):
    """Settings of adapter_config.json that are read here; null is as good as none."""

    peft_type: str | None = None
    task_type: str | None = None
    r: int | None = None
    lora_alpha: float | None = None
    lora_dropout: float | None = None
    use_rslora: bool | None = None
    use_dora: bool | None = None
    rank_pattern: dict[str, int] | None = None
    alpha_pattern: dict[str, float] | None = None
    target_modules: list[str] | str | None = None
    feedforward_modules: list[str] | str | None = None
    modules_to_save: list[str] | None = None


NO_MATTER = [
    "auto_mapping", "base_model_name_or_path", "revision", "inference_mode", "peft_version",
    "init_ia3_weights", "exclude_modules", "layers_to_transform", "layers_pattern",
    "megatron_core", "qalora_group_size", "ensure_weight_tying",
]  # fmt: skip
"""Settings that say where an adapter came from, or which modules it is on, as its tensors do."""
ORDINARY = {"bias": ["none"], "init_lora_weights": [True, "gaussian"]}
"""Settings that have other values for what is not computed here."""


def save_adapter(
    folder: str | Path,
    encoder: Encoder,
    name: str = "default",
    *,
    base: str | None = None,
    head: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write an adapter as a folder that peft loads on transformers' model of the same backbone.

    Args:
        folder: to write adapter_model.safetensors and adapter_config.json in.
        encoder: has the adapter, in use or not.
        name: the adapter's.
        base: hub name or folder of the backbone, for the record.
        head: tensors of a classifier beside the encoder, such as classifier.weight (labels, H) and
            classifier.bias. With them peft loads the adapter on the model for sequence
            classification, and without on the bare encoder.

    Raises:
        ValueError: no such adapter, or the encoder trains more than adapters.
    """
    folder = Path(folder).expanduser()
    adapters = {
        place: module.adapters[name]
        for place, module in adapted(encoder).items()
        if name in module.adapters
    }
    if not adapters:
        known = adapter_names(encoder) or "none"
        raise ValueError(
            f"the encoder has no LoRA or IA3 adapter {name!r} to save, it has {known}; of other "
            "methods peft has no such files"
        )
    outside = [
        parameter
        for parameter, values in encoder.named_parameters()
        if values.requires_grad and ".adapters." not in parameter
    ]
    if outside:
        raise ValueError(
            f"{outside[0]} trains too, and an adapter's file has no place for it; merge the "
            "adapter and save the whole encoder"
        )
    places = {place: hub_name(encoder, place, inside=bool(head)) for place in adapters}
    tensors = dict(head or {})
    for place, adapter in adapters.items():
        for parameter, values in adapter.named_parameters():
            part = _part_names(adapter)[parameter]
            tensors[f"{places[place]}.{part}"] = _peft_shape(adapter, values)
    plain = {f"{ROOT}{k}": v.detach().cpu().contiguous() for k, v in tensors.items()}
    write_tensors(folder / "adapter_model.safetensors", plain, {"format": "pt"})
    saved_whole = [places[place] for place, a in adapters.items() if isinstance(a, Whole)]
    saved_whole += sorted({key.partition(".")[0] for key in head or {}})
    config = {
        **_config({places[place]: adapter for place, adapter in adapters.items()}),
        "modules_to_save": saved_whole or None,
        "task_type": "SEQ_CLS" if head else "FEATURE_EXTRACTION",
        "base_model_name_or_path": base,
        "inference_mode": True,
    }
    write_json(folder / "adapter_config.json", config)
    return folder


def _config(adapters: Mapping[str, nn.Module]) -> dict[str, Any]:
    """The settings in which adapters of one name are alike; exceptions are patterns."""
    scaled = {place: a for place, a in adapters.items() if isinstance(a, IA3)}
    if scaled:
        return {
            "peft_type": "IA3",
            "target_modules": list(scaled),
            "feedforward_modules": [place for place, a in scaled.items() if a.on_input],
        }
    changed = {place: a for place, a in adapters.items() if isinstance(a, LoRA)}
    first = next(iter(changed.values()))
    rank = Counter(a.rank for a in changed.values()).most_common(1)[0][0]
    return {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": first.alpha,
        "lora_dropout": first.dropout.p,
        "use_rslora": first.rank_stabilised,
        "use_dora": first.magnitude is not None,
        "target_modules": list(changed),
        "rank_pattern": {place: a.rank for place, a in changed.items() if a.rank != rank},
        "alpha_pattern": {p: a.alpha for p, a in changed.items() if a.alpha != first.alpha},
    }


def load_adapter(folder: str | Path, encoder: Encoder, name: str = "default") -> dict[str, Tensor]:
    """Read an adapter that `save_adapter` or peft wrote, put it on an encoder and use it.

    Args:
        folder: has adapter_model.safetensors and adapter_config.json.
        encoder: the backbone that the adapter was trained on; a refused file leaves it as it was.
        name: under which the adapter is switched from now on.

    Returns:
        The tensors of a head beside the encoder, such as classifier.weight.

    Raises:
        ValueError: a file is missing, damaged or asks for what is not computed here, or its
            tensors do not fit its settings or this encoder.
    """
    folder = Path(folder).expanduser()
    config = read_json(folder / "adapter_config.json", dict[str, Any])
    try:
        _check_config(config)
        tensors = _read(folder / "adapter_model.safetensors")
        inside = _is_inside(tensors, encoder, config)
        by_module, head = _by_module(tensors, encoder, inside)
        adapters = {}
        for place, (theirs, parts) in by_module.items():
            adapters[place] = _adapter(encoder, place, theirs, parts, config)
        found = {theirs for theirs, _ in by_module.values()}
        _check_complete(_places(encoder, inside=inside), found, config)
        attach(encoder, adapters, name)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from None
    return head


def _check_config(config: dict[str, Any]) -> None:
    """Refuse what is no adapter, and settings whose adapter is another than is computed here."""
    kind = checked(config, Computed, "adapter_config.json").peft_type
    if kind not in ("LORA", "IA3"):
        raise ValueError(f"adapter_config.json has peft_type {kind!r}; LORA and IA3 are read")
    if kind == "LORA" and not (config.get("r") and config.get("lora_alpha")):
        raise ValueError("adapter_config.json lacks r or lora_alpha, or has 0 for it")
    for key, value in config.items():
        read = key in Computed.__struct_fields__ or key in NO_MATTER
        if value and not read and value not in ORDINARY.get(key, ()):
            raise ValueError(
                f"adapter_config.json has {key} = {brief(value)}, which is not computed here; "
                "merge this adapter with peft, and load the merged model"
            )


def _read(path: Path) -> dict[str, Tensor]:
    if not path.exists():
        raise ValueError(
            f"there is no {path.name}; save the adapter with peft's safe_serialization=True"
        )
    tensors = read_file(path)
    foreign = [key for key in tensors if not key.startswith(ROOT)]
    if foreign:
        raise ValueError(f"{foreign[0]} is no tensor of an adapter: its name begins with {ROOT}")
    return {key.removeprefix(ROOT): tensor for key, tensor in tensors.items()}


ByModule = dict[str, tuple[str, dict[str, Tensor]]]
"""Our module's name -> its name in the file, and its tensors by the last part of theirs."""


def _is_inside(tensors: Iterable[str], encoder: Encoder, config: Mapping[str, Any]) -> bool:
    """Whether an adapter is of a model with a head, whose encoder has a prefix in their names."""
    with_head, hub = config.get("task_type") == "SEQ_CLS", encoder.config.HUB
    return any(
        key.startswith(hub.prefix) or (with_head and key.startswith(hub.outside)) for key in tensors
    )


def _by_module(
    tensors: Mapping[str, Tensor], encoder: Encoder, inside: bool
) -> tuple[ByModule, dict[str, Tensor]]:
    """Sort a file's tensors by the encoder's modules; those of a head come apart."""
    places = _places(encoder, inside=inside)
    endings = [name for names in PARTS.values() for name in names.values()]
    found: ByModule = {}
    head: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        part = next((end for end in endings if key.endswith(f".{end}")), key.rpartition(".")[2])
        theirs = key.removesuffix(f".{part}")
        below = theirs.removesuffix(".base_layer")
        if theirs != below and below in places:
            _check_base(encoder, places[below], part, tensor, key)
        elif theirs in places:
            found.setdefault(places[theirs], (theirs, {}))[1][part] = tensor
        elif inside and not key.startswith(encoder.config.HUB.prefix) and part not in endings:
            head[key] = tensor
        else:
            raise ValueError(f"{key} is of no module of this {encoder.name}; load another backbone")
    if not found:
        raise ValueError(f"the file has no tensor for any module of this {encoder.name}")
    return found, head


def _check_base(encoder: Encoder, place: str, part: str, tensor: Tensor, key: str) -> None:
    """Refuse an embedding table beside its adapter that is not the encoder's: peft saves it with
    save_embedding_layers, which it does by itself where the vocabulary has grown."""
    own = getattr(base_of(encoder, place), part, None)
    if own is None or own.shape != tensor.shape or not torch.equal(own.cpu(), tensor.to(own.dtype)):
        raise ValueError(
            f"{key} is the table that the adapter was trained on, and this encoder's is another; "
            "load the backbone with that table (with peft, unload() the adapter and save the "
            "model), or merge the adapter with peft and load the merged model"
        )


def _adapter(
    encoder: Encoder, place: str, theirs: str, parts: Mapping[str, Tensor], config: dict[str, Any]
) -> nn.Module:
    """The adapter of one module, with the values of its tensors."""
    adapter: nn.Module
    if config["peft_type"] == "IA3" and "ia3_l" in parts:
        adapter = IA3(linear_of(encoder, place), on_input=parts["ia3_l"].size(0) == 1)
    elif config["peft_type"] == "LORA" and any("lora_" in part for part in parts):
        adapter = lora_kind(encoder, place)(
            _of_pattern(config.get("rank_pattern"), theirs, config["r"]),
            alpha=_of_pattern(config.get("alpha_pattern"), theirs, config["lora_alpha"]),
            dropout=config.get("lora_dropout") or 0.0,
            rank_stabilised=bool(config.get("use_rslora")),
            dora=bool(config.get("use_dora")),
        )
    else:
        adapter = Whole(base_of(encoder, place))
    names = _part_names(adapter)
    wrong = sorted(parts.keys() ^ set(names.values()))
    if wrong:
        verb = "has" if wrong[0] in parts else "lacks"
        raise ValueError(
            f"the file {verb} {theirs}.{wrong[0]}, unlike what adapter_config.json says; "
            "the two are of different adapters, or one is damaged"
        )
    with torch.no_grad():
        for ours, parameter in adapter.named_parameters():
            tensor, shape = parts[names[ours]], _peft_shape(adapter, parameter).shape
            if tensor.shape != shape:
                raise ValueError(
                    f"{theirs}.{names[ours]} has shape {tuple(tensor.shape)}, and by "
                    f"adapter_config.json and this encoder it is {tuple(shape)}; load another "
                    "backbone, or the adapter's own adapter_config.json"
                )
            parameter.copy_(tensor.view_as(parameter))
    return adapter


def _check_complete(places: Iterable[str], found: set[str], config: Mapping[str, Any]) -> None:
    """Every one of the places that the settings name must be in the file."""
    if config.get("layers_to_transform") or config.get("exclude_modules"):
        return  # they leave out modules that the targets name
    targets, whole = config.get("target_modules") or [], config.get("modules_to_save") or []
    for theirs in places:
        if isinstance(targets, str):
            wanted = _matches(targets, theirs)
        else:
            wanted = any(f".{theirs}".endswith(f".{target}") for target in targets)
        wanted |= any(f".{module}." in f".{theirs}." for module in whole)
        if wanted and theirs not in found:
            raise ValueError(
                f"adapter_config.json says that {theirs} is changed, and the file has nothing for "
                "it; it is damaged or of another adapter"
            )


def hub_name(encoder: Encoder, place: str, *, inside: bool) -> str:
    """A module's name in transformers, in the bare encoder or inside a model with a head."""
    hub = encoder.config.HUB
    name = name_in(hub.keys, place)
    return hub.prefix + name if inside and not name.startswith(hub.outside) else name


def _places(encoder: Encoder, *, inside: bool) -> dict[str, str]:
    """A module's name in transformers -> its name here."""
    named = [place for place, _ in encoder.named_modules()]
    known = [place for place in named if pattern_of(place) in encoder.config.HUB.keys]
    return {hub_name(encoder, place, inside=inside): place for place in known}


def _of_pattern(pattern: Mapping[str, Any] | None, theirs: str, default: Any) -> Any:
    """The value of the first key that matches the end of a module's name, as peft reads it."""
    for key, value in (pattern or {}).items():
        if _matches(rf"(.*\.)?({key})", theirs):
            return value
    return default


def _matches(pattern: str, name: str) -> bool:
    try:
        return re.fullmatch(pattern, name) is not None
    except re.error as error:
        raise ValueError(f"adapter_config.json has the pattern {pattern!r}: {error}") from None


def _part_names(adapter: nn.Module) -> dict[str, str]:
    """A parameter of an adapter -> the end of its name in peft's files."""
    if isinstance(adapter, Whole):
        return {name: name.removeprefix("module.") for name, _ in adapter.named_parameters()}
    present = {name for name, _ in adapter.named_parameters()}
    return {ours: theirs for ours, theirs in PARTS[type(adapter)].items() if ours in present}


def _peft_shape(adapter: nn.Module, parameter: Tensor) -> Tensor:
    """A parameter in the shape that it has in peft's files: IA3's are rows or columns there."""
    if not isinstance(adapter, IA3):
        return parameter
    return parameter.unsqueeze(0) if adapter.on_input else parameter.unsqueeze(1)
