"""The encoder as a whole as students write it, and mistakes that change a line."""

from __future__ import annotations

import torch

from lab.answers import plain


@plain("encoder")
def encode(self, input_ids, token_type_ids, layout, attentions):
    x = self.embeddings(input_ids, token_type_ids, layout.positions)
    states = [x]
    for layer in self.layers:
        x = self.run(layer, x, layout, attentions)
        states.append(x)
    return states


encode.but(
    "the last layer's state is left out: L layers make L + 1 states",
    "    return states",
    "    return states[:-1]",
)
encode.but(
    "at most 12 layers are run; there are as many as `self.layers` has",
    "for layer in self.layers:",
    "for layer in self.layers[:12]:",
)
encode.but(
    "the states in the list are cut off (detach), so nothing learns from them",
    "states.append(x)",
    "states.append(x.detach())",
)
encode.but(
    "the embeddings are cut off (detach), so they never learn",
    "states = [x]",
    "x = x.detach()\n    states = [x]",
)
encode.but(
    "the states are in reverse order; the embeddings come first",
    "    return states",
    "    return states[::-1]",
)
encode.but(
    "positions are counted anew; `layout.positions` begins again with every sequence",
    "layout.positions",
    "torch.arange(input_ids.shape[-1]).expand(input_ids.shape)",
)
encode.but(
    "the last layer runs twice: L layers make L + 1 states",
    "    return states",
    "    states.append(self.run(layer, x, layout, attentions))\n    return states",
)
encode.but(
    "x is added around each layer; its two add & norms have done that inside",
    "x = self.run(layer, x, layout, attentions)",
    "x = x + self.run(layer, x, layout, attentions)",
)


@plain("pooler", of="Pooler.forward")
def pooler(self, first):
    return torch.tanh(self.dense(first))


pooler.but(
    "tanh comes before the linear map; it is the last",
    "torch.tanh(self.dense(first))",
    "self.dense(torch.tanh(first))",
)
pooler.but(
    "exp() of a large number overflows, and the quotient is nan; torch.tanh does not",
    "torch.tanh(self.dense(first))",
    (
        "(self.dense(first).exp() - (-self.dense(first)).exp()) / (self.dense(first).exp() + "
        "(-self.dense(first)).exp())"
    ),
)


@plain("pooler", of="Bert.pool")
def pool(self, last_hidden_state, layout):
    cls = layout.first(last_hidden_state)
    return self.pooler(cls)


pool.but(
    "the last token is pooled, which may be padding; [CLS] is the first",
    "layout.first(last_hidden_state)",
    "last_hidden_state[:, -1]",
)
pool.but(
    "x[:, 0] is the first token of padded batches only; `layout.first` knows both",
    "layout.first(last_hidden_state)",
    "last_hidden_state[:, 0]",
)
pool.but(
    "all tokens are pooled; the first of each sequence alone is, (B, H)",
    "cls = layout.first(last_hidden_state)\n    return self.pooler(cls)",
    "return self.pooler(last_hidden_state)",
)
pool.but(
    "the first tokens are cut off (detach), so the encoder does not learn through the pooler",
    "self.pooler(cls)",
    "self.pooler(cls.detach())",
)
pool.but(
    "the maximum over the tokens is pooled; the pooler reads [CLS]", "layout.first(", "layout.max("
)


@plain("loading", of="hub_names")
def hub_names(model):
    hub = model["encoder"].config.HUB
    names = {}
    for name, _ in model.named_parameters():
        part, rest = name.split(".", 1)
        keys = hub.keys if part == "encoder" else hub.mlm_keys
        if rest in keys:
            names[name] = keys[rest]
            continue
        module, leaf = rest.rsplit(".", 1)
        number = None
        words = module.split(".")
        for i, word in enumerate(words):
            if word.isdigit():
                number = word
                words[i] = "{n}"
        theirs = keys[".".join(words)]
        theirs = theirs.replace("{n}", str(number))
        names[name] = theirs + "." + leaf
    return names


hub_names.but(
    "{n} stays in the names; a layer's number belongs there",
    '        theirs = theirs.replace("{n}", str(number))\n',
    "",
)
hub_names.but(
    "the last word is missing: weight or bias stands after the module's name",
    'theirs + "." + leaf',
    "theirs",
)
hub_names.but(
    "the keys have lost their `encoder.`; they are the names as `named_parameters` gives them",
    "names[name] = theirs",
    "names[rest] = theirs",
    "names[name] = keys",
    "names[rest] = keys",
)
hub_names.but(
    "the names have the prefix; without it is asked for",
    'theirs + "." + leaf',
    'hub.prefix + theirs + "." + leaf',
)
hub_names.but(
    "every name ends in weight; a bias stays a bias", 'theirs + "." + leaf', 'theirs + ".weight"'
)
hub_names.but(
    "keys and values have changed places: from our names to theirs",
    'names[name] = theirs + "." + leaf',
    'names[theirs + "." + leaf] = name',
    "names[name] = keys[rest]",
    "names[keys[rest]] = name",
)
hub_names.but(
    "the last word is there twice: an entry of the table may be a parameter's whole name",
    "            names[name] = keys[rest]\n            continue",
    "            names[name] = keys[rest] + '.' + rest\n            continue",
)


@plain("loading", of="_modern_name")
def _modern_name(name, prefix):
    if name.startswith(prefix):
        name = name.removeprefix(prefix)
    if name.endswith(".gamma"):
        name = name.removesuffix("gamma") + "weight"
    if name.endswith(".beta"):
        name = name.removesuffix("beta") + "bias"
    return name


_modern_name.but(
    "beta stays as it is; it is bias today",
    '    if name.endswith(".beta"):\n        name = name.removesuffix("beta") + "bias"\n',
    "",
)
_modern_name.but(
    "lstrip() takes letters away, not a word; see removeprefix",
    "    if name.startswith(prefix):\n        name = name.removeprefix(prefix)",
    "    name = name.lstrip(prefix)",
)
_modern_name.but(
    "as many letters as the prefix has are cut off, whether it is there or not",
    "    if name.startswith(prefix):\n        name = name.removeprefix(prefix)",
    "    name = name[len(prefix):]",
)
_modern_name.but(
    "the prefix is always `bert.`; take the one that is passed in",
    "    if name.startswith(prefix):\n        name = name.removeprefix(prefix)",
    "    name = name.removeprefix('bert.')",
)
_modern_name.but(
    "gamma is replaced wherever it stands; only as the last word it is an old name",
    '    if name.endswith(".gamma"):\n        name = name.removesuffix("gamma") + "weight"',
    '    name = name.replace("gamma", "weight")',
)
