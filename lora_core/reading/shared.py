"""Tensors that a file has once for many modules, as the random projections of VeRA."""

from __future__ import annotations

from collections.abc import Mapping

from ..adapters.suffixes import SplitName
from ..files.tensorheader import TensorInfo

Found = tuple[SplitName, TensorInfo]


def with_shared(modules: Mapping[str, list[Found]]) -> dict[str, list[Found]]:
    """Return the parts by module, shared ones among those of each module that they are for.

    A module of shared parts alone is none: its name is the beginning of the names of those that have them. One that
    is nobody's stays, so that it is told.
    """
    holders = {name: parts for name, parts in modules.items() if all(split.part.shared for split, _ in parts)}
    used: set[str] = set()
    result: dict[str, list[Found]] = {}
    for module, parts in modules.items():
        if module in holders:
            continue
        result[module] = list(parts)
        words = {split.part.kind for split, _ in parts}
        own = {(split.part.kind, split.part.field) for split, _ in parts}
        for holder in (name for name in holders if module.startswith(f"{name}.")):
            for split, info in holders[holder]:
                if split.part.kind in words:
                    used.add(holder)
                    if (split.part.kind, split.part.field) not in own:
                        result[module].append((split, info))
    return result | {name: parts for name, parts in holders.items() if name not in used}
