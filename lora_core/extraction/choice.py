"""Which models a node was given: a file or a wire for each side, or LoRAs for the tuned one."""

from __future__ import annotations

from typing import Any

from ..errors import OptionError
from ..options.shared import NO_FILE


def check_choice(base: str, tuned: str, model_base: Any, model_tuned: Any, lora_stack: Any) -> None:
    """Raise OptionError, saying what to choose or to connect, unless there is one of each side."""
    has_base = (base != NO_FILE) + (model_base is not None)
    if has_base == 0:
        raise OptionError("base: choose the checkpoint that was tuned, or connect model_base.")
    if has_base > 1:
        raise OptionError(f"base: both {base} and model_base are given; set base to None or disconnect model_base.")
    sides = {"tuned": tuned != NO_FILE, "model_tuned": model_tuned is not None, "lora_stack": lora_stack is not None}
    given = [name for name, is_there in sides.items() if is_there]
    if not given:
        raise OptionError("tuned: choose the tuned checkpoint, or connect model_tuned or lora_stack.")
    if len(given) > 1:
        raise OptionError(f"tuned: {' and '.join(given)} are given, and one of them is needed; leave the others out.")
    if lora_stack is not None and not lora_stack:
        raise OptionError("lora_stack: is empty; switch on at least one LoRA of the stack.")
