"""Pre-training, and rates of layers as students write it, and mistakes that change a line."""

from __future__ import annotations

import numpy as np

from lab.answers import plain


@plain("mlm_masking")
def masked(self, input_ids, generator):
    if self.whole_words:
        words = self.words(input_ids)
    else:
        words = np.arange(len(input_ids))
    draws = generator.random(len(input_ids))
    chosen = draws[words] < self.rate
    chosen = chosen & ~self.is_special[input_ids]
    fate = generator.random(len(input_ids))
    seen = input_ids.copy()
    to_mask = chosen & (fate < self.mask_share)
    to_random = chosen & (fate >= self.mask_share) & (fate < self.mask_share + self.random_share)
    seen[to_mask] = self.mask_id
    seen[to_random] = generator.choice(self.ordinary, size=int(to_random.sum()))
    return seen, chosen


masked.but(
    "the shares are taken of all tokens; they are of the chosen ones",
    "chosen & (fate < self.mask_share)",
    "chosen & (fate < self.mask_share * self.rate)",
)
masked.but(
    (
        "chosen tokens that stay as they are are left out of `chosen`; the model has to tell "
        "them too"
    ),
    "return seen, chosen",
    "return seen, to_mask | to_random",
)
masked.but(
    "all tokens of a word are always chosen together; that is for `whole_words`",
    "if self.whole_words:",
    "if True:",
)
masked.but(
    "a fixed number of tokens is chosen in each row; each token is drawn for itself",
    "chosen = draws[words] < self.rate",
    (
        "chosen = np.zeros(len(input_ids), bool)\n"
        "    chosen[np.argsort(draws)[: round(self.rate * len(input_ids))]] = True"
    ),
)
masked.but(
    "80 % is written into the code; it is `self.mask_share`",
    "to_mask = chosen & (fate < self.mask_share)",
    "to_mask = chosen & (fate < 0.8)",
    (
        "to_random = chosen & (fate >= self.mask_share) & (fate < self.mask_share + "
        "self.random_share)"
    ),
    "to_random = chosen & (fate >= 0.8) & (fate < 0.8 + self.random_share)",
)
masked.but(
    "the chosen places are returned as numbers; an array of bool is asked for, (S,)",
    "return seen, chosen",
    "return seen, np.flatnonzero(chosen)",
)
masked.but(
    "every chosen token becomes [MASK] or another; the shares say how many",
    "chosen & (fate < self.mask_share)",
    "chosen",
)
masked.but(
    "the number of [MASK] is bert-base's, 103; it is `self.mask_id`", "= self.mask_id", "= 103"
)
masked.but(
    "a row always has a chosen token; by chance there may be none",
    "    fate =",
    "    if not chosen.any():\n        chosen[len(chosen) // 2] = True\n    fate =",
)


@plain("masked_loss")
def masked_scores(self, batch, task="mlm"):
    out = self.encoder(batch.input_ids, token_type_ids=batch.token_type_ids, layout=batch.layout)
    hidden = out.last_hidden_state
    flat = hidden.reshape(-1, hidden.size(-1))
    return self.heads[task](flat[batch.masked])


masked_scores.but(
    "the states are cut off (detach), so the encoder is not trained",
    "flat[batch.masked]",
    "flat.detach()[batch.masked]",
)
masked_scores.but(
    "the pooler's vector is scored, which is of a row; each masked token has a state of its own",
    "flat[batch.masked]",
    "out.pooler_output[torch.zeros_like(batch.masked)]",
)
masked_scores.but(
    "the numbers of `masked` pick whole rows of the batch; they count tokens over all rows",
    "flat[batch.masked]",
    "hidden[batch.masked % hidden.size(0)]",
)
masked_scores.but(
    "the states are those of the next token; the masked one's own is scored",
    "flat[batch.masked]",
    "flat[(batch.masked + 1) % len(flat)]",
)
masked_scores.but(
    "flatten(0, 1) takes a packed batch (T, H) apart; keep the last dimension",
    "hidden.reshape(-1, hidden.size(-1))",
    "hidden.flatten(0, 1)",
)
masked_scores.but(
    "the scores go through a log_softmax; the loss does that",
    "self.heads[task](flat[batch.masked])",
    "self.heads[task](flat[batch.masked]).log_softmax(-1)",
)
masked_scores.but(
    "the encoder is not given the layout, so padding counts as tokens",
    ", layout=batch.layout)",
    (
        ") if batch.input_ids.dim() == 2 else self.encoder(batch.input_ids, "
        "token_type_ids=batch.token_type_ids, layout=batch.layout)"
    ),
)
masked_scores.but(
    "the scores come in another order than `masked`",
    "flat[batch.masked]",
    "flat[batch.masked.flip(0)]",
)


@plain("layer_rates")
def lr_scale(self, model):
    parts = [name for name, module in model.depths()]
    parts.reverse()
    scales = {}
    for name, part in model.part_of().items():
        d = parts.index(part)
        scales[name] = self.heads if part == "heads" else self.decay**d
    return scales


lr_scale.but(
    "the factor is decay times d; it is decay to the power d", "self.decay**d", "self.decay * d"
)
lr_scale.but("0.95 is written into the code; it is `self.decay`", "self.decay", "0.95")
lr_scale.but(
    "twelve layers are taken for granted; count the parts of `model.depths()`",
    "parts.index(part)",
    (
        '{"heads": 0, "pooler": 1, "embeddings": 14}.get(part, 14 - int(part.split()[-1]) if '
        'part.startswith("layer") else 14)'
    ),
)
lr_scale.but(
    "the exponent's sign is wrong: parts near the input learn slower",
    "self.decay**d",
    "self.decay**-d",
)
lr_scale.but(
    "layer 1 is taken for layer 10 and more: compare whole names",
    "d = parts.index(part)",
    "d = next(i for i, p in enumerate(parts) if part.startswith(p) or p.startswith(part))",
)
lr_scale.but(
    "the embeddings have the factor of layer 1; they are one part further",
    "self.decay**d",
    "self.decay**min(d, len(parts) - 2)",
)
