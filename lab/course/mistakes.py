"""The lab's catalogue of mistakes in the places of a checkout, and a few that only it invites."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from lab.answers import MISTAKES, RIGHT, Mistake
from lab.answers import attention as of_attention
from lab.answers import bert as of_bert
from lab.answers.step import steps
from lab.course import reference as ref
from lab.course.parts import Part
from lab.harness import import_files
from lab.source import Target

Function = Callable[..., Any]
STAND_FOR = {"bert": ref.__name__, "optimizer": "optim.adamw"}
"""A checkout's module -> what stands for it; the library's optimizer is the handout's, as it is."""

PLACES: dict[str, tuple[str, Function]] = {
    "scaled_dot_product_attention": (
        "BertSelfAttention.attention",
        lambda function: ref.attend_with(function, of_attention.merge_heads),
    ),
    "merge_heads": (
        "BertSelfAttention.attention",
        lambda function: ref.attend_with(of_attention.attention, function),
    ),
    "AddNorm.forward": ("BertLayer.add_norm", ref.add_norm_with),
    "FeedForward.forward": (
        "BertLayer.forward",
        lambda function: ref.layer_with(of_bert.layer, function),
    ),
    "BertLayer.forward": (
        "BertLayer.forward",
        lambda function: ref.layer_with(function, of_bert.feed_forward),
    ),
    "Embeddings.forward": ("BertModel.embed", ref.embed_with),
    "Bert.encode": ("BertModel.encode", ref.encode_with),
    "Pooler.forward": (
        "BertModel.forward",
        lambda function: ref.forward_with(function, of_bert.pool),
    ),
    "Bert.pool": ("BertModel.forward", lambda function: ref.forward_with(of_bert.pooler, function)),
}
"""The lab's function -> the handout's, and how the one is made of the other."""

SAID: dict[str, str | None] = {
    "mask_added": None,  # it is additive here
    "masked_with_little": None,
    "no_segments": "the embedding of the token types is missing, which are all 0",
    "pool_first_row": "the batch's first row is pooled in place of each row's first token",
    "pool_without_pooler": "the first tokens are returned as they are; pooler_dense maps them",
    "counted_twice": "the step count is one too high: it is 1 at the first step",
    "step_too_high": "the step count is one too high: it is 1 at the first step",
    "step_too_low": "the step count is one too low: it is 1 at the first step",
    "l2_in_gradient": "weight decay is added to the gradient, as L2; it comes last, on p alone",
    "always_before": "the decay comes before the update; the handout has it last",
    "textbook_for_efficient": "this is the form with m hat and v hat; the handout asks for the "
    "efficient one, at the end of section 2 of the paper, in which eps is not corrected",
    "always_corrected": None,  # said as correct_bias_ignored
}
"""What is said here of a mistake of the lab, by its name; None where it is none here."""


class Known(NamedTuple):
    """A mistake in the place of one of the reference's functions."""

    says: str
    target: Target
    function: Function


def known(part: Part) -> Iterator[Known]:
    """The mistakes of a part: the lab's, then its own."""
    import_files("lab.answers")
    for mistake in MISTAKES:
        if mistake.exercise not in part.like:
            continue
        says = SAID.get(mistake.name, mistake.says)
        place = moved(mistake, part)
        if says is not None and place is not None:
            yield Known(says, *place)
    for place, says, function in OWN:
        if place in part.targets:
            module, name = place.split(":")
            yield Known(says, Target(STAND_FOR[module], name), function)
    if part.name == "attention":
        yield from two_at_once()


def moved(mistake: Mistake, part: Part) -> tuple[Target, Function] | None:
    """Where a mistake of the lab stands in the reference, and as what; None: it has no place."""
    if part.name == "adamw":
        return mistake.target, mistake.function
    if mistake.target.name not in PLACES:
        return None
    name, adapt = PLACES[mistake.target.name]
    if f"bert:{name}" not in part.targets:
        return None
    return Target(STAND_FOR["bert"], name), adapt(mistake.function)


def right_of(part: Part) -> dict[Target, Function]:
    """What is planted under every mistake: for the optimizer, the lab's right answers."""
    import_files("lab.answers")
    return {t: f for t, f in RIGHT.items() if part.name == "adamw" and t.module == "optim.adamw"}


def two_at_once() -> Iterator[Known]:
    """Mistakes with the scale and with the mask together: one does not show without the other."""
    place = Target(STAND_FOR["bert"], "BertSelfAttention.attention")
    scales = {
        "the scores are not scaled": lambda size: 1.0,
        "the scores are divided by D, not by √D": lambda size: 1 / size,
    }
    masks = {
        "the mask, which is 0 at real tokens, is taken for 1 there": taken_for_ones,
        "the mask is not used": lambda scores, mask: scores,
        "the mask is multiplied with the scores": lambda scores, mask: scores * mask,
    }
    for scale, mask, dropped in itertools.product(scales, masks, (True, False)):
        more = "" if dropped else ", and there is no dropout"
        function = formed(scale=scales[scale], masked=masks[mask], dropped=dropped)
        yield Known(f"{scale}, and {mask}{more}", place, function)


def taken_for_ones(scores: Tensor, mask: Tensor) -> Tensor:
    return scores.masked_fill(mask == 0, -1e9)


def formed(
    *,
    scale: Callable[[int], float] = lambda size: size**-0.5,
    masked: Callable[[Tensor, Tensor], Tensor] = lambda scores, mask: scores + mask,
    dim: int = -1,
    dropped: bool = True,
) -> Function:
    """`BertSelfAttention.attention` with its parts open to change."""

    def attention(self, key, query, value, attention_mask):
        scores = query @ key.transpose(-2, -1) * scale(query.size(-1))
        shares = masked(scores, attention_mask).softmax(dim)
        return of_attention.merge_heads((self.dropout(shares) if dropped else shares) @ value)

    return attention


# Mistakes of the handout's own functions


def scores_of(query: Tensor, key: Tensor) -> Tensor:
    return query @ key.transpose(-2, -1) / query.size(-1) ** 0.5


def attended(self: Any, probabilities: Tensor, value: Tensor) -> Tensor:
    return of_attention.merge_heads(self.dropout(probabilities) @ value)


def mask_after_softmax(self, key, query, value, attention_mask):
    return attended(self, scores_of(query, key).softmax(-1) + attention_mask, value)


def mask_before_scale(self, key, query, value, attention_mask):
    scores = (query @ key.transpose(-2, -1) + attention_mask) * query.size(-1) ** 0.5
    return attended(self, scores.softmax(-1), value)


def heads_not_merged(self, key, query, value, attention_mask):
    scores = scores_of(query, key) + attention_mask
    return self.dropout(scores.softmax(-1)) @ value


def heads_beside_tokens(self, key, query, value, attention_mask):
    return heads_not_merged(self, key, query, value, attention_mask).transpose(1, 2)


def key_without_transpose(self, key, query, value, attention_mask):
    scores = query @ key / query.size(-1) ** 0.5 + attention_mask
    return attended(self, scores.softmax(-1), value)


def dense_left_out(self, input, output, dense_layer, dropout, ln_layer):
    return ln_layer(input + dropout(output))


def dense_after_dropout(self, input, output, dense_layer, dropout, ln_layer):
    return ln_layer(input + dense_layer(dropout(output)))


def dense_of_the_sum(self, input, output, dense_layer, dropout, ln_layer):
    return ln_layer(dropout(dense_layer(input + output)))


def own_modules(self, input, output, dense_layer, dropout, ln_layer):
    return self.attention_layer_norm(input + self.attention_dropout(self.attention_dense(output)))


def norms_of(self, hidden_states, attention_mask):
    """The first add & norm of a layer, right."""
    attended = self.self_attention(hidden_states, attention_mask)
    first = self.attention_dense, self.attention_dropout, self.attention_layer_norm
    return self.add_norm(hidden_states, attended, *first)


def dense_twice(self, hidden_states, attention_mask):
    middle = norms_of(self, hidden_states, attention_mask)
    inner = self.out_dense(F.gelu(self.interm_dense(middle)))
    return self.add_norm(middle, inner, self.out_dense, self.out_dropout, self.out_layer_norm)


def norm_of_the_first(self, hidden_states, attention_mask):
    middle = norms_of(self, hidden_states, attention_mask)
    inner = F.gelu(self.interm_dense(middle))
    return self.add_norm(middle, inner, self.out_dense, self.out_dropout, self.attention_layer_norm)


def mask_left_out(self, hidden_states, attention_mask):
    return norms_then_feed_forward(self, hidden_states, torch.zeros_like(attention_mask))


def norms_then_feed_forward(self, hidden_states, attention_mask):
    middle = norms_of(self, hidden_states, attention_mask)
    inner = F.gelu(self.interm_dense(middle))
    return self.add_norm(middle, inner, self.out_dense, self.out_dropout, self.out_layer_norm)


def embedded(self, words: Tensor, positions: Tensor) -> Tensor:
    """The rest of `embed`, right."""
    types = self.tk_type_embedding.weight[0]
    return self.embed_dropout(self.embed_layer_norm(words + positions + types))


def positions_of_ids(self, input_ids):
    return embedded(self, self.word_embedding(input_ids), self.pos_embedding(input_ids % 9))


def one_position(self, input_ids):
    return embedded(self, self.word_embedding(input_ids), self.pos_embedding.weight[0])


def dropped_twice(self, input_ids):
    positions = self.pos_embedding.weight[: input_ids.size(1)]
    return self.embed_dropout(embedded(self, self.word_embedding(input_ids), positions))


def last_token(self, input_ids, attention_mask):
    states = self.encode(self.embed(input_ids), attention_mask)
    pooled = torch.tanh(self.pooler_dense(states[:, -1]))
    return {"last_hidden_state": states, "pooler_output": pooled}


def mask_not_used(self, hidden_states, attention_mask):
    for layer in self.bert_layers:
        hidden_states = layer(hidden_states, torch.zeros_like(attention_mask)[:, None, None, :])
    return hidden_states


def mask_not_extended(self, hidden_states, attention_mask):
    for layer in self.bert_layers:
        hidden_states = layer(hidden_states, attention_mask[:, None, None, :].float())
    return hidden_states


def count_reset(self, closure=None):
    def count(self, state):
        self._count = 1 if state["step"] == 1 else self._count + 1
        return self._count

    return steps(self, closure, count=count)


OWN: tuple[tuple[str, str, Function], ...] = (
    ("bert:BertSelfAttention.attention",
     "the mask is added after the softmax; before it, -10,000 makes a share of 0",
     mask_after_softmax),
    ("bert:BertSelfAttention.attention",
     "the mask is subtracted; it is -10,000 at padding, and is added",
     formed(masked=lambda scores, mask: scores - mask)),
    ("bert:BertSelfAttention.attention",
     "the mask is multiplied with the scores; it is 0 where tokens are real, and is added",
     formed(masked=lambda scores, mask: scores * mask)),
    ("bert:BertSelfAttention.attention",
     "the mask, which is 0 at real tokens, is taken for 1 there: attention goes to padding",
     formed(masked=taken_for_ones)),
    ("bert:BertSelfAttention.attention",
     "the scores are multiplied by √D, and the mask with them; they are divided by it",
     mask_before_scale),
    ("bert:BertSelfAttention.attention",
     "softmax runs over the queries; each query's row over the keys must sum to 1",
     formed(dim=-2)),
    ("bert:BertSelfAttention.attention",
     "softmax runs over the heads; it belongs to the keys, the last dimension", formed(dim=1)),
    ("bert:BertSelfAttention.attention",
     "the heads are not merged: transpose them beside the tokens, then put them together",
     heads_not_merged),
    ("bert:BertSelfAttention.attention",
     "the heads stand beside the tokens, and are not put together to (B, S, H)",
     heads_beside_tokens),
    ("bert:BertSelfAttention.attention",
     "the key is not transposed: scores are (S, S), of a query's and a key's D features",
     key_without_transpose),
    ("bert:BertLayer.add_norm", "the linear map, dense_layer, is missing", dense_left_out),
    ("bert:BertLayer.add_norm", "dropout comes before dense_layer; it acts on what that gives",
     dense_after_dropout),
    ("bert:BertLayer.add_norm",
     "dense_layer and dropout act on the sum; they act on the block's output, before it",
     dense_of_the_sum),
    ("bert:BertLayer.add_norm",
     "the attention's modules are used always; those that are passed in are meant", own_modules),
    ("bert:BertLayer.forward", "out_dense is used outside of add & norm, where it is used again",
     dense_twice),
    ("bert:BertLayer.forward", "the second add & norm has the first one's LayerNorm",
     norm_of_the_first),
    ("bert:BertLayer.forward", "the mask does not reach the attention", mask_left_out),
    ("bert:BertModel.embed", "positions are looked up by the words' ids; they are 0 to S - 1",
     positions_of_ids),
    ("bert:BertModel.embed", "every token has position 0", one_position),
    ("bert:BertModel.embed", "dropout acts twice", dropped_twice),
    ("bert:BertModel.forward", "the last token is pooled; [CLS] is the first", last_token),
    ("bert:BertModel.encode", "the mask does not reach the layers", mask_not_used),
    ("bert:BertModel.encode",
     "the layers are given 1 and 0; get_extended_attention_mask makes 0 and -10,000 of them",
     mask_not_extended),
    ("optimizer:AdamW.step",
     "one step count, which a new parameter resets, is shared by all; each has its own",
     count_reset),
)  # fmt: skip
"""A part's function, what is said, and the function with the mistake."""
