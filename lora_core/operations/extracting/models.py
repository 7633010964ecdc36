"""Two models compared, tensor by tensor: files, or models that ComfyUI has loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ...algebra.change import Change
from ...errors import OptionError
from ...lazytorch import torch
from ...report import Report
from ...text import counted, some_names
from .comparison import ModelSource, WeightChange, is_packed, sum_of_squares

_PIECE = 2**20  # numbers


@dataclass(frozen=True, slots=True)
class ModelPair:
    """Both models, and for a key of the base the key of the same parameter in the tuned one."""

    before: ModelSource
    after: ModelSource
    partners: Mapping[str, str]

    @property
    def name(self) -> str:
        return self.after.name

    def is_comparable(self, key: str) -> bool:
        info, other = self.before.info(key), self.partners.get(key, "")
        same = self.after.shapes.get(other) == info.shape
        return same and info.is_float and info.nbytes > 0 and self.after.info(other).is_float

    def packed(self) -> list[str]:
        pairs = self.partners.items()
        return [key for key, other in pairs if is_packed(self.before, key) or is_packed(self.after, other)]

    def change(self, key: str, *, with_weight: bool) -> WeightChange | None:
        before, after = self.before.tensor(key), self.after.tensor(self.partners[key])
        if _same(before, after):
            return None
        square = sum_of_squares(before)
        return WeightChange(Change.whole(_difference(after, before)), before if with_weight else None, square)


def pair_of(before: ModelSource, after: ModelSource, report: Report) -> ModelPair:
    """Fill in the report and return the pair, or raise OptionError if the models can't be compared."""
    _refuse_itself(before, after)
    if {item.arch.id for item in before.found}.isdisjoint(item.arch.id for item in after.found):
        raise OptionError(
            f"{after.name}: holds {after.title}, but the base {before.name} holds {before.title}; "
            "both must be of the same model."
        )
    report.inputs = [before.described(), after.described()]
    report.warnings += [*before.warnings, *after.warnings]
    partners = _partners(before, after)
    if not partners:
        raise OptionError(
            f"{after.name}: has no tensor name in common with {before.name}, e.g. {next(iter(after.shapes))!r} and "
            f"{next(iter(before.shapes))!r}; give both in the same layout."
        )
    changed = [key for key, other in partners.items() if before.shapes[key] != after.shapes[other]]
    missing = [key for key in before.shapes if key not in partners and key not in after.shapes]
    known = set(partners.values())
    added = [key for key in after.shapes if key not in known and key not in before.shapes]
    for names, what in (
        (changed, "of another shape"),
        (missing, "of the base only"),
        (added, "of the tuned model only"),
    ):
        if names:
            report.warnings.append(f"{counted(names, 'tensor')} {what} left out: {some_names(names)}.")
    return ModelPair(before, after, partners)


def is_same_model(pair: ModelPair) -> bool:
    """Tell whether both are files of the same bytes; reads them."""
    paths = [source.paths for source in (pair.before, pair.after)]
    if not paths[0] or [path.stat().st_size for path in paths[0]] != [path.stat().st_size for path in paths[1]]:
        return False
    return all(_same_bytes(one, two) for one, two in zip(*paths, strict=True))


def _refuse_itself(before: ModelSource, after: ModelSource) -> None:
    paths = before.paths, after.paths
    same = paths[0] and len(paths[0]) == len(paths[1]) and all(a.samefile(b) for a, b in zip(*paths, strict=True))
    if same or before is after:
        raise OptionError(
            f"{after.name}: is the base itself, the same file; choose the tuned checkpoint, and as the base the one "
            "that it was made from."
        )


def _partners(before: ModelSource, after: ModelSource) -> dict[str, str]:
    """Return {key in the base: key of the same parameter in the tuned model}, whatever stands before it there."""
    return {
        key: other
        for one in before.keymap.components
        for two in after.keymap.components
        if two.arch is one.arch
        for key, other in one.partners(two).items()
    }


def _same(before: torch.Tensor, after: torch.Tensor) -> bool:
    """Tell whether two tensors are the same bytes; those of one loaded model may lie in the same place."""
    if before.dtype != after.dtype or before.shape != after.shape:
        return False
    if before.data_ptr() == after.data_ptr() and before.stride() == after.stride():
        return True
    first, second = (tensor.reshape(-1).view(torch.uint8) for tensor in (before, after))
    return torch.equal(first, second)


def _difference(after: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    """Return after - before in fp32; besides that, only pieces are converted."""
    result = after.contiguous().to(torch.float32, copy=True)
    pieces = result.view(-1).split(_PIECE), before.reshape(-1).split(_PIECE)
    for piece, other in zip(*pieces, strict=True):
        piece.sub_(other.float())
    return result


def _same_bytes(first: Path, second: Path) -> bool:
    with first.open("rb") as one, second.open("rb") as two:
        while True:
            block = one.read(2**22)
            if block != two.read(2**22):
                return False
            if not block:
                return True
