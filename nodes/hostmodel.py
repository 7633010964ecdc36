"""What LoRA Core needs of a model that ComfyUI has loaded: its weights, with and without patches, and their names."""

from __future__ import annotations

from typing import Any

import comfy.lora
import comfy.model_management
import comfy.model_patcher
import torch
from comfy.weight_adapter.base import WeightAdapterBase

__all__ = ["WeightAdapterBase", "known_names", "loaded_weights", "patched_shape", "patched_weight"]


def known_names(model: Any, encoder: Any | None) -> dict[str, tuple[str, int | None, int | None, bool]]:
    """Return every module name that the host's own loader accepts: name -> (key, first row, rows, halves swapped)."""
    names: dict[str, Any] = comfy.lora.model_lora_keys_unet(model, {})
    if encoder is not None:
        names = {**names, **comfy.lora.model_lora_keys_clip(encoder, {})}
    return {name: _target(where) for name, where in names.items()}


def _target(where: Any) -> tuple[str, int | None, int | None, bool]:
    """Read the host's way to name a weight: its key, or (key, (dimension, start, length) or None, function)."""
    if isinstance(where, str):
        return where, None, None, False
    key, span, *function = where
    start, length = (span[1], span[2]) if span else (None, None)
    return key, start, length, bool(function)


def loaded_weights(model: Any) -> dict[str, Any]:
    """Return a loaded model's weights as they are without any patch, in the order of its state dict; not copied."""
    root = model.model
    named = {**dict(root.named_parameters()), **dict(root.named_buffers())}  # no codes and scales, which stand for one
    backups = {key: item.weight for key, item in model.backup.items()}
    backups |= {key: item[0] for key, item in model.hook_backup.items()}
    return {key: backups.get(key, named[key]).detach() for key in root.state_dict() if key in named}


def patched_weight(model: Any, key: str, weight: Any) -> Any:
    """Return one of `loaded_weights` with its patches in fp32, not rounded, as the host does; itself without any."""
    patches, convert = model.patches.get(key), comfy.model_patcher.get_key_weight(model.model, key)[2]
    if patches is None and convert is None:
        return weight.cpu()
    value = comfy.model_management.cast_to_device(weight, torch.device("cpu"), torch.float32, copy=True)
    value = value if convert is None else convert(value, inplace=True)
    return comfy.lora.calculate_weight(patches, value, key) if patches else value


def patched_shape(model: Any, key: str, weight: Any) -> tuple[int, ...]:
    """Return the shape of `patched_weight`: a patch may pad it."""
    return tuple(comfy.lora.calculate_shape(model.patches.get(key, ()), weight, key))
