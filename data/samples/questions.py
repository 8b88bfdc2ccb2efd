"""Pairs of questions that ask the same or only look as if they did.

An intent is what somebody wants to know; it has several wordings, which are paraphrases of each
other. A pair that asks the same is two wordings of one intent. A pair that does not keeps most of
the words and changes the intent: another thing, number or direction, a negation, or the wording of
a neighboring intent.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

_SLOTS: dict[str, list[str]] = {
    "city": [
        "Lisbon", "Oslo", "Nairobi", "Osaka", "Toronto", "Lima", "Vienna", "Hanoi", "Denver",
        "Glasgow", "Athens", "Cairo", "Seville", "Krakow", "Montreal", "Bergen",
    ],
    "country": [
        "Portugal", "Norway", "Kenya", "Japan", "Canada", "Peru", "Austria", "Vietnam", "Egypt",
        "Greece", "Chile", "Poland", "Iceland", "Morocco", "Thailand", "Uruguay",
    ],
    "language": [
        "Spanish", "Korean", "Arabic", "French", "Swahili", "German", "Turkish", "Greek", "Welsh",
        "Polish", "Hindi", "Finnish", "Dutch", "Japanese", "Hungarian", "Latin",
    ],
    "instrument": [
        "violin", "guitar", "piano", "cello", "trumpet", "banjo", "flute", "harp", "clarinet",
        "trombone", "mandolin", "saxophone", "bassoon", "ukulele",
    ],
    "code": [
        "Python", "Rust", "Java", "Go", "Haskell", "JavaScript", "Julia", "Fortran", "Kotlin",
        "Scala", "Ruby", "Perl", "Swift", "Lua",
    ],
    "food": [
        "lentils", "potatoes", "chickpeas", "beets", "pancakes", "mushrooms", "noodles",
        "green beans", "carrots", "scallops", "dumplings", "mussels", "artichokes", "meatballs",
        "turnips", "eggplants", "chestnuts", "sausages",
    ],
    "pet": [
        "cat", "dog", "rabbit", "parrot", "hamster", "goldfish", "tortoise", "canary", "ferret",
        "guinea pig", "gecko", "cockatoo", "chinchilla", "hedgehog",
    ],
    "plant": [
        "tomatoes", "roses", "orchids", "cucumbers", "tulips", "ferns", "peppers", "daffodils",
        "peonies", "strawberries", "geraniums", "hydrangeas", "sunflowers", "lilies", "radishes",
        "marigolds",
    ],
    "stain": [
        "red wine", "coffee", "ink", "grass", "tomato sauce", "candle wax", "rust", "soy sauce",
        "mustard", "nail polish",
    ],
    "cloth": [
        "carpet", "cotton shirt", "wool sweater", "sofa", "tablecloth", "silk dress", "mattress",
        "leather jacket", "tie",
    ],
    "device": [
        "phone", "laptop", "tablet", "printer", "router", "smartwatch", "camera", "dishwasher",
        "washing machine", "game console", "television", "vacuum cleaner",
    ],
    "gadget": [
        "phone", "laptop", "tablet", "camera", "desktop computer", "game console", "television",
        "memory card",
    ],
    "unit": ["miles", "kilometers", "meters", "feet", "inches", "centimeters", "yards", "fathoms"],
    "sport": [
        "tennis", "swimming", "rowing", "chess", "fencing", "climbing", "skiing", "archery",
        "judo", "cycling", "sailing", "badminton", "running", "surfing", "golf", "karate",
    ],
    "job": [
        "nurse", "pilot", "carpenter", "translator", "plumber", "librarian", "chef", "surveyor",
        "park ranger", "gardener", "dentist", "pharmacist", "tailor", "journalist",
    ],
    "subject": [
        "algebra", "statistics", "organic chemistry", "grammar", "music theory", "optics",
        "genetics", "thermodynamics", "calculus", "logic", "geometry", "probability",
    ],
    "body": ["knee", "shoulder", "lower back", "ankle", "wrist", "neck", "elbow", "hip", "thumb"],
    "book": [
        "a novel", "a memoir", "a cookbook", "a children's book", "a travel guide", "a biography",
        "a textbook", "a collection of poems", "a crime story", "a comic book",
    ],
    "number": [
        "two", "three", "four", "five", "six", "seven", "nine", "ten", "twelve", "fifteen",
        "twenty", "thirty", "forty", "fifty",
    ],
    "month": [
        "January", "February", "March", "April", "May", "June", "July", "August", "September",
        "October", "November", "December",
    ],
    "bill": ["electricity", "heating", "water", "phone", "grocery", "internet", "gas", "vet"],
    "word": [
        "hence", "whence", "moot", "per diem", "ad hoc", "erstwhile", "nonplussed", "anon",
        "verbatim", "sanguine", "penultimate", "ersatz", "quotidian", "terse",
    ],
}  # fmt: skip
_SLIGHT = {"number", "month", "unit", "country", "book", "city", "bill", "cloth"}


@dataclass(frozen=True)
class Intent:
    """Something one may want to know."""

    wordings: tuple[str, ...]
    """All ask the same. A slot is {name}, or {name1} and {name2} for two different ones."""
    near: tuple[str, ...] = ()
    """Questions in much the same words with other answers."""
    directed: bool = False
    """Swapping {name1} and {name2} gives another question."""
    symmetric: bool = False
    """Swapping {name1} and {name2} gives the same question."""


_INTENTS: tuple[Intent, ...] = (
    Intent(
        (
            "How do I move my photos from a {gadget1} to a {gadget2}?",
            "What is the easiest way to get the pictures on my {gadget1} onto my {gadget2}?",
            "My photos are on my {gadget1}. How can I copy them to a {gadget2}?",
        ),
        (
            "How do I delete my photos from a {gadget1} and a {gadget2}?",
            "Are photos of a {gadget1} as sharp as those of a {gadget2}?",
        ),
        directed=True,
    ),
    Intent(
        (
            "Is {sport1} harder to learn than {sport2}?",
            "Does it take more practice to get good at {sport1} than at {sport2}?",
            "Would a beginner struggle more with {sport1} than with {sport2}?",
        ),
        (
            "Is {sport1} more expensive than {sport2}?",
            "Does {sport1} help to get good at {sport2}?",
        ),
        directed=True,
    ),
    Intent(
        (
            "How can somebody who works as a {job1} switch to being a {job2}?",
            "I am a {job1}. What do I need to become a {job2}?",
            "What does it take to go from a career as a {job1} to one as a {job2}?",
        ),
        ("Does a {job1} work more hours than a {job2}?",),
        directed=True,
    ),
    Intent(
        (
            "Can a {pet1} and a {pet2} live together in peace?",
            "Will keeping a {pet1} together with a {pet2} cause trouble?",
            "Do a {pet1} and a {pet2} get along in one household?",
        ),
        (
            "Does a {pet1} cost more to keep than a {pet2}?",
            "Can a {pet1} and a {pet2} eat the same food?",
        ),
        symmetric=True,
    ),
    Intent(
        (
            "What is the difference between {code1} and {code2}?",
            "In what ways do {code1} and {code2} differ?",
            "How would you tell a program in {code1} from one in {code2}?",
        ),
        (
            "What do {code1} and {code2} have in common?",
            "Which is more popular, {code1} or {code2}?",
        ),
        symmetric=True,
    ),
    Intent(
        (
            "Can I plant {plant1} next to {plant2}?",
            "Do {plant1} and {plant2} grow well side by side?",
            "Is it a bad idea to put {plant1} and {plant2} in the same bed?",
        ),
        (
            "Do {plant1} need more sun than {plant2}?",
            "When do I plant {plant1} and {plant2}?",
        ),
        symmetric=True,
    ),
    Intent(
        (
            "How long does it take to travel from {city1} to {city2}?",
            "What is the travel time between {city1} and {city2}?",
            "How many hours is the trip to {city2} if I start in {city1}?",
            "I am going from {city1} to {city2}. How much time should I plan for?",
        ),
        (
            "How much does it cost to travel from {city1} to {city2}?",
            "What is the distance between {city1} and {city2}?",
            "What is the time difference between {city1} and {city2}?",
        ),
    ),
    Intent(
        (
            "Is it cheaper to live in {city1} than in {city2}?",
            "Does {city1} have a lower cost of living than {city2}?",
            "Would I spend less money living in {city1} than in {city2}?",
            "Are everyday expenses smaller in {city1} than they are in {city2}?",
        ),
        (
            "Is it safer to live in {city1} than in {city2}?",
            "Does {city1} have a lower crime rate than {city2}?",
        ),
        directed=True,
    ),
    Intent(
        (
            "What is the best way to learn {language}?",
            "How can I teach myself {language}?",
            "What should I do to become fluent in {language}?",
            "How do people manage to pick up {language} on their own?",
        ),
        (
            "What is the best way to teach {language}?",
            "What is the best app to translate {language}?",
            "How long does it take to learn {language}?",
        ),
    ),
    Intent(
        (
            "How do I translate a letter from {language1} into {language2}?",
            "What is a good way to turn a letter in {language1} into {language2}?",
            "I have a letter written in {language1}. How can I get it into {language2}?",
        ),
        (
            "How do I write a letter in {language1} and {language2}?",
            "How different are {language1} and {language2} in a letter?",
        ),
        directed=True,
    ),
    Intent(
        (
            "How do I convert {unit1} to {unit2}?",
            "What is the formula for turning {unit1} into {unit2}?",
            "I have a figure in {unit1}. How can I express it in {unit2}?",
        ),
        ("Why do some countries use {unit1} and others {unit2}?",),
        directed=True,
    ),
    Intent(
        (
            "Can I learn the {instrument} at the age of {number}?",
            "Is {number} years old a suitable age for starting the {instrument}?",
            "I am {number}. Could I still take up the {instrument}?",
        ),
        (
            "Can I learn the {instrument} in {number} weeks?",
            "Is a {instrument} that is {number} years old still playable?",
        ),
    ),
    Intent(
        (
            "How much does a decent {instrument} cost?",
            "What should I expect to pay for a good {instrument}?",
            "What is the usual price of a {instrument} that is worth playing?",
        ),
        (
            "How much does a decent {instrument} teacher cost?",
            "What should I expect to earn as a {instrument} player?",
            "How much does a decent {instrument} weigh?",
        ),
    ),
    Intent(
        (
            "Should I learn {code1} before {code2}?",
            "Is it wise to start with {code1} and move on to {code2} later?",
            "Would you advise {code1} as a first language and {code2} as the second?",
        ),
        (
            "Should I use {code1} together with {code2}?",
            "Is {code1} faster than {code2}?",
        ),
        directed=True,
    ),
    Intent(
        (
            "How do I read a text file line by line in {code}?",
            "What is the {code} way of going through the lines of a file one at a time?",
            "In {code}, how can I loop over the lines of a text file?",
        ),
        (
            "How do I write a text file line by line in {code}?",
            "How do I count the lines of a text file in {code}?",
            "In {code}, how can I delete the lines of a text file?",
        ),
    ),
    Intent(
        (
            "How long should I cook {food}?",
            "What is the right cooking time for {food}?",
            "After how many minutes are {food} done?",
            "When do I take {food} off the stove?",
        ),
        (
            "How long can I keep cooked {food}?",
            "What is the right temperature for cooking {food}?",
            "After how many minutes do {food} get cold?",
        ),
    ),
    Intent(
        (
            "Can I freeze {food}?",
            "Is it all right to put {food} in the freezer?",
            "Do {food} survive being frozen?",
        ),
        (
            "Can I eat frozen {food}?",
            "Is it all right to put {food} in the microwave?",
            "How do I thaw {food} from the freezer?",
        ),
    ),
    Intent(
        (
            "Why does my {pet} not eat?",
            "What could be the reason that my {pet} refuses food?",
            "My {pet} has stopped eating. What might be wrong?",
        ),
        (
            "Why does my {pet} eat so much?",
            "What food is right for my {pet}?",
            "Why does my {pet} not sleep?",
        ),
    ),
    Intent(
        (
            "Is it safe to leave a {pet} alone for {number} hours?",
            "Can a {pet} stay at home by itself for {number} hours?",
            "Will my {pet} be fine without company for {number} hours?",
        ),
        (
            "Is it safe to leave a {pet} alone with a child for {number} hours?",
            "Can a {pet} sleep for {number} hours?",
        ),
    ),
    Intent(
        (
            "How often should I water {plant}?",
            "How many times a week do {plant} need water?",
            "What is a good watering schedule for {plant}?",
        ),
        (
            "How often should I cut {plant}?",
            "How much sun do {plant} need in a week?",
            "What is a good planting schedule for {plant}?",
        ),
    ),
    Intent(
        (
            "How do I get {stain} out of a {cloth}?",
            "What removes {stain} from a {cloth}?",
            "I spilled {stain} on my {cloth}. How can I clean it?",
            "Which household remedy works on a {cloth} stained with {stain}?",
        ),
        (
            "How do I keep {stain} off a {cloth}?",
            "Which color of {cloth} hides {stain}?",
        ),
    ),
    Intent(
        (
            "Why is my {device} not turning on?",
            "My {device} won't start. What can I do?",
            "What should I check when a {device} refuses to power up?",
        ),
        (
            "Why is my {device} not turning off?",
            "Why is my {device} turning on by itself?",
            "What should I check when buying a {device}?",
        ),
    ),
    Intent(
        (
            "Is it worth repairing a {device} that is {number} years old?",
            "Should I have my {number}-year-old {device} fixed?",
            "Does mending a {device} still pay off after {number} years?",
        ),
        (
            "Is it worth keeping a {device} that is {number} years old as a spare?",
            "Should I sell my {number}-year-old {device}?",
        ),
    ),
    Intent(
        (
            "Can adults take up {sport} without any experience?",
            "Is it possible to begin {sport} as a grown-up who has never tried it?",
            "Am I too old to get into {sport} as a complete beginner?",
        ),
        (
            "Can adults with experience teach {sport}?",
            "Can children take up {sport} without any equipment?",
        ),
    ),
    Intent(
        (
            "Why should one take up {sport}?",
            "What speaks in favor of doing {sport}?",
            "What are the benefits of {sport}?",
        ),
        (
            "Why should one not take up {sport}?",
            "What speaks against doing {sport}?",
            "What are the dangers of {sport}?",
        ),
    ),
    Intent(
        (
            "How do I become a {job} in {country}?",
            "What training does a {job} need in {country}?",
            "Which qualifications are required to work as a {job} in {country}?",
        ),
        (
            "How much does a {job} earn in {country}?",
            "How do I find a {job} in {country}?",
        ),
    ),
    Intent(
        (
            "Is there a shortage of people working as a {job} in {country}?",
            "Is it hard for employers in {country} to find and hire a {job}?",
            "Is somebody who wants to be a {job} in demand in {country}?",
        ),
        (
            "Is there a surplus of people working as a {job} in {country}?",
            "Is it hard to find work as a {job} in {country}?",
        ),
    ),
    Intent(
        (
            "Do I need a visa to visit {country}?",
            "Can I enter {country} without a visa?",
            "Are tourists required to have a visa for {country}?",
        ),
        (
            "Do I need a vaccination to visit {country}?",
            "Can I work in {country} with a tourist visa?",
            "How long is a tourist visa for {country} valid?",
        ),
    ),
    Intent(
        (
            "What is the weather like in {city} in {month}?",
            "How warm or cold does {city} get in {month}?",
            "I will be in {city} in {month}. What temperatures should I expect?",
        ),
        (
            "What is there to do in {city} in {month}?",
            "How crowded does {city} get in {month}?",
        ),
    ),
    Intent(
        (
            "How can I understand {subject} better?",
            "What helps to get a firmer grasp of {subject}?",
            "I struggle with {subject}. How do I improve?",
        ),
        (
            "How can I explain {subject} better?",
            "Who invented {subject}?",
            "Do I need to understand {subject} to be a doctor?",
        ),
    ),
    Intent(
        (
            "What exercises help with pain in the {body}?",
            "My {body} hurts. Which movements would ease it?",
            "How do I train away an aching {body}?",
        ),
        (
            "What exercises cause pain in the {body}?",
            "My {body} hurts. Which doctor should I see?",
        ),
    ),
    Intent(
        (
            "How many pages should {book} have?",
            "What is a sensible length for {book}?",
            "How long is {book} supposed to be?",
        ),
        (
            "How many months does it take to write {book}?",
            "What is a sensible price for {book}?",
            "How many pages should I read of {book} each day?",
        ),
    ),
    Intent(
        (
            "How can I lower my {bill} bill?",
            "What can be done to spend less on my {bill} bill?",
            "Which habits keep a {bill} bill small?",
        ),
        (
            "Why is my {bill} bill getting lower?",
            "How can I pay my {bill} bill online?",
            "What can be done about an unpaid {bill} bill?",
        ),
    ),
    Intent(
        (
            'What does "{word}" mean?',
            'What is the meaning of the word "{word}"?',
            'How would you define "{word}"?',
            'In what sense do people use "{word}"?',
        ),
        (
            'How do you pronounce "{word}"?',
            'Where does the word "{word}" come from?',
            'Is it rude to use "{word}"?',
        ),
    ),
)  # fmt: skip

_OPENERS = [""] * 26 + ["Does anyone know: ", "Quick question: ", "Seriously, ", "So "]
_CLOSERS = [""] * 22 + [" Any advice is welcome.", " Thanks!"]
# Other words for the same, whatever the question is about.
_REWORDINGS: list[tuple[str, list[str]]] = [
    (r"^How do I ", ["How can one ", "How would I ", "What do I do to "]),
    (r"^How can I ", ["How do I ", "In what way can I ", "What can I do to "]),
    (r"^What is the best ", ["What's the best ", "Which is the best "]),
    (r"^What is ", ["What's ", "Can you tell me what is "]),
    (r"^Can I ", ["Am I able to ", "Could I "]),
    (r"^Is it possible to ", ["Can one ", "Could somebody "]),
    (r"^Is it worth ", ["Is there any sense in ", "Is there any point in "]),
    (r"^Is it (safe|cheaper|hard|wise|rude|all right) ", [r"Would it be \1 ", r"Is it really \1 "]),
    (r"^Why does my ", ["What makes my ", "For what reason does my "]),
    (r"^Why is my ", ["For what reason is my "]),
    (r"^How long does it take ", ["How much time does it take ", "How long will it take "]),
    (r"^How much does ", ["Roughly how much does ", "About how much does "]),
    (r"^How often should I ", ["How frequently should I ", "How often must I "]),
    (r"^How many ", ["About how many ", "Roughly how many "]),
    (r"^Should I ", ["Would you say that I should ", "Do you think I should "]),
    (r"^Do I need a ", ["Must I have a ", "Is it true that I need a "]),
    (r"^Does (\{\w+\}) have ", [r"Is it true that \1 has "]),
    (r"^Do (\{\w+\}) ", [r"Is it true that \1 "]),
    (r"^Can (adults|children|a \{pet1?\}) ", [r"Could \1 ", r"Do you think \1 can "]),
]


def _swapped(values: dict[str, str]) -> dict[str, str]:
    first, second = sorted(values)
    return {first: values[second], second: values[first]}


def _reworder(question: str) -> tuple[str, list[str]] | None:
    """The first rewording that applies."""
    return next((each for each in _REWORDINGS if re.search(each[0], question)), None)


class Asker:
    """Writes pairs of questions."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def same(self) -> tuple[str, str]:
        """Two questions that ask the same: two wordings of an intent, or one slightly reworded."""
        intent = self.rng.choice(_INTENTS)
        values = self._values(intent)
        one, two = self.rng.sample(intent.wordings, 2)
        swap = intent.symmetric and self.rng.random() < 0.6
        # The neighbors too, or a question that is one of those would always mean "different".
        able = [each for each in intent.wordings + 2 * intent.near if _reworder(each)]
        if able and self.rng.random() < 0.25:
            one, swap = self.rng.choice(able), False
            two = self._reword(one)
        return self._dressed(one, values, two, _swapped(values) if swap else values)

    def different(self) -> tuple[str, str]:
        """Two questions that ask for different things in much the same words."""
        intent = self.rng.choice(_INTENTS)
        values = self._values(intent)
        one, two = self.rng.sample(intent.wordings, 2)
        changed, kind = dict(values), self.rng.random()
        if intent.directed and kind < 0.5:
            two, changed = self.rng.choice([one, two]), _swapped(values)
        elif kind < 0.55:
            two = self.rng.choice(intent.near)
        elif kind < 0.98:
            if self.rng.random() < 0.25:
                one = self.rng.choice(intent.near)
            two, changed = self.rng.choice([one, one, two]), self._change(values)
        else:  # a few that are plainly about something else
            other = self.rng.choice([each for each in _INTENTS if each is not intent])
            two, changed = self.rng.choice(other.wordings), self._values(other)
        return self._dressed(one, values, two, changed)

    def _dressed(
        self, one: str, first: dict[str, str], two: str, second: dict[str, str]
    ) -> tuple[str, str]:
        """Both questions with their slots filled, in any order."""
        pair = [self._dress(one.format_map(first)), self._dress(two.format_map(second))]
        self.rng.shuffle(pair)
        return pair[0], pair[1]

    def _reword(self, question: str) -> str:
        pattern, others = _reworder(question) or ("", [""])
        return re.sub(pattern, self.rng.choice(others), question)

    def _values(self, intent: Intent) -> dict[str, str]:
        names = sorted(set(re.findall(r"\{(\w+)\}", intent.wordings[0])))
        kinds = {name.rstrip("12") for name in names}
        return {
            name: value
            for kind in sorted(kinds)
            for name, value in zip(
                [name for name in names if name.rstrip("12") == kind],
                self.rng.sample(_SLOTS[kind], len(names)),
                strict=False,
            )
        }

    def _change(self, values: dict[str, str]) -> dict[str, str]:
        """The same slots with one filled otherwise; if possible, one that stands out little."""
        slight = [name for name in values if name.rstrip("12") in _SLIGHT]
        name = self.rng.choice(sorted(slight or values))
        others = [word for word in _SLOTS[name.rstrip("12")] if word not in values.values()]
        return {**values, name: self.rng.choice(others)}

    def _dress(self, question: str) -> str:
        opener = self.rng.choice(_OPENERS)
        if opener.endswith(": ") or not opener:
            return f"{opener}{question}{self.rng.choice(_CLOSERS)}"
        lower = question if question.startswith("I ") else question[0].lower() + question[1:]
        return f"{opener}{lower}{self.rng.choice(_CLOSERS)}"
