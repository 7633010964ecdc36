"""The ways in which one tensor of a model is written anew: copied, rounded, or as codes with a scale."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ...algebra.rounding import round_stochastically, round_to
from ...files.decoded import CodedLayer
from ...files.dtypes import torch_dtype
from ...files.layout import PlannedTensor
from ...files.quantised import FP8_FORMATS, fp8_codes
from ...files.tensorheader import TensorInfo
from ...files.tensors import Tensors
from ...lazytorch import torch

SCALED_FORMAT = FP8_FORMATS["F8_E4M3"]


@dataclass(frozen=True, slots=True)
class WrittenTensors:
    """The tensors that stand for one tensor of the input."""

    tensors: Mapping[str, torch.Tensor]
    clamped: int = 0  # values that were beyond the range of the format
    values: torch.Tensor | None = None  # as they read back, where the format is a coarse one and the weight changed


@dataclass(frozen=True, slots=True)
class Step:
    """What becomes of one tensor of the input."""

    name: str
    planned: tuple[PlannedTensor, ...]
    write: Callable[[torch.Tensor], WrittenTensors] | None  # takes the values; None copies the bytes
    is_rounding: bool = False  # `write` rounds each number into the planned dtype, and does nothing else


def copied(info: TensorInfo) -> Step:
    return Step(info.name, (PlannedTensor(info.name, info.dtype, info.shape),), None)


def passed_on(info: TensorInfo) -> Step:
    """The same values, where bytes can't be copied because the input is of another file format."""
    return Step(info.name, copied(info).planned, lambda values: WrittenTensors({info.name: values}))


def rounded(info: TensorInfo, target: str, *, changed: bool) -> Step:
    """One rounding to nearest into the dtype `target`."""

    def write(values: torch.Tensor) -> WrittenTensors:
        result, clamped = round_to(values.float(), torch_dtype(target))
        is_coarse = changed and target.startswith("F8_")
        return WrittenTensors({info.name: result}, clamped, result.float() if is_coarse else None)

    return Step(info.name, (PlannedTensor(info.name, target, info.shape),), write, is_rounding=True)


def newly_scaled(info: TensorInfo, *, changed: bool) -> Step:
    """fp8 codes to nearest, a scale, and a note of the format, for a weight that had none of them."""
    layer, note = info.name.removesuffix(".weight"), _note({})
    scale_name, note_name = f"{layer}.weight_scale", f"{layer}.comfy_quant"

    def write(values: torch.Tensor) -> WrittenTensors:
        codes, scale = fp8_codes(values.float(), torch.ones(()), torch.float8_e4m3fn, None)
        read_back = codes.float() * scale if changed else None
        return WrittenTensors({info.name: codes, scale_name: scale, note_name: note}, 0, read_back)

    planned = (
        PlannedTensor(info.name, "F8_E4M3", info.shape),
        PlannedTensor(scale_name, "F32", ()),
        PlannedTensor(note_name, "U8", tuple(note.shape)),
    )
    return Step(info.name, planned, write)


def requantised(raw: Tensors, layer: CodedLayer) -> Step:
    """New codes of an fp8 layer, and a new scale under the old one's name; what else it has is not part of this step.

    Rounding is stochastic, with the key as the seed: to nearest, a small change would snap back to the old codes.
    """
    key = layer.parts.get("weight_scale")
    names = [layer.weight, key] if key else [layer.weight]
    planned = tuple(PlannedTensor(name, raw[name].dtype, raw[name].shape) for name in names)

    def write(values: torch.Tensor) -> WrittenTensors:
        codes, scale, read_back = _new_codes(raw, layer, values)
        return WrittenTensors({layer.weight: codes} | ({key: scale} if key else {}), 0, read_back)

    return Step(layer.weight, planned, write)


def renamed(raw: Tensors, layer: CodedLayer, config: Mapping[str, object], *, changed: bool) -> Step:
    """An fp8 layer in the current layout: its own codes and scales where nothing changed, else new ones."""
    note = _note({**config, **layer.config})
    names = {part: f"{layer.layer}.{part}" for part in layer.parts if part != "comfy_quant"}
    infos = {names[part]: raw[layer.parts[part]] for part in names} | {layer.weight: raw[layer.weight]}
    planned = [PlannedTensor(name, info.dtype, info.shape) for name, info in infos.items()]

    def write(values: torch.Tensor) -> WrittenTensors:
        tensors = {name: raw.tensor(info.name) for name, info in infos.items()}
        read_back = None
        if changed:
            tensors[layer.weight], scale, read_back = _new_codes(raw, layer, values)
            if "weight_scale" in names:
                tensors[names["weight_scale"]] = scale
        return WrittenTensors(tensors | {f"{layer.layer}.comfy_quant": note}, 0, read_back)

    planned.append(PlannedTensor(f"{layer.layer}.comfy_quant", "U8", tuple(note.shape)))
    return Step(layer.weight, tuple(planned), write)


def _new_codes(
    raw: Tensors, layer: CodedLayer, values: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return (codes, scale, values as they read back) of a changed fp8 layer."""
    dtype = torch_dtype(raw[layer.weight].dtype)
    # the same input gives the same bytes, and no two layers the same noise
    seed = zlib.crc32(layer.weight.encode())
    key = layer.parts.get("weight_scale")
    if key is None:
        codes = round_stochastically(values, dtype, seed)
        return codes, torch.ones(()), codes.float()
    codes, scale = fp8_codes(values, raw.tensor(key), dtype, seed)
    by_row = scale.float().reshape(-1, *(1,) * (codes.dim() - 1)) if scale.numel() > 1 else scale.float().reshape(())
    return codes, scale, codes.float() * by_row


def _note(config: Mapping[str, object]) -> torch.Tensor:
    text = json.dumps({**config, "format": SCALED_FORMAT})
    return torch.tensor(list(text.encode()), dtype=torch.uint8)
