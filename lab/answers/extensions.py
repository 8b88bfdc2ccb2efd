"""Part 4, extensions: right answers in float64 where there are sums, and mistakes."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from lab.answers import mistake, right
from lab.answers.bert import linear, softmax

# Masking


def corrupted(self, input_ids, generator, *, rate=None, shares=None, special=False, reused=False,
              pool=None, one=False, whole=None, answer=None, place=None):  # fmt: skip
    """Masker.__call__ with its parts open to change."""
    ids = place(input_ids) if place else input_ids.copy()
    whole = self.whole_words if whole is None else whole
    units = self.words(ids) if whole else range(len(ids))
    draws, fates = generator.random(len(ids)), generator.random(len(ids))
    mask_share, random_share = shares or (self.mask_share, self.random_share)
    chosen = draws[np.asarray(units)] < (self.rate if rate is None else rate)
    if not special:
        chosen &= ~self.is_special[ids]
    fates = draws[np.asarray(units)] if reused else fates
    masked = chosen & (fates < mask_share)
    replaced = chosen & (fates >= mask_share) & (fates < mask_share + random_share)
    pool = self.ordinary if pool is None else pool
    drawn = generator.choice(pool, size=1 if one else len(ids))
    seen = ids if place else ids.copy()
    original = ids.copy()
    seen[masked] = self.mask_id
    seen[replaced] = np.broadcast_to(drawn, len(ids))[replaced]
    return seen, chosen if answer is None else answer(self, original, chosen, masked)


@right("mlm_masking")
def mask(self, input_ids, generator):
    return corrupted(self, input_ids, generator)


@mistake("mlm_masking", "special tokens are chosen too; [CLS], [SEP] and the like stay out of it")
def special_masked(self, input_ids, generator):
    return corrupted(self, input_ids, generator, special=True)


@mistake("mlm_masking", "the draw that chooses a token also decides what becomes of it, so that "
         "nearly all become [MASK]; draw twice")  # fmt: skip
def draw_reused(self, input_ids, generator):
    return corrupted(self, input_ids, generator, reused=True)


@mistake("mlm_masking", "every chosen token becomes [MASK]; some become another, some stay")
def all_masked(self, input_ids, generator):
    return corrupted(self, input_ids, generator, shares=(1.0, 0.0))


@mistake("mlm_masking", "the shares are fixed at 15, 80 and 10 %; the masker has its own")
def fixed_shares(self, input_ids, generator):
    return corrupted(self, input_ids, generator, rate=0.15, shares=(0.8, 0.1))


@mistake("mlm_masking", "no token is replaced by a random one: those should be `random_share`")
def never_replaced(self, input_ids, generator):
    return corrupted(self, input_ids, generator, shares=(self.mask_share, 0.0))


@mistake("mlm_masking", "no chosen token stays as it is; what the two shares leave over does")
def never_kept(self, input_ids, generator):
    return corrupted(self, input_ids, generator, shares=(self.mask_share, 1 - self.mask_share))


@mistake("mlm_masking", "`random_share` is taken of those that are not [MASK]; it is a share "
         "of all that were chosen")  # fmt: skip
def share_of_rest(self, input_ids, generator):
    rest = (1 - self.mask_share) * self.random_share
    return corrupted(self, input_ids, generator, shares=(self.mask_share, rest))


@mistake("mlm_masking", "[MASK] and random token have changed shares")
def shares_swapped(self, input_ids, generator):
    return corrupted(self, input_ids, generator, shares=(self.random_share, self.mask_share))


@mistake("mlm_masking", "random tokens are drawn from all of the vocabulary, special ones included")
def random_special(self, input_ids, generator):
    return corrupted(self, input_ids, generator, pool=np.arange(len(self.is_special)))


@mistake("mlm_masking", "one random token stands at all places; draw one for each")
def one_random_token(self, input_ids, generator):
    return corrupted(self, input_ids, generator, one=True)


@mistake("mlm_masking", "only tokens that became [MASK] are said to be chosen; the model has to "
         "find the others too")  # fmt: skip
def only_masks_chosen(self, input_ids, generator):
    return corrupted(self, input_ids, generator, answer=lambda self, ids, chosen, masked: masked)


@mistake("mlm_masking", "all ordinary tokens are said to be chosen, so there is a label at every "
         "place")  # fmt: skip
def labels_everywhere(self, input_ids, generator):
    return corrupted(self, input_ids, generator,
                     answer=lambda self, ids, chosen, masked: ~self.is_special[ids])  # fmt: skip


@mistake("mlm_masking", "labels are returned in place of which tokens were chosen, a bool for each")
def labels_for_chosen(self, input_ids, generator):
    def labels(self, ids, chosen, masked):
        return np.where(chosen, ids, -100)

    return corrupted(self, input_ids, generator, answer=labels)


@mistake("mlm_masking", "the row that is passed in is changed; make a new one")
def masked_in_place(self, input_ids, generator):
    return corrupted(self, input_ids, generator, place=lambda ids: ids)


@mistake("mlm_masking", "`whole_words` is not looked at: tokens of a word are chosen one by one")
def words_ignored(self, input_ids, generator):
    return corrupted(self, input_ids, generator, whole=False)


@mistake(
    "mlm_masking", "random numbers do not come from `generator`, so a resumed run masks others"
)
def own_generator(self, input_ids, generator):
    return corrupted(self, input_ids, np.random.default_rng())


# The loss over masked tokens


def scores(self, batch, task, then, *, pick=None, types=True, after=lambda x: x, call=True):
    """MaskedLanguageModel.forward with its parts open to change."""
    output = self.encoder(
        batch.input_ids,
        token_type_ids=batch.token_type_ids if types else None,
        layout=batch.layout,
    )
    states = output.last_hidden_state
    flat = states.reshape(-1, states.shape[-1])
    picked = flat[batch.masked] if pick is None else pick(states, flat, batch)
    found = after(linear(self.heads[task], picked))
    return then(found) if call else found


def plain(outputs):
    return outputs


@right("masked_loss")
def masked_scores(self, batch, task="mlm", then=plain):
    return scores(self, batch, task, then)


@mistake("masked_loss", "every token is scored, so the loss runs over all of them; masked ones "
         "alone count")  # fmt: skip
def all_scored(self, batch, task="mlm", then=plain):
    return scores(self, batch, task, then, pick=lambda states, flat, batch: flat)


@mistake("masked_loss", "the first M tokens are scored; `batch.masked` says which")
def first_scored(self, batch, task="mlm", then=plain):
    return scores(self, batch, task, then,
                  pick=lambda states, flat, batch: flat[: len(batch.masked)])  # fmt: skip


@mistake("masked_loss", "the tokens that were not masked are scored")
def unmasked_scored(self, batch, task="mlm", then=plain):
    def pick(states, flat, batch):
        rest = [n for n in range(len(flat)) if n not in batch.masked.tolist()]
        return flat[rest]

    return scores(self, batch, task, then, pick=pick)


@mistake("masked_loss", "the batch is flattened the wrong way: tokens of all rows follow one "
         "another, row by row")  # fmt: skip
def flattened_by_columns(self, batch, task="mlm", then=plain):
    def pick(states, flat, batch):
        columns = states.transpose(0, 1).flatten(0, 1) if states.dim() == 3 else flat
        return columns[batch.masked]

    return scores(self, batch, task, then, pick=pick)


@mistake("masked_loss", "segments are not given to the encoder")
def segments_left_out(self, batch, task="mlm", then=plain):
    return scores(self, batch, task, then, types=False)


@mistake("masked_loss", "the scores go through a softmax; the loss does that")
def softmax_of_scores(self, batch, task="mlm", then=plain):
    return scores(self, batch, task, then, after=softmax)


@mistake("masked_loss", "`then` is not called; return what it makes of the scores")
def then_ignored(self, batch, task="mlm", then=plain):
    return scores(self, batch, task, then, call=False)


@mistake("masked_loss", "the scores are cut off from the parameters, so nothing is learnt")
def scores_detached(self, batch, task="mlm", then=plain):
    with torch.no_grad():
        return scores(self, batch, task, then)


# Rates of the layers


def rates(self, model, *, power=lambda self, distance, count: self.decay**distance, heads=None):
    """LayerLR.lr_scale with its parts open to change."""
    names = [name for name, _ in model.depths()]
    last = len(names) - 1
    scale = {name: power(self, last - n, len(names)) for n, name in enumerate(names)}
    scale["heads"] = self.heads if heads is None else heads(self, scale)
    return {name: scale[part] for name, part in model.part_of().items()}


@right("layer_rates")
def lr_scale(self, model):
    return rates(self, model)


@mistake("layer_rates", "the exponent is reversed: parts near the input learn slower, not faster")
def rates_reversed(self, model):
    return rates(self, model, power=lambda self, d, n: self.decay ** (n - 1 - d))


@mistake(
    "layer_rates", "the exponent is one too low: the pooler, next to the heads, has distance 1"
)
def rates_off_by_one(self, model):
    return rates(self, model, power=lambda self, d, n: self.decay ** max(0, d - 1))


@mistake(
    "layer_rates", "the exponent is one too high: the heads are at distance 0, the pooler at 1"
)
def rates_one_too_high(self, model):
    return rates(self, model, power=lambda self, d, n: self.decay ** (d + 1))


@mistake("layer_rates", "the heads are decayed; their factor is `self.heads`")
def heads_decayed(self, model):
    return rates(self, model, heads=lambda self, scale: self.decay)


@mistake("layer_rates", "`self.heads` is not used")
def heads_ignored(self, model):
    return rates(self, model, heads=lambda self, scale: 1.0)


@mistake("layer_rates", "the factor of the heads multiplies all other parts too")
def heads_everywhere(self, model):
    return rates(self, model, power=lambda self, d, n: self.heads * self.decay**d)


@mistake(
    "layer_rates", "the factors fall along a straight line; each part has decay times the next"
)
def rates_linear(self, model):
    return rates(self, model, power=lambda self, d, n: 1 - (1 - self.decay) * d)


@mistake(
    "layer_rates", "all parts below the heads have the same factor; it falls with the distance"
)
def rates_flat(self, model):
    return rates(self, model, power=lambda self, d, n: self.decay)


@mistake("layer_rates", "factors are returned by part; they belong to names of parameters")
def rates_by_part(self, model):
    scale = {name: self.decay**d for d, (name, _) in enumerate(reversed(model.depths()))}
    return {**scale, "heads": self.heads}


# BitFit


@right("bitfit", of="freeze")
def freeze(encoder):
    named = {n: p for n, p in encoder.named_parameters() if "adapters" not in n.split(".")}
    if len({p.requires_grad for p in named.values()}) == 2:
        raise ValueError("a part of the encoder is frozen already")
    for parameter in named.values():
        parameter.requires_grad = False


def biases_trained(encoder, roles, *, wanted=lambda name: name.endswith("bias"), ignore=False,
                   frozen=True, check=True):  # fmt: skip
    """train_biases with its parts open to change."""
    from minbert.adapters import apply

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


@mistake("bitfit", "nothing is frozen: the base's parameters must not require gradients",
         of="freeze")  # fmt: skip
def base_not_frozen(encoder):
    pass


@mistake("bitfit", "adapters are frozen with the rest, so nothing is left to train", of="freeze")
def adapters_frozen(encoder):
    encoder.requires_grad_(False)


@mistake("bitfit", "an encoder of which a part was frozen before is taken; refuse it with a "
         "ValueError", of="freeze")  # fmt: skip
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
    biases_trained(encoder, roles,
                   wanted=lambda name: name.endswith("bias") and "norm" not in name)  # fmt: skip


@mistake("bitfit", "LayerNorm's weights train too; they are no biases, vectors though they are",
         of="train_biases")  # fmt: skip
def all_vectors(encoder, roles=("all",)):
    biases_trained(encoder, roles, wanted=lambda n: n.endswith("bias") or "norm.weight" in n)


@mistake("bitfit", "`roles` is not looked at: the biases of these modules alone train",
         of="train_biases")  # fmt: skip
def roles_ignored(encoder, roles=("all",)):
    biases_trained(encoder, roles, ignore=True)


@mistake("bitfit", "the rest is not frozen", of="train_biases")
def rest_not_frozen(encoder, roles=("all",)):
    biases_trained(encoder, roles, frozen=False)


@mistake("bitfit", "a role whose modules have no bias is passed over; refuse it with a ValueError",
         of="train_biases")  # fmt: skip
def bare_passed_over(encoder, roles=("all",)):
    biases_trained(encoder, roles, check=False)


@mistake("bitfit", "the heads are frozen; they are new and have to train, whole", of="prepare")
def heads_frozen(self, model):
    prepare(self, model)
    model.heads.requires_grad_(False)


@mistake("bitfit", "of the heads, biases alone train; they are new and have to train, whole",
         of="prepare")  # fmt: skip
def heads_by_bias(self, model):
    prepare(self, model)
    for name, parameter in model.heads.named_parameters():
        parameter.requires_grad_(name.endswith("bias"))


@mistake("bitfit", "the extension's own roles are not passed on", of="prepare")
def roles_not_passed(self, model):
    biases_trained(model.encoder, ("all",))


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


def sum_of(self, base, x, *, scale=None, before=True, after=False, dropped_base=False,
           product=lambda a, b: b @ a, base_too=True, dora=True, bias=True):  # fmt: skip
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


@mistake("lora_forward", "the scale is alpha alone; it is divided by the rank",
         of="LoRALinear.forward")  # fmt: skip
def scale_alpha(self, base, x):
    return sum_of(self, base, x, scale=self.alpha)


@mistake("lora_forward", "the scale is always alpha / r; rank-stabilised it is alpha / √r",
         of="LoRALinear.forward")  # fmt: skip
def scale_by_rank(self, base, x):
    return sum_of(self, base, x, scale=self.alpha / self.rank)


@mistake("lora_forward", "the scale is there twice, once for A and once for B",
         of="LoRALinear.forward")  # fmt: skip
def scale_twice(self, base, x):
    return sum_of(self, base, x, scale=self.scale**2)


@mistake("lora_forward", "the product is transposed: first A, from in to r, then B, from r to out",
         of="LoRALinear.forward")  # fmt: skip
def product_transposed(self, base, x):
    return sum_of(self, base, x, product=lambda a, b: (b @ a).t())


@mistake("lora_forward", "what the base gives is left out; the change is added to it",
         of="LoRALinear.forward")  # fmt: skip
def change_alone(self, base, x):
    return sum_of(self, base, x, base_too=False)


@mistake("lora_forward", "the base sees dropout; it is on the input of A alone",
         of="LoRALinear.forward")  # fmt: skip
def base_dropped(self, base, x):
    return sum_of(self, base, x, dropped_base=True)


@mistake("lora_forward", "dropout is on the change; it belongs on the input of A",
         of="LoRALinear.forward")  # fmt: skip
def change_dropped(self, base, x):
    return sum_of(self, base, x, before=False, after=True)


@mistake("lora_forward", "there is no dropout; in eval mode nobody sees that",
         of="LoRALinear.forward")  # fmt: skip
def lora_without_dropout(self, base, x):
    return sum_of(self, base, x, before=False)


@mistake("lora_forward", "DoRA is not looked at: where there is a magnitude, `self.rescaled` gives "
         "the output", of="LoRALinear.forward")  # fmt: skip
def dora_ignored(self, base, x):
    return sum_of(self, base, x, dora=False)


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


@mistake("lora_forward", "the table's own vectors are left out; the change is added to them",
         of="LoRAEmbedding.forward")  # fmt: skip
def embedding_change_alone(self, base, ids):
    return looked_up(self, base, ids, base_too=False)


@mistake("lora_forward", "DoRA is not looked at in the embedding: a magnitude means times `gain`",
         of="LoRAEmbedding.forward")  # fmt: skip
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


@mistake("lora_merge", "the product is transposed: B A has the shape of W, (out, in)",
         of="LoRA.changed")  # fmt: skip
def merged_transposed(self, matrix):
    return sum_of_matrices(self, matrix, product=lambda a, b: (b @ a).t())


@mistake("lora_merge", "this is the change alone; W is to be in the sum", of="LoRA.changed")
def merged_change_alone(self, matrix):
    return sum_of_matrices(self, matrix, whole=False)


@torch.no_grad()
def merged(self, *, twice=False, keep=torch.clone, names=("weight", "bias"), in_place=True,
           unused=False):  # fmt: skip
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


@mistake("lora_merge", "a second merge adds the change once more; see `is_merged`",
         of="Adapted.merge")  # fmt: skip
def merged_twice(self):
    merged(self, twice=True)


@mistake("lora_merge", "the old values are not kept in `_originals`, so nothing can be undone",
         of="Adapted.merge")  # fmt: skip
def originals_not_kept(self):
    if not getattr(self, "_done", False):
        merged(self, keep=None)
    self._done = self.adapter is not None


@mistake("lora_merge", "what is kept is the parameter itself, which changes; keep a copy",
         of="Adapted.merge")  # fmt: skip
def originals_not_copied(self):
    merged(self, keep=lambda x: x)


@mistake("lora_merge", "only the weight is merged; an adapter may change the bias too",
         of="Adapted.merge")  # fmt: skip
def bias_not_merged(self):
    merged(self, names=("weight",))


@mistake("lora_merge", "the base gets new parameters; change those that it has in place",
         of="Adapted.merge")  # fmt: skip
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


@mistake("lora_merge", "the change is subtracted, which leaves rounding errors; put back what was "
         "kept", of="Adapted.unmerge")  # fmt: skip
def subtracted(self):
    with torch.no_grad():
        for name, value in self._originals.items():
            parameter = self.base.get_parameter(name)
            change = parameter - value
            parameter.sub_(change * (1 + 1e-6))  # as rounding would have it
        self._originals = {}


@mistake("lora_merge", "`_originals` is not emptied, so the module still counts as merged",
         of="Adapted.unmerge")  # fmt: skip
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


# Gradient surgery


def projected(products, generator, *, when=lambda along: along < 0, into=None, norm=None, sign=-1,
              sofar=True, of_others=False, shuffled=True):  # fmt: skip
    """pcgrad with its parts open to change: C of g_i' = sum_k C_ik g_k."""
    count = len(products)
    norm = norm or (lambda square: square)
    found = np.eye(count)
    for i in range(count):
        order = generator.permutation(count) if shuffled else np.arange(count)
        for j in order[order != i]:
            other = found[j].copy() if of_others else np.eye(count)[j]
            mine = found[i] if sofar else np.eye(count)[i]
            along = mine @ products @ other
            if when(along):
                part = sign * along / norm(other @ products @ other)
                found[i] = found[i] + part * (np.eye(count)[i] if into else other)
    return found


@right("surgery")
def pcgrad(products, generator):
    return projected(products, generator)


@mistake("surgery", "gradients are projected where they agree too; only a dot product below 0 is a "
         "conflict")  # fmt: skip
def always_projected(products, generator):
    return projected(products, generator, when=lambda along: True)


@mistake("surgery", "gradients are projected where they agree, and not where they conflict")
def agreeing_projected(products, generator):
    return projected(products, generator, when=lambda along: along > 0)


@mistake("surgery", "the part is taken along the gradient itself; it is the part along the other's")
def onto_itself(products, generator):
    return projected(products, generator, into="itself")


@mistake("surgery", "the part is not divided by the other's squared norm")
def not_normalised(products, generator):
    return projected(products, generator, norm=lambda square: 1.0)


@mistake("surgery", "the part is divided by the other's norm; it should be the norm squared")
def norm_not_squared(products, generator):
    return projected(products, generator, norm=math.sqrt)


@mistake("surgery", "the sign is wrong: the part along the other gradient is taken away")
def part_added(products, generator):
    return projected(products, generator, sign=1)


@mistake("surgery", "the others' gradients are those that were projected already; they stay as "
         "they were at first")  # fmt: skip
def others_projected(products, generator):
    return projected(products, generator, of_others=True)


@mistake(
    "surgery", "the dot product is that of the first gradients; g_i' changes from task to task"
)
def first_products(products, generator):
    return projected(products, generator, sofar=False)


@mistake("surgery", "the other tasks always come in the same order; it should be random")
def not_shuffled(products, generator):
    return projected(products, generator, shuffled=False)


def raised(products, averages, beta, generator, *, lower=lambda c, a: c < a, sofar=True,
           length=True, update="after", shuffled=True, weight=None, copy=True):  # fmt: skip
    """gradvac with its parts open to change."""
    count = len(products)
    found, new = np.eye(count), averages.copy() if copy else averages
    for i in range(count):
        order = generator.permutation(count) if shuffled else np.arange(count)
        for j in order[order != i]:
            mine = found[i] if sofar else np.eye(count)[i]
            own, other = (mine @ products @ mine) ** 0.5, products[j, j] ** 0.5
            if own == 0 or other == 0:
                continue
            c = min(1.0, max(-1.0, mine @ products[:, j] / own / other))
            moved = (1 - beta) * new[i, j] + beta * c
            if weight == "swapped":
                moved = beta * new[i, j] + (1 - beta) * c
            if update == "before":
                new[i, j] = moved
            a = new[i, j]
            if lower(c, a):
                sines = (1 - c**2) ** 0.5, (1 - a**2) ** 0.5
                rise = (a * sines[0] - c * sines[1]) / sines[1]
                found[i, j] += (own / other if length else 1.0) * rise
            if update == "after":
                new[i, j] = moved
    return found, new


@right("vaccine")
def gradvac(products, averages, beta, generator):
    return raised(products, averages, beta, generator)


@mistake("vaccine", "every cosine is moved to its average; only one below it is raised")
def always_raised(products, averages, beta, generator):
    return raised(products, averages, beta, generator, lower=lambda c, a: True)


@mistake("vaccine", "a cosine is raised only where it is below 0; its average is the bound")
def raised_below_zero(products, averages, beta, generator):
    return raised(products, averages, beta, generator, lower=lambda c, a: c < min(a, 0))


@mistake("vaccine", "the averages do not move")
def averages_fixed(products, averages, beta, generator):
    return raised(products, averages, beta, generator, update="never")


@mistake("vaccine", "the averages move before they are used; they are the aim of this step as "
         "they were")  # fmt: skip
def averages_first(products, averages, beta, generator):
    return raised(products, averages, beta, generator, update="before")


@mistake("vaccine", "beta and 1 - beta have changed places: beta is the weight of the new cosine")
def beta_swapped(products, averages, beta, generator):
    return raised(products, averages, beta, generator, weight="swapped")


@mistake("vaccine", "the lengths of the two gradients are missing from w")
def lengths_missing(products, averages, beta, generator):
    return raised(products, averages, beta, generator, length=False)


@mistake("vaccine", "the cosine is that of the first gradients; g_i' changes from task to task")
def first_cosines(products, averages, beta, generator):
    return raised(products, averages, beta, generator, sofar=False)


@mistake("vaccine", "the averages that are passed in are changed; make new ones")
def averages_in_place(products, averages, beta, generator):
    return raised(products, averages, beta, generator, copy=False)


@mistake("vaccine", "the other tasks always come in the same order; it should be random")
def vaccine_not_shuffled(products, averages, beta, generator):
    return raised(products, averages, beta, generator, shuffled=False)


# Rotary positions


def turning(positions, head_size, theta, *, power=lambda i, d: 2 * i / d, start=0, up=False,
            twice=False):  # fmt: skip
    """rope_angles with its parts open to change, in float64."""
    columns = []
    for i in range(head_size // 2):
        rate = theta ** power(i, head_size) if up else theta ** -power(i, head_size)
        columns.append((positions.double() + start) * rate)
    angles = torch.stack(columns * 2 if twice else columns, -1)
    return torch.cos(angles).float(), torch.sin(angles).float()


@right("rope", of="rope_angles")
def rope_angles(positions, head_size, theta):
    return turning(positions, head_size, theta)


@mistake("rope", "positions count from 1; they count from 0, where nothing turns", of="rope_angles")
def rope_from_one(positions, head_size, theta):
    return turning(positions, head_size, theta, start=1)


@mistake("rope", "the 2 is missing from the exponent -2i/D", of="rope_angles")
def exponent_halved(positions, head_size, theta):
    return turning(positions, head_size, theta, power=lambda i, d: i / d)


@mistake("rope", "the exponent is divided by D/2; it is -2i/D with the whole D", of="rope_angles")
def exponent_doubled(positions, head_size, theta):
    return turning(positions, head_size, theta, power=lambda i, d: 4 * i / d)


@mistake("rope", "the exponent's sign is wrong: later features turn slower", of="rope_angles")
def exponent_positive(positions, head_size, theta):
    return turning(positions, head_size, theta, up=True)


@mistake("rope", "all pairs turn at the same rate; theta to the -2i/D is missing", of="rope_angles")
def one_rate(positions, head_size, theta):
    return turning(positions, head_size, theta, power=lambda i, d: 0)


@mistake("rope", "sin and cos have changed places", of="rope_angles")
def sine_first(positions, head_size, theta):
    return turning(positions, head_size, theta)[::-1]


@mistake("rope", "there are D angles; a pair of features shares one, so there are D/2",
         of="rope_angles")  # fmt: skip
def angles_twice(positions, head_size, theta):
    return turning(positions, head_size, theta, twice=True)


@mistake("rope", "places are counted anew; take those in `positions`, which may begin again",
         of="rope_angles")  # fmt: skip
def places_counted(positions, head_size, theta):
    if positions.dim() == 0:
        return turning(positions, head_size, theta)
    counted = torch.arange(positions.size(-1)).expand(positions.shape)
    return turning(counted, head_size, theta)


def turned(x, cos, sin, *, sign=1, pairs="halves", crossed=True, dtype=True):
    """apply_rope with its parts open to change: each pair as a complex number."""
    half = x.size(-1) // 2
    y = x.double()
    a, b = (y[..., :half], y[..., half:]) if pairs == "halves" else (y[..., ::2], y[..., 1::2])
    cos, sin = cos.double()[..., None, :], sign * sin.double()[..., None, :]
    first, second = a * cos - b * sin, b * cos + (a if crossed else -a) * sin
    if pairs == "interleaved":
        both = torch.stack([first, second], -1).flatten(-2)
    else:
        both = torch.cat([first, second], -1)
    return both.to(x.dtype if dtype else torch.float32)


@right("rope", of="apply_rope")
def apply_rope(x, cos, sin):
    return turned(x, cos, sin)


@mistake("rope", "pairs are neighbours, (x_0, x_1); here feature i goes with i + D/2",
         of="apply_rope")  # fmt: skip
def interleaved(x, cos, sin):
    return turned(x, cos, sin, pairs="interleaved")


@mistake("rope", "pairs are neighbours going in and halves coming out; feature i goes with i + D/2",
         of="apply_rope")  # fmt: skip
def half_interleaved(x, cos, sin):
    return turned(x, cos, sin, pairs="into halves")


@mistake("rope", "the sign of the sine is wrong: the pairs turn the other way", of="apply_rope")
def turned_back(x, cos, sin):
    return turned(x, cos, sin, sign=-1)


@mistake("rope", "this is no rotation: one of the two sines has a minus, not both", of="apply_rope")
def mirrored(x, cos, sin):
    return turned(x, cos, sin, crossed=False)


@mistake("rope", "the dtype of x is lost: turn it back after float32 angles", of="apply_rope")
def dtype_lost(x, cos, sin):
    return turned(x, cos, sin, dtype=False)


# Local attention


def window_of(queries, keys, real, window, *, near=lambda d, w: abs(d) <= w, itself=True,
              padding=True):  # fmt: skip
    """within_window with its parts open to change."""
    rows = [[near(int(i) - int(j), window) for j in keys] for i in queries]
    same = torch.tensor([[int(i) == int(j) for j in keys] for i in queries])
    allowed = torch.tensor(rows)
    allowed = torch.logical_and(allowed, real) if padding else allowed.expand_as(allowed & real)
    return torch.logical_or(allowed, same) if itself else allowed


@right("local_attention", of="within_window")
def within_window(queries, keys, real, window):
    return window_of(queries, keys, real, window)


@mistake("local_attention", "the distance is strictly below w; at w itself a token still sees",
         of="within_window")  # fmt: skip
def strictly_below(queries, keys, real, window):
    return window_of(queries, keys, real, window, near=lambda d, w: abs(d) < w)


@mistake("local_attention", "the window has one side: a token sees as far to its right",
         of="within_window")  # fmt: skip
def left_only(queries, keys, real, window):
    return window_of(queries, keys, real, window, near=lambda d, w: 0 <= d <= w)


@mistake("local_attention", "the window has no right end: a distance has no sign",
         of="within_window")  # fmt: skip
def no_absolute(queries, keys, real, window):
    return window_of(queries, keys, real, window, near=lambda d, w: d <= w)


@mistake("local_attention", "padding is seen: a key has to be near and real", of="within_window")
def padding_seen(queries, keys, real, window):
    return window_of(queries, keys, real, window, padding=False)


@mistake("local_attention", "padding does not see itself; a softmax over nothing is not a number",
         of="within_window")  # fmt: skip
def itself_unseen(queries, keys, real, window):
    return window_of(queries, keys, real, window, itself=False)


@mistake("local_attention", "the mask is inverted: True is where a token may be attended to",
         of="within_window")  # fmt: skip
def window_inverted(queries, keys, real, window):
    return ~window_of(queries, keys, real, window)


@mistake("local_attention", "a key is seen that is near or real; it has to be both",
         of="within_window")  # fmt: skip
def near_or_real(queries, keys, real, window):
    return window_of(queries, keys, real, window, padding=False) | real


@right("local_attention", of="local_mask")
def local_mask(mask, window):
    from minbert import attention

    places = torch.arange(mask.shape[-1])
    return attention.within_window(places, places, mask, window)


@mistake("local_attention", "`window` is on either side; here it is both sides together",
         of="local_mask")  # fmt: skip
def window_halved(mask, window):
    return local_mask(mask, window // 2)


@mistake(
    "local_attention", "the mask forgets padding: pass on which keys are real", of="local_mask"
)
def padding_forgotten(mask, window):
    return local_mask(torch.ones_like(mask), window)


@mistake("local_attention", "the mask asks whether the query is real; it is keys that must be",
         of="local_mask")  # fmt: skip
def queries_masked(mask, window):
    return local_mask(mask, window).transpose(-1, -2)


@mistake("local_attention", "the batch has lost a dimension: the mask is (B, 1, S, S)",
         of="local_mask")  # fmt: skip
def dimension_lost(mask, window):
    return local_mask(mask, window).squeeze(1)


def attend(query, key, value, mask, dropout):
    from minbert import attention

    mask = mask if isinstance(mask, torch.Tensor) else attention.local_mask(*mask)
    return attention.scaled_dot_product_attention(query, key, value, mask, dropout)


@right("local_attention", of="local_attention")
def local(query, key, value, mask, window, dropout):
    return attend(query, key, value, (mask, window), dropout)


@mistake("local_attention", "the window is not used: this is attention to all real tokens",
         of="local_attention")  # fmt: skip
def window_ignored(query, key, value, mask, window, dropout):
    return attend(query, key, value, mask, dropout)


@mistake("local_attention", "there is no dropout; in eval mode nobody sees that",
         of="local_attention")  # fmt: skip
def local_without_dropout(query, key, value, mask, window, dropout):
    return attend(query, key, value, (mask, window), nn.Identity())


@mistake("local_attention", "only the context is returned; the probabilities belong to it",
         of="local_attention")  # fmt: skip
def context_alone(query, key, value, mask, window, dropout):
    return local(query, key, value, mask, window, dropout)[0]


# Dynamic convolution


def convolved(value, kernel, *, offset=0, flip=False, wrap=False, at_source=False, cut=False,
              weights=lambda k: k, split=None):  # fmt: skip
    """dynamic_convolution as a sum over the K neighbours, with its parts open to change."""
    _, length, heads, width = kernel.shape
    kernel = weights(kernel).double()
    kernel = kernel.flip(-1) if flip else kernel
    values = split(value, heads) if split else value.unflatten(-1, (heads, -1))  # (B, S, N, D)
    rows = []
    for s in range(length):
        total = torch.zeros_like(values[:, 0], dtype=torch.float64)
        for k in range(width):
            place = s + k - width // 2 + offset
            if wrap:
                place %= length
            if 0 <= place < length:
                weight = kernel[:, place if at_source else s, :, k]
                total = total + weight.unsqueeze(-1) * values[:, place].double()
        rows.append(total.to(value.dtype))
    if cut:
        rows = rows[width // 2 : length - width // 2]
    return torch.stack(rows, 1).flatten(2)


@right("convolution")
def dynamic_convolution(value, kernel):
    from minbert import attention

    heads, around = kernel.shape[2], kernel.shape[3] // 2
    for each in (value, nn.functional.pad(value, (0, 0, around, around))):
        attention.split_heads(each, heads)  # either may be what a solution asks for: record both
    found = convolved(value, kernel)
    return attention.merge_heads(found.unflatten(-1, (heads, -1)).transpose(1, 2))


@mistake("convolution", "the kernel is flipped: weight k belongs to place s + k - K // 2")
def kernel_flipped(value, kernel):
    return convolved(value, kernel, flip=True)


@mistake("convolution", "the ends meet: beyond both ends there are zeros, not the other end")
def ends_meet(value, kernel):
    return convolved(value, kernel, wrap=True)


@mistake("convolution", "the padding is missing, so places at both ends are lost")
def ends_lost(value, kernel):
    return convolved(value, kernel, cut=True) if value.size(1) > kernel.size(3) else value[:, :0]


@mistake("convolution", "the window is shifted to the right by one")
def shifted_right(value, kernel):
    return convolved(value, kernel, offset=1)


@mistake("convolution", "the window is shifted to the left by one")
def shifted_left(value, kernel):
    return convolved(value, kernel, offset=-1)


@mistake("convolution", "the window ends at the token: half of it is to lie on the right")
def window_behind(value, kernel):
    return convolved(value, kernel, offset=-(kernel.size(3) // 2))


@mistake("convolution", "the weights are those of the place that is read; each place has a kernel "
         "for its own sum")  # fmt: skip
def kernel_of_source(value, kernel):
    return convolved(value, kernel, at_source=True)


@mistake("convolution", "the kernel goes through a softmax, which it has seen before")
def softmax_again(value, kernel):
    return convolved(value, kernel, weights=lambda k: k.softmax(-1))


@mistake("convolution", "the softmax is over places; a kernel is what the caller made it")
def softmax_over_places(value, kernel):
    return convolved(value, kernel, weights=lambda k: k.softmax(1))


@mistake("convolution", "all heads have the first head's kernel")
def one_kernel(value, kernel):
    return convolved(value, kernel, weights=lambda k: k[:, :, :1].expand_as(k))


@mistake("convolution", "heads take every N-th feature; head n owns the n-th slice")
def heads_interleaved(value, kernel):
    found = convolved(value, kernel,
                      split=lambda v, n: v.unflatten(-1, (-1, n)).transpose(-1, -2))  # fmt: skip
    return found.unflatten(-1, (kernel.size(2), -1)).transpose(-1, -2).flatten(-2)
