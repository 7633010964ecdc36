"""Widgets of converted nodes that a subgraph shows on its face: they are gone, and so is their place there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def drop_promoted(
    subgraph: str,
    before: Mapping[str, str],
    level: Mapping[str, Any],
    levels: Iterable[Mapping[str, Any]],
    notes: list[str],
) -> None:
    """Take what showed a widget of a converted node of `subgraph` from all its instances, and say so."""
    now = {str(node["id"]): node["type"] for node in level["nodes"]}
    gone = {node for node, kind in before.items() if now.get(node) != kind}
    instances = [node for other in levels for node in other["nodes"] if node["type"] == subgraph]
    for node in instances:
        shown = (node.get("properties") or {}).get("proxyWidgets")
        if not isinstance(shown, list):
            continue
        kept = [item for item in shown if not (isinstance(item, list) and item and str(item[0]) in gone)]  # pyright: ignore
        if len(kept) < len(shown):  # pyright: ignore[reportUnknownArgumentType]
            node["properties"]["proxyWidgets"] = kept
            notes.append(f"node {node['id']}: widgets of converted nodes no longer show on this subgraph; open it.")
