"""What a resized file says of itself: kohya's metadata, and PEFT's configuration in the header and beside it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ...naming.dialects import split_dialect
from ...reading.loraconfig import PEFT_METADATA
from ...reading.lorafile import LoraFile
from ...text import json_object
from ...writing.lorafile import kept_metadata, rank_metadata
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
    return {**fresh, **kept, **exact, COMMENT: comment, **_packed(config)}


def configs_of(lora: LoraFile, written: Sequence[ResizedLayer]) -> dict[str, dict[str, Any]]:
    """Return PEFT's configuration of every component, {} if the file had none and its tensors tell the scales."""
    found = lora.configs()
    bare = [item for item in written if not item.source.has_alpha and item.kind == "lora"]
    scaled = any(item.alpha != item.rank for item in bare)
    if not bare or not (found.beside or PEFT_METADATA in lora.metadata or found.is_peft or scaled):
        return {}
    components: dict[str, list[ResizedLayer]] = {}
    for item in bare:
        components.setdefault(_component(item, lora), []).append(item)
    header = json_object(lora.metadata.get(PEFT_METADATA, ""))
    left_out = {spec.module for spec in lora.adapters}.difference(item.source.module for item in written)
    result: dict[str, dict[str, Any]] = {}
    for name, items in components.items():
        known = {**_true(_under(name, header)), **_true({} if name else found.beside)}
        result[name] = {**known, **_config(items)}
        if "target_modules" in known and not left_out:  # what PEFT found them by, it finds them by again
            result[name]["target_modules"] = known["target_modules"]
    return result


def config_text(config: Mapping[str, Any]) -> str:
    """Return the text of PEFT's adapter_config.json."""
    return json.dumps({"peft_type": "LORA", **config}, indent=2, sort_keys=True) + "\n"


def _component(item: ResizedLayer, lora: LoraFile) -> str:
    """Return what diffusers calls the model of a layer; PEFT's own files are for one model."""
    prefix = split_dialect(item.source.module)[0].prefix.removesuffix(".")
    return "" if lora.dialect == "peft" else prefix


def _under(component: str, header: Mapping[str, Any]) -> dict[str, Any]:
    prefix = f"{component}." if component else ""
    return {key.removeprefix(prefix): value for key, value in header.items() if key.startswith(prefix)}


def _true(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a configuration is true of the output, ranks and alphas apart."""
    is_lora = str(config.get("peft_type", "LORA")).endswith("LORA") and "lora_alpha" in config
    return {k: v for k, v in config.items() if (k not in _OUTDATED if is_lora else k in _COMMON)}


def _config(items: Sequence[ResizedLayer]) -> dict[str, Any]:
    """Return what a LoraConfig must say of these layers, exceptions from the commonest rank and alpha by name."""
    rank, alpha = (Counter(values).most_common(1)[0][0] for values in _numbers(items))
    return {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {_pattern(item): item.rank for item in items if item.rank != rank},
        "alpha_pattern": {_pattern(item): _whole(item.alpha) for item in items if _whole(item.alpha) != alpha},
        "target_modules": sorted(_target(item) for item in items),
        "use_rslora": False,
        "use_dora": any(item.source.spec.magnitude is not None for item in items),
    }


def _numbers(items: Sequence[ResizedLayer]) -> tuple[list[float], list[float]]:
    return [item.rank for item in items], [_whole(item.alpha) for item in items]


def _whole(number: float) -> float:
    return int(number) if number == int(number) else number


def _target(item: ResizedLayer) -> str:
    """Return a module's name; PEFT compares ends, and transformers 5 has no `text_model.` level in some encoders."""
    return split_dialect(item.source.module)[1].removeprefix("text_model.")


def _pattern(item: ResizedLayer) -> str:
    """Return a pattern for exactly this module: PEFT compares the ends of names otherwise."""
    dialect, rest = split_dialect(item.source.module)
    return _target(item) if dialect.prefix.startswith("text_encoder") else f"^{rest}"


def _packed(config: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    if not config:
        return {}
    packed = {f"{name}.{key}" if name else key: value for name, item in config.items() for key, value in item.items()}
    return {PEFT_METADATA: json.dumps(packed, indent=2, sort_keys=True)}


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
