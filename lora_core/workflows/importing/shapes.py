"""The inputs, widgets and outputs of the nodes that a conversion makes: ours as declared, and ComfyUI's own loaders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...options import LOAD, STACK, Node, Option

BUILTIN, MODEL_ONLY = "LoraLoader", "LoraLoaderModelOnly"
ROWS_MODEL, ROWS_ENCODER = "LoadLoraModel", "LoadLoraTextEncoder"  # of newer versions; facts: Comfy-Org/ComfyUI#16309
ROW = ("lora_name", "strength", "enabled")


@dataclass(frozen=True, slots=True)
class Shape:
    """A node's type as the editor's format needs it."""

    title: str
    sockets: tuple[tuple[str, str, bool], ...]  # name, type, optional
    widgets: Mapping[str, Any]  # name -> default, in order
    outputs: tuple[tuple[str, str], ...]  # name, type
    row: tuple[str, ...] = ()  # the widgets of one row, of a node with rows of widgets

    def listed(self, widgets: Mapping[str, Any]) -> list[Any]:
        """Return the values of the widgets as the editor saves them: how many rows there are comes first."""
        values = list(widgets.values())
        return [len(values) // len(self.row), *values] if self.row else values

    def socket(self, name: str) -> int:
        return [socket[0] for socket in self.sockets].index(name)

    def output(self, name: str) -> int:
        return [output[0] for output in self.outputs].index(name)


def _declared(node: Node) -> Shape:
    sockets = [item for item in node.inputs if not isinstance(item, Option)]
    return Shape(
        node.display_name,
        tuple((socket.name, socket.type, socket.optional) for socket in sockets),
        {option.name: option.default for option in node.options},
        tuple((socket.name, socket.type) for socket in node.outputs),
    )


_MODEL, _CLIP = ("model", "MODEL", False), ("clip", "CLIP", False)
_NAME = {"lora_name": "None", "strength_model": 1.0}

SHAPES: dict[str, Shape] = {
    LOAD.id: _declared(LOAD),
    STACK.id: _declared(STACK),
    BUILTIN: Shape(
        "Load LoRA", (_MODEL, _CLIP), {**_NAME, "strength_clip": 1.0}, (("MODEL", "MODEL"), ("CLIP", "CLIP"))
    ),
    MODEL_ONLY: Shape("LoraLoaderModelOnly", (_MODEL,), _NAME, (("MODEL", "MODEL"),)),
    ROWS_MODEL: Shape("Load LoRA (Model)", (_MODEL,), {}, (("MODEL", "MODEL"),), ROW),
    ROWS_ENCODER: Shape("Load LoRA (Text Encoder)", (_CLIP,), {}, (("CLIP", "CLIP"),), ROW),
}
