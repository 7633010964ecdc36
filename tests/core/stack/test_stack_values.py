"""Rows of Stack LoRAs and stacks of other packs: every spelling, and the text of every refusal."""

from __future__ import annotations

import copy
import json
import pickle
import re
from pathlib import Path
from typing import Any

import pytest

from lora_core.errors import OptionError
from lora_core.stack.entry import StackEntry
from lora_core.stack.rows import join_stacks, lora_text, parse_rows, stack_of, stack_of_one
from tests.core import samples

ROWS = {
    "v": 1,
    "rows": [
        {"on": True, "name": "styles\\ink.safetensors", "strength": 0.8, "strength_clip": None, "hash": "abc"},
        {"on": False, "name": "off.safetensors"},
        {"name": "None"},
        {"name": "face.safetensors", "strength": -0.5, "strength_clip": 0.25, "blocks": "te=0", "later": [1]},
    ],
}


@pytest.mark.parametrize("value", [ROWS, json.dumps(ROWS), ROWS["rows"], {"__value__": ROWS}])
def test_every_spelling_gives_the_same_stack(value: Any) -> None:
    stack = stack_of(parse_rows(value))
    assert stack == [("styles/ink.safetensors", 0.8, 0.8), ("face.safetensors", -0.5, 0.25)]
    assert (stack[0].hash, stack[1].blocks) == ("abc", "te=0")


@pytest.mark.parametrize("value", [None, "", "  ", {}, {"v": 1}, [], {"v": 1, "rows": []}])
def test_nothing_is_an_empty_stack(value: Any) -> None:
    assert parse_rows(value) == []


@pytest.mark.parametrize(
    "value, message",
    [
        (7, "rows: expected {'v': 1, 'rows': [...]}, found int."),
        ({"v": 2, "rows": []}, "rows: version 2 is unknown to this LoRA Core; update it (it knows version 1)."),
        ({"v": 1, "rows": {}}, "rows: expected {'v': 1, 'rows': [...]}, found dict."),
        (["a"], "rows: row 1 must be an object with a name, found 'a'."),
        ([{"name": 3}], "rows: row 1: name must be text, found 3."),
        ([{"name": "a"}, {"name": "b", "strength": "x"}], "rows: row 2: strength must be a number, found 'x'."),
        ([{"name": "a", "strength": True}], "rows: row 1: strength must be a number, found True."),
        ([{"name": "a", "strength": 1e308}], "rows: row 1: strength must be within -100 and 100, found 1e+308."),
        ([{"name": "a", "strength_clip": "nan"}], "rows: row 1: strength must be within -100 and 100, found 'nan'."),
    ],
)
def test_refusals(value: Any, message: str) -> None:
    with pytest.raises(OptionError) as error:
        parse_rows(value)
    assert str(error.value) == message


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "nonsense"])
def test_broken_json_is_named(text: str) -> None:
    with pytest.raises(OptionError, match="rows: not valid JSON"):
        parse_rows(text)


def test_too_many_rows() -> None:
    with pytest.raises(OptionError, match="rows: at most 2000, found 2001"):
        parse_rows([{"name": ""}] * 2_001)


def test_entry_is_three_fields_that_carry_more() -> None:
    entry = StackEntry("a", 1, 0.5, blocks="b", hash="h", path="p")
    name, strength_model, strength_clip = entry
    assert (name, strength_model, strength_clip) == ("a", 1.0, 0.5)
    for twin in (copy.copy(entry), copy.deepcopy(entry), pickle.loads(pickle.dumps(entry))):
        assert twin == entry
        assert (twin.blocks, twin.hash, twin.path) == ("b", "h", "p")


def test_joining_leaves_the_incoming_stack_as_it_is() -> None:
    foreign = [("a.safetensors", 1.0, 0.5), ("None", 1.0, 1.0)]
    before = list(foreign)
    joined = join_stacks(foreign, stack_of_one("b.safetensors", 2.0, 2.0))
    assert joined == [("a.safetensors", 1.0, 0.5), ("b.safetensors", 2.0, 2.0)]
    assert foreign == before
    assert joined is not foreign


@pytest.mark.parametrize("item", [("a", 1.0), ("a", 1.0, 1.0, 1.0), ("a", "high", 1.0)])
def test_a_foreign_entry_that_is_no_entry(item: Any) -> None:
    with pytest.raises(OptionError, match="lora_stack"):
        join_stacks([item], [])


@pytest.mark.parametrize("page", ["README.md", "web/docs/LoraCoreStack.md"])
def test_prompts_in_the_help_are_read(page: str) -> None:
    text = (samples.REPO / page).read_text("utf-8")
    prompts = [json.loads(found) for found in re.findall(r"```json\n(.*?)```", text, re.DOTALL)]
    read = [stack_of(parse_rows(prompt["inputs"]["rows"])) for prompt in prompts]
    assert read
    assert {entry[0] for entries in read for entry in entries} == {"styles/ink.safetensors"}


def test_a_whole_path_from_another_node_is_the_file(tmp_path: Path) -> None:
    outside = str(tmp_path / "outside.safetensors")
    (entry,) = join_stacks([(outside, 0.5, 0.5)], [])
    assert (entry, entry.path) == ((outside, 0.5, 0.5), outside)
    assert lora_text([entry]) == "<lora:outside:0.5>"
    (written,) = join_stacks([[outside, 0.5, 0.5]], [])
    assert (written, written.path) == ((outside, 0.5, 0.5), ""), "the text of a workflow gives lists, and opens no path"
    (own,) = join_stacks([], stack_of_one(outside, 0.5, 0.5))
    assert own.path == "", "what a user types is a name in ComfyUI's folders"


def test_text_of_a_stack() -> None:
    stack = [StackEntry("dir.v2/ink.safetensors", 0.8, 0.8), StackEntry("face", 1, 0.25)]
    assert lora_text(stack) == "<lora:dir.v2/ink:0.8> <lora:face:1:0.25>"
