"""Easy-Use's stack nodes. Facts: py/nodes/loaders.py (loraStack) and py/nodes/adapter.py (applyLoraStack) there."""

from __future__ import annotations

from ..model import Peer, RowValue, Values, row
from .slots import count_of, mode_of

_FIELDS = ("name", "strength", "model_strength", "clip_strength")
_MAX = 10


def _rows(values: Values) -> list[RowValue]:
    """The node's one toggle is a switch on every row."""
    slots = [f"lora_{slot}_{field}" for slot in range(1, _MAX + 1) for field in _FIELDS]
    named = values.named(["toggle", "mode", "num_loras", *slots])
    on = named.get("toggle") not in (False, None, "False")
    simple = mode_of(named, "mode") == "simple"
    rows: list[RowValue] = []
    for slot in range(1, count_of(named, "num_loras", _MAX) + 1):
        name = named.get(f"lora_{slot}_name") or "None"
        if name != "None":
            both, model, clip = (named.get(f"lora_{slot}_{field}", 1.0) for field in _FIELDS[1:])
            strengths = (both, None) if simple else (model, clip)
            rows.append(row(name, *strengths, on=on, where=f"slot {slot}"))
    return rows


PEERS = (
    Peer("easy loraStack", "stacker", "EasyLoraStack", ("LORA_STACK",), _rows, lora_stack="optional_lora_stack"),
    Peer("easy loraStackApply", "applier", "Easy Apply LoraStack", ("MODEL", "CLIP"), clip="optional_clip"),
)
