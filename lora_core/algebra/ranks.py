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
        return self.by in BUDGETS

    @property
    def needs_all(self) -> bool:
        """Whether the rule compares with the sum of all sigma, so that the largest of them alone do not tell."""
        return self.by in ("sum", "sv_cumulative")

    def rank_of(self, spectrum: Spectrum) -> int:
        """Return the smallest rank that satisfies the rule, from 1 to the limit; 0 for a change of zeros."""
        if spectrum.total == 0 or len(spectrum.values) == 0:
            return 0
        limit = min(self.max_rank, len(spectrum.values))
        return max(1, min(limit, _RANKS[self.by](spectrum, self.threshold)))


def rule_of(*, rank: int, energy: float, max_rank: int, rank_by: str, threshold: float) -> RankRule:
    """Return the rule that a user's options mean; raises OptionError for a number outside its range."""
    by = ("energy" if energy else "rank") if rank_by == "auto" else rank_by
    if by == "rank":
        return RankRule("rank", 0.0, rank)
    if by == "energy":
        threshold = energy or threshold
    low, high = _RANGES.get(by, (0.0, math.inf))
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
    room = rule.threshold * 1e6 - fixed_bytes
    rest, allowed = (total := sum(one.total for one in spectra)), 0.0
    if rule.by == "total_error":
        allowed = rule.threshold**2 * total
    while heap and rest > allowed:
        _, place = heapq.heappop(heap)
        size = spectra[place].parameters_per_rank
        if rule.by == "file_size" and size * element_bytes > room:
            continue  # a smaller layer may still fit
        room -= size * element_bytes
        rest -= saved[place][ranks[place]]
        ranks[place] += 1
        if ranks[place] < len(saved[place]):
            heapq.heappush(heap, (-saved[place][ranks[place]] / size, place))
    return ranks


def _fixed(spectrum: Spectrum, threshold: float) -> int:
    return len(spectrum.values)


def _energy(spectrum: Spectrum, threshold: float) -> int:
    """sum_{i<=k} sigma² >= threshold · sum sigma²."""
    return _first_reaching(spectrum.values.square().cumsum(0), threshold * spectrum.total)


def _error(spectrum: Spectrum, threshold: float) -> int:
    """sqrt(sum_{i>k} sigma²) <= threshold · sqrt(sum sigma²)."""
    return _energy(spectrum, 1.0 - threshold**2)


def _ratio(spectrum: Spectrum, threshold: float) -> int:
    """sigma_i >= threshold · sigma1."""
    return int((spectrum.values >= threshold * spectrum.values[0]).sum())


def _absolute(spectrum: Spectrum, threshold: float) -> int:
    """sigma_i > threshold."""
    return int((spectrum.values > threshold).sum())


def _relative(spectrum: Spectrum, threshold: float) -> int:
    """sigma_i > threshold · |W|_F / sqrt(min(m, n)): the root mean square singular value of the weight."""
    if spectrum.weight_norm is None:
        raise OptionError("rank_by: relative compares with the weights, so it needs the model: give it as the base.")
    return int((spectrum.values > threshold * spectrum.weight_norm / math.sqrt(min(spectrum.shape))).sum())


def _sum(spectrum: Spectrum, threshold: float) -> int:
    """sum_{i<=k} sigma >= threshold · sum sigma; needs all sigma."""
    total = spectrum.values.sum()
    return _first_reaching(spectrum.values.cumsum(0), threshold * float(total))


# kohya's resize_lora.py (sd-scripts 48d368fa) takes one more than its index, which is one more than it has to be


def _sv_ratio(spectrum: Spectrum, threshold: float) -> int:
    """#{sigma > sigma1 / threshold}, and one more."""
    return _kohya(spectrum, int((spectrum.values > spectrum.values[0] / threshold).sum()))


def _sv_cumulative(spectrum: Spectrum, threshold: float) -> int:
    """sum_{i<=k} sigma >= threshold · sum sigma, and one more; needs all sigma."""
    sums = spectrum.values.cumsum(0)
    return _kohya(spectrum, int(torch.searchsorted(sums / sums[-1], threshold)) + 1)


def _sv_fro(spectrum: Spectrum, threshold: float) -> int:
    """sqrt(sum_{i<=k} sigma²) >= threshold · sqrt(sum sigma²), and one more."""
    sums = spectrum.values.square().cumsum(0)
    return _kohya(spectrum, int(torch.searchsorted(sums / spectrum.total, threshold**2)) + 1)


def _kohya(spectrum: Spectrum, index: int) -> int:
    if float(spectrum.values[0]) <= 1e-6:
        return 1
    return max(1, min(index, min(spectrum.shape) - 1)) + 1


def _first_reaching(sums: torch.Tensor, wanted: float) -> int:
    return int(torch.searchsorted(sums, wanted * (1.0 - 1e-12))) + 1  # rounding of the sum itself must not cost a rank


_RANKS = {
    "rank": _fixed, "energy": _energy, "error": _error, "ratio": _ratio, "absolute": _absolute, "relative": _relative,
    "sum": _sum, "sv_ratio": _sv_ratio, "sv_cumulative": _sv_cumulative, "sv_fro": _sv_fro,
}  # fmt: skip
assert set(_RANKS) == {*RULES, *KOHYA_RULES}
_RANGES = {
    "energy": (0.0, 1.0), "error": (0.0, 1.0), "ratio": (0.0, 1.0), "sum": (0.0, 1.0),
    "total_error": (0.0, 1.0), "file_size": (0.0, 1e6),
    "sv_ratio": (1.0, math.inf), "sv_cumulative": (0.0, 1.0), "sv_fro": (0.0, 1.0),
}  # fmt: skip
