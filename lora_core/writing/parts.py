"""The tensors of an adapter as a dialect spells them: names, shapes, and where the scale is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..adapters import DoRA, FullDifference, LoHa, LoRA, NormDifference, SetValue, Shape
from ..adapters.base import Adapter
from ..adapters.recast import folded, without_core
from ..errors import AdapterError
from ..lazytorch import torch
from ..reading.adapterspec import AdapterSpec
from ..reading.lorafile import LoraFile
from .names import Writing, suffix

# The parts that may take the scale where a dialect has no alpha: one factor of every product, the usual one first
_FOLDS = {
    "lora": (("up",), ("down",)),
    "loha": (("w1_a",), ("w1_b",), ("w2_a",), ("w2_b",)),
    "lokr": (("w1", "w1_a"), ("w2", "w2_a")),
    "glora": (("a1", "b1"), ("a2", "b2")),
    "bias": (("diff",),),
}
_OFTS = {"diag_oft": "oft", "kohya_oft": "oft", "boft": "oft"}  # kinds that share spellings
_NORMS = ("norm_q", "norm_k", "norm_added_q", "norm_added_k")  # diffusers reads these whole beside a LoRA


@dataclass(frozen=True, slots=True)
class Parts:
    """An adapter's tensors by field, apart from any spelling."""

    kind: str  # of KINDS
    fields: Mapping[str, torch.Tensor]
    scale: float = 1.0
    rank: int | None = None
    alpha: torch.Tensor | None = None  # as the file has it
    magnitude: torch.Tensor | None = None
    magnitude_of_input: bool = False
    new_shape: Shape | None = None

    def folded_fields(self) -> dict[str, torch.Tensor]:
        """Return the tensors with the scale folded into one factor: into one that it does not round, if there is."""
        folds = _FOLDS.get(self.kind, ()) if self.scale != 1 else ()
        found = [
            {name: folded(self.fields[name], self.scale) for name in names if name in self.fields} for names in folds
        ]
        exact = (new for new in found if all(t.dtype == self.fields[name].dtype for name, t in new.items()))
        return {**self.fields, **next(exact, found[0] if found else {})}


def parts_of_file(lora: LoraFile, spec: AdapterSpec) -> Parts:
    """Read an adapter's tensors as they are."""
    fields = {name: lora.file.tensor(info.name) for name, info in spec.parts.items()}
    alpha = lora.file.tensor(spec.module + ".alpha") if spec.module + ".alpha" in lora.file else None
    lora.check_numbers(spec, fields.values())
    result = Parts(spec.kind, fields, spec.scale.value, spec.rank, alpha, None, False, spec.new_shape)
    if spec.magnitude is None:
        return result
    adapter = lora.adapter(replace(spec, new_shape=None))
    assert isinstance(adapter, DoRA)
    magnitude = lora.file.tensor(spec.magnitude.name)
    lora.check_numbers(spec, [magnitude])
    return replace(result, magnitude=magnitude, magnitude_of_input=adapter.of_input)


def parts_of(adapter: Adapter) -> Parts:
    """Return the tensors of an adapter that was made; raises AdapterError for a kind that is only renamed."""
    if isinstance(adapter, LoRA):
        fields = {"up": adapter.up, "down": adapter.down, "mid": adapter.mid}
        present = {name: tensor for name, tensor in fields.items() if tensor is not None}
        return Parts("lora", present, adapter.scale, adapter.down.shape[0])
    if isinstance(adapter, LoHa):
        names = ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")
        values = (adapter.w1_a, adapter.w1_b, adapter.w2_a, adapter.w2_b, adapter.t1, adapter.t2)
        present = {name: tensor for name, tensor in zip(names, values, strict=True) if tensor is not None}
        return Parts("loha", present, adapter.scale, adapter.w1_b.shape[0])
    if isinstance(adapter, FullDifference):
        kind = "norm" if isinstance(adapter, NormDifference) else "full"
        return Parts(kind, {"diff": folded(adapter.diff, adapter.scale)})
    if isinstance(adapter, SetValue):
        return Parts("set", {"value": adapter.value})
    if isinstance(adapter, DoRA):
        return replace(parts_of(adapter.inner), magnitude=adapter.magnitude, magnitude_of_input=adapter.of_input)
    raise AdapterError(f"{adapter.kind} has no parts of its own here")


def spelled(parts: Parts, module: str, param: str, shape: Shape, writing: Writing) -> dict[str, torch.Tensor]:
    """Return {name: tensor} of an adapter on the parameter `param`, of this shape, of a module of this name."""
    fields = parts.fields
    if not writing.has_alpha or parts.kind == "bias":
        fields = parts.folded_fields()
    if not writing.has_alpha and parts.kind == "lora":
        fields = _plain(fields, parts.new_shape or shape)
    kind = _OFTS.get(parts.kind, parts.kind)
    result = {module + _suffix(writing, kind, name, param, module): tensor for name, tensor in fields.items()}
    alpha = _alpha(parts, writing)
    if alpha is not None:
        result[f"{module}.alpha"] = alpha
    if parts.magnitude is not None:
        result.update(_magnitude(parts.magnitude, parts.magnitude_of_input, module, shape, writing))
    if parts.new_shape is not None and writing.has_alpha:
        result[f"{module}.reshape_weight"] = torch.tensor(parts.new_shape)
    return result


def _plain(fields: Mapping[str, torch.Tensor], shape: Shape) -> dict[str, torch.Tensor]:
    """Return the factors as PEFT's layers have them: without a core, and in the dimensions of the weight."""
    up, down = without_core(LoRA(fields["up"], fields["down"], fields.get("mid"), 1.0))
    ones = (1,) * (len(shape) - 2)
    return {"up": up.reshape(*up.shape[:2], *ones), "down": down.reshape(down.shape[0], *shape[1:])}


def _suffix(writing: Writing, kind: str, field: str, param: str, module: str) -> str:
    if kind == "set" and not writing.has_alpha and module.endswith(_NORMS):
        return ".weight"
    found = suffix(writing, kind, field, param)
    return found or f".{param}{suffix(writing, kind, field)}"


def _alpha(parts: Parts, writing: Writing) -> torch.Tensor | None:
    if parts.kind in _OFTS:  # it is no scale but a constraint
        return parts.alpha
    if not writing.has_alpha or parts.kind not in _FOLDS or parts.kind == "bias":
        return None
    if parts.alpha is not None or parts.rank is None:
        return parts.alpha
    return torch.tensor(parts.scale * parts.rank)


def _magnitude(
    magnitude: torch.Tensor, of_input: bool, module: str, shape: Shape, writing: Writing
) -> dict[str, torch.Tensor]:
    """Return DoRA's magnitude; PEFT has none of the input, so that keeps LyCORIS' name."""
    ones = (1,) * (len(shape) - 2)
    length = magnitude.numel()
    if of_input:
        return {f"{module}.dora_scale": magnitude.reshape(1, length, *ones)}
    if writing.has_alpha:
        return {f"{module}.dora_scale": magnitude.reshape(length, 1, *ones)}
    across = magnitude.reshape(1, length, *ones) if ones else magnitude.reshape(length)
    return {f"{module}.lora_magnitude_vector": across}
