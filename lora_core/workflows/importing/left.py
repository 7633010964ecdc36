"""Nodes with LoRAs that a conversion leaves as they are: each is named, with the reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .model import FoundNode
from .wires import FROM_OUTSIDE

UNKNOWN = "LoRA Core reads no nodes of this type"
_WORD = re.compile(r"LoRA|LORA|LoRa|Lora|(?<![A-Za-z])lora|LyCORIS|(?<![A-Za-z])lycoris")  # not that of "color"
_TAG = re.compile(r"<(?:lora|lyco):", re.IGNORECASE)
# Loaders with a LoRA of their own, and which of their values it is; where the file does not name the values
_LORA_AT = {
    "Efficient Loader": 3, "easy fullLoader": 4, "easy a1111Loader": 3, "easy comfyLoader": 3, "easy fluxLoader": 2
}  # fmt: skip
_GROUP = re.compile(r"workflow[>/](.+)", re.DOTALL)
_OURS = "LoraCore"
_NONE = (None, "", "None", "none")


def holds_loras(node: FoundNode, is_listed: Callable[[Any], bool]) -> bool:
    """Return whether a node of others looks as if it loaded LoRAs, or held their names; `is_listed` knows the files."""
    if node.type.startswith(_OURS):
        return False
    named, listed = node.values.by_name, node.values.listed
    values = (*listed, *named.values())
    if any(isinstance(value, str) and (is_listed(value) or _TAG.search(value)) for value in values):
        return True
    if node.type in _LORA_AT:
        own = named.get("lora_name", listed[_LORA_AT[node.type]] if len(listed) > _LORA_AT[node.type] else None)
        return own not in _NONE
    names = [value for name, value in named.items() if is_lora_name(name) and isinstance(value, str)]
    if names and all(value in _NONE for value in names):
        return False
    return any(map(is_lora_name, (node.type, *named, *node.inputs)))


def is_lora_name(name: str) -> bool:
    """Return whether the name of a node's type or of an input speaks of LoRAs."""
    return _WORD.search(name.removesuffix("(LoraManager)")) is not None  # a pack, which has other nodes too


def wired_values(names: Iterable[str], node: FoundNode) -> str:
    """Return why a node with wired values stays."""
    inside = [name for name in names if node.wired[name].node == FROM_OUTSIDE]
    if inside:
        return f"{', '.join(inside)} comes from outside of its subgraph, and not as one value everywhere"
    return f"{', '.join(names)} is wired, and a row holds no wires"


def group_with_loras(node: FoundNode, groups: Mapping[str, Any]) -> str:
    """Return why a group node with LoRA nodes in it stays, or "" for any other node."""
    match = _GROUP.fullmatch(node.type)
    group = groups.get(match[1]) if match else None
    held = group.get("nodes") if isinstance(group, Mapping) else None
    inner = [one.get("type") for one in held if isinstance(one, Mapping)] if isinstance(held, list) else []
    loras = sorted({kind for kind in inner if isinstance(kind, str) and is_lora_name(kind)})
    if not loras:
        return ""
    return f"a group node with {', '.join(loras)} in it; open and save it in ComfyUI, which makes it a subgraph"
