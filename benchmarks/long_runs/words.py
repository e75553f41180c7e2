"""The vocabulary of a run: names, identifiers, moments and sentences, drawn anew for each run.

Nothing here is shared between runs but the lists below: identifiers, services, file and column
names are built from them and from syllables, so two runs hardly ever have one in common.
"""

from __future__ import annotations

import datetime
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

_LISTS: dict[str, Any] = json.loads((Path(__file__).parent / "words.json").read_text("utf-8"))
NOUNS: list[str] = _LISTS["nouns"].split()
VERBS: list[str] = _LISTS["verbs"].split()
QUALITIES: list[str] = _LISTS["qualities"].split()
FIRST: list[str] = _LISTS["first"].split()
LAST: list[str] = _LISTS["last"].split()
PLACES: list[str] = _LISTS["places"].split()
PROSE: dict[str, dict[str, list[str]]] = _LISTS["prose"]
"""By language: sentence patterns, things, acts, and how a page says what it is."""
LANGUAGES = tuple(PROSE)
_SYLLABLES: list[str] = _LISTS["syllables"].split()
_HEX = "0123456789abcdef"
_B32 = "ABCDEFGHJKMNPQRSTVWXYZ23456789"


class Words:
    """What one run calls its things."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.nouns = dice.sample(NOUNS, 60)
        self.verbs = dice.sample(VERBS, 30)
        self.day = datetime.datetime(2019, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(
            minutes=dice.randrange(4**11)
        )
        self._id = dice.choice(_ID_STYLES)
        self._moment = dice.choice(_MOMENTS)
        self._taken: set[str] = set()

    def of(self, items: Sequence[T]) -> T:
        """Any of them."""
        return self.dice.choice(items)

    def some(self, items: Sequence[T], most: int) -> list[T]:
        """Up to `most` of them."""
        return self.dice.sample(items, min(len(items), self.dice.randint(1, most)))

    def noun(self) -> str:
        """One of the run's own nouns."""
        return self.dice.choice(self.nouns)

    def verb(self) -> str:
        """One of the run's own verbs."""
        return self.dice.choice(self.verbs)

    def snake(self, parts: int = 2) -> str:
        """A name such as `load_ledger_entry`."""
        return "_".join([self.verb(), *(self.noun() for _ in range(parts - 1))])

    def camel(self, parts: int = 2) -> str:
        """A name such as `LedgerEntry`."""
        return "".join(self.noun().title() for _ in range(parts))

    def made_up(self) -> str:
        """A word of syllables, as products are named."""
        return "".join(self.dice.choice(_SYLLABLES) for _ in range(self.dice.randint(2, 3)))

    def person(self) -> str:
        """First and last name, not the same twice in a run."""
        while True:
            name = f"{self.of(FIRST)} {self.of(LAST)}"
            if name not in self._taken:
                self._taken.add(name)
                return name
            if self.dice.random() < 0.3:
                return f"{name} {self.dice.choice(_B32)}."

    def ident(self, of: str = "") -> str:
        """An identifier in the run's own style."""
        return self._id(self.dice, of or self.noun())

    def hexes(self, length: int) -> str:
        """So many hexadecimal digits."""
        return "".join(self.dice.choice(_HEX) for _ in range(length))

    def uuid(self) -> str:
        """A UUID's form."""
        return "-".join(self.hexes(n) for n in (8, 4, 4, 4, 12))

    def ip(self) -> str:
        """A private address."""
        return "10." + ".".join(str(self.dice.randrange(256)) for _ in range(3))

    def amount(self) -> str:
        """A sum with two digits after the point."""
        return f"{self.dice.lognormvariate(5, 1.3):.2f}"

    def moment(self, seconds: float) -> str:
        """The run's day plus so many seconds, in the run's way of writing it."""
        return self._moment(self.day + datetime.timedelta(seconds=seconds))

    def date(self) -> str:
        """Some day around the run's."""
        return (self.day - datetime.timedelta(days=self.dice.randrange(900))).date().isoformat()

    def size(self, low: int = 50, middle: int = 900, high: int = 40_000) -> int:
        """Tokens a result should have: mostly near `middle`, with a long tail."""
        return int(min(high, max(low, self.dice.lognormvariate(0, 1.25) * middle)))

    def sentence(self, language: str = "en") -> str:
        """A sentence about somebody, something and some number."""
        prose = PROSE[language]
        return self.of(prose["patterns"]).format(
            who=self.of(FIRST) + " " + self.of(LAST),
            place=self.of(PLACES),
            thing=self.of(prose["things"]),
            other=self.of(prose["things"]),
            act=self.of(prose["acts"]),
            how=self.of(prose["how"]),
            name=self.made_up().title(),
            year=self.dice.randrange(1820, 2026),
            number=f"{self.dice.randrange(3, 90_000):,}",
            share=f"{self.dice.uniform(0.3, 97):.1f}",
        )

    def paragraph(self, language: str = "en", most: int = 7) -> str:
        """A few sentences."""
        space = "" if language in ("zh", "ja") else " "
        return space.join(self.sentence(language) for _ in range(self.dice.randint(2, most)))


def _numbered(dice: random.Random, of: str) -> str:
    return str(dice.randrange(10**5, 10**8))


def _prefixed(dice: random.Random, of: str) -> str:
    return f"{of[:3]}_{dice.randrange(10**4, 10**7)}"


def _dashed(dice: random.Random, of: str) -> str:
    return f"{of[:4].upper()}-{dice.randrange(1000, 10**6)}"


def _random(dice: random.Random, of: str) -> str:
    return "".join(dice.choice(_B32) for _ in range(dice.randint(6, 10)))


def _hexed(dice: random.Random, of: str) -> str:
    return "".join(dice.choice(_HEX) for _ in range(24))


def _uuid(dice: random.Random, of: str) -> str:
    return "-".join("".join(dice.choice(_HEX) for _ in range(n)) for n in (8, 4, 4, 4, 12))


def _stripe(dice: random.Random, of: str) -> str:
    alphabet = _B32 + _B32.lower()
    return f"{of[:2]}_" + "".join(dice.choice(alphabet) for _ in range(14))


_ID_STYLES: list[Callable[[random.Random, str], str]] = [
    _numbered,
    _prefixed,
    _dashed,
    _random,
    _hexed,
    _uuid,
    _stripe,
]
_MOMENTS: list[Callable[[datetime.datetime], str]] = [
    lambda m: m.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    lambda m: m.strftime("%Y-%m-%d %H:%M:%S,") + f"{m.microsecond // 1000:03d}",
    lambda m: m.strftime("%b %d %H:%M:%S"),
    lambda m: m.strftime("%d/%b/%Y:%H:%M:%S +0000"),
    lambda m: f"{m.timestamp():.3f}",
    lambda m: m.strftime("[%H:%M:%S.%f]"),
    lambda m: m.strftime("%Y/%m/%d %H:%M:%S"),
]
