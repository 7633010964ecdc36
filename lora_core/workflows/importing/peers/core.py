"""ComfyUI's own loaders with rows: one for the model, one for the text encoder. Facts: Comfy-Org/ComfyUI#16309.

A row is `loras.N.lora_name`, `.strength` and `.enabled`; numbers may be left out. The page saves them as one list: how
many rows there are, then the values of each. Load LoRA changes a model, so a text encoder's loader needs one beside it.
"""

from __future__ import annotations

import re
from typing import Any

from ..model import Peer, RowValue, Values, row
from ..shapes import ROW, ROWS_ENCODER, ROWS_MODEL, SHAPES

_FIELD = re.compile(rf"loras\.(\d{{1,4}})\.({'|'.join(ROW)})")
_EMPTY = (None, "", "None", "none")


def _model_rows(values: Values) -> list[RowValue]:
    return [
        row(one["lora_name"], one.get("strength", 1.0), 0.0, on=_is_on(one), where=f"row {number}")
        for number, one in _rows(values)
    ]


def _encoder_rows(values: Values) -> list[RowValue]:
    return [
        row(one["lora_name"], 0.0, one.get("strength", 1.0), on=_is_on(one), where=f"row {number}")
        for number, one in _rows(values)
    ]


def joined(model: list[RowValue], encoder: list[RowValue]) -> list[RowValue]:
    """Return the rows of two loaders as one list: the same LoRAs at both strengths, or one after the other."""
    if [(one["name"], one["on"]) for one in model] != [(one["name"], one["on"]) for one in encoder]:
        return [*model, *encoder]
    both = [(one, one["strength"], _clip(other)) for one, other in zip(model, encoder, strict=True)]
    return [{**one, "strength_clip": None if clip == strength else clip} for one, strength, clip in both]


def _clip(item: RowValue) -> float:
    return item["strength"] if item["strength_clip"] is None else item["strength_clip"]


def _rows(values: Values) -> list[tuple[int, dict[str, Any]]]:
    """Return (number, fields) of every row with a LoRA, in order."""
    found: dict[int, dict[str, Any]] = {}
    for value in values.listed[1:] if values.listed and _is_number(values.listed[0]) else values.listed:
        if isinstance(value, str) or value is None:
            found[len(found)] = {"lora_name": value}
        elif found:
            found[len(found) - 1]["enabled" if isinstance(value, bool) else "strength"] = value
    for name, value in values.by_name.items():
        if match := _FIELD.fullmatch(name):
            found.setdefault(int(match[1]), {})[match[2]] = value
    return [(number + 1, one) for number, one in sorted(found.items()) if one.get("lora_name") not in _EMPTY]


def _is_on(one: dict[str, Any]) -> bool:
    return one.get("enabled", True) is not False


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


MODEL = Peer(ROWS_MODEL, "loader", SHAPES[ROWS_MODEL].title, ("MODEL",), _model_rows)
ENCODER = Peer(ROWS_ENCODER, "encoder", SHAPES[ROWS_ENCODER].title, ("CLIP",), _encoder_rows)
PEERS = (MODEL, ENCODER)
