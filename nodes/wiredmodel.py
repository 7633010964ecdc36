"""A model that ComfyUI has loaded, with all its patches, as a source for extraction."""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import Any

from ..lora_core.files.dtypes import dtype_name
from ..lora_core.files.tensorheader import TensorInfo, element_count
from ..lora_core.naming.detection import describe, detect, unknown_arch
from ..lora_core.naming.keymap import KeyMap
from . import hostmodels
from .live.hanging import settled

_PREFIX = "diffusion_model."  # of the weights; the rest is the host's own, such as the noise levels of sampling


class LoadedModel:
    """A MODEL of the graph: its weights are those that the host would sample with, before it rounds them.

    They are computed key by key from the loaded weight and the patches, as the host does, so that no second copy of the
    model is made. `name` is the input that it is wired to.
    """

    def __init__(self, model: Any, name: str) -> None:
        self.name = name
        model = settled(model)  # what a stack adds beside the weights counts
        weights = hostmodels.loaded_weights(model)
        self._model = model
        self._weights = {key: weight for key, weight in weights.items() if key.startswith(_PREFIX)}
        self.shapes = {key: hostmodels.patched_shape(model, key, weight) for key, weight in self._weights.items()}
        self.found = detect(self.shapes) or [unknown_arch(type(model.model).__name__, _PREFIX)]
        self._readable: dict[tuple[Any, ...], bool] = {}  # whether packed weights of a kind can be had as values

    @cached_property
    def keymap(self) -> KeyMap:
        return KeyMap((self.shapes, self.found))

    @property
    def arch(self) -> str:
        return describe(self.found)[0]

    @property
    def title(self) -> str:
        return describe(self.found)[1]

    @property
    def paths(self) -> list[Path]:
        return []

    @property
    def warnings(self) -> list[str]:
        return []

    @cached_property
    def codings(self) -> Counter[str]:
        """How many weights are stored as codes; the host's quantised tensors name their layout."""
        names = (_coding(weight) for weight in self._weights.values() if weight.numel())
        return Counter(name for name in names if name)

    def info(self, key: str) -> TensorInfo:
        weight = self._weights[key]
        if _is_packed(weight) and self._is_readable(key, weight):
            return TensorInfo(key, "F32", self.shapes[key], 0, 4 * element_count(self.shapes[key]))
        return TensorInfo(key, dtype_name(weight.dtype), self.shapes[key], 0, weight.nbytes)

    def tensor(self, key: str) -> Any:
        return hostmodels.patched_weight(self._model, key, self._weights[key])

    def _is_readable(self, key: str, weight: Any) -> bool:
        """Tell whether the host gives the values of a packed weight: one of each kind is tried."""
        kind = (type(weight), weight.dtype, str(getattr(weight, "tensor_type", "")))
        if kind not in self._readable:
            self._readable[kind] = hostmodels.unpacked_weight(self._model, key, weight) is not None
        return self._readable[kind]

    def check_unchanged(self) -> None:
        """What is wired is a value: nodes add patches to clones."""

    def described(self) -> dict[str, Any]:
        return {"name": self.name, "bytes": sum(weight.nbytes for weight in self._weights.values())}


def _is_packed(weight: Any) -> bool:
    """Tell whether a weight is held as codes of another pack, and is no plain tensor of whole numbers."""
    return not weight.is_floating_point() and len(weight.shape) > 1


def _coding(weight: Any) -> str | None:
    layout = getattr(weight, "_layout_cls", None)
    if layout is not None:
        return str(getattr(layout, "__name__", layout))
    if _is_packed(weight):
        return str(getattr(getattr(weight, "tensor_type", None), "name", type(weight).__name__))
    return "fp8 without scales" if dtype_name(weight.dtype).startswith("F8_") else None
