"""LoRAs as ComfyUI's loaders with rows: nodes for the text encoder, nodes for the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .model import NodeId, WireSource
from .shapes import ROW, ROWS_ENCODER, ROWS_MODEL

MOST_ROWS = 20  # of one node


@dataclass(frozen=True, slots=True)
class Loader:
    """A node to be made: its type, its values, and the input and output that carry what it changes."""

    type: str
    values: dict[str, Any]
    socket: str


@dataclass(frozen=True, slots=True)
class LoadedRow:
    """One LoRA of those that are to be loaded, with its strengths."""

    name: str
    model: float
    clip: float
    on: bool = True


def row_loaders(rows: Sequence[LoadedRow], *, with_clip: bool) -> list[Loader]:
    """Return the nodes that load `rows` in order: those of the text encoder, if it is changed, before the model's."""
    parts = [rows[start : start + MOST_ROWS] for start in range(0, len(rows), MOST_ROWS)]
    encoders = parts if with_clip and any(one.clip for one in rows) else []
    return [
        *(Loader(ROWS_ENCODER, _values([(one.name, one.clip, one.on) for one in part]), "clip") for part in encoders),
        *(Loader(ROWS_MODEL, _values([(one.name, one.model, one.on) for one in part]), "model") for part in parts),
    ]


def _values(rows: Sequence[tuple[str, float, bool]]) -> dict[str, Any]:
    fields = [zip(ROW, one, strict=True) for one in rows]
    return {f"loras.{number}.{name}": value for number, row in enumerate(fields) for name, value in row}


def new_outputs(made: Sequence[tuple[Loader, NodeId]], clip: WireSource | None) -> dict[int, WireSource | None]:
    """Return where the MODEL and CLIP of Load LoRA come from when `made` stand for it."""
    last = {loader.socket: WireSource(node, 0) for loader, node in made}
    return {0: last["model"], 1: last.get("clip", clip)}
