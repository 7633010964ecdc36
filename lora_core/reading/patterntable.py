"""Many module patterns at once: which of them, in their order, is the first that matches a module.

PEFT and diffusers write a pattern for each module, so nearly all patterns are names, or ends of names, and are looked
up: a name costs as much as it has dots, however many patterns there are. The steps of a whole file are counted before
the first is taken, because strangers choose both the patterns and the names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from .patternparser import PatternError
from .patterns import LONGEST, ModulePattern

MOST_STEPS = 10**8  # of one file: two seconds, and a hundred times what the largest honest one takes
MOST_CHARACTERS = 20_000  # of the patterns of one table that have to be matched sign by sign
_STEPS_BESIDE = 16  # of a look-up, or of one sign in a pattern, besides those that depend on the length
_PLAIN = re.compile(r"[^\\^$*+?{}\[\]|()]*")
_TAIL = re.compile(r"(?:[^\\^$*+?{}\[\]|()]|\\[^0-9A-Za-z])*")  # characters, each matched by one
_ANY = 0x1FFFFF  # stands for any character: has the bits of all, and is none

# Where a tail may begin: it is the whole name, or one after a dot too, or it is any end of a name
_Where = Literal["whole", "dot", "anywhere"]


class PatternCostError(ValueError):
    """Patterns would take more steps than any honest file's."""


class _Tail(NamedTuple):
    """A pattern that is the end of a name, with some characters that may be any."""

    where: _Where
    length: int
    mask: int  # the places of those that may be any
    number: int  # of the text, those characters being _ANY


class PatternTable:
    """The patterns of one place, for the modules of one file."""

    def __init__(self, texts: Iterable[str], modules: Iterable[str], room: int = MOST_STEPS) -> None:
        """Take the modules' names without prefix; raises PatternCostError if they take more than `room` steps."""
        self.refused: dict[str, str] = {}  # pattern that counts for no module -> why
        self._texts: list[str] = list(texts)
        self._tails: dict[tuple[_Where, int], dict[int, dict[int, int]]] = {}  # mask -> number -> place in the order
        self._others: list[tuple[int, ModulePattern]] = []
        self._characters = 0  # of these, and of those that are refused
        for place, text in enumerate(self._texts):
            tail = _tail_of(text)
            if tail is None:
                self._add(place, text)
            else:
                masks = self._tails.setdefault((tail.where, tail.length), {})
                masks.setdefault(tail.mask, {}).setdefault(tail.number, place)
        self._anywhere = [length for where, length in self._tails if where == "anywhere"]
        self.steps = self._count(modules)
        if self.steps > room:
            raise PatternCostError(f"{len(self._texts)} patterns take {self.steps} steps for these modules")

    def first(self, module: str) -> str | None:
        """Return the first pattern that matches the name, None if none does."""
        best = self._first_tail(module)
        for place, pattern in self._others:
            if place < best and pattern.matches(module):
                best = place
                break
        return self._texts[best] if best < len(self._texts) else None

    def _add(self, place: int, text: str) -> None:
        """Keep a pattern that is no tail, or why it counts for no module."""
        if len(text) <= LONGEST:
            self._characters += len(text)
        if self._characters > MOST_CHARACTERS:
            raise PatternCostError(f"its expressions have more than {MOST_CHARACTERS} characters together")
        try:
            self._others.append((place, ModulePattern(text)))
        except PatternError as error:
            self.refused[text] = str(error)

    def _first_tail(self, module: str) -> int:
        best = len(self._texts)
        if "\n" in module or not self._tails:
            return best
        number, length = _number_of(module), len(module)
        for where, size in self._ends(module):
            masks = self._tails.get((where, size))
            if masks:
                end = number >> 32 * (length - size)
                best = min(best, *(numbers.get(end | mask, best) for mask, numbers in masks.items()))
        return best

    def _ends(self, module: str) -> Iterator[tuple[_Where, int]]:
        """Yield where the end of a name that a pattern is may begin, and the end's length."""
        length = len(module)
        yield "whole", length
        yield "dot", length
        start = module.find(".") + 1
        while start:
            yield "dot", length - start
            start = module.find(".", start) + 1
        for size in self._anywhere:
            if size <= length:
                yield "anywhere", size

    def _count(self, modules: Iterable[str]) -> int:
        """Return the steps that all modules take together."""
        of_end = {one: len(masks) * (_STEPS_BESIDE + one[1]) for one, masks in self._tails.items()}
        of_sign = self._characters + _STEPS_BESIDE * len(self._others)
        names = list(modules)
        by_sign = sum(map(len, names)) * of_sign
        if len(names) * sum(of_end.values()) < MOST_STEPS // 10:  # as if each end were asked for in each name
            return by_sign + len(names) * sum(of_end.values())
        return by_sign + sum(of_end.get(end, 0) for name in names for end in self._ends(name))


def _tail_of(text: str) -> _Tail | None:
    """Return the pattern as an end of names, None if it is more than that."""
    where: _Where = "dot"
    if text.startswith("^"):
        where, text = "whole", text[1:]
    if text.startswith(".*"):
        where, text = "anywhere", text[2:]
    text = text.removesuffix("$")
    if len(text) > LONGEST:
        return None
    dots = text
    if not _PLAIN.fullmatch(text):
        if not _TAIL.fullmatch(text):
            return None
        signs = re.findall(r"(?s)\\?.", text)  # each with the backslash before it
        text, dots = "".join(sign[-1] for sign in signs), "".join(sign[0] for sign in signs)
    mask = _number_of(dots.translate(_MARKS)) * _ANY
    return _Tail(where, len(text), mask, _number_of(text) | mask)


class _Marks(dict[int, int]):
    """Makes 1 of a dot and 0 of everything else, for str.translate."""

    def __missing__(self, _: int) -> int:
        return 0


_MARKS = _Marks({ord("."): 1})


def _number_of(text: str) -> int:
    """Return a number of 32 bits for each character, the first lowest, so that an end of a text is a shift away."""
    return int.from_bytes(text.encode("utf-32-le", "surrogatepass"), "little")
