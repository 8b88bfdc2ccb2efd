"""Part 4, pre-training: right answers, and mistakes."""

from __future__ import annotations

import numpy as np
import torch

from lab.answers import mistake, right
from lab.answers.formulas import linear, softmax

# Masking


def corrupted(
    self,
    input_ids,
    generator,
    *,
    rate=None,
    shares=None,
    special=False,
    reused=False,
    pool=None,
    one=False,
    whole=None,
    answer=None,
    place=None,
):
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


@mistake(
    "mlm_masking",
    "the draw that chooses a token also decides what becomes of it, so that "
    "nearly all become [MASK]; draw twice",
)
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


@mistake(
    "mlm_masking",
    "`random_share` is taken of those that are not [MASK]; it is a share of all that were chosen",
)
def share_of_rest(self, input_ids, generator):
    rest = (1 - self.mask_share) * self.random_share
    return corrupted(self, input_ids, generator, shares=(self.mask_share, rest))


@mistake("mlm_masking", "[MASK] and random token have changed shares")
def shares_swapped(self, input_ids, generator):
    return corrupted(self, input_ids, generator, shares=(self.random_share, self.mask_share))


@mistake("mlm_masking", "a random token may be a special one; draw from `self.ordinary`")
def random_special(self, input_ids, generator):
    return corrupted(self, input_ids, generator, pool=np.arange(len(self.is_special)))


@mistake("mlm_masking", "one random token stands at all places; draw one for each")
def one_random_token(self, input_ids, generator):
    return corrupted(self, input_ids, generator, one=True)


@mistake(
    "mlm_masking",
    "only tokens that became [MASK] are said to be chosen; the model has to find the others too",
)
def only_masks_chosen(self, input_ids, generator):
    return corrupted(self, input_ids, generator, answer=lambda self, ids, chosen, masked: masked)


@mistake(
    "mlm_masking", "all ordinary tokens are said to be chosen, so there is a label at every place"
)
def labels_everywhere(self, input_ids, generator):
    return corrupted(
        self, input_ids, generator, answer=lambda self, ids, chosen, masked: ~self.is_special[ids]
    )


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


def scores(self, batch, task, *, pick=None, types=True, after=lambda x: x):
    """MaskedLanguageModel.forward with its parts open to change."""
    output = self.encoder(
        batch.input_ids,
        token_type_ids=batch.token_type_ids if types else None,
        layout=batch.layout,
    )
    states = output.last_hidden_state
    flat = states.reshape(-1, states.shape[-1])
    picked = flat[batch.masked] if pick is None else pick(states, flat, batch)
    return after(linear(self.heads[task], picked))


@right("masked_loss")
def masked_scores(self, batch, task="mlm"):
    return scores(self, batch, task)


@mistake(
    "masked_loss",
    "every token is scored, so the loss runs over all of them; masked ones alone count",
)
def all_scored(self, batch, task="mlm"):
    return scores(self, batch, task, pick=lambda states, flat, batch: flat)


@mistake("masked_loss", "the first M tokens are scored; `batch.masked` says which")
def first_scored(self, batch, task="mlm"):
    return scores(self, batch, task, pick=lambda states, flat, batch: flat[: len(batch.masked)])


@mistake("masked_loss", "the tokens that were not masked are scored")
def unmasked_scored(self, batch, task="mlm"):
    def pick(states, flat, batch):
        rest = [n for n in range(len(flat)) if n not in batch.masked.tolist()]
        return flat[rest]

    return scores(self, batch, task, pick=pick)


@mistake(
    "masked_loss",
    "the batch is flattened the wrong way: tokens of all rows follow one another, row by row",
)
def flattened_by_columns(self, batch, task="mlm"):
    def pick(states, flat, batch):
        columns = states.transpose(0, 1).flatten(0, 1) if states.dim() == 3 else flat
        return columns[batch.masked]

    return scores(self, batch, task, pick=pick)


@mistake("masked_loss", "segments are not given to the encoder")
def segments_left_out(self, batch, task="mlm"):
    return scores(self, batch, task, types=False)


@mistake("masked_loss", "the scores go through a softmax; the loss does that")
def softmax_of_scores(self, batch, task="mlm"):
    return scores(self, batch, task, after=softmax)


@mistake("masked_loss", "the scores are cut off from the parameters, so nothing is learnt")
def scores_detached(self, batch, task="mlm"):
    with torch.no_grad():
        return scores(self, batch, task)
