"""Which of its inputs a bypassed node hands on, as the page decides it."""

from __future__ import annotations

from typing import Any

from .saved import SavedNode, slots


def type_of(node: SavedNode, slot: int) -> Any:
    return slots(node)[slot].get("type")


def bypass(node: SavedNode, slot: int, kind: Any) -> int | None:
    """Return the input that a bypassed node hands on at an output: the one opposite if it fits, else the first."""
    count = len(slots(node))
    if kind in ("*", ""):
        return slot if slot < count else 0 if count else None
    outputs = node.get("outputs") or []
    own = outputs[slot].get("type") if slot < len(outputs) else kind

    def fits(number: int) -> bool:
        return _fits(type_of(node, number), own) and _fits(type_of(node, number), kind)

    if 0 <= slot < count and fits(slot):
        return slot
    same = (number for number in range(count) if type_of(node, number) == kind)
    return next(same, next(filter(fits, range(count)), None))


def _fits(one: Any, other: Any) -> bool:
    """Tell whether a wire may go between slots of two types, each one of several or any."""
    if one in ("", "*", 0, None) or other in ("", "*", 0, None):
        return True
    return not set(str(one).lower().split(",")).isdisjoint(str(other).lower().split(","))
