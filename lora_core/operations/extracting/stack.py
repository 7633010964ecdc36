"""A base compared with itself plus a stack of LoRAs; no whole matrix is made where factors tell the change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ...algebra.change import Change
from ...algebra.factored import Factors
from ...errors import NothingMatchedError
from ...lazytorch import torch
from ...report import Report
from ...stack.apply import Placed, apply_stack
from ...stack.matching import Match, match_stack
from ...stack.opened import StackedLora
from .comparison import ModelSource, WeightChange, is_packed


@dataclass(frozen=True, slots=True)
class Stacked:
    """A base, and where each adapter of a stack goes in it."""

    before: ModelSource
    stack: Sequence[StackedLora]
    match: Match
    reshaped: list[str] = field(default_factory=list[str])  # keys that the stack gives another shape

    @property
    def name(self) -> str:
        return " + ".join(item.lora.name for item in self.stack)

    def is_comparable(self, key: str) -> bool:
        info = self.before.info(key)
        placed = self.match.by_key.get(key, ())
        return info.is_float and info.nbytes > 0 and any(item.strength for item in placed)

    def packed(self) -> list[str]:
        changed = (key for key, placed in self.match.by_key.items() if any(item.strength for item in placed))
        return [key for key in changed if is_packed(self.before, key)]

    def change(self, key: str, *, with_weight: bool) -> WeightChange | None:
        placed = [item.read() for item in self.match.by_key[key] if item.strength]
        shape = self.before.shapes[key]
        factors = _factors(placed, shape)
        if factors is not None:
            weight = self.before.tensor(key) if with_weight else None
            return WeightChange(Change(factors), weight) if factors[0].shape[1] else None
        if any(item.adapter.new_shape is not None for item in placed):
            self.reshaped.append(key)
            return None
        weight = self.before.tensor(key)
        return WeightChange(
            Change.whole(apply_stack(weight, placed).sub_(weight.float())), weight if with_weight else None
        )


def stacked_on(before: ModelSource, stack: Sequence[StackedLora], report: Report) -> Stacked:
    """Place the stack and fill in the report; raises NothingMatchedError for a LoRA without a place."""
    match = match_stack(stack, before.keymap, before.found)
    if not any(item.strength for placed in match.by_key.values() for item in placed):
        raise NothingMatchedError("extract: every strength of the stack is 0, so nothing changes; raise one.")
    report.inputs = [before.described(), *(item.lora.file.described() for item in stack)]
    report.loras = match.reports
    report.warnings += [*before.warnings, *match.warnings]
    return Stacked(before, stack, match)


def _factors(placed: Sequence[Placed], shape: tuple[int, ...]) -> Factors | None:
    """Return factors of the sum of all changes to a tensor of this shape; None unless each has some, all low."""
    if len(shape) < 2:
        return None
    rest = int(torch.Size(shape[1:]).numel())
    ups: list[torch.Tensor] = []
    downs: list[torch.Tensor] = []
    for item in placed:
        factors = item.adapter.low_rank()
        if factors is None:
            return None
        up, down = factors[0] * item.strength, factors[1]
        if item.target.transposed:
            up, down = down.t(), up.t()
        else:
            whole = torch.zeros(shape[0], up.shape[1])
            item.target.put(whole, up)
            up = whole
        ups.append(up)
        downs.append(down)
    rank = sum(down.shape[0] for down in downs)
    return (torch.cat(ups, dim=1), torch.cat(downs)) if 2 * rank <= min(shape[0], rest) else None
