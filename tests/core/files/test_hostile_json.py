"""JSON from strangers: whatever it holds, the answer is an error that names the file or input, never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

import lora_core
from lora_core.errors import OptionError, WorkflowError
from lora_core.stack.rows import parse_rows
from tests.core import samples

HOSTILE = {
    "deep lists": "[" * 100_000,
    "deep objects": '{"a":' * 100_000,
    "a number of 5000 digits": '{"nodes": [' + "1" * 5000 + "]}",
    "cut": '{"nodes": [',
    "a bare word": "nodes",
}


@pytest.mark.parametrize("case", HOSTILE)
def test_rows(case: str) -> None:
    text = samples.message(OptionError, lambda: parse_rows(HOSTILE[case]))
    assert text.startswith("rows: not valid JSON (")


@pytest.mark.parametrize("case", HOSTILE)
def test_a_workflow(tmp_path: Path, case: str) -> None:
    path = tmp_path / "workflow.json"
    path.write_text(HOSTILE[case])
    text = samples.message(WorkflowError, lambda: lora_core.run(path))
    assert text.startswith("workflow.json: not a workflow file: ")


def test_a_workflow_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "workflow.json"
    path.write_bytes(b"{\xc3\x28}")
    assert "workflow.json: not a workflow file: 'utf-8' codec" in samples.message(
        WorkflowError, lambda: lora_core.run(path)
    )
