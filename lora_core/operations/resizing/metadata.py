"""What a resized file says of itself: kohya's metadata, and PEFT's configuration in the header and beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ...naming.dialects import split_dialect
from ...reading.loraconfig import PEFT_METADATA
from ...reading.lorafile import LoraFile
from ...text import json_object
from ...writing.lorafile import kept_metadata, rank_metadata
from ...writing.peft import PeftModule, by_component, packed_configs, ranks_config
from .layers import ResizedLayer

COMMENT = "ss_training_comment"
# What PEFT's configuration of any kind may say, and still is true of a LoRA
_COMMON = (
    *("base_model_name_or_path", "revision", "task_type", "auto_mapping", "inference_mode", "peft_version"),
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "modules_to_save"),
)
_OUTDATED = ("network_alpha", "alpha")  # beside lora_alpha, in some trainers' files


def resized_metadata(
    lora: LoraFile, written: Sequence[ResizedLayer], how: str, config: Mapping[str, Mapping[str, Any]]
) -> dict[str, str]:
    """Return the header of the output: what is still true of the input's, and the ranks and alphas of the layers.

    `how` is what was done, for people; `config` has PEFT's configurations by component, none if nobody needs them.
    """
    linear, kernels = _ranks(written, kernels=False), _ranks(written, kernels=True)
    with_alpha = [item for item in written if item.source.has_alpha]
    kept = kept_metadata(lora.metadata)
    fresh = rank_metadata(linear or kernels, [item.alpha for item in with_alpha] if with_alpha else None)
    if any(not item.source.is_lora and item.kind == "lora" for item in written):
        for name in ("ss_network_module", "ss_network_args"):  # a trainer's module of another kind
            kept.pop(name, None)
    elif "ss_network_args" in kept:
        kept["ss_network_args"] = _arguments(kept["ss_network_args"], written)
    comment = f"{how}; {kept[COMMENT]}" if kept.get(COMMENT) not in (None, "", "None") else how
    exact = {name: fresh[name] for name in ("ss_network_dim", "ss_network_alpha") if name in fresh}
    return {**fresh, **kept, **exact, COMMENT: comment, **(packed_configs(config) if config else {})}


def configs_of(lora: LoraFile, written: Sequence[ResizedLayer]) -> dict[str, dict[str, Any]]:
    """Return PEFT's configuration of every component, {} if the file had none and its tensors tell the scales."""
    found = lora.configs()
    bare = [item for item in written if not item.source.has_alpha and item.kind == "lora"]
    scaled = any(item.alpha != item.rank for item in bare)
    if not bare or not (found.beside or PEFT_METADATA in lora.metadata or found.is_peft or scaled):
        return {}
    header = json_object(lora.metadata.get(PEFT_METADATA, ""))
    left_out = {spec.module for spec in lora.adapters}.difference(item.source.module for item in written)
    result: dict[str, dict[str, Any]] = {}
    for name, modules in by_component(_module(item, lora) for item in bare).items():
        known = {**_true(_under(name, header)), **_true({} if name else found.beside)}
        result[name] = {**known, "peft_type": "LORA", **ranks_config(modules), "use_rslora": False}
        if "target_modules" in known and not left_out:  # what PEFT found them by, it finds them by again
            result[name]["target_modules"] = known["target_modules"]
    return result


def _under(component: str, header: Mapping[str, Any]) -> dict[str, Any]:
    prefix = f"{component}." if component else ""
    return {key.removeprefix(prefix): value for key, value in header.items() if key.startswith(prefix)}


def _true(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a configuration is true of the output, ranks and alphas apart."""
    is_lora = str(config.get("peft_type", "LORA")).endswith("LORA") and "lora_alpha" in config
    return {k: v for k, v in config.items() if (k not in _OUTDATED if is_lora else k in _COMMON)}


def _module(item: ResizedLayer, lora: LoraFile) -> PeftModule:
    name = item.source.module
    has_magnitude = item.source.spec.magnitude is not None
    return PeftModule.of(
        name, split_dialect(name)[1], lora.dialect, item.rank, alpha=item.alpha, has_magnitude=has_magnitude
    )


def _ranks(written: Sequence[ResizedLayer], *, kernels: bool) -> list[int]:
    return [item.rank for item in written if any(size > 1 for size in item.source.shape[2:]) is kernels]


def _arguments(text: str, written: Sequence[ResizedLayer]) -> str:
    """Return kohya's network arguments with the ranks that convolutions have now."""
    arguments = json_object(text)
    kernels = [item for item in written if any(size > 1 for size in item.source.shape[2:])]
    if "conv_dim" not in arguments or not kernels:
        return text
    fresh = rank_metadata([item.rank for item in kernels], [item.alpha for item in kernels])
    now = {"conv_dim": fresh["ss_network_dim"], "conv_alpha": fresh["ss_network_alpha"]}
    return json.dumps({**arguments, **now})
