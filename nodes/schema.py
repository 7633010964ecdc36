"""Builds ComfyUI's io.Schema from the declaration of a node in lora_core.options."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

from ..lora_core.options import Node, Option, Socket
from ..lora_core.options.shared import NO_FILE
from .host import io, lora_names, model_names, ui

CATEGORY = "LoRA Core"
ROWS_TYPE = "LORACORE_ROWS"

SOCKETS = {
    "MODEL": io.Model,
    "CLIP": io.Clip,
    "STRING": io.String,
    "IMAGE": io.Image,
    "FLOAT": io.Float,
    "LORA_STACK": io.Custom("LORA_STACK"),
    "LORA_MODEL": io.Custom("LORA_MODEL"),
}


def schema_of(node: Node) -> io.Schema:
    """Return the schema of `node`. The host calls this at every refresh of its page, so file lists are fresh."""
    return _known_only(
        io.Schema,
        {field.name for field in dataclasses.fields(io.Schema)},
        node_id=node.id,
        display_name=node.display_name,
        category=CATEGORY,
        description=node.description,
        inputs=[_input(item) for item in node.inputs],
        outputs=[_output(socket) for socket in node.outputs],
        is_output_node=node.is_output,
        search_aliases=list(node.search_aliases),
        # the report under the node then comes back with a cached result, as for output nodes
        has_intermediate_output=not node.is_output,
    )


def _input(item: Option | Socket) -> Any:
    if isinstance(item, Socket):
        # a number without a widget, which would stand below the rows
        bare = {"force_input": True} if item.type == "FLOAT" else {}
        return _make(SOCKETS[item.type], item.name, tooltip=item.help, optional=item.optional, **bare)
    return _WIDGETS[item.type](item)


def _output(socket: Socket) -> Any:
    # ComfyUI up to 0.7.0 refuses an output with the id of an input; nothing outside the schema sees this id
    return SOCKETS[socket.type].Output(f"{socket.name}_out", display_name=socket.name, tooltip=socket.help)


def _make(io_type: Any, name: str, **kwargs: Any) -> Any:
    return _known_only(io_type.Input, set(inspect.signature(io_type.Input).parameters), name, **kwargs)


def _known_only(make: Any, known: set[str], *args: Any, **kwargs: Any) -> Any:
    """Call `make` without the keywords that this version of the host doesn't know; one unknown one drops the pack."""
    return make(*args, **{key: value for key, value in kwargs.items() if key in known})


def _common(option: Option) -> dict[str, Any]:
    more = {"optional": True} if option.optional else {}
    return {"default": option.default, "tooltip": option.help, "advanced": option.advanced or None, **more}


def _number(option: Option) -> Any:
    io_type, to_number = (io.Float, float) if option.type == "FLOAT" else (io.Int, int)
    limits = {"min": option.low, "max": option.high, "step": option.step}
    numbers = {key: to_number(value) for key, value in limits.items() if value is not None}
    # without a word the page draws a new number after each run for an input named seed
    more = {"control_after_generate": False} if option.type == "INT" else {}
    return _make(io_type, option.name, **_common(option), **numbers, **more)


def _combo(option: Option, choices: list[str]) -> Any:
    return _make(io.Combo, option.name, options=choices, **_common(option))


def _rows(option: Option) -> Any:
    # Optional, so that a prompt without rows runs. The file names travel in the schema because the page asks for
    # the schemas again when the user refreshes.
    extra = {"socketless": True, "loras": lora_names(), "tooltip": option.help}
    return _make(io.Custom(ROWS_TYPE), option.name, optional=True, extra_dict=extra)


_WIDGETS = {
    "FLOAT": _number,
    "INT": _number,
    "BOOLEAN": lambda option: _make(io.Boolean, option.name, **_common(option)),
    "STRING": lambda option: _make(io.String, option.name, **_common(option)),
    "NEW_FILE": lambda option: _make(io.String, option.name, **_common(option)),
    "COMBO": lambda option: _combo(option, list(option.choices)),
    "LORA_FILE": lambda option: _combo(option, [NO_FILE, *lora_names()]),
    "MODEL_FILE": lambda option: _combo(option, [*([NO_FILE] if option.default == NO_FILE else []), *model_names()]),
    "ROWS": _rows,
}


def shown(cls: type[io.ComfyNode], report: Any, *pictures: Any) -> dict[str, Any]:
    """Return the `ui` part of a node's output; the pictures are image tensors (1, height, width, 3)."""
    images = [image for picture in pictures for image in ui.PreviewImage(picture, cls=cls).as_dict()["images"]]
    found = {"text": (report.text(),), "report": (report.to_dict(),)}
    return {**found, "images": images, "animated": (False,)} if images else found
