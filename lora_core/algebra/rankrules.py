"""The rules for ranks, each as a class: what the smallest rank is that satisfies it, or what a whole file may cost."""

from __future__ import annotations

import math
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
class Threshold:
    """The number of a rule: above `low`, at most `high`."""

    low: float = 0.0
    high: float = math.inf


SHARE = Threshold(high=1.0)


class Criterion:
    """What decides ranks. A new one is a class, its name in the list at the end, and a choice in `options.ranks`."""

    by: str  # the choice
    threshold: Threshold | None = Threshold()  # None: the rule has no number
    needs_all = False  # all sigma, and not only the largest
    needs_weight = False


class LayerRule(Criterion):
    """A rule that decides each layer by itself."""

    @staticmethod
    def rank(spectrum: Spectrum, threshold: float) -> int:
        """Return the smallest rank that satisfies the rule, of a change that is not zero."""
        raise NotImplementedError


class Budget(Criterion):
    """A rule that decides all layers together: they get ranks while there is room, until the error is small enough."""

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

    by, threshold = "rank", None

    @staticmethod
    def rank(spectrum: Spectrum, threshold: float) -> int:
        return len(spectrum.values)


class ByEnergy(LayerRule):
    """sum_{i<=k} sigma² >= threshold · sum sigma²."""

    by, threshold = "energy", SHARE

    @staticmethod
    def rank(spectrum: Spectrum, threshold: float) -> int:
        return _first_reaching(spectrum.values.square().cumsum(0), threshold * spectrum.total)


class ByError(LayerRule):
    """sqrt(sum_{i>k} sigma²) <= threshold · sqrt(sum sigma²)."""

    by, threshold = "error", SHARE

    @staticmethod
    def rank(spectrum: Spectrum, threshold: float) -> int:
        return ByEnergy.rank(spectrum, 1.0 - threshold**2)


class ByRatio(LayerRule):
    """sigma_i >= threshold · sigma1."""

    by, threshold = "ratio", SHARE

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

    by, threshold, needs_all = "sum", SHARE, True

    @staticmethod
    def rank(spectrum: Spectrum, threshold: float) -> int:
        total = spectrum.values.sum()
        return _first_reaching(spectrum.values.cumsum(0), threshold * float(total))


# kohya's resize_lora.py (sd-scripts 48d368fa) takes one more than its index, which is one more than it has to be


class BySvRatio(LayerRule):
    """#{sigma > sigma1 / threshold}, and one more."""

    by, threshold = "sv_ratio", Threshold(1.0)

    @staticmethod
    def rank(spectrum: Spectrum, threshold: float) -> int:
        return _kohya(spectrum, int((spectrum.values > spectrum.values[0] / threshold).sum()))


class BySvCumulative(LayerRule):
    """sum_{i<=k} sigma >= threshold · sum sigma, and one more."""

    by, threshold, needs_all = "sv_cumulative", SHARE, True

    @staticmethod
    def rank(spectrum: Spectrum, threshold: float) -> int:
        sums = spectrum.values.cumsum(0)
        return _kohya(spectrum, int(torch.searchsorted(sums / sums[-1], threshold)) + 1)


class BySvFro(LayerRule):
    """sqrt(sum_{i<=k} sigma²) >= threshold · sqrt(sum sigma²), and one more."""

    by, threshold = "sv_fro", SHARE

    @staticmethod
    def rank(spectrum: Spectrum, threshold: float) -> int:
        sums = spectrum.values.square().cumsum(0)
        return _kohya(spectrum, int(torch.searchsorted(sums / spectrum.total, threshold**2)) + 1)


class ByFileSize(Budget):
    """The file has at most so many MB."""

    by, threshold = "file_size", Threshold(high=1e6)

    @staticmethod
    def room(threshold: float) -> float:
        return threshold * 1e6


class ByTotalError(Budget):
    """sqrt(sum rest / sum all) <= threshold."""

    by, threshold = "total_error", SHARE

    @staticmethod
    def error(threshold: float) -> float:
        return threshold**2


def _kohya(spectrum: Spectrum, index: int) -> int:
    if float(spectrum.values[0]) <= 1e-6:
        return 1
    return max(1, min(index, min(spectrum.shape) - 1)) + 1


def _first_reaching(sums: torch.Tensor, wanted: float) -> int:
    return int(torch.searchsorted(sums, wanted * (1.0 - 1e-12))) + 1  # rounding of the sum itself must not cost a rank


LAYER_RULES: dict[str, type[LayerRule]] = {
    rule.by: rule
    for rule in (
        *(ByRank, ByEnergy, ByError, ByRatio, ByAbsolute, ByRelative, BySum),
        *(BySvRatio, BySvCumulative, BySvFro),
    )
}
BUDGET_RULES: dict[str, type[Budget]] = {rule.by: rule for rule in (ByFileSize, ByTotalError)}
ALL_RULES: dict[str, type[Criterion]] = {**LAYER_RULES, **BUDGET_RULES}
assert set(LAYER_RULES) == {*RULES, *KOHYA_RULES} and set(BUDGET_RULES) == {*BUDGETS}
