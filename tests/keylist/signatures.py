"""A signature that a model's key lists have and no other known list has, whatever its prefix and layout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache

from lora_core.arch.base import DIFFUSION_PREFIXES, Shapes, Signature
from tests import manifests

_MOST_KEYS = 5


def signature(own: Sequence[Shapes], others: Mapping[str, Shapes], least: int = 2) -> tuple[Signature, list[str]]:
    """Return a signature that fits all lists of `own`, and the names of other lists that it fits too: best none.

    It names `least` keys or more.
    """
    has, rivals = _had(own, others, least)
    lacks: tuple[str, ...] = ()
    while rivals and (key := _lacked(own, rivals)):
        lacks += (key,)
        rivals = {name: shapes for name, shapes in rivals.items() if key not in shapes}
    found = Signature(has, lacks)
    if rivals:
        found = Signature(has, lacks, _shape(own, rivals))
        rivals = {name: shapes for name, shapes in rivals.items() if found.fits(shapes)}
    return found, sorted(rivals)


def _had(own: Sequence[Shapes], others: Mapping[str, Shapes], least: int) -> tuple[tuple[str, ...], dict[str, Shapes]]:
    """Return keys that few other lists have together, and the lists that do."""
    has, rivals, rarity = tuple[str, ...](), dict(others), _words(others)
    while len(has) < _MOST_KEYS and (rivals or len(has) < least):
        counts = {key: sum(key in shapes for shapes in rivals.values()) for key in _telling(own) if key not in has}
        if not counts:
            break
        key = min(counts, key=lambda one: (counts[one], *_plainness(one, bool(has), rarity)))
        if rivals and counts[key] == len(rivals):
            break
        has += (key,)
        rivals = {name: shapes for name, shapes in rivals.items() if key in shapes}
    return has, rivals


def _words(lists: Mapping[str, Shapes]) -> Counter[str]:
    """Return in how many lists each part of a name is."""
    return Counter(word for shapes in lists.values() for word in {word for key in shapes for word in key.split(".")})


def known_lists(but: Sequence[str]) -> dict[str, Shapes]:
    """Return every other known list by its name, without prefix; a file that a prefix of models divides, so too."""
    return {
        f"{name}{layout}": shapes
        for name in manifests.archs()
        if name not in but and manifests.checkpoint(name).edition not in but
        for layout, shapes in _layouts(name)
    }


@cache
def _layouts(name: str) -> tuple[tuple[str, Shapes], ...]:
    listed = manifests.checkpoint(name)
    found = [("", own_keys(name))]
    for prefix in DIFFUSION_PREFIXES:
        below = {key[len(prefix) :]: shape for key, shape in listed.keys.items() if prefix and key.startswith(prefix)}
        if below and prefix != listed.prefix:
            found.append((f" below {prefix}", below))
    return (*found, *([(" (diffusers)", listed.diffusers_keys)] if listed.diffusers_keys else []))


@cache
def own_keys(name: str) -> Shapes:
    """Return the keys of a model's list, without prefix and what stands beside it."""
    listed = manifests.checkpoint(name)
    prefix = listed.prefix
    return {key[len(prefix) :]: shape for key, shape in listed.keys.items() if key.startswith(prefix)}


def _telling(own: Sequence[Shapes]) -> Iterator[str]:
    """Yield keys that all lists have: of blocks and sequences the first, and no biases."""
    for key in own[0]:
        tokens = key.split(".")
        firsts = (
            ".".join((*tokens[:place], "0", *tokens[place + 1 :]))
            for place, token in enumerate(tokens)
            if token.isdecimal() and token != "0"
        )
        is_common = all(key in shapes for shapes in own)
        if is_common and not key.endswith((".bias", ".beta")) and not any(first in own[0] for first in firsts):
            yield key


def _plainness(key: str, wants_block: bool, words: Mapping[str, int]) -> tuple[bool, int, int, int]:
    """Return what makes a key a good one to know a model by: weights, rare words, one of the first block too."""
    is_other = (".0." in key) != wants_block or not key.endswith(".weight")
    return is_other, min(words[word] for word in key.split(".")), key.count("."), len(key)


def _lacked(own: Sequence[Shapes], rivals: Mapping[str, Shapes]) -> str:
    """Return a key that no list has and most of the others have; "" if there is none."""
    counts: dict[str, int] = {}
    for shapes in rivals.values():
        for key in shapes:
            if not any(key in mine for mine in own):
                counts[key] = counts.get(key, 0) + 1
    return min(counts, key=lambda one: (-counts[one], one.count("."), len(one))) if counts else ""


def _shape(own: Sequence[Shapes], rivals: Mapping[str, Shapes]) -> dict[str, tuple[int, ...]]:
    """Return the shape of one key that tells most of the others from these lists."""
    counts = {
        key: sum(shapes.get(key) != own[0][key] for shapes in rivals.values())
        for key in _telling(own)
        if all(mine[key] == own[0][key] for mine in own)
    }
    best = max(counts, key=lambda one: (counts[one], -len(one)), default="")
    return {best: own[0][best]} if best and counts[best] else {}
