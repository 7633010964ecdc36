"""How much of LoRA files ComfyUI's own loader takes. Run by ComfyUI's Python, in ComfyUI's folder, with --cpu.

Reads a JSON object from standard input: {"files": [{"path": ..., "aliases": {name: target}}]}, where the aliases are
what comfy.lora.model_lora_keys_unet and _clip return for the model; prints [tensors taken, tensors] for each file.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import comfy.options

comfy.options.enable_args_parsing()  # before the rest of ComfyUI looks for a GPU

import comfy.lora  # noqa: E402
import comfy.lora_convert  # noqa: E402
import comfy.utils  # noqa: E402


class _Dropped(logging.Handler):
    """Collects the names that the loader says it did not load."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        start = "lora key not loaded: "
        if record.getMessage().startswith(start):
            self.names.append(record.getMessage().removeprefix(start))


def taken(path: str, aliases: dict[str, Any]) -> tuple[int, int]:
    tensors = comfy.utils.load_torch_file(path, safe_load=True)
    targets = {name: target if isinstance(target, str) else _target(*target) for name, target in aliases.items()}
    dropped = _Dropped()
    logging.getLogger().addHandler(dropped)
    converted = comfy.lora_convert.convert_lora(dict(tensors))
    total = len(converted)
    try:
        comfy.lora.load_lora(converted, targets)
    except (KeyError, RuntimeError, ValueError) as error:  # what it can't load at all
        logging.getLogger().warning("%s: %s", path, error)
        dropped.names = list(converted)
    logging.getLogger().removeHandler(dropped)
    return total - len(dropped.names), total


def _target(key: str, span: list[int] | None, *_: Any) -> Any:
    return (key, tuple(span)) if span else key  # the function that swaps halves does not matter for counting


sys.stdout.write(json.dumps([taken(file["path"], file["aliases"]) for file in json.load(sys.stdin)["files"]]))
