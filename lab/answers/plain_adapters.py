"""Adapters as students write it, and mistakes that change a line."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from lab.answers import plain


@plain("bitfit", of="train_biases")
def train_biases(encoder, roles=("all",)):
    from minbert.adapters.apply import freeze, select

    roles = tuple(roles)
    params = dict(encoder.named_parameters())
    if "all" in roles:
        names = [n for n in params if n == "bias" or n.endswith(".bias")]
    else:
        names = []
        for place in select(encoder, roles):
            if place + ".bias" not in params:
                raise ValueError(f"{place} has no bias")
            names.append(place + ".bias")
    if not names:
        raise ValueError("no biases")
    freeze(encoder)
    for n in names:
        params[n].requires_grad_(True)


train_biases.but(
    "the weight of a role's module trains too; BitFit trains biases alone",
    'names.append(place + ".bias")',
    'names += [place + ".bias", place + ".weight"]',
)
train_biases.but(
    "the freezing comes last, and freezes the biases again",
    "    freeze(encoder)\n    for n in names:\n        params[n].requires_grad_(True)",
    "    for n in names:\n        params[n].requires_grad_(True)\n    freeze(encoder)",
)
train_biases.but(
    "`roles` is read twice, and a generator is empty then; make a tuple of it first",
    "    roles = tuple(roles)\n",
    "",
)
train_biases.but(
    "the biases are frozen and the rest trains; the other way round is meant",
    "params[n].requires_grad_(True)",
    "params[n].requires_grad_(False)",
    "    freeze(encoder)\n    for n",
    "    for n",
)


@plain("bitfit", of="freeze")
def freeze(encoder):
    own = [p for n, p in encoder.named_parameters() if ".adapters." not in n]
    states = {p.requires_grad for p in own}
    if len(states) == 2:
        raise ValueError("a part is frozen already")
    for p in own:
        p.requires_grad = False


freeze.but(
    "an encoder that is frozen whole is refused; only one that is frozen in part is",
    "if len(states) == 2:",
    "if False in states:",
)


@plain("bitfit", of="BitFit.prepare")
def prepare(self, model):
    from minbert.adapters import train_biases

    train_biases(model.encoder, self.roles)


prepare.but(
    "the encoder is only frozen; its biases train",
    "train_biases(model.encoder, self.roles)",
    "from minbert.adapters.apply import freeze\n    freeze(model.encoder)",
)


@plain("lora_start")
def lora_start(self, generator):
    bound = 1 / math.sqrt(self.A.size(1))
    nn.init.uniform_(self.A, -bound, bound, generator=generator)


lora_start.but(
    "A is normal; it is drawn evenly between two bounds",
    "nn.init.uniform_(self.A, -bound, bound, ",
    "nn.init.normal_(self.A, std=bound, ",
)
lora_start.but(
    "A is normal with 0.02, BERT's; it is drawn evenly from -1/√in to 1/√in",
    "nn.init.uniform_(self.A, -bound, bound, ",
    "nn.init.normal_(self.A, std=0.02, ",
)
lora_start.but(
    "the bound is 1/in; there is a root, 1/√in",
    "1 / math.sqrt(self.A.size(1))",
    "1 / self.A.size(1)",
)
lora_start.but(
    "the bound is 1/√out; it follows from the features that A takes, 1/√in",
    "self.A.size(1)",
    "self.B.size(0)",
)
lora_start.but(
    "A has the two bounds as its only values; it is drawn evenly between them",
    "nn.init.uniform_(self.A, -bound, bound, generator=generator)",
    (
        "with torch.no_grad():\n"
        "        self.A.copy_(torch.randint(0, 2, self.A.shape, generator=generator) * 2 * "
        "bound - bound)"
    ),
)


@plain("lora_forward", of="LoRALinear.forward")
def lora_linear(self, base, x):
    y = base(x)
    dropped = self.dropout(x)
    change = self.scale * (dropped @ self.A.t() @ self.B.t())
    if self.magnitude is not None:
        return self.rescaled(base, y, dropped, change)
    return y + change


lora_linear.but(
    "dropout is on A x; it belongs on x, before A",
    "dropped @ self.A.t() @ self.B.t()",
    "self.dropout(x @ self.A.t()) @ self.B.t()",
)
lora_linear.but(
    "the base's bias is left out; call `base(x)`", "y = base(x)", "y = F.linear(x, base.weight)"
)
lora_linear.but(
    "A is cut off (detach), so it never learns",
    "dropped @ self.A.t()",
    "dropped @ self.A.t().detach()",
)


@plain("lora_forward", of="LoRAEmbedding.forward")
def lora_embedding(self, base, ids):
    y = base(ids)
    low = F.embedding(ids, self.A.t(), padding_idx=base.padding_idx)
    y = y + self.scale * (low @ self.B.t())
    if self.magnitude is not None:
        y = y * self.gain(self.matrix(base))
    return y


lora_embedding.but(
    "the embedding is multiplied by the magnitude; it is `self.gain`, which divides by the norm",
    "self.gain(self.matrix(base))",
    "self.magnitude",
)
lora_embedding.but(
    "there is a dropout in the embedding; token ids have none",
    "low @ self.B.t()",
    "self.dropout(low) @ self.B.t()",
)


@plain("lora_merge", of="Adapted.merge")
@torch.no_grad()
def merge(self):
    if self.is_merged or self.adapter is None:
        return
    new = self.adapter.merged(self.base)
    for name in new:
        param = self.base.get_parameter(name)
        self._originals[name] = param.detach().clone()
        param.copy_(new[name])


merge.but(
    "no adapter may be in use (None), and there is nothing to merge then",
    "if self.is_merged or self.adapter is None:",
    "if self.is_merged:",
)
merge.but(
    "the merged weight is added to the base's; it takes its place",
    "param.copy_(new[name])",
    "param.add_(new[name])",
)


@plain("lora_merge", of="Adapted.unmerge")
@torch.no_grad()
def unmerge(self):
    for name in self._originals:
        self.base.get_parameter(name).copy_(self._originals[name])
    self._originals = {}


unmerge.but(
    "the change is subtracted again, which rounds; copy the kept values back",
    "        self.base.get_parameter(name).copy_(self._originals[name])",
    (
        "        p = self.base.get_parameter(name)\n"
        "        new = self.adapter.merged(self.base)[name]\n"
        "        p.copy_(p - (new - p))"
    ),
)


@plain("lora_merge", of="LoRA.changed")
def changed(self, matrix):
    return matrix + self.scale * (self.B @ self.A)


changed.but(
    "the scale is alpha / rank, rank-stabilised or not; it is `self.scale`",
    "self.scale *",
    "self.alpha / self.rank *",
)
changed.but(
    "the matrix that is passed in is changed; return a new one",
    "return matrix + self.scale * (self.B @ self.A)",
    "return matrix.add_(self.scale * (self.B @ self.A))",
)
changed.but("the change is taken away; it is added", "matrix + self.scale", "matrix - self.scale")


@plain("bottleneck", of="Bottleneck.initialise")
def bottleneck_start(self, generator=None):
    from minbert.adapters.task_sets import STD

    nn.init.normal_(self.down.weight, mean=0.0, std=STD, generator=generator)
    nn.init.zeros_(self.down.bias)
    nn.init.zeros_(self.up.weight)
    nn.init.zeros_(self.up.bias)


bottleneck_start.but(
    "the standard deviation of W_down is √STD; it is STD itself", "std=STD", "std=STD ** 0.5"
)
bottleneck_start.but("the standard deviation of W_down is 0.01; it is STD", "std=STD", "std=0.01")
bottleneck_start.but(
    "a bias is left as it was; both are zero at first", "    nn.init.zeros_(self.down.bias)\n", ""
)
bottleneck_start.but(
    "W_down is drawn evenly; it is normal",
    "nn.init.normal_(self.down.weight, mean=0.0, std=STD, generator=generator)",
    "nn.init.uniform_(self.down.weight, -STD, STD, generator=generator)",
)


@plain("bottleneck", of="HoulsbySum.forward")
def houlsby(self, residual, output):
    h = self.dropout(output)
    total = residual + h + self.adapters(h)
    return self.norm(total)


houlsby.but(
    "Houlsby's adapter reads the output before dropout; it reads h, after it",
    "self.adapters(h)",
    "self.adapters(output)",
)
houlsby.but(
    "the residual is changed in place (+=); make a new tensor",
    "total = residual + h + self.adapters(h)",
    "residual += h + self.adapters(h)\n    total = residual",
)


@plain("bottleneck", of="PfeifferSum.forward")
def pfeiffer(self, residual, output):
    total = residual + self.dropout(output)
    total = total + self.adapters(self.norm(total))
    return self.norm(total)


pfeiffer.but(
    "the last LayerNorm is missing in Pfeiffer's sum; it has it twice",
    "    total = total + self.adapters(self.norm(total))\n    return self.norm(total)",
    "    return total + self.adapters(self.norm(total))",
)
pfeiffer.but(
    "Pfeiffer's adapter reads the norm of h alone; it reads that of x + h",
    "self.adapters(self.norm(total))",
    "self.adapters(self.norm(self.dropout(output)))",
)
