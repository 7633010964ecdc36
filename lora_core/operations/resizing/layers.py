"""Layers of a LoRA file at another rank, under their own names; what needs no cut stays as it is, byte for byte."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ...adapters.parts import folded
from ...algebra.rankrules import Spectrum
from ...algebra.rounding import round_to
from ...files.dtypes import dtype_name, torch_dtype
from ...files.layout import PlannedTensor
from ...files.tensorheader import TensorInfo
from ...lazytorch import torch
from ...reading.lorafile import LoraFile
from ...writing.layers import Ranked, Truncation, WrittenLayer, described
from .sources import Resizable
from .spectra import LayerSpectrum


@dataclass(frozen=True, slots=True)
class ResizedLayer:
    """A layer as it is written."""

    source: Resizable
    kind: str  # of the suffix table
    rank: int
    alpha: float


@dataclass(frozen=True, slots=True)
class _Known:
    """A layer with what is known of all its singular values, even where only the first can be kept."""

    source: Resizable
    count: int
    total: float  # sum sigma

    @property
    def own_rank(self) -> int:
        """The rank from which on the layer stays what it is; other kinds do where they can stand beside LoRA."""
        if self.source.is_lora:
            return self.source.spec.parts["up"].shape[1]
        return self.count if self.source.has_alpha else self.count + 1

    @property
    def from_rank(self) -> int:
        return self.own_rank if self.source.is_lora else self.count


@dataclass(slots=True, kw_only=True)
class Resizing(Truncation):
    """Collects the layers of one file; `dtype` is set for each of them."""

    lora: LoraFile
    wanted: torch.dtype | None  # of all tensors; None: of each layer its own
    written: list[ResizedLayer] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)  # modules of zeros
    without: list[str] = field(default_factory=list)  # modules that a budget gives no rank
    _known: dict[str, _Known] = field(default_factory=dict)

    def limit(self, layer: WrittenLayer) -> int:
        """Return the highest rank that a layer can get; its singular values are always all known."""
        return self.rule_for(layer).max_rank

    def take(self, found: LayerSpectrum) -> None:
        """Take a layer: at once, or where a budget decides, when all are known."""
        source, layer, svd = found.source, found.layer, found.svd
        if len(svd.values) == 0:
            self._take_zeros(source)
            return
        self._known[layer.name] = _Known(source, len(svd.values), float(svd.values.sum()))
        if self.rule.is_budget:  # what waits on disk is no more than can be kept
            svd = replace(svd, values=svd.values[: len(svd.right)])
        self.add(layer, svd, self._around(source) if self.rule.is_budget else None)

    def would_write(self, ranked: Sequence[Ranked]) -> list[ResizedLayer]:
        """Return the layers that are written, if a budget gives those that wait these ranks."""
        waiting = {layer.layer.name for layer in self.waiting}
        cut = [item for item in ranked if item.layer.name in waiting]
        return [
            *self.written,
            *(ResizedLayer(self._known[item.layer.name].source, "lora", item.rank, float(item.rank)) for item in cut),
        ]

    @property
    def from_ranks(self) -> list[int]:
        """The ranks that the layers had."""
        return [known.from_rank for known in self._known.values()]

    def planned(self, layer: WrittenLayer, rank: int) -> list[PlannedTensor]:
        """Return the tensors that a layer gets at a rank: its own where it has no higher one."""
        known = self._known[layer.name]
        if rank < known.own_rank:
            return Truncation.planned(self, layer, rank)
        own = [self.lora.file[name] for name in known.source.own_names()]
        new = [PlannedTensor(name, "F32", ()) for name in self._new_alpha(known.source)]
        return [PlannedTensor(info.name, self._stored_as(info), info.shape) for info in own] + new

    def _stored_as(self, info: TensorInfo) -> str:
        """Return the number format in which `stored` stores a tensor of the file."""
        return dtype_name(self.wanted) if self.wanted and info.is_float and not _is_alpha(info.name) else info.dtype

    def stored(self, name: str, tensor: torch.Tensor) -> None:
        """Take a tensor that keeps its values, in the number format that was asked for."""
        if self.wanted and tensor.is_floating_point() and not _is_alpha(name):
            tensor, beyond = round_to(tensor.float(), self.wanted)
            self.clamped += beyond
        self.keep(name, tensor)

    def _take_zeros(self, source: Resizable) -> None:
        if source.must_stay:
            self._keep_whole(source)
        else:
            self.dropped.append(source.module)

    def put(
        self, layer: WrittenLayer, spectrum: Spectrum, factors: tuple[torch.Tensor, torch.Tensor], excess: float
    ) -> None:
        known = self._known[layer.name]
        up, down = factors
        rank, more = up.shape[1], {}
        if rank >= known.own_rank:
            rank = len(spectrum.values)
            self._keep_whole(known.source)
            self.report.layers.append(described(layer, spectrum, rank, 0.0))
            more = {"rank": known.own_rank, "unchanged": True}
        elif rank == 0 and known.source.must_stay:
            self._put_cut(layer, spectrum, (up.new_zeros(len(up), 1), down.new_zeros(1, down.shape[1])), 0.0)
            more = {"energy": 0.0}
        else:
            self._put_cut(layer, spectrum, factors, excess)
        more = {"from_rank": known.from_rank, **retained(spectrum, rank, known.total), **more}
        self.report.layers[-1].update(more)

    def _put_cut(
        self, layer: WrittenLayer, spectrum: Spectrum, factors: tuple[torch.Tensor, torch.Tensor], excess: float
    ) -> None:
        source = self._known[layer.name].source
        self.dtype = self.wanted or factor_dtype(source)
        Truncation.put(self, layer, spectrum, factors, excess)
        rank = factors[0].shape[1]
        if not rank:
            self.without.append(source.module)
            return
        self.written.append(ResizedLayer(source, "lora", rank, float(rank)))
        for name, tensor in self._around(source).items():
            self.stored(name, tensor)

    def _around(self, source: Resizable) -> dict[str, torch.Tensor]:
        """Return the tensors that stand beside new factors; a bias takes the scale that those have in them."""
        names = [f"{source.module}.reshape_weight", source.spec.magnitude.name if source.spec.magnitude else ""]
        found = {name: self.lora.file.tensor(name) for name in names if name in self.lora.file}
        for info in source.bias.parts.values() if source.bias else ():
            found[info.name] = folded(self.lora.file.tensor(info.name), source.spec.scale.value)
        return found

    def _keep_whole(self, source: Resizable) -> None:
        spec = source.spec
        for name in source.own_names():
            self.stored(name, self.lora.file.tensor(name))
        alpha = spec.scale.value * (spec.rank or 1)
        for name in self._new_alpha(source):
            self.keep(name, torch.tensor(alpha))
        self.written.append(ResizedLayer(source, spec.kind, spec.rank or 1, alpha))

    def _new_alpha(self, source: Resizable) -> list[str]:
        """Return the name of the alpha that a layer gets which stays but has none in the file, as a list."""
        name = f"{source.module}.alpha"
        return [name] if source.has_alpha and source.spec.rank and name not in self.lora.file else []


def _is_alpha(name: str) -> bool:
    return name.endswith(".alpha")


def retained(spectrum: Spectrum, rank: int, total: float) -> dict[str, float]:
    """Return what kohya's script tells: the shares kept of `total` and of sqrt(sum sigma²), and sigma1/sigma_rank."""
    if not rank:
        return {"sum_retained": 0.0, "fro_retained": 0.0, "max_ratio": 0.0}
    kept = spectrum.values[:rank]
    return {
        "sum_retained": min(1.0, float(kept.sum()) / total),
        "fro_retained": min(1.0, float(torch.linalg.vector_norm(kept)) / spectrum.total**0.5),
        "max_ratio": float(kept[0] / kept[-1]),
    }


def factor_dtype(source: Resizable) -> torch.dtype:
    """Return the number format of a layer's factors; of several, and of 8 bits, a wider one that holds new ones."""
    found = {torch_dtype(info.dtype) for info in source.spec.parts.values()}
    dtype = found.pop() if len(found) == 1 else torch.float32
    return dtype if dtype.itemsize > 1 else torch.bfloat16
