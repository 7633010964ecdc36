"""How many singular values are kept: of one layer by a rule, or of all layers by one budget."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import OptionError
from ..lazytorch import torch
from ..options.ranks import BUDGETS, KOHYA_RULES, RULES


@dataclass(frozen=True, slots=True)
class Spectrum:
    """What a rule looks at: singular values sigma of a change, and sizes."""

    values: torch.Tensor  # (k,) fp64, largest first: all that are not zero, or the first of them
    total: float  # sum sigma² over all of them, exact even where `values` are only the first
    shape: tuple[int, int]  # of the change, (m, n)
    weight_norm: float | None = None  # |W|_F of the weight, where it is known

    @property
    def parameters_per_rank(self) -> int:
        return sum(self.shape)


@dataclass(frozen=True, slots=True)
class RankRule:
    """What decides the rank of a layer: `by` is one of RULES, BUDGETS or KOHYA_RULES, `threshold` its number."""

    by: str
    threshold: float
    max_rank: int  # the highest rank, whatever the rule says; for by="rank" the rank itself

    @property
    def is_budget(self) -> bool:
        """Whether all layers are decided together, by `spread`."""
        return self.by in _BUDGETS

    @property
    def needs_all(self) -> bool:
        """Whether the rule compares with the sum of all sigma, so that the largest of them alone do not tell."""
        return _WAYS[self.by].needs_all

    @property
    def needs_weight(self) -> bool:
        """Whether the rule compares with the weights of the model."""
        return _WAYS[self.by].needs_weight

    def rank_of(self, spectrum: Spectrum) -> int:
        """Return the smallest rank that satisfies the rule, from 1 to the limit; 0 for a change of zeros."""
        if spectrum.total == 0 or len(spectrum.values) == 0:
            return 0
        limit = min(self.max_rank, len(spectrum.values))
        return max(1, min(limit, _LAYER_RULES[self.by].rank(spectrum, self.threshold)))


def rule_of(*, rank: int, energy: float, max_rank: int, rank_by: str, threshold: float) -> RankRule:
    """Return the rule that a user's options mean; raises OptionError for a number outside its range."""
    by = ("energy" if energy else "rank") if rank_by == "auto" else rank_by
    if by == "rank":
        return RankRule("rank", 0.0, rank)
    if by == "energy":
        threshold = energy or threshold
    low, high = _WAYS[by].above, _WAYS[by].at_most
    if not low < threshold <= high:
        bounds = f"above {low:g}" + ("" if high == math.inf else f", at most {high:g}")
        name = "energy" if by == "energy" and energy else "threshold"
        raise OptionError(f"{name}: for rank_by {by} expected a number {bounds}; found {threshold!r}.")
    return RankRule(by, threshold, max_rank)


def spread(
    rule: RankRule,
    spectra: Sequence[Spectrum],
    element_bytes: int = 2,
    fixed_bytes: int = 0,
    limits: Sequence[int] | None = None,
) -> list[int]:
    """Return a rank for each layer that spends a budget where it does most, 0 for a layer not worth any.

    A singular value costs m + n numbers and saves sigma² of the squared error, so values are taken in the order of
    sigma² / (m + n) until the file of `file_size` MB is full, or until the error of all layers together,
    sqrt(sum rest / sum all), is down to `total_error`: the least total Frobenius error for the size, the smallest size
    for the error, up to one singular value. `fixed_bytes` is what the file holds besides; `limits` are the highest
    rank of each layer, where it is not the rule's.
    """
    ranks = [0] * len(spectra)
    limits = limits or [rule.max_rank] * len(spectra)
    saved = [
        one.values[:limit].square().tolist() if one.total > 0 else []
        for one, limit in zip(spectra, limits, strict=True)
    ]
    heap = [(-squares[0] / spectra[place].parameters_per_rank, place) for place, squares in enumerate(saved) if squares]
    heapq.heapify(heap)
    budget, rest = _BUDGETS[rule.by], sum(one.total for one in spectra)
    room, allowed = budget.room(rule.threshold) - fixed_bytes, budget.error(rule.threshold) * rest
    while heap and rest > allowed:
        _, place = heapq.heappop(heap)
        size = spectra[place].parameters_per_rank
        if size * element_bytes > room:
            continue  # a smaller layer may still fit
        room -= size * element_bytes
        rest -= saved[place][ranks[place]]
        ranks[place] += 1
        if ranks[place] < len(saved[place]):
            heapq.heappush(heap, (-saved[place][ranks[place]] / size, place))
    return ranks


_WAYS: dict[str, type[Way]] = {}  # by name


class Way:
    """A way to decide ranks by a threshold. A new one is a class below and a choice in `options.ranks`."""

    by: str  # its name there
    above = 0.0
    at_most = math.inf  # the range of the threshold
    needs_all = False  # all sigma, and not only the largest
    needs_weight = False

    def __init_subclass__(cls) -> None:
        if hasattr(cls, "by"):
            _WAYS[cls.by] = cls


class LayerRule(Way):
    """A way that decides each layer by itself."""

    @staticmethod
    def rank(spectrum: Spectrum, threshold: float) -> int:
        """Return the smallest rank that satisfies the rule, of a change that is not zero."""
        raise NotImplementedError


class Budget(Way):
    """A way that decides all layers together: they get ranks while there is room, until the error is small enough."""

    @staticmethod
    def room(threshold: float) -> float:
        """Return how large the file may be, in bytes."""
        return math.inf

    @staticmethod
    def error(threshold: float) -> float:
        """Return what may be lost, as a share of the sum of sigma² of all layers."""
        return 0.0


class ByRank(LayerRule):
    """All that the limit allows."""

    by = "rank"

    @staticmethod
    def rank(spectrum: Spectrum, threshold: float) -> int:
        return len(spectrum.values)


class ByEnergy(LayerRule):
    """sum_{i<=k} sigma² >= threshold · sum sigma²."""

    by, at_most = "energy", 1.0

    @staticmethod
    def rank(spectrum: Spectrum, threshold: float) -> int:
        return _first_reaching(spectrum.values.square().cumsum(0), threshold * spectrum.total)


class ByError(LayerRule):
    """sqrt(sum_{i>k} sigma²) <= threshold · sqrt(sum sigma²)."""

    by, at_most = "error", 1.0

    @staticmethod
    def rank(spectrum: Spectrum, threshold: float) -> int:
        return ByEnergy.rank(spectrum, 1.0 - threshold**2)


class ByRatio(LayerRule):
    """sigma_i >= threshold · sigma1."""

    by, at_most = "ratio", 1.0

    @staticmethod
    def rank(spectrum: Spectrum, threshold: float) -> int:
        return int((spectrum.values >= threshold * spectrum.values[0]).sum())


class ByAbsolute(LayerRule):
    """sigma_i > threshold."""

    by = "absolute"

    @staticmethod
    def rank(spectrum: Spectrum, threshold: float) -> int:
        return int((spectrum.values > threshold).sum())


class ByRelative(LayerRule):
    """sigma_i > threshold · |W|_F / sqrt(min(m, n)): the root mean square singular value of the weight."""

    by, needs_weight = "relative", True

    @staticmethod
    def rank(spectrum: Spectrum, threshold: float) -> int:
        if spectrum.weight_norm is None:
            raise OptionError(
                "rank_by: relative compares with the weights, so it needs the model: give it as the base."
            )
        return int((spectrum.values > threshold * spectrum.weight_norm / math.sqrt(min(spectrum.shape))).sum())


class BySum(LayerRule):
    """sum_{i<=k} sigma >= threshold · sum sigma."""

    by, at_most, needs_all = "sum", 1.0, True

    @staticmethod
    def rank(spectrum: Spectrum, threshold: float) -> int:
        total = spectrum.values.sum()
        return _first_reaching(spectrum.values.cumsum(0), threshold * float(total))


# kohya's resize_lora.py (sd-scripts 48d368fa) takes one more than its index, which is one more than it has to be


class BySvRatio(LayerRule):
    """#{sigma > sigma1 / threshold}, and one more."""

    by, above = "sv_ratio", 1.0

    @staticmethod
    def rank(spectrum: Spectrum, threshold: float) -> int:
        return _kohya(spectrum, int((spectrum.values > spectrum.values[0] / threshold).sum()))


class BySvCumulative(LayerRule):
    """sum_{i<=k} sigma >= threshold · sum sigma, and one more."""

    by, at_most, needs_all = "sv_cumulative", 1.0, True

    @staticmethod
    def rank(spectrum: Spectrum, threshold: float) -> int:
        sums = spectrum.values.cumsum(0)
        return _kohya(spectrum, int(torch.searchsorted(sums / sums[-1], threshold)) + 1)


class BySvFro(LayerRule):
    """sqrt(sum_{i<=k} sigma²) >= threshold · sqrt(sum sigma²), and one more."""

    by, at_most = "sv_fro", 1.0

    @staticmethod
    def rank(spectrum: Spectrum, threshold: float) -> int:
        sums = spectrum.values.square().cumsum(0)
        return _kohya(spectrum, int(torch.searchsorted(sums / spectrum.total, threshold**2)) + 1)


class ByFileSize(Budget):
    """The file has at most so many MB."""

    by, at_most = "file_size", 1e6

    @staticmethod
    def room(threshold: float) -> float:
        return threshold * 1e6


class ByTotalError(Budget):
    """sqrt(sum rest / sum all) <= threshold."""

    by, at_most = "total_error", 1.0

    @staticmethod
    def error(threshold: float) -> float:
        return threshold**2


_LAYER_RULES = {by: way for by, way in _WAYS.items() if issubclass(way, LayerRule)}
_BUDGETS = {by: way for by, way in _WAYS.items() if issubclass(way, Budget)}
assert set(_LAYER_RULES) == {*RULES, *KOHYA_RULES} and set(_BUDGETS) == {*BUDGETS}


def _kohya(spectrum: Spectrum, index: int) -> int:
    if float(spectrum.values[0]) <= 1e-6:
        return 1
    return max(1, min(index, min(spectrum.shape) - 1)) + 1


def _first_reaching(sums: torch.Tensor, wanted: float) -> int:
    return int(torch.searchsorted(sums, wanted * (1.0 - 1e-12))) + 1  # rounding of the sum itself must not cost a rank
