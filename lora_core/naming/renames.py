"""The engine behind the rename tables: every name of a module, from the rows of its architecture.

Rows are found by a module's skeleton, where every number is a "#", and by the numbers that they name, and not by
trying each row; they apply to each other's results. Names form one space per architecture: each stands for rows of the
modules of its own layout. A name may stand for many, a set for each number (`numbersets`): so do the names it gets.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from itertools import chain
from typing import NamedTuple

from ..arch.base import Arch, Rename, Shape
from .numbersets import stands_for
from .places import Place


class _Row(NamedTuple):
    number: int  # of all: of two that fit, the first counts
    rename: Rename
    placeholders: tuple[tuple[str, int], ...]  # each with the place of its number among those of a name
    here: tuple[str, ...]
    pieces: tuple[tuple[str, int, int, int], ...]  # of each name there: template, begin, end, of all

    def fits(self, shape: Shape) -> bool:
        chunks = self.rename.chunks
        return not chunks or (len(shape) == 2 and shape[0] == chunks * shape[1])

    def changed(self, place: Place) -> Place:
        """Return `place` as this row's names there see it."""
        rename = self.rename
        place = place.ordered(rename.order, len(rename.order))
        return place._replace(transposed=place.transposed != rename.transposed)


_Matching = list[tuple[_Row, int]]  # rows, each with the place of the matching template in it


class _Bucket:
    """Rows of one skeleton by the numbers that their templates name, where others have placeholders."""

    def __init__(self) -> None:
        self._rows: dict[tuple[int, ...], dict[tuple[str, ...], _Matching]] = {}

    def add(self, numbers: Sequence[str], row: _Row, piece: int) -> None:
        places = tuple(place for place, number in enumerate(numbers) if number.isdecimal())
        literals = tuple(numbers[place] for place in places)
        self._rows.setdefault(places, {}).setdefault(literals, []).append((row, piece))

    def matching(self, numbers: Sequence[str]) -> _Matching:
        """Return the rows whose numbers these are, or are among these sets, in the order of the table."""
        found: _Matching = []
        for places, rows in self._rows.items():
            asked = tuple([numbers[place] for place in places])
            if any(number[0] == "{" for number in asked):
                found += chain.from_iterable(rows[own] for own in rows if all(map(stands_for, asked, own)))
            else:
                found += rows.get(asked, ())
        return found if len(self._rows) == 1 else sorted(found, key=lambda item: item[0].number)


class _Index:
    """Rows by the skeleton of the template that a name must match."""

    def __init__(self) -> None:
        self._buckets: dict[tuple[str, ...], _Bucket] = {}
        self._lasts: set[str] = set()  # last tokens of whole templates, to pass over most names at once
        self._rests: set[int] = set()  # tokens before a {rest}
        self._count = 0

    def add(self, template: str, rename: Rename, piece: int = 0) -> None:
        tokens = template.split(".")
        rest = tokens[-1] == "{rest}"
        tokens = tokens[:-1] if rest else tokens
        numbers = [token for token in tokens if _is_number(token)]
        placeholders = tuple((number, place) for place, number in enumerate(numbers) if not number.isdecimal())
        if rest:
            self._rests.add(len(tokens))
        else:
            self._lasts.add(_skeleton(tokens[-1:], rest=False)[0])
        self._count += 1
        row = _Row(self._count, rename, placeholders, several(rename.here), _pieces(rename))
        self._buckets.setdefault(_skeleton(tokens, rest), _Bucket()).add(numbers, row, piece)

    def matching(self, name: str) -> Iterator[tuple[_Row, int, dict[str, str]]]:
        """Yield (row, place of the matched template in it, what its placeholders stand for)."""
        last = name[name.rfind(".") + 1 :]
        is_known = _sign(last) in self._lasts
        if not is_known and not self._rests:
            return
        tokens = name.split(".")
        skeleton = _skeleton(tokens, rest=False)
        bucket = self._buckets.get(skeleton) if is_known else None
        if not bucket and not self._rests:
            return
        numbers = [token for token, sign in zip(tokens, skeleton, strict=True) if sign == "#"]
        if bucket:
            for row, piece in bucket.matching(numbers):
                yield row, piece, {token: numbers[place] for token, place in row.placeholders}
        for length in self._rests:
            bucket = self._buckets.get((*skeleton[:length], "{rest}")) if length < len(tokens) else None
            if bucket:
                rest = ".".join(tokens[length:])
                for row, piece in bucket.matching(numbers):
                    yield row, piece, {**{token: numbers[place] for token, place in row.placeholders}, "{rest}": rest}


class Renames:
    """An architecture's rename rows, compiled."""

    def __init__(self, renames: Iterable[Rename]) -> None:
        self._forward, self._back, self._joint = _Index(), _Index(), _Index()
        for rename in renames:
            if not isinstance(rename.here, str):
                self._joint.add(rename.here[0], rename)
                continue
            self._forward.add(rename.here, rename)
            for number, there in enumerate(several(rename.there)):
                if there != "{rest}":  # any name at all, which tells nothing of where it comes from
                    self._back.add(there, rename, number)

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

    def fused(self, name: str, names: Container[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield every (fused name, its pieces' names) whose first piece is `name`, if `names` has the others."""
        for row, _, values in self._joint.matching(name):
            pieces = tuple(_filled(template, values) for template in row.here)
            if all(piece in names for piece in pieces):
                for template, *_ in row.pieces:
                    yield _filled(template, values), pieces

    def origin(self, name: str, shape: Shape) -> Place:
        """Return where a module of another layout lies in the architecture's own: the rows, followed backwards."""
        place, seen = Place(name), {name}
        while True:
            back = next(self._origins(place.module, shape), None)
            if back is None or back.module in seen:
                return place
            seen.add(back.module)
            place = place.inside(back)

    def _renamed(self, name: str, place: Place, shape: Shape) -> Iterator[tuple[str, Place, bool]]:
        for row, _, values in self._forward.matching(name):
            if row.fits(shape):
                for template, begin, end, of in row.pieces:
                    yield _filled(template, values), row.changed(place).piece(begin, end, of), row.rename.read_only

    def _origins(self, name: str, shape: Shape) -> Iterator[Place]:
        for row, number, values in self._back.matching(name):
            _, begin, end, of = row.pieces[number]
            if row.fits(shape):
                yield row.changed(Place(_filled(row.here[0], values))).piece(begin, end, of)


def several(names: str | tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of one side of a rename, which may be one alone."""
    return (names,) if isinstance(names, str) else names


def _pieces(rename: Rename) -> tuple[tuple[str, int, int, int], ...]:
    there = several(rename.there)
    sizes = rename.sizes or (1,) * len(there)
    ends = [sum(sizes[: place + 1]) for place in range(len(sizes))]
    if len(there) == 1:
        return ((there[0], 0, 1, 1),)
    return tuple((name, end - size, end, ends[-1]) for name, size, end in zip(there, sizes, ends, strict=True))


def _is_number(token: str) -> bool:
    return token.isdecimal() or (token.startswith("{") and token != "{rest}")


@lru_cache(4096)  # names have few different tokens, and many of each
def _sign(token: str) -> str:
    """Return what stands for a token in a skeleton; a "#" in a name itself is no number."""
    return "#" if _is_number(token) else "##" if token == "#" else token


def _skeleton(tokens: Sequence[str], rest: bool) -> tuple[str, ...]:
    return (*map(_sign, tokens), "{rest}") if rest else tuple(map(_sign, tokens))


def _filled(template: str, values: Mapping[str, str]) -> str:
    return ".".join(values.get(token, token) for token in template.split("."))


@cache
def renames_of(arch: Arch) -> Renames:
    """Return the compiled rows of `arch`, made once per process."""
    return _compiled(arch.renames)


@cache  # several architectures have the same rows
def _compiled(renames: tuple[Rename, ...]) -> Renames:
    return Renames(renames)
