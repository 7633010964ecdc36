"""Workflows as the page saves them, of our nodes: one for each way in which a value or wire comes to a node."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

Slot = tuple[str, str, int | None] | tuple[str, str, int | None, bool]  # name, type, link, whether it is a widget's
Link = tuple[int, int, int, int, int, str]  # number, from, output, to, input, type

STACK, TEXT = "LORA_STACK", "STRING"
MUTED, BYPASSED = 2, 4


def node(
    number: int, kind: str, inputs: Iterable[Slot] = (), outputs: Iterable[str] = (), values: Any = None, **more: Any
) -> dict[str, Any]:
    made = {
        "id": number, "type": kind, "pos": [number * 60, 0], "size": [300, 200], "flags": {}, "order": 0, "mode": 0,
        "inputs": [
            {"name": name, "type": type_, "link": link, **({"widget": {"name": name}} if widget else {})}
            for name, type_, link, *widget in inputs
        ],
        "outputs": [{"name": type_, "type": type_, "links": []} for type_ in outputs], "properties": {}, **more,
    }  # fmt: skip
    return made | ({} if values is None else {"widgets_values": values})


def stack(number: int, name: str = "ink", link: int | None = None, **more: Any) -> dict[str, Any]:
    row = {"on": True, "name": f"{name}.safetensors", "strength": 0.7, "strength_clip": None}
    rows = {"v": 1, "rows": [{**row, "blocks": "", "hash": "", "size": 0}]}
    outputs = (STACK, TEXT, TEXT)
    return node(number, "LoraCoreStack", [("lora_stack", STACK, link)], outputs, [rows], **more)


def merge(
    number: int, link: int | None, prefix: str = "own", *wired: Slot, base: str = "base", **more: Any
) -> dict[str, Any]:
    values = [f"{base}.safetensors", prefix, "keep", "paper", "warn", False, "high"]
    slots = [("lora_stack", STACK, link), *wired]
    return node(number, "LoraCoreMerge", slots, (TEXT, TEXT), values, **more)


def subgraph(
    name: str,
    nodes: Iterable[dict[str, Any]],
    links: Iterable[Link],
    inputs: Iterable[str],
    outputs: Iterable[str] = (),
) -> dict[str, Any]:
    """Return a subgraph's definition; inputs and outputs are `name:TYPE`, -10 and -20 in links are its own ends."""
    links = list(links)

    def ends(texts: Iterable[str], end: int, origin: int, slot: int) -> list[dict[str, Any]]:
        return [
            {
                "id": f"{name}-{end}-{number}", "name": text.split(":")[0], "type": text.split(":")[1],
                "linkIds": [link[0] for link in links if link[origin] == end and link[slot] == number], "pos": [0, 0],
            }
            for number, text in enumerate(texts)
        ]  # fmt: skip

    keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    return {
        "id": uuid(name), "version": 1, "revision": 0, "config": {}, "name": name, "groups": [], "widgets": [],
        "state": {"lastGroupId": 0, "lastNodeId": 90, "lastLinkId": 90, "lastRerouteId": 0},
        "inputNode": {"id": -10, "bounding": [0, 0, 90, 90]}, "outputNode": {"id": -20, "bounding": [900, 0, 90, 90]},
        "inputs": ends(inputs, -10, 1, 2), "outputs": ends(outputs, -20, 3, 4), "nodes": list(nodes),
        "links": [dict(zip(keys, link, strict=True)) for link in links], "extra": {},
    }  # fmt: skip


def uuid(name: str) -> str:
    return f"00000000-0000-4000-8000-{name.encode().hex():0>12.12}"


def flow(nodes: Iterable[dict[str, Any]], links: Iterable[Link] = (), *definitions: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {
        "id": uuid("flow"), "revision": 0, "last_node_id": 90, "last_link_id": 90, "nodes": list(nodes),
        "links": [list(link) for link in links], "groups": [], "config": {}, "extra": {}, "version": 0.4,
    }  # fmt: skip
    made |= {"definitions": {"subgraphs": list(definitions)}} if definitions else {}
    for level in (made, *definitions):
        by_id = {one["id"]: one for one in level["nodes"]}
        for link in level["links"]:
            number, origin, slot = list(link.values())[:3] if isinstance(link, dict) else link[:3]
            if origin in by_id:
                by_id[origin]["outputs"][slot]["links"].append(number)
    return made


def _merge_with_face(*, mode: int = 0, name: str = "face") -> dict[str, Any]:
    """A subgraph with a merge, whose stack and file name come from outside."""
    inner = merge(71, 61, "inner", ("filename_prefix", TEXT, 62, True), mode=mode)
    links = [(61, -10, 0, 71, 0, STACK), (62, -10, 1, 71, 1, TEXT)]
    return subgraph(name, [inner], links, ["lora_stack:LORA_STACK", "filename_prefix:STRING"])


def _host(number: int, definition: str, link: int | None, wired: int | None = None, **more: Any) -> dict[str, Any]:
    slots = [("lora_stack", STACK, link), ("filename_prefix", TEXT, wired, True)]
    return node(number, uuid(definition), slots, more.pop("outputs", ()), **more)


def faces() -> dict[str, Any]:
    hosts = [_host(2, "face", 11, values=["first"]), _host(3, "face", 12, values=["second"]), _host(4, "face", 13)]
    links = [(10 + number, 1, 0, 1 + number, 0, STACK) for number in (1, 2, 3)]
    return flow([stack(1), *hosts], links, _merge_with_face())


def face_inside_a_face() -> dict[str, Any]:
    """Values at two depths: one on the outer face, one on the face inside, which differs from the innermost."""
    held = node(81, uuid("face"), [("lora_stack", STACK, 51), ("filename_prefix", TEXT, None, True)], (), ["inside"])
    shown = node(82, uuid("face"), [("lora_stack", STACK, 52), ("filename_prefix", TEXT, 53, True)], (), ["hidden"])
    links = [(51, -10, 0, 81, 0, STACK), (52, -10, 0, 82, 0, STACK), (53, -10, 1, 82, 1, TEXT)]
    outer = subgraph("outer", [held, shown], links, ["lora_stack:LORA_STACK", "filename_prefix:STRING"])
    hosts = [_host(2, "outer", 11, values=["outermost"]), _host(3, "outer", 12)]
    return flow([stack(1), *hosts], [(11, 1, 0, 2, 0, STACK), (12, 1, 0, 3, 0, STACK)], _merge_with_face(), outer)


def older_face() -> dict[str, Any]:
    """Older pages list (node inside, widget) with values by place; some of the widgets have no input, some no value."""
    proxies = [["71", "dtype"], ["71", "filename_prefix"], ["71", "$$preview"], ["71", "semantics"]]
    hosts = [
        _host(2, "face", 11, values=["fp16", "listed", None, "comfyui"], properties={"proxyWidgets": proxies}),
        _host(3, "face", 12, values=["fp32"], properties={"proxyWidgets": proxies[:2]}),
    ]
    return flow([stack(1), *hosts], [(11, 1, 0, 2, 0, STACK), (12, 1, 0, 3, 0, STACK)], _merge_with_face())


def older_face_by_name() -> dict[str, Any]:
    proxies = {"proxyWidgets": [["-1", "filename_prefix"]]}
    kept = [{"originalEntry": ["-1", "filename_prefix"], "reason": "missingSourceNode", "hostValue": "kept"}]
    kept[0]["attemptedAtVersion"] = 1
    hosts = [
        _host(2, "face", 11, values=["named"], properties=proxies),
        _host(3, "face", 12, values=["listed"], properties={"proxyWidgetErrorQuarantine": kept}),
    ]
    return flow([stack(1), *hosts], [(11, 1, 0, 2, 0, STACK), (12, 1, 0, 3, 0, STACK)], _merge_with_face())


def primitive_inside() -> dict[str, Any]:
    """A primitive inside of a subgraph, as it is and with a value on the older page's face."""
    nodes = [
        merge(71, 61, "inner", ("filename_prefix", TEXT, 62, True)),
        _primitive(72, "from the primitive"),
    ]
    links = [(61, -10, 0, 71, 0, STACK), (62, 72, 0, 71, 1, TEXT)]
    definition = subgraph("prim", nodes, links, ["lora_stack:LORA_STACK"])
    slots = [("lora_stack", STACK, 11)]
    return flow([stack(1), node(2, uuid("prim"), slots)], [(11, 1, 0, 2, 0, STACK)], definition)


def _primitive(number: int, value: str, **more: Any) -> dict[str, Any]:
    made = node(number, "PrimitiveNode", (), (TEXT,), [value, "fixed"], **more)
    made["outputs"][0] |= {"widget": {"name": "filename_prefix"}}
    return made


def primitive_on_a_face() -> dict[str, Any]:
    value = _primitive(5, "primitive")
    host = _host(2, "face", 11, 14, values=["face"])
    return flow([stack(1), value, host], [(11, 1, 0, 2, 0, STACK), (14, 5, 0, 2, 1, TEXT)], _merge_with_face())


def text_on_a_face() -> dict[str, Any]:
    """A node that runs gives the value: the wire counts, not the face."""
    value = node(5, "PrimitiveString", [("value", TEXT, None, True)], (TEXT,), ["run"])
    host = _host(2, "face", 11, 14, values=["face"])
    return flow([stack(1), value, host], [(11, 1, 0, 2, 0, STACK), (14, 5, 0, 2, 1, TEXT)], _merge_with_face())


def primitive() -> dict[str, Any]:
    nodes = [
        stack(1),
        _primitive(4, "from_primitive"),
        merge(2, 11, "own", ("filename_prefix", TEXT, 12, True)),
    ]
    return flow(nodes, [(11, 1, 0, 2, 0, STACK), (12, 4, 0, 2, 1, TEXT)])


def muted_primitive() -> dict[str, Any]:
    made = primitive()
    made["nodes"][1]["mode"] = MUTED
    return made


def reroutes() -> dict[str, Any]:
    nodes = [stack(1), *(node(number, "Reroute", [("", "*", 8 + number)], (STACK,)) for number in (2, 3)), merge(4, 12)]
    return flow(nodes, [(10, 1, 0, 2, 0, "*"), (11, 2, 0, 3, 0, "*"), (12, 3, 0, 4, 0, STACK)])


def loose_reroute() -> dict[str, Any]:
    return flow([node(3, "Reroute", [("", "*", None)], (STACK,)), merge(4, 12)], [(12, 3, 0, 4, 0, STACK)])


def bypassed_and_muted() -> dict[str, Any]:
    """A chain of three stacks with the second bypassed and the first muted; and a merge that is bypassed."""
    nodes = [
        stack(1, "muted", mode=MUTED), stack(2, "bypassed", 10, mode=BYPASSED), stack(3, "used", 11), merge(4, 12),
        stack(5, "bypassed", mode=BYPASSED), merge(6, 13, "without"), merge(7, None, "bypassed", mode=BYPASSED),
        stack(8, "first"), stack(9, "bypassed", 14, mode=BYPASSED), merge(20, 15),
    ]  # fmt: skip
    links = [
        (10, 1, 0, 2, 0, STACK), (11, 2, 0, 3, 0, STACK), (12, 3, 0, 4, 0, STACK), (13, 5, 0, 6, 0, STACK),
        (14, 8, 0, 9, 0, STACK), (15, 9, 0, 20, 0, STACK),
    ]  # fmt: skip
    return flow(nodes, links)


def text_through_a_bypassed_merge() -> dict[str, Any]:
    """Its first output is text, and so is the file name that is wired to it."""
    value = node(5, "PrimitiveString", [("value", TEXT, None, True)], (TEXT,), ["base.safetensors"])
    middle = merge(2, 11, "own", ("filename_prefix", TEXT, 12, True), mode=BYPASSED)
    last = merge(3, 13, "own", ("checkpoint", "COMBO", 14, True))
    links = [(11, 1, 0, 2, 0, STACK), (12, 5, 0, 2, 1, TEXT), (13, 1, 0, 3, 0, STACK), (14, 2, 0, 3, 1, TEXT)]
    return flow([stack(1), value, middle, last], links)


def _stack_inside() -> dict[str, Any]:
    links = [(61, -10, 0, 71, 0, STACK), (62, 71, 0, -20, 0, STACK)]
    return subgraph("chain", [stack(71, "inside", 61)], links, ["lora_stack:LORA_STACK"], ["LORA_STACK:LORA_STACK"])


def _with_chain(mode: int) -> dict[str, Any]:
    middle = node(2, uuid("chain"), [("lora_stack", STACK, 10)], (STACK,), mode=mode)
    return flow([stack(1), middle, merge(3, 11)], [(10, 1, 0, 2, 0, STACK), (11, 2, 0, 3, 0, STACK)], _stack_inside())


def stack_in_a_subgraph() -> dict[str, Any]:
    return _with_chain(0)


def bypassed_subgraph() -> dict[str, Any]:
    return _with_chain(BYPASSED)


def muted_subgraph() -> dict[str, Any]:
    return _with_chain(MUTED)


def _switched_off_inside(mode: int) -> dict[str, Any]:
    """A subgraph inside another, switched off there; it holds a stack on the way and a merge of its own."""
    inner = subgraph(
        "inner", [stack(71, "inside", 61), merge(72, 63, "deep")],
        [(61, -10, 0, 71, 0, STACK), (62, 71, 0, -20, 0, STACK), (63, 71, 0, 72, 0, STACK)],
        ["lora_stack:LORA_STACK"], ["LORA_STACK:LORA_STACK"],
    )  # fmt: skip
    held = node(81, uuid("inner"), [("lora_stack", STACK, 51)], (STACK,), mode=mode)
    links = [(51, -10, 0, 81, 0, STACK), (52, 81, 0, 82, 0, STACK)]
    outer = subgraph("outer", [held, merge(82, 52, "outer")], links, ["lora_stack:LORA_STACK"])
    host = node(2, uuid("outer"), [("lora_stack", STACK, 11)])
    return flow([stack(1), host], [(11, 1, 0, 2, 0, STACK)], outer, inner)


def bypassed_inside() -> dict[str, Any]:
    return _switched_off_inside(BYPASSED)


def muted_inside() -> dict[str, Any]:
    return _switched_off_inside(MUTED)


def one_input_of_two_nodes() -> dict[str, Any]:
    """One input on the face for two nodes inside: without a value there, both have the first one's."""
    inner = [merge(number, 61, f"own{number}", ("filename_prefix", TEXT, number, True)) for number in (71, 72)]
    links = [(61, -10, 0, 71, 0, STACK), *((number, -10, 1, number, 1, TEXT) for number in (71, 72))]
    inner[1]["inputs"][0]["link"] = None
    definition = subgraph("both", inner, links, ["lora_stack:LORA_STACK", "prefix:STRING"])
    slots = [("lora_stack", STACK, 11), ("prefix", TEXT, None, True)]
    hosts = [node(2, uuid("both"), slots), node(3, uuid("both"), [("lora_stack", STACK, None), slots[1]], (), ["face"])]
    return flow([stack(1), *hosts], [(11, 1, 0, 2, 0, STACK)], definition)


def saved_for_a_picture() -> dict[str, Any]:
    """As it is written into a picture: inputs that stand for widgets and are not wired are left out."""
    made = faces()
    for host in made["nodes"][1:]:
        host["inputs"] = [item for item in host["inputs"] if item["link"] is not None]
    return made


def _getter(number: int, name: str) -> dict[str, Any]:
    return node(number, "GetNode", (), (STACK,), [name])


def _setter(number: int, name: str, link: int, **more: Any) -> dict[str, Any]:
    return node(number, "SetNode", [(STACK, STACK, link)], (STACK,), [name], **more)


def set_and_get() -> dict[str, Any]:
    """By name, through each other, from the setter itself, and without a setter."""
    nodes = [
        stack(1), _setter(2, "one", 10), _getter(3, "one"), _setter(4, "two", 11), _getter(5, "two"), merge(6, 12),
        merge(7, 13), _getter(8, "none"), merge(9, 14),
    ]  # fmt: skip
    links = [
        (10, 1, 0, 2, 0, STACK), (11, 3, 0, 4, 0, STACK), (12, 5, 0, 6, 0, STACK), (13, 2, 0, 7, 0, STACK),
        (14, 8, 0, 9, 0, STACK),
    ]  # fmt: skip
    return flow(nodes, links)


def get_in_a_subgraph() -> dict[str, Any]:
    """A getter finds the setter of the level around it."""
    inner = [_getter(71, "one"), merge(72, 61)]
    definition = subgraph("getter", inner, [(61, 71, 0, 72, 0, STACK)], [])
    return flow([stack(1), _setter(2, "one", 10), node(3, uuid("getter"))], [(10, 1, 0, 2, 0, STACK)], definition)


ALONE: tuple[Callable[[], dict[str, Any]], ...] = (
    faces, face_inside_a_face, older_face, older_face_by_name, primitive_inside, primitive_on_a_face, text_on_a_face,
    primitive, muted_primitive, reroutes, loose_reroute, bypassed_and_muted, text_through_a_bypassed_merge,
    stack_in_a_subgraph, bypassed_subgraph, muted_subgraph, bypassed_inside, muted_inside, one_input_of_two_nodes,
    saved_for_a_picture,
)  # fmt: skip
WITH_SETTERS = (set_and_get, get_in_a_subgraph)  # KJNodes' scripts have to be there
