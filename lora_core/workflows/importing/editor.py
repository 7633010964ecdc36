"""One level of the editor's format as a graph: the top of a workflow, or a subgraph's definition."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ...options import STACK
from ..flatten import OWN
from .layout import Groups, Room, place_beside
from .model import FoundNode, NodeId, Values, WireSource
from .shapes import SHAPES
from .wires import Wires, get, link_ids

_KEPT = ("id", "pos", "flags", "order", "mode", "color", "bgcolor", "showAdvanced", "locked")


@dataclass(slots=True)
class Numbers:
    """The highest numbers in use: nodes and links of all levels share them."""

    node: int = 0
    link: int = 0

    def see(self, level: Mapping[str, Any], aside: Iterable[Any] = ()) -> None:
        state: Mapping[str, Any] = level.get("state") or {}
        nodes = [node.get("id") for node in (*level["nodes"], *aside) if isinstance(node, dict)]
        nodes += [level.get("last_node_id"), state.get("lastNodeId")]
        links = [*link_ids(level), level.get("last_link_id"), state.get("lastLinkId")]
        self.node = max([self.node, *(number for number in nodes if isinstance(number, int))])
        self.link = max([self.link, *(number for number in links if isinstance(number, int))])

    def tell(self, level: dict[str, Any]) -> None:
        """Write them where the level keeps them."""
        for holder, node, link in (
            (level, "last_node_id", "last_link_id"),
            (level.get("state"), "lastNodeId", "lastLinkId"),
        ):
            if isinstance(holder, dict) and node in holder:
                holder[node], holder[link] = self.node, self.link


Given = Callable[[str], Mapping[str, Any]]  # the values that faces give to a node of the level, by its id


class EditorGraph:
    """Changes the level that it is given."""

    has_modes = True

    def __init__(self, level: dict[str, Any], numbers: Numbers, given: Given = lambda node: {}) -> None:
        self._level, self._numbers, self._given = level, numbers, given
        self._nodes: dict[str, dict[str, Any]] = {str(node["id"]): node for node in level["nodes"]}
        self._faces: dict[str, Mapping[str, Any]] = {}  # of nodes that no conversion has made
        self._as_read = set(self._nodes)
        self._wires = Wires(level, self._nodes)
        self._room = Room(self._nodes.values())
        self._groups = Groups(level)

    def nodes(self) -> list[FoundNode]:
        return [self._found(node) for node in self._nodes.values()]

    def node(self, node: NodeId) -> FoundNode:
        return self._found(self._nodes[str(node)])

    def finish(self) -> None:
        self._level["nodes"] = list(self._nodes.values())
        self._wires.finish()

    def _found(self, node: Mapping[str, Any]) -> FoundNode:
        wired = {item["name"]: self._wires.source(item.get("link")) for item in node.get("inputs") or []}
        held = node.get("widgets_values")
        given = self._face(str(node["id"]))
        named = held if isinstance(held, dict) else {}
        named |= {name: value for name, value in given.items() if value is not OWN}
        real = {name: source for name, source in wired.items() if source and name not in given}
        values = Values(held if isinstance(held, list) else (), named)
        return FoundNode(node["id"], node["type"], values, real, node.get("mode") or 0, tuple(wired))

    def _face(self, node_id: str) -> Mapping[str, Any]:
        """Return what a node that no conversion has made gets on the faces around it."""
        if node_id not in self._as_read:
            return {}
        if node_id not in self._faces:
            self._faces[node_id] = self._given(node_id)
        return self._faces[node_id]

    def consumers(self, node: NodeId, slot: int) -> list[tuple[NodeId, str]]:
        leaving = self._wires.leaving_at(node, slot)
        return [(get(link, "target_id"), self._wires.input_name(link)) for link in leaving]

    def takers(self, node: NodeId, slot: int) -> int:
        return self._wires.takers(node, slot)

    def add(
        self, node_type: str, values: Mapping[str, Any], sources: Mapping[str, WireSource], near: NodeId, *, take: bool
    ) -> NodeId:
        like = self._nodes[str(near)]
        self._numbers.node += 1
        node = self._made(node_type, values, {**like, "id": self._numbers.node})
        if not node_type.startswith("LoraCore"):
            node.pop("title", None)  # one of a chain; the last keeps it
        if not take:
            node["pos"] = place_beside(like, node["size"], self._room)
            self._groups.fit(like, node)
        self._nodes[str(node["id"])] = node
        self._room.put(node)
        self._attach(node, sources)
        return node["id"]

    def become(
        self,
        node: NodeId,
        node_type: str,
        values: Mapping[str, Any],
        sources: Mapping[str, WireSource],
        outputs: Mapping[int, WireSource | None],
    ) -> None:
        old, leaving, entering = self._nodes[str(node)], self._wires.leaving(node), self._wires.entering(node)
        self._nodes[str(node)] = self._made(node_type, values, old)
        self._as_read.discard(str(node))
        self._wires.replaced(node)
        self._room.take(old)
        self._room.put(self._nodes[str(node)])
        self._attach(self._nodes[str(node)], sources)
        attached = {item["link"] for item in self._nodes[str(node)]["inputs"]}
        for link in entering:
            if str(get(link, "target_id")) == str(node) and get(link, "id") not in attached:
                self._wires.drop(link)
        for link, slot in leaving:
            self._wire(link, outputs.get(slot))

    def _made(self, node_type: str, values: Mapping[str, Any], like: Mapping[str, Any]) -> dict[str, Any]:
        """Return a node of a type that stands where `like` stands, and looks like it."""
        shape = SHAPES[node_type]
        widgets = {**shape.widgets, **values}
        inputs = [
            {"name": name, "type": kind, "link": None, **({"shape": 7} if optional else {})}
            for name, kind, optional in shape.sockets
        ]
        title = like.get("title")
        return {
            **{key: like[key] for key in _KEPT if key in like},
            **({"title": title} if title and title != like["type"] else {}),
            "type": node_type,
            "size": _size(node_type, widgets, like),
            "inputs": inputs,
            "outputs": [{"name": name, "type": kind, "links": []} for name, kind in shape.outputs],
            "properties": {"Node name for S&R": node_type, **_origin(node_type, like), **_closed(node_type, like)},
            "widgets_values": shape.listed(widgets),
        }

    def _attach(self, node: dict[str, Any], sources: Mapping[str, WireSource]) -> None:
        shape = SHAPES[node["type"]]
        for name, source in sources.items():
            slot = shape.socket(name)
            new = self._wires.attach(source, node["id"], slot, shape.sockets[slot][1], self._numbers.link + 1)
            self._numbers.link += new is not None

    def move(self, old: tuple[NodeId, int], new: WireSource | None) -> None:
        for link in self._wires.leaving_at(*old):
            self._wire(link, new)

    def _wire(self, link: Any, source: WireSource | None) -> None:
        if source is None:
            self._wires.drop(link)
        else:
            self._wires.set_origin(link, source)

    def remove(self, node: NodeId) -> None:
        for link in [*self._wires.entering(node), *(link for link, _ in self._wires.leaving(node))]:
            self._wires.drop(link)
        self._room.take(self._nodes.pop(str(node)))

    def set_mode(self, node: NodeId, mode: int) -> None:
        self._nodes[str(node)]["mode"] = mode


def _size(node_type: str, widgets: Mapping[str, Any], like: Mapping[str, Any]) -> list[float]:
    """Return width and height in the editor's units; the page makes room for more if a node needs it."""
    if node_type == STACK.id:
        return [460, 120 + 40 * len(widgets["rows"]["rows"])]
    if rows := SHAPES[node_type].row:
        return [340, 80 + 90 * len(widgets) // len(rows)]
    return [340, 280] if "on_unmatched" in widgets else [315, 126]


def _closed(node_type: str, like: Mapping[str, Any]) -> dict[str, Any]:
    """Return what keeps Use Everywhere off the inputs that the node before did not have: its wires may make circles."""
    before = {item["name"] for item in like.get("inputs") or []}
    new = {name: True for name, _, _ in SHAPES[node_type].sockets if name not in before}
    if not node_type.startswith("LoraCore") or not new:
        return {}
    return {"ue_properties": {"version": "7.0", "widget_ue_connectable": {}, "input_ue_unconnectable": new}}


def _origin(node_type: str, like: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the node was before, with all that ours has no place for."""
    if node_type not in SHAPES or not node_type.startswith("LoraCore"):
        return {}
    kept = {key: like[key] for key in ("type", "properties", "widgets_values") if like.get(key)}
    return {"imported_from": kept}
