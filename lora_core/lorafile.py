"""LoRA files: opened lazily, they know their adapters, dialect, ranks, scales and metadata without tensor data."""

from __future__ import annotations

import json
import math
import os
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from .adapters import KINDS, Adapter, Shape
from .arch.base import Arch
from .detection import detect, guess_arches
from .dialects import DIFFUSION
from .errors import AdapterError, WrongFileKindError
from .keymap import split_dialect
from .lazytorch import torch
from .options import Semantics
from .parts import split_name
from .report import counted, some_names
from .tensorfile import TensorFile
from .tensorheader import TensorInfo

# Keys that writers put into the safetensors header
PEFT_METADATA = "lora_adapter_metadata"  # diffusers: JSON of the LoraConfigs, keys prefixed by the component
KOHYA_ALPHA = "ss_network_alpha"


@dataclass(frozen=True, slots=True)
class Scale:
    """The factor alpha / rank of one adapter, and where alpha was found."""

    value: float
    source: Literal["tensor", "header", "none"]
    alpha: float | None = None


@dataclass(frozen=True, slots=True)
class AdapterSpec:
    """One adapter of a file, described from the header alone."""

    module: str  # as the trainer names it
    param: str  # the parameter that it changes
    kind: str  # key of KINDS
    parts: Mapping[str, TensorInfo]
    scale: Scale

    @property
    def shapes(self) -> dict[str, Shape]:
        return {field: info.shape for field, info in self.parts.items()}

    def delta_shape(self) -> Shape:
        try:
            return KINDS[self.kind].delta_shape(self.shapes)
        except AdapterError as error:
            raise AdapterError(f"{self.module}: {error}.") from error

    @property
    def rank(self) -> int | None:
        return KINDS[self.kind].rank_of(self.shapes)


class LoraFile:
    """An open LoRA file.

    Raises FileFormatError for a broken file, WrongFileKindError for a checkpoint, AdapterError for incomplete or
    contradictory adapters. `semantics="comfyui"` reads alpha from tensors only, as ComfyUI's own loader does.
    """

    def __init__(self, path: str | os.PathLike[str], semantics: Semantics = "paper") -> None:
        self.file = TensorFile(path)
        self.path = self.file.path
        self.name = self.path.name
        self._semantics: Semantics = semantics
        self.not_adapters: list[str] = []
        self.unsupported: dict[str, str] = {}  # module -> its kind
        self.warnings: list[str] = []
        self._without_effect: list[str] = []
        self._tensors: dict[str, torch.Tensor] | None = None
        try:
            modules = self._split_names()
            self._refuse_checkpoint(modules)
            self._header = _HeaderAlphas(self.file.metadata)
            self.adapters = [spec for module in modules for spec in self._specs(module, modules[module])]
            if not self.modules:
                raise WrongFileKindError(f"{self.name}: is not a LoRA: it holds alphas and nothing that they scale.")
            if self._without_effect:
                modules_named = f"{counted(self._without_effect, 'module')}: {some_names(self._without_effect)}"
                self.warnings.append(f"{self.name}: alpha is 0, which changes nothing, in {modules_named}.")
        except BaseException:
            self.file.close()
            raise

    def __enter__(self) -> LoraFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    @property
    def metadata(self) -> Mapping[str, str]:
        return self.file.metadata

    @property
    def modules(self) -> list[str]:
        """The names of all modules, applicable or not, in file order."""
        return list(dict.fromkeys([*(spec.module for spec in self.adapters), *self.unsupported]))

    @property
    def dialect(self) -> str:
        counts = Counter(split_dialect(module)[0].id for module in self.modules)
        return counts.most_common(1)[0][0]

    @property
    def kinds(self) -> list[str]:
        return sorted({KINDS[spec.kind].kind for spec in self.adapters} | set(self.unsupported.values()))

    @cached_property
    def arches(self) -> list[Arch]:
        """The diffusion architectures that the modules' names and shapes fit; empty if none stands out."""
        shapes = {spec.module: spec.delta_shape() for spec in self.adapters if spec.param == "weight"}
        names = ((split_dialect(module), shapes.get(module)) for module in self.modules)
        return guess_arches(
            (rest.replace(".", "_"), shape) for (dialect, rest), shape in names if DIFFUSION in dialect.roles
        )

    def adapter(self, spec: AdapterSpec) -> Adapter:
        """Read the tensors of one adapter."""
        read = self.file.tensor if self._tensors is None else self._tensors.__getitem__
        parts = {field: read(info.name) for field, info in spec.parts.items()}
        return KINDS[spec.kind].from_parts(parts, spec.scale.value)

    def load(self) -> None:
        """Read every adapter's tensors now, so that the file may be closed and adapters still be had."""
        names = {info.name for spec in self.adapters for info in spec.parts.values()}
        self._tensors = {name: self.file.tensor(name) for name in names}

    def _split_names(self) -> dict[str, list[tuple[Any, TensorInfo]]]:
        modules: dict[str, list[tuple[Any, TensorInfo]]] = defaultdict(list)
        for name, info in self.file.items():
            split = split_name(name)
            if split is None:
                self.not_adapters.append(name)
            else:
                modules[split.module].append((split.part, info))
        return modules

    def _refuse_checkpoint(self, modules: Mapping[str, Any]) -> None:
        shapes = {name: info.shape for name, info in self.file.items()}
        found = detect(shapes) if len(self.not_adapters) * 2 > len(shapes) else []
        if found:
            raise WrongFileKindError(
                f"{self.name}: is a {found[0].title} checkpoint, not a LoRA; "
                "give it as the base, or choose a LoRA file."
            )
        if not modules:
            some = ", ".join(repr(name) for name in list(shapes)[:3]) or "nothing"
            raise WrongFileKindError(
                f"{self.name}: is not a LoRA: none of its {len(shapes)} tensors is an adapter's; it holds {some}."
            )

    def _specs(self, module: str, parts: list[tuple[Any, TensorInfo]]) -> list[AdapterSpec]:
        unknown = sorted({part.kind for part, _ in parts if part.kind and part.kind not in KINDS})
        if unknown:
            self.unsupported[module] = unknown[0]
            return []
        alpha = next((info for part, info in parts if part.field == "alpha"), None)
        groups: dict[tuple[str, str], dict[str, TensorInfo]] = defaultdict(dict)
        for part, info in parts:
            if not part.kind:
                continue
            group = groups[part.kind, part.param]
            if part.field in group:
                raise AdapterError(
                    f"{self.name}: {module}: has two spellings of one part, "
                    f"{group[part.field].name!r} and {info.name!r}."
                )
            group[part.field] = info
        if not groups:
            self.not_adapters.append(module + ".alpha")
            return []
        lora = groups.get(("lora", "weight"))
        try:
            rank = _checked_rank({field: info.shape for field, info in lora.items()}) if lora else None
        except AdapterError as error:
            raise AdapterError(f"{self.name}: {module}: {error}; the file is damaged or not complete.") from error
        scale = self._scale(module, rank, alpha)
        return [
            AdapterSpec(module, param, kind, group, scale if kind in ("lora", "bias") else Scale(1.0, "none"))
            for (kind, param), group in groups.items()
        ]

    def _scale(self, module: str, rank: int | None, alpha: TensorInfo | None) -> Scale:
        if rank is None:
            return Scale(1.0, "none")
        if alpha is not None:
            value = self.file.scalar(alpha.name)
            if not math.isfinite(value):
                raise AdapterError(f"{self.name}: {module}: alpha is {value}; the file is damaged.")
            if value == 0:
                self._without_effect.append(module)
            return Scale(value / rank, "tensor", value)
        if self._semantics == "comfyui":
            return Scale(1.0, "none")
        return self._header.scale(module, rank)


class _HeaderAlphas:
    """Alphas that are kept in the header instead of tensors (PEFT, diffusers, SimpleTuner, kohya)."""

    def __init__(self, metadata: Mapping[str, str]) -> None:
        packed = _json_object(metadata.get(PEFT_METADATA, ""))
        # Some writers put the same keys into the header itself, as text
        self._config: dict[str, Any] = {**metadata, **packed}
        self._kohya = _number(metadata.get(KOHYA_ALPHA))

    def scale(self, module: str, rank: int) -> Scale:
        dialect, local = split_dialect(module)
        for prefix in dict.fromkeys((dialect.prefix if not dialect.flat else "", "")):
            alpha = self._pattern_alpha(prefix, local)
            if alpha is None:
                alpha = _number(self._config.get(f"{prefix}lora_alpha"))
            if alpha is not None:
                root = str(self._config.get(f"{prefix}use_rslora", "")).lower() == "true"
                return Scale(alpha / (math.sqrt(rank) if root else rank), "header", alpha)
        if self._kohya is not None:
            return Scale(self._kohya / rank, "header", self._kohya)
        return Scale(1.0, "none")

    def _pattern_alpha(self, prefix: str, local: str) -> float | None:
        pattern = self._config.get(f"{prefix}alpha_pattern")
        rows = pattern if isinstance(pattern, dict) else _json_object(str(pattern or ""))
        for name, alpha in rows.items():  # literally, never as a regular expression from a stranger's file
            # diffusers anchors the names that it takes from a file: "^blocks.0.attn.to_k" is the whole name
            if local == name.removeprefix("^") or local.endswith("." + name):
                return _number(alpha)
        return None


def trigger_words(path: str | os.PathLike[str]) -> list[str]:
    """Return the trigger words that a LoRA's own metadata names; none if it names none."""
    with TensorFile(path) as file:
        metadata = file.metadata
    words: list[str] = []
    for key in ("modelspec.trigger_phrase", "trained_words", "ss_trigger_words"):
        text = metadata.get(key, "").strip()
        listed = _json_list(text)
        words += [str(word) for word in listed] if listed is not None else text.split(",")
    return list(dict.fromkeys(word.strip() for word in words if word.strip()))


def _checked_rank(shapes: dict[str, Shape]) -> int | None:
    KINDS["lora"].delta_shape(shapes)  # raises AdapterError if parts are missing or contradict
    return KINDS["lora"].rank_of(shapes)


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text) if text else {}
    except (ValueError, RecursionError):  # ValueError: also a number of thousands of digits
        return {}
    return value if isinstance(value, dict) else {}


def _json_list(text: str) -> list[Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):  # ValueError: also a number of thousands of digits
        return None
    return value if isinstance(value, list) else None
