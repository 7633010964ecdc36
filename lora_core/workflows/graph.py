"""Workflow files as one flat list of nodes: the API format, and the editor's format as the page would queue it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import FileChangedError, FileFormatError, WorkflowError, about
from ..files.openfile import read_whole
from ..text import LONGEST_JSON, parse_json
from .bounds import check_size
from .flatten import flattened


@dataclass(frozen=True, slots=True)
class Link:
    """A wire: the node and the output slot that it comes from."""

    node: str
    slot: int


@dataclass(slots=True)
class GraphNode:
    """One node with its inputs by name: a value or a Link."""

    id: str
    type: str
    inputs: dict[str, Any] = field(default_factory=dict)


def read_json(path: str | os.PathLike[str]) -> Any:
    """Return what a workflow file holds, or standard input for `-`; raises WorkflowError for what is no JSON."""
    path = Path(path)
    name = name_of(path)
    try:
        return parse_json(_read_input() if is_standard_input(path) else read_whole(path, LONGEST_JSON, "a workflow"))
    except (FileFormatError, FileChangedError) as error:
        raise WorkflowError(str(error)) from error
    except (OSError, ValueError) as error:
        raise WorkflowError(f"{name}: not a workflow file: {error}.") from error


def _read_input() -> bytes:
    return sys.stdin.buffer.read(LONGEST_JSON + 1)  # one more than is read as JSON, so that more is refused


def is_standard_input(path: Path) -> bool:
    return str(path) == "-"


def name_of(path: Path) -> str:
    """Return what a workflow file is called in errors and reports."""
    return "standard input" if is_standard_input(path) else path.name


def prompt_of(data: Any, name: str) -> dict[str, Any]:
    """Return a workflow of either format as a prompt, without what is muted or bypassed. `name` stands in errors.

    Raises WorkflowError for what is no workflow.
    """
    if isinstance(data, Mapping) and isinstance(data.get("prompt"), Mapping):  # as POSTed to /prompt
        data = data["prompt"]
    check_size(data, name)
    try:
        if isinstance(data, Mapping) and isinstance(data.get("nodes"), list):
            return flattened(data)
    except WorkflowError as error:
        raise about(error, f"{name}: ") from error
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError, IndexError) as error:
        raise WorkflowError(f"{name}: a damaged workflow file: {error!r}.") from error
    if isinstance(data, Mapping) and data and all(_is_api_node(value) for value in data.values()):
        return {str(key): value for key, value in data.items()}
    raise WorkflowError(f"{name}: not a workflow file: expected ComfyUI's editor or API format.")


def graph_of(data: Any, name: str) -> dict[str, GraphNode]:
    """Return the nodes that a workflow of either format runs, by id; raises as `prompt_of`."""
    try:
        return {key: _api_node(key, value) for key, value in prompt_of(data, name).items()}
    except (TypeError, AttributeError) as error:
        raise WorkflowError(f"{name}: a damaged workflow file: {error!r}.") from error


def _is_api_node(value: Any) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get("class_type"), str)


def _api_node(node_id: str, value: Mapping[str, Any]) -> GraphNode:
    inputs = {name: _api_value(item) for name, item in value.get("inputs", {}).items()}
    return GraphNode(node_id, value["class_type"], inputs)


def _api_value(value: Any) -> Any:
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], (str, int)) and isinstance(value[1], int):
        return Link(str(value[0]), value[1])
    if isinstance(value, Mapping) and set(value) == {"__value__"}:
        return value["__value__"]
    return value
