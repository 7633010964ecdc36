"""Module patterns from strangers' files: regular expressions without a regular expression engine.

PEFT's `alpha_pattern` and `rank_pattern` have regular expressions as keys, and a hostile one makes Python's engine run
for ever. The subset that real files use is matched here by an automaton, in time proportional to pattern times name:
characters, `.`, `\\.`, `\\d`, `\\w`, `\\s`, `[…]`, groups with `|`, the repeats `*`, `+` and `?`, and the anchors `^`
and `$`.
"""

from __future__ import annotations

from collections.abc import Iterable

from .patternparser import PatternError, PatternParser, bits_of

LONGEST = 1000  # characters of one pattern
_REMEMBERED = 1000  # moves of one pattern: names are alike, so few are asked for again and again


class ModulePattern:
    """A key of `alpha_pattern` or `rank_pattern`, matched as PEFT does: the name, or an end of it after a dot."""

    def __init__(self, text: str) -> None:
        """Raises PatternError for what is outside the subset."""
        if len(text) > LONGEST:
            raise PatternError("the pattern is too long")
        parser = PatternParser(text)
        self._whole = parser.whole()
        self._accepts, self._follow = parser.accepts, parser.follow
        self._size = (len(self._accepts) + 7) // 8
        self._fitting: dict[str, int] = {}  # character -> the states that accept it
        self._following: dict[tuple[int, int], int] = {}  # place and value of eight states -> those that may be next
        self._moves: dict[tuple[int, str], int] = {}

    def matches(self, module: str) -> bool:
        """Tell whether re.match(rf"(.*\\.)?({text})$", module) would match. No module's name has a line end."""
        if "\n" in module:
            return False
        states, previous = 0, ""
        for char in module:
            states = self._move(states, char)
            if previous in ("", "."):
                states |= self._whole.first[not previous] & self._fit(char)
            previous = char
        is_empty = previous in ("", ".") and self._whole.is_empty(start=not previous, end=True)
        return bool(states & self._whole.last[True]) or is_empty

    def _move(self, states: int, char: str) -> int:
        if not states:
            return 0
        found = self._moves.get((states, char))
        if found is None:
            if len(self._moves) >= _REMEMBERED:
                self._moves.clear()
            found = self._moves[states, char] = self._next(states) & self._fit(char)
        return found

    def _next(self, states: int) -> int:
        """Return the states that may follow, whatever comes."""
        result = 0
        for place, eight in enumerate(states.to_bytes(self._size, "little")):
            if eight and (place, eight) not in self._following:
                self._following[place, eight] = _union(self._follow[8 * place + bit] for bit in bits_of(eight))
            result |= self._following[place, eight] if eight else 0
        return result

    def _fit(self, char: str) -> int:
        if char not in self._fitting:
            if len(self._fitting) >= _REMEMBERED:
                self._fitting.clear()
            self._fitting[char] = _union(1 << at for at, accepts in enumerate(self._accepts) if accepts(char))
        return self._fitting[char]


def _union(sets: Iterable[int]) -> int:
    result = 0
    for states in sets:
        result |= states
    return result
