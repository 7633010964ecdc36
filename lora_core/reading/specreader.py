"""From the parts of a module to its adapters: which kind they make, and how it is scaled."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..adapters import KINDS, LoRA, SetValue, Shape
from ..adapters.spelling import Part
from ..adapters.suffixes import kind_of
from ..errors import AdapterError
from ..files.tensorheader import TensorInfo
from ..files.tensors import Tensors
from ..options import Semantics
from ..text import counted, some_names
from .adapterspec import AdapterSpec, check_dtypes, check_rank, checked_scale, stored_shape
from .borrowed import borrowed_scales
from .loraconfig import LoraConfigs, Scale

# What all modules of a kind have, or few or none of them
_USUAL: dict[str, Callable[[AdapterSpec], bool]] = {
    "a change of the weight": lambda spec: spec.param == "weight",
    "alpha": lambda spec: spec.has_alpha,
    "DoRA's magnitude": lambda spec: spec.magnitude is not None,
    "a rescale": lambda spec: "rescale" in spec.parts,
}
FoundParts = Sequence[tuple[Part, TensorInfo]]

UNSCALED = Scale(1.0, "none")
_MAGNITUDES = ("magnitude", "peft_magnitude")
_AROUND = (*_MAGNITUDES, "shape")  # parts that wrap the adapter of a module's weight
# Control LoRAs widen the first layer, and do not say so: the module, and the tensors that mark such a file
_WIDENED = (
    ("img_in", ("img_in.lora_A.weight", "single_blocks.0.norm.key_norm.scale")),  # BFL, as ComfyUI tells it
    (
        "transformer.x_embedder",
        ("transformer.x_embedder.lora_A.weight", "transformer.transformer_blocks.0.attn.norm_q.weight"),
    ),
)


class SpecReader:
    """Makes the specs of a file's modules, and keeps what is worth a warning."""

    def __init__(self, name: str, file: Tensors, configs: LoraConfigs, semantics: Semantics) -> None:
        self._name = name
        self.file = file
        self.configs = configs
        self._semantics: Semantics = semantics
        self._widened = {module for module, marks in _WIDENED if all(mark in file for mark in marks)}
        self.without_effect: list[str] = []  # modules whose alpha is 0
        self.ignored_alpha: list[str] = []  # LoKr modules that have an alpha and no rank

    def specs(self, module: str, parts: FoundParts) -> list[AdapterSpec]:
        """Return the module's adapters, none if it has an alpha alone; raises AdapterError if they are not whole."""
        groups, around = self._grouped(module, parts)
        try:
            for (kind, _), group in groups.items():
                KINDS[kind].delta_shape({name: info.shape for name, info in group.items()})
            wrapped = _wrapped_kind(groups, around)
        except AdapterError as error:
            raise AdapterError(f"{self._where(module)}: {error}; the file is damaged or not complete.") from error
        self._check_rank(module, groups, around)
        told = {field: info for field, info in around.items() if field not in _MAGNITUDES}
        result = [
            self._spec(module, kind, param, group, told, around if (kind, param) == wrapped else {})
            for (kind, param), group in sorted(groups.items(), key=lambda item: item[0][0] != SetValue.id)
            if not KINDS[kind].scaled_with
        ]
        scales = {spec.kind: spec.scale for spec in reversed(result)}
        return [
            *result,
            *(
                AdapterSpec(module, param, kind, group, scales.get(KINDS[kind].scaled_with, UNSCALED))
                for (kind, param), group in groups.items()
                if KINDS[kind].scaled_with
            ),
            *(
                AdapterSpec(module, param, spec.kind, spec.parts, spec.scale, spec.settings, optional=True)
                for spec in result
                for param in KINDS[spec.kind].also_changes(spec.settings)
            ),
        ]

    def _grouped(
        self, module: str, parts: FoundParts
    ) -> tuple[dict[tuple[str, str], dict[str, TensorInfo]], dict[str, TensorInfo]]:
        """Return the parts by kind and parameter, and those around any kind; raises AdapterError for two of one."""
        groups: dict[tuple[str, str], dict[str, TensorInfo]] = defaultdict(dict)
        kinds = _kinds_of(module, parts)
        for part, info in parts:
            group = groups[kinds[part.kind], part.param]
            if part.field in group:
                raise AdapterError(
                    f"{self._where(module)}: has two spellings of one part, "
                    f"{group[part.field].name!r} and {info.name!r}."
                )
            group[part.field] = info
        around = groups.pop(("", "weight"), {})
        return groups, around

    def _spec(
        self,
        module: str,
        kind: str,
        param: str,
        parts: dict[str, TensorInfo],
        told: Mapping[str, TensorInfo],
        around: Mapping[str, TensorInfo],
    ) -> AdapterSpec:
        alpha = told.get("alpha")
        shapes = {name: info.shape for name, info in parts.items()}
        check_dtypes(self._where(module), parts, KINDS[kind].flags)
        is_scaled = KINDS[kind].alpha == "scale"
        scale = self._scale(module, KINDS[kind].rank_of(shapes), alpha) if is_scaled else UNSCALED
        magnitude = around.get("magnitude") or around.get("peft_magnitude")
        settings = self._settings(module, kind, parts, alpha)
        return AdapterSpec(
            module,
            param,
            kind,
            parts,
            scale,
            settings,
            magnitude,
            "magnitude" not in around and magnitude is not None,
            self._new_shape(module, kind, shapes, settings, around),
            around=told,
        )

    def _settings(
        self, module: str, kind: str, parts: dict[str, TensorInfo], alpha: TensorInfo | None
    ) -> dict[str, Any]:
        shapes = {name: info.shape for name, info in parts.items()}
        try:
            return KINDS[kind].settings_of(shapes, _ToldByFile(self, module, parts, alpha))
        except AdapterError as error:
            raise AdapterError(f"{self._where(module)}: {error}.") from error

    def borrowed(self, specs: Sequence[AdapterSpec]) -> list[AdapterSpec]:
        """Return the specs, those without alpha scaled by a header's section that another component's name is on."""
        if self._semantics == "comfyui":
            return list(specs)
        ranks = {spec.module: spec.rank for spec in specs if spec.rank and spec.scale.source == "none"}
        found = borrowed_scales(self.configs, {spec.module for spec in specs}, ranks)
        return [
            replace(spec, scale=checked_scale(self._where(spec.module), found[spec.module]))
            if spec.module in found and (spec.rank or KINDS[spec.kind].scaled_with)
            else spec
            for spec in specs
        ]

    def uneven(self, specs: Sequence[AdapterSpec]) -> list[str]:
        """Return a line for what some adapters lack and most of their kind have: a tensor may be lost or misnamed."""
        lines: list[str] = []
        for kind in dict.fromkeys(spec.kind for spec in specs if not spec.optional):
            alike: dict[str, list[AdapterSpec]] = defaultdict(list)
            for spec in specs:
                if spec.kind == kind and not spec.optional:
                    alike[spec.module].append(spec)
            for what, has in _USUAL.items():
                without = [module for module, found in alike.items() if not any(map(has, found))]
                if 0 < len(without) < len(alike) / 4:
                    lines.append(
                        f"{counted(without, KINDS[kind].kind + ' module')} without {what}, which the others have: "
                        f"{some_names(without)}."
                    )
        return lines

    def _check_rank(
        self, module: str, groups: Mapping[tuple[str, str], dict[str, TensorInfo]], around: Mapping[str, TensorInfo]
    ) -> None:
        """Raise AdapterError for a rank that the file tells and its tensors do not have."""
        if "rank" not in around:
            return
        told = self.file.scalar(around["rank"].name)
        shapes = [{field: info.shape for field, info in group.items()} for group in groups.values()]
        ranks = {KINDS[kind].rank_of(found) for (kind, _), found in zip(groups, shapes, strict=True)}
        if told not in ranks:
            raise AdapterError(f"{self._where(module)}: {around['rank'].name} is {told:g}, not its tensors' rank.")

    def _scale(self, module: str, rank: int | None, alpha: TensorInfo | None) -> Scale:
        check_rank(self._where(module), rank)
        if alpha is not None:
            value = self.alpha(module, alpha)
            if rank is None:
                self.ignored_alpha.append(module)
                return UNSCALED
            if value == 0:
                self.without_effect.append(module)
            return checked_scale(self._where(module), Scale(value / rank, "tensor", value))
        if self._semantics == "comfyui":
            return UNSCALED
        return checked_scale(self._where(module), self.configs.scale(module, rank))

    def alpha(self, module: str, alpha: TensorInfo) -> float:
        """Read a module's alpha; raises AdapterError for NaN and infinity."""
        value = self.file.scalar(alpha.name)
        if not math.isfinite(value):
            raise AdapterError(f"{self._where(module)}: alpha is {value}; the file is damaged.")
        return value

    def _new_shape(
        self,
        module: str,
        kind: str,
        shapes: Mapping[str, Shape],
        settings: Mapping[str, Any],
        around: Mapping[str, TensorInfo],
    ) -> Shape | None:
        if "shape" in around:
            return stored_shape(self._where(module), self.file, around["shape"], kind, shapes, settings)
        if kind == LoRA.id and module in self._widened:
            return KINDS[kind].delta_shape(shapes)
        return None

    def _where(self, module: str) -> str:
        return f"{self._name}: {module}"


@dataclass(frozen=True, slots=True)
class _ToldByFile:
    """What a kind may ask of a module's file: see `Told`."""

    reader: SpecReader
    module: str
    parts: Mapping[str, TensorInfo]
    stored_alpha: TensorInfo | None

    def alpha(self) -> float | None:
        return None if self.stored_alpha is None else self.reader.alpha(self.module, self.stored_alpha)

    def number(self, field: str) -> float:
        return self.reader.file.scalar(self.parts[field].name)

    @property
    def is_peft(self) -> bool:
        return self.reader.configs.is_peft

    def option(self, name: str) -> Any:
        return self.reader.configs.get(self.module, name)

    def is_feedforward(self) -> bool | None:
        return self.reader.configs.is_feedforward(self.module)


def _kinds_of(module: str, parts: FoundParts) -> dict[str, str]:
    """Return the kind that each word in the parts' rows means here."""
    shapes: dict[str, dict[str, Shape]] = defaultdict(dict)
    for part, info in parts:
        shapes[part.kind][part.field] = info.shape
    return {word: kind_of(word, module, found).id if word else "" for word, found in shapes.items()}


def _wrapped_kind(groups: Mapping[tuple[str, str], Any], around: Mapping[str, TensorInfo]) -> tuple[str, str] | None:
    """Return which of a module's adapters a magnitude or a new shape belongs to: its weight's."""
    kinds = [(kind, param) for kind, param in groups if param == "weight" and KINDS[kind].is_wrapped]
    if not kinds and any(name in around for name in _AROUND):
        raise AdapterError(f"has {' and '.join(around)} without the adapter that it belongs to")
    return kinds[0] if kinds else None
