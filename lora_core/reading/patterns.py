"""Module patterns from strangers' files: regular expressions without a regular expression engine.

PEFT's `alpha_pattern` and `rank_pattern` have regular expressions as keys, and a hostile one makes Python's engine run
for ever. The subset that real files use is matched here in time proportional to pattern times name: letters, `.`,
`\\.`, `\\d`, `\\w`, `[…]`, groups with `|`, the repeats `*`, `+` and `?`, and the anchors `^` and `$`.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from dataclasses import dataclass, field

_LONGEST = 1000
_DEEPEST = 20  # groups within groups
_CLASSES = {"d": string.digits, "w": string.ascii_letters + string.digits + "_", "s": string.whitespace}
_PLAIN = set(string.ascii_letters + string.digits + "_-/: ,=")


class PatternError(ValueError):
    """The pattern is no regular expression, or one that uses more than the subset."""


@dataclass(slots=True)
class _State:
    """A state of the automaton: a step on one character, and free moves to other states."""

    accepts: Callable[[str], bool] | None = None
    then: _State | None = None
    free: list[_State] = field(default_factory=list)
    only_at: int | None = None  # ^ and $: free moves only at the start (0) or the end (-1)


class ModulePattern:
    """A key of `alpha_pattern` or `rank_pattern`, matched as PEFT does: the name, or an end of it after a dot."""

    def __init__(self, text: str) -> None:
        """Raises PatternError for what is outside the subset."""
        if len(text) > _LONGEST:
            raise PatternError("the pattern is too long")
        self._start, self._end = _Parser(text).whole()

    def matches(self, module: str) -> bool:
        """Tell whether re.match(rf"(.*\\.)?({text})$", module) would match."""
        active = _closure([self._start], 0, len(module))
        for position, char in enumerate(module, start=1):
            moved = [state.then for state in active if state.accepts and state.accepts(char) and state.then]
            if char == ".":
                moved.append(self._start)
            active = _closure(moved, position, len(module))
        return any(state is self._end for state in active)


def _closure(states: list[_State], position: int, length: int) -> list[_State]:
    """Return the states and all that free moves reach from them."""
    seen: dict[int, _State] = {}
    todo = list(states)
    while todo:
        state = todo.pop()
        if id(state) in seen:
            continue
        seen[id(state)] = state
        if state.only_at is None or position == (0 if state.only_at == 0 else length):
            todo += state.free
    return list(seen.values())


class _Parser:
    """Makes an automaton (Thompson's construction); each method returns the first and the last state of a piece."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0

    def whole(self) -> tuple[_State, _State]:
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

    def _choice(self) -> tuple[_State, _State]:
        first, last = _State(), _State()
        while True:
            begin, end = self._sequence()
            first.free.append(begin)
            end.free.append(last)
            if self._peek() != "|":
                return first, last
            self._take()

    def _sequence(self) -> tuple[_State, _State]:
        first = last = _State()
        while self._peek() not in ("", "|", ")"):
            begin, end = self._repeated()
            last.free.append(begin)
            last = end
        return first, last

    def _repeated(self) -> tuple[_State, _State]:
        begin, end = self._atom()
        repeat = self._peek()
        if not repeat or repeat not in "*+?":
            return begin, end
        self._take()
        first, last = _State(free=[begin]), _State()
        end.free.append(last)
        if repeat in "*+":
            last.free.append(begin)
        if repeat in "*?":
            first.free.append(last)
        if self._peek() in ("*", "+", "?"):
            raise PatternError("a repeat of a repeat is not supported")
        return first, last

    def _atom(self) -> tuple[_State, _State]:
        char = self._take()
        if char == "(":
            return self._group()
        if char in "^$":
            last = _State()
            return _State(free=[last], only_at=0 if char == "^" else -1), last
        if char == ".":
            return _step(lambda other: other != "\n")
        if char == "[":
            return _step(self._set())
        if char == "\\":
            return _step(frozenset(self._escaped()).__contains__)
        if char not in _PLAIN:
            raise PatternError(f"{char!r} is not supported")
        return _step(frozenset(char).__contains__)

    def _group(self) -> tuple[_State, _State]:
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
        char = self._take()
        if char in _CLASSES:
            return _CLASSES[char]
        if char.isalnum():
            raise PatternError(f"'\\{char}' is not supported")
        return char

    def _set(self) -> Callable[[str], bool]:
        negated = self._peek() == "^"
        if negated:
            self._take()
        members: set[str] = set()
        while (char := self._take()) != "]" or not members:
            chosen = self._escaped() if char == "\\" else char
            if self._peek() == "-" and self._text[self._at + 1 : self._at + 2] not in ("", "]") and len(chosen) == 1:
                self._take()
                chosen = "".join(map(chr, range(ord(chosen), ord(self._take()) + 1)))
            members |= set(chosen)
        return (lambda other: other not in members) if negated else members.__contains__


def _step(accepts: Callable[[str], bool]) -> tuple[_State, _State]:
    last = _State()
    return _State(accepts, last), last
