"""Pairs of LoRA files for models that come in two: one for the steps of high noise and one for those of low (Wan 2.2).

A partner is found by its name, among names that are there, and never guessed between two.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .entry import StackEntry

NO_PAIR = "only the high-noise file is"  # where one LoRA is wanted
Role = Literal["high", "low"]

_OTHER: dict[Role, Role] = {"high": "low", "low": "high"}
_SWAPPED = {"high": "low", "low": "high", "hn": "ln", "ln": "hn", "h": "l", "l": "h"}
# The words that tell, whole ones only: HighNoise and high_noise, also inside CamelCase; high; HN; H
_WORDS = (
    re.compile(
        r"(?:(?<![A-Za-z])|(?<=[a-z])(?=[HL]))((?i:high|low))[ _.-]?(?i:noise)(?:(?![A-Za-z])|(?<=[a-z])(?=[A-Z]))"
    ),
    *(re.compile(rf"(?<![A-Za-z0-9])((?i:{words}))(?![A-Za-z0-9])") for words in ("high|low", "hn|ln", "h|l")),
)


@dataclass(frozen=True, slots=True)
class Pair:
    """A file and its partner; `role` is the file's own."""

    role: Role
    name: str
    partner: str

    @property
    def high(self) -> str:
        return self.name if self.role == "high" else self.partner

    @property
    def low(self) -> str:
        return self.partner if self.role == "high" else self.name


@dataclass(frozen=True, slots=True)
class _Reading:
    """One way to read a name: its role, the name in lower case with the word taken out, and with the other word."""

    role: Role
    rest: str
    swapped: str


def partner_of(name: str, names: Iterable[str]) -> Pair | None:
    """Return the pair that the file `name` makes with one of `names`, None if none or several of them could be it."""
    listed = list(names)
    found = _partner(name, listed)
    if found is None:
        return None
    back = _partner(found[1], listed)
    return Pair(found[0], name, found[1]) if back and back[1].casefold() == name.casefold() else None


def _partner(name: str, names: Sequence[str]) -> tuple[Role, str] | None:
    """Return (the role of `name`, its partner): the same word the other way round, else another word in its place."""
    readings = _readings(name)
    for is_partner in (_same_word, _other_word):
        near = ((one, other) for one in readings for other in _near(one, names))
        found: list[tuple[Role, str]] = [(one.role, other) for one, other in near if is_partner(one, other)]
        if found:
            return found[0] if len({other for _, other in found}) == 1 else None
    return None


def _near(reading: _Reading, names: Sequence[str]) -> Iterator[str]:
    """Yield the names that begin as the reading does: a quick choice among thousands."""
    start = reading.rest.partition("\0")[0]
    return (other for other in names if other.casefold().startswith(start))


def _same_word(reading: _Reading, other: str) -> bool:
    return other.casefold() == reading.swapped


def _other_word(reading: _Reading, other: str) -> bool:
    return any(one.rest == reading.rest and one.role == _OTHER[reading.role] for one in _readings(other))


def _readings(name: str) -> list[_Reading]:
    found: list[_Reading] = []
    for pattern in _WORDS:
        roles: set[Role] = {"high" if word[0] in "hH" else "low" for word in pattern.findall(name)}
        if len(roles) == 1:
            swapped = pattern.sub(lambda match: match[0].replace(match[1], _SWAPPED[match[1].casefold()]), name)
            found.append(_Reading(roles.pop(), pattern.sub("\0", name).casefold(), swapped.casefold()))
    return found


def for_model(entries: Iterable[Any], role: Role) -> list[Any]:
    """Return what the high- or the low-noise model gets: of a pair its file, and all that is no pair."""
    return [low if role == "low" and (low := _low(entry)) else entry for entry in entries]


def told(entries: Iterable[Any], role: Role) -> list[str]:
    """Return for each pair which of its files is used and which is not."""
    pairs = [(entry, low) for entry in entries if (low := _low(entry))]
    uses = [(high, low) if role == "high" else (low, high) for high, low in pairs]
    return [f"{_file(used)}: the {role}-noise file of a pair; {_file(other)} is not used" for used, other in uses]


def role_of(entry: Any, role: Role) -> Role | None:
    """Return which file of a pair is used for the model of this role, None if the entry is no pair."""
    return role if _low(entry) else None


def unused(entries: Iterable[Any], why: str) -> list[str]:
    """Return a warning for each pair whose low-noise file is not used."""
    lows = [low for entry in entries if (low := _low(entry))]
    return [f"{_file(low)}: the low-noise file of a pair is not used: {why}." for low in lows]


def _low(entry: Any) -> StackEntry | None:
    return entry.low if isinstance(entry, StackEntry) else None


def _file(entry: StackEntry) -> str:
    return Path(entry.path or entry[0]).name
