"""ComfyUI's own loaders with rows, for a model and for a text encoder, as Load LoRA with a stack."""

from __future__ import annotations

from typing import Any

import pytest

from lora_core.workflows.graph import prompt_of
from lora_core.workflows.importing import convert_workflow
from tests.flattening.invented import flow, node

A, B = ("a.safetensors", 0.5, True), ("b.safetensors", -1, False)
NO_MODEL = (
    "left as it is: it changes a text encoder alone, and Load LoRA needs a model: no other loader of the same LoRAs is "
    "there."
)


def fields(*rows: tuple[Any, ...], numbers: tuple[int, ...] = (0, 1, 2)) -> dict[str, Any]:
    names = ("lora_name", "strength", "enabled")
    return {f"loras.{n}.{name}": value for n, one in zip(numbers, rows, strict=False)
            for name, value in zip(names, one, strict=False)}  # fmt: skip


def prompt(model: dict[str, Any] | None, encoder: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"1": {"class_type": "CheckpointLoaderSimple", "inputs": {}}}
    if model is not None:
        made["2"] = {"class_type": "LoadLoraModel", "inputs": {**model, "model": ["1", 0]}}
        made["4"] = {"class_type": "KSampler", "inputs": {"model": ["2", 0]}}
    if encoder is not None:
        made["3"] = {"class_type": "LoadLoraTextEncoder", "inputs": {**encoder, "clip": ["1", 1]}}
        made["5"] = {"class_type": "CLIPTextEncode", "inputs": {"clip": ["3", 0], "text": ""}}
    return made | more


def rows_of(workflow: dict[str, Any]) -> list[tuple[Any, ...]]:
    stacks = [one for one in prompt_of(workflow, "x").values() if one["class_type"] == "LoraCoreStack"]
    rows = [row for one in stacks for row in one["inputs"]["rows"]["rows"]]
    return [(row["name"], row["on"], row["strength"], row["strength_clip"]) for row in rows]


@pytest.mark.parametrize(
    "given, rows",
    [
        (fields(A, B), [("a.safetensors", True, 0.5, 0.0), ("b.safetensors", False, -1.0, 0.0)]),
        (fields(A, B, numbers=(1, 3)), [("a.safetensors", True, 0.5, 0.0), ("b.safetensors", False, -1.0, 0.0)]),
        (fields(A[:1], B[:2]), [("a.safetensors", True, 1.0, 0.0), ("b.safetensors", True, -1.0, 0.0)]),
        (fields((None, 1, True), ("none", 1, True), A), [("a.safetensors", True, 0.5, 0.0)]),
    ],
)
def test_a_models_loader_alone(given: dict[str, Any], rows: list[Any]) -> None:
    result = convert_workflow(prompt(given, None))
    assert rows_of(result.workflow) == rows
    assert result.workflow["2"]["class_type"] == "LoraCoreLoad"
    assert result.workflow["4"]["inputs"]["model"] == ["2", 0]
    assert "clip" not in result.workflow["2"]["inputs"]


def test_both_loaders_of_the_same_loras_become_one() -> None:
    encoder = fields((A[0], 0.25, True), (B[0], -1, False))
    result = convert_workflow(prompt(fields(A, B), encoder))
    assert rows_of(result.workflow) == [("a.safetensors", True, 0.5, 0.25), ("b.safetensors", False, -1.0, None)]
    assert result.workflow["2"]["inputs"]["clip"] == ["1", 1]
    assert result.workflow["5"]["inputs"]["clip"] == ["2", 1]
    assert "3" not in result.workflow
    assert result.converted == 2


def test_other_loras_on_the_text_encoder_come_after_it() -> None:
    result = convert_workflow(prompt(fields(A), fields(B)))
    assert rows_of(result.workflow) == [("a.safetensors", True, 0.5, 0.0), ("b.safetensors", False, 0.0, -1.0)]


def test_the_one_of_the_same_loras_is_chosen() -> None:
    second = {"class_type": "LoadLoraModel", "inputs": {**fields(B), "model": ["1", 0]}}
    result = convert_workflow(prompt(fields(A), fields((B[0], 0.125, False)), **{"6": second}))
    assert result.workflow["5"]["inputs"]["clip"] == ["6", 1]
    assert "clip" not in result.workflow["2"]["inputs"]


@pytest.mark.parametrize(
    "workflow",
    [
        prompt(None, fields(A)),
        prompt(fields(B), fields(A), **{"6": {"class_type": "LoadLoraModel", "inputs": fields(("c", 1, True))}}),
        # its text encoder comes from behind the model: as one node it would be a circle
        prompt(fields(A), fields(A)) | {"3": {"class_type": "LoadLoraTextEncoder",
                                              "inputs": {**fields(A), "clip": ["4", 0]}}},
    ],
)  # fmt: skip
def test_a_text_encoders_loader_without_a_model_stays_and_is_told(workflow: dict[str, Any]) -> None:
    result = convert_workflow(workflow)
    assert result.workflow["3"] == workflow["3"]
    assert f"node 3 (LoadLoraTextEncoder): {NO_MODEL}" in result.notes


def test_a_wired_row_stays_and_is_told() -> None:
    result = convert_workflow(prompt(fields(A) | {"loras.0.strength": ["1", 0]}, None))
    reason = "loras.0.strength is wired, and a row holds no wires"
    assert f"node 2 (LoadLoraModel): left as it is: {reason}." in result.notes


@pytest.mark.parametrize("count", [[2], []], ids=["counted", "plain"])
def test_as_the_page_saves_them(count: list[int]) -> None:
    nodes = [
        node(1, "CheckpointLoaderSimple", (), ("MODEL", "CLIP", "VAE"), ["sd.safetensors"]),
        node(2, "LoadLoraModel", [("model", "MODEL", 10)], ("MODEL",), [*count, *A, *B]),
        node(3, "LoadLoraTextEncoder", [("clip", "CLIP", 11)], ("CLIP",), [*count, *A, *B]),
        node(4, "KSampler", [("model", "MODEL", 12)]),
        node(5, "CLIPTextEncode", [("clip", "CLIP", 13)]),
    ]
    links = [(10, 1, 0, 2, 0, "MODEL"), (11, 1, 1, 3, 0, "CLIP"), (12, 2, 0, 4, 0, "MODEL"), (13, 3, 0, 5, 0, "CLIP")]
    result = convert_workflow(flow(nodes, links))
    assert rows_of(result.workflow) == [("a.safetensors", True, 0.5, None), ("b.safetensors", False, -1.0, None)]
    made = prompt_of(result.workflow, "x")
    assert (made["2"]["inputs"]["model"], made["2"]["inputs"]["clip"]) == (["1", 0], ["1", 1])
    assert (made["4"]["inputs"]["model"], made["5"]["inputs"]["clip"]) == (["2", 0], ["2", 1])
