"""What a LoRA file's header, or the adapter_config.json beside it, says of its adapters: alphas, above all.

Such text comes from strangers: it is read as data, bounded, and never trusted to be of the right type. Keys of `ss_…`
are a log of the training: converters fold alpha into the factors and leave them standing, so they scale nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..errors import AdapterError
from ..files.adapterfolder import is_adapters_own
from ..files.openfile import read_bounded
from ..naming.dialects import split_dialect
from ..shortage import lacking
from ..text import json_object
from .patterntable import MOST_STEPS, PatternCostError, PatternTable

PEFT_METADATA = "lora_adapter_metadata"  # in a header, diffusers': JSON of the LoraConfigs, keys prefixed by component
CONFIG_NAME = "adapter_config.json"
_LARGEST_CONFIG = 1 << 20
_ALPHAS = ("lora_alpha", "alpha")  # PEFT's LoRA; PEFT's LoHa and LoKr
_RANKS = ("r", "rank", "lora_rank")
_REFUSED_SHOWN = 5

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
        return next((number for key in _ALPHAS if (number := number_of(self.values.get(key))) is not None), None)

    @property
    def rank(self) -> float | None:
        return next((number for key in _RANKS if (number := number_of(self.values.get(key)))), None)

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
    name: str = ""  # what reports call the file
    modules: Collection[str] = ()  # all of the file, so that what they cost is known before the first is asked for
    _own_of: dict[str, list[Section]] = field(default_factory=dict)  # a dialect's prefix -> `_own`
    _read: dict[tuple[int, str], Any] = field(default_factory=dict)  # what a section says under a key, made ready
    _steps: int = 0  # that the patterns take

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
            rank_here = rank or (self.rank(section, module) if section.is_peft else None)
            alpha = self.alpha(section, module)
            if alpha is not None and rank_here:
                return section.scale(alpha, rank_here)
        return Scale(1.0, "none")

    def get(self, module: str, key: str) -> Any:
        """Return a value of PEFT's configuration, None if there is none."""
        return next((section.values[key] for section in self._own(module) if key in section.values), None)

    def is_feedforward(self, module: str) -> bool | None:
        """Tell whether PEFT's (IA)³ changes the module's input; None if there is no configuration."""
        key = "feedforward_modules"
        section = next((section for section in self._own(module) if key in section.values), None)
        given = section.values[key] if section else None
        local = split_dialect(module)[1]
        if isinstance(given, str):
            return self._once(section, key, lambda: self._table(key, (given,))).first(local) is not None
        if isinstance(given, list):
            names = self._once(section, key, lambda: frozenset(map(str, given)))
            return any(end in names for end in _ends(local))
        return None

    def alpha(self, section: Section, module: str) -> float | None:
        """Return the alpha that a section tells of a module."""
        pattern = self._pattern_value(section, "alpha_pattern", module)
        return section.alpha if pattern is None else pattern

    def rank(self, section: Section, module: str) -> float | None:
        """Return the rank that a section tells of a module."""
        return self._pattern_value(section, "rank_pattern", module) or section.rank

    def _own(self, module: str) -> list[Section]:
        """Return the sections of the module's component, and those of any."""
        prefix = split_dialect(module)[0].prefix
        if prefix not in self._own_of:
            own = [section for section in self.sections if section.prefix and section.prefix == prefix]
            self._own_of[prefix] = sorted(
                [*own, *(section for section in self.sections if not section.prefix)],
                key=lambda section: section.source != "header",
            )
        return self._own_of[prefix]

    def _pattern_value(self, section: Section, key: str, module: str) -> float | None:
        """Return the value of the first pattern that matches the module, as PEFT chooses it."""
        values, table = self._once(section, key, lambda: self._patterns(section, key))
        text = table.first(split_dialect(module)[1]) if values else None
        return None if text is None else number_of(values[text])

    def _patterns(self, section: Section, key: str) -> tuple[Mapping[str, Any], PatternTable]:
        given = section.values.get(key)
        values = given if isinstance(given, dict) else json_object(given if isinstance(given, str) else "")
        return values, self._table(key, values)

    def _table(self, key: str, texts: Collection[str]) -> PatternTable:
        names = [split_dialect(module)[1] for module in self.modules] if texts else []
        try:
            table = PatternTable(texts, names, MOST_STEPS - self._steps)
        except PatternCostError as error:
            raise AdapterError(
                f"{self.name}: {key}: {error}, and no honest file needs so many; write the modules' names instead of "
                "expressions, or take the file from its maker again."
            ) from error
        self._steps += table.steps
        for text, why in list(table.refused.items())[:_REFUSED_SHOWN]:
            self.warnings.append(f"the pattern {text[:80]!r} counts for no module: {why}.")
        if len(table.refused) > _REFUSED_SHOWN:
            self.warnings.append(f"{len(table.refused) - _REFUSED_SHOWN} more patterns of {key} count for no module.")
        return table

    def _once(self, section: Section | None, key: str, make: Callable[[], Any]) -> Any:
        """Return what `make` makes of a section's value, made once for all modules."""
        known = self._read.get((id(section), key))
        if known is None:
            known = self._read[id(section), key] = make()
        return known


def _ends(name: str) -> Iterator[str]:
    """Yield the name, and what is behind each of its dots."""
    yield name
    start = name.find(".") + 1
    while start:
        yield name[start:]
        start = name.find(".", start) + 1


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


def _config_path(path: Path) -> Path | None:
    """Return the configuration of an adapter's folder: of a file that is called as PEFT does, or the only one there."""
    config = path.parent / CONFIG_NAME
    if not config.is_file():
        return None
    alone = is_adapters_own(path) or len(list(path.parent.glob("*.safetensors"))) == 1
    return config if alone else None


def _read_text(path: Path) -> str:
    data = read_bounded(path, _LARGEST_CONFIG)
    if data is None:
        raise OSError("it is too large, or no file that can be read")
    return data.decode("utf-8")


def number_of(value: Any) -> float | None:
    """Return a setting as a finite number, None if it is none."""
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
