"""Which module of one layout is which of another: by shapes, then names, then what lies beside it, then order.

Blocks are paired first; within a pair every way in which a module could be another, or several fused, is a candidate.
A candidate without a rival is taken; then the likeliest, with a doubt if a rival was nearly as likely.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from tests.keylist.leaves import Leaf
from tests.keylist.likeness import ROLES, likeness, role

_NEARLY = 0.15  # a rival within this of the likeliest
_MOST_CANDIDATES = 4000
_MOST_BESIDE = 8  # of which some may be fused
_MOST_MORE = 2  # of other modules that are fused with query, key and value


@dataclass(frozen=True, slots=True)
class Pair:
    """One or several modules here that are one or several there; one side is one module."""

    here: tuple[Leaf, ...]
    there: tuple[Leaf, ...]
    transposed: bool = False

    @property
    def likeness(self) -> float:
        return likeness(_joint_name(self.here), _joint_name(self.there))


@dataclass(slots=True)
class Matched:
    """What was found, and what a person has to look at."""

    pairs: list[Pair] = field(default_factory=list)
    here: list[Leaf] = field(default_factory=list)  # without a partner
    there: list[Leaf] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)


def match(here: Sequence[Leaf], there: Sequence[Leaf]) -> Matched:
    """Return the pairs of two layouts' leaves."""
    found, parents = Matched(), Counter[tuple[str, str]]()
    owners = sorted(_owners(here, there, found.doubts), key=lambda pair: pair[0] == "")  # what is beside blocks, last
    for mine, theirs in owners:
        within = _match_within(
            [leaf for leaf in here if leaf.owner == mine], [leaf for leaf in there if leaf.owner == theirs], parents
        )
        found.pairs += within.pairs
        found.doubts += within.doubts
    used = {leaf for pair in found.pairs for leaf in (*pair.here, *pair.there)}
    found.here = [leaf for leaf in here if leaf not in used]
    found.there = [leaf for leaf in there if leaf not in used]
    return found


def _owners(here: Sequence[Leaf], there: Sequence[Leaf], doubts: list[str]) -> Iterator[tuple[str, str]]:
    """Yield pairs of blocks: those of the same sizes, of several those with the likeliest names."""
    mine, theirs = _by_owner(here), _by_owner(there)
    scores = {
        (one, other): _overlap(mine[one], theirs[other]) + 0.5 * likeness(one, other)
        for one in mine
        for other in theirs
        if (one == "") == (other == "") and max(_blocks(mine[one])) == max(_blocks(theirs[other]))
    }
    for (one, other), score in sorted(scores.items(), key=lambda item: -item[1]):
        if one not in mine or other not in theirs or (score < 0.5 and one):
            continue
        rivals = [
            b if a == one else a
            for (a, b), rival in scores.items()
            if (a == one) != (b == other) and a in mine and b in theirs and rival > score - _NEARLY
        ]
        if rivals:
            doubts.append(f"blocks {one} are taken for {other}; as likely: {', '.join(rivals)}")
        del mine[one], theirs[other]
        yield one, other


def _by_owner(leaves: Iterable[Leaf]) -> dict[str, list[Leaf]]:
    found: dict[str, list[Leaf]] = {}
    for leaf in leaves:
        found.setdefault(leaf.owner, []).append(leaf)
    return found


def _blocks(leaves: Iterable[Leaf]) -> list[int]:
    return [leaf.count for leaf in leaves]


def _overlap(here: Iterable[Leaf], there: Iterable[Leaf]) -> float:
    """Return how much of the rows of weights two blocks have in common, whichever of them are fused."""
    mine, theirs = Counter[int](), Counter[int]()
    for counts, leaves in ((mine, here), (theirs, there)):
        for leaf in leaves:
            counts[leaf.matrix[1]] += leaf.matrix[0]
    return (mine & theirs).total() / ((mine | theirs).total() or 1)


def _match_within(here: list[Leaf], there: list[Leaf], parents: Counter[tuple[str, str]]) -> Matched:
    """Return the pairs of two blocks; `parents` counts what pairs lie below, those of other blocks too."""
    found = Matched()
    ranks = {**_ranks(here), **_ranks(there)}
    waiting = [*_candidates(here, there)]
    if len(waiting) > _MOST_CANDIDATES:
        found.doubts.append(f"{here[0].owner or 'outside of blocks'}: {len(here)} modules, too many alike to compare")
        waiting = [pair for pair in waiting if pair.here[0].full == pair.there[0].full]
    while waiting:
        scored = sorted(((_score(pair, parents, ranks), pair) for pair in waiting), key=lambda item: -item[0])
        asked = Counter(leaf for pair in waiting for leaf in (*pair.here, *pair.there))
        score, best = next((item for item in scored if _is_alone(item[1], asked)), scored[0])
        rivals = [pair for other, pair in scored if _clash(pair, best) and pair != best and other > score - _NEARLY]
        if rivals:
            found.doubts.append(_doubt(best, rivals))
        elif best.likeness < _NEARLY:
            found.doubts.append(f"{_text(best)}: by its shape alone, the names say nothing")
        parents.update((_parents(best), _tops(best)))
        found.pairs.append(best)
        waiting = [pair for pair in waiting if not _clash(pair, best)]
    return found


def _candidates(here: list[Leaf], there: list[Leaf]) -> Iterator[Pair]:
    same = {leaf.full for leaf in here} & {leaf.full for leaf in there}
    for one in here:
        for other in there:
            if one.full != other.full and (one.full in same or other.full in same or _are_other_roles(one, other)):
                continue
            if one.numbers != other.numbers:
                continue
            if _has_params_of(one, other) and _is_same_shape(one, other):
                yield Pair((one,), (other,))
            elif one.params == other.params and one.shape == other.shape[::-1] and len(one.shape) == 2:
                yield Pair((one,), (other,), transposed=True)
    yield from (Pair((whole,), pieces) for whole, pieces in _fusions(here, there))
    yield from (Pair(pieces, (whole,)) for whole, pieces in _fusions(there, here))


def _has_params_of(one: Leaf, other: Leaf) -> bool:
    """Tell whether two modules have the same parameters; a makers' norm may have a bias more or less, which is zero."""
    return one.params == other.params or (bool(one.spelling) and "weight" in one.params & other.params)


def _are_other_roles(one: Leaf, other: Leaf) -> bool:
    mine, theirs = role(one.name), role(other.name)
    return mine is not None and theirs is not None and mine[1] != theirs[1]


def _is_same_shape(one: Leaf, other: Leaf) -> bool:
    """Tell whether shapes agree; those of weights also as matrices: a convolution of one pixel is a linear layer."""
    return one.shape == other.shape or (
        one.matrix == other.matrix and min(len(one.shape), len(other.shape)) > 1 and "weight" in one.params
    )


def _fusions(wholes: Sequence[Leaf], pieces: Sequence[Leaf]) -> Iterator[tuple[Leaf, tuple[Leaf, ...]]]:
    """Yield (module, modules of the other layout that fill its rows one after the other)."""
    for group in _groups(pieces):
        rows, columns = sum(leaf.matrix[0] for leaf in group), group[0].matrix[1]
        for whole in wholes:
            if whole.matrix == (rows, columns) and whole.params == group[0].params and role(whole.name) is None:
                yield whole, group


def _groups(leaves: Sequence[Leaf]) -> Iterator[tuple[Leaf, ...]]:
    """Yield what may be fused: query, key and value, alone or with what follows; two or three in one place."""
    roles: dict[str, dict[str, Leaf]] = {}
    for leaf in leaves:
        if found := role(leaf.name):
            roles.setdefault(found[0], {})[found[1]] = leaf
    for parts in roles.values():
        for wanted in (ROLES, ROLES[1:]):
            if set(wanted) <= parts.keys():
                group = tuple(parts[one] for one in wanted)
                yield from _extended(group, [leaf for leaf in leaves if leaf not in parts.values()])
    beside = _by_parent(leaf for leaf in leaves if role(leaf.name) is None)
    for size in (2, 3):
        for group in (group for parts in beside.values() for group in combinations(parts, size)):
            if _are_like(group):
                yield group


def _by_parent(leaves: Iterable[Leaf]) -> dict[str, list[Leaf]]:
    """Return modules that lie side by side; the numbers of layers in a sequence do not count."""
    found: dict[str, list[Leaf]] = {}
    for leaf in leaves:
        words = [word for word in leaf.full.split(".") if not word.isdecimal()]
        found.setdefault(".".join(words[:-1]), []).append(leaf)
    return {parent: parts for parent, parts in found.items() if len(parts) <= _MOST_BESIDE}


def _extended(group: tuple[Leaf, ...], others: Sequence[Leaf]) -> Iterator[tuple[Leaf, ...]]:
    if not _are_like(group):
        return
    yield group
    fitting = [leaf for leaf in others if leaf.owner and _are_like((group[0], leaf))]
    for count in range(1, _MOST_MORE + 1):
        yield from (group + more for more in combinations(fitting, count))


def _are_like(group: Sequence[Leaf]) -> bool:
    first = group[0]
    return first.matrix[1] > 0 and all(
        leaf.matrix[1] == first.matrix[1] and leaf.params == first.params for leaf in group
    )


def _ranks(leaves: Iterable[Leaf]) -> dict[Leaf, int]:
    """Return the place of each module among those of its shape."""
    counts, ranks = Counter[tuple[tuple[int, int], frozenset[str]]](), dict[Leaf, int]()
    for leaf in leaves:
        ranks[leaf] = counts[leaf.matrix, leaf.params]
        counts[leaf.matrix, leaf.params] += 1
    return ranks


def _score(pair: Pair, parents: Counter[tuple[str, str]], ranks: dict[Leaf, int]) -> float:
    beside = _share(parents, *_parents(pair)) + 0.7 * _share(parents, *_tops(pair))
    is_fused = len(pair.here) != len(pair.there)
    far = 0 if is_fused else min(0.1, 0.04 * abs(ranks[pair.here[0]] - ranks[pair.there[0]]))
    fused = 0.02 * (len(pair.here) + len(pair.there) - 2)
    return pair.likeness + 0.3 * beside - far - fused - 0.2 * pair.transposed


def _share(parents: Counter[tuple[str, str]], mine: str, theirs: str) -> float:
    """Return what share of the pairs below a name here lies below that name there."""
    seen = sum(count for (one, _), count in parents.items() if one == mine)
    return parents[mine, theirs] / seen if seen else 0


def _tops(pair: Pair) -> tuple[str, str]:
    """Return the first words of two names, where more than one follows."""
    mine, theirs = (side[0].full.split(".") for side in (pair.here, pair.there))
    return mine[0] + "." if len(mine) > 2 else "", theirs[0] + "." if len(theirs) > 2 else ""


def _parents(pair: Pair) -> tuple[str, str]:
    return pair.here[0].full.rpartition(".")[0], pair.there[0].full.rpartition(".")[0]


def _is_alone(pair: Pair, asked: Counter[Leaf]) -> bool:
    return all(asked[leaf] == 1 for leaf in (*pair.here, *pair.there))


def _clash(one: Pair, other: Pair) -> bool:
    return not set(one.here).isdisjoint(other.here) or not set(one.there).isdisjoint(other.there)


def _joint_name(leaves: Sequence[Leaf]) -> str:
    if len(leaves) == 1:
        return leaves[0].full
    return leaves[0].owner + " ".join(leaf.name for leaf in leaves).replace(" ", "_")


def _text(pair: Pair) -> str:
    return f"{' + '.join(leaf.full for leaf in pair.here)} = {' + '.join(leaf.full for leaf in pair.there)}"


def _doubt(best: Pair, rivals: Sequence[Pair]) -> str:
    return f"{_text(best)}; as likely: " + ", ".join(map(_text, rivals[:3]))
