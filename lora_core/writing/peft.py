"""PEFT's configuration of a LoRA: in a file beside the weights, or in their metadata."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import OutputError
from ..files.private import without_paths
from ..files.temporary import write_text
from ..reading.loraconfig import CONFIG_NAME, PEFT_METADATA
from ..report import Report, described_file

PEFT_FILE = "adapter_model.safetensors"  # beside it belongs a configuration


@dataclass(frozen=True, slots=True)
class PeftModule:
    """A LoRA that a PEFT configuration must tell of."""

    component: str  # `transformer`, `text_encoder`, …; empty in PEFT's own files
    module: str
    rank: int
    alpha: float
    has_magnitude: bool
    has_bias: bool

    @classmethod
    def of(
        cls,
        name: str,
        module: str,
        dialect: str,
        rank: int,
        *,
        alpha: float | None = None,
        has_magnitude: bool = False,
        has_bias: bool = False,
    ) -> PeftModule:
        """Take a module's whole name and its own; what stands before that is what diffusers calls the model.

        PEFT's files are for one model, which they do not name. Without an `alpha` it is the rank.
        """
        component = "" if dialect == "peft" else name.removesuffix(module).removesuffix(".")
        scale = rank if alpha is None else alpha
        return cls(component, module, rank, int(scale) if scale == int(scale) else scale, has_magnitude, has_bias)

    @property
    def target(self) -> str:
        """Its name in a configuration; PEFT compares ends, and transformers 5 has no `text_model.` level in some
        encoders."""
        return self.module.removeprefix("text_model.")

    @property
    def pattern(self) -> str:
        """A pattern for exactly this module: PEFT compares the ends of names otherwise."""
        return self.target if self.component.startswith("text_encoder") else f"^{self.module}"


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


def by_component(modules: Iterable[PeftModule]) -> dict[str, list[PeftModule]]:
    """Return the modules of each model."""
    components: dict[str, list[PeftModule]] = {}
    for module in modules:
        components.setdefault(module.component, []).append(module)
    return components


def peft_metadata(modules: Iterable[PeftModule]) -> dict[str, str]:
    """Return the header's entry for diffusers: the configuration of every component."""
    return packed_configs({name: _peft_config(items) for name, items in by_component(modules).items()})


def packed_configs(configs: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return the header's entry of configurations by component."""
    packed = {f"{name}.{key}" if name else key: value for name, item in configs.items() for key, value in item.items()}
    return {PEFT_METADATA: json.dumps(packed, indent=2, sort_keys=True)}


def ranks_config(modules: Sequence[PeftModule]) -> dict[str, Any]:
    """Return what a LoraConfig must say of one model: exceptions from the commonest rank and alpha by name."""
    rank = Counter(module.rank for module in modules).most_common(1)[0][0]
    alpha = Counter(module.alpha for module in modules).most_common(1)[0][0]
    return {
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {item.pattern: item.rank for item in modules if item.rank != rank},
        "alpha_pattern": {item.pattern: item.alpha for item in modules if item.alpha != alpha},
        "target_modules": sorted(item.target for item in modules),
        "use_dora": any(item.has_magnitude for item in modules),
    }


def _peft_config(modules: Sequence[PeftModule]) -> dict[str, Any]:
    return {**ranks_config(modules), "lora_bias": any(item.has_bias for item in modules)}


def peft_file_config(modules: Sequence[PeftModule], all_modules: Iterable[str]) -> str:
    """Return the text of PEFT's adapter_config.json; `all_modules` are the model's."""
    targets = {item.module for item in modules}
    others = {name for name in all_modules if name not in targets and _ends_in(name, targets)}
    return config_text(
        {
            **_peft_config(modules),
            **({"exclude_modules": sorted(others)} if others else {}),
            "peft_type": "LORA",
            "task_type": None,
            "base_model_name_or_path": None,
            "inference_mode": True,
            "bias": "none",
            "use_rslora": False,
        }
    )


def config_text(config: Mapping[str, Any]) -> str:
    """Return the text of a configuration's file."""
    return json.dumps(config, indent=2, sort_keys=True) + "\n"


def _ends_in(name: str, targets: set[str]) -> bool:
    tokens = name.split(".")
    return any(".".join(tokens[place:]) in targets for place in range(1, len(tokens)))
