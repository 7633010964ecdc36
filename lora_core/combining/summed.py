"""The sum of the stack: exact from factors where the kinds have them, else fitted, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..adapters import FullDifference, NormDifference
from ..adapters.base import Adapter
from ..conversion.converter import Converter
from ..lazytorch import torch
from ..linalg import svd_of_dense, svd_of_product
from ..ranks import RankRule
from .changes import Change, change_of, dense_of, depends_on_weight, read
from .concatenated import concatenated
from .onbase import OnBase
from .output import Output
from .stacked import Member, Part, StackedLayer

NEGLIGIBLE = 1e-12  # share of ‖delta‖² that an exact rank may leave out: fp32 does not hold more


@dataclass(frozen=True, slots=True)
class Sum:
    """Makes one layer after the other: Σ strength · delta, what depends on the weight in stack order."""

    output: Output
    on_base: OnBase
    converters: Mapping[int, Converter]  # by member
    rule: RankRule | None  # None: no rank is cut off
    max_rank: int  # of what has no factors, without a rule

    def make(self, layer: StackedLayer) -> None:
        if self.rule is None and self._keep(layer):
            return
        if any(depends_on_weight(part) for part in layer.parts):
            self._finish(layer, self.on_base.change(layer, [None] * len(self.on_base.members)), "full")
            return
        adapters = [read(part) for part in layer.parts]
        if layer.is_vector or self._are_differences(adapters):
            kind = "norm" if all(isinstance(adapter, NormDifference) for adapter in adapters) else "full"
            self.output.put_difference(layer, _dense(layer.parts, adapters), kind)
            return
        changes = [change_of(part, adapter, layer.shape) for part, adapter in zip(layer.parts, adapters, strict=True)]
        factored = [change for change in changes if change is not None]
        if len(factored) == len(changes):
            self._join(layer, factored)
        else:
            self._finish(layer, _dense(layer.parts, adapters), "full")

    def _join(self, layer: StackedLayer, changes: Sequence[Change]) -> None:
        joined = concatenated(changes)
        if joined is None:
            self.output.empty.append(layer.slot.name)
        elif self.rule is None or (self.rule.by == "rank" and joined.rank <= self.rule.max_rank):
            self.output.put_joined(layer, joined)
        else:
            self.output.put_svd(layer, svd_of_product(*joined.factors()), self._weight_norm(layer))

    def _finish(self, layer: StackedLayer, delta: torch.Tensor, kind: str) -> None:
        """Take a change that has no factors: a vector as it is, a matrix at the rank that it may have."""
        if layer.is_vector:
            self.output.put_difference(layer, delta, kind)
            return
        matrix = delta.flatten(1)
        if self.rule is None:
            svd = svd_of_dense(matrix, min(self.max_rank, *matrix.shape), energy=1.0 - NEGLIGIBLE)
        else:
            energy = self.rule.threshold if self.rule.by == "energy" else 0.0
            svd = svd_of_dense(matrix, self.output.truncation.limit(self.output.layer(layer)), energy=energy)
        self.output.put_svd(layer, svd, self._weight_norm(layer))

    def _keep(self, layer: StackedLayer) -> bool:
        """Keep what depends on the weight as the kind that it is, if a single LoRA changes the layer, at strength 1."""
        first = layer.parts[0]
        is_alone = all(part.job is first.job for part in layer.parts) and first.strength == 1
        if not (is_alone and any(depends_on_weight(part) for part in layer.parts)):
            return False
        for part in layer.parts:
            read(part)
        self.output.put_made(layer, self.converters[first.member.index].made(first.job))
        return True

    def _are_differences(self, adapters: Sequence[Adapter]) -> bool:
        """Tell whether the sum is a difference of no more numbers than each of them."""
        is_exact = self.rule is None and self.output.writing.has_alpha
        return is_exact and all(isinstance(adapter, FullDifference) for adapter in adapters)

    def _weight_norm(self, layer: StackedLayer) -> float | None:
        return self.on_base.norm(layer.slot) if self.rule and self.rule.by == "relative" else None


def change_of_member(parts: Sequence[Part], adapters: Sequence[Adapter]) -> torch.Tensor:
    """Return what one LoRA changes in a layer at strength 1, in fp32, from its additive adapters."""
    return _summed(parts, adapters, [1.0] * len(parts))


def _dense(parts: Sequence[Part], adapters: Sequence[Adapter]) -> torch.Tensor:
    return _summed(parts, adapters, [part.strength for part in parts])


def _summed(parts: Sequence[Part], adapters: Sequence[Adapter], strengths: Sequence[float]) -> torch.Tensor:
    result = torch.zeros(parts[0].job.slot.shape)
    for part, adapter, strength in zip(parts, adapters, strengths, strict=True):
        result.add_(dense_of(part, adapter).reshape(result.shape), alpha=strength)
    return result


def parts_by_member(layer: StackedLayer) -> dict[int, list[Part]]:
    """Return the parts of a layer by the place of their LoRA in the stack."""
    found: dict[int, list[Part]] = {}
    for part in layer.parts:
        found.setdefault(part.member.index, []).append(part)
    return found


def converters_of(members: Sequence[Member], on_base: OnBase) -> dict[int, Converter]:
    """Return for each LoRA what keeps the kinds of its layers."""
    return {member.index: Converter(member.lora, on_base.base, False, 0) for member in members}
