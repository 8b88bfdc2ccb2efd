"""Part 1, loading weights: right answers, and mistakes."""

from __future__ import annotations

from torch import nn

from lab.answers import mistake, right


@right("loading", of="hub_names")
def hub_names(model):
    encoder = model["encoder"]
    names = {}
    for prefix, module, table in (
        ("encoder", encoder, encoder.config.HUB.keys),
        ("mlm_head", getattr(model, "mlm_head", None), encoder.config.HUB.mlm_keys),
    ):
        if module is None:
            continue
        for ours, theirs in table.items():
            for n in range(len(encoder.layers)) if "{n}" in ours else (None,):
                found = module
                for word in ours.format(n=n).split("."):
                    found = getattr(found, word)
                own, hub = f"{prefix}.{ours.format(n=n)}", theirs.format(n=n)
                if isinstance(found, nn.Parameter):
                    names[own] = hub
                else:
                    names |= {
                        f"{own}.{leaf}": f"{hub}.{leaf}" for leaf, _ in found.named_parameters()
                    }
    return names


@right("loading", of="_modern_name")
def modern_name(name, prefix):
    if name[: len(prefix)] == prefix:
        name = name[len(prefix) :]
    words = name.split(".")
    words[-1] = {"gamma": "weight", "beta": "bias"}.get(words[-1], words[-1])
    return ".".join(words)


@mistake(
    "loading",
    "the prefix is taken out wherever it stands; only a beginning is a prefix",
    of="_modern_name",
)
def prefix_anywhere(name, prefix):
    return modern_name(name.replace(prefix, ""), prefix)


@mistake(
    "loading",
    "gamma and beta are replaced inside words too; only a whole last word counts",
    of="_modern_name",
)
def gamma_anywhere(name, prefix):
    return name.removeprefix(prefix).replace("gamma", "weight").replace("beta", "bias")


@mistake(
    "loading",
    "gamma and beta have changed places: gamma scales, so it is the weight",
    of="_modern_name",
)
def gamma_is_bias(name, prefix):
    words = name.removeprefix(prefix).split(".")
    words[-1] = {"gamma": "bias", "beta": "weight"}.get(words[-1], words[-1])
    return ".".join(words)


@mistake(
    "loading",
    "old names stay as they are: gamma is weight and beta is bias today",
    of="_modern_name",
)
def gamma_kept(name, prefix):
    return name.removeprefix(prefix)


@mistake("loading", "the prefix stays on the names", of="_modern_name")
def prefix_kept(name, prefix):
    return modern_name(name, "\0")


@mistake(
    "loading", "layers are counted from 1 in the hub's names; both count from 0", of="hub_names"
)
def layers_from_one(model):
    def one_more(name):
        words = name.split(".")
        return ".".join(str(int(w) + 1) if w.isdigit() else w for w in words)

    return {ours: one_more(theirs) for ours, theirs in hub_names(model).items()}


@mistake(
    "loading", "every layer gets the names of layer 0: put the number into {n}", of="hub_names"
)
def layer_zero_only(model):
    def zero(name):
        return ".".join("0" if word.isdigit() else word for word in name.split("."))

    return {ours: zero(theirs) for ours, theirs in hub_names(model).items()}


@mistake("loading", "the masked-language-model head's names are missing", of="hub_names")
def head_left_out(model):
    return {k: v for k, v in hub_names(model).items() if not k.startswith("mlm_head")}


@mistake(
    "loading",
    "gamma and beta are looked for behind LayerNorm alone; any last word counts",
    of="_modern_name",
)
def layer_norm_alone(name, prefix):
    name = name.removeprefix(prefix)
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace(
        "LayerNorm.beta", "LayerNorm.bias"
    )


@mistake("loading", "a layer's number has one digit here; it may have more", of="hub_names")
def one_digit(model):
    def cut(name):
        return ".".join(word[:1] if word.isdigit() else word for word in name.split("."))

    return {ours: cut(theirs) for ours, theirs in hub_names(model).items()}
