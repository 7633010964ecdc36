"""What a user asked of combine."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import OptionError
from ..matching import OnUnmatched
from ..ranks import RankRule, rule_of
from ..writing import Writing
from .elementwise import Rule
from .limits import Limits


@dataclass(frozen=True, slots=True)
class Settings:
    """What a user set, checked."""

    method: str
    elementwise: Rule
    limits: Limits
    writing: Writing
    dtype: str
    arch: str
    on_unmatched: OnUnmatched
    overwrite: bool

    def note(self) -> dict[str, object]:
        """Return the method and its numbers, as the file names them."""
        if self.method == "sum":
            return {"method": "sum"}
        density = {} if self.method == "core_tsv" else {"density": self.elementwise.density}
        sign = {"sign": self.elementwise.sign} if self.method.endswith("ties") else {}
        seed = {"seed": self.elementwise.seed} if "dare" in self.method else {}
        return {"method": self.method, "experimental": True, **density, **sign, **seed}

    @property
    def named(self) -> str:
        """The same for people."""
        if self.method == "sum":
            return "sum"
        numbers = [f"{name} {value}" for name, value in self.note().items() if name not in ("method", "experimental")]
        return ", ".join([f"experimental: {self.method}", *numbers])


def rank_rule(
    rank: int, energy: float, max_rank: int, rank_by: str, threshold: float, *, has_base: bool
) -> RankRule | None:
    """Return what decides ranks, None where no rank is to be cut off."""
    if not rank and (rank_by == "rank" or (rank_by == "auto" and not energy)):
        return None
    if rank_by == "relative" and not has_base:
        raise OptionError("rank_by: relative compares with the weights, so it needs the model: give it with --base.")
    return rule_of(rank=rank, energy=energy, max_rank=max_rank, rank_by=rank_by, threshold=threshold)
