"""The tensors of an adapter as a dialect spells them: names, shapes, and where the scale is."""

from __future__ import annotations

from dataclasses import replace

from ..adapters import KINDS, Shape
from ..adapters.dora import WRITTEN
from ..adapters.parts import Parts, folded
from ..adapters.spelling import is_lookup
from ..lazytorch import torch
from ..naming.dialects import Writing
from ..reading.adapterspec import AdapterSpec
from ..reading.lorafile import LoraFile
from .names import suffix


def parts_of_file(lora: LoraFile, spec: AdapterSpec) -> Parts:
    """Read an adapter's tensors as they are."""
    fields = {name: lora.file.tensor(info.name) for name, info in spec.parts.items()}
    alpha = lora.file.tensor(spec.around["alpha"].name) if spec.has_alpha else None
    lora.check_numbers(spec, fields.values())
    kind, fields = KINDS[spec.kind].in_files(fields)
    result = Parts(kind, fields, spec.scale.value, spec.rank, alpha, None, False, spec.new_shape)
    if spec.magnitude is None:
        return result
    magnitude = lora.file.tensor(spec.magnitude.name)
    lora.check_numbers(spec, [magnitude])
    of_input = spec.magnitude_of_input
    return replace(result, magnitude=magnitude, magnitude_of_input=of_input)


def folded_fields(parts: Parts) -> dict[str, torch.Tensor]:
    """Return the tensors with the scale folded into one factor: into one that it does not round, if there is."""
    folds = KINDS[parts.kind].folds if parts.scale != 1 else ()
    fields = parts.fields
    found = [{name: folded(fields[name], parts.scale) for name in names if name in fields} for names in folds]
    exact = (new for new in found if all(t.dtype == fields[name].dtype for name, t in new.items()))
    return {**fields, **next(exact, found[0] if found else {})}


def spelled(parts: Parts, module: str, param: str, shape: Shape, writing: Writing) -> dict[str, torch.Tensor]:
    """Return {name: tensor} of an adapter on the parameter `param`, of this shape, of a module of this name."""
    kind = KINDS[parts.kind]
    fields = parts.fields if writing.has_alpha and kind.alpha == "scale" else folded_fields(parts)
    if not writing.has_alpha:
        fields = kind.as_layers(fields, parts.new_shape or shape, module)
    result = {module + suffix(writing, kind.id, name, param, module): tensor for name, tensor in fields.items()}
    alpha = _alpha(parts, writing)
    if alpha is not None:
        result[f"{module}.alpha"] = alpha
    if parts.magnitude is not None:
        result.update(_magnitude(parts.magnitude, parts.magnitude_of_input, module, shape, writing))
    if parts.new_shape is not None and writing.has_alpha:
        result[f"{module}.reshape_weight"] = torch.tensor(parts.new_shape)
    return result


def _alpha(parts: Parts, writing: Writing) -> torch.Tensor | None:
    use = KINDS[parts.kind].alpha
    if use == "constraint":
        return parts.alpha
    if not writing.has_alpha or use != "scale":
        return None
    if parts.alpha is not None or parts.rank is None:
        return parts.alpha
    return torch.tensor(parts.scale * parts.rank)


def _magnitude(
    magnitude: torch.Tensor, of_input: bool, module: str, shape: Shape, writing: Writing
) -> dict[str, torch.Tensor]:
    """Return DoRA's magnitude; PEFT has one of the input for embeddings alone, so others keep LyCORIS' name."""
    ones = (1,) * (len(shape) - 2)
    length = magnitude.numel()
    if of_input and writing.family == "peft" and is_lookup(module):
        return {module + WRITTEN["peft"]: magnitude.reshape(length)}
    if of_input:
        return {module + WRITTEN["kohya"]: magnitude.reshape(1, length, *ones)}
    if writing.has_alpha:
        return {module + WRITTEN["kohya"]: magnitude.reshape(length, 1, *ones)}
    across = magnitude.reshape(1, length, *ones) if ones else magnitude.reshape(length)
    return {module + WRITTEN["peft"]: across}
