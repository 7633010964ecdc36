"""A workflow as the editor saves it: levels of nodes with numbered slots, wires by number, values by position."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..errors import WorkflowError
from ..operations import NODES

MUTED, BYPASSED = 2, 4  # the editor's modes "never" and "bypass"
FROM_OUTSIDE, TO_OUTSIDE = -10, -20  # the ends of a subgraph's outer links
_OUTSIDE, _RESULT = str(FROM_OUTSIDE), str(TO_OUTSIDE)
PRIMITIVE = "PrimitiveNode"

SavedNode = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Wire:
    """A wire between two nodes of one level, by their ids as text."""

    id: str
    origin: str
    origin_slot: int
    target: str
    target_slot: int


class Level:
    """The top of a workflow, or the inside of a subgraph."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.data = data
        self.nodes: dict[str, SavedNode] = {str(node["id"]): node for node in data["nodes"]}
        self.wires = {wire.id: wire for wire in _wires(data)}
        self._entering: dict[int, list[Wire]] = {}  # by the subgraph's own input
        self._results: dict[int, list[Wire]] = {}  # by its own output
        for wire in self.wires.values():
            if wire.origin == _OUTSIDE:
                self._entering.setdefault(wire.origin_slot, []).append(wire)
            if wire.target == _RESULT:
                self._results.setdefault(wire.target_slot, []).append(wire)
        for node in self.nodes.values():
            if not isinstance(node["type"], str):
                raise TypeError(f"node {node['id']} has no type")

    def wire(self, node: SavedNode, slot: int) -> Wire | None:
        """Return what comes to an input, or None where nothing does or no such input is."""
        link = slots(node)[slot].get("link") if 0 <= slot < len(slots(node)) else None
        return None if link is None else self.wires.get(str(link))

    def entering(self, slot: int) -> Iterator[tuple[SavedNode, int]]:
        """Yield who gets an input of this subgraph, and at which of its slots; the first is the one that it shows."""
        for wire in self._at_end("inputs", slot, self._entering.get(slot, ())):
            node = self.nodes.get(wire.target)
            if node is not None and 0 <= wire.target_slot < len(slots(node)):
                yield node, wire.target_slot

    def result(self, slot: int) -> Wire | None:
        """Return what comes to an output of this subgraph: of several wires the first that it lists."""
        return next(iter(self._at_end("outputs", slot, self._results.get(slot, ()))), None)

    def _at_end(self, name: str, slot: int, wires: Iterable[Wire]) -> list[Wire]:
        """Return the wires of one of the subgraph's own slots, in the order in which the slot lists them."""
        ends = self.data.get(name) or []
        ids = ends[slot].get("linkIds") if 0 <= slot < len(ends) else None
        listed = [str(one) for one in ids] if isinstance(ids, list) else []
        place = {one: number for number, one in reversed(list(enumerate(listed)))}
        return sorted(wires, key=lambda wire: place.get(wire.id, len(listed)))

    @cached_property
    def face(self) -> dict[str, int]:
        """The names of this subgraph's inputs, each with the first slot of that name."""
        names = self.names
        return {name: slot for slot, name in reversed(list(enumerate(names)))}

    @cached_property
    def names(self) -> list[str]:
        """The names of this subgraph's inputs, in order."""
        return [str(item.get("name")) for item in self.data.get("inputs") or []]


def subgraphs(data: Mapping[str, Any]) -> dict[str, Level]:
    """Return the insides of a workflow's subgraphs, by the type of the nodes that stand for them, innermost first.

    Raises WorkflowError for one that holds itself.
    """
    definitions = data.get("definitions")
    inner = definitions.get("subgraphs") if isinstance(definitions, Mapping) else None
    found = {item["id"]: Level(item) for item in (inner if isinstance(inner, list) else ())}
    around: dict[str, list[str]] = {key: [] for key in found}
    waiting: dict[str, int] = {}  # how many others each holds that have not come yet
    for key, level in found.items():
        held = {node["type"] for node in level.nodes.values() if node["type"] in found}
        waiting[key] = len(held)
        for one in held:
            around[one].append(key)
    order = [key for key, count in waiting.items() if not count]
    for key in order:  # which grows meanwhile
        for outer in around[key]:
            waiting[outer] -= 1
            if not waiting[outer]:
                order.append(outer)
    if len(order) < len(found):
        circle = next(key for key, count in waiting.items() if count)
        raise WorkflowError(f"subgraph {circle[:40]}: holds itself.")
    return {key: found[key] for key in order}


def slots(node: SavedNode) -> list[Mapping[str, Any]]:
    return node.get("inputs") or []


def widget_of(node: SavedNode, slot: int) -> str | None:
    """Return the name of the widget that an input stands for, or None for a socket."""
    item = slots(node)[slot]
    if isinstance(item.get("widget"), Mapping) and isinstance(item["widget"].get("name"), str):
        return item["widget"]["name"]
    declared = NODES.get(node["type"])
    is_option = declared is not None and any(option.name == item["name"] for option in declared.options)
    return item["name"] if is_option else None


def own_values(node: SavedNode) -> dict[str, Any]:
    """Return a node's widget values by name, as far as they can be named without its definition."""
    declared, values = NODES.get(node["type"]), node.get("widgets_values")
    if declared and isinstance(values, list):
        return dict(zip((option.name for option in declared.options), values, strict=False))
    return {key: value for key, value in values.items() if isinstance(key, str)} if isinstance(values, Mapping) else {}


def first_value(node: SavedNode) -> Any:
    """Return the value of a node's first widget, or None."""
    values = node.get("widgets_values")
    return values[0] if isinstance(values, list) and values else None


def _wires(data: Mapping[str, Any]) -> Iterator[Wire]:
    """Yield the links of either spelling."""
    for link in data.get("links") or []:
        if not link:  # a hole, where a link was
            continue
        if isinstance(link, Mapping):
            names = ("id", "origin_id", "origin_slot", "target_id", "target_slot")
            number, origin, origin_slot, target, target_slot = (link[name] for name in names)
        else:
            number, origin, origin_slot, target, target_slot = link[:5]
        yield Wire(str(number), str(origin), int(origin_slot), str(target), int(target_slot))
