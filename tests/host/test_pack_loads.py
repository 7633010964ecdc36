"""The pack loads in a real ComfyUI, and its nodes there are those that lora_core.options declares."""

from __future__ import annotations

import re
from urllib.request import urlopen

import pytest

from lora_core.operations import NODES
from lora_core.options import Node, Option
from tests.host_fixtures import LORAS
from tests.host_server import PACK, Server
from tests.layout import REPO

ALIASES_SINCE, ADVANCED_SINCE = (0, 10, 0), (0, 9, 2)  # ComfyUI's versions with search_aliases, and advanced widgets
HOST_TYPES = {
    "FLOAT": "FLOAT", "INT": "INT", "BOOLEAN": "BOOLEAN", "STRING": "STRING", "NEW_FILE": "STRING",
    "ROWS": "LORACORE_ROWS",
}  # fmt: skip


def test_loads_without_a_warning(server: Server) -> None:
    log = server.log.partition("got prompt")[0]  # other tests make nodes fail on purpose
    assert re.search(rf"seconds: .*{PACK}", log), "the pack is not in the host's list of imported packs"
    assert "IMPORT FAILED" not in log
    lines = [line for line in log.splitlines() if re.search(r"lora.?core", line, re.IGNORECASE)]
    assert [line for line in lines if re.search(r"warn|error|traceback|exception", line, re.IGNORECASE)] == []


@pytest.mark.parametrize("node", NODES.values(), ids=NODES)
def test_node_matches_its_declaration(server: Server, node: Node) -> None:
    info = server.node_info(node.id)
    assert info["display_name"] == node.display_name
    assert info["category"] == "LoRA Core"
    assert info["description"] == node.description
    assert info["output_node"] is node.is_output
    assert info["output_name"] == [socket.name for socket in node.outputs]
    assert info["output"] == [socket.type for socket in node.outputs]
    assert info["output_tooltips"] == [socket.help for socket in node.outputs]
    assert (info.get("search_aliases") or []) == list(node.search_aliases if server.version >= ALIASES_SINCE else ())

    order = info["input_order"]
    names = [*order["required"], *order.get("optional", [])]
    assert sorted(names) == sorted(item.name for item in node.inputs)
    widgets = [option.name for option in node.options if option.type != "ROWS"]
    assert [name for name in names if name in widgets] == widgets, "the order decides over saved widget values"
    for item in node.inputs:
        optional = item.name in order.get("optional", [])
        kind, details = info["input"]["optional" if optional else "required"][item.name]
        assert details["tooltip"] == item.help
        if isinstance(item, Option):
            check_widget(item, kind, details)
            assert bool(details.get("advanced")) is (item.advanced and server.version >= ADVANCED_SINCE)
        else:
            assert kind == item.type
            assert optional is item.optional


def check_widget(option: Option, kind: str, details: dict) -> None:
    if option.type in HOST_TYPES:
        assert kind == HOST_TYPES[option.type]
    else:
        assert kind == "COMBO"
    if option.type == "COMBO":
        assert details["options"] == list(option.choices)
    if option.type == "LORA_FILE":
        assert details["options"][0] == "None"
        assert set(LORAS) < set(details["options"])
    if option.type == "ROWS":
        assert set(LORAS) <= set(details["loras"])
        assert details["socketless"] is True
    for ours, theirs in (("default", "default"), ("low", "min"), ("high", "max"), ("step", "step")):
        if getattr(option, ours) is not None:
            assert details[theirs] == getattr(option, ours)


@pytest.mark.parametrize("node", NODES.values(), ids=NODES)
def test_help_page_is_served(server: Server, node: Node) -> None:
    with urlopen(f"{server.url}/extensions/{PACK}/docs/{node.id}.md", timeout=30) as answer:
        assert answer.read() == (REPO / "web/docs" / f"{node.id}.md").read_bytes()


def test_scripts_are_served_once(server: Server) -> None:
    scripts = server.get("/extensions")
    assert f"/extensions/{PACK}/loracore.js" in scripts
    assert not [path for path in scripts if path.startswith("/extensions/lora-core/")], "the web folder counts twice"
