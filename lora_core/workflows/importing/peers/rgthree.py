"""rgthree's loaders. Facts: py/power_lora_loader.py, py/lora_stack.py, src_web/comfyui/power_lora_loader.ts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..model import Peer, RowValue, Values, row

_SLOTS = range(1, 5)


def _power_rows(values: Values) -> list[RowValue]:
    """Whatever holds a `lora` is a row, in the editor's list as in the prompt's lora_N, which may have gaps."""
    return [
        row(item.get("lora"), item.get("strength", 1.0), item.get("strengthTwo"), on=bool(item.get("on")),
            where=f"row {number}")
        for number, item in enumerate(_power_items(values), start=1)
    ]  # fmt: skip


def _power_items(values: Values) -> Iterable[Mapping[str, Any]]:
    listed = values.listed or [value for key, value in values.by_name.items() if key.lower().startswith("lora_")]
    return [item for item in listed if isinstance(item, Mapping) and item.get("lora") is not None]


def _stack_rows(values: Values) -> list[RowValue]:
    named = values.named([f"{field}_{slot:02}" for slot in _SLOTS for field in ("lora", "strength")])
    return [
        row(name, named.get(f"strength_{slot:02}", 1.0), None, on=True, where=f"slot {slot}")
        for slot in _SLOTS
        if (name := named.get(f"lora_{slot:02}", "None")) != "None"
    ]


PEERS = (
    Peer(
        "Power Lora Loader (rgthree)",
        "loader",
        "Power Lora Loader (rgthree)",
        ("MODEL", "CLIP"),
        _power_rows,
        ignores=("PowerLoraLoaderHeaderWidget",),
    ),
    Peer("Lora Loader Stack (rgthree)", "loader", "Lora Loader Stack (rgthree)", ("MODEL", "CLIP"), _stack_rows),
)
