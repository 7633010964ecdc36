"""The values on a subgraph's face: what one node on the canvas gives to the widgets inside, as the page reads it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .saved import PRIMITIVE, Level, SavedNode, first_value, own_values, slots, widget_of

# What older pages put before the name of a widget further inside; it begins where its spaces or its digits do
_PREFIX = re.compile(r"(?:(?<!\s)\s+|(?<![\s\d]))(?:\d+\s*:\s*)+")


Widget = tuple[SavedNode, int]  # the first node inside that an input of the face is wired to, and its slot


@dataclass(slots=True)
class Face:
    """The values of one node that stands for a subgraph."""

    values: dict[str, Any] = field(default_factory=dict[str, Any])  # of its inputs that are widgets, by name
    inside: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])  # node -> widget -> value

    def of_node(self, node: SavedNode) -> dict[str, Any]:
        """Return the values that a node inside has on the face, by widget."""
        return self.inside.get(str(node["id"]), {})


class Faces:
    """Reads faces; `levels` are the insides of all subgraphs, by type, innermost first: each is read once."""

    def __init__(self, levels: Mapping[str, Level]) -> None:
        self._levels = levels
        self._shown: dict[str, dict[str, Widget]] = {}
        self._places: dict[str, dict[tuple[str, str], tuple[int, str]]] = {}  # (node, widget inside) -> shown name
        self._defaults: dict[str, dict[str, Any]] = {}
        for key, level in levels.items():
            self._shown[key] = self._widgets(level)
            self._places[key] = self._named_inside(self._shown[key])
            self._defaults[key] = self._values_inside(self._shown[key])

    def read(self, host: SavedNode, given: Mapping[str, Any]) -> Face:
        """Return the face of `host`; `given` are values that the level around it gives to its inputs by name."""
        level, shown = self._levels[host["type"]], self._shown[host["type"]]
        face = Face(dict(self._defaults[host["type"]]))
        values = host.get("widgets_values")
        listed: list[Any] = values if isinstance(values, list) else []
        face.values |= {name: value for name, value in zip(shown, listed, strict=False) if value is not None}
        face.values |= _set_aside(host, shown)
        for entry, value in zip(_proxies(host), listed, strict=False):
            if value is not None:
                self._place(face, host["type"], entry, value)
        face.values |= {name: value for name, value in given.items() if name in level.face}
        return face

    def shown(self, level: str) -> dict[str, Widget]:
        """Return the inputs of a subgraph that are widgets, by name."""
        return self._shown[level]

    def _widgets(self, level: Level) -> dict[str, Widget]:
        found: dict[str, Widget] = {}
        for number, name in enumerate(level.names):
            targets = (target for target in level.entering(number) if self._is_widget(*target))
            if (first := next(targets, None)) is not None:
                found[name] = first
        return found

    def _is_widget(self, node: SavedNode, slot: int) -> bool:
        if node["type"] in self._levels:
            return slots(node)[slot]["name"] in self._shown[node["type"]]
        return widget_of(node, slot) is not None

    def _key(self, node: SavedNode, slot: int) -> str:
        """Return what the node inside calls the value that an input of the face shows."""
        return str(slots(node)[slot]["name"] if node["type"] in self._levels else widget_of(node, slot))

    def _named_inside(self, shown: Mapping[str, Widget]) -> dict[tuple[str, str], tuple[int, str]]:
        found: dict[tuple[str, str], tuple[int, str]] = {}
        for number, (name, (node, slot)) in enumerate(shown.items()):
            found.setdefault((str(node["id"]), self._key(node, slot)), (number, name))
        return found

    def _values_inside(self, shown: Mapping[str, Widget]) -> dict[str, Any]:
        """Return what each widget has where the host says nothing: the value of the first node inside, if known."""
        inside: dict[str, Mapping[str, Any]] = {}
        found: dict[str, Any] = {}
        for name, (node, slot) in shown.items():
            node_id, key = str(node["id"]), self._key(node, slot)
            if node_id not in inside:
                inside[node_id] = self.read(node, {}).values if node["type"] in self._levels else own_values(node)
            if key in inside[node_id]:
                found[name] = inside[node_id][key]
        return found

    def _place(self, face: Face, level_id: str, entry: tuple[str, str], value: Any) -> None:
        """Put a value of an older page's list of (node inside, widget) where it belongs."""
        node_id, widget = entry
        level, names = self._levels[level_id], (widget, _PREFIX.sub("", widget))
        places = [self._places[level_id].get((node_id, name)) for name in names]
        if known := [place for place in places if place is not None]:
            face.values[min(known)[1]] = value
        elif node_id == "-1" and widget in level.face:
            face.values[widget] = value
        elif node_id in level.nodes and not widget.startswith("$$"):  # a preview, which has no value
            is_primitive = level.nodes[node_id]["type"] == PRIMITIVE
            face.inside.setdefault(node_id, {})["" if is_primitive else names[-1]] = value


def _proxies(host: SavedNode) -> Iterator[tuple[str, str]]:
    """Yield an older page's list of what is shown: (node inside, its widget)."""
    listed = (host.get("properties") or {}).get("proxyWidgets")
    for item in listed if isinstance(listed, list) else ():
        known = isinstance(item, list) and len(item) > 1
        yield (str(item[0]), str(item[1])) if known else ("", "")


def _set_aside(host: SavedNode, shown: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that the page could not place when it took over an older list, and kept by name."""
    kept = (host.get("properties") or {}).get("proxyWidgetErrorQuarantine")
    found: dict[str, Any] = {}
    for item in reversed(kept if isinstance(kept, list) else []):
        entry = item.get("originalEntry") if isinstance(item, Mapping) else None
        if isinstance(entry, list) and entry[:1] == ["-1"] and str(entry[-1]) in shown:
            found |= {} if item.get("hostValue") is None else {str(entry[-1]): item["hostValue"]}
    return found


def primitive_value(node: SavedNode, face: Face) -> Any:
    return face.of_node(node).get("", first_value(node))
