"""The values on a subgraph's face: what one node on the canvas gives to the widgets inside, as the page reads it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .saved import PRIMITIVE, Level, SavedNode, first_value, own_values, slots, widget_of

# What older pages put before the name of a widget further inside; it begins where its spaces or its digits do
_PREFIX = re.compile(r"(?:(?<!\s)\s+|(?<![\s\d]))(?:\d+\s*:\s*)+")


@dataclass(slots=True)
class Face:
    """The values of one node that stands for a subgraph."""

    values: dict[str, Any] = field(default_factory=dict[str, Any])  # of its inputs that are widgets, by name
    inside: dict[tuple[str, str], Any] = field(default_factory=dict[tuple[str, str], Any])  # (node, widget) -> value


class Faces:
    """Reads faces; `levels` are the insides of all subgraphs, by type."""

    def __init__(self, levels: Mapping[str, Level]) -> None:
        self._levels = levels

    def read(self, host: SavedNode, given: Mapping[str, Any]) -> Face:
        """Return the face of `host`; `given` are values that the level around it gives to its inputs by name."""
        level = self._levels[host["type"]]
        shown = self.shown(level)
        face = Face({name: value for name, (known, value) in self._defaults(level, shown).items() if known})
        values = host.get("widgets_values")
        listed: list[Any] = values if isinstance(values, list) else []
        face.values |= {name: value for name, value in zip(shown, listed, strict=False) if value is not None}
        face.values |= _set_aside(host, shown)
        for entry, value in zip(_proxies(host), listed, strict=False):
            if value is not None:
                self._place(face, level, shown, entry, value)
        face.values |= {name: value for name, value in given.items() if name in level.face}
        return face

    def shown(self, level: Level) -> dict[str, tuple[SavedNode, int]]:
        """Return the inputs that are widgets, by name, each with the first node inside that it is wired to."""
        found: dict[str, tuple[SavedNode, int]] = {}
        for number, name in enumerate(level.face):
            targets = (target for target in level.entering(number) if self.is_widget(*target))
            if (first := next(targets, None)) is not None:
                found[name] = first
        return found

    def is_widget(self, node: SavedNode, slot: int) -> bool:
        inner = self._levels.get(node["type"])
        if inner is None:
            return widget_of(node, slot) is not None
        return slots(node)[slot]["name"] in self.shown(inner)

    def _defaults(self, level: Level, shown: Mapping[str, tuple[SavedNode, int]]) -> dict[str, tuple[bool, Any]]:
        """Return what each widget has where the host says nothing: the value of the first node inside, if known."""
        found: dict[str, tuple[bool, Any]] = {}
        for name, (node, slot) in shown.items():
            is_subgraph = node["type"] in self._levels
            values = self.read(node, {}).values if is_subgraph else own_values(node)
            key = slots(node)[slot]["name"] if is_subgraph else widget_of(node, slot)
            found[name] = key in values, values.get(str(key))
        return found

    def _place(
        self, face: Face, level: Level, shown: Mapping[str, tuple[SavedNode, int]], entry: tuple[str, str], value: Any
    ) -> None:
        """Put a value of an older page's list of (node inside, widget) where it belongs."""
        node_id, widget = entry
        names = (widget, _PREFIX.sub("", widget))
        for name, (node, slot) in shown.items():
            key = slots(node)[slot]["name"] if node["type"] in self._levels else widget_of(node, slot)
            if str(node["id"]) == node_id and key in names:
                face.values[name] = value
                return
        if node_id == "-1" and widget in level.face:
            face.values[widget] = value
        elif node_id in level.nodes and not widget.startswith("$$"):  # a preview, which has no value
            is_primitive = level.nodes[node_id]["type"] == PRIMITIVE
            face.inside[node_id, "" if is_primitive else names[-1]] = value


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


def primitive_value(node: SavedNode, inside: Mapping[tuple[str, str], Any]) -> Any:
    return inside.get((str(node["id"]), ""), first_value(node))
