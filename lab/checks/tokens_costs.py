"""Checks of part 5. Alphabets, sizes and counts are drawn, so that nobody can know the answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from lab.harness import Draw, check, plain

Cases = Iterator[tuple[str, Any]]


def whole(value: Any) -> Any:
    """A whole number as an int, whichever kind it had; anything else is said to be none."""
    value = plain(value)
    if isinstance(value, float):
        return int(value) if value.is_integer() else f"{value!r} is no whole number"
    return value


def alphabet(draw: Draw) -> dict[int, int]:
    """Letters in the place of a to f, to write a word in: f takes two bytes in UTF-8."""
    letters = [*draw.random.sample("abcdefghijklmnopqrstuvwxyz", 5), draw.random.choice("äéñøß")]
    return str.maketrans("abcdef", "".join(letters))


@check("wordpiece")
def wordpiece(draw: Draw) -> Cases:
    from minbert.subwords import word_pieces

    to = alphabet(draw)
    pieces = "a ab abc abcd e ##b ##c ##cd ##ce ##d ##dd ##f ##ffff aaaaaaa bbbbbbbb ##b##b"
    vocabulary = {piece.translate(to) for piece in pieces.split()}
    cases = {
        "a word of the vocabulary": "abc",
        "a word of two pieces, the first of them the longest": "abcdd",
        "a word of four pieces": "abbcf",
        "a word that begins with a piece for the inside alone": "dd",
        "a word that goes on with a piece for the beginning alone": "abe",
        "a word of which a letter in the middle is unknown": "abxb",
        "a word of which the end is unknown": "abbx",
        "a word that the longest piece leads astray": "abce",
        "a word with one letter": "e",
        "a word that a look from its end cuts otherwise": "acdd",
        "an empty word": "",
    }
    for name, word in cases.items():
        yield f"{name}, {word.translate(to)!r}", word_pieces(word.translate(to), vocabulary)
    for size in (100, 101):
        word = "a".translate(to) + "b".translate(to) * (size - 1)
        yield f"a word of {size} characters", word_pieces(word, vocabulary)
    word = "af".translate(to) + 98 * "f".translate(to)
    yield "a word of 100 characters, of more bytes", word_pieces(word, vocabulary)
    for word in ("aaaaaaa", "bbbbbbbb", "abbbbbb", "abffffff"):
        name = f"{word.translate(to)!r} where 7 characters are the most, and <unk> is unknown"
        yield name, word_pieces(word.translate(to), vocabulary, unknown="<unk>", longest=7)
    yield "an unknown word where <unk> is unknown", word_pieces("?", vocabulary, unknown="<unk>")


def named(pair: Any) -> str:
    """A pair of symbols, with a space between them; anything else as Python writes it."""
    return " ".join(pair) if isinstance(pair, tuple) and len(pair) == 2 else repr(pair)


@check("bpe_merge")
def bpe_merge(draw: Draw) -> Cases:
    from minbert.subwords import merge_pair, pair_counts

    to = alphabet(draw)

    def symbols(text: str) -> list[str]:
        return text.translate(to).split()

    texts = {
        "words of letters": ("a b c", "b c", "c b", "a"),
        "words in which a letter is doubled": ("a a a", "b a a a a", "a b a b"),
        "words of longer symbols": ("ab c", "a bc", "ab c ab c"),
    }
    for name, words in texts.items():
        counts = {tuple(symbols(word)): draw.random.randrange(2, 30) for word in words}
        found = pair_counts(counts)
        if isinstance(found, Mapping):  # pairs that count 0 may be there
            found = {named(pair): whole(value) for pair, value in found.items() if value}
        yield f"pair_counts of {name}", found
    merges = {
        "a pair at both ends": ("a b c a b", "a b"),
        "a pair that is not there": ("b a c", "a b"),
        "three of a letter": ("a a a", "a a"),
        "five of a letter, and one apart": ("a a a a a b a", "a a"),
        "symbols that end and begin alike": ("ca b a bc ab", "a b"),
        "a pair that is written alike": ("a bc ab c a b c", "ab c"),
        "a pair of longer symbols": ("ab cd e ab cd ab", "ab cd"),
        "one symbol": ("a", "a a"),
    }
    for name, (word, pair) in merges.items():
        first, second = symbols(pair)
        found = merge_pair(symbols(word), (first, second))
        yield f"merge_pair, {name}: {' '.join(symbols(word))}", found


@check("bpe")
def bpe(draw: Draw) -> Cases:
    from minbert.subwords import apply_merges

    to = alphabet(draw)
    learnt = ["b c", "a b", "c d", "bc d", "a a", "aa a", "a bcd", "e e", "ee e", "ee ee", "f e"]
    ranked = [(*merge.translate(to).split(), rank) for rank, merge in enumerate(learnt)]
    draw.random.shuffle(ranked)
    ranks = {(first, second): rank for first, second, rank in ranked}
    for word in ("abcd", "abd", "aaa", "aaaa", "aaaaa", "eeee", "eeeeee", "feeabe", "bcbcd", "dcba",
                 "f", ""):  # fmt: skip
        written = word.translate(to)
        yield f"apply_merges to {written!r}", apply_merges(written, ranks)
    yield "apply_merges without merges", apply_merges("abc".translate(to), {})


def config_of(draw: Draw) -> Any:
    """A BERT's config of small sizes, none of which follows from another."""
    from minbert.encoders.bert import BertConfig

    heads = draw.random.choice((3, 4, 5))
    return BertConfig(
        vocab_size=draw.random.randrange(40, 80),
        hidden_size=heads * draw.random.choice((2, 3, 4)),
        num_layers=draw.random.randrange(2, 6),
        num_heads=heads,
        intermediate_size=draw.random.choice((17, 19, 23)),
        max_positions=draw.random.randrange(20, 40),
        type_vocab_size=draw.random.choice((1, 3, 4)),
    )


ROLES = (
    ("query",),
    ("query", "value"),
    ("key", "attention_output"),
    ("feed_forward_inner",),
    ("feed_forward_outer", "value"),
    ("pooler", "query"),
)


@check("parameters")
def parameters(draw: Draw) -> Cases:
    from minbert.costs import bert_parameters, lora_parameters
    from minbert.encoders.bert import BertConfig

    configs = [config_of(draw) for _ in range(2)]
    for number, config in enumerate(configs, start=1):
        yield f"parameters of BERT {number}", whole(bert_parameters(config))
    found = whole(bert_parameters(BertConfig()))
    yield "parameters of bert-base", f"{found:,}" if isinstance(found, int) else found
    for rank, roles in enumerate(ROLES, start=2):
        config = configs[rank % 2]
        title = f"LoRA of rank {rank} on {' and '.join(roles)}"
        yield title, whole(lora_parameters(config, rank, roles))


@check("memory_flops")
def memory_flops(draw: Draw) -> Cases:
    from minbert.costs import layer_flops, training_bytes

    for name, low, high in (("all trained", 1, 1), ("some frozen", 2, 5), ("none trained", 0, 0)):
        trained = draw.random.randrange(100, 900)
        everything = trained * low + draw.random.randrange(10, 90) * (high > low)
        if not low:
            everything, trained = trained, 0
        yield f"bytes of training, {name}", whole(training_bytes(everything, trained))
    config = config_of(draw)
    for length in (1, 2, draw.random.randrange(5, 9), draw.random.randrange(20, 40)):
        yield f"operations of a layer on {length} tokens", whole(layer_flops(config, length))
    other = replace(config, num_layers=config.num_layers + 3)
    yield "operations of a layer of more layers", whole(layer_flops(other, 3))


@check("few_rate")
def few_rate(draw: Draw) -> Cases:
    from minbert.costs import promised_decrease, rate_of_few

    shapes = {
        "inner.weight": (4, 3),
        "inner.bias": (4,),
        "outer.weight": (2, 4),
        "outer.bias": (2,),
    }
    gradients = {name: draw.normal(*shape) for name, shape in shapes.items()}
    gradients["inner.bias"][1] = 0.0
    biases = [name for name in gradients if name.endswith("bias")]
    for lr in (1.0, draw.number(0.2, 0.6)):
        for names in (["inner.weight"], biases, list(gradients)):
            found = promised_decrease(lr, [gradients[name] for name in names])
            yield f"promised_decrease of {', '.join(names)} at {lr:.2g}", plain(found)
    for lr in (0.1, draw.number(0.2, 0.6)):
        for names in (biases, ["outer.weight"], list(gradients)):
            found = rate_of_few(lr, gradients, names)
            yield f"rate_of_few for {', '.join(names)} at {lr:.2g}", plain(found)
    x, y = draw.normal(5), draw.normal(3)
    one = {"weight": y[:, None] * x, "bias": y}
    yield "rate_of_few for the bias of a linear map", plain(rate_of_few(0.1, one, ["bias"]))
