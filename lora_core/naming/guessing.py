"""Which architectures a LoRA's names and shapes fit with no model at hand: the known models' outlines, by every name.

Names are compared with `#` for every number in them. An architecture fits if it has nearly all of the modules, with
their numbers and shapes; of several, those count all of whose blocks the file has, if it has all of some.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import chain, product
from math import prod

from ..arch import DIFFUSION_ARCHES
from ..arch.base import Arch, Shape
from ..parallel.asking import each
from .detection import params_of
from .numbersets import number_set
from .outlines import compact_outline, outline_words, outlines_of, text_words
from .places import Place
from .renames import renames_of, several

_ENOUGH = 0.9  # of the modules: files may have a few that nobody's table knows, and small ones one of them
_NUMBER = re.compile(r"\d+")
_NUMBERS = re.compile(r"\{[\d,-]+\}|\d+")  # in an outline's name

Size = tuple[int, int]  # output and input of a weight, seen as a matrix; a vector has no input
Numbers = tuple[str, ...]
Sets = tuple[frozenset[str], ...]  # what may stand in each place of a name that has a number
Known = dict[str, dict[Size, list[Sets]]]  # name with "#" for numbers -> the sizes that it has, and where


def guess_arches(modules: Iterable[tuple[str, Shape | None]]) -> list[Arch]:
    """Return every diffusion architecture that a LoRA's modules may be for; none if none has nearly all of them.

    `modules` are names without dialect prefix, dots written as `_`, each with the shape of its change if known: 0 is
    a side that is not.
    """
    groups: dict[tuple[str, Size | None], set[Numbers]] = {}
    for name, shape in each(modules):
        numbers = tuple(_NUMBER.findall(name))
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
    spelled = [
        (text_words(name.encode("ascii", "replace")), size, len(asked)) for (name, size), asked in each(groups.items())
    ]
    mosts = {arch: _at_most(arch, spelled, total) for arch in DIFFUSION_ARCHES} if total else {}
    scores: dict[Arch, tuple[int, int]] = {}
    most = 0
    for arch in sorted(mosts, key=lambda arch: -mosts[arch]):
        if not _is_enough(mosts[arch], total) or mosts[arch] < most:
            break  # others can't have more
        scores[arch] = _score(arch, groups)
        most = max(most, scores[arch][0])
    best = [arch for arch in mosts if scores.get(arch, (0, 0))[0] == most and _is_enough(most, total)]
    whole = [arch for arch in best if scores[arch][1] == len(groups)]
    return whole or best  # a file of some blocks may be of any model that has these


def _at_most(arch: Arch, spelled: Iterable[tuple[frozenset[str], Size | None, int]], total: int) -> int:
    """Return how many of the modules an architecture may have by words and inputs: quickly, for most have few.

    `spelled` has the words in a name, a size and how many modules have both.
    """
    words = _words(arch)
    known = [(size, count) for asked, size, count in spelled if asked <= words]
    if not _is_enough(sum(count for _, count in known), total):
        return 0
    inputs = _inputs(arch)
    return sum(count for size, count in known if size is None or size[1] in inputs)


def _is_enough(fitting: int, total: int) -> bool:
    return fitting == total or fitting >= max(2, min(_ENOUGH * total, total - 1))


@cache
def _words(arch: Arch) -> frozenset[str]:
    """Return every word in the names of the known editions, `#` for a number."""
    rows = " ".join(text for row in arch.renames for side in (row.here, row.there) for text in several(side))
    return text_words(rows.encode()).union(["#"], *(outline_words(found.id) for found in outlines_of(arch)))


@cache
def _inputs(arch: Arch) -> frozenset[int]:
    """Return every size that a weight's input may have, and 0, which stands for any."""
    shapes = {shape for found in outlines_of(arch) for shape in compact_outline(found.id).values()}
    matrices = {_matrix(shape) for shape in shapes}
    lying = matrices if any(row.transposed for row in arch.renames) else ()
    return frozenset(chain((0,), (columns for _, columns in matrices), (rows for rows, _ in lying)))


def _score(arch: Arch, groups: Groups) -> tuple[int, int]:
    """Return how many modules the architecture has, and of how many names the file has every block."""
    known, fitting, whole = _known(arch), 0, 0
    for (name, size), asked in each(groups.items()):
        fits = [places for one, places in known.get(name, {}).items() if _agrees(one, size)]
        has = sum(any(_holds(sets, numbers) for places in fits for sets in places) for numbers in asked)
        fitting += has
        whole += 0 < has == sum(map(_count, fits))
    return fitting, whole


def _count(places: Sequence[Sets]) -> int:
    """Return how many modules these places are, none counted twice."""
    if len(places) == 1:
        return prod(map(len, places[0]))
    return len(set(chain.from_iterable(product(*sets) for sets in places)))


def _agrees(size: Size, asked: Size | None) -> bool:
    """Tell whether a weight has the size of a change of which one side, or neither, may be unknown."""
    return asked is None or all(want in (0, has) for has, want in zip(size, asked, strict=True))


def _holds(sets: Sets, numbers: Numbers) -> bool:
    return all(number in one for one, number in zip(sets, numbers, strict=True))


def _size(shape: Shape | None) -> Size | None:
    return _matrix(shape) if shape and len(shape) > 1 else None


def _matrix(shape: Shape) -> Size:
    return (*shape[:1], 0)[0], prod(shape[1:]) if len(shape) > 1 else 0


@cache
def _known(arch: Arch) -> Known:
    """Return every name of every module of the known editions."""
    known: Known = {}
    for name, size in dict.fromkeys(chain.from_iterable(_names(arch))):
        places = known.setdefault(_NUMBERS.sub("#", name).replace(".", "_"), {}).setdefault(size, [])
        sets = tuple(map(number_set, _NUMBERS.findall(name)))
        if sets not in places:
            places.append(sets)
    return known


def _names(arch: Arch) -> Iterator[Iterable[tuple[str, Size]]]:
    """Yield (name, size) of each edition's modules: one for many, as outlines have them."""
    engine = renames_of(arch)
    named: dict[tuple[str, Shape], dict[str, Size]] = {}  # the same for most editions
    for found in outlines_of(arch):
        rows, sizes = compact_outline(found.id), dict[str, Size]()
        for module, params in params_of("", rows).items():
            if params.keys() == {"bias"} or module.endswith(".bias"):
                continue  # its module's, whose weight may be in a row for other numbers
            shape = rows[params["weight"]] if "weight" in params else ()
            if (module, shape) not in named:
                named[module, shape] = {name: _size_at(place, shape) for name, place, _ in engine.names(module, shape)}
            sizes |= named[module, shape]
        yield sizes.items()
        for name in sizes:
            for fused, pieces in engine.fused(name, sizes):
                yield [(fused, (sum(sizes[piece][0] for piece in pieces), sizes[pieces[0]][1]))]


def _size_at(place: Place, shape: Shape) -> Size:
    rows, columns = _matrix(shape)[::-1] if place.transposed else _matrix(shape)
    part, whole = (place.end - place.begin) * (len(place.order) or 1), place.of * place.pieces
    return rows * part // whole, columns
