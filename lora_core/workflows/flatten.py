"""A saved workflow as the page queues it: a prompt, in which subgraphs are opened and the page's own nodes resolved.

What becomes of each node and wire is what the page's `graphToPrompt` makes of them; `python -m tests.flattening`
compares the two on real workflows. Values of other packs' nodes stay a list, since only the page knows what their
widgets are called, but for those that are given on a subgraph's face or by a primitive.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import WorkflowError
from .faces import Face, Faces, primitive_value
from .saved import (
    BYPASSED,
    FROM_OUTSIDE,
    MUTED,
    PRIMITIVE,
    Level,
    SavedNode,
    first_value,
    own_values,
    slots,
    subgraphs,
    widget_of,
)

MOST_NODES = 100_000  # of a prompt: a few subgraphs inside each other would make billions
_TOO_MANY = f"more than {MOST_NODES} nodes with those inside of subgraphs; no workflow has."

# Nodes of the page alone, which hand on what they get at the same slot ...
_HAND_ON = {"Reroute", "Reroute (rgthree)", "SetNode", "easy setNode"}
# ... what a setter of the same name gets ...
_GETTERS = {"GetNode": "SetNode", "easy getNode": "easy setNode"}
# ... or nothing
_SILENT = {
    PRIMITIVE, "Note", "MarkdownNote", "Label (rgthree)", "Bookmark (rgthree)", "Node Collector (rgthree)",
    "Fast Muter (rgthree)", "Fast Bypasser (rgthree)", "Fast Groups Muter (rgthree)", "Fast Groups Bypasser (rgthree)",
    "Fast Actions Button (rgthree)", "Mute / Bypass Relay (rgthree)", "Mute / Bypass Repeater (rgthree)",
    "Random Unmuter (rgthree)",
}  # fmt: skip
_PAGE_ONLY = _HAND_ON | _GETTERS.keys() | _SILENT


@dataclass(frozen=True, slots=True)
class Opened:
    """A level as one node on the canvas shows it: `host` is that node, in `outer`; the top has neither."""

    level: Level
    path: str  # of ids, each followed by a colon
    face: Face
    host: SavedNode | None = None
    outer: Opened | None = None


@dataclass(frozen=True, slots=True)
class _Given:
    """A value that is given where a wire leads to."""

    value: Any


OWN = _Given(None)  # what a widget has itself, where nothing on the canvas gives it another value


_Source = tuple[str, int] | _Given | None  # a node and its output, a value, or nothing


def flattened(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the prompt of a workflow in the editor's format: {id: {class_type, inputs[, widgets_values]}}."""
    flat = Flat(data)
    prompt: dict[str, Any] = {}
    for place, node in flat.nodes():
        prompt[f"{place.path}{node['id']}"] = flat.prompt_node(place, node)
        if len(prompt) > MOST_NODES:
            raise WorkflowError(_TOO_MANY)
    return prompt


class Flat:
    """A workflow with its subgraphs opened."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._levels = subgraphs(data)
        self._faces = Faces(self._levels)
        self._top = Opened(Level(data), "", Face())
        self._known: dict[str, Opened] = {"": self._top}  # by path
        self._following: list[tuple[str, str, int]] = []  # the inputs on the way to a source, to see circles

    def nodes(self, place: Opened | None = None) -> Iterator[tuple[Opened, SavedNode]]:
        """Yield what the prompt has of a level and those inside. The page looks at the top's subgraph modes alone."""
        here = place or self._top
        for node in here.level.nodes.values():
            mode = node.get("mode") or 0
            if node["type"] in self._levels:
                if place is not None or mode not in (MUTED, BYPASSED):
                    yield from self.nodes(self._inside(here, node))
            elif mode not in (MUTED, BYPASSED) and node["type"] not in _PAGE_ONLY:
                yield here, node

    def prompt_node(self, place: Opened, node: SavedNode) -> dict[str, Any]:
        made: dict[str, Any] = {"class_type": node["type"], "inputs": {}}
        values = own_values(node)
        if not values and isinstance(node.get("widgets_values"), list):
            made["widgets_values"] = node["widgets_values"]
        values |= {name: value for (owner, name), value in place.face.inside.items() if owner == str(node["id"])}
        values |= self._from_primitives(place, node)
        for slot, item in enumerate(slots(node)):
            source = self._input(place, node, slot)
            if isinstance(source, _Given):
                values[item["name"]] = source.value
            elif source is not None:
                values.pop(item["name"], None)
                made["inputs"][item["name"]] = list(source)
        wrapped = {name: {"__value__": value} if isinstance(value, list) else value for name, value in values.items()}
        made["inputs"] = {**wrapped, **made["inputs"]}
        return made

    def shown(self, level: str) -> list[str]:
        """Return the inputs of a subgraph that are widgets on its face, in the order of their saved values."""
        return list(self._faces.shown(self._levels[level]))

    def given(self, level: str, node_id: str) -> dict[str, Any]:
        """Return the values that a node inside of a subgraph has on all its faces, by name of the input or widget.

        OWN stands for the value that the node itself has; what is not the same everywhere is not among them.
        """
        each = [self._given(place, place.level.nodes[node_id]) for place in self._places(level)]
        first = each[0] if each else {}
        return {key: value for key, value in first.items() if all(one.get(key, _Given) == value for one in each)}

    def _given(self, place: Opened, node: SavedNode) -> dict[str, Any]:
        found = {name: value for (owner, name), value in place.face.inside.items() if owner == str(node["id"])}
        for slot, item in enumerate(slots(node)):
            wire = place.level.wire(node, slot)
            if wire is not None and wire.origin == str(FROM_OUTSIDE):
                source = self._input(place, node, slot)
                if source is None or isinstance(source, _Given):
                    found[item["name"]] = source.value if source else OWN
        return found

    def _places(self, level: str, place: Opened | None = None, left: list[int] | None = None) -> Iterator[Opened]:
        """Yield a subgraph as each of the nodes shows it that stand for it, whatever their mode."""
        here, left = place or self._top, left or [MOST_NODES]
        for node in here.level.nodes.values():
            if node["type"] in self._levels:
                left[0] -= 1
                if left[0] < 0:
                    raise WorkflowError(_TOO_MANY)
                inner = self._inside(here, node)
                yield from [inner] if node["type"] == level else []
                yield from self._places(level, inner, left)

    def _inside(self, place: Opened, host: SavedNode) -> Opened:
        path = f"{place.path}{host['id']}:"
        if path not in self._known:
            given = {name: value for (node, name), value in place.face.inside.items() if node == str(host["id"])}
            self._known[path] = Opened(self._levels[host["type"]], path, self._faces.read(host, given), host, place)
        return self._known[path]

    def _from_primitives(self, place: Opened, node: SavedNode) -> dict[str, Any]:
        """Return the values that primitives set: the page writes them into the widgets themselves."""
        found: dict[str, Any] = {}
        for slot in range(len(slots(node))):
            wire, name = place.level.wire(node, slot), widget_of(node, slot)
            source = place.level.nodes.get(wire.origin) if wire else None
            if name is not None and source is not None and source["type"] == PRIMITIVE:
                found[name] = primitive_value(source, place.face.inside)
        return found

    def _input(self, place: Opened, node: SavedNode, slot: int | None, kind: Any = None) -> _Source:
        """Return where an input's value comes from; `kind` is the type of the input that asks, if it is another."""
        wire = None if slot is None else place.level.wire(node, slot)
        if slot is None or wire is None:
            return None
        step = (place.path, str(node["id"]), slot)
        if step in self._following:
            raise WorkflowError(f"node {place.path}{node['id']}: is wired to itself.")
        self._following.append(step)
        try:
            if wire.origin == str(FROM_OUTSIDE):
                return self._outside(place, wire.origin_slot)
            origin = place.level.nodes.get(wire.origin)
            return None if origin is None else self._output(place, origin, wire.origin_slot, kind or _type(node, slot))
        finally:
            self._following.pop()

    def _outside(self, place: Opened, slot: int) -> _Source:
        """Return what an input of the subgraph gets on the canvas: through its wire, or on its face."""
        if place.host is None or place.outer is None:
            return None
        names = [item["name"] for item in slots(place.host)]
        face = place.level.face or names
        name = face[slot] if 0 <= slot < len(face) else None
        number = names.index(name) if name in names else None
        if number is not None and place.outer.level.wire(place.host, number) is not None:
            return self._input(place.outer, place.host, number)
        return _Given(place.face.values[name]) if name in place.face.values else None

    def _output(self, place: Opened, node: SavedNode, slot: int, kind: Any) -> _Source:
        """Return what stands behind an output in a prompt."""
        mode, type_ = node.get("mode") or 0, node["type"]
        if mode == MUTED or type_ in _SILENT:
            return None
        if mode == BYPASSED:
            return self._input(place, node, _bypass(node, slot, kind))
        if type_ in self._levels:
            return self._result(self._inside(place, node), slot, kind)
        if type_ in _HAND_ON:
            return self._input(place, node, slot, kind)
        return self._setter(place, node, slot, kind) if type_ in _GETTERS else (f"{place.path}{node['id']}", slot)

    def _result(self, inner: Opened, slot: int, kind: Any) -> _Source:
        """Return what comes to an output of a subgraph."""
        wire = inner.level.result(slot)
        if wire is not None and wire.origin == str(FROM_OUTSIDE):
            return self._outside(inner, wire.origin_slot)
        origin = inner.level.nodes.get(wire.origin) if wire else None
        return None if wire is None or origin is None else self._output(inner, origin, wire.origin_slot, kind)

    def _setter(self, place: Opened, getter: SavedNode, slot: int, kind: Any) -> _Source:
        """Return what the setter of a getter's name gets: on the same level, or on the next one around it."""
        name, around = first_value(getter), place
        while name and around is not None:
            for node in around.level.nodes.values():
                if node["type"] == _GETTERS[getter["type"]] and first_value(node) == name:
                    return self._input(around, node, slot, kind)
            around = around.outer
        return None


def _type(node: SavedNode, slot: int) -> Any:
    return slots(node)[slot].get("type")


def _bypass(node: SavedNode, slot: int, kind: Any) -> int | None:
    """Return the input that a bypassed node hands on at an output: the one opposite if it fits, else the first."""
    types = [_type(node, number) for number in range(len(slots(node)))]
    if kind in ("*", ""):
        return slot if slot < len(types) else 0 if types else None
    outputs = node.get("outputs") or []
    own = outputs[slot].get("type") if slot < len(outputs) else kind
    fitting = [number for number, one in enumerate(types) if _fits(one, own) and _fits(one, kind)]
    if slot in fitting:
        return slot
    return next((number for number, one in enumerate(types) if one == kind), next(iter(fitting), None))


def _fits(one: Any, other: Any) -> bool:
    """Tell whether a wire may go between slots of two types, each one of several or any."""
    if one in ("", "*", 0, None) or other in ("", "*", 0, None):
        return True
    return not set(str(one).lower().split(",")).isdisjoint(str(other).lower().split(","))
