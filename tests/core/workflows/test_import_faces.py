"""Loaders inside of subgraphs, whose values stand on the subgraph's face: read there, and the face made smaller."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from lora_core.workflows.graph import prompt_of
from lora_core.workflows.importing import convert_workflow
from lora_core.workflows.importing.model import Converted
from tests.flattening.invented import flow, node, subgraph, uuid

MODEL, COMBO, FLOAT, INT = "MODEL", "COMBO", "FLOAT", "INT"
FACE = ["model:MODEL", "steps:INT", "lora_name:COMBO", "strength:FLOAT", "seed:INT"]


def loader() -> dict[str, Any]:
    name = ("lora_name", COMBO, 63, True)
    slots = [("model", MODEL, 61), name, ("strength_model", FLOAT, 64, True)]
    return node(71, "LoraLoaderModelOnly", slots, (MODEL,), ["inner.safetensors", 1])


def definition() -> dict[str, Any]:
    """A subgraph: a loader and a sampler, all whose values are on the face."""
    slots = [("model", MODEL, 66), ("seed", INT, 65, True), ("steps", INT, 62, True)]
    sampler = node(72, "KSampler", slots, ("LATENT",))
    links = [
        (61, -10, 0, 71, 0, MODEL), (62, -10, 1, 72, 2, INT), (63, -10, 2, 71, 1, COMBO), (64, -10, 3, 71, 2, FLOAT),
        (65, -10, 4, 72, 1, INT), (66, 71, 0, 72, 0, MODEL), (67, 72, 0, -20, 0, "LATENT"),
    ]  # fmt: skip
    return subgraph("face", [loader(), sampler], links, FACE, ["LATENT:LATENT"])


def host(number: int, values: list[Any] | None, **more: Any) -> dict[str, Any]:
    slots = [("model", MODEL, 11), ("steps", INT, None, True), ("lora_name", COMBO, None, True),
             ("strength", FLOAT, None, True), ("seed", INT, None, True)]  # fmt: skip
    return node(number, uuid("face"), slots, ("LATENT",), values, **more)


def around(*hosts: dict[str, Any], more: tuple[dict[str, Any], ...] = (), links: tuple[Any, ...] = ()) -> Any:
    model = node(1, "UNETLoader", (), (MODEL,), ["flux.safetensors", "default"])
    wires = [(10 + one["id"] - 1, 1, 0, one["id"], 0, MODEL) for one in hosts]
    for one in hosts:
        one["inputs"][0]["link"] = 10 + one["id"] - 1
    return flow([model, *hosts, *more], [*wires, *links], definition())


def loads(result: Converted) -> list[tuple[Any, ...]]:
    prompt = prompt_of(result.workflow, "x")
    made = [one["inputs"] for one in prompt.values() if one["class_type"] == "LoraCoreLoad"]
    return [(one["lora_name"], one["strength_model"], one["strength_clip"]) for one in made]


def samplers(workflow: dict[str, Any]) -> list[tuple[Any, ...]]:
    """The values that samplers get from their faces."""
    inputs = [one["inputs"] for one in prompt_of(workflow, "x").values() if one["class_type"] == "KSampler"]
    return [(one.get("seed"), one.get("steps")) for one in inputs]


@pytest.mark.parametrize("hosts", [1, 2])
def test_values_on_the_face_are_read_and_go_from_it(hosts: int) -> None:
    workflow = around(*(host(2 + number, [20, "face.safetensors", 0.5, 7 + number]) for number in range(hosts)))
    before = copy.deepcopy(workflow)
    result = convert_workflow(workflow)
    assert workflow == before
    assert loads(result) == [("face.safetensors", 0.5, 0.0)] * hosts
    assert samplers(result.workflow) == samplers(before) == [(7 + number, 20) for number in range(hosts)]
    (inside,) = result.workflow["definitions"]["subgraphs"]
    assert [item["name"] for item in inside["inputs"]] == ["model", "steps", "seed"]
    for one in result.workflow["nodes"][1:]:
        assert [item["name"] for item in one["inputs"]] == ["model", "steps", "seed"]
        assert one["widgets_values"] == [20, one["id"] + 5]
    assert "node 2: lora_name no longer shows on this subgraph; open it." in result.notes


def test_a_face_without_a_value_means_the_inner_one() -> None:
    assert loads(convert_workflow(around(host(2, None)))) == [("inner.safetensors", 1.0, 0.0)]


def test_different_faces_cannot_be_one_row() -> None:
    workflow = around(host(2, [20, "one.safetensors", 0.5, 7]), host(3, [20, "two.safetensors", 0.5, 7]))
    result = convert_workflow(workflow)
    assert result.workflow == workflow
    reason = "lora_name comes from outside of its subgraph, and not as one value everywhere"
    assert f"node 71 (LoraLoaderModelOnly): left as it is: {reason}." in result.notes


def test_a_node_that_gives_the_value_cannot_be_a_row() -> None:
    one = host(2, [20, "face.safetensors", 0.5, 7])
    one["inputs"][3]["link"] = 40
    number = node(5, "PrimitiveFloat", (), ("FLOAT",), [0.25])
    workflow = around(one, more=(number,), links=((40, 5, 0, 2, 3, FLOAT),))
    result = convert_workflow(workflow)
    assert result.workflow == workflow
    assert any("strength_model comes from outside of its subgraph" in note for note in result.notes)


def test_a_face_inside_a_face() -> None:
    """The value stands on the outer face, and both faces lose it; what is behind it in the lists moves up."""
    slots = [("model", MODEL, 51), ("steps", INT, None, True), ("lora_name", COMBO, 52, True),
             ("strength", FLOAT, None, True), ("seed", INT, 53, True)]  # fmt: skip
    held = node(81, uuid("face"), slots, ("LATENT",), [30, "held.safetensors", 0.75, 1])
    links = [(51, -10, 0, 81, 0, MODEL), (52, -10, 1, 81, 2, COMBO), (53, -10, 2, 81, 4, INT), (54, 81, 0, -20, 0, "L")]
    outer = subgraph("outer", [held], links, ["model:MODEL", "lora:COMBO", "seed:INT"], ["LATENT:LATENT"])
    top = node(2, uuid("outer"), [("model", MODEL, 11), ("lora", COMBO, None, True), ("seed", INT, None, True)],
               ("LATENT",), ["outer.safetensors", 99])  # fmt: skip
    model = node(1, "UNETLoader", (), (MODEL,), ["flux.safetensors", "default"])
    workflow = flow([model, top], [(11, 1, 0, 2, 0, MODEL)], definition(), outer)
    result = convert_workflow(workflow)
    assert loads(result) == [("outer.safetensors", 0.75, 0.0)]
    assert samplers(result.workflow) == samplers(workflow) == [(99, 30)]
    inner, outer = result.workflow["definitions"]["subgraphs"]
    assert [item["name"] for item in inner["inputs"]] == ["model", "steps", "seed"]
    assert [item["name"] for item in outer["inputs"]] == ["model", "seed"]
    assert (outer["nodes"][0]["widgets_values"], result.workflow["nodes"][1]["widgets_values"]) == ([30, 1], [99])


def test_an_older_face_by_pairs() -> None:
    """Older pages list (node inside, widget): for inputs of the face, and for widgets that have none."""
    pairs = [["72", "seed"], ["71", "lora_name"], ["72", "steps"], ["71", "strength_model"]]
    one = host(2, [7, "listed.safetensors", 20, 0.25], properties={"proxyWidgets": pairs})
    workflow = around(one)
    result = convert_workflow(workflow)
    assert loads(result) == [("listed.safetensors", 0.25, 0.0)]
    kept = next(node for node in result.workflow["nodes"] if node["id"] == 2)
    assert kept["properties"]["proxyWidgets"] == [["72", "seed"], ["72", "steps"]]
    assert kept["widgets_values"] == [7, 20]
    assert samplers(result.workflow) == samplers(workflow) == [(7, 20)]
    loose = around(host(2, ["pair.safetensors"], properties={"proxyWidgets": [["71", "lora_name"]]}))
    inner = loose["definitions"]["subgraphs"][0]
    inner["nodes"][0]["inputs"][1]["link"] = None
    inner["links"] = [link for link in inner["links"] if link["id"] != 63]
    assert loads(convert_workflow(loose)) == [("pair.safetensors", 1.0, 0.0)]


def test_values_of_other_packs_on_a_face() -> None:
    """A stacker of numbered slots, one of its names on the face."""
    slots = [("lora_stack", "LORA_STACK", None), ("lora_name_1", COMBO, 61, True)]
    values = ["simple", 1, "inner.safetensors", 0.5, 1, 1]
    inner = subgraph("stack", [node(71, "LoRA Stacker", slots, ("LORA_STACK",), values)],
                     [(61, -10, 0, 71, 1, COMBO), (62, 71, 0, -20, 0, "LORA_STACK")], ["name:COMBO"],
                     ["LORA_STACK:LORA_STACK"])  # fmt: skip
    top = node(2, uuid("stack"), [("name", COMBO, None, True)], ("LORA_STACK",), ["face.safetensors"])
    result = convert_workflow(flow([top], (), inner))
    (made,) = prompt_of(result.workflow, "x").values()
    assert [row["name"] for row in made["inputs"]["rows"]["rows"]] == ["face.safetensors"]
    assert json.dumps(result.workflow).count("face.safetensors") == 1
