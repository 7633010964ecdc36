"""What a user asked of combine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ...algebra.ranks import RankRule, rule_of
from ...algebra.svd import Svd, svd_of_dense
from ...arch.base import Shape
from ...errors import OptionError
from ...files.tensorheader import element_count
from ...lazytorch import torch
from ...naming.dialects import Writing
from ...reading.lorafile import LoraFile
from ...stack.refusals import OnUnmatched
from .elementwise import Rule

NEGLIGIBLE = 1e-12  # share of |delta|² that an exact rank may leave out: fp32 does not hold more
NO_LIMIT = 2**31 - 1


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
    rule = rule_of(rank=rank, energy=energy, max_rank=max_rank, rank_by=rank_by, threshold=threshold)
    if rule.needs_weight and not has_base:
        raise OptionError(f"rank_by: {rule.by} compares with the weights, so it needs the model: give it with --base.")
    return rule


@dataclass(frozen=True, slots=True)
class Limits:
    """What a user asked of ranks."""

    rule: RankRule | None  # None: no rank is cut off
    max_rank: int  # of what has no factors, without a rule

    @property
    def deciding(self) -> RankRule:
        """The rule that decides: without one, every singular value is kept that was found."""
        return self.rule or RankRule("rank", 0.0, NO_LIMIT)

    def hold(self, rank: int) -> bool:
        """Tell whether a sum of this rank needs no cut."""
        return self.rule is None or (self.rule.by == "rank" and rank <= self.rule.max_rank)

    def most(self, shape: Shape) -> int:
        """Return the highest rank that a layer can get."""
        rows, columns = shape[0], element_count(shape[1:])
        return min(rows, columns, NO_LIMIT if self.rule is None or self.rule.needs_all else self.rule.max_rank)

    def fitted(self, matrix: torch.Tensor, rank: int = 0) -> Svd:
        """Return singular values of a dense change: all that may be kept; without a rule the first `rank`, if given."""
        if self.rule is None:
            most = min(rank or self.max_rank, self.max_rank, *matrix.shape)
            svd = svd_of_dense(matrix, most, energy=0.0 if rank else 1.0 - NEGLIGIBLE)
            return replace(svd, left=svd.left[:, :most], values=svd.values[:most], right=svd.right[:most])
        energy = self.rule.threshold if self.rule.by == "energy" else 0.0
        return svd_of_dense(matrix, self.most(tuple(matrix.shape)), energy=energy)


def widest_dtype(loras: Sequence[LoraFile]) -> torch.dtype:
    """Return the number format that holds the values of all files' tensors: fp16 or bf16 if that is all, else fp32."""
    found = {info.dtype for lora in loras for name, info in lora.file.items() if not name.endswith(".alpha")}
    wide = found - {"F8_E4M3", "F8_E5M2"}  # fp16 holds these
    if wide <= {"F16"}:
        return torch.float16
    return torch.bfloat16 if found <= {"BF16"} else torch.float32
