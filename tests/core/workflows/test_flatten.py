"""Saved workflows as prompts: what each merge is called and which stacks it gets, as ComfyUI's page has it.

tests/browser/test_flattening.py holds that the page says the same of each of these.
"""

from __future__ import annotations

from typing import Any

import pytest

from lora_core.errors import WorkflowError
from lora_core.workflows.bounds import MOST_NODES
from lora_core.workflows.graph import prompt_of
from tests.flattening import invented

# workflow -> merge -> (file name, names of its LoRAs in order)
EXPECTED: dict[str, dict[str, tuple[Any, str]]] = {
    "faces": {"2:71": ("first", "ink"), "3:71": ("second", "ink"), "4:71": ("inner", "ink")},
    "face_inside_a_face": {
        "2:81:71": ("inside", "ink"), "2:82:71": ("outermost", "ink"), "3:81:71": ("inside", "ink"),
        "3:82:71": ("hidden", "ink"),
    },
    "older_face": {"2:71": ("listed", "ink"), "3:71": ("fp32", "ink")},  # the second list is too short: the page slips
    "older_face_by_name": {"2:71": ("named", "ink"), "3:71": ("kept", "ink")},
    "primitive_inside": {"2:71": ("from the primitive", "ink")},
    "primitive_on_a_face": {"2:71": ("inner", "ink")},  # the page sets the face, and then looks behind it
    "text_on_a_face": {"2:71": (["5", 0], "ink")},
    "primitive": {"2": ("from_primitive", "ink")},
    "muted_primitive": {"2": ("from_primitive", "ink")},
    "reroutes": {"4": ("own", "ink")},
    "loose_reroute": {"4": ("own", "")},
    "bypassed_and_muted": {"4": ("own", "used"), "6": ("without", ""), "20": ("own", "first")},
    "text_through_a_bypassed_merge": {"3": ("own", "ink")},
    "stack_in_a_subgraph": {"3": ("own", "ink inside")},
    "bypassed_subgraph": {"3": ("own", "ink")},
    "muted_subgraph": {"3": ("own", "")},
    "bypassed_inside": {"2:81:72": ("deep", "ink inside"), "2:82": ("outer", "ink")},
    "muted_inside": {"2:81:72": ("deep", "ink inside"), "2:82": ("outer", "")},
    "one_input_of_two_nodes": {
        "2:71": ("own71", "ink"), "2:72": ("own71", ""), "3:71": ("face", ""), "3:72": ("face", ""),
    },
    "saved_for_a_picture": {"2:71": ("first", "ink"), "3:71": ("second", "ink"), "4:71": ("inner", "ink")},
    "set_and_get": {"6": ("own", "ink"), "7": ("own", "ink"), "9": ("own", "")},
    "get_in_a_subgraph": {"3:72": ("own", "ink")},
}  # fmt: skip


def stacks(prompt: dict[str, Any], link: Any) -> str:
    names: list[str] = []
    while link:
        inputs = prompt[link[0]]["inputs"]
        names.insert(0, inputs["rows"]["rows"][0]["name"].removesuffix(".safetensors"))
        link = inputs.get("lora_stack")
    return " ".join(names)


@pytest.mark.parametrize("make", (*invented.ALONE, *invented.WITH_SETTERS), ids=lambda make: make.__name__)
def test_merges_of(make: Any) -> None:
    prompt = prompt_of(make(), "x")
    merges = {key: node["inputs"] for key, node in prompt.items() if node["class_type"] == "LoraCoreMerge"}
    found = {key: (one["filename_prefix"], stacks(prompt, one.get("lora_stack"))) for key, one in merges.items()}
    assert found == EXPECTED[make.__name__]


def test_older_values_reach_widgets_without_an_input() -> None:
    prompt = prompt_of(invented.older_face(), "x")
    assert [prompt[key]["inputs"][name] for key in ("2:71", "3:71") for name in ("dtype", "semantics")] == [
        "fp16", "comfyui", "fp32", "paper",
    ]  # fmt: skip


def test_a_text_through_a_bypassed_node_is_no_choice_from_a_list() -> None:
    """The page looks for an input of the type that is asked for; the widget keeps its own value."""
    prompt = prompt_of(invented.text_through_a_bypassed_merge(), "x")
    assert prompt["3"]["inputs"]["checkpoint"] == "base.safetensors"


def nested(depth: int) -> dict[str, Any]:
    """Subgraphs inside each other, each holding the next one twice."""
    levels = [invented.subgraph(f"s{n}", [invented.node(900, "KSampler")] if n == depth else [
        invented.node(2 * n + side, invented.uuid(f"s{n + 1}")) for side in (0, 1)], (), ()) for n in range(depth + 1)
    ]  # fmt: skip
    return invented.flow([invented.node(1000, invented.uuid("s0"))], (), *levels)


def test_no_workflow_fills_the_memory() -> None:
    assert len(prompt_of(nested(3), "x")) == 8
    with pytest.raises(WorkflowError, match=f"x: more than {MOST_NODES} nodes"):
        prompt_of(nested(40), "x")
    circle = invented.flow([invented.node(number, "Reroute", [("", "*", 13 - number)], ("*",)) for number in (1, 2)] + [
        invented.merge(3, 10)], [(11, 1, 0, 2, 0, "*"), (12, 2, 0, 1, 0, "*"), (10, 1, 0, 3, 0, "*")])  # fmt: skip
    with pytest.raises(WorkflowError, match="is wired to itself"):
        prompt_of(circle, "x")
