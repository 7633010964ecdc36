"""How many singular values are kept: of one layer by a rule, or of all layers by one budget."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import OptionError
from .rankrules import ALL_RULES, BUDGET_RULES, LAYER_RULES, Spectrum


@dataclass(frozen=True, slots=True)
class RankRule:
    """What decides the rank of a layer: `by` is one of RULES, BUDGETS or KOHYA_RULES, `threshold` its number."""

    by: str
    threshold: float  # 0 for a rule without one
    max_rank: int  # the highest rank, whatever the rule says; for by="rank" the rank itself

    @property
    def is_budget(self) -> bool:
        """Whether all layers are decided together, by `spread`."""
        return self.by in BUDGET_RULES

    @property
    def has_threshold(self) -> bool:
        """Whether the rule has a number at all."""
        return ALL_RULES[self.by].threshold is not None

    @property
    def needs_all(self) -> bool:
        """Whether the rule compares with the sum of all sigma, so that the largest of them alone do not tell."""
        return ALL_RULES[self.by].needs_all

    @property
    def needs_weight(self) -> bool:
        """Whether the rule compares with the weights of the model."""
        return ALL_RULES[self.by].needs_weight

    def rank_of(self, spectrum: Spectrum) -> int:
        """Return the smallest rank that satisfies the rule, from 1 to the limit; 0 for a change of zeros."""
        if spectrum.total == 0 or len(spectrum.values) == 0:
            return 0
        limit = min(self.max_rank, len(spectrum.values))
        return max(1, min(limit, LAYER_RULES[self.by].rank(spectrum, self.threshold)))


def rule_of(*, rank: int, energy: float, max_rank: int, rank_by: str, threshold: float) -> RankRule:
    """Return the rule that a user's options mean; raises OptionError for a number outside its range."""
    by = ("energy" if energy else "rank") if rank_by == "auto" else rank_by
    limit, allowed = (rank if by == "rank" else max_rank), ALL_RULES[by].threshold
    if allowed is None:
        return RankRule(by, 0.0, limit)
    if by == "energy":
        threshold = energy or threshold
    if not allowed.low < threshold <= allowed.high:
        bounds = f"above {allowed.low:g}" + ("" if allowed.high == math.inf else f", at most {allowed.high:g}")
        name = "energy" if by == "energy" and energy else "threshold"
        raise OptionError(f"{name}: for rank_by {by} expected a number {bounds}; found {threshold!r}.")
    return RankRule(by, threshold, limit)


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
    budget, rest = BUDGET_RULES[rule.by], sum(one.total for one in spectra)
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
