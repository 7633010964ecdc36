"""Workflows that people have saved stay as they are: ids, names and order of what the nodes had are there for good.

`tests/data/saved_names.json` holds what saved workflows rely on. Add to it what a release adds; take nothing out.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lora_core.operations import NODES
from lora_core.options import Node, Option

SAVED = json.loads((Path(__file__).parents[1] / "data/saved_names.json").read_text("utf-8"))


def names_of(node: Node) -> dict[str, list[str]]:
    """Return a node's names in the order of a saved workflow: widgets that are optional come last, as in the host."""
    widgets = sorted((item for item in node.inputs if isinstance(item, Option)), key=lambda option: option.optional)
    return {
        "widgets": [option.name for option in widgets],
        "sockets": [item.name for item in node.inputs if not isinstance(item, Option)],
        "outputs": [socket.name for socket in node.outputs],
    }


def broken(node: Node | None, saved: dict[str, list[str]]) -> list[str]:
    """Return what a saved workflow would miss, or find in another place."""
    if node is None:
        return ["the node is gone"]
    now = names_of(node)
    moved = [what for what in ("widgets", "outputs") if now[what][: len(saved[what])] != saved[what]]
    return moved + sorted(set(saved["sockets"]) - set(now["sockets"]))


@pytest.mark.parametrize("node_id", SAVED)
def test_what_workflows_rely_on_is_still_there(node_id: str) -> None:
    assert broken(NODES.get(node_id), SAVED[node_id]) == []


def test_a_change_would_be_noticed() -> None:
    node, saved = NODES["LoraCoreLoad"], SAVED["LoraCoreLoad"]
    assert broken(None, saved) == ["the node is gone"]
    assert broken(node, {**saved, "widgets": ["first", *saved["widgets"]]}) == ["widgets"]
    assert broken(node, {**saved, "outputs": saved["outputs"][::-1]}) == ["outputs"]
    assert broken(node, {**saved, "sockets": [*saved["sockets"], "gone"]}) == ["gone"]
