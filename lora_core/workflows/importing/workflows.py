"""A whole workflow, or some of its nodes, converted; in either format."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any

from ...errors import WorkflowError
from ...options import TARGET, ImportTarget
from ...text import visible
from ..flatten import Flat
from .editor import EditorGraph, Given, Numbers
from .exporter import Exporter
from .face import drop_proxies, drop_unused, hosts_of, used_inputs
from .importer import Importer
from .model import Converted, FoundNode, Graph
from .names import Names
from .peers import PEERS
from .prompt import PromptGraph
from .safe import plain_copy, set_aside_of_level, set_aside_of_prompt

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
    """Return `workflow`, in either format, with other packs' LoRA nodes as ours, or ours as ComfyUI's own loaders.

    `nodes` are ids, "SUBGRAPH-ID:NODE-ID" inside a subgraph; None means all. `names` are the LoRA files that are there,
    to complete names without an ending; `separator` is what they hold on this system. The input is left as it is.
    Raises LoraError, naming node and type, for a workflow or a node that is damaged.
    """
    TARGET.check(to)
    data: dict[str, Any] = plain_copy(workflow)
    if not isinstance(data, dict):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise WorkflowError("workflow: expected ComfyUI's editor or API format.")
    wanted = None if nodes is None else {str(node) for node in nodes}
    result, files = Converted(data), Names(names, separator)
    prompt = data.get("prompt") if isinstance(data.get("prompt"), dict) else data  # as POSTed to /prompt
    if isinstance(data.get("nodes"), list):
        _convert_editor(data, wanted, to, files, result)
    elif isinstance(prompt, dict) and prompt:
        aside = set_aside_of_prompt(prompt, result.notes)
        _convert_level(PromptGraph(prompt, _TITLES, aside.prompt), _choice(wanted, ""), to, files, result)
        aside.put_back(prompt)
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
    levels: dict[str, dict[str, Any]] = {"": data}
    for inner in _list(_mapping(data.get("definitions")).get("subgraphs")):
        if not isinstance(inner, dict) or not isinstance(inner.get("id"), str):
            raise WorkflowError("workflow: a subgraph's definition without an id.")
        levels[inner["id"]] = inner
    numbers = Numbers()
    asides = [
        set_aside_of_level(level, f"subgraph {level_id[:40]}" if level_id else "workflow", result.notes)
        for level_id, level in levels.items()
    ]
    for level, aside in zip(levels.values(), asides, strict=True):
        numbers.see(level, aside.nodes)
    _convert_levels(levels, numbers, wanted, to, names, result)
    for level, aside in zip(levels.values(), asides, strict=True):
        numbers.tell(level)
        aside.put_back(level)


def _convert_levels(
    levels: dict[str, dict[str, Any]],
    numbers: Numbers,
    wanted: Collection[str] | None,
    to: ImportTarget,
    names: Names,
    result: Converted,
) -> None:
    flat = Flat(copy.deepcopy(levels[""]))
    types = {level_id: {str(node["id"]): node["type"] for node in level["nodes"]} for level_id, level in levels.items()}
    hosts = hosts_of(levels)
    used = {level_id: used_inputs(level) for level_id, level in levels.items()}
    for level_id, level in levels.items():
        given: Given = partial(flat.given, level_id) if level_id else lambda node: {}
        _convert_level(EditorGraph(level, numbers, given), _choice(wanted, level_id), to, names, result)
        now = {str(node["id"]): node["type"] for node in level["nodes"]}
        gone = [node for node, kind in types[level_id].items() if now.get(node) != kind]
        drop_proxies(hosts, level_id, gone, result.notes)
    drop_unused(levels, hosts, used, flat, result.notes)


def _convert_level(
    graph: Graph, wanted: Callable[[FoundNode], bool], to: ImportTarget, names: Names, result: Converted
) -> None:
    if to == "loracore":
        groups = _mapping(_mapping(result.workflow.get("extra")).get("groupNodes"))
        Importer(graph, names, result, groups).convert(wanted)
    else:
        Exporter(graph, names, result, with_rows=to == "builtin-rows").convert(wanted)


def _choice(wanted: Collection[str] | None, level: str) -> Callable[[FoundNode], bool]:
    prefix = f"{level}:" if level else ""
    return lambda node: wanted is None or f"{prefix}{node.id}" in wanted
