"""Scales from a header's section that is another component's: who renames tensors leaves the header as it was."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any

from ..naming.dialects import addressed_roles, split_dialect
from ..text import some_names
from .loraconfig import LoraConfigs, Scale, Section, number_of


def borrowed_scales(configs: LoraConfigs, modules: Collection[str], ranks: Mapping[str, int]) -> dict[str, Scale]:
    """Return scales of the modules in `ranks`, of which no section is the own, from another component's section.

    It is read if it can mean one thing only: there is one pair of alpha and rank that is no component's of the file,
    and the rank is that of every module. What is missing then is a warning.
    """
    prefixes = {split_dialect(module)[0].prefix for module in modules}
    others = [one for one in configs.sections if one.alpha is not None and one.prefix and one.prefix not in prefixes]
    if not others or not ranks:
        return {}
    found: dict[str, Scale] = {}
    for section, wanted in _by_section(others, ranks):
        if all(configs.rank(section, module) == rank for module, rank in wanted.items()):
            found |= {m: section.scale(configs.alpha(section, m) or 0.0, rank) for m, rank in wanted.items()}
    missing = [module for module in ranks if module not in found]
    if missing:
        told = " and ".join(f"{one.prefix.rstrip('.')!r}" for one in others[:3])
        configs.warnings.append(
            f"the header tells an alpha for {told}, which no tensor here belongs to; scale 1 is assumed for "
            f"{some_names(missing)}."
        )
    return found


def _by_section(others: Sequence[Section], ranks: Mapping[str, int]) -> list[tuple[Section, dict[str, int]]]:
    """Return the sections that alone can be a module's, by what its component is or as the only one, with these."""
    meanings = {id(one): _meaning(one) for one in others}
    first: dict[Hashable, Section] = {}  # the first section of each meaning
    for one in others:
        first.setdefault(meanings[id(one)], one)
    roles_of = {id(one): addressed_roles(one.prefix) for one in others}
    chosen: dict[tuple[str, ...], Hashable] = {}  # roles -> the only meaning, None if there are several
    wanted: dict[Hashable, dict[str, int]] = {}
    for module, rank in ranks.items():
        roles = split_dialect(module)[0].roles
        if roles not in chosen:
            alike = [one for one in others if roles_of[id(one)].intersection(roles)] or others
            meant = {meanings[id(one)] for one in alike}
            chosen[roles] = meant.pop() if len(meant) == 1 else None
        if chosen[roles] is not None:
            wanted.setdefault(chosen[roles], {})[module] = rank
    return [(first[meaning], modules) for meaning, modules in wanted.items()]


def _meaning(one: Section) -> Hashable:
    """Return what is alike for two sections that say the same of every module."""
    names = ("use_rslora", "rank_pattern", "alpha_pattern")
    return one.alpha, one.rank, *(_frozen(one.values.get(name)) for name in names)


def _frozen(value: Any) -> Hashable:
    """Return a setting as one that can be looked up: patterns with the numbers that they stand for."""
    if isinstance(value, dict):
        return frozenset((key, number_of(item)) for key, item in value.items())
    return None if isinstance(value, list) else value
