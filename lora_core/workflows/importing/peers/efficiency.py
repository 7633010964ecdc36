"""Efficiency Nodes' LoRA Stacker. Facts: efficiency_nodes.py there (TSC_LoRA_Stacker).

Slots beyond the count are hidden and have no effect: they are no rows.
"""

from __future__ import annotations

from ..model import Peer, RowValue, Values, row
from .slots import count_of, mode_of

_FIELDS = ("lora_name", "lora_wt", "model_str", "clip_str")
_MAX = 50


def _rows(values: Values) -> list[RowValue]:
    names = ["input_mode", "lora_count", *(f"{name}_{slot}" for slot in range(1, _MAX + 1) for name in _FIELDS)]
    named = values.named(names)
    simple = mode_of(named, "input_mode") == "simple"
    rows: list[RowValue] = []
    for slot in range(1, count_of(named, "lora_count", _MAX) + 1):
        name, both, model, clip = (
            named.get(f"{field}_{slot}", default)
            for field, default in zip(_FIELDS, ("None", 1.0, 1.0, 1.0), strict=True)
        )
        if name != "None":
            strengths = (both, None) if simple else (model, clip)
            rows.append(row(name, *strengths, on=True, where=f"slot {slot}"))
    return rows


PEERS = (Peer("LoRA Stacker", "stacker", "LoRA Stacker", ("LORA_STACK",), _rows, own_rows_first=True),)
