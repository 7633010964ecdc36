"""PEFT's configuration of a LoRA: in a file beside the weights, or in their metadata."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import OutputError
from ..files.placing import write_text
from ..files.private import without_paths
from ..reading.loraconfig import CONFIG_NAME, PEFT_METADATA
from ..report import Report, described_file

PEFT_FILE = "adapter_model.safetensors"  # beside it belongs a configuration


@dataclass(frozen=True, slots=True)
class PeftModule:
    """A LoRA that a PEFT configuration must tell of."""

    component: str  # `transformer`, `text_encoder`, …; empty in PEFT's own files
    module: str
    rank: int
    has_magnitude: bool
    has_bias: bool


def component_of(name: str, module: str, dialect: str) -> str:
    """Return what diffusers calls the model that a name belongs to; PEFT's files are for one model."""
    return "" if dialect == "peft" else name.removesuffix(module).removesuffix(".")


def write_config(beside: Path, text: str, report: Report) -> None:
    """Write PEFT's configuration beside the file that it is for, and add it to the report's outputs."""
    path = beside.with_name(CONFIG_NAME)
    write_text(path, without_paths(text), overwrite=True)
    report.outputs.append(described_file(path))


def check_config(beside: Path, overwrite: bool) -> None:
    """Raise OutputError if the configuration must not be written."""
    path = beside.with_name(CONFIG_NAME)
    if path.exists() and not (overwrite and path.is_file()):
        raise OutputError(f"{path.name}: already exists beside {beside.name}; choose another folder or overwrite both.")


def peft_metadata(modules: Sequence[PeftModule]) -> dict[str, str]:
    """Return the header's entry for diffusers: the configuration of every component."""
    components = dict.fromkeys(module.component for module in modules)
    packed = {
        f"{component}.{key}" if component else key: value
        for component in components
        for key, value in peft_config([item for item in modules if item.component == component]).items()
    }
    return {PEFT_METADATA: json.dumps(packed, indent=2, sort_keys=True)}


def peft_config(modules: Sequence[PeftModule]) -> dict[str, Any]:
    """Return the LoraConfig of one model: alpha is the rank everywhere, as scales are folded into the factors."""
    rank = Counter(module.rank for module in modules).most_common(1)[0][0]
    pattern = {_pattern(item): item.rank for item in modules if item.rank != rank}
    return {
        "r": rank,
        "lora_alpha": rank,
        "rank_pattern": pattern,
        "alpha_pattern": dict(pattern),
        "target_modules": sorted(_target(item) for item in modules),
        "use_dora": any(item.has_magnitude for item in modules),
        "lora_bias": any(item.has_bias for item in modules),
    }


def peft_file_config(modules: Sequence[PeftModule], all_modules: Iterable[str]) -> str:
    """Return the text of PEFT's adapter_config.json; `all_modules` are the model's."""
    targets = {item.module for item in modules}
    others = {name for name in all_modules if name not in targets and _ends_in(name, targets)}
    config = {
        **peft_config(modules),
        **({"exclude_modules": sorted(others)} if others else {}),
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": None,
        "inference_mode": True,
        "bias": "none",
        "use_rslora": False,
    }
    return json.dumps(config, indent=2, sort_keys=True) + "\n"


def _target(item: PeftModule) -> str:
    """Return a module's name; PEFT compares ends, and transformers 5 has no `text_model.` level in some encoders."""
    return item.module.removeprefix("text_model.")


def _pattern(item: PeftModule) -> str:
    """Return a pattern for exactly this module: PEFT compares the ends of names otherwise."""
    return _target(item) if item.component.startswith("text_encoder") else f"^{item.module}"


def _ends_in(name: str, targets: set[str]) -> bool:
    tokens = name.split(".")
    return any(".".join(tokens[place:]) in targets for place in range(1, len(tokens)))
