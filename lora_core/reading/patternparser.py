"""Reads one module pattern, a regular expression of the subset that real files use, into the states of an automaton.

The construction is Glushkov's: each character of the pattern is a state, and no move is free. `^` and `$` hold at the
ends of a name alone, so each piece says what it does there and in the middle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

_DEEPEST = 20  # groups within groups
_CLASSES: dict[str, Callable[[str], bool]] = {
    "d": str.isdecimal,
    "w": lambda char: char.isalnum() or char == "_",
    "s": str.isspace,
}
_SPECIAL = frozenset("\\.^$*+?{}[]|()")


class PatternError(ValueError):
    """The pattern is no regular expression, or one that uses more than the subset."""


@dataclass(frozen=True, slots=True)
class PatternPiece:
    """A part of a pattern; sets of states are the bits of numbers.

    `first` begins a match in the middle of a name, or at its start; `last` ends one in the middle, or at the end; bit
    2 · start + end of `empty` says whether it matches nothing at all, at the start or not and at the end or not.
    """

    first: tuple[int, int] = (0, 0)
    last: tuple[int, int] = (0, 0)
    empty: int = 0b1111

    def is_empty(self, *, start: int, end: int) -> bool:
        return bool(self.empty >> 2 * start + end & 1)


_ANCHORS = {"^": PatternPiece(empty=0b1100), "$": PatternPiece(empty=0b1010)}


def bits_of(states: int) -> Iterator[int]:
    while states:
        lowest = states & -states
        yield lowest.bit_length() - 1
        states ^= lowest


class PatternParser:
    """Reads a pattern piece by piece, and keeps what each state accepts and which may follow it."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0
        self.accepts: list[Callable[[str], bool]] = []
        self.follow: list[int] = []

    def whole(self) -> PatternPiece:
        piece = self._choice()
        if self._at < len(self._text):
            raise PatternError(f"unexpected {self._text[self._at]!r}")
        return piece

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self) -> str:
        char = self._peek()
        if not char:
            raise PatternError("ends too early")
        self._at += 1
        return char

    def _choice(self) -> PatternPiece:
        piece = self._sequence()
        while self._peek() == "|":
            self._take()
            other = self._sequence()
            piece = PatternPiece(
                _both(piece.first, other.first), _both(piece.last, other.last), piece.empty | other.empty
            )
        return piece

    def _sequence(self) -> PatternPiece:
        piece = PatternPiece()
        while self._peek() not in ("", "|", ")"):
            piece = self._joined(piece, self._repeated())
        return piece

    def _joined(self, one: PatternPiece, other: PatternPiece) -> PatternPiece:
        self._link(one, other)
        firsts = [one.first[at] | (other.first[at] if one.is_empty(start=at, end=0) else 0) for at in (0, 1)]
        lasts = [other.last[at] | (one.last[at] if other.is_empty(start=0, end=at) else 0) for at in (0, 1)]
        return PatternPiece((firsts[0], firsts[1]), (lasts[0], lasts[1]), one.empty & other.empty)

    def _link(self, one: PatternPiece, other: PatternPiece) -> None:
        if other.first[0]:
            for state in bits_of(one.last[0]):
                self.follow[state] |= other.first[0]

    def _repeated(self) -> PatternPiece:
        is_anchor = self._peek() in _ANCHORS
        piece = self._atom()
        repeat = self._peek()
        if not repeat or repeat not in "*+?":
            return piece
        if is_anchor:
            raise PatternError("there is nothing to repeat")
        self._take()
        if repeat in "*+":
            self._link(piece, piece)
        if self._peek() in ("*", "+", "?"):
            raise PatternError("a repeat of a repeat is not supported")
        return piece if repeat == "+" else PatternPiece(piece.first, piece.last)

    def _atom(self) -> PatternPiece:
        char = self._take()
        if char == "(":
            return self._group()
        if char in _ANCHORS:
            return _ANCHORS[char]
        if char == ".":
            return self._state(lambda other: other != "\n")
        if char == "[":
            return self._state(self._set())
        if char == "\\":
            escaped = self._escaped()
            return self._state(_CLASSES[escaped[1]] if len(escaped) > 1 else escaped.__eq__)
        if char in _SPECIAL:
            raise PatternError(f"{char!r} is not supported")
        return self._state(char.__eq__)

    def _state(self, accepts: Callable[[str], bool]) -> PatternPiece:
        states = 1 << len(self.accepts)
        self.accepts.append(accepts)
        self.follow.append(0)
        return PatternPiece((states, states), (states, states), 0)

    def _group(self) -> PatternPiece:
        if self._text.startswith("?:", self._at):
            self._at += 2
        self._depth += 1
        if self._depth > _DEEPEST:
            raise PatternError("too many groups within groups")
        piece = self._choice()
        if self._take() != ")":
            raise PatternError("a group is not closed")
        self._depth -= 1
        return piece

    def _escaped(self) -> str:
        """Return the character that is meant, or a class of them with its backslash."""
        char = self._take()
        if char in _CLASSES:
            return f"\\{char}"
        if char.isascii() and char.isalnum():
            raise PatternError(f"'\\{char}' is not supported")
        return char

    def _set(self) -> Callable[[str], bool]:
        negated = self._peek() == "^"
        if negated:
            self._take()
        ranges: list[tuple[str, str]] = []
        classes: list[Callable[[str], bool]] = []
        begin = self._at
        while self._peek() != "]" or self._at == begin:
            first = self._member()
            last = first
            if self._peek() == "-" and self._text[self._at + 1 : self._at + 2] not in ("", "]"):
                self._take()
                last = self._member()
                if len(first + last) > 2 or last < first:
                    raise PatternError(f"the range '{first}-{last}' is not supported")
            if len(first) > 1:
                classes.append(_CLASSES[first[1]])
            else:
                ranges.append((first, last))
        self._take()
        return partial(_is_member, tuple(ranges), tuple(classes), negated)

    def _member(self) -> str:
        char = self._take()
        return self._escaped() if char == "\\" else char


def _both(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return one[0] | other[0], one[1] | other[1]


def _is_member(
    ranges: tuple[tuple[str, str], ...], classes: tuple[Callable[[str], bool], ...], negated: bool, char: str
) -> bool:
    found = any(first <= char <= last for first, last in ranges) or any(is_in(char) for is_in in classes)
    return found is not negated
