"""What a LoRA file's header, or the adapter_config.json beside it, says of its adapters: alphas, above all.

Such text comes from strangers: it is read as data, bounded, and never trusted to be of the right type.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..errors import AdapterError
from ..files.adapterfolder import is_adapters_own
from ..naming.dialects import split_dialect
from ..text import json_object
from .patterns import ModulePattern, PatternError

# Keys that writers put into the safetensors header
PEFT_METADATA = "lora_adapter_metadata"  # diffusers: JSON of the LoraConfigs, keys prefixed by the component
KOHYA_ALPHA = "ss_network_alpha"
ALPHAS = ("lora_alpha", "network_alpha", "alpha")  # PEFT's LoRA; SimpleTuner and others; PEFT's LoHa and LoKr
CONFIG_NAME = "adapter_config.json"
_LARGEST_CONFIG = 1 << 20
_CHANGED_BASE = re.compile(r"(?i)(pissa|olora|corda|loftq)")  # initialisations that change the base weights

Source = Literal["tensor", "header", "adapter_config", "none"]


@dataclass(frozen=True, slots=True)
class Scale:
    """The factor alpha / rank of one adapter, and where alpha was found."""

    value: float
    source: Source
    alpha: float | None = None


@dataclass(slots=True)
class LoraConfigs:
    """All that the header and the configuration file say, asked by module name."""

    header: Mapping[str, Any] = field(default_factory=dict)
    beside: Mapping[str, Any] = field(default_factory=dict)  # adapter_config.json
    warnings: list[str] = field(default_factory=list)
    _patterns: dict[str, ModulePattern | None] = field(default_factory=dict)

    @classmethod
    def of(cls, path: Path, metadata: Mapping[str, str], *, has_folder: bool = True) -> LoraConfigs:
        """Read what belongs to the file, in its header and beside it.

        Raises AdapterError for a configuration that can't be applied.
        """
        # Some writers put PEFT's keys into the header itself, as text
        configs = cls({**metadata, **json_object(metadata.get(PEFT_METADATA, ""))})
        config = _config_path(path) if has_folder else None
        if config is not None:
            try:
                configs.beside = json_object(_read_text(config))
            except (OSError, UnicodeDecodeError) as error:
                configs.warnings.append(f"{CONFIG_NAME} beside it can't be read: {error}.")
        configs._check(path.name)
        return configs

    @property
    def is_peft(self) -> bool:
        """Tell whether PEFT's own configuration is known."""
        return any(key.rpartition(".")[2] == "peft_type" for key in (*self.header, *self.beside))

    def scale(self, module: str, rank: int | None) -> Scale:
        """Return the scale of a module that has no alpha tensor. Only PEFT scales one without a rank, by its own."""
        for source, config, prefix in self._configs(module):
            rank_here = rank or (self._rank(config, prefix, module) if f"{prefix}peft_type" in config else None)
            alpha = self._pattern_value(config, f"{prefix}alpha_pattern", module)
            for key in ALPHAS:
                alpha = _number(config.get(f"{prefix}{key}")) if alpha is None else alpha
            if alpha is not None and rank_here:
                root = str(config.get(f"{prefix}use_rslora", "")).lower() == "true"
                return Scale(alpha / (math.sqrt(rank_here) if root else rank_here), source, alpha)
        kohya = _number(self.header.get(KOHYA_ALPHA))
        if kohya is not None and rank:
            return Scale(kohya / rank, "header", kohya)
        return Scale(1.0, "none")

    def get(self, module: str, key: str) -> Any:
        """Return a value of PEFT's configuration, None if there is none."""
        found = (config[prefix + key] for _, config, prefix in self._configs(module) if prefix + key in config)
        return next(found, None)

    def is_feedforward(self, module: str) -> bool | None:
        """Tell whether PEFT's (IA)³ changes the module's input; None if there is no configuration."""
        names = self.get(module, "feedforward_modules")
        if isinstance(names, str):
            pattern = self._pattern(names)
            return pattern is not None and pattern.matches(split_dialect(module)[1])
        if not isinstance(names, list):
            return None
        local = "." + split_dialect(module)[1]
        return any(local.endswith(f".{name}") for name in names)

    def _configs(self, module: str) -> list[tuple[Source, Mapping[str, Any], str]]:
        dialect, _ = split_dialect(module)
        prefixes = dict.fromkeys((dialect.prefix if not dialect.flat else "", ""))
        sources: tuple[tuple[Source, Mapping[str, Any]], ...] = (
            ("header", self.header),
            ("adapter_config", self.beside),
        )
        return [(source, config, prefix) for source, config in sources for prefix in prefixes]

    def _rank(self, config: Mapping[str, Any], prefix: str, module: str) -> float | None:
        return self._pattern_value(config, f"{prefix}rank_pattern", module) or _number(config.get(f"{prefix}r"))

    def _pattern_value(self, config: Mapping[str, Any], key: str, module: str) -> float | None:
        """Return the value of the first pattern that matches the module, as PEFT chooses it."""
        given = config.get(key)
        local = split_dialect(module)[1]
        for text, value in (given if isinstance(given, dict) else json_object(str(given or ""))).items():
            pattern = self._pattern(text)
            if pattern is not None and pattern.matches(local):
                return _number(value)
        return None

    def _pattern(self, text: str) -> ModulePattern | None:
        if text not in self._patterns:
            try:
                self._patterns[text] = ModulePattern(text)
            except PatternError as error:
                self._patterns[text] = None
                self.warnings.append(f"the pattern {text[:80]!r} counts for no module: {error}.")
        return self._patterns[text]

    def _check(self, name: str) -> None:
        """Raise AdapterError for weights stored on their side, and warn of a base that training changed."""
        for config in (self.header, self.beside):
            for key, value in config.items():
                if key.endswith("fan_in_fan_out") and str(value).lower() == "true":
                    raise AdapterError(f"{name}: fan_in_fan_out: its weights are transposed (GPT-2's), not supported.")
                if key.endswith("init_lora_weights") and _CHANGED_BASE.match(str(value)):
                    self.warnings.append(
                        f"was trained on a base that {value} had changed; on the original base it is wrong."
                    )


def _config_path(path: Path) -> Path | None:
    """Return the configuration of an adapter's folder: of a file that is called as PEFT does, or the only one there."""
    config = path.parent / CONFIG_NAME
    if not config.is_file():
        return None
    alone = is_adapters_own(path) or len(list(path.parent.glob("*.safetensors"))) == 1
    return config if alone else None


def _read_text(path: Path) -> str:
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size > _LARGEST_CONFIG:
            raise OSError("it is too large")
        return file.read(_LARGEST_CONFIG).decode("utf-8")


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
