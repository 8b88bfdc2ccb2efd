"""Part 3, pooling and the model of a config: right answers, and mistakes."""

from __future__ import annotations

import torch
from torch import nn

from lab.answers import mistake, right

# Pooling


@right("pooling", of="mean")
def mean(self, x):
    return torch.stack([row[keep].double().mean(0) for row, keep in zip(x, self.mask)]).to(x.dtype)


@right("pooling", of="max")
def maximum(self, x):
    return torch.stack([row[keep].max(0).values for row, keep in zip(x, self.mask)])


@mistake("pooling", "the mean takes padding in; only real tokens count", of="mean")
def mean_of_all(self, x):
    return x.mean(1)


@mistake(
    "pooling",
    "the sum is over real tokens and is divided by S; divide by how many are real",
    of="mean",
)
def mean_by_length(self, x):
    return (x * self.mask.unsqueeze(-1)).mean(1)


@mistake("pooling", "the sum takes padding in; zero it first", of="mean")
def sum_of_all(self, x):
    return x.sum(1) / self.mask.sum(1, keepdim=True)


@mistake("pooling", "the sum is not divided by anything", of="mean")
def sum_for_mean(self, x):
    return (x * self.mask.unsqueeze(-1)).sum(1)


@mistake("pooling", "the mask is inverted: this is the mean over padding", of="mean")
def mean_inverted(self, x):
    mask = (~self.mask).unsqueeze(-1)
    return (x * mask).sum(1) / mask.sum(1)


@mistake("pooling", "the maximum takes padding in; only real tokens count", of="max")
def max_of_all(self, x):
    return x.amax(1)


@mistake("pooling", "padding counts as 0 in the maximum, which beats negative features", of="max")
def max_with_zeros(self, x):
    return (x * self.mask.unsqueeze(-1)).amax(1)


@mistake("pooling", "the mask is inverted in the maximum", of="max")
def max_inverted(self, x):
    return x.masked_fill(self.mask.unsqueeze(-1), float("-inf")).amax(1)


@mistake(
    "pooling", "padding is set to a number in the maximum that a feature may lie below", of="max"
)
def max_with_little(self, x):
    return x.masked_fill(~self.mask.unsqueeze(-1), -100.0).amax(1)


@mistake("pooling", "features that are 0 are not counted; the mask says what is real", of="mean")
def zeros_not_counted(self, x):
    x = x * self.mask.unsqueeze(-1)
    return x.sum(1) / (x != 0).sum(1)


# Freezing


def built(
    config,
    encoder,
    *,
    frozen="encoder",
    dropout=True,
    seeded=True,
    forked=True,
    checkpointing=True,
    chosen=True,
    prepared="last",
    size=None,
):
    """MultitaskModel.from_config with its parts open to change."""
    from data.tasks import TASKS
    from multitask.model import MultitaskModel

    state = torch.get_rng_state()
    if seeded:
        torch.manual_seed(config.seed)
    model = MultitaskModel(
        encoder,
        [TASKS[name] for name in config.tasks],
        **({"head": config.head} if chosen else {}),
        pooling=config.pooling,
        pair=config.pair,
        head_size=size or config.head_size,
        head_activation=config.head_activation,
        head_dropout=config.head_dropout,
    )
    if prepared == "first":
        for extension in config.extensions:
            extension.prepare(model)
    rate = config.encoder_dropout
    for module in encoder.modules():
        if dropout and rate is not None and isinstance(module, nn.Dropout):
            module.p = rate
    encoder.gradient_checkpointing = config.gradient_checkpointing and checkpointing
    if config.frozen:
        parts = {"encoder": [encoder], "all": [model], "none": [], "layers": encoder.layers}
        for part in parts[frozen]:
            for parameter in part.parameters():
                parameter.requires_grad = False
    if prepared == "last":
        for extension in config.extensions:
            extension.prepare(model)
    if forked:
        torch.set_rng_state(state)
    return model


@right("freezing")
def from_config(cls, config, encoder):
    return built(config, encoder)


@mistake("freezing", "nothing is frozen: the encoder's parameters must not require gradients")
def not_frozen(cls, config, encoder):
    return built(config, encoder, frozen="none")


@mistake("freezing", "the heads are frozen too, so nothing is left to train")
def all_frozen(cls, config, encoder):
    return built(config, encoder, frozen="all")


@mistake("freezing", "only the layers are frozen; embeddings and pooler belong to the encoder too")
def layers_frozen(cls, config, encoder):
    return built(config, encoder, frozen="layers")


@mistake("freezing", "`config.encoder_dropout` is not used; a rate of 0.0 is a rate, None is not")
def dropout_not_set(cls, config, encoder):
    return built(config, encoder, dropout=False)


@mistake("freezing", "the heads do not start from `config.seed`")
def not_seeded(cls, config, encoder):
    return built(config, encoder, seeded=False)


@mistake("freezing", "the seed stays set for everybody else: put the random state back")
def not_forked(cls, config, encoder):
    return built(config, encoder, forked=False)


@mistake("freezing", "`config.gradient_checkpointing` is not used")
def no_checkpointing(cls, config, encoder):
    return built(config, encoder, checkpointing=False)


@mistake("freezing", "`config.head` is not used, so that all heads are shared ones")
def head_not_chosen(cls, config, encoder):
    return built(config, encoder, chosen=False)


@mistake("freezing", "the extensions do not prepare the model: an adapter is never added")
def not_prepared(cls, config, encoder):
    return built(config, encoder, prepared="never")


@mistake("freezing", "the extensions prepare the model before it is frozen and set up")
def prepared_first(cls, config, encoder):
    return built(config, encoder, prepared="first")


@mistake("freezing", "`config.head_size` is not used")
def head_size_ignored(cls, config, encoder):
    return built(config, encoder, size=256)
