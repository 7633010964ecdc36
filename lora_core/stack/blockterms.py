"""The grammar of block strengths: `double.0-9=0.5, te=0`, `style`. Parsed by hand, and known without any model.

strengths = term {"," term}         later terms win
term      = selector "=" number     the share of the LoRA's strength that these blocks get, -100 to 100
          | preset                  a name that stands for terms
selector  = name ["." range]        double, double.3, double.0-9, te, te.clip_l, other, all
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import OptionError
from ..options import STRENGTH_LIMIT

LONGEST = 1000  # characters
_NUMBER = frozenset("+-.0123456789eE")
_EXAMPLE = "write for example double.0-9=0.5, te=0"


@dataclass(frozen=True, slots=True)
class Term:
    """One term; a preset has no value."""

    name: str  # of a group, a text encoder or a preset
    numbers: tuple[int, int] | None = None  # first and last; None for all of the group
    value: float | None = None

    @property
    def selector(self) -> str:
        if self.numbers is None:
            return self.name
        first, last = self.numbers
        return f"{self.name}.{first}" if first == last else f"{self.name}.{first}-{last}"

    def __str__(self) -> str:
        return self.selector if self.value is None else f"{self.selector}={self.value:g}"


@dataclass(frozen=True, slots=True)
class BlockStrengths:
    """Strengths for blocks as a user wrote them; false if there are none."""

    terms: tuple[Term, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.terms)

    def __str__(self) -> str:
        return ", ".join(map(str, self.terms))


def parse_blocks(text: object, where: str = "blocks") -> BlockStrengths:
    """Return the strengths that `text` writes; names are judged when the model is known.

    Raises OptionError, beginning with `where`, for what is not of the grammar, for numbers that are not finite or out
    of range, and for more than 1,000 characters.
    """
    if not isinstance(text, str):  # rows and workflows are edited by hand
        raise OptionError(f"{where}: expected text, found {text!r}; {_EXAMPLE}.")
    if len(text) > LONGEST:
        raise OptionError(f"{where}: {len(text):,} characters; at most {LONGEST:,} are read.")
    terms = (term.strip() for term in text.replace("\n", ",").split(","))
    return BlockStrengths(tuple(_term(term, where) for term in terms if term))


def _term(text: str, where: str) -> Term:
    selector, equals, number = (part.strip() for part in text.partition("="))
    name, numbers = _selector(selector.lower(), where)
    if not name or any(character.isspace() for character in name):
        raise OptionError(f"{where}: {text!r} names no block; {_EXAMPLE}.")
    if equals:
        return Term(name, numbers, _number(number, text, where))
    if numbers is not None:
        raise OptionError(f"{where}: {text!r} has no strength; write {text}=0.5.")
    return Term(name)


def _selector(text: str, where: str) -> tuple[str, tuple[int, int] | None]:
    """Return (name, its range); what follows the last dot belongs to the name unless it is a range."""
    name, dot, end = text.rpartition(".")
    first, dash, last = end.partition("-")
    if not dot or not _is_count(first) or (dash and not _is_count(last)):
        return text, None
    numbers = int(first), int(last if dash else first)
    if numbers[0] > numbers[1]:
        raise OptionError(f"{where}: {text!r} counts backwards; write {name}.{last}-{first}.")
    return name, numbers


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 6


def _number(text: str, term: str, where: str) -> float:
    try:
        number = float(text) if text and set(text) <= _NUMBER else math.nan
    except ValueError:
        number = math.nan
    if not abs(number) <= STRENGTH_LIMIT:  # NaN fails too
        raise OptionError(f"{where}: {term!r}: expected a number within -100 and 100, found {text!r}.")
    return number
