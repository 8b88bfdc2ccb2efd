"""Part 1: BERT."""

from __future__ import annotations

from lab.exercises.record import Exercise

BERT = (
    Exercise(
        name="embeddings",
        title="embeddings",
        part="bert",
        targets=("minbert.encoders.bert:Embeddings.forward",),
        points=3,
        level=1,
        minutes=15,
        hints=(
            "A token's vector says three things: which word, which place, which segment.",
            "Look all three up, add them, and normalise the sum once.",
            "Dropout comes last, on the normalised sum; `self.norm` and `self.dropout` are there.",
        ),
    ),
    Exercise(
        name="attention_mask",
        title="attention mask",
        part="bert",
        targets=("minbert.attention:key_mask",),
        points=2,
        level=1,
        minutes=15,
        hints=(
            "Scores are (B, N, S, S): which of the four dimensions does the mask speak about?",
            "It says which keys are real, and keys are the last dimension of the scores.",
            "Give it two dimensions of size 1, for heads and for queries, between B and S.",
        ),
    ),
    Exercise(
        name="attention",
        title="scaled dot-product attention",
        part="bert",
        targets=("minbert.attention:scaled_dot_product_attention",),
        points=6,
        minutes=45,
        hints=(
            "Follow equation 1 of the paper from the inside out: product, scale, mask, softmax.",
            "A masked score must be -inf before the softmax, for then its probability is 0.",
            "Softmax runs over the keys, the last dimension. Dropout acts on the probabilities "
            "that meet the values; those that you return have seen no dropout.",
        ),
    ),
    Exercise(
        name="heads",
        title="splitting and merging heads",
        part="bert",
        targets=("minbert.attention:split_heads", "minbert.attention:merge_heads"),
        points=4,
        hints=(
            "The H features of a token are N slices of D; head n owns slice n.",
            "`view` cuts a dimension in two, `transpose` changes places; do them in this order.",
            "To merge, undo the transpose first. Its result is not contiguous: `reshape`, not "
            "`view`, puts the slices together again.",
        ),
    ),
    Exercise(
        name="self_attention",
        title="multi-head self-attention",
        part="bert",
        targets=("minbert.attend:attend", "minbert.encoders.bert:SelfAttention.forward"),
        points=6,
        level=3,
        minutes=60,
        uses=("attention_mask", "attention", "heads"),
        hints=(
            "Three linear maps of the same x, attention in each head, one more linear map.",
            "In `attend`, `layout.per_sequence(function, q, k, v)` calls your function of "
            "(q, k, v, mask) with (B, S, H) and a mask (B, S), and brings what it returns back "
            "into the layout. `SelfAttention.forward` hands it what the first three maps give.",
            "Inside your function: split the heads of all three, attend with `key_mask(mask)` and "
            "`dropout`, merge the heads. Add the probabilities to `attentions` if it is a list. "
            "After `attend` comes `self.output`.",
        ),
    ),
    Exercise(
        name="add_norm",
        title="add & norm, with dropout in its place",
        part="bert",
        targets=("minbert.encoders.bert:AddNorm.forward",),
        points=3,
        level=1,
        minutes=15,
        hints=(
            "The residual is a road that nothing blocks: what may dropout touch?",
            "BERT is post-norm: LayerNorm comes after the sum.",
            "Dropout on `output` alone, then the sum with `residual`, then `self.norm`.",
        ),
    ),
    Exercise(
        name="feed_forward",
        title="feed-forward block",
        part="bert",
        targets=("minbert.encoders.bert:FeedForward.forward",),
        points=3,
        level=1,
        minutes=15,
        hints=(
            "From H features to I and back, with something between that is not linear.",
            "The activation is GELU, and BERT has the exact one.",
            "`F.gelu` is exact unless you ask for the tanh form. Nothing follows the second map.",
        ),
    ),
    Exercise(
        name="layer",
        title="the layer",
        part="bert",
        targets=("minbert.encoders.bert:BertLayer.forward",),
        points=4,
        level=1,
        minutes=15,
        uses=("self_attention", "add_norm", "feed_forward"),
        hints=(
            "Two blocks, each followed by its own add & norm.",
            "The second block, and its residual, start from what the first add & norm made.",
            "`self.attention_norm(residual, output)` takes the residual first. Pass `layout` and "
            "`attentions` on to the attention.",
        ),
    ),
    Exercise(
        name="encoder",
        title="the stack of layers",
        part="bert",
        targets=("minbert.encoders.bert:Bert.encode",),
        points=3,
        level=1,
        minutes=20,
        uses=("embeddings", "layer"),
        hints=(
            "The caller wants every state, not only the last.",
            "Begin a list with the embeddings; each layer adds one more state.",
            "`layout.positions` goes to the embeddings. Call a layer as "
            "`self.run(layer, x, layout, attentions)`, which also knows gradient checkpointing.",
        ),
    ),
    Exercise(
        name="pooler",
        title="pooler",
        part="bert",
        targets=(
            "minbert.encoders.bert:Pooler.forward",
            "minbert.encoders.bert:Bert.pool",
        ),
        points=3,
        level=1,
        minutes=20,
        hints=(
            "One token of each sequence was made to stand for all of it.",
            "That token is [CLS], the first: `layout.first` finds it, padded or packed.",
            "`Pooler.forward` is a linear map and a tanh; `Bert.pool` hands it the first tokens.",
        ),
    ),
    Exercise(
        name="loading",
        title="loading weights: names of keys",
        part="bert",
        targets=("minbert.loading:hub_names", "minbert.loading:_modern_name"),
        points=4,
        minutes=40,
        hints=(
            "The table of keys names modules; a parameter's last word, weight or bias, stays.",
            "A layer's number stands for {n} in the table: take it out to look the name up, and "
            "put it in again. Some entries name a parameter itself, such as the head's bias.",
            "`_modern_name` strips the prefix if it is there, and turns a last word gamma or beta "
            "into weight or bias. A name such as beta_layer.weight stays as it is.",
        ),
    ),
)
