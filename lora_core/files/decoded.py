"""A container seen without its quantisation: weights with their logical shapes and values, scales out of sight."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import FileFormatError, UnknownArchError
from ..lazytorch import torch
from ..text import parse_json
from .quantised import FOREIGN, FORMATS, FP8_FORMATS, Config, Format, values_of
from .tensorheader import TensorInfo
from .tensors import Tensors, TensorsView

QUANTISATION_METADATA = "_quantization_metadata"  # a header's own list of quantised layers
MARKER = "scaled_fp8"  # says that the file is of the legacy layout; its dtype says which fp8
MAX_CONFIG_BYTES = 2**16

# Endings of the keys that belong to a quantised layer -> what the current layout calls them
PARTS = {
    "weight_scale": "weight_scale",
    "weight_scale_2": "weight_scale_2",
    "input_scale": "input_scale",
    "pre_quant_scale": "pre_quant_scale",
    "comfy_quant": "comfy_quant",
    "scale_weight": "weight_scale",
    "scale_input": "input_scale",
}
_PREFIXES = ("", "model.diffusion_model.", "diffusion_model.", "model.")
INSTEAD = "use the fp16, bf16 or fp8 version of the model"


@dataclass(frozen=True, slots=True)
class CodedLayer:
    """A weight that is stored as codes."""

    weight: str  # its key
    format: str  # a name of FORMATS
    parts: Mapping[str, str]  # name in the current layout -> key
    config: Config = field(default_factory=dict)

    @property
    def form(self) -> Format:
        return FORMATS[self.format]

    @property
    def layer(self) -> str:
        return self.weight.removesuffix(".weight")


class Decoded(TensorsView):
    """`raw` with every quantised weight as its values. Raises UnknownArchError for a format that can't be read."""

    def __init__(self, raw: Tensors) -> None:
        super().__init__(raw)
        _refuse_foreign(raw)
        self.layers: dict[str, CodedLayer] = {layer.weight: layer for layer in _coded_layers(raw)}
        hidden = {key for layer in self.layers.values() for key in layer.parts.values()}
        self.markers = [key for key in raw if key == MARKER or key.endswith("." + MARKER)]
        hidden.update(self.markers)
        # a marker of two elements asks the layers to be multiplied as values
        self.full_precision = any(raw[key].shape == (2,) for key in self.markers)
        _refuse_strays(raw, hidden)
        self._infos = {key: self._logical(info) for key, info in raw.items() if key not in hidden}

    def tensor(self, name: str) -> torch.Tensor:
        layer = self.layers.get(name)
        if layer is None:
            return self.raw.tensor(name)
        scales = {part: self.raw.tensor(key) for part, key in layer.parts.items() if part != "comfy_quant"}
        try:
            return values_of(layer.form, self.raw.tensor(name), scales, layer.config)
        except FileFormatError as error:
            where = f"{self.path.name}: {name!r} ({layer.format})"
            raise FileFormatError(f"{where}: {error}; the file is damaged.") from error

    def scalar(self, name: str) -> float:
        return self.raw.scalar(name)

    def coded_as(self, name: str) -> str | None:
        return self.layers[name].format if name in self.layers else self.raw.coded_as(name)

    def _logical(self, info: TensorInfo) -> TensorInfo:
        layer = self.layers.get(info.name)
        if layer is None:
            return info
        shape = (*info.shape[:-1], info.shape[-1] * layer.form.per_code) if info.shape else ()
        return TensorInfo(info.name, "F32", shape, info.start, info.nbytes)


def decoded(raw: Tensors) -> Tensors:
    """Return `raw`, or a view that hides its quantisation if there is any."""
    view = Decoded(raw)
    return view if view.layers or view.markers else raw


def _refuse_foreign(raw: Tensors) -> None:
    for key in raw:
        for ending, name in FOREIGN.items():
            if key.endswith(ending):
                raise UnknownArchError(
                    f"{raw.path.name}: is quantised by {name} ({key!r}), which this version can't read; {INSTEAD}."
                )


def _coded_layers(raw: Tensors) -> Iterator[CodedLayer]:
    configs = dict(_configs(raw))
    parts: dict[str, dict[str, str]] = {layer: {} for layer in configs}
    for key in raw:
        layer, _, last = key.rpartition(".")
        if last in PARTS and layer:
            if PARTS[last] in parts.setdefault(layer, {}):
                raise FileFormatError(f"{raw.path.name}: {layer!r} has two spellings of {PARTS[last]}.")
            parts[layer][PARTS[last]] = key
    for layer, named in parts.items():
        weight = f"{layer}.weight"
        if weight not in raw:
            if layer in configs:
                raise FileFormatError(f"{raw.path.name}: {layer!r} is said to be quantised, but {weight!r} is missing.")
            continue  # refused as a stray
        config = configs.get(layer, {})
        name = config.get("format") or FP8_FORMATS.get(raw[weight].dtype)
        if name is not None:
            yield _checked(raw, CodedLayer(weight, str(name), named, config))


def _checked(raw: Tensors, layer: CodedLayer) -> CodedLayer:
    info = raw[layer.weight]
    if layer.format not in FORMATS:
        raise UnknownArchError(
            f"{raw.path.name}: {layer.weight!r} is quantised as {layer.format[:40]!r}, which this version can't read; "
            f"{INSTEAD}."
        )
    missing = [part for part in layer.form.scales if part not in layer.parts]
    is_matrix = len(info.shape) == 2 or layer.form is FORMATS["float8_e4m3fn"]
    if info.dtype not in layer.form.codes or missing or not is_matrix:
        lacks = f", without {' and '.join(missing)}" if missing else ""
        raise FileFormatError(
            f"{raw.path.name}: {layer.weight!r} does not hold {layer.format}: found {info.dtype} {list(info.shape)}"
            f"{lacks}; the file is damaged or of another program."
        )
    return layer


def _configs(raw: Tensors) -> Iterator[tuple[str, Config]]:
    """Yield what the header, a marker, and the layers' own tensors say of each layer; the last word counts."""
    listed = _object(raw, QUANTISATION_METADATA, raw.metadata.get(QUANTISATION_METADATA, "{}")).get("layers")
    for layer, config in listed.items() if isinstance(listed, dict) else ():
        if isinstance(config, dict):
            # ComfyUI looks the names up after it has taken the model's prefix off the keys
            prefix = next((prefix for prefix in _PREFIXES if f"{prefix}{layer}.weight" in raw), "")
            yield f"{prefix}{layer}", config
    for key, info in raw.items():
        if key.endswith(".comfy_quant"):
            if info.dtype != "U8" or info.nbytes > MAX_CONFIG_BYTES:
                raise FileFormatError(f"{raw.path.name}: {key!r} should be JSON of at most {MAX_CONFIG_BYTES} bytes.")
            yield key.removesuffix(".comfy_quant"), _object(raw, key, bytes(raw.tensor(key).tolist()))


def _object(raw: Tensors, key: str, text: str | bytes) -> dict[str, Any]:
    try:
        value = parse_json(text)
    except ValueError as error:
        raise FileFormatError(f"{raw.path.name}: {key!r} is not JSON: {error}.") from error
    if not isinstance(value, dict):
        raise FileFormatError(f"{raw.path.name}: {key!r} should be a JSON object.")
    return value


def _refuse_strays(raw: Tensors, hidden: set[str]) -> None:
    """Refuse scales of weights that are not stored as codes we know: what they do to the weight is not known."""
    for key in raw:
        layer, _, last = key.rpartition(".")
        if last in PARTS and key not in hidden and PARTS[last] != "input_scale":  # which leaves the weight alone
            weight = f"{layer}.weight"
            found = f"{weight!r} holds {raw[weight].dtype}" if weight in raw else f"there is no {weight!r}"
            raise UnknownArchError(
                f"{raw.path.name}: {key!r} is the scale of a quantised weight, but {found}, which is no format that "
                f"this version can read; {INSTEAD}."
            )
