"""What a LoRA file's header, or the adapter_config.json beside it, says of its adapters: alphas, above all.

Such text comes from strangers: it is read as data, bounded, and never trusted to be of the right type. Keys of `ss_…`
are a log of the training: converters fold alpha into the factors and leave them standing, so they scale nothing.
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..files.adapterfolder import is_adapters_own
from ..naming.dialects import addressed_roles, split_dialect
from ..shortage import lacking
from ..text import json_object, some_names
from .patterns import ModulePattern, PatternError

PEFT_METADATA = "lora_adapter_metadata"  # in a header, diffusers': JSON of the LoraConfigs, keys prefixed by component
CONFIG_NAME = "adapter_config.json"
_LARGEST_CONFIG = 1 << 20
_ALPHAS = ("lora_alpha", "alpha")  # PEFT's LoRA; PEFT's LoHa and LoKr
_RANKS = ("r", "rank", "lora_rank")

Source = Literal["tensor", "header", "adapter_config", "none"]


@dataclass(frozen=True, slots=True)
class Scale:
    """The factor alpha / rank of one adapter, and where alpha was found."""

    value: float
    source: Source
    alpha: float | None = None


@dataclass(frozen=True, slots=True)
class Section:
    """What one place says of one component: a configuration of PEFT, or what a trainer wrote of one."""

    source: Source
    prefix: str  # the component's, with its dot; "" for any
    values: Mapping[str, Any]

    @property
    def alpha(self) -> float | None:
        return next((number for key in _ALPHAS if (number := _number(self.values.get(key))) is not None), None)

    @property
    def rank(self) -> float | None:
        return next((number for key in _RANKS if (number := _number(self.values.get(key)))), None)

    @property
    def is_peft(self) -> bool:
        return "peft_type" in self.values

    def scale(self, alpha: float, rank: float) -> Scale:
        root = is_yes(self.values.get("use_rslora"))
        return Scale(alpha / (math.sqrt(rank) if root else rank), self.source, alpha)


@dataclass(slots=True)
class LoraConfigs:
    """All that the header and the configuration file say, asked by module name."""

    sections: list[Section] = field(default_factory=list)
    beside: Mapping[str, Any] = field(default_factory=dict)  # adapter_config.json
    warnings: list[str] = field(default_factory=list)
    _patterns: dict[str, ModulePattern | None] = field(default_factory=dict)

    @classmethod
    def of(cls, path: Path, metadata: Mapping[str, str], *, has_folder: bool = True) -> LoraConfigs:
        """Read what belongs to the file, in its header and beside it."""
        configs = cls(_sections("header", json_object(metadata.get(PEFT_METADATA, ""))))
        for section in _sections("header", metadata):  # some writers put PEFT's keys into the header itself, as text
            if section.is_peft or section.rank is not None:
                configs.sections.append(section)
            elif section.alpha is not None:
                configs.warnings.append(
                    f"the header's alpha {section.alpha:g} has no rank beside it, so it is a note and scales nothing."
                )
        config = _config_path(path) if has_folder else None
        if config is not None:
            try:
                configs.beside = json_object(_read_text(config))
                configs.sections += _sections("adapter_config", configs.beside)
            except (OSError, UnicodeDecodeError) as error:
                if lacking(error):  # it may well be good, and says how to apply the file
                    raise
                configs.warnings.append(f"{CONFIG_NAME} beside it can't be read: {error}.")
        return configs

    @property
    def is_peft(self) -> bool:
        """Whether PEFT's own configuration is known."""
        return any(section.is_peft for section in self.sections)

    def scale(self, module: str, rank: int | None) -> Scale:
        """Return the scale of a module that has no alpha tensor. Only PEFT scales one without a rank, by its own."""
        for section in self._own(module):
            rank_here = rank or (self._rank(section, module) if section.is_peft else None)
            alpha = self._alpha(section, module)
            if alpha is not None and rank_here:
                return section.scale(alpha, rank_here)
        return Scale(1.0, "none")

    def borrowed(self, modules: Collection[str], ranks: Mapping[str, int]) -> dict[str, Scale]:
        """Return scales of the modules in `ranks`, of which no section is the own, from another component's section.

        Who renames tensors leaves the header as it was. It is read if it can mean one thing only: there is one pair of
        alpha and rank that is no component's of the file, and the rank is that of every module.
        """
        prefixes = {split_dialect(module)[0].prefix for module in modules}
        others = [one for one in self.sections if one.alpha is not None and one.prefix and one.prefix not in prefixes]
        if not others or not ranks:
            return {}
        found: dict[str, Scale] = {}
        for section in _distinct(others):
            wanted = {module: rank for module, rank in ranks.items() if _of_one_role(section, module, others)}
            if wanted and all(self._rank(section, module) == rank for module, rank in wanted.items()):
                found |= {m: section.scale(self._alpha(section, m) or 0.0, rank) for m, rank in wanted.items()}
        missing = [module for module in ranks if module not in found]
        if missing:
            told = " and ".join(f"{one.prefix.rstrip('.')!r}" for one in others[:3])
            self.warnings.append(
                f"the header tells an alpha for {told}, which no tensor here belongs to; scale 1 is assumed for "
                f"{some_names(missing)}."
            )
        return found

    def get(self, module: str, key: str) -> Any:
        """Return a value of PEFT's configuration, None if there is none."""
        return next((section.values[key] for section in self._own(module) if key in section.values), None)

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

    def _own(self, module: str) -> list[Section]:
        """Return the sections of the module's component, and those of any."""
        dialect, _ = split_dialect(module)
        own = [section for section in self.sections if section.prefix and section.prefix == dialect.prefix]
        return sorted(
            [*own, *(section for section in self.sections if not section.prefix)],
            key=lambda section: section.source != "header",
        )

    def _alpha(self, section: Section, module: str) -> float | None:
        pattern = self._pattern_value(section, "alpha_pattern", module)
        return section.alpha if pattern is None else pattern

    def _rank(self, section: Section, module: str) -> float | None:
        return self._pattern_value(section, "rank_pattern", module) or section.rank

    def _pattern_value(self, section: Section, key: str, module: str) -> float | None:
        """Return the value of the first pattern that matches the module, as PEFT chooses it."""
        given = section.values.get(key)
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


def is_yes(value: Any) -> bool:
    """Tell whether a setting is on: configurations hold true, headers its text."""
    return str(value).lower() == "true"


def _sections(source: Source, values: Mapping[str, Any]) -> list[Section]:
    """Return the values by component: keys are `r` or `transformer.r`."""
    by_prefix: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        prefix, dot, name = key.rpartition(".")
        by_prefix.setdefault(prefix + dot, {})[name] = value
    return [Section(source, prefix, found) for prefix, found in by_prefix.items()]


def _distinct(sections: list[Section]) -> list[Section]:
    """Return one section of each meaning."""
    return [one for at, one in enumerate(sections) if not any(_mean_alike(one, other) for other in sections[:at])]


def _mean_alike(one: Section, other: Section) -> bool:
    names = ("use_rslora", "rank_pattern", "alpha_pattern")
    same = all(one.values.get(name) == other.values.get(name) for name in names)
    return same and (one.alpha, one.rank) == (other.alpha, other.rank)


def _of_one_role(section: Section, module: str, others: list[Section]) -> bool:
    """Tell whether only this section, of all meanings, can be the module's: by what its component is, or as the one."""
    roles = set(split_dialect(module)[0].roles)
    alike = [one for one in others if roles & addressed_roles(one.prefix)] or others
    meanings = _distinct(alike)
    return len(meanings) == 1 and _mean_alike(meanings[0], section)


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
