"""The help page of every node, web/docs/ID.md, names all that the node takes and gives."""

from __future__ import annotations

import pytest

from lora_core.operations import NODES
from lora_core.options import Node
from tests.layout import REPO


@pytest.mark.parametrize("node", NODES.values(), ids=NODES)
def test_help_page_names_every_input_and_output(node: Node) -> None:
    page = (REPO / "web/docs" / f"{node.id}.md").read_text("utf-8")
    assert page.startswith(f"# {node.display_name}\n")
    names = [item.name for item in (*node.inputs, *node.outputs) if item.name != "rows"]
    assert [name for name in names if f"`{name}`" not in page] == []


def test_every_help_page_is_of_a_node() -> None:
    assert {path.stem for path in (REPO / "web/docs").glob("*.md")} == set(NODES)
