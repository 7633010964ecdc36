"""What LoRA Core needs of a model that ComfyUI has loaded: its weights and patches, and the names that it knows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import comfy.lora
import comfy.model_management
import comfy.model_patcher
import comfy.utils
import torch
from comfy.patcher_extension import CallbacksMP
from comfy.weight_adapter.base import WeightAdapterBase

__all__ = [
    "WeightAdapterBase", "attribute", "forget_between_runs", "known_names", "load_models", "loaded_weights",
    "patched_shape", "patched_weight", "patcher_of", "unpacked_weight",
]  # fmt: skip


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


def unpacked_weight(model: Any, key: str, weight: Any) -> Any | None:
    """Return the fp32 values of one of `loaded_weights` that another pack holds as codes; None if it can't be had.

    A layer of ComfyUI-GGUF gives them by `get_weight`, tensors of other packs by `dequantize`. What is called is
    another pack's, and may fail in any way.
    """
    layer = comfy.utils.get_attr(model.model, key.rpartition(".")[0])
    ways = (lambda: layer.get_weight(weight, torch.float32), weight.dequantize)
    for way in ways:
        try:
            value = way()
        except Exception:  # noqa: BLE001
            continue
        is_whole = isinstance(value, torch.Tensor) and tuple(value.shape) == tuple(weight.shape)
        if is_whole and value.is_floating_point():
            return value.detach().to("cpu", torch.float32).as_subclass(torch.Tensor)
    return None


def patched_weight(model: Any, key: str, weight: Any) -> Any:
    """Return one of `loaded_weights` with its patches in fp32, not rounded, as the host does; itself without any."""
    if not weight.is_floating_point():
        value, patches = unpacked_weight(model, key, weight), model.patches.get(key)
        return weight.cpu() if value is None else comfy.lora.calculate_weight(patches, value, key) if patches else value
    patches, convert = model.patches.get(key), comfy.model_patcher.get_key_weight(model.model, key)[2]
    if patches is None and convert is None:
        return weight.cpu()
    value = comfy.model_management.cast_to_device(weight, torch.device("cpu"), torch.float32, copy=True)
    value = value if convert is None else convert(value, inplace=True)
    return comfy.lora.calculate_weight(patches, value, key) if patches else value


def patched_shape(model: Any, key: str, weight: Any) -> tuple[int, ...]:
    """Return the shape of `patched_weight`: a patch may pad it."""
    return tuple(comfy.lora.calculate_shape(model.patches.get(key, ()), weight, key))


def forget_between_runs(model: Any) -> None:
    """Have a patched model forget, before and after each of its runs, what it computed with other weights.

    HiDream-O1 keeps the keys and values of its prompt's tokens, and knows them again by the tokens alone.
    """
    if any(True for _ in _keepers(model)):
        for when in (CallbacksMP.ON_PRE_RUN, CallbacksMP.ON_CLEANUP):
            model.remove_callbacks_with_key(when, "lora_core")
            model.add_callback_with_key(when, "lora_core", _forget)


def _forget(model: Any) -> None:
    for module in _keepers(model):
        module.clear_kv_cache()


def _keepers(model: Any) -> Iterator[Any]:
    return (module for module in model.model.modules() if hasattr(type(module), "clear_kv_cache"))


def attribute(model: Any, path: str) -> Any:
    """Return what a dotted path names in a model."""
    return comfy.utils.get_attr(model, path)


def patcher_of(module: torch.nn.Module, like: Any) -> Any:
    """Return what loads and unloads a module of our own where the model of `like` is loaded, and counts its memory."""
    return comfy.model_patcher.ModelPatcher(module, like.load_device, like.offload_device)


def load_models(patchers: list[Any]) -> None:
    comfy.model_management.load_models_gpu(patchers)
