"""Part 4, LoRA: right answers in float64, and mistakes."""

from __future__ import annotations

import torch
from torch import nn

from lab.answers import mistake, right
from lab.answers.formulas import linear

# LoRA


def spread_evenly(parameter, bound, generator):
    """Draw a parameter evenly from -bound to bound."""
    with torch.no_grad():
        parameter.copy_((2 * torch.rand(parameter.shape, generator=generator) - 1) * bound)


@right("lora_start")
def initialise(self, generator):
    spread_evenly(self.A, self.A.shape[1] ** -0.5, generator)


@mistake("lora_start", "B is not zero, so the encoder changes before it has learnt anything")
def b_not_zero(self, generator):
    initialise(self, generator)
    spread_evenly(self.B, self.B.shape[1] ** -0.5, generator)


@mistake("lora_start", "A is zero like B, so neither ever has a gradient")
def a_zero(self, generator):
    pass


@mistake("lora_start", "A and B have changed places: A is drawn, B is zero")
def b_drawn(self, generator):
    spread_evenly(self.B, self.B.shape[1] ** -0.5, generator)


@mistake("lora_start", "the bound is 1/√rank; it follows from the features that A takes, 1/√in")
def bound_by_rank(self, generator):
    spread_evenly(self.A, self.A.shape[0] ** -0.5, generator)


@mistake("lora_start", "A is normal; it should be even between two bounds")
def a_normal(self, generator):
    nn.init.normal_(self.A, std=(3 * self.A.shape[1]) ** -0.5, generator=generator)


@mistake("lora_start", "A has no negative values: the range is -1/√in to 1/√in")
def a_positive(self, generator):
    initialise(self, generator)
    self.A.data.abs_()


@mistake("lora_start", "the bound is √6/√in, Kaiming's for ReLU; nn.Linear's is 1/√in")
def relu_bound(self, generator):
    spread_evenly(self.A, (6 / self.A.shape[1]) ** 0.5, generator)


@mistake("lora_start", "`generator` is not used, so the start is another each time")
def generator_ignored(self, generator):
    initialise(self, torch.Generator().manual_seed(torch.seed()))


def sum_of(
    self,
    base,
    x,
    *,
    scale=None,
    before=True,
    after=False,
    dropped_base=False,
    product=lambda a, b: b @ a,
    base_too=True,
    dora=True,
    bias=True,
):
    """LoRALinear.forward with its parts open to change."""
    dropped = self.dropout(x) if before else x
    scale = self.scale if scale is None else scale
    change = scale * torch.einsum("...i,oi->...o", dropped, product(self.A, self.B))
    change = self.dropout(change) if after else change
    y = linear(base, dropped if dropped_base else x)
    if self.magnitude is None or not dora:
        return y + change if base_too else change
    return self.rescaled(base, y, dropped, change)


@right("lora_forward", of="LoRALinear.forward")
def lora_linear(self, base, x):
    return sum_of(self, base, x)


@mistake("lora_forward", "the scale s is missing", of="LoRALinear.forward")
def scale_missing(self, base, x):
    return sum_of(self, base, x, scale=1.0)


@mistake("lora_forward", "the scale is r / alpha; it is alpha / r", of="LoRALinear.forward")
def scale_inverted(self, base, x):
    return sum_of(self, base, x, scale=1 / self.scale)


@mistake(
    "lora_forward", "the scale is alpha alone; it is divided by the rank", of="LoRALinear.forward"
)
def scale_alpha(self, base, x):
    return sum_of(self, base, x, scale=self.alpha)


@mistake(
    "lora_forward",
    "the scale is always alpha / r; rank-stabilised it is alpha / √r",
    of="LoRALinear.forward",
)
def scale_by_rank(self, base, x):
    return sum_of(self, base, x, scale=self.alpha / self.rank)


@mistake(
    "lora_forward", "the scale is there twice, once for A and once for B", of="LoRALinear.forward"
)
def scale_twice(self, base, x):
    return sum_of(self, base, x, scale=self.scale**2)


@mistake(
    "lora_forward",
    "the product is transposed: first A, from in to r, then B, from r to out",
    of="LoRALinear.forward",
)
def product_transposed(self, base, x):
    return sum_of(self, base, x, product=lambda a, b: (b @ a).t())


@mistake(
    "lora_forward",
    "what the base gives is left out; the change is added to it",
    of="LoRALinear.forward",
)
def change_alone(self, base, x):
    return sum_of(self, base, x, base_too=False)


@mistake(
    "lora_forward", "the base sees dropout; it is on the input of A alone", of="LoRALinear.forward"
)
def base_dropped(self, base, x):
    return sum_of(self, base, x, dropped_base=True)


@mistake(
    "lora_forward",
    "dropout is on the change; it belongs on the input of A",
    of="LoRALinear.forward",
)
def change_dropped(self, base, x):
    return sum_of(self, base, x, before=False, after=True)


@mistake(
    "lora_forward", "there is no dropout; in eval mode nobody sees that", of="LoRALinear.forward"
)
def lora_without_dropout(self, base, x):
    return sum_of(self, base, x, before=False)


@mistake(
    "lora_forward",
    "DoRA is not looked at: where there is a magnitude, `self.rescaled` gives the output",
    of="LoRALinear.forward",
)
def dora_ignored(self, base, x):
    return sum_of(self, base, x, dora=False)


@mistake("lora_forward", "the bias is added twice; the base has added it", of="LoRALinear.forward")
def bias_twice(self, base, x):
    return sum_of(self, base, x) + base.bias


@mistake(
    "lora_forward", "the scale is alpha times r; it is divided by the rank", of="LoRALinear.forward"
)
def scale_times_rank(self, base, x):
    return sum_of(self, base, x, scale=self.alpha * self.rank)


def looked_up(self, base, ids, *, scale=None, base_too=True, dora=True):
    """LoRAEmbedding.forward with its parts open to change."""
    scale = self.scale if scale is None else scale
    change = torch.einsum("r...,or->...o", self.A[:, ids], self.B) * scale
    found = base.weight[ids] + change if base_too else change
    return found if self.magnitude is None or not dora else found * self.gain(base.weight.t())


@right("lora_forward", of="LoRAEmbedding.forward")
def lora_embedding(self, base, ids):
    return looked_up(self, base, ids)


@mistake("lora_forward", "the scale s is missing in the embedding", of="LoRAEmbedding.forward")
def embedding_scale_missing(self, base, ids):
    return looked_up(self, base, ids, scale=1.0)


@mistake(
    "lora_forward",
    "the table's own vectors are left out; the change is added to them",
    of="LoRAEmbedding.forward",
)
def embedding_change_alone(self, base, ids):
    return looked_up(self, base, ids, base_too=False)


@mistake(
    "lora_forward",
    "DoRA is not looked at in the embedding: a magnitude means times `gain`",
    of="LoRAEmbedding.forward",
)
def embedding_dora_ignored(self, base, ids):
    return looked_up(self, base, ids, dora=False)


# Merging


def sum_of_matrices(self, matrix, *, scale=None, whole=True, product=lambda a, b: b @ a):
    scale = self.scale if scale is None else scale
    change = scale * product(self.A.double(), self.B.double())
    return (matrix.double() + change if whole else change).to(matrix.dtype)


@right("lora_merge", of="LoRA.changed")
def changed(self, matrix):
    return sum_of_matrices(self, matrix)


@mistake("lora_merge", "the scale s is missing from the sum W + s B A", of="LoRA.changed")
def merged_without_scale(self, matrix):
    return sum_of_matrices(self, matrix, scale=1.0)


@mistake("lora_merge", "the scale is r / alpha; it is alpha / r", of="LoRA.changed")
def merged_scale_inverted(self, matrix):
    return sum_of_matrices(self, matrix, scale=1 / self.scale)


@mistake(
    "lora_merge", "the product is transposed: B A has the shape of W, (out, in)", of="LoRA.changed"
)
def merged_transposed(self, matrix):
    return sum_of_matrices(self, matrix, product=lambda a, b: (b @ a).t())


@mistake("lora_merge", "this is the change alone; W is to be in the sum", of="LoRA.changed")
def merged_change_alone(self, matrix):
    return sum_of_matrices(self, matrix, whole=False)


@mistake("lora_merge", "the scale is there twice in W + s B A", of="LoRA.changed")
def merged_scale_twice(self, matrix):
    return sum_of_matrices(self, matrix, scale=self.scale**2)


@torch.no_grad()
def merged(
    self, *, twice=False, keep=torch.clone, names=("weight", "bias"), in_place=True, unused=False
):
    """Adapted.merge with its parts open to change."""
    adapter = next(iter(self.adapters.values())) if unused else self.adapter
    if adapter is None or (self._originals and not twice):
        return
    for name, value in adapter.merged(self.base).items():
        if name not in names:
            continue
        parameter = getattr(self.base, name)
        if keep is not None:
            self._originals.setdefault(name, keep(parameter.data))
        if in_place:
            parameter.data.copy_(value)
        else:
            setattr(self.base, name, nn.Parameter(value, requires_grad=False))


@right("lora_merge", of="Adapted.merge")
def merge(self):
    merged(self)


@mistake(
    "lora_merge", "a second merge adds the change once more; see `is_merged`", of="Adapted.merge"
)
def merged_twice(self):
    merged(self, twice=True)


@mistake(
    "lora_merge",
    "the old values are not kept in `_originals`, so nothing can be undone",
    of="Adapted.merge",
)
def originals_not_kept(self):
    if not getattr(self, "_done", False):
        merged(self, keep=None)
    self._done = self.adapter is not None


@mistake(
    "lora_merge",
    "what is kept has the merged values; keep a copy, made before they change",
    of="Adapted.merge",
)
def originals_not_copied(self):
    merged(self, keep=lambda x: x)


@mistake(
    "lora_merge",
    "only the weight is merged; an adapter may change the bias too",
    of="Adapted.merge",
)
def bias_not_merged(self):
    merged(self, names=("weight",))


@mistake(
    "lora_merge",
    "the base gets new parameters; change those that it has in place",
    of="Adapted.merge",
)
def merged_anew(self):
    merged(self, in_place=False)


@mistake("lora_merge", "an adapter is merged that is not in use", of="Adapted.merge")
def unused_merged(self):
    merged(self, unused=True)


@right("lora_merge", of="Adapted.unmerge")
def unmerge(self):
    with torch.no_grad():
        while self._originals:
            name, value = self._originals.popitem()
            getattr(self.base, name).data.copy_(value)


@mistake(
    "lora_merge",
    "the change is subtracted, which leaves rounding errors; put back what was kept",
    of="Adapted.unmerge",
)
def subtracted(self):
    with torch.no_grad():
        for name, value in self._originals.items():
            parameter = self.base.get_parameter(name)
            change = parameter - value
            parameter.sub_(change * (1 + 1e-6))  # as rounding would have it
        self._originals = {}


@mistake(
    "lora_merge",
    "`_originals` is not emptied, so the module still counts as merged",
    of="Adapted.unmerge",
)
def originals_not_emptied(self):
    kept = dict(self._originals)
    unmerge(self)
    self._originals = kept


@mistake("lora_merge", "the base's weights are not put back", of="Adapted.unmerge")
def not_put_back(self):
    self._originals = {}


@mistake("lora_merge", "only the weight is put back; the bias was merged too", of="Adapted.unmerge")
def bias_not_put_back(self):
    self._originals.pop("bias", None)
    unmerge(self)
