"""Sets of numbers in names: a token `{0-18}` or `{1-2,4}` makes one name stand for one with each of these numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

_SET = re.compile(r"\{\d{1,4}(-\d{1,4})?(,\d{1,4}(-\d{1,4})?)*\}")
_REMEMBERED = 4096  # tokens: names have few different ones, and many of each


def numbers_in(token: str) -> Iterator[str]:
    """Yield what a token stands for: a number, or a set of them."""
    if token.isdecimal():
        yield token
    for first, last in _runs(token):
        yield from map(str, range(first, last + 1))


@lru_cache(_REMEMBERED)
def number_set(token: str) -> frozenset[str]:
    """Return what `numbers_in` yields."""
    return frozenset(numbers_in(token))


def stands_for(token: str, number: str) -> bool:
    """Tell whether a token is this number, or a set that has it. A name from a file may have anything in braces."""
    return token == number or any(first <= int(number) <= last for first, last in _runs(token))


@lru_cache(_REMEMBERED)
def _runs(token: str) -> tuple[tuple[int, int], ...]:
    """Return the (first, last) numbers of a set; nothing for a token that is none."""
    if not _SET.fullmatch(token):
        return ()
    runs = (run.partition("-") for run in token[1:-1].split(","))
    return tuple((int(first), int(last or first)) for first, _, last in runs)
