"""Workflow JSON from strangers: checked whole before anything is changed, so that what follows can rely on it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from ...errors import WorkflowError

MAX_DEPTH, MAX_VALUES = 100, 500_000
_LINK_FIELDS = ("id", "origin_id", "origin_slot", "target_id", "target_slot")


def check_size(data: Any) -> None:
    """Raise WorkflowError for JSON that is nested deeper or holds more values than any real workflow."""
    waiting: list[tuple[Any, int]] = [(data, 1)]
    seen = 0
    while waiting:
        value, depth = waiting.pop()
        seen += 1
        if depth > MAX_DEPTH or seen > MAX_VALUES:
            what = f"deeper than {MAX_DEPTH} levels" if depth > MAX_DEPTH else f"more than {MAX_VALUES} values"
            raise WorkflowError(f"workflow: {what}; no workflow is.")
        if isinstance(value, float) and not math.isfinite(value):
            raise WorkflowError(f"workflow: holds {value}, which is no JSON; a value was damaged.")
        if isinstance(value, Mapping):
            waiting += [(item, depth + 1) for item in value.values()]  # pyright: ignore
        elif isinstance(value, list):
            waiting += [(item, depth + 1) for item in value]  # pyright: ignore


def check_prompt(prompt: Mapping[str, Any]) -> None:
    """Raise WorkflowError, naming the node, for a prompt whose nodes are not what the host takes."""
    for node_id, node in prompt.items():
        where = f"node {str(node_id)[:40]}"
        if not isinstance(node, Mapping) or not isinstance(node.get("class_type"), str):  # pyright: ignore
            raise WorkflowError(f"{where}: expected an object with a class_type, found {str(node)[:60]!r}.")
        if not isinstance(node.get("inputs", {}), dict) or not isinstance(node.get("_meta") or {}, Mapping):  # pyright: ignore
            raise WorkflowError(f"{where} ({node['class_type'][:60]}): its inputs or _meta are no object.")


def check_level(level: Mapping[str, Any], where: str) -> None:
    """Raise WorkflowError for a level of the editor's format whose nodes or links are damaged."""
    if not isinstance(level.get("nodes"), list):
        raise WorkflowError(f"{where}: has no list of nodes.")
    seen: set[str] = set()
    for node in _objects(level, "nodes", where):
        node_id, kind = node.get("id"), node.get("type")
        if not _is_id(node_id) or not isinstance(kind, str) or str(node_id) in seen:
            raise WorkflowError(f"{where}: a node without an id of its own or a type: {str(node)[:80]!r}.")
        seen.add(str(node_id))
        _check_node(node, f"node {node_id} ({kind[:60]})")
    links = level.get("links") or []
    if not isinstance(links, list):
        raise WorkflowError(f"{where}: its links are no list: {str(links)[:80]!r}.")
    _check_links([link for link in links if link], where)
    for name in ("inputs", "outputs", "groups"):
        _objects(level, name, where)
    if not isinstance(level.get("state") or {}, dict):
        raise WorkflowError(f"{where}: state is no object.")


def _check_links(links: Iterable[Any], where: str) -> None:
    known: set[str] = set()
    for link in links:
        if not _is_link(link):
            raise WorkflowError(f"{where}: a damaged link: {str(link)[:80]!r}.")
        number, origin, _, target = (str(value) for value in _link_values(link)[:4])
        if number in known or origin == target:
            what = "is there twice" if number in known else "leads from a node to itself"
            raise WorkflowError(f"{where}: a damaged link: {str(link)[:80]!r} {what}.")
        known.add(number)


def _check_node(node: Mapping[str, Any], where: str) -> None:
    for item in _objects(node, "inputs", where):
        if not isinstance(item.get("name"), str):
            raise WorkflowError(f"{where}: an input without a name.")
    for item in _objects(node, "outputs", where):
        if not isinstance(item.get("links") or [], list):
            raise WorkflowError(f"{where}: the links of an output are no list.")
    if not isinstance(node.get("properties") or {}, dict):
        raise WorkflowError(f"{where}: its properties are no object.")
    mode = node.get("mode") or 0
    if not isinstance(mode, int):
        raise WorkflowError(f"{where}: mode {str(mode)[:40]!r} is no number.")


def _objects(holder: Mapping[str, Any], name: str, where: str) -> Iterable[Mapping[str, Any]]:
    value = holder.get(name) or []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):  # pyright: ignore
        raise WorkflowError(f"{where}: {name} is no list of objects.")
    return value  # pyright: ignore[reportUnknownVariableType]


def _is_link(link: Any) -> bool:
    values = _link_values(link)
    slots = (values[2], values[4]) if len(values) == 5 else (None,)
    return all(_is_id(value) for value in values[:4:1]) and all(type(slot) is int for slot in slots)


def _link_values(link: Any) -> list[Any]:
    """Return what a link of either spelling holds, in the order of _LINK_FIELDS; nothing of what is no link."""
    if isinstance(link, Mapping):
        return [link.get(name) for name in _LINK_FIELDS]  # pyright: ignore
    return list(link[:5]) if isinstance(link, list) and len(link) >= 6 else []  # pyright: ignore


def _is_id(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool) and math.isfinite(value))
