"""Sentences that speakers of English accept, and sentences that they do not.

Each phenomenon is a function that returns one sentence of each kind. The two differ in little: one
word, an ending, the order. Around them, names, nouns and verbs vary, so that no single word tells.
"""

from __future__ import annotations

import random
from collections.abc import Callable

Minimal = tuple[str, str]
"""An acceptable sentence and its unacceptable counterpart."""

_WOMEN = ["Anna", "Mary", "Ruth", "Leila", "Sofia", "Nora", "Helen", "Ingrid", "Priya", "Joan"]
_MEN = ["John", "Peter", "Omar", "Victor", "Hugo", "Samuel", "Tom", "Daniel", "Ivan", "Luis"]
_PERSONS = [
    "teacher", "doctor", "lawyer", "student", "neighbor", "baker", "pilot", "painter", "guard",
    "visitor", "singer", "farmer", "nurse", "driver", "cousin", "actor", "guest", "reporter",
]  # fmt: skip
_THINGS = [
    "letter", "book", "picture", "cake", "ticket", "bicycle", "coat", "basket", "chair", "map",
    "lamp", "sandwich", "boat", "vase", "mirror", "clock", "kettle", "drum", "carpet", "suitcase",
]  # fmt: skip
# Base, third person, past, participle, -ing; each takes an object of either kind.
_LIKE = [
    ("admire", "admires", "admired", "admired", "admiring"),
    ("praise", "praises", "praised", "praised", "praising"),
    ("see", "sees", "saw", "seen", "seeing"),
    ("draw", "draws", "drew", "drawn", "drawing"),
    ("forget", "forgets", "forgot", "forgotten", "forgetting"),
    ("describe", "describes", "described", "described", "describing"),
    ("choose", "chooses", "chose", "chosen", "choosing"),
    ("criticize", "criticizes", "criticized", "criticized", "criticizing"),
    ("mention", "mentions", "mentioned", "mentioned", "mentioning"),
    ("visit", "visits", "visited", "visited", "visiting"),
]
_MAKE = [
    ("borrow", "borrows", "borrowed", "borrowed", "borrowing"),
    ("buy", "buys", "bought", "bought", "buying"),
    ("steal", "steals", "stole", "stolen", "stealing"),
    ("lose", "loses", "lost", "lost", "losing"),
    ("bring", "brings", "brought", "brought", "bringing"),
    ("find", "finds", "found", "found", "finding"),
    ("sell", "sells", "sold", "sold", "selling"),
    ("hide", "hides", "hid", "hidden", "hiding"),
    ("take", "takes", "took", "taken", "taking"),
]
_REST = [
    ("sleep", "sleeps", "slept", "slept", "sleeping"),
    ("laugh", "laughs", "laughed", "laughed", "laughing"),
    ("arrive", "arrives", "arrived", "arrived", "arriving"),
    ("swim", "swims", "swam", "swum", "swimming"),
    ("sneeze", "sneezes", "sneezed", "sneezed", "sneezing"),
    ("fall", "falls", "fell", "fallen", "falling"),
    ("smile", "smiles", "smiled", "smiled", "smiling"),
]
_ADJECTIVES = ["old", "tall", "quiet", "famous", "hungry", "clever", "tired", "happy", "young"]
_WHERE = ["in the garden", "at the station", "near the river", "in the hall", "on the hill"]
_WHEN = ["yesterday", "last week", "last night", "two days ago", "last summer"]
_SAY = ["think", "believe", "know", "say", "claim"]
_SAYS = ["thinks", "believes", "knows", "says", "claims", "hopes"]


class Linguist:
    """Writes minimal pairs for the phenomena below."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.phenomena: dict[str, Callable[[], Minimal]] = {
            "ag01": self._agreement_across, "ag02": self._agreement_relative,
            "ag03": self._there, "dt01": self._determiner, "dt02": self._much_many,
            "rf01": self._reflexive_gender, "rf02": self._reflexive_local,
            "rf03": self._reflexive_subject, "rf04": self._reciprocal,
            "np01": self._ever, "np02": self._any, "wh01": self._filled_gap,
            "wh02": self._inversion, "wh03": self._embedded_question, "wh04": self._that_trace,
            "is01": self._island_relative, "is02": self._island_adjunct,
            "is03": self._island_conjunct, "ng01": self._do_support,
            "as01": self._transitivity, "as02": self._dative, "as03": self._causative,
            "as04": self._locative, "as05": self._complement, "ps01": self._passive,
            "ps02": self._passive_intransitive, "ta01": self._perfect, "ta02": self._tense_adverb,
            "ta03": self._modal, "wo01": self._adverb_order, "wo02": self._particle,
            "wo03": self._noun_phrase_order, "cp01": self._comparative, "cp02": self._raising,
            "tg01": self._tag, "rl01": self._relative_pronoun,
        }  # fmt: skip

    def write(self, acceptable: bool) -> tuple[str, str]:
        """The code of a phenomenon and a sentence of the kind asked for."""
        code = self.rng.choice(list(self.phenomena))
        good, bad = self.phenomena[code]()
        return code, self._frame(good if acceptable else bad)

    def _frame(self, text: str) -> str:
        """The sentence, alone or as part of a larger one."""
        if not text.endswith(".") or self.rng.random() < 0.6:
            return text[0].upper() + text[1:]
        frames = [
            "{who} {says} that {text}", "it is obvious that {text}", "we were told that {text}",
            "{text}, and {who} {rests}.", "{who} {rested} because {text}", "perhaps {text}",
            "{who} is sure that {text}", "after all, {text}", "{who} {rested}, but {text}",
        ]  # fmt: skip
        frame = self.rng.choice(frames)
        bare = text.removesuffix(".") if frame.startswith("{text}") else text
        _, rests, rested, _, _ = self.rng.choice(_REST)
        says = self.rng.choice(_SAYS)
        full = frame.format(who=self._person(), says=says, rests=rests, rested=rested, text=bare)
        return full[0].upper() + full[1:]

    # Building blocks

    def _name(self) -> str:
        return self.rng.choice(_WOMEN + _MEN)

    def _couple(self) -> tuple[str, str]:
        """A woman and a man."""
        return self.rng.choice(_WOMEN), self.rng.choice(_MEN)

    def _person(self) -> str:
        """A name or a noun phrase."""
        if self.rng.random() < 0.45:
            return self._name()
        adjective = f"{self.rng.choice(_ADJECTIVES)} " if self.rng.random() < 0.3 else ""
        return f"the {adjective}{self.rng.choice(_PERSONS)}"

    def _nouns(self, count: int) -> list[str]:
        return self.rng.sample(_PERSONS, count)

    def _act(self) -> tuple[tuple[str, str, str, str, str], str]:
        """A verb and an object that goes with it."""
        if self.rng.random() < 0.5:
            return self.rng.choice(_LIKE), f"the {self.rng.choice(_PERSONS)}"
        return self.rng.choice(_MAKE), f"the {self.rng.choice(_THINGS)}"

    # Agreement and determiners

    def _agreement_across(self) -> Minimal:
        one, two = self._nouns(2)
        link = self.rng.choice(["near", "behind", "with", "next to", "in front of"])
        word = self.rng.choice(_ADJECTIVES)
        right, wrong = self.rng.choice([("is", "are"), ("was", "were"), ("has been", "have been")])
        if self.rng.random() < 0.5:
            return (
                f"the {one} {link} the {two}s {right} {word}.",
                f"the {one} {link} the {two}s {wrong} {word}.",
            )
        return (
            f"the {one}s {link} the {two} {wrong} {word}.",
            f"the {one}s {link} the {two} {right} {word}.",
        )

    def _agreement_relative(self) -> Minimal:
        one, two = self._nouns(2)
        verb, rest = self.rng.choice(_LIKE), self.rng.choice(_REST)
        if self.rng.random() < 0.5:
            return (
                f"the {one}s that {verb[0]} the {two} {rest[0]} a lot.",
                f"the {one}s that {verb[0]} the {two} {rest[1]} a lot.",
            )
        return (
            f"the {one} that the {two}s {verb[0]} {rest[1]} a lot.",
            f"the {one} that the {two}s {verb[0]} {rest[0]} a lot.",
        )

    def _there(self) -> Minimal:
        noun, where = self.rng.choice(_PERSONS + _THINGS), self.rng.choice(_WHERE)
        if self.rng.random() < 0.5:
            count = self.rng.choice(["three", "many", "several", "two"])
            return f"there are {count} {noun}s {where}.", f"there is {count} {noun}s {where}."
        article = "an" if noun == "actor" else "a"
        return f"there is {article} {noun} {where}.", f"there are {article} {noun} {where}."

    def _determiner(self) -> Minimal:
        who, verb = self._person(), self.rng.choice(_MAKE)
        noun = self.rng.choice(_THINGS)
        one, many = self.rng.choice([("this", "these"), ("that", "those"), ("every", "all")])
        if self.rng.random() < 0.5:
            return f"{who} {verb[2]} {one} {noun}.", f"{who} {verb[2]} {one} {noun}s."
        if many == "all":
            return f"{who} {verb[2]} all those {noun}s.", f"{who} {verb[2]} all those {noun}."
        return f"{who} {verb[2]} {many} {noun}s.", f"{who} {verb[2]} {many} {noun}."

    def _much_many(self) -> Minimal:
        who, noun = self._person(), self.rng.choice(_THINGS)
        mass = self.rng.choice(["water", "bread", "furniture", "advice", "snow", "money"])
        if self.rng.random() < 0.5:
            return (f"{who} does not have much {mass}.", f"{who} does not have many {mass}.")
        return (f"{who} does not have many {noun}s.", f"{who} does not have much {noun}s.")

    # Binding

    def _reflexive_gender(self) -> Minimal:
        woman, man = self._couple()
        verb = self.rng.choice(_LIKE)[2]
        if self.rng.random() < 0.5:
            return f"{woman} {verb} herself.", f"{woman} {verb} himself."
        return f"{man} {verb} himself.", f"{man} {verb} herself."

    def _reflexive_local(self) -> Minimal:
        woman, man = self._couple()
        verb, says = self.rng.choice(_LIKE)[1], self.rng.choice(_SAYS)
        if self.rng.random() < 0.5:
            return (
                f"{woman} {says} that {man} {verb} himself.",
                f"{woman} {says} that {man} {verb} herself.",
            )
        return (f"{man}'s sister {verb} herself.", f"{man}'s sister {verb} himself.")

    def _reflexive_subject(self) -> Minimal:
        woman, man = self._couple()
        verb = self.rng.choice(_LIKE)[2]
        return self.rng.choice(
            [
                (f"{woman} {verb} herself.", f"herself {verb} {woman}."),
                (f"he {verb} {woman}.", f"him {verb} {woman}."),
                (f"{man} {verb} her.", f"{man} {verb} she."),
            ]
        )

    def _reciprocal(self) -> Minimal:
        (one, two), verb = self._nouns(2), self.rng.choice(_LIKE)
        return (
            f"the {one} and the {two} {verb[2]} each other.",
            f"the {one} near the {two} {verb[2]} each other.",
        )

    # Negative polarity

    def _ever(self) -> Minimal:
        verb, what = self._act()
        good = self.rng.choice(["nobody", "no visitor", "hardly anyone", "none of us"])
        bad = self.rng.choice(["somebody", "some visitor", "almost everyone", "one of us"])
        return f"{good} has ever {verb[3]} {what}.", f"{bad} has ever {verb[3]} {what}."

    def _any(self) -> Minimal:
        who, verb, noun = self._person(), self.rng.choice(_MAKE), self.rng.choice(_THINGS)
        return self.rng.choice(
            [
                (f"{who} did not {verb[0]} any {noun}s.", f"{who} {verb[2]} any {noun}s."),
                (f"{who} never {verb[2]} any {noun}s.", f"{who} often {verb[2]} any {noun}s."),
                (f"{who} left without any {noun}s.", f"{who} left with any {noun}s."),
            ]
        )

    # Questions and islands

    def _filled_gap(self) -> Minimal:
        who, verb = self._person(), self.rng.choice(_MAKE)
        one, two = self.rng.sample(_THINGS, 2)
        return (f"which {one} did {who} {verb[0]}?", f"which {one} did {who} {verb[0]} the {two}?")

    def _inversion(self) -> Minimal:
        who, (verb, what) = self._person(), self._act()
        return self.rng.choice(
            [
                (
                    f"what has {who} {self.rng.choice(_MAKE)[3]}?",
                    f"what {who} has {self.rng.choice(_MAKE)[3]}?",
                ),
                (f"did {who} {verb[0]} {what}?", f"did {who} {verb[2]} {what}?"),
                (f"will {who} {verb[0]} {what}?", f"will {verb[0]} {who} {what}?"),
                (f"why did {who} {verb[0]} {what}?", f"why {who} did {verb[0]} {what}?"),
            ]
        )

    def _embedded_question(self) -> Minimal:
        (one, two), verb = (self._name(), self._person()), self.rng.choice(_MAKE)
        ask = self.rng.choice(["wonders", "asked me", "does not know", "will find out"])
        return (f"{one} {ask} what {two} has {verb[3]}.", f"{one} {ask} what has {two} {verb[3]}.")

    def _that_trace(self) -> Minimal:
        who, say = self._name(), self.rng.choice(_SAY)
        verb, what = self._act()
        return (
            f"who does {who} {say} {verb[2]} {what}?",
            f"who does {who} {say} that {verb[2]} {what}?",
        )

    def _island_relative(self) -> Minimal:
        who, noun, verb = self._name(), self.rng.choice(_PERSONS), self.rng.choice(_MAKE)
        say, meet = self.rng.choice(_SAY), self.rng.choice(["meet", "help", "call", "thank"])
        return (
            f"what did {who} {say} that the {noun} {verb[2]}?",
            f"what did {who} {meet} the {noun} that {verb[2]}?",
        )

    def _island_adjunct(self) -> Minimal:
        (one, two), verb = (self._name(), self._person()), self.rng.choice(_LIKE)
        say, when = self.rng.choice(_SAY), self.rng.choice(["after", "before", "because", "while"])
        return (
            f"who did {one} {say} that {two} {verb[2]}?",
            f"who did {one} {self.rng.choice(_REST)[0]} {when} {two} {verb[2]}?",
        )

    def _island_conjunct(self) -> Minimal:
        who, verb, noun = self._person(), self.rng.choice(_MAKE), self.rng.choice(_THINGS)
        return (
            f"what did {who} {verb[0]} besides the {noun}?",
            f"what did {who} {verb[0]} the {noun} and?",
        )

    def _do_support(self) -> Minimal:
        who, (verb, what) = self._person(), self._act()
        return self.rng.choice(
            [
                (f"{who} does not {verb[0]} {what}.", f"{who} {verb[1]} not {what}."),
                (f"{who} did not {verb[0]} {what}.", f"{who} not {verb[2]} {what}."),
                (f"{who} does not {verb[0]} {what}.", f"{who} does not {verb[1]} {what}."),
            ]
        )

    # What verbs go with

    def _transitivity(self) -> Minimal:
        who, thing = self._person(), self.rng.choice(_THINGS)
        if self.rng.random() < 0.5:
            verb = self.rng.choice(["discovered", "mentioned", "damaged", "fixed", "needed"])
            when = self.rng.choice(_WHEN)
            return f"{who} {verb} the {thing} {when}.", f"{who} {verb} {when}."
        rest = self.rng.choice(_REST)[2]
        where = self.rng.choice(_WHERE)
        return f"{who} {rest} {where}.", f"{who} {rest} the {thing} {where}."

    def _dative(self) -> Minimal:
        one, two, thing = self._name(), self._person(), self.rng.choice(_THINGS)
        both = self.rng.choice(["gave", "showed", "sent", "handed", "offered", "sold"])
        only_to = self.rng.choice(["donated", "explained", "described", "reported", "announced"])
        if self.rng.random() < 0.5:
            if only_to != "donated":
                thing = self.rng.choice(["plan", "rule", "problem", "result", "accident"])
            return f"{one} {only_to} the {thing} to {two}.", f"{one} {only_to} {two} the {thing}."
        return f"{one} {both} {two} the {thing}.", f"{one} {both} to {two} the {thing}."

    def _causative(self) -> Minimal:
        who, (one, two) = self._person(), self._nouns(2)
        rest = self.rng.choice([verb for verb in _REST if verb[0] != "swim"])
        broke = self.rng.choice(["broke", "opened", "melted", "bent", "sank"])
        made = self.rng.choice([f"{who} made the {one} {rest[0]}.", f"{who} {broke} it."])
        return made, f"{who} {rest[2]} the {one if self.rng.random() < 0.5 else two}."

    def _locative(self) -> Minimal:
        who, what = self._person(), self.rng.choice(["water", "sand", "milk", "soup", "coffee"])
        into = self.rng.choice(["glass", "bucket", "bowl", "bottle"])
        fill = self.rng.choice(["filled", "covered"])
        pour = self.rng.choice(["poured", "spilled", "dripped"])
        if self.rng.random() < 0.5:
            return (
                f"{who} {fill} the {into} with {what}.",
                f"{who} {fill} {what} into the {into}.",
            )
        return (f"{who} {pour} {what} into the {into}.", f"{who} {pour} the {into} with {what}.")

    def _complement(self) -> Minimal:
        who, (verb, what) = self._person(), self._act()
        ing = self.rng.choice(["enjoys", "avoids", "finished", "keeps", "denies"])
        to = self.rng.choice(["wants", "hopes", "decided", "refuses", "promised", "plans"])
        if self.rng.random() < 0.5:
            return f"{who} {ing} {verb[4]} {what}.", f"{who} {ing} to {verb[0]} {what}."
        return f"{who} {to} to {verb[0]} {what}.", f"{who} {to} {verb[4]} {what}."

    # Passive, tense and aspect

    def _passive(self) -> Minimal:
        who, (verb, what) = self._person(), self._act()
        return self.rng.choice(
            [
                (f"{what} was {verb[3]} by {who}.", f"{what} was {verb[4]} by {who}."),
                (f"{what} was {verb[3]} by {who}.", f"{what} was {verb[3]} it by {who}."),
                (f"{what} will be {verb[3]}.", f"{what} will {verb[3]}."),
            ]
        )

    def _passive_intransitive(self) -> Minimal:
        who, (verb, what) = self._person(), self._act()
        rest = self.rng.choice(_REST)
        return f"{what} was {verb[3]} by {who}.", f"{what} was {rest[3]} by {who}."

    def _perfect(self) -> Minimal:
        who, (verb, what) = self._person(), self._act()
        return self.rng.choice(
            [
                (f"{who} has {verb[3]} {what}.", f"{who} has {verb[0]} {what}."),
                (f"{who} is {verb[4]} {what}.", f"{who} is {verb[0]} {what}."),
                (f"{who} had been {verb[4]} {what}.", f"{who} had {verb[4]} {what}."),
                (f"{who} has been {verb[4]} {what}.", f"{who} been has {verb[4]} {what}."),
            ]
        )

    def _tense_adverb(self) -> Minimal:
        who, (verb, what), when = self._person(), self._act(), self.rng.choice(_WHEN)
        later = self.rng.choice(["tomorrow", "next week", "next summer"])
        return self.rng.choice(
            [
                (f"{who} {verb[2]} {what} {when}.", f"{who} will {verb[0]} {what} {when}."),
                (f"{who} will {verb[0]} {what} {later}.", f"{who} {verb[2]} {what} {later}."),
                (f"{who} {verb[2]} {what} {when}.", f"{who} has {verb[3]} {what} {when}."),
            ]
        )

    def _modal(self) -> Minimal:
        who, (verb, what) = self._person(), self._act()
        modal = self.rng.choice(["must", "can", "should", "might", "will"])
        bad = self.rng.choice([f"{modal} {verb[1]}", f"{modal} to {verb[0]}", f"{modal} {verb[4]}"])
        return f"{who} {modal} {verb[0]} {what}.", f"{who} {bad} {what}."

    # Order

    def _adverb_order(self) -> Minimal:
        who, (verb, what) = self._person(), self._act()
        adverb = self.rng.choice(["always", "often", "quickly", "probably", "never"])
        return f"{who} {adverb} {verb[2]} {what}.", f"{who} {verb[2]} {adverb} {what}."

    def _particle(self) -> Minimal:
        who = self._person()
        verb, particle = self.rng.choice(
            [
                ("picked", "up"),
                ("threw", "away"),
                ("turned", "off"),
                ("wrote", "down"),
                ("gave", "back"),
                ("put", "down"),
            ]
        )
        if self.rng.random() < 0.5:
            return f"{who} {verb} it {particle}.", f"{who} {verb} {particle} it."
        thing = self.rng.choice(_THINGS)
        return f"{who} {verb} {particle} the {thing}.", f"{who} {particle} {verb} the {thing}."

    def _noun_phrase_order(self) -> Minimal:
        verb, word, noun = self.rng.choice(_LIKE), self.rng.choice(_ADJECTIVES), self._nouns(1)[0]
        who, count = self._name(), self.rng.choice(["two", "three", "many"])
        return self.rng.choice(
            [
                (f"{who} {verb[2]} the {word} {noun}.", f"{who} {verb[2]} the {noun} {word}."),
                (
                    f"{who} {verb[2]} {count} {word} {noun}s.",
                    f"{who} {verb[2]} {word} {count} {noun}s.",
                ),
                (f"{who} {verb[2]} the {noun}.", f"{who} the {noun} {verb[2]}."),
            ]
        )

    # Comparison, raising, tags, relatives

    def _comparative(self) -> Minimal:
        one, two = self._name(), self._person()
        short = self.rng.choice(["taller", "older", "younger", "quieter", "happier"])
        long = self.rng.choice(["famous", "careful", "patient", "generous", "curious"])
        return self.rng.choice(
            [
                (f"{one} is {short} than {two}.", f"{one} is more {short} than {two}."),
                (f"{one} is as {long} as {two}.", f"{one} is as {long} than {two}."),
                (f"{one} is more {long} than {two}.", f"{one} is more {long} as {two}."),
            ]
        )

    def _raising(self) -> Minimal:
        one, two, (verb, what) = self._name(), self._person(), self._act()
        return self.rng.choice(
            [
                (f"{one} seems to {verb[0]} {what}.", f"it seems {one} to {verb[0]} {what}."),
                (f"{one} tried to {verb[0]} {what}.", f"{one} tried {two} to {verb[0]} {what}."),
                (f"{one} persuaded {two} to leave.", f"{one} persuaded to leave {two}."),
                (f"it is likely that {one} will leave.", f"{one} is likely that she will leave."),
            ]
        )

    def _tag(self) -> Minimal:
        (woman, man), verb = self._couple(), self.rng.choice(_LIKE)
        return self.rng.choice(
            [
                (f"{woman} {verb[2]} {man}, didn't she?", f"{woman} {verb[2]} {man}, wasn't she?"),
                (f"{man} has {verb[3]} it, hasn't he?", f"{man} has {verb[3]} it, doesn't he?"),
                (
                    f"{woman} can {verb[0]} {man}, can't she?",
                    f"{woman} can {verb[0]} {man}, can't?",
                ),
            ]
        )

    def _relative_pronoun(self) -> Minimal:
        who, noun, thing = self._person(), self.rng.choice(_PERSONS), self.rng.choice(_THINGS)
        make, like, rest = (self.rng.choice(verbs) for verbs in (_MAKE, _LIKE, _REST))
        return self.rng.choice(
            [
                (
                    f"the {thing} which {who} {make[2]} is old.",
                    f"the {thing} who {who} {make[2]} is old.",
                ),
                (
                    f"the {noun} who {who} {like[2]} {rest[2]}.",
                    f"the {noun} who {who} {like[2]} him {rest[2]}.",
                ),
                (
                    f"the {noun} whose {thing} {who} {make[2]} {rest[2]}.",
                    f"the {noun} whose {who} {make[2]} the {thing} {rest[2]}.",
                ),
            ]
        )
