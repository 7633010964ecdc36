"""Where a new node goes: beside the one that it belongs to, where nothing stands, and inside the same groups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, TypeGuard

_GAP, _TITLE = 40.0, 30.0
_TALLEST = 280.0  # Load LoRA, which may come in place of a lower node
_LOOKED_AT = 1000  # nodes and groups: what is more than anybody has costs no time
_STEPS = 40  # how far down to look for room
Box = tuple[float, float, float, float]  # left, top, width, height; the title bar is above the top


def place_beside(near: Mapping[str, Any], size: list[float], nodes: Iterable[Mapping[str, Any]]) -> list[float]:
    """Return the position of a node of `size`: below `near`, above, left, right or further down, in free room."""
    left, top, width, height = _box(near)
    height = max(height, _TALLEST)
    taken = [_box(node) for node in islice(nodes, _LOOKED_AT)]
    below, above = top + height + _TITLE + _GAP, top - size[1] - _TITLE - _GAP
    places = [(left, below), (left, above), (left - size[0] - _GAP, top), (left + width + _GAP, top)]
    places += [(left, below + step * (_TITLE + _GAP)) for step in range(1, _STEPS)]
    free = (place for place in places if not any(_overlap((*place, size[0], size[1]), box) for box in taken))
    return list(next(free, places[0]))


def fit_groups(level: Mapping[str, Any], near: Mapping[str, Any], node: Mapping[str, Any]) -> None:
    """Widen the groups around `near` to hold `node` too."""
    left, top, width, height = _box(node)
    groups: list[dict[str, Any]] = level.get("groups") or []
    for group in groups[:_LOOKED_AT]:
        bounds = group.get("bounding")
        if _is_box(bounds) and _holds(bounds, near):
            x, y, w, h = map(float, bounds)
            right, bottom = max(x + w, left + width + _GAP), max(y + h, top + height + _GAP)
            x, y = min(x, left - _GAP), min(y, top - _TITLE - _GAP)
            group["bounding"] = [x, y, right - x, bottom - y]


def _is_box(bounds: Any) -> TypeGuard[list[float]]:
    return isinstance(bounds, list) and len(bounds) == 4 and all(type(one) in (int, float) for one in bounds)  # pyright: ignore


def _holds(bounds: list[Any], node: Mapping[str, Any]) -> bool:
    left, top, width, height = _box(node)
    x, y = left + width / 2, top + height / 2
    return bounds[0] <= x <= bounds[0] + bounds[2] and bounds[1] <= y <= bounds[1] + bounds[3]


def _box(node: Mapping[str, Any]) -> Box:
    left, top = _pair(node.get("pos"), (0.0, 0.0))
    width, height = _pair(node.get("size"), (300.0, 100.0))
    return left, top, width, height


def _pair(value: Any, otherwise: tuple[float, float]) -> tuple[float, float]:
    """Return two numbers, which older files hold as an object."""
    if isinstance(value, Mapping):
        value = [value.get("0"), value.get("1")]  # pyright: ignore
    if isinstance(value, list) and len(value) >= 2 and all(type(item) in (int, float) for item in value[:2]):  # pyright: ignore
        return float(value[0]), float(value[1])  # pyright: ignore
    return otherwise


def _overlap(one: Box, other: Box) -> bool:
    apart_x = one[0] + one[2] + _GAP / 2 <= other[0] or other[0] + other[2] + _GAP / 2 <= one[0]
    apart_y = one[1] + one[3] + _TITLE <= other[1] or other[1] + other[3] + _TITLE <= one[1]
    return not (apart_x or apart_y)
