"""Pooling and texts as students write it, and mistakes that change a line."""

from __future__ import annotations

from lab.answers import plain


@plain("pooling", of="Padded.mean")
def mean(self, x):
    mask = self.mask.unsqueeze(-1).to(x.dtype)
    total = (x * mask).sum(dim=1)
    return total / mask.sum(dim=1)


mean.but(
    "the sum is divided by the real tokens of the whole batch; each row has its own count",
    "total / mask.sum(dim=1)",
    "total / mask.sum()",
)
mean.but(
    "x is changed in place (mul_), and it is needed later; make a new tensor",
    "(x * mask).sum(dim=1)",
    "x.mul_(mask).sum(dim=1)",
)
mean.but(
    "the mean runs over the features; it is over the tokens, dimension 1",
    "total = (x * mask).sum(dim=1)\n    return total / mask.sum(dim=1)",
    "return (x * mask).mean(dim=-1)",
)
mean.but(
    "the tokens' dimension stays, as 1; the result is (B, H)",
    "(x * mask).sum(dim=1)",
    "(x * mask).sum(dim=1, keepdim=True)",
    "mask.sum(dim=1)\n",
    "mask.sum(dim=1, keepdim=True)\n",
)
mean.but(
    "[CLS] is left out of the mean; it is a real token",
    "    total =",
    "    mask = mask.clone()\n    mask[:, 0] = 0\n    total =",
)
mean.but(
    "the count of real tokens is one too high",
    "total / mask.sum(dim=1)",
    "total / (mask.sum(dim=1) + 1)",
)
mean.but(
    "the sum is divided by the root of the count; a mean is by the count",
    "total / mask.sum(dim=1)",
    "total / mask.sum(dim=1).sqrt()",
)


@plain("pooling", of="Padded.max")
def maximum(self, x):
    mask = self.mask.unsqueeze(-1)
    x = x.masked_fill(~mask, float("-inf"))
    return x.max(dim=1).values


maximum.but(
    "x is changed in place (masked_fill_), and it is needed later; make a new tensor",
    "x.masked_fill(",
    "x.masked_fill_(",
)
maximum.but("max over a dimension gives values and places; return the values", ".values", "")
maximum.but(
    "padding counts as -1 in the maximum, and features may be smaller; -inf never wins",
    'float("-inf")',
    "-1.0",
)
maximum.but(
    "the number with the largest absolute value is taken; the largest is asked for",
    "return x.max(dim=1).values",
    "return x.gather(1, x.abs().nan_to_num(posinf=-1).argmax(dim=1, keepdim=True)).squeeze(1)",
)
maximum.but(
    "the maximum runs over the batch; it is over the tokens, dimension 1",
    "x.max(dim=1).values",
    "x.max(dim=0).values",
)


@plain("pair")
def encode_texts(self, texts, pairs=None, *, max_length=None):
    from minbert.tokenization import Encodings

    texts = list(texts)
    pairs = None if pairs is None else list(pairs)
    if pairs is not None and len(pairs) != len(texts):
        raise ValueError("as many first texts as second ones, please")
    all_ids, all_types, cut = [], [], []
    for row in range(len(texts)):
        a = self.fast.encode(texts[row], add_special_tokens=False).ids
        b = [] if pairs is None else self.fast.encode(pairs[row], add_special_tokens=False).ids
        special = 2 if pairs is None else 3
        if max_length is not None and len(a) + len(b) + special > max_length:
            cut.append(row)
            room = max_length - special
            while len(a) + len(b) > room:
                if len(a) > len(b):
                    a = a[:-1]
                else:
                    b = b[:-1]
        ids = [self.cls_id] + a + [self.sep_id]
        types = [0] * len(ids)
        if pairs is not None:
            ids = ids + b + [self.sep_id]
            types = types + [1] * (len(b) + 1)
        all_ids.append(ids)
        all_types.append(types)
    return Encodings(all_ids, all_types, tuple(cut))


encode_texts.but(
    "the last [SEP] has segment 0; it closes the second text, and has 1",
    "[1] * (len(b) + 1)",
    "[1] * len(b) + [0]",
)
encode_texts.but(
    "the [SEP] between has segment 1; it closes the first text, and has 0",
    "types = [0] * len(ids)\n        if",
    "types = [0] * (len(ids) - 1) + [int(pairs is not None)]\n        if",
)
encode_texts.but(
    "the last [SEP] is missing", "ids + b + [self.sep_id]", "ids + b", "(len(b) + 1)", "len(b)"
)
encode_texts.but(
    "there is a [CLS] before the second text; only the row begins with one",
    "ids + b + [self.sep_id]",
    "ids + [self.cls_id] + b + [self.sep_id]",
    "(len(b) + 1)",
    "(len(b) + 2)",
)
encode_texts.but(
    "two special tokens are counted for pairs, which have three",
    "special = 2 if pairs is None else 3",
    "special = 2",
)
encode_texts.but(
    "three special tokens are counted for single texts, which have two",
    "special = 2 if pairs is None else 3",
    "special = 3",
)
encode_texts.but(
    "the second text is cut first; it is the longer one", "if len(a) > len(b):", "if not b:"
)
encode_texts.but(
    "the first text is cut first; it is the longer one", "if len(a) > len(b):", "if a:"
)
encode_texts.but(
    "the shorter text is cut; it is the longer one",
    "if len(a) > len(b):",
    "if a and len(a) < len(b) or not b:",
)
encode_texts.but(
    "texts lose their beginning; they lose their end",
    "a = a[:-1]",
    "a = a[1:]",
    "b = b[:-1]",
    "b = b[1:]",
)
encode_texts.but(
    "a row of exactly max_length tokens counts as cut; it fits",
    "special > max_length",
    "special >= max_length",
)
encode_texts.but(
    "the row is cut at its end, the last [SEP] too; texts are cut, special tokens stay",
    (
        "            cut.append(row)\n"
        "            room = max_length - special\n"
        "            while len(a) + len(b) > room:\n"
        "                if len(a) > len(b):\n"
        "                    a = a[:-1]\n"
        "                else:\n"
        "                    b = b[:-1]\n"
    ),
    "            cut.append(row)\n",
    "all_ids.append(ids)\n        all_types.append(types)",
    "all_ids.append(ids[:max_length])\n        all_types.append(types[:max_length])",
)
encode_texts.but(
    "the rows in `cut` are counted from 1; they count from 0",
    "cut.append(row)",
    "cut.append(row + 1)",
)
encode_texts.but(
    "`cut` lists how many tokens were lost; it lists which rows",
    "cut.append(row)",
    "cut.append(len(a) + len(b) + special - max_length)",
)
encode_texts.but(
    "special tokens are there twice: the tokenizer adds its own unless it is told not to",
    ", add_special_tokens=False).ids\n        b",
    ").ids\n        b",
)
encode_texts.but(
    "the first text stands in the second one's place", "pairs[row], add", "texts[row], add"
)
encode_texts.but(
    "rows are cut though no max_length is given",
    "    texts = list(texts)\n",
    "    texts = list(texts)\n    max_length = max_length or 8\n",
)
encode_texts.but(
    "each text gets half of the room; a short one leaves its share to the other",
    (
        "            while len(a) + len(b) > room:\n"
        "                if len(a) > len(b):\n"
        "                    a = a[:-1]\n"
        "                else:\n"
        "                    b = b[:-1]"
    ),
    (
        "            if pairs is None:\n"
        "                a = a[:room]\n"
        "            else:\n"
        "                a, b = a[:room // 2], b[:room - room // 2]"
    ),
)


@plain("pair")
def by_the_library(self, texts, pairs=None, *, max_length=None):
    from minbert.tokenization import Encodings

    rows = list(texts) if pairs is None else list(zip(texts, pairs))
    whole = self.fast.encode_batch(rows)
    cut = tuple(n for n, e in enumerate(whole) if max_length and len(e.ids) > max_length)
    if cut:
        self.fast.enable_truncation(max_length, strategy="longest_first")
    found = self.fast.encode_batch(rows)
    self.fast.no_truncation()
    return Encodings([e.ids for e in found], [e.type_ids for e in found], cut)


by_the_library.but(
    "the tokenizer's truncation stays on, and the next call is cut too; turn it off",
    "    self.fast.no_truncation()\n",
    "",
)
by_the_library.but(
    "rows are padded here; the batch does that",
    "    found = self.fast.encode_batch(rows)\n",
    "    self.fast.enable_padding(pad_id=self.pad_id)\n"
    "    found = self.fast.encode_batch(rows)\n"
    "    self.fast.no_padding()\n",
)
by_the_library.but(
    "only the second text is cut; where the first is too long, that is an error",
    '"longest_first"',
    '"only_second" if pairs else "longest_first"',
)
