"""Pairs of sentences with a similarity from 0 (unrelated) to 5 (same meaning).

Both sentences describe an event: who does what to what, where and when. The second event is the
first with some parts replaced; each replacement lowers the similarity by what it takes away from
the meaning, not by how many letters it touches. Wording changes freely and costs nearly nothing:
synonyms, the passive, the order of the phrases.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Action:
    """Something to do to a thing; each verb as present form and participle."""

    plain: tuple[str, str]
    synonym: tuple[str, str]
    other: tuple[str, str]
    things: tuple[str, ...]
    looks: tuple[str, ...]
    indoors: bool


# A word, another word for the same, and a word for something akin.
_PEOPLE: list[tuple[str, str, str]] = [
    ("man", "guy", "woman"), ("woman", "lady", "man"), ("boy", "young boy", "girl"),
    ("girl", "young girl", "boy"), ("farmer", "farm worker", "fisherman"),
    ("doctor", "physician", "nurse"), ("police officer", "cop", "firefighter"),
    ("teacher", "schoolteacher", "student"), ("cook", "chef", "waiter"),
    ("cyclist", "bike rider", "runner"), ("child", "kid", "teenager"),
    ("soldier", "trooper", "sailor"), ("nanny", "babysitter", "grandmother"),
]  # fmt: skip
_MOODS = ["tall", "smiling", "tired", "cheerful", "barefoot", "hungry", "sunburned", "sleepy"]
_INDOORS: list[tuple[str, str, str]] = [
    ("in the kitchen", "inside the kitchen", "in the garage"),
    ("at a table", "by a table", "at a window"),
    ("in a living room", "inside a living room", "in a classroom"),
    ("on a couch", "while sitting on a sofa", "on the floor"),
]
_OUTDOORS: list[tuple[str, str, str]] = [
    ("in a park", "at the park", "on a beach"),
    ("on the street", "in the road", "in a field"),
    ("near a lake", "by a lake", "near a factory"),
    ("at the market", "in the marketplace", "at the airport"),
    ("in front of a house", "outside a house", "behind a school"),
]
_TIMES = ["in the morning", "at night", "on Sunday", "after lunch", "before dawn"]
_NUMBERS = ["two", "three", "four", "five"]
_ACTIONS = [
    Action(("slicing", "sliced"), ("cutting up", "cut up"), ("peeling", "peeled"),
           ("onion", "tomato", "potato", "cucumber", "carrot"),
           ("large", "small", "fresh", "cold"), True),
    Action(("repairing", "repaired"), ("fixing", "fixed"), ("selling", "sold"),
           ("bicycle", "car", "radio", "boat", "clock"), ("old", "red", "blue", "rusty"), False),
    Action(("carrying", "carried"), ("lugging", "lugged"), ("opening", "opened"),
           ("suitcase", "crate", "package", "bag", "basket"),
           ("heavy", "brown", "green", "black"), False),
    Action(("reading", "read"), ("looking through", "looked through"), ("tearing up", "torn up"),
           ("newspaper", "letter", "book", "map", "menu"), ("thick", "old", "wet", "faded"), True),
    Action(("washing", "washed"), ("cleaning", "cleaned"), ("painting", "painted"),
           ("car", "window", "boat", "truck", "wall"), ("white", "gray", "red", "dusty"), False),
    Action(("petting", "petted"), ("stroking", "stroked"), ("feeding", "fed"),
           ("dog", "horse", "cat", "goat", "rabbit"), ("brown", "black", "white", "gray"), False),
    Action(("chasing", "chased"), ("running after", "run after"), ("filming", "filmed"),
           ("dog", "chicken", "bus", "kite", "squirrel"), ("small", "red", "black", "wet"), False),
    Action(("playing", "played"), ("performing on", "performed on"), ("tuning", "tuned"),
           ("guitar", "piano", "violin", "harp", "cello"), ("old", "black", "small", "new"), True),
    Action(("throwing", "thrown"), ("tossing", "tossed"), ("catching", "caught"),
           ("ball", "stick", "pebble", "rope", "hat"), ("yellow", "white", "wet", "heavy"), False),
    Action(("pushing", "pushed"), ("shoving", "shoved"), ("pulling", "pulled"),
           ("cart", "stroller", "sled", "wheelbarrow", "boat"),
           ("wooden", "empty", "green", "broken"), False),
    Action(("buying", "bought"), ("purchasing", "purchased"), ("stealing", "stolen"),
           ("hat", "coat", "basket", "lamp", "scarf"), ("blue", "yellow", "woolen", "new"), False),
    Action(("drawing", "drawn"), ("sketching", "sketched"), ("erasing", "erased"),
           ("tree", "horse", "bridge", "castle", "flower"), ("tall", "small", "blue", "old"), True),
]  # fmt: skip

# News: who, how they are put otherwise, and who is akin.
_SOURCES: dict[str, tuple[str, str, str]] = {
    "bank": ("The central bank", "The nation's central bank", "The finance ministry"),
    "airline": ("The airline", "The carrier", "The railway"),
    "council": ("The city council", "The local council", "The regional parliament"),
    "cars": ("The carmaker", "The automobile manufacturer", "The phone maker"),
    "head": ("The prime minister", "The head of government", "The opposition leader"),
    "museum": ("The museum", "The gallery", "The university"),
    "union": ("The union", "The workers' union", "The employers' association"),
}
# What happened, put otherwise, the opposite, something akin, and who could have done it.
_EVENTS: list[tuple[str, str, str, str, str]] = [
    ("raised interest rates by a quarter point", "lifted borrowing costs by 0.25 points",
     "lowered interest rates by a quarter point", "kept interest rates where they were", "bank"),
    ("announced {n} hundred new jobs", "said it would hire {n} hundred more people",
     "announced {n} hundred job cuts", "announced a new headquarters", "airline cars museum"),
    ("approved the plan for a bridge", "gave the bridge project the green light",
     "rejected the plan for a bridge", "approved the plan for a tunnel", "council head"),
    ("apologized for the delays", "said sorry for the late service",
     "refused to apologize for the delays", "blamed the weather for the delays",
     "airline council head"),
    ("called off the strike", "ended its planned walkout before it began",
     "called for a strike", "called off the negotiations", "union"),
    ("won the case in court", "was cleared by the judges",
     "lost the case in court", "settled the case out of court", "airline cars museum union head"),
    ("will close {n} branches", "is shutting {n} of its offices",
     "will open {n} branches", "will renovate {n} branches", "bank airline museum"),
    ("reported a rise in profits", "earned more than the year before",
     "reported a fall in profits", "reported a change of leadership", "bank airline cars"),
    ("accepted the offer for the old station", "said yes to the bid for the old station",
     "turned down the offer for the old station", "made an offer for the new station",
     "council museum airline"),
    ("doubled the price of a ticket", "made tickets twice as expensive",
     "halved the price of a ticket", "doubled the number of tickets", "airline museum"),
]  # fmt: skip
_DAYS = ["on Monday", "on Tuesday", "on Thursday", "on Friday", "last week", "this weekend"]


@dataclass(frozen=True)
class Scene:
    """Who does what, where and when; indices into the tables above."""

    who: int
    mood: str
    action: int
    thing: str
    look: str
    place: int
    time: str
    count: str = ""
    other_action: bool = False
    other_who: bool = False
    other_place: bool = False
    still: bool = False
    """The event does not take place."""


def _article(words: str) -> str:
    return f"{'an' if words[0] in 'aeio' else 'a'} {words}"


def _plural(noun: str) -> str:
    return f"{noun}es" if noun.endswith(("tomato", "potato", "bus", "x", "ch")) else f"{noun}s"


def _places(action: int) -> list[tuple[str, str, str]]:
    return _INDOORS if _ACTIONS[action].indoors else _OUTDOORS


class Describer:
    """Writes pairs of sentences with a similarity."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def pair(self) -> tuple[str, str, float]:
        """Two sentences and their similarity, as the mean of a handful of annotators."""
        one, two, similarity = self._news() if self.rng.random() < 0.35 else self._scenes()
        if self.rng.random() < 0.5:
            one, two = two, one
        # Five annotators who are off by one now and then: means are multiples of 0.2.
        votes = [min(5, max(0, round(similarity + self.rng.gauss(0.0, 0.55)))) for _ in range(5)]
        return one, two, sum(votes) / 5

    def _scenes(self) -> tuple[str, str, float]:
        scene = self._scene()
        if self.rng.random() < 0.14:
            return self._say(scene), self._say(self._scene()), self.rng.uniform(0.0, 0.6)
        if self.rng.random() < 0.1:
            # The same words, with the parts exchanged.
            other = self._scene().who
            if other != scene.who:
                here = self.rng.choice(_OUTDOORS)[0]
                first, second = _PEOPLE[scene.who][0], _PEOPLE[other][0]
                verb = self.rng.choice(["waving to", "shouting at", "waiting for", "following"])
                return (
                    f"{_article(first).capitalize()} is {verb} {_article(second)} {here}.",
                    f"{_article(second).capitalize()} is {verb} {_article(first)} {here}.",
                    2.4,
                )
        changed, similarity = scene, 5.0
        for _ in range(self.rng.choice([0, 0, 1, 1, 1, 2, 2, 3])):
            changed, cost = self._change(changed)
            similarity -= cost
        return self._say(scene), self._say(changed, reword=0.75), max(0.3, similarity)

    def _scene(self) -> Scene:
        choice, chance = self.rng.choice, self.rng.random
        action = self.rng.randrange(len(_ACTIONS))
        return Scene(
            who=self.rng.randrange(len(_PEOPLE)),
            mood=choice(_MOODS) if chance() < 0.35 else "",
            action=action,
            thing=choice(_ACTIONS[action].things),
            look=choice(_ACTIONS[action].looks) if chance() < 0.35 else "",
            place=self.rng.randrange(len(_places(action))) if chance() < 0.6 else -1,
            time=choice(_TIMES) if chance() < 0.25 else "",
            count=choice(_NUMBERS) if chance() < 0.15 else "",
        )

    def _change(self, scene: Scene) -> tuple[Scene, float]:
        """The scene with one part changed, and how much of the meaning goes with it."""
        action = _ACTIONS[scene.action]
        ways: list[tuple[Scene, float]] = [
            (replace(scene, other_action=True), 2.2),
            (replace(scene, other_who=True), 1.3),
            (replace(scene, thing=self._other(scene.thing, action.things)), 1.9),
            (replace(scene, still=True), 2.4),
            (replace(scene, mood=self._other(scene.mood, _MOODS)), 0.7),
        ]
        if scene.place >= 0:
            ways.append((replace(scene, other_place=True), 1.1))
            ways.append((replace(scene, place=-1), 0.7))
        if scene.look:
            ways.append((replace(scene, look=self._other(scene.look, action.looks)), 1.0))
            ways.append((replace(scene, look=""), 0.5))
        if scene.time:
            ways.append((replace(scene, time=self._other(scene.time, _TIMES)), 1.0))
        if scene.count:
            ways.append((replace(scene, count=self._other(scene.count, _NUMBERS)), 1.0))
        new, cost = self.rng.choice(ways)
        return (new, cost) if new != scene else (scene, 0.0)

    def _other(self, word: str, words: Sequence[str]) -> str:
        return self.rng.choice([each for each in words if each != word])

    def _say(self, scene: Scene, reword: float = 0.25) -> str:
        """The scene as a sentence; each part in its other wording with probability `reword`."""
        again = [self.rng.random() < reword for _ in range(4)]
        person = _PEOPLE[scene.who]
        who = person[2] if scene.other_who else person[again[0]]
        who = f"{scene.mood} {who}" if scene.mood else who
        action = _ACTIONS[scene.action]
        verb = action.other if scene.other_action else (action.plain, action.synonym)[again[1]]
        thing = f"{scene.look} {scene.thing}" if scene.look else scene.thing
        thing = f"{scene.count} {_plural(thing)}" if scene.count else _article(thing)
        place = ""
        if scene.place >= 0:
            place = _places(scene.action)[scene.place][2 if scene.other_place else again[2]]
        no = "not " if scene.still else ""
        if again[3] and self.rng.random() < 0.5:
            are = "are" if scene.count else "is"
            words = f"{thing} {are} {no}being {verb[1]} by {_article(who)} {place} {scene.time}"
        elif scene.time and again[3]:
            words = f"{scene.time}, {_article(who)} is {no}{verb[0]} {thing} {place}"
        else:
            words = f"{_article(who)} is {no}{verb[0]} {thing} {place} {scene.time}"
        words = " ".join(words.split())
        return f"{words[0].upper()}{words[1:]}."

    def _news(self) -> tuple[str, str, float]:
        event = self.rng.choice(_EVENTS)
        key = self.rng.choice(event[4].split())
        source = _SOURCES[key]
        number, day = self.rng.choice(_NUMBERS), self.rng.choice(_DAYS)

        def say(who: str, what: str, count: str, when: str) -> str:
            what = what.format(n=count)
            if when and self.rng.random() < 0.4 and not what.startswith(("will", "is ")):
                return f"{when[0].upper()}{when[1:]} {who[0].lower()}{who[1:]} {what}."
            return f"{who} {what} {when}".rstrip() + "."

        kind = self.rng.random()
        one = say(source[0], event[0], number, day)
        if kind < 0.25:
            return one, say(source[self.rng.choice([0, 1])], event[1], number, day), 4.8
        if kind < 0.37:
            return one, say(source[1], event[self.rng.choice([0, 1])], number, ""), 4.1
        if kind < 0.5:
            return one, say(source[1], event[0], number, self._other(day, _DAYS)), 3.9
        if kind < 0.65:
            return one, say(source[0], event[2], number, day), 2.0
        if kind < 0.78:
            return one, say(source[2], event[self.rng.choice([0, 1])], number, day), 2.6
        if kind < 0.88:
            return one, say(source[1], event[3], number, day), 1.6
        other = self.rng.choice([each for each in _EVENTS if each is not event])
        same = key in other[4].split() and self.rng.random() < 0.8
        who = source if same else _SOURCES[self.rng.choice(other[4].split())]
        text = say(who[0], other[0], number, self.rng.choice(_DAYS))
        return one, text, 0.9 if who is source else 0.2
