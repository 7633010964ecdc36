"""The exact sum of low-rank changes: [w1·up1 | w2·up2 | …] · [down1; down2; …], at the lowest rank that is seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ...adapters.parts import kept, side_by_side
from ...algebra.svd import svd_of_product
from ...lazytorch import torch
from .changes import FactoredChange

DEPENDENT = 1e-5  # share of a row of down that may be new before a sum counts as one of lower rank


@dataclass(frozen=True, slots=True)
class Joined:
    """scale · up · down; a tensor that nothing had to change keeps its dtype."""

    up: torch.Tensor  # (out, r)
    down: torch.Tensor  # (r, in·kernel)
    scale: float
    is_untouched: bool = False  # the tensors and the scale are those of a file

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    def factors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (up, down) in fp32 with the scale in up."""
        return self.up.float() * self.scale, self.down.float()

    def norm(self) -> float:
        """Return |scale · up · down|_F, in fp32."""
        up, down = self.up.float(), self.down.float()
        square = float(((up.t() @ up) * (down @ down.t())).sum())
        return max(0.0, square) ** 0.5 * abs(self.scale)


def concatenated(changes: Sequence[FactoredChange]) -> Joined | None:
    """Return sum strength · change; None if it is zero.

    LoRAs that share their down factor share its rank: the same LoRA at ½ and ½ is that LoRA, its tensors untouched.
    LoRAs of one weight keep their tensors too, and the weight becomes the scale.
    """
    groups = [(*summed, down) for down, ups in _by_down(changes) if (summed := _sum(ups))]
    if not groups:
        return None
    up, weight, down = groups[0]
    first = changes[0]
    if len(groups) == 1 and up is first.up and math.isclose(weight, first.scale, rel_tol=1e-12):
        joined = Joined(up, down, first.scale, is_untouched=True)
    else:
        scale = abs(weight) if len({abs(weight) for _, weight, _ in groups}) == 1 else 1.0
        pairs = [_weighted(up, down, weight / scale) for up, weight, down in groups]
        joined = Joined(side_by_side([up for up, _ in pairs], 1), side_by_side([down for _, down in pairs], 0), scale)
    least = min(joined.up.shape[0], joined.down.shape[1])
    is_high = joined.rank > least or (len(groups) > 1 and _is_dependent(joined.down))
    return _compressed(joined) if is_high else joined


def _by_down(changes: Sequence[FactoredChange]) -> list[tuple[torch.Tensor, list[tuple[torch.Tensor, float]]]]:
    """Return every down factor once, with the up factors that belong to it and their weights."""
    groups: list[tuple[torch.Tensor, list[tuple[torch.Tensor, float]]]] = []
    for change in changes:
        same = (ups for down, ups in groups if _equal(down, change.down))
        ups = next(same, None)
        if ups is None:
            groups.append((change.down, [(change.up, change.weight)]))
            continue
        place = next((at for at, (up, _) in enumerate(ups) if _equal(up, change.up)), len(ups))
        ups[place : place + 1] = [(change.up, change.weight + (ups[place][1] if place < len(ups) else 0.0))]
    return groups


def _sum(ups: Sequence[tuple[torch.Tensor, float]]) -> tuple[torch.Tensor, float] | None:
    """Return (up, weight) of sum weight · up, None if that is zero."""
    left = [(up, weight) for up, weight in ups if weight and bool(up.any())]
    if len(left) < 2:
        return left[0] if left else None
    weight = max(abs(weight) for _, weight in left)
    summed = sum((up.float() * (own / weight) for up, own in left[1:]), left[0][0].float() * (left[0][1] / weight))
    return (summed, weight) if bool(summed.any()) else None


def _weighted(up: torch.Tensor, down: torch.Tensor, share: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return factors of share · up · down.

    The values of both get alike in size by a power of two, which rounds nothing: fp16 has few digits for small numbers.
    """
    if abs(share) == 1:
        return (up if share == 1 else kept(up.float() * share, up.dtype)), down
    up, down = up.float() * share, down.float()
    sizes = float(down.abs().max()), float(up.abs().max())
    power = 2.0 ** round(math.log2(sizes[0] / sizes[1]) / 2) if all(sizes) else 1.0
    return up * power, down / power


def _is_dependent(down: torch.Tensor) -> bool:
    """Tell whether the rows span less than there are: then the Gram matrix of the unit rows has an eigenvalue of 0."""
    rows = torch.nn.functional.normalize(down.float(), dim=1)
    gram = rows @ rows.t() - DEPENDENT * torch.eye(len(rows), device=rows.device)
    return bool(torch.linalg.cholesky_ex(gram).info)


def _compressed(joined: Joined) -> Joined | None:
    found = svd_of_product(*joined.factors())
    if not len(found.values):
        return None
    up, down = found.factors(len(found.values))
    return Joined(up, down, 1.0) if len(found.values) < joined.rank else joined


def _equal(first: torch.Tensor, second: torch.Tensor) -> bool:
    return first.shape == second.shape and first.dtype == second.dtype and torch.equal(first, second)
