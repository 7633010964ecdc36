"""Inputs on a subgraph's face that nothing inside uses any more: taken away with their values, wherever it is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..saved import FROM_OUTSIDE
from .wires import Wires, get, links_of, put

Levels = Mapping[
    str, dict[str, Any]
]  # the insides of subgraphs by the type of the nodes that stand for them; "": the top


def used_inputs(level: Mapping[str, Any]) -> set[str]:
    """Return the names of a subgraph's inputs that are wired inside."""
    used = {get(link, "origin_slot") for link in links_of(level) if get(link, "origin_id") == FROM_OUTSIDE}
    return {item["name"] for slot, item in enumerate(level.get("inputs") or []) if slot in used}


def drop_unused(
    levels: Levels, before: Mapping[str, set[str]], shown: Callable[[str], list[str]], notes: list[str]
) -> None:
    """Take away what was used `before`; `shown` tells the inputs of a subgraph that were widgets, in order."""
    waiting = [level_id for level_id in levels if level_id]
    order = {level_id: shown(level_id) for level_id in waiting}
    while waiting:
        level_id = waiting.pop()
        unused = before[level_id] - used_inputs(levels[level_id])
        for name in unused:
            _drop_input(levels[level_id], name)
            for outer_id, outer in levels.items():
                for host in [node for node in outer["nodes"] if node["type"] == level_id]:
                    _drop_from_host(outer, host, name, order[level_id])
                    notes.append(f"node {host['id']}: {name} no longer shows on this subgraph; open it.")
                    waiting += [outer_id] if outer_id and outer_id not in waiting else []
            order[level_id] = [one for one in order[level_id] if one != name]
        before[level_id].difference_update(unused)


def drop_proxies(levels: Levels, level_id: str, gone: Iterable[str], notes: list[str]) -> None:
    """Take an older page's list of widgets of nodes that are `gone` from all nodes that show a subgraph."""
    missing = set(gone)
    for host in [node for level in levels.values() for node in level["nodes"] if node["type"] == level_id]:
        if _keep_proxies(host, lambda node_id, _: node_id not in missing):
            notes.append(f"node {host['id']}: widgets of converted nodes no longer show on this subgraph; open it.")


def _drop_input(level: dict[str, Any], name: str) -> None:
    slot = [item["name"] for item in level["inputs"]].index(name)
    del level["inputs"][slot]
    for link in links_of(level):
        if get(link, "origin_id") == FROM_OUTSIDE and get(link, "origin_slot") > slot:
            put(link, "origin_slot", get(link, "origin_slot") - 1)


def _drop_from_host(level: dict[str, Any], host: dict[str, Any], name: str, order: list[str]) -> None:
    values, had_proxies = host.get("widgets_values"), bool((host.get("properties") or {}).get("proxyWidgets"))
    _keep_proxies(host, lambda node_id, widget: (node_id, widget) != ("-1", name))
    if isinstance(values, list) and not had_proxies and name in order and order.index(name) < len(values):
        del values[order.index(name)]
    if isinstance(host.get("widgets_values_named"), dict):
        host["widgets_values_named"].pop(name, None)
    names = [item["name"] for item in host.get("inputs") or []]
    if name not in names:
        return
    wires, slot = Wires(level, {str(node["id"]): node for node in level["nodes"]}), names.index(name)
    for link in wires.entering(host["id"]):
        if get(link, "target_slot") == slot:
            wires.drop(link)
        elif get(link, "target_slot") > slot:
            put(link, "target_slot", get(link, "target_slot") - 1)
    wires.finish()
    del host["inputs"][slot]


def _keep_proxies(host: dict[str, Any], is_kept: Callable[[str, str], bool]) -> bool:
    """Keep some of the pairs of (node inside, widget) with their values; return whether others are gone."""
    shown: Any = (host.get("properties") or {}).get("proxyWidgets")
    if not isinstance(shown, list):
        return False
    stays = [not isinstance(item, list) or len(item) < 2 or is_kept(str(item[0]), str(item[1])) for item in shown]
    values = host.get("widgets_values")
    if all(stays):
        return False
    host["properties"]["proxyWidgets"] = [item for item, stay in zip(shown, stays, strict=True) if stay]
    if isinstance(values, list):
        more = values[len(shown) :]
        host["widgets_values"] = [value for value, stay in zip(values, stays, strict=False) if stay] + more
    return True
