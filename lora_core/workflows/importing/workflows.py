"""A whole workflow, or some of its nodes, converted; in either format."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from ...errors import WorkflowError
from ...options import TARGET, ImportTarget
from ...text import visible
from .editor import EditorGraph, Numbers, drop_promoted
from .exporter import Exporter
from .importer import Importer
from .model import Converted, FoundNode, Graph
from .names import Names
from .peers import PEERS
from .prompt import PromptGraph
from .safe import check_level, check_prompt, check_size

_TITLES = {peer.type: peer.title for peer in PEERS.values()} | {
    "LoraLoader": "Load LoRA",
    "LoraLoaderModelOnly": "LoraLoaderModelOnly",
    "LoraCoreLoad": "Load LoRA",
    "LoraCoreStack": "Stack LoRAs",
}


def convert_workflow(
    workflow: Mapping[str, Any],
    *,
    nodes: Iterable[int | str] | None = None,
    to: ImportTarget = "loracore",
    names: Iterable[str] | None = None,
    separator: str = "/",
) -> Converted:
    """Return `workflow`, in either format, with other packs' LoRA nodes as ours, or ours as built-in loaders.

    `nodes` are ids, "SUBGRAPH-ID:NODE-ID" inside a subgraph; None means all. `names` are the LoRA files that are there,
    to complete names without an ending; `separator` is what they hold on this system. The input is left as it is.
    Raises LoraError, naming node and type, for a workflow or a node that is damaged.
    """
    TARGET.check(to)
    check_size(workflow)
    if not isinstance(workflow, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise WorkflowError("workflow: expected ComfyUI's editor or API format.")
    data: dict[str, Any] = copy.deepcopy(dict(workflow))
    wanted = None if nodes is None else {str(node) for node in nodes}
    result, files = Converted(data), Names(names, separator)
    prompt = data.get("prompt") if isinstance(data.get("prompt"), dict) else data  # as POSTed to /prompt
    if isinstance(data.get("nodes"), list):
        _convert_editor(data, wanted, to, files, result)
    elif isinstance(prompt, dict) and prompt:
        check_prompt(prompt)
        _convert_level(PromptGraph(prompt, _TITLES), _choice(wanted, ""), to, files, result)
    else:
        raise WorkflowError("workflow: expected ComfyUI's editor or API format.")
    result.notes = list(dict.fromkeys(map(visible, result.notes)))
    return result


def has_peers(workflow: Any) -> bool:
    """Return whether a workflow of either format has LoRA nodes of other packs. Any JSON may be asked."""
    data = _mapping(workflow)
    subgraphs = _list(_mapping(data.get("definitions")).get("subgraphs"))
    listed = [node for level in (data, *subgraphs) for node in _list(_mapping(level).get("nodes"))]
    prompt = _mapping(data.get("prompt")) or data
    kinds = [_mapping(node).get("type") for node in listed]
    kinds += [_mapping(node).get("class_type") for node in prompt.values()]
    return any(isinstance(kind, str) and kind in PEERS for kind in kinds)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}  # pyright: ignore[reportUnknownVariableType]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []  # pyright: ignore[reportUnknownVariableType]


def _convert_editor(
    data: dict[str, Any], wanted: Collection[str] | None, to: ImportTarget, names: Names, result: Converted
) -> None:
    levels: list[tuple[str, dict[str, Any]]] = [("", data)]
    for inner in _list(_mapping(data.get("definitions")).get("subgraphs")):
        if not isinstance(inner, dict) or not isinstance(inner.get("id"), str):  # pyright: ignore
            raise WorkflowError("workflow: a subgraph's definition without an id.")
        levels.append((inner["id"], inner))
    numbers = Numbers()
    for level_id, level in levels:
        check_level(level, f"subgraph {level_id[:40]}" if level_id else "workflow")
        numbers.see(level)
    for level_id, level in levels:
        before = {str(node["id"]): node["type"] for node in level["nodes"]}
        _convert_level(EditorGraph(level, numbers), _choice(wanted, level_id), to, names, result)
        if level_id:
            drop_promoted(level_id, before, level, [other for _, other in levels], result.notes)
    for _, level in levels:
        numbers.tell(level)


def _convert_level(
    graph: Graph, wanted: Callable[[FoundNode], bool], to: ImportTarget, names: Names, result: Converted
) -> None:
    make = Importer if to == "loracore" else Exporter
    make(graph, names, result).convert(wanted)


def _choice(wanted: Collection[str] | None, level: str) -> Callable[[FoundNode], bool]:
    prefix = f"{level}:" if level else ""
    return lambda node: wanted is None or f"{prefix}{node.id}" in wanted
