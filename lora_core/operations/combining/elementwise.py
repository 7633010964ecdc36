"""Rules that look at single entries of the changes: magnitude pruning, TIES and DARE. Experimental.

They take one tensor for each LoRA, its change at strength 1, and its strength; tensors are overwritten, so that memory
holds them and little more. On dense changes these are the published methods; in the core space (`corespace`) the
same rules are other methods.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ...lazytorch import torch

Sign = Literal["weighted", "total", "frequency"]


@dataclass(frozen=True, slots=True)
class Rule:
    """A method and its numbers."""

    method: str  # magnitude_prune, ties, dare_linear or dare_ties
    density: float  # share of the entries that are kept
    sign: Sign
    seed: int

    def merged(
        self, taus: list[torch.Tensor], strengths: Sequence[float], name: str, members: Sequence[int]
    ) -> torch.Tensor:
        """Return the merged change of the layer `name`; `members` are the places of the LoRAs in the stack."""
        for tau, member in zip(taus, members, strict=True):
            if self.method.startswith("dare"):
                drop_out(tau, self.density, generator_of(self.seed, name, member))
            else:
                trim(tau, self.density)
        return elected(taus, strengths, self.sign) if self.method.endswith("ties") else weighted(taus, strengths)


def generator_of(seed: int, name: str, member: int) -> torch.Generator:
    """Return what a LoRA's mask of a layer is drawn from: on the CPU, so that every device draws the same.

    That generator looks at 32 bits of its seed, so all three become one number of that size.
    """
    return torch.Generator().manual_seed(zlib.crc32(f"{seed} {member} {name}".encode()))


def trim(tau: torch.Tensor, density: float) -> None:
    """Set all but the floor(density · numel) largest entries by magnitude to 0; those as large as the last are kept."""
    kept = int(density * tau.numel())
    if kept >= tau.numel():
        return
    if kept == 0:
        tau.zero_()
        return
    sizes = tau.abs()
    least = sizes.flatten().kthvalue(tau.numel() - kept + 1).values
    tau.mul_(sizes >= least)


def drop_out(tau: torch.Tensor, density: float, generator: torch.Generator) -> None:
    """Keep each entry with the probability `density`, divided by it (Yu et al., DARE, arXiv:2311.03099)."""
    if density >= 1:
        return
    mask = torch.empty(tau.shape).bernoulli_(density, generator=generator).to(tau.device)
    tau.mul_(mask)
    if density:
        tau.div_(density)


def weighted(taus: Sequence[torch.Tensor], strengths: Sequence[float]) -> torch.Tensor:
    """Return sum w·tau."""
    result = taus[0] * strengths[0]
    for tau, strength in zip(taus[1:], strengths[1:], strict=True):
        result.add_(tau, alpha=strength)
    return result


def elected(taus: Sequence[torch.Tensor], strengths: Sequence[float], sign: Sign) -> torch.Tensor:
    """Return the mean of the w·tau whose sign is the elected one (Yadav et al., TIES, arXiv:2306.01708).

    weighted: the sign of sum w·tau, as in the paper, whose tau are those that are added. PEFT compares tau, not w·tau,
    with the sign of sum tau (total) or of sum sgn tau (frequency); with strengths that are all positive only the sum
    differs. A sum of zero counts as positive.
    """
    own = [1.0] * len(taus) if sign != "weighted" else strengths
    positive = _election(taus, own, sign) >= 0
    result, number = torch.zeros_like(taus[0]), torch.zeros_like(taus[0], dtype=torch.uint8)
    for tau, strength, factor in zip(taus, strengths, own, strict=True):
        votes = tau if factor > 0 else -tau
        agrees = torch.where(positive, votes > 0, votes < 0)
        result.add_(tau.mul_(agrees), alpha=strength)
        number += agrees
    return result.div_(number.clamp_min_(1))


def _election(taus: Sequence[torch.Tensor], own: Sequence[float], sign: Sign) -> torch.Tensor:
    if sign != "frequency":
        return weighted(taus, own)
    result = taus[0].sign()
    for tau in taus[1:]:
        result += tau.sign()
    return result
