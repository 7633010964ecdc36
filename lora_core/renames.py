"""The engine behind the rename tables: every name of a module, from the rows of its architecture.

Rows are found by a module's skeleton, where every number is a "#", and not by trying each row; they apply to each
other's results.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import NamedTuple

from .arch.base import Arch, Rename, Shape


class Place(NamedTuple):
    """A module of the checkpoint, or a run of its output rows, given as fractions of the whole."""

    module: str
    begin: int = 0
    end: int = 1
    of: int = 1
    swap_halves: bool = False
    transposed: bool = False

    def piece(self, begin: int, end: int, of: int) -> Place:
        """Return a part of this run, given as fractions of it."""
        length = self.end - self.begin
        return self._replace(
            begin=self.begin * of + begin * length, end=self.begin * of + end * length, of=self.of * of
        )


class _Row(NamedTuple):
    rename: Rename
    numbers: tuple[str, ...]  # one per "#" of the skeleton: a literal number, or a placeholder in braces
    rest: bool


class Renames:
    """An architecture's rename rows, compiled: found by a name's skeleton, where every number is a "#"."""

    def __init__(self, renames: Iterable[Rename]) -> None:
        self._rows: dict[tuple[str, ...], list[_Row]] = {}
        for rename in renames:
            tokens = rename.here.split(".")
            rest = tokens[-1] == "{rest}"
            tokens = tokens[:-1] if rest else tokens
            numbers = tuple(token for token in tokens if _is_number(token))
            self._rows.setdefault(_skeleton(tokens, rest), []).append(_Row(rename, numbers, rest))

    def names(self, module: str, shape: Shape) -> Iterator[tuple[str, Place, bool]]:
        """Yield every (name, place, read only) of `module`, following rows upon rows."""
        found = {module: (Place(module), False)}
        waiting = [module]
        while waiting:
            name = waiting.pop()
            place, read_only = found[name]
            for other, piece, row_read_only in self._renamed(name, place, shape):
                if other == name:  # the same name for a matrix that lies on its side
                    found[name] = (piece, read_only)
                elif other not in found:
                    found[other] = (piece, read_only or row_read_only)
                    waiting.append(other)
        for name, (place, read_only) in found.items():
            yield name, place, read_only

    def _renamed(self, name: str, place: Place, shape: Shape) -> Iterator[tuple[str, Place, bool]]:
        for rename, values in self._matching(name.split(".")):
            if rename.chunks and not (len(shape) == 2 and shape[0] == rename.chunks * shape[1]):
                continue
            there = (rename.there,) if isinstance(rename.there, str) else rename.there
            sizes = rename.sizes or (1,) * len(there)
            whole = place._replace(
                swap_halves=place.swap_halves != rename.swap_halves, transposed=place.transposed != rename.transposed
            )
            begin = 0
            for template, size in zip(there, sizes, strict=True):
                piece = whole.piece(begin, begin + size, sum(sizes)) if len(there) > 1 else whole
                begin += size
                yield _filled(template, values), piece, rename.read_only

    def _matching(self, tokens: list[str]) -> Iterator[tuple[Rename, dict[str, str]]]:
        skeleton = _skeleton(tokens, rest=False)
        numbers = [token for token in tokens if _is_number(token)]
        for row in self._rows.get(skeleton, ()):
            values = _number_values(row.numbers, numbers)
            if values is not None:
                yield row.rename, values
        for length in range(len(tokens)):
            for row in self._rows.get((*skeleton[:length], "{rest}"), ()):
                values = _number_values(row.numbers, numbers[: len(row.numbers)])
                if values is not None:
                    yield row.rename, {**values, "{rest}": ".".join(tokens[length:])}


def _is_number(token: str) -> bool:
    return token.isdecimal() or (token.startswith("{") and token != "{rest}")


def _skeleton(tokens: Sequence[str], rest: bool) -> tuple[str, ...]:
    return (*("#" if _is_number(token) else token for token in tokens), *(("{rest}",) if rest else ()))


def _number_values(wanted: Sequence[str], found: Sequence[str]) -> dict[str, str] | None:
    """Return what the placeholders stand for, or None if a literal number differs."""
    values: dict[str, str] = {}
    for want, number in zip(wanted, found, strict=True):
        if want.startswith("{"):
            values[want] = number
        elif want != number:
            return None
    return values


def _filled(template: str, values: Mapping[str, str]) -> str:
    return ".".join(values.get(token, token) for token in template.split("."))


@cache
def renames_of(arch: Arch) -> Renames:
    """Return the compiled rows of `arch`, made once per process."""
    return Renames(arch.renames)
