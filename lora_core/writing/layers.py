"""The layers of a LoRA that is being made: each gets its rank, its tensors and its line in the report.

Extract, Resize and Combine find the singular values of one layer after the other and add them here. A rule decides
at once; a budget decides when all layers are known, and until then their factors wait on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..adapters.spelling import LOOKUP_FACTORS
from ..algebra.rankrules import Spectrum
from ..algebra.ranks import RankRule, spread
from ..algebra.rounding import round_to
from ..algebra.svd import Svd
from ..arch.base import Shape
from ..errors import LoraError
from ..files.dtypes import dtype_name
from ..files.layout import PlannedTensor
from ..files.scratch import Scratch
from ..lazytorch import torch
from ..report import Report
from .lorafile import lora_size

_TRIES = 6  # to spend a file's size, whose header depends on what is in it

CURVE = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)  # ranks at which the report tells the energy


@dataclass(frozen=True, slots=True)
class WrittenLayer:
    """A name to write, and what is known of it besides its numbers."""

    name: str  # as it is written, dialect prefix included
    module: str
    block: str
    shape: Shape  # of the weight
    suffixes: tuple[str, str]  # of up and down
    has_alpha: bool = True
    weight_norm: float | None = None  # |W|_F
    was: str = ""  # the kinds that it was made of

    @property
    def lies_on_side(self) -> bool:
        return self.suffixes == tuple(LOOKUP_FACTORS.values())


@dataclass(frozen=True, slots=True)
class Ranked:
    """A layer and its rank, above 0."""

    layer: WrittenLayer
    rank: int


def described(layer: WrittenLayer, spectrum: Spectrum, rank: int, excess: float) -> dict[str, Any]:
    """Return what the report says of a layer; `curve` is the energy at a few ranks."""
    sums = spectrum.values.square().cumsum(0) / (spectrum.total or 1.0)
    return {
        "name": layer.name,
        "block": layer.block,
        "module": layer.module,
        "rank": rank,
        "energy": min(1.0, float(sums[rank - 1])) if rank else 0.0,
        "norm": spectrum.total**0.5,
        "curve": [[at, min(1.0, float(sums[at - 1]))] for at in sorted({*CURVE, len(sums)}) if 0 < at <= len(sums)],
        "excess": excess,
        **({"was": layer.was} if layer.was else {}),
    }


def planned(layer: WrittenLayer, rank: int, dtype: torch.dtype | None) -> list[PlannedTensor]:
    """Return the tensors of a layer at a rank above 0."""
    name = dtype_name(dtype or torch.float32)
    shapes = zip(layer.suffixes, factor_shapes(layer, rank), strict=True)
    alpha = [PlannedTensor(layer.name + ".alpha", "F32", ())] if layer.has_alpha else []
    return [*(PlannedTensor(layer.name + suffix, name, shape) for suffix, shape in shapes), *alpha]


def factor_shapes(layer: WrittenLayer, rank: int) -> tuple[Shape, Shape]:
    """Return the shapes of up and down, in the dimensions of the weight; an embedding's for PEFT lie on their side."""
    if layer.lies_on_side:
        return (rank, layer.shape[0]), (layer.shape[1], rank)
    ones = (1,) * (len(layer.shape) - 2)
    return (layer.shape[0], rank, *ones), (rank, *layer.shape[1:])


def matrix_of(shape: Shape) -> tuple[int, int]:
    """Return (out, in·kernel)."""
    rest = 1
    for size in shape[1:]:
        rest *= size
    return shape[0], rest


@dataclass(frozen=True, slots=True)
class Waiting:
    """A layer whose rank a budget decides later."""

    layer: WrittenLayer
    spectrum: Spectrum
    rule: RankRule
    excess: float
    beside: tuple[str, ...]  # names of the tensors that come with it


@dataclass(slots=True)
class Truncation:
    """Collects layers; `finish` returns what to write."""

    rule: RankRule
    conv_rank: int  # limit for kernels above 1x1; 0: as the other layers
    dtype: torch.dtype | None  # of the factors; None keeps fp32
    tensors: Scratch
    report: Report
    clamp: float = 1.0  # quantile at which kohya's scripts cut both factors; 1: not at all
    metadata_of: Callable[[Sequence[Ranked]], Mapping[str, str]] | None = None  # for the size of the file
    clamped: int = 0  # values beyond the range of `dtype`
    decided: list[Ranked] = field(default_factory=list[Ranked])  # so far, those of rank 0 left out
    waiting: list[Waiting] = field(default_factory=list[Waiting])

    def limit(self, layer: WrittenLayer) -> int:
        """Return the highest rank that a layer can get: how many singular values to find."""
        rule = self.rule_for(layer)
        return min(matrix_of(layer.shape)) if rule.needs_all else min(rule.max_rank, *matrix_of(layer.shape))

    def add(self, layer: WrittenLayer, svd: Svd, beside: Mapping[str, torch.Tensor] | None = None) -> int | None:
        """Take a layer's singular values and return its rank, None if a budget decides later.

        Those of a layer of zeros are refused by callers beforehand. `beside` are tensors, by their whole names, that
        are stored as they are if the layer gets a rank.
        """
        rule = self.rule_for(layer)
        spectrum = Spectrum(svd.values, svd.total, matrix_of(layer.shape), layer.weight_norm)
        for name, tensor in (beside or {}).items():
            self.tensors.put(name, tensor)
        if not rule.is_budget:
            rank = rule.rank_of(spectrum)
            self.put(layer, spectrum, svd.factors(rank), svd.excess)
            return rank
        for suffix, factor in zip(layer.suffixes, svd.factors(min(rule.max_rank, len(svd.values))), strict=True):
            self.tensors.put(layer.name + suffix, factor)
        self.waiting.append(Waiting(layer, spectrum, rule, svd.excess, tuple(beside or ())))
        return None

    def keep(self, name: str, tensor: torch.Tensor) -> None:
        """Take a tensor that is stored as it is."""
        self.tensors.put(name, tensor)

    def finish(self) -> Mapping[str, torch.Tensor]:
        """Decide what waits, and return all tensors; raises LoraError if a budget leaves nothing."""
        if self.waiting:
            ranks = self._spread()
            if not any(ranks):
                raise LoraError(
                    f"threshold: {self.rule.by} {self.rule.threshold:g} leaves no layer any rank; raise it."
                )
            for item, rank in zip(self.waiting, ranks, strict=True):
                self._settle(item, rank)
            self.waiting.clear()
        return self.tensors

    def _settle(self, item: Waiting, rank: int) -> None:
        up, down = (self.tensors[item.layer.name + suffix] for suffix in item.layer.suffixes)
        for suffix in item.layer.suffixes:
            self.tensors.drop(item.layer.name + suffix)
        for name in () if rank else item.beside:
            self.tensors.drop(name)
        self.put(item.layer, item.spectrum, (up[:, :rank], down[:rank]), item.excess)

    def rule_for(self, layer: WrittenLayer) -> RankRule:
        """Return the rule of a layer: kernels may have a limit of their own."""
        is_kernel = any(size > 1 for size in layer.shape[2:])
        if not (is_kernel and self.conv_rank):
            return self.rule
        return RankRule(self.rule.by, self.rule.threshold, self.conv_rank)

    def _spread(self) -> list[int]:
        """Return the rank of each layer that waits.

        A file's size counts its header and all else that it holds, which depends on the ranks in turn: both are found
        in turns, and the largest file that is not too large counts.
        """
        spectra, limits = [item.spectrum for item in self.waiting], [item.rule.max_rank for item in self.waiting]
        size = torch.empty(0, dtype=self.dtype or torch.float32).element_size()
        if self.rule.by != "file_size":
            return spread(self.rule, spectra, size, limits=limits)
        best, rest = [0] * len(spectra), self._rest([1] * len(spectra), size)
        for _ in range(_TRIES):
            ranks = spread(self.rule, spectra, size, rest, limits)
            taken, used = rest, self._factor_bytes(ranks, size)
            rest = self._rest(ranks, size)
            if rest + used <= self.rule.threshold * 1e6 and used > self._factor_bytes(best, size):
                best = ranks
            if rest == taken:
                break
        return best

    def _factor_bytes(self, ranks: Sequence[int], size: int) -> int:
        pairs = zip(self.waiting, ranks, strict=True)
        return size * sum(item.spectrum.parameters_per_rank * rank for item, rank in pairs)

    def _rest(self, ranks: Sequence[int], size: int) -> int:
        """Return what the file would hold besides the factors of these ranks, in bytes."""
        plan = {tensor.name: tensor for tensor in self.tensors.planned()}
        ranked = list(self.decided)
        for item, rank in zip(self.waiting, ranks, strict=True):
            for name in (*(item.layer.name + suffix for suffix in item.layer.suffixes), *(() if rank else item.beside)):
                del plan[name]
            if rank:
                ranked.append(Ranked(item.layer, rank))
                plan.update({tensor.name: tensor for tensor in self.planned(item.layer, rank)})
        metadata = self.metadata_of(ranked) if self.metadata_of else {}
        return lora_size(plan.values(), metadata) - self._factor_bytes(ranks, size)

    def planned(self, layer: WrittenLayer, rank: int) -> list[PlannedTensor]:
        """Return the tensors that a layer gets at a rank above 0."""
        return planned(layer, rank, self.dtype)

    def put(
        self, layer: WrittenLayer, spectrum: Spectrum, factors: tuple[torch.Tensor, torch.Tensor], excess: float
    ) -> None:
        """Store a layer whose rank is decided, that of its factors, and its line in the report."""
        rank = factors[0].shape[1]
        if rank:
            self.decided.append(Ranked(layer, rank))
            laid = [factor.t() for factor in factors] if layer.lies_on_side else factors
            shaped = [factor.reshape(shape) for factor, shape in zip(laid, factor_shapes(layer, rank), strict=True)]
            for suffix, factor in zip(layer.suffixes, self._cut(shaped), strict=True):
                self.tensors.put(layer.name + suffix, self._rounded(factor))
            if layer.has_alpha:
                self.tensors.put(layer.name + ".alpha", torch.tensor(float(rank)))
        size = sum(tensor.nbytes for tensor in self.planned(layer, rank)) if rank else 0
        self.report.layers.append({**described(layer, spectrum, rank, excess), "bytes": size})

    def _rounded(self, factor: torch.Tensor) -> torch.Tensor:
        if self.dtype is None or factor.is_meta:
            return factor if self.dtype is None else factor.to(self.dtype)
        rounded, beyond = round_to(factor, self.dtype)
        self.clamped += beyond
        return rounded

    def _cut(self, factors: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        """Cut both factors at a quantile of their signed values, as kohya's scripts do, which weakens the LoRA."""
        if self.clamp >= 1 or factors[0].is_meta:
            return factors
        values = torch.cat([factor.flatten() for factor in factors])
        high = float(values.kthvalue(max(1, round(self.clamp * values.numel()))).values)
        return [factor.clamp(-high, high) for factor in factors]
