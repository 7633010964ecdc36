"""The wires of one level of the editor's format: a table of links, and their numbers at both ends, kept equal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .model import NodeId, WireSource

FROM_OUTSIDE, TO_OUTSIDE = -10, -20  # the ends of a subgraph's outer links
_FIELDS = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")


class Wires:
    """Links are lists in older files and objects in newer ones and in subgraphs; each stays what it is.

    What a slot lists is written at the end: a node may have thousands of takers.
    """

    def __init__(self, level: dict[str, Any], nodes: Mapping[str, dict[str, Any]]) -> None:
        self._level, self._nodes = level, nodes
        self._links: dict[str, Any] = {}
        self._from: dict[str, dict[int, dict[str, Any]]] = {}  # node -> its output -> the links that leave it
        self._to: dict[str, dict[str, Any]] = {}
        self._ends = _Ends()
        self._inputs: dict[str, dict[str, list[dict[str, Any]]]] = {}  # node -> link -> its inputs that name the link
        for link in level.get("links") or []:
            if link:
                self._note(link)
        self._as_objects = "state" in level or isinstance(next(iter(self._links.values()), None), dict)

    def finish(self) -> None:
        self._ends.write()
        if self._links or "links" in self._level:
            self._level["links"] = list(self._links.values())

    def _note(self, link: Any) -> None:
        number = str(get(link, "id"))
        self._links[number] = link
        leaving = self._from.setdefault(str(get(link, "origin_id")), {})
        leaving.setdefault(get(link, "origin_slot"), {})[number] = link
        self._to.setdefault(str(get(link, "target_id")), {})[number] = link

    def _forget(self, link: Any) -> None:
        number = str(get(link, "id"))
        del self._links[number]
        self._from[str(get(link, "origin_id"))][get(link, "origin_slot")].pop(number, None)
        self._to[str(get(link, "target_id"))].pop(number, None)

    def source(self, link_id: Any) -> WireSource | None:
        """Return where a link comes from, or None for one that is not there."""
        link = None if link_id is None else self._links.get(str(link_id))
        return None if link is None else WireSource(get(link, "origin_id"), get(link, "origin_slot"), get(link, "id"))

    def leaving(self, node: NodeId) -> list[tuple[Any, int]]:
        """Return (link, output) for all that leaves a node."""
        return [(link, slot) for slot, links in self._from.get(str(node), {}).items() for link in links.values()]

    def leaving_at(self, node: NodeId, slot: int) -> list[Any]:
        return list(self._from.get(str(node), {}).get(slot, {}).values())

    def takers(self, node: NodeId, slot: int) -> int:
        return len(self._from.get(str(node), {}).get(slot, ()))

    def entering(self, node: NodeId) -> list[Any]:
        return list(self._to.get(str(node), {}).values())

    def input_name(self, link: Any) -> str:
        """Return the name of the input that a link leads to, "" if none says so."""
        inputs = self._inputs_of(get(link, "target_id")).get(str(get(link, "id")), ())
        return next((item["name"] for item in inputs), "")

    def replaced(self, node: NodeId) -> None:
        """Take note that a node has other inputs now."""
        self._inputs.pop(str(node), None)

    def set_origin(self, link: Any, source: WireSource) -> None:
        self._leave(link)
        self._forget(link)
        put(link, "origin_id", source.node)
        put(link, "origin_slot", source.slot)
        self._note(link)
        self._note_origin(link)

    def attach(self, source: WireSource, target: NodeId, slot: int, kind: str, new_id: int) -> int | None:
        """Wire `source` to an input by its own link if that is still there; return the id of a new one."""
        link = None if source.link is None else self._links.get(str(source.link))
        if link is not None and source.same(get(link, "origin_id"), get(link, "origin_slot")):
            self._forget(link)
            put(link, "target_id", target)
            put(link, "target_slot", slot)
            self._note(link)
            self._set_input(target, slot, get(link, "id"))
            return None
        fields = dict(zip(_FIELDS, (new_id, source.node, source.slot, target, slot, kind), strict=True))
        link = fields if self._as_objects else list(fields.values())
        self._note(link)
        self._note_origin(link)
        self._set_input(target, slot, new_id)
        return new_id

    def drop(self, link: Any) -> None:
        """Remove a link at both ends and from the table."""
        self._leave(link)
        target, slot, link_id = (get(link, name) for name in ("target_id", "target_slot", "id"))
        if target == TO_OUTSIDE:
            self._ends.discard(_slot(self._level.get("outputs"), slot), "linkIds", link_id)
        for item in self._inputs_of(target).pop(str(link_id), ()):
            item["link"] = None
        self._forget(link)

    def _leave(self, link: Any) -> None:
        self._ends.discard(*self._origin(link), get(link, "id"))

    def _note_origin(self, link: Any) -> None:
        self._ends.add(*self._origin(link), get(link, "id"))

    def _origin(self, link: Any) -> tuple[dict[str, Any] | None, str]:
        """Return the slot that a link leaves, and what its list of links is called."""
        node, slot = get(link, "origin_id"), get(link, "origin_slot")
        if node == FROM_OUTSIDE:
            return _slot(self._level.get("inputs"), slot), "linkIds"
        return _slot(self._nodes.get(str(node), {}).get("outputs"), slot), "links"

    def _inputs_of(self, node: NodeId) -> dict[str, list[dict[str, Any]]]:
        if str(node) not in self._inputs:
            found = self._inputs[str(node)] = dict[str, list[dict[str, Any]]]()
            for item in self._nodes.get(str(node), {}).get("inputs") or []:
                if item.get("link") is not None:
                    found.setdefault(str(item["link"]), []).append(item)
        return self._inputs[str(node)]

    def _set_input(self, node: NodeId, slot: int, link_id: NodeId) -> None:
        self._nodes[str(node)]["inputs"][slot]["link"] = link_id
        self._inputs.pop(str(node), None)


class _Ends:
    """What slots list: the ids of the links at an output, or at the subgraph's own inputs and outputs."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, str], tuple[dict[str, Any], dict[Any, Any]]] = {}

    def discard(self, end: dict[str, Any] | None, name: str, link_id: NodeId) -> None:
        if end is not None:
            self._ids(end, name).pop(link_id, None)

    def add(self, end: dict[str, Any] | None, name: str, link_id: NodeId) -> None:
        if end is not None:
            self._ids(end, name).setdefault(link_id, link_id)

    def write(self) -> None:
        for (_, name), (end, ids) in self._known.items():
            if ids or end.get(name):
                end[name] = list(ids.values())

    def _ids(self, end: dict[str, Any], name: str) -> dict[Any, Any]:
        if (id(end), name) not in self._known:  # the slot is kept, so that no other gets its number
            ids = {one if isinstance(one, (int, str)) else ("", number): one
                   for number, one in enumerate(end.get(name) or [])}  # fmt: skip
            self._known[id(end), name] = end, ids
        return self._known[id(end), name][1]


def get(link: Any, name: str) -> Any:
    return link[name] if isinstance(link, dict) else link[_FIELDS.index(name)]


def put(link: Any, name: str, value: Any) -> None:
    link[name if isinstance(link, dict) else _FIELDS.index(name)] = value


def links_of(level: Mapping[str, Any]) -> Iterable[Any]:
    """Return the links of a level; older files have holes in the list, where one was."""
    return (link for link in level.get("links") or [] if link)


def link_ids(level: Mapping[str, Any]) -> Iterable[Any]:
    return (get(link, "id") for link in links_of(level))


def _slot(slots: Any, index: int) -> dict[str, Any] | None:
    return slots[index] if isinstance(slots, list) and 0 <= index < len(slots) else None  # pyright: ignore
