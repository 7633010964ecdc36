"""Which architectures a LoRA's names and shapes fit with no model at hand: the known models' outlines, by every name.

Names are compared with `#` for every number in them. An architecture fits if it has nearly all of the modules, with
their numbers and shapes; of several, those count all of whose blocks the file has, if it has all of some.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import chain
from math import prod

from ..arch import DIFFUSION_ARCHES
from ..arch.base import Arch, Shape
from .detection import params_of
from .outlines import compact_outline, expanded, numbers_in, outlines_of
from .places import Place
from .renames import renames_of, several

_ENOUGH = 0.9  # of the modules: files may have a few that nobody's table knows, and small ones one of them
_NUMBER = re.compile(r"\{[\d,-]+\}|\d+")
_PLACEHOLDER = re.compile(r"\{[ij]\}")
_WORD = re.compile(r"[._]")

Size = tuple[int, int]  # output and input of a weight, seen as a matrix; a vector has no input
Numbers = tuple[int, ...]
Sets = tuple[frozenset[int], ...]  # what may stand in each place of a name that has a number
Known = dict[str, dict[Size, list[Sets]]]  # name with "#" for numbers -> the sizes that it has, and where


def guess_arches(modules: Iterable[tuple[str, Shape | None]]) -> list[Arch]:
    """Return every diffusion architecture that a LoRA's modules may be for; none if none has nearly all of them.

    `modules` are names without dialect prefix, dots written as `_`, each with the shape of its change if known: 0 is
    a side that is not.
    """
    groups: dict[tuple[str, Size | None], set[Numbers]] = {}
    for name, shape in modules:
        numbers = tuple(int(digits) for digits in _NUMBER.findall(name))
        groups.setdefault((_NUMBER.sub("#", name), _size(shape)), set()).add(numbers)
    found = _best(groups)
    if found or not groups:
        return found
    alone = _best(_by_name(groups))  # a size that nobody has listed: only where no other architecture has these names
    return alone if len(alone) == 1 else []


Groups = Mapping[tuple[str, Size | None], set[Numbers]]


def _by_name(groups: Groups) -> Groups:
    """Return the same modules without their sizes."""
    names: dict[tuple[str, Size | None], set[Numbers]] = {}
    for (name, _), numbers in groups.items():
        names.setdefault((name, None), set()).update(numbers)
    return names


def _best(groups: Groups) -> list[Arch]:
    total = sum(map(len, groups.values()))
    scores = {arch: _score(arch, groups) for arch in DIFFUSION_ARCHES if total and _may_have(arch, groups, total)}
    most = max((fitting for fitting, _ in scores.values()), default=0)
    best = [arch for arch, (fitting, _) in scores.items() if fitting == most and _is_enough(most, total)]
    whole = [arch for arch in best if scores[arch][1] == len(groups)]
    return whole or best  # a file of some blocks may be of any model that has these


def _may_have(arch: Arch, groups: Groups, total: int) -> bool:
    """Tell by the words in them whether the architecture may have enough of the names: quickly, for most have not."""
    words = _words(arch)
    return _is_enough(
        sum(len(asked) for (name, _), asked in groups.items() if words.issuperset(name.split("_"))), total
    )


def _is_enough(fitting: int, total: int) -> bool:
    return fitting == total or fitting >= max(2, min(_ENOUGH * total, total - 1))


@cache
def _words(arch: Arch) -> frozenset[str]:
    """Return every word in the names of the known editions, `#` for a number."""
    names = {key for found in outlines_of(arch) for key in compact_outline(found.id)}
    names.update(text for row in arch.renames for side in (row.here, row.there) for text in several(side))
    return frozenset(word for name in names for word in _WORD.split(_NUMBER.sub("#", _PLACEHOLDER.sub("#", name))))


def _score(arch: Arch, groups: Groups) -> tuple[int, int]:
    """Return how many modules the architecture has, and of how many names the file has every block."""
    known, fitting, whole = _known(arch), 0, 0
    for (name, size), asked in groups.items():
        sizes = known.get(name, {})
        places = list(chain.from_iterable(sets for one, sets in sizes.items() if _agrees(one, size)))
        has = sum(any(_holds(sets, numbers) for sets in places) for numbers in asked)
        fitting += has
        whole += 0 < has == sum(prod(map(len, sets)) for sets in places)
    return fitting, whole


def _agrees(size: Size, asked: Size | None) -> bool:
    """Tell whether a weight has the size of a change of which one side, or neither, may be unknown."""
    return asked is None or all(want in (0, has) for has, want in zip(size, asked, strict=True))


def _holds(sets: Sets, numbers: Numbers) -> bool:
    return all(number in one for one, number in zip(sets, numbers, strict=True))


def _size(shape: Shape | None) -> Size | None:
    return (shape[0], prod(shape[1:])) if shape and len(shape) > 1 else None


@cache
def _numbers(token: str) -> frozenset[int]:
    return frozenset(numbers_in(token))


@cache
def _known(arch: Arch) -> Known:
    """Return every name of every module of the known editions."""
    known: Known = {}
    for found in outlines_of(arch):
        rows = compact_outline(found.id)
        for name, size in _names(arch, expanded(rows) if _counts_blocks(arch) else rows):
            sets = tuple(map(_numbers, _NUMBER.findall(name)))
            places = known.setdefault(_NUMBER.sub("#", name).replace(".", "_"), {}).setdefault(size, [])
            if sets not in places:
                places.append(sets)
    return known


def _counts_blocks(arch: Arch) -> bool:
    """Tell whether some row is of one block, so that names of many blocks at once would pass it by."""
    texts = (text for row in arch.renames for side in (row.here, row.there) for text in several(side))
    return any(token.isdecimal() and place for text in texts for place, token in enumerate(text.split(".")[:-1]))


def _names(arch: Arch, rows: Mapping[str, Shape]) -> Iterator[tuple[str, Size]]:
    engine, sizes = renames_of(arch), {}
    for module, params in params_of("", rows).items():
        shape = rows[params["weight"]] if "weight" in params else ()
        sizes |= {name: _size_at(place, shape) for name, place, _ in engine.names(module, shape)}
    yield from sizes.items()
    for name in tuple(sizes):
        for fused, pieces in engine.fused(name, sizes):
            yield fused, (sum(sizes[piece][0] for piece in pieces), sizes[pieces[0]][1])


def _size_at(place: Place, shape: Shape) -> Size:
    rows, columns = (*shape[:1], 0)[0], prod(shape[1:]) if len(shape) > 1 else 0
    rows, columns = (columns, rows) if place.transposed else (rows, columns)
    part, whole = (place.end - place.begin) * (len(place.order) or 1), place.of * place.pieces
    return rows * part // whole, columns
