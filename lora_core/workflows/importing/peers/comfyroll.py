"""Comfyroll's LoRA nodes. Facts: nodes/nodes_lora.py there."""

from __future__ import annotations

from ..model import Peer, RowValue, Values, row

_FIELDS = ("switch", "lora_name", "model_weight", "clip_weight")
_SLOTS = range(1, 4)


def _stack_rows(values: Values) -> list[RowValue]:
    named = values.named([f"{field}_{slot}" for slot in _SLOTS for field in _FIELDS])
    return [
        row(name, named.get(f"model_weight_{slot}", 1.0), named.get(f"clip_weight_{slot}", 1.0),
            on=named.get(f"switch_{slot}") == "On", where=f"slot {slot}")
        for slot in _SLOTS
        if (name := named.get(f"lora_name_{slot}", "None")) != "None"
    ]  # fmt: skip


def _load_rows(values: Values) -> list[RowValue]:
    named = values.named(("switch", "lora_name", "strength_model", "strength_clip"))
    if named.get("lora_name", "None") == "None":
        return []
    strengths = named.get("strength_model", 1.0), named.get("strength_clip", 1.0)
    return [row(named["lora_name"], *strengths, on=named.get("switch") == "On", where="lora_name")]


PEERS = (
    Peer("CR LoRA Stack", "stacker", "\N{PILL} CR LoRA Stack", ("LORA_STACK", None), _stack_rows),
    Peer("CR Apply LoRA Stack", "applier", "\N{PILL} CR Apply LoRA Stack", ("MODEL", "CLIP", None)),
    Peer("CR Load LoRA", "loader", "\N{PILL} CR Load LoRA", ("MODEL", "CLIP", None), _load_rows),
)
