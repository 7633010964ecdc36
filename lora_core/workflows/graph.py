"""Workflow files as one flat list of nodes: the API format, and the editor's format with its subgraphs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import WorkflowError
from ..operations import NODES

_MUTED, _BYPASSED = 2, 4  # the editor's modes "never" and "bypass"
_FROM_OUTSIDE, _TO_OUTSIDE = -10, -20  # the ends of a subgraph's outer links


@dataclass(frozen=True, slots=True)
class Link:
    """A wire: the node and the output slot that it comes from."""

    node: str
    slot: int


@dataclass(slots=True)
class GraphNode:
    """One node with its inputs by name: a value or a Link."""

    id: str
    type: str
    inputs: dict[str, Any] = field(default_factory=dict)
    bypassed: bool = False


def read_json(path: str | os.PathLike[str]) -> Any:
    """Return what a workflow file holds; raises WorkflowError for a file that holds no JSON."""
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WorkflowError(f"{path.name}: no such file ({path}).") from error
    except (OSError, ValueError, RecursionError) as error:
        raise WorkflowError(f"{path.name}: not a workflow file: {error}.") from error


def graph_of(data: Any, name: str) -> dict[str, GraphNode]:
    """Return the nodes of a workflow of either format by id; muted nodes are left out. `name` stands in errors.

    Raises WorkflowError for what is no workflow.
    """
    if isinstance(data, Mapping) and isinstance(data.get("prompt"), Mapping):  # as POSTed to /prompt
        data = data["prompt"]
    try:
        if isinstance(data, Mapping) and isinstance(data.get("nodes"), list):
            return {node.id: node for node in _Editor(data).nodes()}
        if isinstance(data, Mapping) and data and all(_is_api_node(value) for value in data.values()):
            return {str(key): _api_node(str(key), value) for key, value in data.items()}
    except (KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:  # a subgraph may hold itself
        raise WorkflowError(f"{name}: a damaged workflow file: {error!r}.") from error
    raise WorkflowError(f"{name}: not a workflow file: expected ComfyUI's editor or API format.")


def _is_api_node(value: Any) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get("class_type"), str)


def _api_node(node_id: str, value: Mapping[str, Any]) -> GraphNode:
    inputs = {name: _api_value(item) for name, item in value.get("inputs", {}).items()}
    return GraphNode(node_id, value["class_type"], inputs)


def _api_value(value: Any) -> Any:
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], (str, int)) and isinstance(value[1], int):
        return Link(str(value[0]), value[1])
    if isinstance(value, Mapping) and set(value) == {"__value__"}:
        return value["__value__"]
    return value


class _Editor:
    """The editor's format: nodes with numbered slots, links by number, subgraphs by definition."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._top = data
        definitions = (data.get("definitions") or {}).get("subgraphs") or []
        self._subgraphs = {item["id"]: item for item in definitions}

    def nodes(self) -> Iterator[GraphNode]:
        yield from self._nodes(self._top, "", {})

    def _nodes(self, graph: Mapping[str, Any], prefix: str, outside: Mapping[int, Link | None]) -> Iterator[GraphNode]:
        """Yield the nodes of one level; `outside` is what is wired to the slots of the subgraph's input end."""
        links = {link[0]: (str(link[1]), link[2]) for link in _links(graph)}
        for node in graph["nodes"]:
            mode = node.get("mode", 0)
            if not isinstance(node["type"], str):
                raise TypeError(f"node {node['id']} has no type")
            if mode == _MUTED:
                continue
            wired = {
                slot: self._source(graph, prefix, outside, *links[item["link"]])
                for slot, item in enumerate(node.get("inputs") or [])
                if item.get("link") is not None and item["link"] in links
            }
            inner = self._subgraphs.get(node["type"])
            if inner is not None and mode != _BYPASSED:
                yield from self._nodes(inner, f"{prefix}{node['id']}:", wired)
            else:
                yield _editor_node(node, prefix, wired, mode == _BYPASSED)

    def _source(
        self, graph: Mapping[str, Any], prefix: str, outside: Mapping[int, Link | None], node_id: str, slot: int
    ) -> Link | None:
        """Return the real node behind a link: through the subgraph's input end, or into a subgraph node."""
        if node_id == str(_FROM_OUTSIDE):
            return outside.get(slot)
        node = next((item for item in graph["nodes"] if str(item["id"]) == node_id), None)
        if node is None:
            raise KeyError(f"node {node_id}")
        inner = self._subgraphs.get(node["type"])
        if inner is None:
            return Link(prefix + node_id, slot)
        for link in _links(inner):
            if link[3] == _TO_OUTSIDE and link[4] == slot:
                return self._source(inner, f"{prefix}{node_id}:", {}, str(link[1]), link[2])
        return None


def _links(graph: Mapping[str, Any]) -> Iterator[tuple[Any, Any, int, Any, int]]:
    """Yield (id, origin node, origin slot, target node, target slot) of either spelling."""
    for link in graph.get("links") or []:
        if isinstance(link, Mapping):
            yield link["id"], link["origin_id"], link["origin_slot"], link["target_id"], link["target_slot"]
        elif link:
            yield link[0], link[1], link[2], link[3], link[4]


def _editor_node(node: Mapping[str, Any], prefix: str, wired: Mapping[int, Link | None], bypassed: bool) -> GraphNode:
    result = GraphNode(f"{prefix}{node['id']}", node["type"], bypassed=bypassed)
    declared = NODES.get(node["type"])
    values = node.get("widgets_values")
    if declared and isinstance(values, list):
        result.inputs.update(zip((option.name for option in declared.options), values, strict=False))
    elif declared and isinstance(values, Mapping):
        result.inputs.update({key: value for key, value in values.items() if isinstance(key, str)})
    for slot, link in wired.items():
        name = node["inputs"][slot]["name"]
        if link is not None:
            result.inputs[name] = link
    return result
