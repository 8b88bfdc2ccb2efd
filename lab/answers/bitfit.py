"""Part 4, BitFit: right answers, and mistakes."""

from __future__ import annotations

from lab.answers import mistake, right


@right("bitfit", of="freeze")
def freeze(encoder):
    named = {n: p for n, p in encoder.named_parameters() if "adapters" not in n.split(".")}
    if len({p.requires_grad for p in named.values()}) == 2:
        raise ValueError("a part of the encoder is frozen already")
    for parameter in named.values():
        parameter.requires_grad = False


def biases_trained(
    encoder,
    roles,
    *,
    wanted=lambda name: name.endswith("bias"),
    ignore=False,
    frozen=True,
    check=True,
):
    """train_biases with its parts open to change."""
    from minbert.adapters import apply

    roles = list(roles)
    names = [name for name, _ in encoder.named_parameters()]
    if "all" in roles or ignore:
        chosen = [name for name in names if wanted(name)]
    else:
        places = apply.select(encoder, roles)
        if check and any(f"{place}.bias" not in names for place in places):
            raise ValueError("a module has no bias")
        chosen = [name for name in names if name.rpartition(".")[0] in places and wanted(name)]
    if frozen:
        apply.freeze(encoder)
    for name in chosen:
        encoder.get_parameter(name).requires_grad = True


@right("bitfit", of="train_biases")
def train_biases(encoder, roles=("all",)):
    biases_trained(encoder, roles)


@right("bitfit", of="prepare")
def prepare(self, model):
    from minbert import adapters

    adapters.train_biases(model.encoder, self.roles)


@mistake(
    "bitfit", "nothing is frozen: the base's parameters must not require gradients", of="freeze"
)
def base_not_frozen(encoder):
    pass


@mistake("bitfit", "adapters are frozen with the rest, so nothing is left to train", of="freeze")
def adapters_frozen(encoder):
    encoder.requires_grad_(False)


@mistake(
    "bitfit",
    "an encoder of which a part was frozen before is taken; refuse it with a ValueError",
    of="freeze",
)
def frozen_over(encoder):
    for name, parameter in encoder.named_parameters():
        if ".adapters." not in name:
            parameter.requires_grad_(False)


@mistake("bitfit", "only weights are frozen; the base's biases are part of it", of="freeze")
def weights_frozen(encoder):
    for name, parameter in encoder.named_parameters():
        if ".adapters." not in name and name.endswith("weight"):
            parameter.requires_grad_(False)


@mistake("bitfit", "weights train too; BitFit trains biases alone", of="train_biases")
def weights_too(encoder, roles=("all",)):
    biases_trained(encoder, roles, wanted=lambda name: True)


@mistake("bitfit", "LayerNorm's biases are forgotten; `all` means every bias", of="train_biases")
def norms_forgotten(encoder, roles=("all",)):
    biases_trained(encoder, roles, wanted=lambda name: name.endswith("bias") and "norm" not in name)


@mistake(
    "bitfit",
    "LayerNorm's weights train too; they are no biases, vectors though they are",
    of="train_biases",
)
def all_vectors(encoder, roles=("all",)):
    biases_trained(encoder, roles, wanted=lambda n: n.endswith("bias") or "norm.weight" in n)


@mistake(
    "bitfit", "`roles` is not looked at: the biases of these modules alone train", of="train_biases"
)
def roles_ignored(encoder, roles=("all",)):
    biases_trained(encoder, roles, ignore=True)


@mistake("bitfit", "the rest is not frozen", of="train_biases")
def rest_not_frozen(encoder, roles=("all",)):
    biases_trained(encoder, roles, frozen=False)


@mistake(
    "bitfit",
    "a role whose modules have no bias is passed over; refuse it with a ValueError",
    of="train_biases",
)
def bare_passed_over(encoder, roles=("all",)):
    biases_trained(encoder, roles, check=False)


@mistake("bitfit", "the heads are frozen; they are new and have to train, whole", of="prepare")
def heads_frozen(self, model):
    prepare(self, model)
    model.heads.requires_grad_(False)


@mistake(
    "bitfit",
    "of the heads, biases alone train; they are new and have to train, whole",
    of="prepare",
)
def heads_by_bias(self, model):
    prepare(self, model)
    for name, parameter in model.heads.named_parameters():
        parameter.requires_grad_(name.endswith("bias"))


@mistake("bitfit", "the extension's own roles are not passed on", of="prepare")
def roles_not_passed(self, model):
    biases_trained(model.encoder, ("all",))
