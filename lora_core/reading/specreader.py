"""From the parts of a module to its adapters: which kind they make, and how it is scaled."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from ..adapters import KINDS, Shape
from ..adapters.base import ScaledAdapter
from ..adapters.input_oft import TERMS
from ..adapters.suffixes import Part
from ..errors import AdapterError
from ..files.tensorheader import TensorInfo
from ..files.tensors import Tensors
from ..options import Semantics
from .adapterspec import AdapterSpec, check_dtypes, check_rank, checked_scale, stored_shape
from .loraconfig import LoraConfigs, Scale

FoundParts = Sequence[tuple[Part, TensorInfo]]

UNSCALED = Scale(1.0, "none")
_AROUND = ("magnitude", "peft_magnitude", "shape")  # parts that wrap the adapter of a module's weight
_WHOLE = ("norm", "set", "bias")  # kinds that nothing wraps
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
        self._file = file
        self._configs = configs
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
        alpha = around.get("alpha")
        result = [
            self._spec(module, kind, param, group, alpha, around if (kind, param) == wrapped else {})
            for (kind, param), group in groups.items()
            if kind != "bias"
        ]
        scale = next((spec.scale for spec in result if spec.kind == "lora"), UNSCALED)
        bias = groups.get(("bias", "bias"))
        if bias:  # of the up layer, which PEFT scales with it
            result.append(AdapterSpec(module, "bias", "bias", bias, scale))
        peft_ia3 = next((spec for spec in result if spec.kind == "peft_ia3" and not spec.settings["on_input"]), None)
        if peft_ia3:
            result.append(
                AdapterSpec(module, "bias", "peft_ia3", peft_ia3.parts, UNSCALED, peft_ia3.settings, optional=True)
            )
        return result

    def _grouped(
        self, module: str, parts: FoundParts
    ) -> tuple[dict[tuple[str, str], dict[str, TensorInfo]], dict[str, TensorInfo]]:
        """Return the parts by kind and parameter, and those around any kind; raises AdapterError for two of one."""
        groups: dict[tuple[str, str], dict[str, TensorInfo]] = defaultdict(dict)
        for part, info in parts:
            kind = _oft_kind(module, parts) if part.kind == "oft" else part.kind
            group = groups[kind, part.param]
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
        alpha: TensorInfo | None,
        around: Mapping[str, TensorInfo],
    ) -> AdapterSpec:
        shapes = {name: info.shape for name, info in parts.items()}
        check_dtypes(self._where(module), parts)
        scaled = issubclass(KINDS[kind], ScaledAdapter) and kind not in ("full", "norm")
        scale = self._scale(module, KINDS[kind].rank_of(shapes), alpha) if scaled else UNSCALED
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
        )

    def _scale(self, module: str, rank: int | None, alpha: TensorInfo | None) -> Scale:
        check_rank(self._where(module), rank)
        if alpha is not None:
            value = self._alpha(module, alpha)
            if rank is None:
                self.ignored_alpha.append(module)
                return UNSCALED
            if value == 0:
                self.without_effect.append(module)
            return checked_scale(self._where(module), Scale(value / rank, "tensor", value))
        if self._semantics == "comfyui":
            return UNSCALED
        return checked_scale(self._where(module), self._configs.scale(module, rank))

    def _alpha(self, module: str, alpha: TensorInfo) -> float:
        value = self._file.scalar(alpha.name)
        if not math.isfinite(value):
            raise AdapterError(f"{self._where(module)}: alpha is {value}; the file is damaged.")
        return value

    def _settings(
        self, module: str, kind: str, parts: Mapping[str, TensorInfo], alpha: TensorInfo | None
    ) -> dict[str, Any]:
        if kind in ("diag_oft", "boft", "kohya_oft"):
            return {"constraint": None if alpha is None else self._alpha(module, alpha)}
        if kind == "ia3":
            return {"on_input": self._file.scalar(parts["on_input"].name) != 0}
        if kind == "peft_ia3":
            shape = parts["vector"].shape
            return {"on_input": shape[0] == 1 if len(shape) == 2 else self._configs.is_feedforward(module)}
        if kind == "input_oft":
            return self._rotation_settings(module)
        return {}

    def _rotation_settings(self, module: str) -> dict[str, Any]:
        """Return how vectors become rotations: PEFT's configuration tells, OneTrainer has no choice."""
        if not self._configs.is_peft and not module.startswith("base_model.model."):
            return {"turned_back": True}
        exact = self._configs.get(module, "use_cayley_neumann") is False
        terms = self._configs.get(module, "num_cayley_neumann_terms")
        limit = self._configs.get(module, "eps") if self._configs.get(module, "coft") is True else None
        return {
            "terms": 0 if exact else terms if isinstance(terms, int) and 0 < terms < 100 else TERMS,
            "limit": float(limit) if isinstance(limit, (int, float)) else None,
        }

    def _new_shape(
        self,
        module: str,
        kind: str,
        shapes: Mapping[str, Shape],
        settings: Mapping[str, Any],
        around: Mapping[str, TensorInfo],
    ) -> Shape | None:
        if "shape" in around:
            return stored_shape(self._where(module), self._file, around["shape"], kind, shapes, settings)
        if kind == "lora" and module in self._widened:
            return KINDS[kind].delta_shape(shapes)
        return None

    def _where(self, module: str) -> str:
        return f"{self._name}: {module}"


def _oft_kind(module: str, parts: FoundParts) -> str:
    """Tell whose OFT the blocks are: kohya's by the module's prefix or by pieces, LyCORIS' by the dimensions."""
    fields = {part.field: info.shape for part, info in parts if part.kind == "oft"}
    if module.startswith("oft_unet_") or "blocks_0" in fields:
        return "kohya_oft"
    return "boft" if len(fields.get("blocks", ())) == 4 else "diag_oft"


def _wrapped_kind(groups: Mapping[tuple[str, str], Any], around: Mapping[str, TensorInfo]) -> tuple[str, str] | None:
    """Return which of a module's adapters a magnitude or a new shape belongs to: its weight's."""
    kinds = [(kind, param) for kind, param in groups if param == "weight" and kind not in _WHOLE]
    if not kinds and any(name in around for name in _AROUND):
        raise AdapterError(f"has {' and '.join(around)} without the adapter that it belongs to")
    return kinds[0] if kinds else None
