"""Key lists of models without their weights: classes of diffusers and of ComfyUI, built on PyTorch's meta device."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests import manifests
from tests.manifests import SUFFIX


def diffusers(class_name: str, config: Path | None) -> dict[str, Any]:
    """Return the keys of a class of diffusers, with its defaults where the configuration says nothing."""
    import diffusers as library
    import torch

    values = _config(config)
    found = getattr(library, class_name, None)
    if found is None:
        sys.exit(f"diffusers {library.__version__} has no class {class_name}.")
    with torch.device("meta"):
        keys = _shapes(found.from_config(values).state_dict())
    return {"diffusers_class": class_name, "diffusers_config": values, "diffusers_keys": keys}


def host(folder: Path, class_name: str, config: Path) -> dict[str, Any]:
    """Return the keys of a model of ComfyUI, by its class in `supported_models` and what its detection would find."""
    _open_host(folder)
    import comfy.model_detection as detection  # pyright: ignore[reportMissingImports]
    import comfy.supported_models as models  # pyright: ignore[reportMissingImports]
    import torch

    values = _config(config)
    with torch.device("meta"):
        model = getattr(models, class_name)(dict(values)).get_model({}, device="meta")
        keys = model.diffusion_model.state_dict()
        again = detection.model_config_from_unet(keys, "")
    detected = type(again).__name__ if again else None
    if detected != class_name:
        sys.stderr.write(f"ComfyUI takes these keys for {detected}.\n")
    return {"comfy_class": class_name, "detected_class": detected, "config": values, "keys": _shapes(keys)}


def aliases(folder: Path, name: str) -> dict[str, Any]:
    """Return ComfyUI's own table, of its model for the key list in tests/data."""
    _open_host(folder)
    import comfy.lora  # pyright: ignore[reportMissingImports]
    import comfy.model_detection as detection  # pyright: ignore[reportMissingImports]
    import torch

    listed = manifests.checkpoint(name)
    with torch.device("meta"):
        keys = {key: torch.empty(shape) for key, shape in listed.keys.items()}
        config = detection.model_config_from_unet(keys, listed.prefix)
        if config is None:
            sys.exit(f"ComfyUI does not recognise the keys of tests/data/checkpoints/{name}{SUFFIX}.")
        model = config.get_model(keys, listed.prefix, device="meta")
    found = {name: plain(target) for name, target in comfy.lora.model_lora_keys_unet(model, {}).items()}
    shapes = {key: shape for key, shape in _shapes(model.state_dict()).items() if key.startswith("diffusion_model.")}
    return {"comfy_class": type(config).__name__, "aliases": found, "target_shapes": shapes}


def plain(target: Any) -> Any:
    """A target as JSON has it: a key, or [key, [dim, start, length] or null, a function's name]."""
    if isinstance(target, str):
        return target
    key, span, *functions = target
    return [key, list(span) if span else None, *(function.__name__ for function in functions)]


def _open_host(folder: Path) -> None:
    """Make ComfyUI's modules importable; it reads the command line, and would look for a GPU."""
    sys.path.insert(0, str(folder))
    sys.argv[1:] = ["--cpu"]
    import comfy.options  # pyright: ignore[reportMissingImports]

    comfy.options.enable_args_parsing()


def _config(path: Path | None) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(path.read_text("utf-8")) if path else {}
    return {name: value for name, value in values.items() if not name.startswith("_")}


def _shapes(tensors: Any) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in tensors.items()}
