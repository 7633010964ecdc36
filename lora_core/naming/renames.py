"""The engine behind the rename tables: every name of a module, from the rows of its architecture.

Rows are found by a module's skeleton, where every number is a "#", and not by trying each row; they apply to each
other's results. Names form one space per architecture: each stands for rows of the modules of its own layout.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from typing import NamedTuple

from ..arch.base import Arch, Rename, Shape
from .places import Place


class _Row(NamedTuple):
    rename: Rename
    numbers: tuple[str, ...]  # one per "#" of the skeleton: a literal number, or a placeholder in braces
    rest: bool
    here: tuple[str, ...]
    pieces: tuple[tuple[str, int, int, int], ...]  # of each name there: template, begin, end, of all

    def fits(self, shape: Shape) -> bool:
        chunks = self.rename.chunks
        return not chunks or (len(shape) == 2 and shape[0] == chunks * shape[1])

    def changed(self, place: Place) -> Place:
        """Return `place` as this row's names there see it."""
        rename = self.rename
        place = place.ordered(rename.order, len(rename.order)) if rename.order else place
        place = place.swapped() if rename.swap_halves else place
        return place._replace(transposed=place.transposed != rename.transposed)


class _Index:
    """Rows by the skeleton of the template that a name must match."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, ...], list[tuple[_Row, int]]] = {}
        self._lasts: set[str] = set()  # last tokens of whole templates, to pass over most names at once
        self._rests: set[int] = set()  # tokens before a {rest}

    def add(self, template: str, rename: Rename, piece: int = 0) -> None:
        tokens = template.split(".")
        rest = tokens[-1] == "{rest}"
        tokens = tokens[:-1] if rest else tokens
        numbers = tuple(token for token in tokens if _is_number(token))
        row = _Row(rename, numbers, rest, several(rename.here), _pieces(rename))
        if rest:
            self._rests.add(len(tokens))
        else:
            self._lasts.add(_skeleton(tokens[-1:], rest=False)[0])
        self._rows.setdefault(_skeleton(tokens, rest), []).append((row, piece))

    def matching(self, name: str) -> Iterator[tuple[_Row, int, dict[str, str]]]:
        """Yield (row, place of the matched template in it, what its placeholders stand for)."""
        last = name[name.rfind(".") + 1 :]
        is_known = _sign(last) in self._lasts
        if not is_known and not self._rests:
            return
        tokens = name.split(".")
        skeleton = _skeleton(tokens, rest=False)
        rows = self._rows.get(skeleton) if is_known else None
        if not rows and not self._rests:
            return
        numbers = [token for token, sign in zip(tokens, skeleton, strict=True) if sign == "#"]
        if rows:
            for row, piece in rows:
                values = _number_values(row.numbers, numbers)
                if values is not None:
                    yield row, piece, values
        for length in self._rests:
            rows = self._rows.get((*skeleton[:length], "{rest}"), ()) if length < len(tokens) else ()
            for row, piece in rows:
                values = _number_values(row.numbers, numbers[: len(row.numbers)])
                if values is not None:
                    yield row, piece, {**values, "{rest}": ".".join(tokens[length:])}


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
