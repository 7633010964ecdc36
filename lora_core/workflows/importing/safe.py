"""Workflow JSON from strangers: what can be read stays for what follows to rely on, the rest is set aside and told."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...errors import WorkflowError
from ..bounds import check_size

_LINK_FIELDS = ("id", "origin_id", "origin_slot", "target_id", "target_slot")


def plain_copy(data: Any) -> Any:
    """Return a copy of JSON, with null for the numbers that JSON does not have: ComfyUI writes NaN into its files.

    Raises WorkflowError for what is nested deeper or holds more values than any real workflow.
    """
    check_size(data, "workflow")
    return _copied(data)


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copied(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(slots=True)
class Aside:
    """What of a level, or a prompt, can't be read: it goes back where it was when all else is done."""

    nodes: list[Any] = field(default_factory=list[Any])
    links: list[Any] = field(default_factory=list[Any])
    prompt: dict[str, Any] = field(default_factory=dict[str, Any])

    def put_back(self, level: dict[str, Any]) -> None:
        level.update(self.prompt)
        for name, items in (("nodes", self.nodes), ("links", self.links)):
            if items:
                level[name] = [*(level.get(name) or []), *items]


def set_aside_of_prompt(prompt: dict[str, Any], notes: list[str]) -> Aside:
    """Take out of a prompt what is no node as the host takes it; raises WorkflowError if nothing is left."""
    wrong = {key: text for key, node in prompt.items() if (text := _wrong_in_prompt(key, node))}
    if len(wrong) == len(prompt):
        raise WorkflowError(next(iter(wrong.values())))
    notes += [f"{text} It is left as it is." for text in wrong.values()]
    return Aside(prompt={key: prompt.pop(key) for key in wrong})


def _wrong_in_prompt(node_id: str, node: Any) -> str:
    where = f"node {node_id[:40]}"
    if not isinstance(node, Mapping) or not isinstance(node.get("class_type"), str):
        return f"{where}: expected an object with a class_type, found {str(node)[:60]!r}."
    if not isinstance(node.get("inputs", {}), dict) or not isinstance(node.get("_meta") or {}, Mapping):
        return f"{where} ({node['class_type'][:60]}): its inputs or _meta are no object."
    return ""


def set_aside_of_level(level: dict[str, Any], where: str, notes: list[str]) -> Aside:
    """Take nodes and links that are damaged out of a level of the editor's format; raises for a damaged level."""
    for name in ("nodes", "links"):
        if not isinstance(level.get(name) or [], list):
            raise WorkflowError(f"{where}: its {name} are no list: {str(level[name])[:80]!r}.")
    if not isinstance(level.get("nodes"), list):
        raise WorkflowError(f"{where}: has no list of nodes.")
    for name in ("inputs", "outputs", "groups"):
        if wrong := _wrong_objects(level, name):
            raise WorkflowError(f"{where}: {wrong}.")
        if name != "groups" and not all(isinstance(item.get("name"), str) for item in level.get(name) or []):
            raise WorkflowError(f"{where}: one of its {name} has no name.")
    if not isinstance(level.get("state") or {}, dict):
        raise WorkflowError(f"{where}: state is no object.")
    aside = Aside()
    seen: set[str] = set()
    for node in level["nodes"]:
        if wrong := _wrong_node(node, seen):
            aside.nodes.append(node)
            notes.append(f"{where}: {wrong}. It is left as it is.")
    known: set[str] = set()
    for link in level.get("links") or []:
        if link and (wrong := _wrong_link(link, known)) is not None:
            aside.links.append(link)
            notes.append(f"{where}: a damaged link: {str(link)[:80]!r}{wrong}. It is left as it is.")
    _take(level, "nodes", aside.nodes)
    _take(level, "links", aside.links)
    return aside


def _take(level: dict[str, Any], name: str, items: list[Any]) -> None:
    if items:
        gone = set(map(id, items))
        level[name] = [item for item in level[name] if id(item) not in gone]


def _wrong_node(node: Any, seen: set[str]) -> str:
    if not isinstance(node, dict):
        return f"what is no node: {str(node)[:80]!r}"
    node_id, kind = node.get("id"), node.get("type")
    if not _is_id(node_id) or not isinstance(kind, str) or str(node_id) in seen:
        return f"a node without an id of its own or a type: {str(node)[:80]!r}"
    wrong = _wrong_inside(node)
    if not wrong:
        seen.add(str(node_id))
    return wrong and f"node {node_id} ({kind[:60]}): {wrong}"


def _wrong_inside(node: Mapping[str, Any]) -> str:
    wrong = _wrong_objects(node, "inputs") or _wrong_objects(node, "outputs")
    if wrong:
        return wrong
    if not all(isinstance(item.get("name"), str) for item in node.get("inputs") or []):
        return "an input without a name"
    if not all(isinstance(item.get("links") or [], list) for item in node.get("outputs") or []):
        return "the links of an output are no list"
    if not isinstance(node.get("properties") or {}, dict):
        return "its properties are no object"
    mode = node.get("mode") or 0
    return "" if isinstance(mode, int) else f"mode {str(mode)[:40]!r} is no number"


def _wrong_objects(holder: Mapping[str, Any], name: str) -> str:
    value = holder.get(name) or []
    is_list = isinstance(value, list) and all(isinstance(item, dict) for item in value)
    return "" if is_list else f"{name} is no list of objects"


def _wrong_link(link: Any, known: set[str]) -> str | None:
    """Return what is wrong with a link: None if nothing is, "" if it is none."""
    if not _is_link(link):
        return ""
    number, origin, _, target = (str(value) for value in _link_values(link)[:4])
    if number in known or origin == target:
        return " is there twice" if number in known else " leads from a node to itself"
    known.add(number)
    return None


def _is_link(link: Any) -> bool:
    values = _link_values(link)
    slots = (values[2], values[4]) if len(values) == 5 else (None,)
    return all(_is_id(value) for value in values[:4:1]) and all(type(slot) is int for slot in slots)


def _link_values(link: Any) -> list[Any]:
    """Return what a link of either spelling holds, in the order of _LINK_FIELDS; nothing of what is no link."""
    if isinstance(link, Mapping):
        return [link.get(name) for name in _LINK_FIELDS]
    return list(link[:5]) if isinstance(link, list) and len(link) >= 6 else []


def _is_id(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool))
