"""Load LoRA as ComfyUI's own loaders with rows: for the model, and for the text encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lora_core.workflows.graph import Link
from lora_core.workflows.importing import convert_workflow
from tests.core.workflows.test_importing import (
    FILES,
    PEERS,
    applied,
    check_wires,
    converted,
    graph_of,
    of_type,
    ours,
    without,
)

MODEL, ENCODER = "LoadLoraModel", "LoadLoraTextEncoder"


@pytest.mark.parametrize("form", ["editor", "api"])
@pytest.mark.parametrize("peer", ["builtin", *PEERS])
def test_there_and_back(peer: str, form: str, tmp_path: Path) -> None:
    """Through loaders with rows and back: the same rows in the same order."""
    start = converted(f"{peer}_{form}")
    if peer == "loramanager":  # a built-in loader has no trigger words to show
        start.workflow = without(start.workflow, 6)
    there = convert_workflow(start.workflow, to="builtin-rows", names=FILES)
    back = convert_workflow(there.workflow, names=FILES)
    for result in (there, back):
        if form == "editor":
            check_wires(result.workflow)
    assert there.converted
    assert not of_type(graph_of(there.workflow, tmp_path), "LoraCoreLoad")
    assert applied(back.workflow, tmp_path) == applied(start.workflow, tmp_path)


def test_the_values_are_as_the_host_saves_them() -> None:
    rows = [{"name": "styles/ink.safetensors", "on": False, "strength": 0.5}, {"name": "b.safetensors", "strength": -1}]
    prompt = convert_workflow(
        ours(rows, strength_clip=0.25), to="builtin-rows", names=["styles\\ink.safetensors"], separator="\\"
    )
    nodes = {node["class_type"]: node["inputs"] for node in prompt.workflow.values()}
    assert nodes[MODEL] == {
        "model": ["1", 0],
        "loras.0.lora_name": "styles\\ink.safetensors", "loras.0.strength": 0.5, "loras.0.enabled": False,
        "loras.1.lora_name": "b.safetensors", "loras.1.strength": -1.0, "loras.1.enabled": True,
        "loras.2.lora_name": "own.safetensors", "loras.2.strength": 0.5, "loras.2.enabled": True,
    }  # fmt: skip
    assert [nodes[ENCODER][f"loras.{number}.strength"] for number in range(3)] == [0.5, -1.0, 0.25]
    assert nodes[ENCODER]["clip"] == ["1", 1]
    assert prompt.notes == []


def test_the_editor_saves_how_many_rows_there_are_first() -> None:
    there = convert_workflow(converted("rgthree_editor").workflow, to="builtin-rows", names=FILES)
    (model,) = [node for node in there.workflow["nodes"] if node["type"] == MODEL]
    assert model["widgets_values"] == [
        3,
        *("styles/ink.safetensors", 0.8, True),
        *("people/alice.safetensors", 1.0, False),
        *("detail.safetensors", -0.5, True),
    ]


def test_more_rows_than_a_node_holds_are_several_nodes(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"name": f"{number}.safetensors"} for number in range(44)]
    start = ours(rows)
    there = convert_workflow(start, to="builtin-rows").workflow
    for kind in (MODEL, ENCODER):
        loaders = of_type(graph_of(there, tmp_path), kind).values()
        counts = sorted(sum(name.endswith("lora_name") for name in loader.inputs) for loader in loaders)
        assert counts == [5, 20, 20]
    back = convert_workflow(there, names=FILES).workflow
    wanted = [(f"{number}.safetensors", 1.0) for number in range(44)] + [("own.safetensors", 0.5)]
    assert applied_to_model(back, tmp_path) == wanted


def applied_to_model(workflow: dict[str, Any], tmp_path: Path) -> list[tuple[Any, ...]]:
    workflow = {**workflow, "22": {"class_type": "KSampler", "inputs": {"model": workflow["4"]["inputs"]["model"]}}}
    return [one[:2] for one in applied(workflow, tmp_path)]


@pytest.mark.parametrize("changes", [{"clip": None}, {"strength_clip": 0}])
def test_without_a_text_encoder_the_model_has_its_loader_alone(changes: dict[str, Any], tmp_path: Path) -> None:
    workflow = ours([], **changes)
    workflow["3"]["inputs"] = {name: value for name, value in workflow["3"]["inputs"].items() if value is not None}
    workflow["5"] = {"class_type": "CLIPTextEncode", "inputs": {"clip": ["3", 1], "text": ""}}
    graph = graph_of(convert_workflow(workflow, to="builtin-rows").workflow, tmp_path)
    assert not of_type(graph, ENCODER)
    assert graph["4"].inputs["model"] == Link("3", 0)
    assert graph["5"].inputs.get("clip") == (Link("1", 1) if "strength_clip" in changes else None)


def test_block_strengths_stay() -> None:
    workflow = ours([{"name": "a", "blocks": "te=0"}])
    result = convert_workflow(workflow, to="builtin-rows")
    assert result.workflow == workflow
    assert any("block strengths" in note for note in result.notes)
