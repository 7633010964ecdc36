"""The wires of one level of the editor's format: a table of links, and their numbers at both ends, kept equal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .model import NodeId, WireSource

FROM_OUTSIDE, TO_OUTSIDE = -10, -20  # the ends of a subgraph's outer links
_FIELDS = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")


class Wires:
    """Links are lists in older files and objects in newer ones and in subgraphs; each stays what it is."""

    def __init__(self, level: dict[str, Any], nodes: Mapping[str, dict[str, Any]]) -> None:
        self._level, self._nodes = level, nodes
        self._links: dict[str, Any] = {}
        self._from: dict[str, dict[str, Any]] = {}  # node -> the links that leave it, by number
        self._to: dict[str, dict[str, Any]] = {}
        for link in level.get("links") or []:
            if link:
                self._note(link)

    def finish(self) -> None:
        if self._links or "links" in self._level:
            self._level["links"] = list(self._links.values())

    def _note(self, link: Any) -> None:
        number = str(get(link, "id"))
        self._links[number] = link
        self._from.setdefault(str(get(link, "origin_id")), {})[number] = link
        self._to.setdefault(str(get(link, "target_id")), {})[number] = link

    def _forget(self, link: Any) -> None:
        number = str(get(link, "id"))
        del self._links[number]
        self._from[str(get(link, "origin_id"))].pop(number, None)
        self._to[str(get(link, "target_id"))].pop(number, None)

    def source(self, link_id: Any) -> WireSource | None:
        """Return where a link comes from, or None for one that is not there."""
        link = None if link_id is None else self._links.get(str(link_id))
        return None if link is None else WireSource(get(link, "origin_id"), get(link, "origin_slot"), get(link, "id"))

    def leaving(self, node: NodeId) -> list[tuple[Any, int]]:
        """Return (link, output) for all that leaves a node."""
        return [(link, get(link, "origin_slot")) for link in self._from.get(str(node), {}).values()]

    def entering(self, node: NodeId) -> list[Any]:
        return list(self._to.get(str(node), {}).values())

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
            self._input(target, slot)["link"] = get(link, "id")
            return None
        link = self._new(dict(zip(_FIELDS, (new_id, source.node, source.slot, target, slot, kind), strict=True)))
        self._note(link)
        self._note_origin(link)
        self._input(target, slot)["link"] = new_id
        return new_id

    def _new(self, fields: dict[str, Any]) -> Any:
        as_objects = "state" in self._level or isinstance(next(iter(self._links.values()), None), dict)
        return fields if as_objects else list(fields.values())

    def drop(self, link: Any) -> None:
        """Remove a link at both ends and from the table."""
        self._leave(link)
        target, slot, link_id = (get(link, name) for name in ("target_id", "target_slot", "id"))
        if target == TO_OUTSIDE:
            _discard(_slot(self._level.get("outputs"), slot), "linkIds", link_id)
        for item in self._nodes.get(str(target), {}).get("inputs") or []:
            if item.get("link") == link_id:
                item["link"] = None
        self._forget(link)

    def _leave(self, link: Any) -> None:
        end, name = self._origin(link)
        _discard(end, name, get(link, "id"))

    def _note_origin(self, link: Any) -> None:
        end, name = self._origin(link)
        if end is not None and get(link, "id") not in (end.get(name) or []):
            end[name] = [*(end.get(name) or []), get(link, "id")]

    def _origin(self, link: Any) -> tuple[dict[str, Any] | None, str]:
        """Return the slot that a link leaves, and what its list of links is called."""
        node, slot = get(link, "origin_id"), get(link, "origin_slot")
        if node == FROM_OUTSIDE:
            return _slot(self._level.get("inputs"), slot), "linkIds"
        return _slot(self._nodes.get(str(node), {}).get("outputs"), slot), "links"

    def _input(self, node: NodeId, slot: int) -> dict[str, Any]:
        return self._nodes[str(node)]["inputs"][slot]


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


def _discard(end: dict[str, Any] | None, name: str, link_id: Any) -> None:
    if end is not None and link_id in (end.get(name) or []):
        end[name] = [other for other in end[name] if other != link_id]
