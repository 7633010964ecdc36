"""Where a new node goes: beside the one that it belongs to, where nothing stands, and inside the same groups."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeGuard

_GAP, _TITLE = 40.0, 30.0
_TALLEST = 280.0  # Load LoRA, which may come in place of a lower node
_FARTHEST = 1e9  # from the middle of the canvas
_CELL = 1024.0  # of the finest grid; the next has cells twice as large
_LOOKED_AT = 300  # boxes of a cell: what is more than anybody has costs no time
_STEPS = 40  # how far down to look for room
Box = tuple[float, float, float, float]  # left, top, width, height; the title bar is above the top


class Room:
    """Where on the canvas something stands: boxes in grids, each in the one whose cells are as large as it."""

    def __init__(self, nodes: Iterable[Mapping[str, Any]]) -> None:
        self._grids: dict[float, dict[tuple[int, int], dict[int, tuple[Box, Any]]]] = {}
        for node in nodes:
            self.put(node)

    def put(self, item: Mapping[str, Any], box: Box | None = None) -> None:
        box = box or _box(item)
        cell = _CELL * 2.0 ** max(0, math.ceil(math.log2(max(box[2], box[3], _CELL) / _CELL)))
        for place in _cells(box, cell):
            self._grids.setdefault(cell, {}).setdefault(place, {})[id(item)] = box, item

    def take(self, item: Mapping[str, Any], box: Box | None = None) -> None:
        box = box or _box(item)
        for cell, grid in self._grids.items():
            for place in _cells(box, cell) if cell >= max(box[2], box[3]) else ():
                grid.get(place, {}).pop(id(item), None)

    def near(self, box: Box) -> Iterator[tuple[Box, Any]]:
        """Yield what may stand where a box is or close to it, with the box of each."""
        wide = (box[0] - _GAP, box[1] - _GAP - _TITLE, box[2] + 2 * _GAP, box[3] + 2 * (_GAP + _TITLE))
        for cell, grid in self._grids.items():
            for place in _cells(wide, cell):
                yield from islice(grid.get(place, {}).values(), _LOOKED_AT)


def _cells(box: Box, cell: float) -> Iterator[tuple[int, int]]:
    left, top, width, height = box
    for column in range(math.floor(left / cell), math.floor((left + width) / cell) + 1):
        for row in range(math.floor(top / cell), math.floor((top + height) / cell) + 1):
            yield column, row


def place_beside(near: Mapping[str, Any], size: list[float], room: Room) -> list[float]:
    """Return the position of a node of `size`: below `near`, above, left, right or further down, in free room."""
    left, top, width, height = _box(near)
    height = max(height, _TALLEST)
    below, above = top + height + _TITLE + _GAP, top - size[1] - _TITLE - _GAP
    places = [(left, below), (left, above), (left - size[0] - _GAP, top), (left + width + _GAP, top)]
    places += [(left, below + step * (_TITLE + _GAP)) for step in range(1, _STEPS)]
    boxes = ((*place, size[0], size[1]) for place in places)
    free = (box[:2] for box in boxes if not any(_overlap(box, taken) for taken, _ in room.near(box)))
    return list(next(free, places[0]))


class Groups:
    """The groups of a level, which grow with what is put beside their nodes."""

    def __init__(self, level: Mapping[str, Any]) -> None:
        self._room = Room(())
        for group in level.get("groups") or []:
            if _is_box(group.get("bounding")):
                self._room.put(group, _bounds(group))

    def fit(self, near: Mapping[str, Any], node: Mapping[str, Any]) -> None:
        """Widen the groups around `near` to hold `node` too."""
        left, top, width, height = _box(node)
        x, y, w, h = _box(near)
        middle = (x + w / 2, y + h / 2, 0.0, 0.0)
        for group in {id(group): group for _, group in self._room.near(middle)}.values():
            if _holds(group["bounding"], near):
                self._room.take(group, _bounds(group))
                x, y, w, h = map(float, group["bounding"])
                right, bottom = max(x + w, left + width + _GAP), max(y + h, top + height + _GAP)
                x, y = min(x, left - _GAP), min(y, top - _TITLE - _GAP)
                group["bounding"] = [x, y, right - x, bottom - y]
                self._room.put(group, _bounds(group))


def _bounds(group: Mapping[str, Any]) -> Box:
    left, top, width, height = (max(-_FARTHEST, min(_FARTHEST, float(one))) for one in group["bounding"])
    return left, top, max(width, 0.0), max(height, 0.0)


def _is_box(bounds: Any) -> TypeGuard[list[float]]:
    return isinstance(bounds, list) and len(bounds) == 4 and all(map(_is_number, bounds))  # pyright: ignore


def _holds(bounds: list[Any], node: Mapping[str, Any]) -> bool:
    left, top, width, height = _box(node)
    x, y = left + width / 2, top + height / 2
    return bounds[0] <= x <= bounds[0] + bounds[2] and bounds[1] <= y <= bounds[1] + bounds[3]


def _box(node: Mapping[str, Any]) -> Box:
    left, top = _pair(node.get("pos"), (0.0, 0.0))
    width, height = _pair(node.get("size"), (300.0, 100.0))
    return left, top, max(width, 0.0), max(height, 0.0)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= _FARTHEST


def _pair(value: Any, otherwise: tuple[float, float]) -> tuple[float, float]:
    """Return two numbers, which older files hold as an object."""
    if isinstance(value, Mapping):
        value = [value.get("0"), value.get("1")]  # pyright: ignore
    if isinstance(value, list) and len(value) >= 2 and all(map(_is_number, value[:2])):  # pyright: ignore
        return float(value[0]), float(value[1])  # pyright: ignore
    return otherwise


def _overlap(one: Box, other: Box) -> bool:
    apart_x = one[0] + one[2] + _GAP / 2 <= other[0] or other[0] + other[2] + _GAP / 2 <= one[0]
    apart_y = one[1] + one[3] + _TITLE <= other[1] or other[1] + other[3] + _TITLE <= one[1]
    return not (apart_x or apart_y)
