"""Inputs on a subgraph's face that nothing inside uses any more: taken away with their values, wherever it is shown."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any

from ..flatten import Flat
from ..saved import FROM_OUTSIDE
from .wires import Wires, get, links_of, put

# The insides of subgraphs by the type of the nodes that stand for them; "": the top
Levels = Mapping[str, dict[str, Any]]
Hosts = dict[str, list[tuple[str, dict[str, Any]]]]  # type -> (the level that it is on, the node)


def used_inputs(level: Mapping[str, Any]) -> set[str]:
    """Return the names of a subgraph's inputs that are wired inside."""
    used = {get(link, "origin_slot") for link in links_of(level) if get(link, "origin_id") == FROM_OUTSIDE}
    return {item["name"] for slot, item in enumerate(level.get("inputs") or []) if slot in used}


def hosts_of(levels: Levels) -> Hosts:
    """Return the nodes that stand for each subgraph, with the levels that they are on."""
    found: Hosts = {}
    for level_id, level in levels.items():
        for node in level["nodes"]:
            if node["type"] in levels:
                found.setdefault(node["type"], []).append((level_id, node))
    return found


def drop_unused(levels: Levels, hosts: Hosts, before: Mapping[str, set[str]], flat: Flat, notes: list[str]) -> None:
    """Take away what was used `before`; `flat` tells the inputs of a subgraph that were widgets, in order."""
    wires: dict[str, Wires] = {}
    for level_id in flat.inner_first():
        if level_id in wires:
            wires[level_id].finish()
        gone = before[level_id] - used_inputs(levels[level_id])
        if gone:
            _drop_inputs(levels[level_id], gone)
        for outer_id, host in hosts.get(level_id, ()) if gone else ():
            if outer_id not in wires:
                outer = levels[outer_id]
                wires[outer_id] = Wires(outer, {str(node["id"]): node for node in outer["nodes"]})
            _drop_from_host(wires[outer_id], host, gone, flat.shown(level_id))
            notes += [f"node {host['id']}: {name} no longer shows on this subgraph; open it." for name in sorted(gone)]
    if "" in wires:
        wires[""].finish()


def drop_proxies(hosts: Hosts, level_id: str, gone: Iterable[str], notes: list[str]) -> None:
    """Take an older page's list of widgets of nodes that are `gone` from all nodes that show a subgraph."""
    missing = set(gone)
    for _, host in hosts.get(level_id, ()) if missing else ():
        if _keep_proxies(host, lambda node_id, _: node_id not in missing):
            notes.append(f"node {host['id']}: widgets of converted nodes no longer show on this subgraph; open it.")


def _drop_inputs(level: dict[str, Any], names: Container[str]) -> None:
    places = _places(level["inputs"], names)
    level["inputs"] = [item for item in level["inputs"] if item["name"] not in names]
    for link in links_of(level):
        if get(link, "origin_id") == FROM_OUTSIDE and (place := places.get(get(link, "origin_slot"))) is not None:
            put(link, "origin_slot", place)


def _drop_from_host(wires: Wires, host: dict[str, Any], names: Container[str], order: list[str]) -> None:
    values, had_proxies = host.get("widgets_values"), bool((host.get("properties") or {}).get("proxyWidgets"))
    _keep_proxies(host, lambda node_id, widget: node_id != "-1" or widget not in names)
    if isinstance(values, list) and not had_proxies:
        known: list[Any] = values
        host["widgets_values"] = [
            *(value for name, value in zip(order, known, strict=False) if name not in names), *known[len(order):]
        ]  # fmt: skip
    if isinstance(host.get("widgets_values_named"), dict):
        named: dict[str, Any] = host["widgets_values_named"]
        host["widgets_values_named"] = {name: value for name, value in named.items() if name not in names}
    places = _places(host.get("inputs") or [], names)
    for link in wires.entering(host["id"]):
        slot = get(link, "target_slot")
        if slot in places and places[slot] is None:
            wires.drop(link)
        elif slot in places:
            put(link, "target_slot", places[slot])
    if "inputs" in host:
        host["inputs"] = [item for item in host["inputs"] or [] if item["name"] not in names]
        wires.replaced(host["id"])


def _places(inputs: Iterable[Mapping[str, Any]], names: Container[str]) -> dict[int, int | None]:
    """Return where each input comes when some go, None for these."""
    places: dict[int, int | None] = {}
    kept = 0
    for slot, item in enumerate(inputs):
        stays = item["name"] not in names
        places[slot] = kept if stays else None
        kept += stays
    return places


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
