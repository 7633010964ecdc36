"""The experimental methods on the layers of a stack: on dense changes, or in the space that the factors span."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...adapters.base import Adapter
from ...lazytorch import torch
from .changes import FactoredChange, check_dense, depends_on_weight, factored_change, read
from .corespace import merged_in_core, task_singular_vectors
from .elementwise import Rule
from .members import Contribution, StackedLayer
from .onbase import OnBase
from .output import Result
from .settings import Limits
from .summed import Sum, change_of_member, parts_by_member


@dataclass(frozen=True, slots=True)
class Experimental:
    """Merges a layer by `method`; biases and norms are summed."""

    method: str
    elementwise: Rule
    on_base: OnBase
    summed: Sum
    limits: Limits

    def result(self, layer: StackedLayer) -> Result:
        """Return what becomes of a layer; raises OptionError for one that takes the base and there is none."""
        if layer.is_vector:
            return self.summed.result(layer)
        members = parts_by_member(layer)
        if self.method.startswith("core_"):
            changes = [change for parts in members.values() for change in self._factored(layer, parts)]
            if self.method == "core_tsv":
                return task_singular_vectors(changes)
            return merged_in_core(changes, self.elementwise, _name(layer))
        found = [self._dense(layer, parts) for parts in members.values()]
        rank = sum(rank for _, rank in found)
        taus = [tau for tau, _ in found]
        del found  # the merge overwrites them, and is done with each after the last use
        strengths = [parts[0].strength for parts in members.values()]
        merged = self.elementwise.merged(taus, strengths, _name(layer), list(members)).flatten(1)
        del taus
        return self.limits.fitted(merged, rank)

    def _dense(self, layer: StackedLayer, parts: Sequence[Contribution]) -> tuple[torch.Tensor, int]:
        """Return (one LoRA's change at strength 1, its rank)."""
        if any(depends_on_weight(part) for part in parts):
            return self._alone(layer, parts), self.limits.max_rank
        check_dense(parts, layer.shape)
        adapters = [read(part) for part in parts]
        changes = [factored_change(part, adapter, layer.shape) for part, adapter in zip(parts, adapters, strict=True)]
        found = [change for change in changes if change is not None]
        if len(found) < len(changes):
            return change_of_member(parts, adapters), self.limits.max_rank
        delta = found[0].dense()
        for change in found[1:]:
            delta += change.dense()
        return delta, sum(change.rank for change in found)

    def _factored(self, layer: StackedLayer, parts: Sequence[Contribution]) -> list[FactoredChange]:
        """Return one LoRA's changes as factors; a kind without is fitted at the highest rank."""
        adapters: list[Adapter] = []
        if not any(depends_on_weight(part) for part in parts):
            adapters = [read(part) for part in parts]
            changes = [
                factored_change(part, adapter, layer.shape) for part, adapter in zip(parts, adapters, strict=True)
            ]
            found = [change for change in changes if change is not None]
            if len(found) == len(changes):
                return found
        delta = change_of_member(parts, adapters) if adapters else self._alone(layer, parts)
        svd = Limits(None, self.limits.max_rank).fitted(delta.flatten(1))
        up, down = svd.factors(len(svd.values))
        return [FactoredChange(up, down, 1.0, parts[0].strength, parts[0].member.index)]

    def _alone(self, layer: StackedLayer, parts: Sequence[Contribution]) -> torch.Tensor:
        """Return the change of a LoRA that depends on the weight, by itself, at strength 1."""
        strengths = [1.0 if member.index == parts[0].member.index else 0.0 for member in self.on_base.members]
        return self.on_base.change(layer, strengths)


def _name(layer: StackedLayer) -> str:
    """Return what seeds are made of: the weight's own name, which no dialect changes."""
    run = layer.slot.runs[0]
    return f"{layer.slot.component.arch.id} {run.key.partition('/')[2]} {run.start}"
