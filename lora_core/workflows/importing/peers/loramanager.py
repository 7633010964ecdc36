"""LoRA Manager's loader and stacker. Facts: py/nodes/lora_loader.py, lora_stacker.py and utils.py there.

The list of LoRAs counts, not the text above it: their nodes read the list alone, and the two can differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ....errors import WorkflowError
from ..model import Peer, RowValue, Values, row
from ..text import rows_of_text


def _rows(values: Values) -> list[RowValue]:
    listed = _list_of(values)
    if listed is None:
        return rows_of_text(_text_of(values), "lora-manager").rows
    return [
        row(item.get("name"), item.get("strength", 1.0), item.get("clipStrength"), on=bool(item.get("active")),
            where=f"row {number}")
        for number, item in enumerate(listed, start=1)
        if not item.get("_isDummy")
    ]  # fmt: skip


def _list_of(values: Values) -> list[Mapping[str, Any]] | None:
    """Return the list of LoRAs: the only list among the widgets, which other versions have in another place."""
    candidates = [value for value in values.listed if isinstance(value, list)] or [values.by_name.get("loras")]
    found: Any = candidates[0]
    if isinstance(found, Mapping) and "__value__" in found:
        found = found["__value__"]
    if found is None:
        return None
    if not isinstance(found, list) or not all(isinstance(item, Mapping) for item in found):  # pyright: ignore
        raise WorkflowError(f"loras: expected a list of objects, found {str(found)[:60]!r}.")
    return found  # pyright: ignore[reportUnknownVariableType]


def _text_of(values: Values) -> str:
    texts = [value for value in values.listed if isinstance(value, str)] or [values.by_name.get("text")]
    return texts[0] if isinstance(texts[0], str) else ""


_IGNORES = ("text", "__lm_autocomplete_meta_text")

PEERS = (
    Peer(
        "Lora Loader (LoraManager)",
        "loader",
        "Lora Loader (LoraManager)",
        ("MODEL", "CLIP", "trigger_words", "lora_text"),
        _rows,
        ignores=_IGNORES,
    ),
    Peer(
        "Lora Stacker (LoraManager)",
        "stacker",
        "Lora Stacker (LoraManager)",
        ("LORA_STACK", "trigger_words", "lora_text"),
        _rows,
        ignores=_IGNORES,
    ),
)
