"""The experimental methods on the layers of a stack: on dense changes, or in the space that the factors span."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..adapters.base import Adapter
from ..lazytorch import torch
from ..linalg import Svd, svd_of_dense
from ..ranks import RankRule
from .changes import Change, change_of, depends_on_weight, read
from .corespace import merged_in_core, task_singular_vectors
from .elementwise import Rule
from .onbase import OnBase
from .output import Output
from .stacked import Part, StackedLayer
from .summed import NEGLIGIBLE, Sum, change_of_member, parts_by_member


@dataclass(frozen=True, slots=True)
class Experimental:
    """Makes one layer after the other by `method`; biases and norms are summed."""

    method: str
    elementwise: Rule
    output: Output
    on_base: OnBase
    summed: Sum
    rule: RankRule | None
    max_rank: int

    def make(self, layer: StackedLayer) -> None:
        if layer.is_vector:
            self.summed.make(layer)
        elif self.method.startswith("core_"):
            changes = [change for parts in parts_by_member(layer).values() for change in self._factored(layer, parts)]
            self.output.put_svd(layer, self._in_core(layer, changes))
        else:
            self._densely(layer)

    def _in_core(self, layer: StackedLayer, changes: Sequence[Change]) -> Svd:
        if self.method == "core_tsv":
            return task_singular_vectors(changes)
        return merged_in_core(changes, self.elementwise, _name(layer))

    def _densely(self, layer: StackedLayer) -> None:
        members = parts_by_member(layer)
        taus: list[torch.Tensor] = []
        rank = 0
        for parts in members.values():
            tau, own = self._dense(layer, parts)
            taus.append(tau)
            rank += own
        strengths = [parts[0].strength for parts in members.values()]
        merged = self.elementwise.merged(taus, strengths, _name(layer), list(members)).flatten(1)
        del taus
        if self.rule is None:
            most = min(rank, self.max_rank, *merged.shape)
            svd = svd_of_dense(merged, most)
            svd = replace(svd, left=svd.left[:, :most], values=svd.values[:most], right=svd.right[:most])
        else:
            energy = self.rule.threshold if self.rule.by == "energy" else 0.0
            svd = svd_of_dense(merged, self.output.truncation.limit(self.output.layer(layer)), energy=energy)
        self.output.put_svd(layer, svd)

    def _dense(self, layer: StackedLayer, parts: Sequence[Part]) -> tuple[torch.Tensor, int]:
        """Return (one LoRA's change at strength 1, its rank)."""
        if any(depends_on_weight(part) for part in parts):
            return self._alone(layer, parts), self.max_rank
        adapters = [read(part) for part in parts]
        changes = [change_of(part, adapter, layer.shape) for part, adapter in zip(parts, adapters, strict=True)]
        found = [change for change in changes if change is not None]
        if len(found) < len(changes):
            return change_of_member(parts, adapters), self.max_rank
        delta = found[0].dense()
        for change in found[1:]:
            delta += change.dense()
        return delta, sum(change.rank for change in found)

    def _factored(self, layer: StackedLayer, parts: Sequence[Part]) -> list[Change]:
        """Return one LoRA's changes as factors; a kind without is fitted at the highest rank."""
        adapters: list[Adapter] = []
        if not any(depends_on_weight(part) for part in parts):
            adapters = [read(part) for part in parts]
            changes = [change_of(part, adapter, layer.shape) for part, adapter in zip(parts, adapters, strict=True)]
            found = [change for change in changes if change is not None]
            if len(found) == len(changes):
                return found
        delta = change_of_member(parts, adapters) if adapters else self._alone(layer, parts)
        matrix = delta.flatten(1)
        svd = svd_of_dense(matrix, min(self.max_rank, *matrix.shape), energy=1.0 - NEGLIGIBLE)
        up, down = svd.factors(len(svd.values))
        return [Change(up, down, 1.0, parts[0].strength, parts[0].member.index)]

    def _alone(self, layer: StackedLayer, parts: Sequence[Part]) -> torch.Tensor:
        """Return the change of a LoRA that depends on the weight, by itself, at strength 1."""
        strengths = [1.0 if member.index == parts[0].member.index else 0.0 for member in self.on_base.members]
        return self.on_base.change(layer, strengths)


def _name(layer: StackedLayer) -> str:
    """Return what seeds are made of: the weight's own name, which no dialect changes."""
    run = layer.slot.runs[0]
    return f"{layer.slot.component.arch.id} {run.key.partition('/')[2]} {run.start}"
