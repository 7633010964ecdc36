"""Stack LoRAs in a real ComfyUI: every spelling of the rows, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.host_fixtures import write_lora
from tests.host_server import PromptRejectedError, Server

ROWS = {
    "v": 1,
    "rows": [
        {"on": True, "name": "styles/ink.safetensors", "strength": 0.8, "strength_clip": None, "blocks": ""},
        {"on": False, "name": "styles/pastel.safetensors", "strength": 1.0},
        {"on": True, "name": "detail.safetensors", "strength": -0.5, "strength_clip": 0.25, "unknown": [1, 2]},
    ],
}
TEXT = "<lora:styles/ink:0.8> <lora:detail:-0.5:0.25>"


def stack_prompt(*stacks: dict[str, Any], output: int = 1) -> dict[str, Any]:
    """Return a prompt of chained stack nodes, the last one's output shown by node 'show'."""
    prompt: dict[str, Any] = {}
    for index, inputs in enumerate(stacks):
        chained = {"lora_stack": [str(index - 1), 0]} if index else {}
        prompt[str(index)] = {"class_type": "LoraCoreStack", "inputs": {**inputs, **chained}}
    prompt["show"] = {"class_type": "PreviewAny", "inputs": {"source": [str(len(stacks) - 1), output]}}
    return prompt


@pytest.mark.parametrize(
    "inputs, text",
    [
        pytest.param({"rows": ROWS}, TEXT, id="object"),
        pytest.param({"rows": json.dumps(ROWS)}, TEXT, id="json"),
        pytest.param({"rows": {"__value__": ROWS["rows"]}}, TEXT, id="wrapped-list"),
        pytest.param({"rows": None}, "", id="none"),
        pytest.param({}, "", id="absent"),
        pytest.param({"rows": {"v": 1, "rows": []}}, "", id="empty"),
        pytest.param(
            {"rows": {"v": 1, "rows": [{"name": "styles\\ink.safetensors"}]}}, "<lora:styles/ink:1>", id="backslash"
        ),
    ],
)
def test_text_of_rows(server: Server, inputs: dict[str, Any], text: str) -> None:
    run = server.run(stack_prompt(inputs))
    assert (run.status, run.error) == ("success", "")
    assert run.text("show") == text
    assert run.text("0") == text


def test_incoming_stack_comes_first(server: Server) -> None:
    first = {"rows": {"v": 1, "rows": [{"name": "detail.safetensors", "strength": 0.5}]}}
    run = server.run(stack_prompt(first, {"rows": ROWS}))
    assert run.text("show") == "<lora:detail:0.5> " + TEXT


def test_stack_is_a_list_of_three_fields(server: Server) -> None:
    run = server.run(stack_prompt({"rows": ROWS}, output=0))
    assert json.loads(run.text("show")) == [["styles/ink.safetensors", 0.8, 0.8], ["detail.safetensors", -0.5, 0.25]]


def test_trigger_words_of_the_files(server: Server) -> None:
    assert server.run(stack_prompt({"rows": ROWS}, output=2)).text("show") == "inkwash"


@pytest.mark.case(34)
@pytest.mark.parametrize(
    "rows, message",
    [
        pytest.param({"v": 1, "rows": [{"name": "gone.safetensors"}]}, "gone.safetensors: no such file", id="missing"),
        pytest.param({"v": 9, "rows": []}, "version 9", id="newer"),
        pytest.param("not json", "not valid JSON", id="text"),
        pytest.param({"v": 1, "rows": [{"name": "a", "strength": "high"}]}, "row 1: strength", id="strength"),
        pytest.param({"v": 1, "rows": [{"name": "../../x.safetensors"}]}, "no such file", id="traversal"),
        pytest.param(
            {"v": 1, "rows": [{"name": "styles/ink.safetensors", "strength": 1e308}]}, "row 1: strength", id="huge"
        ),
        pytest.param(
            '{"v": 1, "rows": [{"name": "a", "strength": NaN}]}',
            "row 1: strength must be within -100 and 100, found nan",
            id="nan",
        ),
        pytest.param({"v": 1, "rows": [{"name": ""}] * 100_001}, "rows: at most 2000, found 100001", id="many"),
    ],
)
def test_refused_before_the_run(server: Server, rows: Any, message: str) -> None:
    with pytest.raises(PromptRejectedError) as refused:
        server.run(stack_prompt({"rows": rows}))
    details = [error["details"] for node in refused.value.errors.values() for error in node["errors"]]
    assert any(message in detail for detail in details), details


def test_a_stack_written_into_a_prompt_opens_no_path(server: Server, tmp_path: Path) -> None:
    inside = server.models / "loras" / "styles" / "ink.safetensors"
    outside = Path(shutil.copy(inside, tmp_path / "outside.safetensors"))
    run = server.run(stack_prompt({"lora_stack": {"__value__": [[str(inside), 1, 1]]}}, output=0))
    assert json.loads(run.text("show")) == [["styles/ink.safetensors", 1, 1]]
    run = server.run(stack_prompt({"lora_stack": {"__value__": [[str(outside), 1, 1]]}}))
    assert run.status == "error"
    assert "no such file in the loras folders" in run.error


def test_missing_file_in_a_row_that_is_off_is_no_error(server: Server) -> None:
    run = server.run(stack_prompt({"rows": {"v": 1, "rows": [{"on": False, "name": "gone.safetensors"}]}}))
    assert run.text("show") == ""


def test_runs_again_only_when_the_file_changed(server: Server) -> None:
    write_lora(server, "changing.safetensors")
    prompt = stack_prompt({"rows": {"v": 1, "rows": [{"name": "changing.safetensors"}]}})
    assert "0" not in server.run(prompt).cached
    assert "0" in server.run(prompt).cached
    path = server.models / "loras" / "changing.safetensors"
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**9))
    assert "0" not in server.run(prompt).cached
