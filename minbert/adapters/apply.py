"""Adapters put on an encoder, by the roles of its modules; switched, merged and taken off again.

A role is a name of the encoder's ROLES, such as query or feed_forward_inner. "linear" stands for
all linear maps, "embeddings" for all embedding tables, "all" for both. A grouped linear map
(ConvBERT medium-small) is neither: as for peft's all-linear, it stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import nn

from minbert.adapters.layers import IA3, Adapted, LoRAEmbedding, LoRALinear, Whole
from minbert.checks import check_rates, convert_fields
from minbert.encoder import Encoder, pattern_of

FUSED = {"query_key_value": ("query", "key", "value")}
"""Role of one map that does the work of several (ModernBERT) -> the roles that stand for it too."""


@dataclass(frozen=True, kw_only=True)
class LoRASettings:
    """Low-rank adaptation (Hu et al., 2021, arXiv:2106.09685): y = W x + b + s B A dropout(x)."""

    rank: int = 8
    """r, the rank of the change."""
    alpha: float = 8.0
    """Strength of the change: s = alpha / rank."""
    dropout: float = 0.0
    """Dropout on the input of A."""
    targets: tuple[str, ...] = ("linear",)
    """Roles that are adapted, such as query value; linear, embeddings or all for many at once."""
    ranks: Mapping[str, int] = field(default_factory=dict)
    """Ranks of roles that have one of their own, such as query 4 feed_forward_inner 16."""
    rank_stabilised: bool = False
    """s = alpha / √rank, which keeps the change's size over ranks (arXiv:2312.03732)."""
    dora: bool = False
    """Train the length of each row of W + s B A by itself (DoRA, arXiv:2402.09353)."""
    whole: tuple[str, ...] = ()
    """Roles that are trained and saved whole, such as pooler."""

    def __post_init__(self) -> None:
        convert_fields(self)
        for role, rank in {"rank": self.rank, **self.ranks}.items():
            if rank < 1:
                name = "rank" if role == "rank" else f"the rank of {role}"
                raise ValueError(f"{name} must be at least 1, it is {rank}")
        if not 0 < self.alpha < float("inf"):
            raise ValueError(f"alpha must be finite and above 0, it is {self.alpha}")
        check_rates(self, "dropout")


@dataclass(frozen=True, kw_only=True)
class IA3Settings:
    """Learned factors of features (Liu et al., 2022, arXiv:2205.05638)."""

    targets: tuple[str, ...] = ("key", "value")
    """Roles whose outputs get a factor each: l (W x + b)."""
    input_targets: tuple[str, ...] = ("feed_forward_outer",)
    """Roles whose inputs get a factor each: W (l x) + b."""
    whole: tuple[str, ...] = ()
    """Roles that are trained and saved whole, such as pooler."""


def add_lora(
    encoder: Encoder,
    settings: LoRASettings,
    name: str = "default",
    *,
    generator: torch.Generator | None = None,
) -> None:
    """Freeze an encoder and give it a LoRA or DoRA adapter, which is then the one in use.

    Args:
        encoder: changed in place; its outputs are not, for B A is zero at first.
        settings: rank, strength and targets.
        name: under which the adapter is switched, saved and loaded.
        generator: of the initial values; by default PyTorch's own.

    Raises:
        ValueError: no such role, a module that is neither nn.Linear nor nn.Embedding, a name that
            is taken, or an encoder of which a part is frozen already.
    """
    whole = select(encoder, settings.whole)
    targets = [place for place in select(encoder, settings.targets) if place not in whole]
    ranks = dict.fromkeys(targets, settings.rank)
    for role, rank in settings.ranks.items():
        places = [place for place in select(encoder, [role]) if place in ranks]
        if not places:
            raise ValueError(f"{role!r} has a rank in ranks and is not adapted; add it to targets")
        ranks |= dict.fromkeys(places, rank)
    adapters: dict[str, nn.Module] = {place: Whole(base_of(encoder, place)) for place in whole}
    for place, rank in ranks.items():
        adapters[place] = lora = lora_kind(encoder, place)(
            rank,
            alpha=settings.alpha,
            dropout=settings.dropout,
            rank_stabilised=settings.rank_stabilised,
            dora=settings.dora,
        )
        lora.initialise(generator)
    attach(encoder, adapters, name)


def add_ia3(encoder: Encoder, settings: IA3Settings, name: str = "default") -> None:
    """Freeze an encoder and give it an IA3 adapter, which is then the one in use.

    All factors are 1 at first. Arguments and errors are those of `add_lora`.
    """
    whole = select(encoder, settings.whole)
    outputs, inputs = select(encoder, settings.targets), select(encoder, settings.input_targets)
    both = [place for place in inputs if place in outputs]
    if both:
        raise ValueError(f"{both[0]} is in targets and in input_targets; name its role in one")
    adapters: dict[str, nn.Module] = {place: Whole(base_of(encoder, place)) for place in whole}
    for place in [*outputs, *inputs]:
        if place not in whole:
            base = linear_of(encoder, place)
            adapters[place] = IA3(base, on_input=place in inputs)
    attach(encoder, adapters, name)


def train_biases(encoder: Encoder, roles: Iterable[str] = ("all",)) -> None:
    """Freeze an encoder but for biases: BitFit (Ben Zaken et al., 2022, arXiv:2106.10199).

    Args:
        encoder: changed in place.
        roles: whose biases train; "all" for every bias, those of LayerNorms too.

    Raises:
        ValueError: no such role, or a module without a bias.
    """
    roles = tuple(roles)
    named = dict(encoder.named_parameters())
    if "all" in roles:
        biases = [name for name in named if name.split(".")[-1] == "bias"]
    else:
        places = select(encoder, roles)
        bare = [place for place in places if f"{place}.bias" not in named]
        if bare:
            raise ValueError(f"{bare[0]} has no bias to train; name roles that have one")
        biases = [f"{place}.bias" for place in places]
    if not biases:
        raise ValueError(
            f"{encoder.name} has no biases, so BitFit has nothing to train; use LoRA or IA3"
        )
    freeze(encoder)
    for name in biases:
        named[name].requires_grad_(True)


def use_adapter(encoder: Encoder, name: str | None) -> None:
    """Switch to the adapter of this name, which alone is then trainable; None for none of them."""
    _check_unmerged(encoder)
    if name is not None and name not in adapter_names(encoder):
        raise ValueError(
            f"no adapter is called {name!r}; the encoder has {adapter_names(encoder) or 'none'}"
        )
    for module in adapted(encoder).values():
        module.active = name
        for key, adapter in module.adapters.items():
            adapter.requires_grad_(key == name)


def adapter_names(encoder: Encoder) -> list[str]:
    """The names of an encoder's adapters."""
    return list(dict.fromkeys(key for m in adapted(encoder).values() for key in m.adapters))


def merge(encoder: Encoder) -> None:
    """Put the adapter in use into the encoder's weights: same outputs, at the encoder's speed.

    Does nothing where it is merged already.
    """
    for module in adapted(encoder).values():
        module.merge()


def unmerge(encoder: Encoder) -> None:
    """Undo `merge`: the encoder's weights are again, bit for bit, what they were."""
    for module in adapted(encoder).values():
        module.unmerge()


def merge_and_remove(encoder: Encoder) -> None:
    """Merge the adapter in use, and take all adapters off: an ordinary encoder is left."""
    merge(encoder)
    for place, module in adapted(encoder).items():
        encoder.set_submodule(place, module.base)


# Where adapters are, and may be


def adapted(encoder: Encoder) -> dict[str, Adapted]:
    """The modules that have adapters, by name."""
    return {place: m for place, m in encoder.named_modules() if isinstance(m, Adapted)}


def attach(encoder: Encoder, adapters: Mapping[str, nn.Module], name: str) -> None:
    """Freeze an encoder, put an adapter on each module named, and use it."""
    _check_unmerged(encoder)
    if not re.fullmatch(r"\w+", name) or hasattr(nn.ModuleDict, name):
        raise ValueError(f"{name!r} cannot name an adapter; use letters, digits and _")
    if name in adapter_names(encoder):
        raise ValueError(
            f"the encoder has an adapter {name!r} already; choose another name, or leave one of "
            "the two out"
        )
    if all(isinstance(adapter, Whole) for adapter in adapters.values()):
        raise ValueError("targets adapts no module; name a role that is not trained whole")
    freeze(encoder)
    for place, adapter in adapters.items():
        module = encoder.get_submodule(place)
        if not isinstance(module, Adapted):
            module = Adapted(module).train(module.training)
            encoder.set_submodule(place, module)
        module.adapters[name] = adapter.train(module.training)
    use_adapter(encoder, name)


def _check_unmerged(encoder: Encoder) -> None:
    if any(module.is_merged for module in adapted(encoder).values()):
        raise ValueError("an adapter is merged into the encoder; call unmerge(encoder) first")


def freeze(encoder: Encoder) -> None:
    """Freeze all but adapters, which have ".adapters." in their names.

    Raises:
        ValueError: a part is frozen already and another is not, so someone chose what trains.
    """
    own = [p for name, p in encoder.named_parameters() if ".adapters." not in name]
    if len({p.requires_grad for p in own}) > 1:
        raise ValueError(
            "a part of the encoder is frozen already, so what is to train was chosen before; let "
            "adapters come first, or call encoder.requires_grad_(True)"
        )
    for parameter in own:
        parameter.requires_grad_(False)


def select(encoder: Encoder, targets: Iterable[str]) -> list[str]:
    """The names of the modules that have one of these roles, in the encoder's order."""
    if isinstance(targets, str):
        raise ValueError(f"roles are a tuple of names, not {targets!r}; pass ({targets!r},)")
    named = {place: encoder.ROLES.get(pattern_of(place)) for place, _ in encoder.named_modules()}
    roles = {place: role for place, role in named.items() if role is not None}
    found = set()
    for target in targets:
        chosen = {
            place
            for place, role in roles.items()
            if target == role
            or target in FUSED.get(role, ())
            or target in _groups_of(base_of(encoder, place))
        }
        if not chosen:
            raise ValueError(
                f"{encoder.name} has no role {target!r}; choose of "
                f"{', '.join(dict.fromkeys(roles.values()))}, linear, embeddings, all"
            )
        found |= chosen
    return [place for place in roles if place in found]


def base_of(encoder: Encoder, place: str) -> nn.Module:
    """The module of this name, without its adapters."""
    module = encoder.get_submodule(place)
    return module.base if isinstance(module, Adapted) else module


def linear_of(encoder: Encoder, place: str) -> nn.Linear:
    """The same, which must be a linear map."""
    base = base_of(encoder, place)
    if not isinstance(base, nn.Linear):
        raise ValueError(
            f"{place} is a {type(base).__name__}, which this adapter cannot change; leave its role "
            "out of the targets"
        )
    return base


def lora_kind(encoder: Encoder, place: str) -> Callable[..., LoRALinear | LoRAEmbedding]:
    """What makes LoRA for the module of this name, from all arguments but the first."""
    base = base_of(encoder, place)
    if isinstance(base, nn.Embedding):
        return partial(LoRAEmbedding, base)
    return partial(LoRALinear, linear_of(encoder, place))


def _groups_of(base: nn.Module) -> tuple[str, ...]:
    """The names that stand for all modules like this one."""
    if isinstance(base, nn.Embedding):
        return "embeddings", "all"
    return ("linear", "all") if isinstance(base, nn.Linear) else ()
