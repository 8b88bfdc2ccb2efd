"""Part 6, WordPiece: the right answer, and mistakes."""

from __future__ import annotations

from lab.answers import mistake, right


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
