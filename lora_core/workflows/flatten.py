"""A saved workflow as the page queues it: a prompt, in which subgraphs are opened and the page's own nodes resolved.

What becomes of each node and wire is what the page's `graphToPrompt` makes of them; `python -m tests.flattening`
compares the two on real workflows. Values of other packs' nodes stay a list, since only the page knows what their
widgets are called, but for those that are given on a subgraph's face or by a primitive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

from ..errors import WorkflowError
from .bounds import MOST_STEPS, check_opened
from .bypassing import bypass, type_of
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

# Nodes of the page alone, which hand on what they get at the same slot ...
_HAND_ON = {"Reroute", "Reroute (rgthree)", "SetNode", "easy setNode"}
# ... what a setter of the same name gets ...
_GETTERS = {"GetNode": "SetNode", "easy getNode": "easy setNode"}
_SETTERS = frozenset(_GETTERS.values())
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
    inputs: Mapping[str, int] = field(default_factory=dict[str, int])  # of the host: the first slot of each name


@dataclass(frozen=True, slots=True)
class _Given:
    """A value that is given where a wire leads to."""

    value: Any


OWN = _Given(None)  # what a widget has itself, where nothing on the canvas gives it another value


_Source = tuple[str, int] | _Given | None  # a node and its output, a value, or nothing
_Next = _Source | Callable[[], Any]  # or where to look next: wires may be followed over thousands of nodes


def flattened(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the prompt of a workflow in the editor's format: {id: {class_type, inputs[, widgets_values]}}."""
    flat = Flat(data)
    return {f"{place.path}{node['id']}": flat.prompt_node(place, node) for place, node in flat.nodes()}


class Flat:
    """A workflow with its subgraphs opened. Raises WorkflowError for one that would be too large so."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._levels = subgraphs(data)
        self._top = Opened(Level(data), "", Face())
        check_opened(self._top.level, self._levels)
        self._faces = Faces(self._levels)
        self._known: dict[str, Opened] = {"": self._top}  # by path
        self._sources: dict[tuple[Any, ...], _Source] = {}  # of inputs on the way to another
        self._setters: dict[int, dict[tuple[str, Any], SavedNode]] = {}  # of a level, by type and name
        self._steps = 0

    def nodes(self) -> Iterator[tuple[Opened, SavedNode]]:
        """Yield what the prompt has of all levels. The page looks at the top's subgraph modes alone."""
        for here, node in self._walk(lambda here, mode: here is not self._top or mode not in (MUTED, BYPASSED)):
            is_used = (node.get("mode") or 0) not in (MUTED, BYPASSED)
            if is_used and node["type"] not in self._levels and node["type"] not in _PAGE_ONLY:
                yield here, node

    def _walk(self, is_opened: Callable[[Opened, Any], bool]) -> Iterator[tuple[Opened, SavedNode]]:
        """Yield every node, what is inside of a subgraph after the node that stands for it."""
        waiting = [(self._top, iter(self._top.level.nodes.values()))]
        while waiting:
            here, rest = waiting[-1]
            node = next(rest, None)
            if node is None:
                waiting.pop()
                continue
            yield here, node
            if node["type"] in self._levels and is_opened(here, node.get("mode") or 0):
                inner = self._inside(here, node)
                waiting.append((inner, iter(inner.level.nodes.values())))

    def prompt_node(self, place: Opened, node: SavedNode) -> dict[str, Any]:
        made: dict[str, Any] = {"class_type": node["type"], "inputs": {}}
        values = own_values(node)
        if not values and isinstance(node.get("widgets_values"), list):
            made["widgets_values"] = node["widgets_values"]
        values |= place.face.of_node(node)
        values |= self._from_primitives(place, node)
        for slot, item in enumerate(slots(node)):
            source = self._source(place, node, slot)
            if isinstance(source, _Given):
                values[item["name"]] = source.value
            elif source is not None:
                values.pop(item["name"], None)
                made["inputs"][item["name"]] = list(source)
        wrapped = {name: {"__value__": value} if isinstance(value, list) else value for name, value in values.items()}
        made["inputs"] = {**wrapped, **made["inputs"]}
        return made

    def inner_first(self) -> list[str]:
        """Return the ids of all subgraphs, each after those inside of it."""
        return list(self._levels)

    def shown(self, level: str) -> list[str]:
        """Return the inputs of a subgraph that are widgets on its face, in the order of their saved values."""
        return list(self._faces.shown(level))

    def given(self, level: str, node_id: str) -> dict[str, Any]:
        """Return the values that a node inside of a subgraph has on all its faces, by name of the input or widget.

        OWN stands for the value that the node itself has; what is not the same everywhere is not among them.
        """
        each = [self._given(place, place.level.nodes[node_id]) for place in self._places.get(level, ())]
        first = each[0] if each else {}
        return {key: value for key, value in first.items() if all(one.get(key, _Given) == value for one in each)}

    def _given(self, place: Opened, node: SavedNode) -> dict[str, Any]:
        found = dict(place.face.of_node(node))
        for slot, item in enumerate(slots(node)):
            wire = place.level.wire(node, slot)
            if wire is not None and wire.origin == str(FROM_OUTSIDE):
                source = self._source(place, node, slot)
                if source is None or isinstance(source, _Given):
                    found[item["name"]] = source.value if source else OWN
        return found

    @cached_property
    def _places(self) -> dict[str, list[Opened]]:
        """Every subgraph as each of the nodes shows it that stand for it, whatever their mode."""
        found: dict[str, list[Opened]] = {}
        for here, node in self._walk(lambda here, mode: True):
            if node["type"] in self._levels:
                found.setdefault(node["type"], []).append(self._inside(here, node))
        return found

    def _inside(self, place: Opened, host: SavedNode) -> Opened:
        path = f"{place.path}{host['id']}:"
        if path not in self._known:
            face = self._faces.read(host, place.face.of_node(host))
            inputs: dict[str, int] = {}
            for number, item in enumerate(slots(host)):
                inputs.setdefault(item["name"], number)
            self._known[path] = Opened(self._levels[host["type"]], path, face, host, place, inputs)
        return self._known[path]

    def _from_primitives(self, place: Opened, node: SavedNode) -> dict[str, Any]:
        """Return the values that primitives set: the page writes them into the widgets themselves."""
        found: dict[str, Any] = {}
        for slot in range(len(slots(node))):
            wire, name = place.level.wire(node, slot), widget_of(node, slot)
            source = place.level.nodes.get(wire.origin) if wire else None
            if name is not None and source is not None and source["type"] == PRIMITIVE:
                found[name] = primitive_value(source, place.face)
        return found

    def _source(self, place: Opened, node: SavedNode, slot: int) -> _Source:
        """Return where an input's value comes from."""
        on_the_way: dict[tuple[str, str, int], tuple[Any, ...]] = {}
        step: Any = partial(self._input, on_the_way, place, node, slot)
        while callable(step):
            self._count(1)
            step = step()
        for key in list(on_the_way.values())[1:]:
            self._sources[key] = step
        return step

    def _count(self, steps: int) -> None:
        self._steps += steps
        if self._steps > MOST_STEPS:
            raise WorkflowError("its wires lead through more nodes than those of any workflow.")

    def _input(
        self,
        seen: dict[tuple[str, str, int], tuple[Any, ...]],
        place: Opened,
        node: SavedNode,
        slot: int | None,
        kind: Any = None,
    ) -> _Next:
        """Go to what is wired to an input; `kind` is the type of the input that asks, if it is another."""
        wire = None if slot is None else place.level.wire(node, slot)
        if slot is None or wire is None:
            return None
        step = (place.path, str(node["id"]), slot)
        if step in seen:
            raise WorkflowError(f"node {place.path}{node['id']}: is wired to itself.")
        seen[step] = key = (*step, kind if isinstance(kind, str) else id(kind))
        if key in self._sources:
            return self._sources[key]
        if wire.origin == str(FROM_OUTSIDE):
            return partial(self._outside, seen, place, wire.origin_slot)
        origin = place.level.nodes.get(wire.origin)
        kind = kind or type_of(node, slot)
        return None if origin is None else partial(self._output, seen, place, origin, wire.origin_slot, kind)

    def _outside(self, seen: Any, place: Opened, slot: int) -> _Next:
        """Go to what an input of the subgraph gets on the canvas: through its wire, or on its face."""
        if place.host is None or place.outer is None:
            return None
        names = place.level.names or [item["name"] for item in slots(place.host)]
        name = names[slot] if 0 <= slot < len(names) else None
        number = None if name is None else place.inputs.get(name)
        if number is not None and place.outer.level.wire(place.host, number) is not None:
            return partial(self._input, seen, place.outer, place.host, number)
        return _Given(place.face.values[name]) if name in place.face.values else None

    def _output(self, seen: Any, place: Opened, node: SavedNode, slot: int, kind: Any) -> _Next:
        """Go to what stands behind an output in a prompt."""
        mode, type_ = node.get("mode") or 0, node["type"]
        if mode == MUTED or type_ in _SILENT:
            return None
        if mode == BYPASSED:
            self._count(len(slots(node)))
            return partial(self._input, seen, place, node, bypass(node, slot, kind))
        if type_ in self._levels:
            return self._result(seen, self._inside(place, node), slot, kind)
        if type_ in _HAND_ON:
            return partial(self._input, seen, place, node, slot, kind)
        if type_ in _GETTERS:
            return self._setter(seen, place, node, slot, kind)
        return f"{place.path}{node['id']}", slot

    def _result(self, seen: Any, inner: Opened, slot: int, kind: Any) -> _Next:
        """Go to what comes to an output of a subgraph."""
        wire = inner.level.result(slot)
        if wire is not None and wire.origin == str(FROM_OUTSIDE):
            return partial(self._outside, seen, inner, wire.origin_slot)
        origin = inner.level.nodes.get(wire.origin) if wire else None
        return (
            None
            if wire is None or origin is None
            else partial(self._output, seen, inner, origin, wire.origin_slot, kind)
        )

    def _setter(self, seen: Any, place: Opened, getter: SavedNode, slot: int, kind: Any) -> _Next:
        """Go to the setter of a getter's name: on the same level, or on the next one around it."""
        name, around = first_value(getter), place
        while isinstance(name, (str, int, float)) and name and around is not None:
            self._count(1)
            node = self._setters_of(around.level).get((_GETTERS[getter["type"]], name))
            if node is not None:
                return partial(self._input, seen, around, node, slot, kind)
            around = around.outer
        return None

    def _setters_of(self, level: Level) -> dict[tuple[str, Any], SavedNode]:
        """Return the first setter of each type and name."""
        if id(level) not in self._setters:
            found = self._setters[id(level)] = dict[tuple[str, Any], SavedNode]()
            for node in level.nodes.values():
                name = first_value(node) if node["type"] in _SETTERS else None
                if isinstance(name, (str, int, float)):
                    found.setdefault((node["type"], name), node)
        return self._setters[id(level)]
