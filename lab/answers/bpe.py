"""Part 6, byte-pair encoding: right answers, and mistakes."""

from __future__ import annotations

from itertools import pairwise

from lab.answers import mistake, right

# Counting


def counted(words, *, pairs=lambda symbols: list(pairwise(symbols)), weigh=lambda n: n):
    """pair_counts with its parts open to change."""
    counts = {}
    for symbols, count in words.items():
        for pair in pairs(symbols):
            counts[pair] = counts.get(pair, 0) + weigh(count)
    return counts


@right("bpe_merge", of="pair_counts")
def pair_counts(words):
    return counted(words)


@mistake(
    "bpe_merge", "each word is counted once, however often it stands in the text", of="pair_counts"
)
def unweighted(words):
    return counted(words, weigh=lambda n: 1)


@mistake(
    "bpe_merge",
    "a pair counts once in a word, however often it stands there; each place counts",
    of="pair_counts",
)
def once_in_a_word(words):
    return counted(words, pairs=lambda symbols: set(pairwise(symbols)))


@mistake(
    "bpe_merge",
    "pairs that overlap are counted once; all neighbours count, two pairs in a a a",
    of="pair_counts",
)
def overlaps_left_out(words):
    def pairs(symbols):
        found, last = [], None
        for place, pair in enumerate(pairwise(symbols)):
            if pair[0] == pair[1] and last == (place - 1, pair):
                continue
            found.append(pair)
            last = (place, pair)
        return found

    return counted(words, pairs=pairs)


@mistake(
    "bpe_merge", "every other pair alone is counted; a symbol has a neighbour on each side",
    of="pair_counts",
)  # fmt: skip
def every_other_pair(words):
    return counted(words, pairs=lambda symbols: list(zip(symbols[::2], symbols[1::2])))


@mistake("bpe_merge", "a b and b a are counted as one pair; their order counts", of="pair_counts")
def order_ignored(words):
    return counted(words, pairs=lambda symbols: [(min(p), max(p)) for p in pairwise(symbols)])


@mistake(
    "bpe_merge", "pairs reach from a word into the next; none spans two words", of="pair_counts"
)
def across_words(words):
    counts, last = {}, None
    for symbols, count in words.items():
        together = symbols if last is None else (last, *symbols)
        last = symbols[-1]
        for pair in pairwise(together):
            counts[pair] = counts.get(pair, 0) + count
    return counts


@mistake(
    "bpe_merge",
    "symbols are taken apart into characters; a longer symbol is one thing",
    of="pair_counts",
)
def characters_paired(words):
    def pairs(symbols):
        text = "".join(symbols)
        return list(pairwise(text))

    return counted(words, pairs=pairs)


@mistake(
    "bpe_merge",
    "all pairs of a word's symbols are counted; only neighbours make a pair",
    of="pair_counts",
)
def any_two(words):
    def pairs(symbols):
        return [(a, b) for n, a in enumerate(symbols) for b in symbols[n + 1 :]]

    return counted(words, pairs=pairs)


@mistake("bpe_merge", "the last pair of a word is left out", of="pair_counts")
def last_pair_left_out(words):
    return counted(words, pairs=lambda symbols: [*pairwise(symbols)][:-1])


# Merging


def merged(symbols, pair, *, fits=None, limit=None, put=lambda first, second: [first + second]):
    """merge_pair with its parts open to change."""
    fits = fits or (lambda first, second: (first, second) == tuple(pair))
    found, rest = [], list(symbols)
    while rest:
        if len(rest) > 1 and fits(rest[0], rest[1]) and (limit is None or limit > 0):
            found += put(rest[0], rest[1])
            rest = rest[2:]
            limit = None if limit is None else limit - 1
        else:
            found.append(rest.pop(0))
    return found


@right("bpe_merge", of="merge_pair")
def merge_pair(symbols, pair):
    return merged(symbols, pair)


@mistake(
    "bpe_merge", "only the first occurrence is merged; merge all of the word's", of="merge_pair"
)
def first_occurrence(symbols, pair):
    return merged(symbols, pair, limit=1)


@mistake(
    "bpe_merge",
    "symbols take part in two merges: a a a with (a, a) is aa a, for what is merged is used up",
    of="merge_pair",
)
def overlaps_merged_twice(symbols, pair):
    found, inside = [], False
    for first, second in zip(symbols, [*symbols[1:], None]):
        if (first, second) == tuple(pair):
            found.append(first + second)
            inside = True
        else:
            if not inside:
                found.append(first)
            inside = False
    return found


@mistake(
    "bpe_merge",
    "merges go from right to left; where they overlap the left one counts",
    of="merge_pair",
)
def from_the_right(symbols, pair):
    backwards = merged(symbols[::-1], pair[::-1], put=lambda first, second: [second + first])
    return backwards[::-1]


@mistake(
    "bpe_merge",
    "ends of other symbols are merged too: a symbol is the pair's whole half or it is not",
    of="merge_pair",
)
def replaced_in_text(symbols, pair):
    return " ".join(symbols).replace(" ".join(pair), "".join(pair)).split()


@mistake(
    "bpe_merge",
    "any two symbols that make the same letters are merged; they have to be the pair itself",
    of="merge_pair",
)
def same_letters(symbols, pair):
    return merged(symbols, pair, fits=lambda first, second: first + second == "".join(pair))


@mistake("bpe_merge", "b a is merged like a b; a pair has an order", of="merge_pair")
def either_order(symbols, pair):
    return merged(symbols, pair, fits=lambda *two: set(two) == set(pair))


@mistake("bpe_merge", "the word's last symbol is lost where no pair ends there", of="merge_pair")
def last_lost(symbols, pair):
    found = merged(symbols, pair)
    whole_end = list(symbols[-2:]) == list(pair) and found[-1] == "".join(pair)
    return found if whole_end else found[:-1]


@mistake("bpe_merge", "the second symbol of a merged pair stays; both become one", of="merge_pair")
def second_stays(symbols, pair):
    return merged(symbols, pair, put=lambda first, second: [first + second, second])


@mistake(
    "bpe_merge", "all symbols are returned as one text; return a list of symbols", of="merge_pair"
)
def joined_text(symbols, pair):
    return " ".join(merged(symbols, pair))


# Applying


def applied(word, ranks, *, choose=min, most=None, merge=None):
    """apply_merges with its parts open to change."""
    from minbert import subwords

    merge = merge or subwords.merge_pair
    symbols, count = [*word], 0
    while most is None or count < most:
        there = {ranks[p]: p for p in pairwise(symbols) if p in ranks}
        if not there:
            break
        symbols = merge(symbols, there[choose(there)])
        count += 1
    return symbols


@right("bpe")
def apply_merges(word, ranks):
    return applied(word, ranks)


@mistake(
    "bpe",
    "the pair that was learnt last is merged first; take the smallest rank",
)
def last_learnt_first(word, ranks):
    return applied(word, ranks, choose=max)


@mistake(
    "bpe",
    "the leftmost pair that was learnt is merged first; take the one that was learnt first, "
    "wherever it stands",
)
def leftmost_first(word, ranks):
    return applied(word, ranks, choose=lambda there: next(iter(there)))


@mistake("bpe", "only one pair is merged; look again until none was learnt")
def one_merge(word, ranks):
    return applied(word, ranks, most=1)


@mistake(
    "bpe",
    "merges are tried in the order in which `ranks` lists them; its numbers say the order",
)
def order_of_the_table(word, ranks):
    from minbert import subwords

    symbols = [*word]
    for pair in ranks:
        symbols = subwords.merge_pair(symbols, pair)
    return symbols


@mistake(
    "bpe",
    "the longest piece that can be made is taken, as in WordPiece; BPE follows its merges",
)
def longest_match(word, ranks):
    known = {*word, *map("".join, ranks)}
    symbols, rest = [], word
    while rest:
        end = next(end for end in range(len(rest), 0, -1) if rest[:end] in known)
        symbols.append(rest[:end])
        rest = rest[end:]
    return symbols


@mistake(
    "bpe",
    "pairs of letters alone are merged; what was merged is a symbol that is merged on",
)
def letters_alone(word, ranks):
    from minbert import subwords

    symbols = [*word]
    for pair in sorted(ranks, key=ranks.__getitem__):
        if len("".join(pair)) == 2:
            symbols = subwords.merge_pair(symbols, pair)
    return symbols


@mistake("bpe", "the pieces come as one text; return a list of symbols")
def text_of_pieces(word, ranks):
    return " ".join(applied(word, ranks))


@mistake("bpe", "the word comes back whole: it is not taken apart into characters")
def never_apart(word, ranks):
    return [word]


@mistake("bpe", "nothing is merged: the word is its characters still")
def nothing_merged(word, ranks):
    return [*word]
