"""Nodes with LoRAs that are not converted: each is named, with the reason; and no other node is."""

from __future__ import annotations

from typing import Any

import pytest

from lora_core.workflows.importing import convert_workflow
from tests.core.workflows.test_importing import fixture
from tests.flattening.invented import flow, node

UNKNOWN = "left as it is: LoRA Core reads no nodes of this type."


def notes(*nodes: dict[str, Any], **more: Any) -> list[str]:
    return convert_workflow(flow(nodes) | more, names=["styles/ink.safetensors"]).notes


@pytest.mark.parametrize(
    "kind, values",
    [
        ("WanVideoLoraSelect", ["ink.safetensors", 1.0]),
        ("LoraLoaderBypass", ["ink.safetensors", 1.0, 1.0]),
        ("Create Hook LoRA (LoraManager)", []),
        ("XY Input: Lora Block Weight //Inspire", []),
        ("lora_loader_of_somebody", []),
        ("HyperLoRAApply", []),
        ("LyCORIS Loader", []),
        ("Efficient Loader", ["base.safetensors", "Baked VAE", -1, "ink.safetensors", 1.0]),
        ("easy fullLoader", ["base.safetensors", "Default", "Baked VAE", -2, "ink.safetensors", 1.0]),
        ("ImpactWildcardEncode", ["a cat <lora:ink:0.5>"]),
        ("SomethingElse", [1, "styles\\ink.safetensors"]),
    ],
)
def test_nodes_with_loras_are_named(kind: str, values: list[Any]) -> None:
    assert f"node 7 ({kind}): {UNKNOWN}" in notes(node(7, kind, values=values))
    inputs = {"lora_name": "ink.safetensors"} if kind == "Efficient Loader" else dict(enumerate(values))
    prompt = {"7": {"class_type": kind, "inputs": {str(key): value for key, value in inputs.items()}}}
    assert f"node 7 ({kind}): {UNKNOWN}" in convert_workflow(prompt, names=["styles/ink.safetensors"]).notes or (
        kind == "easy fullLoader"  # a prompt names its values
    )


@pytest.mark.parametrize(
    "kind, values",
    [
        ("ColorAdjust", []), ("ImageColorMatch", []), ("Exploration", []), ("FloraEncoder", []),
        ("Checkpoint Loader (LoraManager)", ["base.safetensors"]),
        ("Efficient Loader", ["base.safetensors", "Baked VAE", -1, "None", 1.0]),
        ("CLIPTextEncode", ["explore lora styles"]), ("KSampler", [1, "fixed"]),
    ],
)  # fmt: skip
def test_other_nodes_are_not(kind: str, values: list[Any]) -> None:
    assert notes(node(7, kind, values=values)) == []


def test_the_name_of_an_input_tells() -> None:
    """Newer files name the inputs, and prompts the values."""
    assert f"node 7 (Sampler Deluxe): {UNKNOWN}" in notes(node(7, "Sampler Deluxe", [("lora_1", "COMBO", None, True)]))
    off = {"7": {"class_type": "Sampler Deluxe", "inputs": {"lora_1": "None", "steps": 3}}}
    assert convert_workflow(off).notes == []
    off["7"]["inputs"]["lora_1"] = "x"
    assert convert_workflow(off).notes == [f"node 7 (Sampler Deluxe): {UNKNOWN}"]


@pytest.mark.parametrize("prefix", ["workflow>", "workflow/"])
def test_group_nodes_are_named_with_what_is_in_them(prefix: str) -> None:
    inside = [{"type": "KSampler", "index": 0}, {"type": "Power Lora Loader (rgthree)", "index": 1}]
    extra = {"groupNodes": {"mine": {"nodes": inside, "links": []}, "plain": {"nodes": inside[:1], "links": []}}}
    told = notes(node(7, f"{prefix}mine"), node(8, f"{prefix}plain"), extra=extra)
    reason = (
        "a group node with Power Lora Loader (rgthree) in it; open and save it in ComfyUI, which makes it a subgraph"
    )
    assert told == [f"node 7 ({prefix}mine): left as it is: {reason}."]


def test_only_chosen_nodes_are_named_and_none_on_the_way_out() -> None:
    workflow = flow([node(7, "WanVideoLoraSelect"), node(8, "WanVideoLoraSelect")])
    assert [note[:6] for note in convert_workflow(workflow, nodes=[8]).notes] == ["node 8"]
    assert convert_workflow(workflow, to="builtin").notes == []


def test_use_everywhere_stays_off_inputs_that_the_old_node_did_not_have() -> None:
    """It fills open inputs with what it finds by type: on Load LoRA with its own model, which makes a circle."""
    made = {item["id"]: item for item in convert_workflow(fixture("rgthree_editor")).workflow["nodes"]}
    kept_off = [made[number]["properties"]["ue_properties"] for number in (5, 23)]
    assert kept_off[0]["input_ue_unconnectable"] == {"lora_stack": True, "model_low": True, "lora": True}
    assert {"lora_stack", "lora"} <= kept_off[1]["input_ue_unconnectable"].keys()
    assert all(one["version"] == "7.0" for one in kept_off), "an older one would be replaced by its own"
    back = convert_workflow(convert_workflow(fixture("rgthree_editor")).workflow, to="builtin").workflow
    assert not [item for item in back["nodes"] if "ue_properties" in item["properties"]]
