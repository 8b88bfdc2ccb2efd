"""Part 6, tokens: right answers, and mistakes."""

from __future__ import annotations

from itertools import pairwise

from lab.answers import mistake, right

# WordPiece


def cut(
    word,
    vocabulary,
    unknown="[UNK]",
    longest=100,
    *,
    too_long=lambda word, longest: len(word) > longest,
    before="##",
    written="##",
    first="",
    ends=None,
    lost=lambda pieces, unknown: [unknown],
    nothing=(),
    known_first=False,
):
    """word_pieces by recursion, with its parts open to change.

    Args:
        too_long: whether a word has too many characters.
        before: what a later piece is looked up with.
        written: what a later piece is written with.
        first: what the first piece is looked up and written with.
        ends: the ends of a piece that are tried, in order, for the rest of a word.
        lost: what is returned where nothing matches.
        nothing: of an empty word.
        known_first: whether a word of the vocabulary may be too long.
    """
    if known_first and word in vocabulary:
        return [word]
    if too_long(word, longest):
        return [unknown]

    def rest(text, found):
        if not text:
            return found
        look, write = (before, written) if found else (first, first)
        tried = range(len(text), 0, -1) if ends is None else ends(text)
        for end in tried:
            if look + text[:end] in vocabulary:
                return rest(text[end:], [*found, write + text[:end]])
        return lost(found, unknown)

    return rest(word, []) if word else list(nothing)


@right("wordpiece")
def word_pieces(word, vocabulary, *, unknown="[UNK]", longest=100):
    return cut(word, vocabulary, unknown, longest)


@mistake("wordpiece", "the shortest piece that matches is taken; WordPiece takes the longest")
def shortest_first(word, vocabulary, *, unknown="[UNK]", longest=100):
    return cut(word, vocabulary, unknown, longest, ends=lambda text: range(1, len(text) + 1))


@mistake(
    "wordpiece",
    "inside of a word pieces are looked up without ##, so that pieces of a beginning match there",
)
def looked_up_bare(word, vocabulary, *, unknown="[UNK]", longest=100):
    return cut(word, vocabulary, unknown, longest, before="")


@mistake("wordpiece", "the ## of a piece that continues the word is left out of the result")
def written_bare(word, vocabulary, *, unknown="[UNK]", longest=100):
    return cut(word, vocabulary, unknown, longest, written="")


@mistake("wordpiece", "## is not looked up and not written; a piece that continues a word has it")
def no_prefix(word, vocabulary, *, unknown="[UNK]", longest=100):
    return cut(word, vocabulary, unknown, longest, before="", written="")


@mistake("wordpiece", "the first piece is looked up with ## too; what begins a word has none")
def first_with_prefix(word, vocabulary, *, unknown="[UNK]", longest=100):
    return cut(word, vocabulary, unknown, longest, first="##")


@mistake(
    "wordpiece",
    "the pieces that were found are kept, and the rest is unknown; the whole word should be",
)
def found_kept(word, vocabulary, *, unknown="[UNK]", longest=100):
    return cut(word, vocabulary, unknown, longest, lost=lambda found, unknown: [*found, unknown])


@mistake(
    "wordpiece", "where a part is unknown the pieces before it are returned, without a word on it"
)
def rest_dropped(word, vocabulary, *, unknown="[UNK]", longest=100):
    return cut(word, vocabulary, unknown, longest, lost=lambda found, unknown: found)


@mistake(
    "wordpiece",
    "an unknown character is passed over, and the rest is cut; then the whole word is unknown",
)
def unknown_passed_over(word, vocabulary, *, unknown="[UNK]", longest=100):
    if len(word) > longest:
        return [unknown]
    pieces, start = [], 0
    while start < len(word):
        tried = [("##" if start else "") + word[start:end] for end in range(len(word), start, -1)]
        piece = next((piece for piece in tried if piece in vocabulary), None)
        pieces.append(piece or unknown)
        start += len(piece) - 2 * (start > 0) if piece else 1
    return pieces


@mistake(
    "wordpiece",
    "a shorter piece is tried where the longest leads astray; the greedy match never goes back",
)
def goes_back(word, vocabulary, *, unknown="[UNK]", longest=100):
    def ways(text, found):
        if not text:
            return found
        for end in range(len(text), 0, -1):
            piece = ("##" if found else "") + text[:end]
            if piece in vocabulary and (way := ways(text[end:], [*found, piece])) is not None:
                return way
        return None

    way = None if len(word) > longest else ways(word, [])
    return [unknown] if way is None else way


@mistake("wordpiece", "the word is cut from its end; it should be cut from its beginning")
def from_the_end(word, vocabulary, *, unknown="[UNK]", longest=100):
    if len(word) > longest:
        return [unknown]
    pieces, end = [], len(word)
    while end:
        tried = [(start, ("##" if start else "") + word[start:end]) for start in range(end)]
        fits = next(((start, piece) for start, piece in tried if piece in vocabulary), None)
        if fits is None:
            return [unknown]
        end = fits[0]
        pieces.insert(0, fits[1])
    return pieces


@mistake(
    "wordpiece", "words of any length are cut; one of more than `longest` characters is unknown"
)
def no_limit(word, vocabulary, *, unknown="[UNK]", longest=100):
    return cut(word, vocabulary, unknown, len(word))


@mistake("wordpiece", "a word of just `longest` characters is not too long")
def limit_itself_refused(word, vocabulary, *, unknown="[UNK]", longest=100):
    return cut(word, vocabulary, unknown, longest, too_long=lambda w, most: len(w) >= most)


@mistake("wordpiece", "`longest` is not looked at: the most characters are 100 whatever it says")
def fixed_limit(word, vocabulary, *, unknown="[UNK]", longest=100):
    return cut(word, vocabulary, unknown, 100)


@mistake("wordpiece", "the word's bytes are counted against `longest`; it counts characters")
def limit_in_bytes(word, vocabulary, *, unknown="[UNK]", longest=100):
    return cut(word, vocabulary, unknown, longest, too_long=lambda w, most: len(w.encode()) > most)


@mistake(
    "wordpiece",
    "a word that is too long is unknown even if the vocabulary has it; ask for that first",
)
def known_before_long(word, vocabulary, *, unknown="[UNK]", longest=100):
    return cut(word, vocabulary, unknown, longest, known_first=True)


@mistake("wordpiece", "a word without its piece is always [UNK]; `unknown` says what it should be")
def fixed_unknown(word, vocabulary, *, unknown="[UNK]", longest=100):
    return cut(word, vocabulary, "[UNK]", longest)


@mistake("wordpiece", "an empty word is unknown; it has no pieces at all")
def empty_unknown(word, vocabulary, *, unknown="[UNK]", longest=100):
    return cut(word, vocabulary, unknown, longest, nothing=[unknown])


@mistake("wordpiece", "pieces of a single character are never tried; the end stops one too early")
def single_left_out(word, vocabulary, *, unknown="[UNK]", longest=100):
    return cut(word, vocabulary, unknown, longest, ends=lambda text: range(len(text), 1, -1))


@mistake("wordpiece", "the piece that goes up to the word's end is never tried")
def last_end_left_out(word, vocabulary, *, unknown="[UNK]", longest=100):
    return cut(
        word, vocabulary, unknown, longest, ends=lambda text: range(max(1, len(text) - 1), 0, -1)
    )


@mistake("wordpiece", "the cut ends after the first piece; the rest of the word is cut likewise")
def first_piece_alone(word, vocabulary, *, unknown="[UNK]", longest=100):
    return cut(word, vocabulary, unknown, longest)[:1]


@mistake("wordpiece", "a word is unknown unless it is in the vocabulary whole; it should be cut")
def whole_words_alone(word, vocabulary, *, unknown="[UNK]", longest=100):
    if not word:
        return []
    return [word if word in vocabulary and len(word) <= longest else unknown]


@mistake("wordpiece", "an unknown word is returned as it is; `unknown` stands in its place")
def unknown_as_it_is(word, vocabulary, *, unknown="[UNK]", longest=100):
    found = cut(word, vocabulary, unknown, longest)
    return [word] if found == [unknown] else found


# Byte-pair encoding: counting


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
