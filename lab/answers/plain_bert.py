"""BERT's modules as students write it, and mistakes that change a line."""

from __future__ import annotations

from torch.nn import functional as F

from lab.answers import plain


@plain("embeddings")
def embeddings(self, input_ids, token_type_ids, positions):
    words = self.word(input_ids)
    places = self.position(positions)
    types = self.token_type(token_type_ids)
    x = words + places + types
    x = self.norm(x)
    return self.dropout(x)


embeddings.but(
    "dropout is on in eval mode too: F.dropout wants `self.training`, or call `self.dropout`",
    "return self.dropout(x)",
    "return F.dropout(x, self.dropout.p)",
)
embeddings.but(
    "LayerNorm's own weight and bias are left out; call `self.norm`",
    "self.norm(x)",
    "F.layer_norm(x, x.shape[-1:], eps=self.norm.eps)",
)
embeddings.but(
    "dropout acts on the word's vector alone; it comes last, on the normalised sum",
    "self.word(input_ids)",
    "self.dropout(self.word(input_ids))",
    "return self.dropout(x)",
    "return x",
)
embeddings.but(
    "the word's vectors are cut off (detach), so the table never learns",
    "self.word(input_ids)",
    "self.word(input_ids).detach()",
)


@plain("add_norm")
def add_norm(self, residual, output):
    output = self.dropout(output)
    total = residual + output
    return self.norm(total)


add_norm.but(
    "the residual is changed in place (+=); make a new tensor",
    "total = residual + output",
    "residual += output\n    total = residual",
)
add_norm.but(
    "the residual is added once more after LayerNorm, which comes last",
    "return self.norm(total)",
    "return residual + self.norm(total)",
)
add_norm.but(
    "the variance is divided by H - 1; LayerNorm's is by H (unbiased=False), or call `self.norm`",
    "self.norm(total)",
    (
        "(total - total.mean(-1, keepdim=True)) / (total.var(-1, keepdim=True) + "
        "self.norm.eps).sqrt() * self.norm.weight + self.norm.bias"
    ),
)
add_norm.but(
    "mean and variance are those of the whole batch; each token has its own",
    "self.norm(total)",
    "F.layer_norm(total, total.shape) * self.norm.weight + self.norm.bias",
)
add_norm.but(
    "both parts are normalised and then added; the sum is normalised, once",
    "total = residual + output\n    return self.norm(total)",
    "return self.norm(residual) + self.norm(output)",
)
add_norm.but(
    "dropout is on in eval mode too: F.dropout wants `self.training`, or call `self.dropout`",
    "self.dropout(output)",
    "F.dropout(output, self.dropout.p, True)",
)


@plain("feed_forward")
def feed_forward(self, x):
    h = self.inner(x)
    h = F.gelu(h)
    return self.outer(h)


feed_forward.but(
    "there is a dropout between the two maps; BERT has it in add & norm",
    "F.gelu(h)",
    "F.dropout(F.gelu(h), 0.1, self.training)",
)
feed_forward.but(
    "this is Φ(x) alone; GELU is x Φ(x)", "F.gelu(h)", "0.5 * (1 + torch.erf(h / 2 ** 0.5))"
)
feed_forward.but(
    "erf is given x; Φ(x) is (1 + erf(x / √2)) / 2", "F.gelu(h)", "h * 0.5 * (1 + torch.erf(h))"
)
feed_forward.but(
    "GELU comes before the first map; it stands between the two",
    "self.inner(x)",
    "self.inner(F.gelu(x))",
    "    h = F.gelu(h)\n",
    "",
)


@plain("layer")
def layer(self, x, layout, attentions=None):
    a = self.attention(x, layout, attentions)
    y = self.attention_norm(x, a)
    f = self.feed_forward(y)
    z = self.feed_forward_norm(y, f)
    return z


layer.but(
    "the residuals are the blocks' own outputs; each is what went into the block",
    "(x, a)",
    "(a, a)",
    "(y, f)",
    "(f, f)",
)
layer.but("x is added before add & norm, which adds it once more", "(x, a)", "(x, x + a)")
layer.but(
    "the feed-forward block is missing: its sum is what a layer returns", "return z", "return y"
)
layer.but(
    "the second residual is missing: add & norm is given y and what became of it",
    "self.feed_forward_norm(y, f)",
    "self.feed_forward_norm.norm(self.feed_forward_norm.dropout(f))",
)
layer.but(
    "the feed-forward block comes first; attention does",
    (
        "a = self.attention(x, layout, attentions)\n"
        "    y = self.attention_norm(x, a)\n"
        "    f = self.feed_forward(y)\n"
        "    z = self.feed_forward_norm(y, f)"
    ),
    (
        "f = self.feed_forward(x)\n"
        "    y = self.feed_forward_norm(x, f)\n"
        "    a = self.attention(y, layout, attentions)\n"
        "    z = self.attention_norm(y, a)"
    ),
)
