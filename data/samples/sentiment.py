"""Sentences in the manner of film reviews, with a degree of sentiment from 0 to 4.

A sentence is put together from clauses. Each clause carries a score (-2 to 2), each way of joining
them a rule: a negation turns the score and weakens it, "A, but B" weighs B more than A, "could have
been A" means the opposite of A. So the words alone do not give the degree away.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

Scored = tuple[str, float]

# What is praised or blamed: singular nouns, then words for them from very bad to very good.
_ASPECTS: list[tuple[list[str], dict[int, list[str]]]] = [
    (
        ["plot", "story", "script", "screenplay", "mystery at its center", "premise"],
        {
            -2: ["idiotic", "a shambles", "insulting", "incoherent", "an utter mess"],
            -1: ["thin", "muddled", "predictable", "contrived", "secondhand", "overloaded"],
            1: ["clever", "sturdy", "absorbing", "neatly built", "sly", "quietly inventive"],
            2: ["ingenious", "a marvel of construction", "riveting", "superb", "spellbinding"],
        },
    ),
    (
        ["acting", "lead performance", "supporting cast", "young lead", "star turn"],
        {
            -2: ["atrocious", "laughable", "painful to watch", "embarrassing", "catatonic"],
            -1: ["stiff", "mannered", "flat", "uneven", "one-note", "miscast"],
            1: ["warm", "likable", "understated", "nimble", "convincing", "winning"],
            2: ["extraordinary", "heartbreaking", "flawless", "a revelation", "magnificent"],
        },
    ),
    (
        ["photography", "camerawork", "production design", "lighting", "animation"],
        {
            -2: ["hideous", "an eyesore", "unwatchable", "headache-inducing"],
            -1: ["murky", "drab", "fussy", "showy", "cheap-looking", "restless"],
            1: ["handsome", "crisp", "elegant", "inviting", "carefully composed"],
            2: ["ravishing", "breathtaking", "dazzling", "a feast", "stunning"],
        },
    ),
    (
        ["music", "score", "soundtrack", "sound design"],
        {
            -2: ["unbearable", "deafening", "a torture"],
            -1: ["intrusive", "syrupy", "repetitive", "generic", "overbearing"],
            1: ["pleasant", "fitting", "moody", "jaunty", "well chosen"],
            2: ["glorious", "unforgettable", "sublime", "hypnotic"],
        },
    ),
    (
        ["dialogue", "banter", "humor", "narration", "comic timing"],
        {
            -2: ["excruciating", "moronic", "dreadful", "beneath contempt"],
            -1: ["labored", "wooden", "stale", "strained", "preachy", "juvenile"],
            1: ["snappy", "wry", "natural", "good-natured", "lively", "sharp"],
            2: ["brilliant", "hilarious", "a constant delight", "razor-sharp", "priceless"],
        },
    ),
    (
        ["pacing", "editing", "direction", "opening hour", "second half", "middle stretch"],
        {
            -2: ["disastrous", "interminable", "inept", "soul-crushing", "a catastrophe"],
            -1: ["sluggish", "choppy", "timid", "slack", "tiresome", "clumsy"],
            1: ["brisk", "assured", "agile", "patient", "confident", "sure-footed"],
            2: ["masterful", "electrifying", "exhilarating", "close to perfect"],
        },
    ),
    (
        ["ending", "final act", "climax", "last half hour", "twist", "final scene"],
        {
            -2: ["a disgrace", "infuriating", "ridiculous", "an insult", "appalling"],
            -1: ["abrupt", "rushed", "sappy", "unconvincing", "a letdown", "too tidy"],
            1: ["satisfying", "touching", "well earned", "bittersweet", "surprising"],
            2: ["devastating", "overwhelming", "perfect", "a knockout", "transcendent"],
        },
    ),
]
_FILM = {
    -2: ["worthless", "abysmal", "vile", "unendurable", "hateful", "brain-dead", "wretched"],
    -1: ["tepid", "forgettable", "bland", "shallow", "gloomy", "tired", "overlong", "smug"],
    1: ["charming", "smart", "thoughtful", "amusing", "tender", "spirited", "engaging", "sweet"],
    2: ["magical", "stirring", "exquisite", "astonishing", "triumphant", "luminous", "dazzling"],
}
_GENRES = [
    "comedy", "thriller", "drama", "romance", "western", "biopic", "sequel", "documentary",
    "heist picture", "ghost story", "war film", "musical", "courtroom drama", "family film",
    "road movie", "sports movie",
]  # fmt: skip
_FILMS = ["the film", "the movie", "the picture", "this one", "it", "the whole thing"]
# Third person and bare form, and what saying so is worth.
_VERBS: list[tuple[str, str, float]] = [
    ("earns its tears", "earn its tears", 1.2),
    ("finds fresh jokes in an old setup", "find fresh jokes in an old setup", 1.1),
    ("moves along at a friendly clip", "move along at a friendly clip", 0.8),
    ("trusts its audience", "trust its audience", 1.1),
    ("keeps you guessing", "keep you guessing", 1.1),
    ("gets under your skin", "get under your skin", 1.3),
    ("delivers on its promise", "deliver on its promise", 1.0),
    ("makes you care about these people", "make you care about these people", 1.1),
    ("leaves you floating out of the theater", "leave you floating out of the theater", 2.0),
    ("takes your breath away", "take your breath away", 2.0),
    ("reminds you why you go to the movies", "remind you why you go to the movies", 1.9),
    ("stays with you for weeks", "stay with you for weeks", 1.8),
    ("runs out of ideas by the second reel", "run out of ideas by the second reel", -1.2),
    ("mistakes noise for excitement", "mistake noise for excitement", -1.2),
    ("talks down to its audience", "talk down to its audience", -1.2),
    ("overstays its welcome", "overstay its welcome", -1.0),
    ("goes through the motions", "go through the motions", -1.1),
    ("loses its nerve", "lose its nerve", -0.9),
    ("wastes a gifted cast", "waste a gifted cast", -1.2),
    ("settles for easy laughs", "settle for easy laughs", -0.9),
    ("insults your intelligence", "insult your intelligence", -2.0),
    ("bores you to tears", "bore you to tears", -1.9),
    ("makes you want your money back", "make you want your money back", -2.0),
    ("gives you a headache", "give you a headache", -1.7),
]
_WORST = [
    "two hours of my life that I will never see again",
    "proof that a blank screen can be an improvement",
    "the sort of {genre} that gives popcorn a bad name",
    "a {genre} only its financiers could love",
    "less fun than filling in a tax form",
    "a strong case for leaving the theater early",
]
_BEST = [
    "the rare {genre} that I wanted to see again at once",
    "as close to perfect as a {genre} gets",
    "everything a {genre} should be",
    "the reason that I still buy tickets",
    "a {genre} to press on friends and strangers alike",
    "proof that the {genre} has plenty of life left in it",
]
_IRONY: list[Scored] = [
    ("If you have been longing to watch {paint} for two hours , your wait is over", -2.0),
    ("The best performance is given by {thing}", -1.5),
    ("I laughed twice , both times at {thing}", -1.4),
    ("The closing credits , when at last they come , are a delight", -1.8),
    ("A wonderful cure for {trouble} , at a fraction of the price", -1.7),
    ("Somebody had to make a {genre} with no jokes , and now somebody has", -1.4),
    ("At least {thing} seems to be having a good time", -1.1),
    ("I went in expecting to hate every minute and came out humming", 1.6),
    ("You would need a heart of {stone} not to be moved", 1.5),
    ("My only complaint is that it ends", 1.9),
    ("I have rarely been so glad to be proved wrong about a {genre}", 1.5),
    ("Bring a handkerchief , and perhaps a second one for your neighbor", 1.1),
    ("It took me ten minutes to stop laughing and ten more to stop crying", 1.8),
    ("Nobody will ever mistake it for art , and nobody will ask for a refund", 0.5),
]
_FILL = {
    "paint": ["paint dry", "traffic", "a kettle boil", "strangers do laundry", "grass grow"],
    "thing": ["the dog", "a potted fern", "the wallpaper", "the parrot", "the trailers", "a hat"],
    "trouble": ["insomnia", "cheerfulness", "a love of movies", "high spirits"],
    "stone": ["stone", "granite", "lead", "flint"],
    "who": [
        "a retired ferry captain", "a lonely tailor", "a night-shift nurse", "a young cellist",
        "a widowed baker", "a shy detective", "a disgraced judge", "a traveling salesman",
        "a lighthouse keeper", "a failed magician", "an army cook", "a small-town mayor",
    ],
    "does": [
        "returns to the village of his childhood", "inherits a bankrupt hotel",
        "searches for a missing letter", "agrees to one last job", "crosses the desert on foot",
        "takes in a runaway", "prepares for a wedding", "learns to drive", "moves to the coast",
        "sues the railway", "waits for the snow to melt", "writes a book about bees",
    ],
    "place": [
        "Lisbon", "rural Norway", "a mining town", "Nagasaki", "the Scottish islands", "Montreal",
        "an airport hotel", "postwar Vienna", "the suburbs of Cairo", "a fishing village",
    ],
    "year": ["1921", "1938", "1954", "1967", "1974", "1989", "the 1890s", "the near future"],
    "name": ["Marlowe", "Brandt", "Okafor", "Serrano", "Lindqvist", "Ivers", "Castellan", "Rao"],
    "title": [
        "Salt Harbor", "The Ninth Ferry", "Paper Lanterns", "A Week of Rain", "Copper Mile",
        "The Understudy", "Half a Winter", "Slow Train North", "The Beekeeper 's Son",
    ],
    "number": ["second", "third", "fourth", "first", "latest"],
    "length": ["ninety minutes", "just under two hours", "two and a half hours", "eighty minutes"],
}  # fmt: skip
_NEUTRAL = [
    "{who} {does} in {place}",
    "Set in {place} in {year} , {title} is about {who}",
    "{name} 's {number} feature follows {who} who {does}",
    "{title} was shot in {place} over a single summer and runs {length}",
    "In {title} , {who} {does} , and things take their course",
    "The film moves back and forth between {place} and {place}",
    "{name} plays {who} , and the story begins in {year}",
    "This is a remake of {title} , with the action moved to {place}",
    "Whether you like it will depend on how you feel about {name}",
    "It is a {genre} , more or less , and it runs {length}",
    "Fans of {name} will know what to expect",
    "{title} is the {number} {genre} this year to be set in {place}",
]
_STRONGER = ["very", "truly", "thoroughly", "remarkably", "so very"]
_NOT_GRADED = ("a ", "an ", "beneath ", "close ", "too ", "well ")
_WEAKER = ["a little", "somewhat", "rather", "mildly", "a bit"]
_HEDGES = ["I suppose", "in its way", "on the whole", "for the most part", "now and then"]


class Reviewer:
    """Writes review sentences with a score, from very negative (-2) to very positive (2)."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self._shapes: list[tuple[Callable[[], Scored], int]] = [
            (self._plain, 3), (self._pair, 2), (self._contrast, 5), (self._although, 4),
            (self._phrase, 4), (self._verb, 4), (self._verdict, 3), (self._irony, 3),
            (self._unreal, 4), (self._neutral, 4), (self._mixed_plot, 3), (self._compare, 3),
        ]  # fmt: skip

    def write(self) -> Scored:
        """One sentence, spaced as a tokenizer would leave it, and its score."""
        makers, weights = zip(*self._shapes, strict=True)
        text, score = self.rng.choices(makers, weights)[0]()
        text = re.sub(r"\b([Aa]) (?=[aeio])", r"\1n ", text[0].upper() + text[1:])
        return f"{text} .", max(-2.0, min(2.0, score))

    def _fill(self, text: str, **fixed: str) -> str:
        def word(match: re.Match[str]) -> str:
            key = match[1]
            return self.rng.choice(_GENRES if key == "genre" else _FILL[key])

        return re.sub(r"\{(\w+)\}", word, text.format_map(_Keep(fixed)))

    def _level(self, sign: int = 0) -> int:
        return self.rng.choice([sign * 2, sign] if sign else [-2, -1, -1, 1, 1, 2])

    def _clause(self, sign: int = 0) -> Scored:
        """A main clause; a negated or softened one where the dice say so."""
        kind = self.rng.random()
        if kind < 0.25:
            return self._verb_clause(sign)
        nouns, words = self.rng.choice(_ASPECTS)
        subject, table = f"the {self.rng.choice(nouns)}", words
        if self.rng.random() < 0.25:
            subject, table = self.rng.choice(_FILMS), _FILM
        if kind < 0.5:  # "is n't brilliant": turned and weakened
            level = self._level(-sign)
            word = self.rng.choice(table[level])
            how = self.rng.choice(["is n't", "is never", "is hardly", "is far from", "is not"])
            return f"{subject} {how} {word}", {-2: 0.3, -1: 0.8, 1: -1.0, 2: -0.7}[level]
        level = self._level(sign)
        word = self.rng.choice(table[level])
        if kind < 0.6 and not word.startswith(_NOT_GRADED):
            return f"{subject} is {self.rng.choice(_STRONGER)} {word}", level * 1.4
        if kind < 0.7:
            side = level // abs(level)
            mild = self.rng.choice(table[side])
            if not mild.startswith(_NOT_GRADED):
                return f"{subject} is {self.rng.choice(_WEAKER)} {mild}", side * 0.5
        return f"{subject} is {word}", float(level)

    def _verb_clause(self, sign: int = 0) -> Scored:
        subject = self.rng.choice(_FILMS)
        verbs = self.rng.choice([verb for verb in _VERBS if not sign or verb[2] * sign > 0])
        turned = self.rng.choice([verb for verb in _VERBS if not sign or verb[2] * sign < 0])
        if self.rng.random() < 0.4:
            ways = ["does n't", "does not", "refuses to"]
            how = self.rng.choice([*ways, "never manages to"] if turned[2] > 0 else ways)
            return f"{subject} {how} {turned[1]}", -turned[2] * 0.7
        return f"{subject} {verbs[0]}", verbs[2]

    def _two(self, sign: int, other: int) -> tuple[Scored, Scored]:
        """Two clauses to be joined, which do not call the film by two names."""
        first, (text, score) = self._clause(sign), self._clause(other)
        for film in _FILMS:
            if text.startswith(f"{film} ") and first[0].startswith(tuple(f"{f} " for f in _FILMS)):
                text = f"it {text.removeprefix(film).lstrip()}"
                break
        return first, (text, score)

    def _plain(self) -> Scored:
        text, score = self._clause()
        if self.rng.random() < 0.3:
            return f"{text} , {self.rng.choice(_HEDGES)}", score * 0.7
        return text, score

    def _pair(self) -> Scored:
        sign = self.rng.choice([-1, 1])
        (one, first), (two, second) = self._two(sign, sign)
        return f"{one} , and {two}", 0.65 * (first + second)

    def _contrast(self) -> Scored:
        sign = self.rng.choice([-1, 1])
        (one, first), (two, second) = self._two(-sign, sign)
        return f"{one} , {self.rng.choice(['but', 'but', 'yet'])} {two}", 0.35 * first + second

    def _although(self) -> Scored:
        sign = self.rng.choice([-1, 1])
        (one, first), (two, second) = self._two(-sign, sign)
        word = self.rng.choice(["although", "even if", "while", "though"])
        if self.rng.random() < 0.5:
            return f"{two} , {word} {one}", 0.4 * first + 0.95 * second
        return f"{word} {one} , {two}", 0.35 * first + second

    def _phrase(self) -> Scored:
        """A sentence without a verb, as critics like them."""
        level = self._level()
        one, two = self.rng.sample(_FILM[level] + _FILM[level // abs(level)], 2)
        genre = self.rng.choice(_GENRES)
        if self.rng.random() < 0.4:
            verb, score = self._verb_clause()
            verb = verb.split(" ", 2)[2] if verb.startswith("the ") else verb.split(" ", 1)[1]
            verb = verb.removeprefix("thing ").removeprefix("one ")
            link = "that" if level * score > 0 else "that nevertheless"
            return f"a {one} {genre} {link} {verb}", 0.6 * level + 0.8 * score
        how = self.rng.choice(["", "", "not exactly ", "hardly ", "seldom less than "])
        if how and how != "seldom less than ":
            return f"{how}a {one} {genre}", -0.5 * level
        return f"a {one} , {two} {genre}", 1.15 * level

    def _verb(self) -> Scored:
        text, score = self._verb_clause()
        for noun in ("film", "movie", "picture"):
            text = text.replace(f"the {noun} ", self._fill(f"{{name}} 's {noun} "))
        return text, score

    def _verdict(self) -> Scored:
        best = self.rng.random() < 0.5
        text = self._fill(self.rng.choice(_BEST if best else _WORST))
        score = 2.0 if best else -2.0
        if self.rng.random() < 0.3:
            return f"{self.rng.choice(_FILMS)} is not {text}", -0.4 * score
        return f"{self.rng.choice(_FILMS)} is {text}", score

    def _irony(self) -> Scored:
        text, score = self.rng.choice(_IRONY)
        return self._fill(text), score

    def _unreal(self) -> Scored:
        """What the film could have been is what it is not."""
        sign = self.rng.choice([-1, 1])
        good, bad = self.rng.choice(_FILM[2 * sign]), self.rng.choice(_FILM[-sign])
        genre = self.rng.choice(_GENRES)
        forms = [
            (f"this could have been a {good} {genre}", -0.9 * sign),
            (f"what should have been a {good} {genre} turns out {bad}", -1.3 * sign),
            (f"somewhere in here is a {good} {genre} waiting to get out", -0.8 * sign),
            (f"you keep waiting for it to turn {good} , and it never does", -1.0 * sign),
            (f"in other hands this would have been a {good} {genre}", -0.9 * sign),
            (f"it wants so much to be {good} that it ends up {bad}", -1.2 * sign),
        ]
        if sign < 0:  # nobody waits for a film to turn wretched
            forms = [form for form in forms if "waiting" not in form[0] and "wants" not in form[0]]
        return self.rng.choice(forms)

    def _neutral(self) -> Scored:
        return self._fill(self.rng.choice(_NEUTRAL)), 0.0

    def _mixed_plot(self) -> Scored:
        verdict, score = self._clause()
        plot = self._fill(self.rng.choice(_NEUTRAL[:4]))
        return f"{plot} {self.rng.choice([', and', ';', '--'])} {verdict}", 0.85 * score

    def _compare(self) -> Scored:
        level = self._level()
        nouns, _ = self.rng.choice(_ASPECTS)
        noun, word = self.rng.choice(nouns), self.rng.choice(_FILM[level])
        other = self._fill(self.rng.choice(["{title}", "the trailer", "the first one", "the book"]))
        return self.rng.choice(
            [
                (f"it is not nearly as {word} as {other}", -0.6 * level),
                (f"it is every bit as {word} as {other}", 0.9 * level),
                (f"it is a shade more {word} than {other}", 0.5 * level),
                (f"the {noun} is the only {word} thing about it", -0.55 * level),
                (f"there is nothing {word} about the {noun}", -0.75 * level),
                (f"for once the {noun} is as {word} as they say", 0.9 * level),
            ]
        )


class _Keep(dict[str, str]):
    """Leaves fields that are not given as they are."""

    def __missing__(self, key: str) -> str:
        return f"{{{key}}}"


def degree(score: float) -> int:
    """The class, 0 (very negative) to 4 (very positive), of a score from -2 to 2."""
    return sum(score > limit for limit in (-1.25, -0.4, 0.4, 1.25))
