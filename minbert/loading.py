"""Checkpoints in and out; minbert/backbones.py finds their files.

    backbone = load_backbone("minilm")              # a name, a folder or a hub repository
    backbone.encoder, backbone.tokenizer, backbone.dropped
    save_pretrained(folder, backbone.encoder, backbone.tokenizer)

Loading is strict: a missing, unexpected or misshapen tensor is an error that names it, and what is
left out on purpose is listed in `Backbone.dropped`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from minbert.backbones import find_backbone, read_tensors, write_tensors
from minbert.classifier import SUFFIX, Classifier, classifier_in
from minbert.encoder import Encoder, EncoderConfig, name_in, pattern_of
from minbert.encoders import encoder_class
from minbert.files import brief, read_json, write_json
from minbert.tokenization import Tokenizer

OPTIONAL = ("pooler", "mlm_head")
"""What a checkpoint may lack and still be of use."""
MOST = {"num_layers": 1000, "hidden_size": 2**20, "vocab_size": 2**24, "max_positions": 2**24}
"""The largest sizes in a config.json: whatever has more is damaged."""


@dataclass(frozen=True)
class Backbone:
    """A pretrained encoder with what belongs to it."""

    encoder: Encoder
    tokenizer: Tokenizer
    mlm_head: nn.Module | None
    folder: Path | None
    """Where its weights came from; None for one from scratch."""
    dropped: tuple[str, ...]
    """Tensors of the file that were left out on purpose, each with the reason."""
    fresh: tuple[str, ...]
    """Parameters that the file does not have and that start from random values, as asked."""
    max_length: int | None = None
    """The longest text in tokens that the model's makers embed, where its files name one."""
    classifier: Classifier | None = None
    """The sequence-classification head that its files have beside the encoder."""


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
        fresh: of OPTIONAL, what may be missing and then starts anew, such as ("pooler",).

    Raises:
        ValueError: the source is not found, or its files do not fit the encoder they claim to be.
    """
    folder = find_backbone(source, revision=revision, offline=offline, cache_dir=cache_dir)
    encoder, head, dropped, made, classifier = _load_modules(folder, mlm_head, fresh)
    tokenizer = Tokenizer.from_folder(folder)
    if len(tokenizer) > encoder.config.vocab_size:
        raise ValueError(
            f"{folder}: the tokenizer has {len(tokenizer)} tokens and the encoder embeddings for "
            f"{encoder.config.vocab_size}; they belong to different models"
        )
    for module in (encoder, head):
        if module is not None:
            module.eval()
    limit = _own_limit(folder, tokenizer, encoder.config.max_positions)
    return Backbone(encoder, tokenizer, head, folder, dropped, made, limit, classifier)


def _own_limit(folder: Path, tokenizer: Tokenizer, max_positions: int) -> int | None:
    """The longest text in tokens that sentence-transformers takes, where a folder's files say so:
    sentence_bert_config.json, or the tokenizer's model_max_length."""
    path = folder / "sentence_bert_config.json"
    settings = read_json(path, dict[str, Any]) if path.exists() else {}
    limit = settings.get("max_seq_length") or tokenizer.settings.get("model_max_length")
    if settings.get("do_lower_case") and tokenizer.encode(["A"]) != tokenizer.encode(["a"]):
        raise ValueError(
            f"{path} says do_lower_case, and the tokenizer tells A from a; write "
            '"do_lower_case": true into tokenizer_config.json'
        )
    if limit is None:
        return None
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not limit >= 3:
        raise ValueError(f"{folder}: the longest text is {brief(limit)}; give a number from 3 on")
    return int(min(limit, max_positions))  # without a limit, transformers writes 1e30


def empty_encoder(folder: Path) -> Encoder:
    """The encoder that a folder's config.json describes, with zeros where its weights are to go."""
    cls, config = read_config(folder / "config.json")
    with _ZerosForRandomNumbers():
        return cls(config)


@contextmanager
def outlines() -> Generator[None]:
    """Modules that are made in the block have shapes and no values, and so take no memory: what a
    config asks for is compared with a file's tensors first."""
    with torch.device("meta"), _ZerosForRandomNumbers():
        yield


class _ZerosForRandomNumbers(TorchFunctionMode):
    """Zeros in place of random initial values, which take time and would be overwritten at once."""

    DRAWS = (nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_, Tensor.normal_)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in self.DRAWS:
            return func(*args, **kwargs)
        tensor = args[0] if args else kwargs["tensor"]  # nn.init hands it on by name
        return tensor.detach().zero_()


def blank_backbone(
    cls: type[Encoder], config: EncoderConfig, tokenizer: Tokenizer, *, seed: int
) -> Backbone:
    """A backbone from scratch, before any training.

    Its initial values, those of its masked-language-model head too, depend on the seed alone.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = cls(config)
        head = encoder.make_mlm_head()
    return Backbone(encoder, tokenizer, head, None, (), ())


def read_config(path: Path) -> tuple[type[Encoder], EncoderConfig]:
    """The encoder that a hub config.json names, and its config."""
    settings = read_json(path, dict[str, Any])
    if "model_type" not in settings:
        raise ValueError(f"{path} has no model_type; it is no checkpoint of an encoder")
    try:
        cls = encoder_class(str(settings["model_type"]))
        config = cls.Config.from_hub(settings)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None
    for name, most in MOST.items():
        if getattr(config, name) > most:
            raise ValueError(f"{path}: {name} is {getattr(config, name)}, and can be {most:,}")
    return cls, config


def _load_modules(
    folder: Path, mlm_head: bool, fresh: tuple[str, ...]
) -> tuple[Encoder, nn.Module | None, tuple[str, ...], tuple[str, ...], Classifier | None]:
    unknown = [part for part in fresh if part not in OPTIONAL]
    if unknown:
        raise ValueError(f"fresh has {unknown[0]!r}; what may start anew is {', '.join(OPTIONAL)}")
    cls, _ = read_config(folder / "config.json")
    hub = cls.Config.HUB
    tensors = {_modern_name(k, hub.prefix): v for k, v in read_tensors(folder).items()}
    with outlines():
        model = _as_one(*_empty(folder, mlm_head))
    names = hub_names(model)
    made = [ours for ours, theirs in names.items() if theirs not in tensors and _in(ours, fresh)]
    wanted = {theirs: model.get_parameter(ours) for ours, theirs in names.items()}
    left = {k: _why_dropped(k, hub.dropped) for k in sorted(tensors.keys() - wanted.keys())}
    missing = [ours for ours, theirs in names.items() if theirs not in tensors and ours not in made]
    problems = {
        "missing": [names[ours] for ours in missing],
        "unexpected": [name for name, why in left.items() if why is None],
        "misshapen": [
            f"{name} {tuple(tensors[name].shape)} (not {tuple(parameter.shape)})"
            for name, parameter in wanted.items()
            if name in tensors and tensors[name].shape != parameter.shape
        ],
        "not tied": [
            f"{copy} (differs from {original})"
            for copy, original in hub.tied.items()
            if mlm_head and not _same(tensors.get(copy), tensors.get(original))
        ],
    }
    if any(problems.values()):
        named = "; ".join(f"{what}: {_listed(keys)}" for what, keys in problems.items() if keys)
        parts = tuple(part for part in OPTIONAL if any(_in(ours, (part,)) for ours in missing))
        if parts and all(_in(ours, parts) for ours in missing):
            named += f"; what is missing starts anew with fresh={parts}"
            if parts == ("pooler",):
                named += " (minbert train: a --pooling other than pooler)"
        raise ValueError(
            f"{folder} does not hold the weights of the {cls.name} in its config.json. {named}"
        )

    encoder, head = _empty(folder, mlm_head)
    model = _as_one(encoder, head)
    for name in dict.fromkeys(ours.rpartition(".")[0] for ours in made):  # not a set: in order
        encoder.initialise(model.get_submodule(name))
    with torch.no_grad():
        for ours, theirs in names.items():
            if theirs in tensors:
                model.get_parameter(ours).copy_(tensors[theirs])
    dropped = tuple(f"{name}: {why}" for name, why in left.items())
    classifier = classifier_in(read_json(folder / "config.json"), tensors)
    return encoder, head, dropped, tuple(made), classifier


def _empty(folder: Path, mlm_head: bool) -> tuple[Encoder, nn.Module | None]:
    """An empty encoder, and its head."""
    encoder = empty_encoder(folder)
    return encoder, encoder.make_mlm_head() if mlm_head else None


def _as_one(encoder: Encoder, mlm_head: nn.Module | None) -> nn.ModuleDict:
    """An encoder and its head as `hub_names` takes them."""
    return nn.ModuleDict({"encoder": encoder} | ({"mlm_head": mlm_head} if mlm_head else {}))


def hub_names(model: nn.ModuleDict) -> dict[str, str]:
    """Each parameter's name in a hub checkpoint, without the prefix, from the encoder's key table.

    Args:
        model: "encoder", and "mlm_head" if there is one.
    """
    encoder = model["encoder"]
    assert isinstance(encoder, Encoder)
    hub = encoder.config.HUB
    table = {f"encoder.{ours}": theirs for ours, theirs in hub.keys.items()}
    table |= {f"mlm_head.{ours}": theirs for ours, theirs in hub.mlm_keys.items()}
    names = {}
    for ours, _ in model.named_parameters():  # a tied parameter comes once, as the encoder's
        module, _, leaf = ours.rpartition(".")
        if ours in table:
            names[ours] = table[ours]
        elif pattern_of(module) in table:
            names[ours] = f"{name_in(table, module)}.{leaf}"
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


def _listed(names: list[str], most: int = 20) -> str:
    """Names with commas between them, and how many more there are than `most`."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


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
    classifier: Classifier | None = None,
) -> Path:
    """Write a folder that `load_backbone`, and transformers' AutoModel and AutoTokenizer, load.

    Args:
        folder: to write.
        encoder, tokenizer: what belongs together.
        mlm_head: its masked-language-model head, for transformers' AutoModelForMaskedLM.
        classifier: in its place a head for transformers' AutoModelForSequenceClassification.
    """
    folder = Path(folder).expanduser()
    assert mlm_head is None or classifier is None
    model = _as_one(encoder, mlm_head)
    hub, tensors = encoder.config.HUB, {}
    for ours, theirs in hub_names(model).items():
        inside = ours.startswith("encoder.") and not theirs.startswith(hub.outside)
        prefix = hub.prefix if (mlm_head or classifier) and inside else ""
        tensors[prefix + theirs] = model.get_parameter(ours).detach().cpu().contiguous()
    if classifier is not None:
        tensors |= {name: tensor.contiguous() for name, tensor in classifier.tensors.items()}
    write_tensors(folder / "model.safetensors", tensors, {"format": "pt"})
    return save_config(
        folder,
        type(encoder),
        encoder.config,
        tokenizer,
        with_mlm_head=mlm_head is not None,
        classifier=classifier,
    )


def save_config(
    folder: Path,
    cls: type[Encoder],
    config: EncoderConfig,
    tokenizer: Tokenizer,
    *,
    with_mlm_head: bool = False,
    classifier: Classifier | None = None,
) -> Path:
    """Write what `save_pretrained` writes of an encoder of this class, without the weights."""
    tokenizer.save(folder)
    architecture = config.HUB.classes[with_mlm_head]
    if classifier is not None:
        architecture = architecture.removesuffix("Model") + SUFFIX
    hub = {"architectures": [architecture], "model_type": cls.name, **config.to_hub()}
    write_json(folder / "config.json", hub | (classifier.to_hub() if classifier else {}))
    return folder
