"""The sum of the stack: exact from factors where the kinds have them, else fitted, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...adapters import Adapter, FullDifference
from ...algebra.svd import svd_of_product
from ...lazytorch import torch
from ...writing.converter import Converter
from .changes import dense_of, depends_on_weight, factored_change, read
from .concatenated import concatenated
from .members import Contribution, Member, StackedLayer
from .onbase import OnBase
from .output import Result, StoredDifference
from .settings import Limits


@dataclass(frozen=True, slots=True)
class Sum:
    """Finds sum strength · delta of a layer, what depends on the weight in stack order."""

    on_base: OnBase
    converters: Mapping[int, Converter]  # by member
    limits: Limits
    has_alpha: bool  # the dialect has tensors for it, and for full differences

    def result(self, layer: StackedLayer) -> Result:
        """Return what becomes of a layer; raises OptionError for one that takes the base and there is none."""
        if self.limits.rule is None and self._stays(layer):
            for part in layer.parts:
                read(part)
            first = layer.parts[0]
            return self.converters[first.member.index].made(first.job)
        if any(depends_on_weight(part) for part in layer.parts):
            return self._of_dense(layer, self.on_base.change(layer, [None] * len(self.on_base.members)))
        adapters = [read(part) for part in layer.parts]
        if layer.is_vector or self._are_differences(adapters):
            return StoredDifference(_dense(layer.parts, adapters), _kind_of_sum(adapters))
        changes = [
            factored_change(part, adapter, layer.shape) for part, adapter in zip(layer.parts, adapters, strict=True)
        ]
        factored = [change for change in changes if change is not None]
        if len(factored) < len(changes):
            return self._of_dense(layer, _dense(layer.parts, adapters))
        joined = concatenated(factored)
        if joined is None or self.limits.hold(joined.rank):
            return joined
        return svd_of_product(*joined.factors(), self.limits.most(layer.shape))

    def _of_dense(self, layer: StackedLayer, delta: torch.Tensor) -> Result:
        """Return a change that has no factors: a vector as it is, a matrix at the rank that it may have."""
        return StoredDifference(delta, FullDifference.id) if layer.is_vector else self.limits.fitted(delta.flatten(1))

    def _stays(self, layer: StackedLayer) -> bool:
        """Tell whether a layer depends on the weight and a single LoRA changes it, at strength 1: it keeps its kind."""
        first = layer.parts[0]
        is_alone = all(part.job is first.job for part in layer.parts) and first.strength == 1
        return is_alone and any(depends_on_weight(part) for part in layer.parts)

    def _are_differences(self, adapters: Sequence[Adapter]) -> bool:
        """Tell whether the sum is a difference of no more numbers than each of them."""
        is_exact = self.limits.rule is None and self.has_alpha
        return is_exact and all(adapter.difference for adapter in adapters)


def _kind_of_sum(adapters: Sequence[Adapter]) -> str:
    """Return the kind as which the sum of the adapters is stored whole."""
    kinds = {adapter.difference or FullDifference.id for adapter in adapters}
    return kinds.pop() if len(kinds) == 1 else FullDifference.id


def change_of_member(parts: Sequence[Contribution], adapters: Sequence[Adapter]) -> torch.Tensor:
    """Return what one LoRA changes in a layer at strength 1, in fp32, from its additive adapters."""
    return _summed(parts, adapters, [1.0] * len(parts))


def _dense(parts: Sequence[Contribution], adapters: Sequence[Adapter]) -> torch.Tensor:
    return _summed(parts, adapters, [part.strength for part in parts])


def _summed(parts: Sequence[Contribution], adapters: Sequence[Adapter], strengths: Sequence[float]) -> torch.Tensor:
    result = torch.zeros(parts[0].job.slot.shape)
    for part, adapter, strength in zip(parts, adapters, strengths, strict=True):
        result.add_(dense_of(part, adapter).reshape(result.shape), alpha=strength)
    return result


def parts_by_member(layer: StackedLayer) -> dict[int, list[Contribution]]:
    """Return the parts of a layer by the place of their LoRA in the stack."""
    found: dict[int, list[Contribution]] = {}
    for part in layer.parts:
        found.setdefault(part.member.index, []).append(part)
    return found


def converters_of(members: Sequence[Member], on_base: OnBase) -> dict[int, Converter]:
    """Return for each LoRA what keeps the kinds of its layers."""
    return {member.index: Converter(member.lora, on_base.base, False, 0) for member in members}
