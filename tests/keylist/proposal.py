"""The rename rows that a comparison of two layouts gives, and what it cannot tell."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import gcd

from lora_core.arch.base import Rename, Shapes
from tests.keylist.leaves import Leaf, leaves
from tests.keylist.likeness import words
from tests.keylist.matching import Pair, match

_FEW = 4  # names that a line has
_MOST_CHUNKS = 9  # of a modulation


@dataclass(frozen=True, slots=True)
class Rows:
    """Rename rows, and what a person has to look at."""

    renames: tuple[Rename, ...]
    doubts: tuple[str, ...]


def rows_of(own: Shapes, there: Shapes) -> Rows:
    """Return the rows that lead from a model's own names to diffusers'; keys are without prefix."""
    here = leaves(own)
    found = match(here, leaves(there))
    places = {leaf: place for place, leaf in enumerate(here)}
    pairs = sorted(found.pairs, key=lambda pair: places[pair.here[0]])
    rows = [row for pair in pairs for row in _rows(pair)]
    one_block = {row for pair in pairs for row in _rows(pair) if _of_every_block(pair) in rows}
    renames = _joined([row for row in rows if row not in one_block], pairs)
    doubts = (
        *found.doubts,
        *(doubt for pair in pairs if (doubt := _order_doubt(pair, here))),
        *_left_over(found.here, "nothing there is like it"),
        *_left_over(found.there, "nothing here is like this name of diffusers'"),
    )
    return Rows(renames, doubts)


def _of_every_block(pair: Pair) -> Rename | None:
    """Return the row of every block, of a pair that is of one by its number."""
    one, other = pair.here[0], pair.there[0]
    is_one = one.full != one.owner + one.name
    return Rename(one.owner + one.name, other.owner + other.name) if is_one else None


def _joined(rows: list[Rename], pairs: list[Pair]) -> tuple[Rename, ...]:
    """Return the rows, as one those that rename a part of the model alike with all that is below it."""
    below: dict[tuple[str, str], list[Rename]] = {}
    for row in rows:
        if isinstance(row.here, str) and isinstance(row.there, str) and row == Rename(row.here, row.there):
            below.setdefault(_parts_above(row.here, row.there), []).append(row)
    whole = {
        parts: Rename(parts[0] + ".{rest}", parts[1] + ".{rest}")
        for parts, found in below.items()
        if all(parts) and "{" not in parts[0] and len(found) > 1
        if len(found) == sum(leaf.full.startswith(parts[0] + ".") for pair in pairs for leaf in pair.here)
    }
    one = {row: whole[parts] for parts, found in below.items() if parts in whole for row in found}
    return tuple(dict.fromkeys(one.get(row, row) for row in rows))


def _parts_above(here: str, there: str) -> tuple[str, str]:
    """Return what stands before the words that two names have in common at their ends."""
    mine, theirs = here.split("."), there.split(".")
    while mine and theirs and mine[-1] == theirs[-1]:
        mine, theirs = mine[:-1], theirs[:-1]
    return ".".join(mine), ".".join(theirs)


def _left_over(found: Iterable[Leaf], reason: str) -> Iterator[str]:
    """Yield a line for each place where modules have no partner, and those of few by name."""
    places: dict[str, list[str]] = {}
    for leaf in found:
        places.setdefault(".".join(leaf.full.split(".")[:2]), []).append(leaf.full)
    for place, names in places.items():
        yield f"{', '.join(names) if len(names) <= _FEW else f'{place}: {len(names)} modules'}: {reason}"


def _rows(pair: Pair) -> Iterator[Rename]:
    here, there = ([leaf.full for leaf in side] for side in (pair.here, pair.there))
    if here == there and not pair.transposed:
        return
    if len(here) > 1:
        yield Rename(tuple(here), there[0])
        return
    if len(there) > 1:
        yield Rename(here[0], tuple(there), sizes=_sizes(leaf.matrix[0] for leaf in pair.there))
        return
    spelled = dict(set(pair.here[0].spelling) - set(pair.there[0].spelling))
    if "weight" not in spelled:
        order = (1, 0) if _is_scale_first(pair) else ()
        yield Rename(here[0], there[0], transposed=pair.transposed, order=order)
    for param, last in sorted(spelled.items(), reverse=True):
        if param in pair.there[0].params:
            yield Rename(f"{here[0]}.{last}", there[0] + ("" if param == "weight" else ".bias"))


def _is_scale_first(pair: Pair) -> bool:
    """Tell whether it is the last modulation, which most makers have as shift, scale, and diffusers as scale, shift."""
    one, other = pair.here[0], pair.there[0]
    is_double = one.matrix[0] == 2 * one.matrix[1]
    return is_double and one.full != other.full and other.full == "norm_out.linear" and "mod" in words(one.full)


def _order_doubt(pair: Pair, beside: Iterable[Leaf]) -> str:
    """Return what shapes cannot tell of the order of rows, if the module has several parts."""
    one, other = pair.here[0], pair.there[0]
    if len(pair.here) + len(pair.there) > 2:
        names = [leaf.full for leaf in max(pair.here, pair.there, key=len)]
        return f"{one.full}: that its rows are {', then '.join(names)}, and that heads do not alternate"
    rows, columns = one.matrix
    if one.name.endswith(("linear_1", "linear_2")):
        return ""
    if _is_scale_first(pair):
        return f"{one.full} = {other.full}: that it is shift, scale here; diffusers has scale, shift"
    parts = words(one.full).keys() | words(other.full).keys()
    is_chunked = bool(columns) and rows % columns == 0 and 2 <= rows // columns <= _MOST_CHUNKS
    is_gated = any(leaf.owner == one.owner and leaf.matrix == (columns, rows / 2) for leaf in beside)
    has_parts = {"q", "k"} <= parts or not parts.isdisjoint(("mod", "norm")) if is_chunked else False
    if one.full != other.full and (has_parts or (is_gated and "mlp" in parts)):
        return f"{one.full} = {other.full}: that its {'halves' if is_gated else 'parts'} lie in the same order there"
    return ""


def _sizes(rows: Iterable[int]) -> tuple[int, ...]:
    heights = tuple(rows)
    unit = gcd(*heights)
    sizes = tuple(height // unit for height in heights)
    return () if set(sizes) == {1} else sizes
