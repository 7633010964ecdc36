"""What the file says of itself: where it comes from, and what all its sources say alike."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ...library.words import words_in
from ...naming.dialects import Writing
from ...stack.opened import StackedLora
from ...writing.lorafile import kept_metadata, rank_metadata
from ...writing.model import ModelNames
from ...writing.peft import PeftModule, peft_metadata

COMBINED_FROM = "lora_core.combined_from"
_TRIGGERS = ("modelspec.trigger_phrase", "trained_words", "ss_trigger_words")
_NETWORK = ("ss_network_module", "ss_network_args", "ss_network_dim", "ss_network_alpha")


def combined_metadata(
    stack: Sequence[StackedLora],
    model: ModelNames,
    layers: Sequence[Mapping[str, Any]],
    alphas: Mapping[str, float] | None,
    modules: Sequence[PeftModule],
    method: Mapping[str, Any],
) -> dict[str, str]:
    """Return what all sources agree on, their trigger words, and what is true of the new file.

    `layers` are the report's, `alphas` those that are not the rank, None for a file without, `method` the method's
    name and numbers.
    """
    named = {"ss_base_model_version": model.id, "modelspec.architecture": f"{model.id}/lora"} if model.id else {}
    words = dict.fromkeys(word for item in stack for word in words_in(item.lora.metadata))
    ranks = {str(layer["name"]): int(layer["rank"]) for layer in layers if layer["rank"]}
    scales = None if alphas is None else [alphas.get(name, float(rank)) for name, rank in ranks.items()]
    return {
        **named,
        **_agreed([item.lora.metadata for item in stack]),
        **rank_metadata(ranks.values(), scales),
        **({"modelspec.trigger_phrase": ", ".join(words)} if words else {}),
        **(peft_metadata(modules) if modules else {}),
        COMBINED_FROM: json.dumps({"loras": [item.described() for item in stack], **method}),
    }


def peft_modules_of_layers(
    layers: Sequence[Mapping[str, Any]], writing: Writing, magnitudes: set[str]
) -> list[PeftModule]:
    """Return what PEFT's configuration tells of the report's layers; `magnitudes` are those that are DoRA."""
    biases = {layer["name"] for layer in layers if layer.get("param") == "bias"}
    return [
        PeftModule.of(
            layer["name"],
            layer["module"],
            writing.id,
            layer["rank"],
            has_magnitude=layer["name"] in magnitudes,
            has_bias=layer["name"] in biases,
        )
        for layer in layers
        if layer["rank"]
    ]


def _agreed(found: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return what is the same in all files, but for what describes their tensors."""
    first, *others = (kept_metadata(metadata) for metadata in found)
    same = {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}
    return {key: value for key, value in same.items() if key not in (*_TRIGGERS, *_NETWORK)}
