"""What importing costs grows with nodes, rows, tags and names, one by one and together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lora_core.workflows.importing import convert_workflow, rows_of_text
from tests import growing
from tests.flattening import invented

Flow = dict[str, Any]
OUTPUTS = ("MODEL", "CLIP")
VALUES = ["None"]


def loader(number: int, model: int | None, name: str = "ink.safetensors", kind: str = "LoraLoaderModelOnly") -> Flow:
    return invented.node(number, kind, [("model", "MODEL", model)], OUTPUTS[:1], [name, 1.0])


def power(number: int, model: int | None, name: str = "ink") -> Flow:
    """Return another pack's loader, which becomes two nodes."""
    item = {"on": True, "lora": name, "strength": 1.0}
    slots = [("model", "MODEL", model), ("clip", "CLIP", None)]
    return invented.node(number, "Power Lora Loader (rgthree)", slots, OUTPUTS, [{}, item])


def in_a_row(make: Callable[[int, int | None], Flow], count: int) -> Flow:
    nodes = [invented.node(1, "CheckpointLoaderSimple", (), OUTPUTS), *(make(10 + n, 10 + n) for n in range(count))]
    links = [(10 + n, 9 + n if n else 1, 0, 10 + n, 0, "MODEL") for n in range(count)]
    return invented.flow(nodes, links)


def at_one_hub(make: Callable[[int, int | None], Flow], count: int) -> Flow:
    """Return loaders that all hang on one output, two after each other."""
    nodes, links = [invented.node(1, "CheckpointLoaderSimple", (), OUTPUTS)], []
    for n in range(count):
        first, second = 10 + 2 * n, 11 + 2 * n
        nodes += [make(first, first), make(second, second)]
        links += [(first, 1, 0, first, 0, "MODEL"), (second, first, 0, second, 0, "MODEL")]
    return invented.flow(nodes, links)


def as_prompt(count: int) -> Flow:
    prompt: Flow = {"0": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "x"}}}
    for n in range(1, 2 * count, 2):
        inputs = {"lora_name": "ink.safetensors", "strength_model": 1.0}
        prompt[str(n)] = {"class_type": "LoraLoaderModelOnly", "inputs": {**inputs, "model": ["0", 0]}}
        prompt[str(n + 1)] = {"class_type": "LoraLoaderModelOnly", "inputs": {**inputs, "model": [str(n), 0]}}
    return prompt


def in_groups(count: int) -> Flow:
    flow = in_a_row(power, count)
    for node in flow["nodes"]:
        node["pos"] = [1_000 * node["id"], 0]
    flow["groups"] = [{"title": "x", "bounding": [1_000 * (10 + n) - 10, -40, 320, 260]} for n in range(count)]
    return flow


def damaged(count: int) -> Flow:
    flow = in_a_row(loader, count)
    flow["nodes"] += [{"id": None, "type": "x"} for _ in range(count)]
    return flow


def in_subgraphs(count: int) -> Flow:
    """Return a level with many subgraphs, whose loader shows on their faces."""
    hosts, definitions = [], []
    for n in range(count):
        inner = loader(1, None)
        inner["inputs"].append(
            {"name": "strength_model", "type": "FLOAT", "link": 5, "widget": {"name": "strength_model"}}
        )
        link = [(5, -10, 0, 1, 1, "FLOAT")]
        definitions.append(invented.subgraph(f"d{n}", [inner], link, ["strength_model:FLOAT"]))
        slots = [("strength_model", "FLOAT", None, True)]
        hosts.append(invented.node(100 + n, invented.uuid(f"d{n}"), slots, (), [0.5]))
    return invented.flow(hosts, (), *definitions)


def stacks_of_ours(count: int) -> Flow:
    """Return Load LoRA nodes at one hub, each with a stack: what is exported."""
    nodes, links = [invented.node(1, "CheckpointLoaderSimple", (), OUTPUTS)], []
    for n in range(count):
        load, stack = 10 + 2 * n, 11 + 2 * n
        slots = [("model", "MODEL", load), ("clip", "CLIP", None), ("lora_stack", "LORA_STACK", stack)]
        values = VALUES
        nodes += [
            invented.node(load, "LoraCoreLoad", slots, (*OUTPUTS, "STRING", "STRING"), values),
            invented.stack(stack),
        ]
        links += [(load, 1, 0, load, 0, "MODEL"), (stack, stack, 0, load, 2, "LORA_STACK")]
    return invented.flow(nodes, links)


def for_encoders(count: int) -> Flow:
    """Return ComfyUI's loaders with rows: for each of a model one for a text encoder, of other LoRAs each."""
    nodes: list[Flow] = []
    for n in range(count):
        for number, kind, socket in ((2 * n, "LoadLoraModel", "MODEL"), (2 * n + 1, "LoadLoraTextEncoder", "CLIP")):
            slots = [(socket.lower(), socket, None)]
            nodes.append(invented.node(10 + number, kind, slots, (socket,), [1, f"a{n}.safetensors", 1.0, True]))
    return invented.flow(nodes)


GROWING: dict[str, Callable[[int], growing.Run]] = {
    "built-in loaders in a row": lambda n: converting(in_a_row(loader, n)),
    "built-in loaders at a hub": lambda n: converting(at_one_hub(loader, n)),
    "others' loaders in a row": lambda n: converting(in_a_row(power, n)),
    "others' loaders at a hub": lambda n: converting(at_one_hub(power, n)),
    "encoders": lambda n: converting(for_encoders(n)),
    "a prompt": lambda n: converting(as_prompt(n)),
    "groups": lambda n: converting(in_groups(n)),
    "damaged nodes": lambda n: converting(damaged(n)),
    "subgraphs": lambda n: converting(in_subgraphs(n)),
    "export": lambda n: converting(stacks_of_ours(n), to="builtin", names=[f"{k}.safetensors" for k in range(n)]),
    "names of a list": lambda n: converting(
        in_a_row(lambda number, model: power(number, model, f"lora {number}"), n),
        names=[f"a/lora {k}.safetensors" for k in range(n)],
    ),
    "tags": lambda n: lambda: rows_of_text(
        " ".join(f"<lora:a{k}:0.5>" for k in range(n)), names=[f"b/a{k}.pt" for k in range(n)]
    ),
    "tags in choices": lambda n: lambda: rows_of_text("{" * n + "<lora:a>|" * n + "}" * n),
    "tags in one choice": lambda n: lambda: rows_of_text("{" + "|".join(["<lora:a>"] * n) + "}"),
    "tags in comments": lambda n: lambda: rows_of_text("<lora:a> /* <lora:b> */ " * n, "prompt-control"),
}  # fmt: skip


def converting(flow: Flow, **more: Any) -> growing.Run:
    return lambda: convert_workflow(flow, **more)


@pytest.mark.attack(13)
@pytest.mark.parametrize("case", GROWING)
def test_an_import_costs_what_it_reads(case: str) -> None:
    assert growing.exponent(GROWING[case], 25) < 1.2


@pytest.mark.attack(13)
def test_a_choice_of_many_names_makes_few_rows() -> None:
    """Each tag comes to at most 64 rows, and no text is copied for more."""
    many = "|".join(["a"] * 100_000)
    assert growing.operations(lambda: rows_of_text(f"<lora:{{{many}}}{{{many}}}>")) < 1_000_000
    assert len(rows_of_text("<lora:{a|b|c}>").rows) == 3


@pytest.mark.attack(14)
def test_chains_of_thousands_are_imported() -> None:
    result = growing.at_depth(300, lambda: convert_workflow(in_a_row(loader, 4_000)))
    assert result.converted == 4_000
    stacks = [node for node in result.workflow["nodes"] if node["type"] == "LoraCoreStack"]
    assert [len(stack["widgets_values"][0]["rows"]) for stack in stacks] == [4_000]


@pytest.mark.attack(14)
def test_three_hundred_stacks_are_exported() -> None:
    nodes = [invented.node(1, "CheckpointLoaderSimple", (), OUTPUTS)]
    nodes += [invented.stack(10 + n, link=9 + n if n else None) for n in range(300)]
    slots = [("model", "MODEL", 1), ("clip", "CLIP", None), ("lora_stack", "LORA_STACK", 309)]
    nodes.append(invented.node(1000, "LoraCoreLoad", slots, OUTPUTS, VALUES))
    links = [(1, 1, 0, 1000, 0, "MODEL"), (309, 309, 0, 1000, 2, "LORA_STACK")]
    links += [(9 + n, 9 + n, 0, 10 + n, 0, "LORA_STACK") for n in range(1, 300)]
    result = convert_workflow(invented.flow(nodes, links), to="builtin")
    assert sum(node["type"] == "LoraLoaderModelOnly" for node in result.workflow["nodes"]) == 300
