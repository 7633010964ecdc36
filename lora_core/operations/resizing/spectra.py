"""The singular values of one layer of a file: what a rank is chosen from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ...adapters import Adapter, DoRA
from ...adapters.dora import without_magnitude
from ...algebra.factored import Factors
from ...algebra.svd import Svd, svd_of_product
from ...errors import UnmatchedError
from ...lazytorch import torch
from ...reading.checkpoint import Checkpoint
from ...reading.lorafile import LoraFile
from ...writing.layers import WrittenLayer
from .sources import Resizable, base_weight, block

_LEAST = 1e-6  # of the largest weight: a row that a magnitude of zero removes must still be a row


@dataclass(frozen=True, slots=True)
class LayerSpectrum:
    """A layer with its singular values, and with the vectors that may be kept."""

    source: Resizable
    layer: WrittenLayer
    svd: Svd
    is_homeless: bool  # a base is given and has no place for it


@dataclass(frozen=True, slots=True)
class SpectrumFinder:
    """Finds the singular values of one layer after the other; may be used on several threads."""

    lora: LoraFile
    base: Checkpoint | None
    is_relative: bool  # the rule compares with the weight
    limit: Callable[[WrittenLayer], int]  # the highest rank that a layer may get

    def found(self, source: Resizable) -> LayerSpectrum:
        """Raises AdapterError for NaN and infinity, UnmatchedError where a weight to compare with is missing."""
        spec = source.spec
        adapter = self.lora.sound_adapter(spec)
        wants_weight = self.base is not None and (self.is_relative or spec.magnitude is not None)
        weight = base_weight(spec, self.base) if self.base is not None and wants_weight else None
        if self.base is not None and self.is_relative and weight is None:
            raise UnmatchedError(
                f"{self.lora.name}: {spec.module}: has no place of its shape in {self.base.title}, so there is no "
                "weight to compare it with; give the model that the LoRA is for, or another rank_by."
            )
        norm = None if weight is None else float(torch.linalg.vector_norm(weight, dtype=torch.float64))
        layer = WrittenLayer(
            spec.module, spec.module, block(spec.module), source.shape, source.suffixes, source.has_alpha,
            weight_norm=norm, was=" ".join(spec.kinds),
        )  # fmt: skip
        return LayerSpectrum(source, layer, self._svd(adapter, layer, weight), wants_weight and weight is None)

    def _svd(self, adapter: Adapter, layer: WrittenLayer, weight: torch.Tensor | None) -> Svd:
        inner, dora = without_magnitude(adapter.on_padded())
        if dora is not None and weight is not None:
            factors = inner.low_rank()
            if factors is not None:
                return svd_of_direction(dora, factors, weight.flatten(1), self.limit(layer))
        svd = inner.svd(layer.shape, self.limit(layer))
        assert svd is not None  # sources_of yields only kinds that have factors
        return svd


def svd_of_direction(dora: DoRA, factors: Factors, weight: torch.Tensor, rank: int) -> Svd:
    """Return singular values of the change that `factors` make in W', to first order, with `weight` (out, in·kernel).

    Where V = W + up·down is off by E, W' is off by magnitude / |V| times E (less what of E lies along V). So the change
    is weighted by that before it is cut, and freed of it afterwards: `left` or `right` is then not orthonormal.
    Nothing dense but the weight is needed: the norms of V follow from W·down.T and the factors. My derivation.
    """
    up, down = factors
    if not dora.of_input:
        weights = _weights(dora.magnitude, _norms(weight, up, down))[:, None].float()
        found = svd_of_product(up * weights, down, rank)
        return replace(found, left=found.left / weights)
    kernel = weight.shape[1] // dora.magnitude.numel()
    squares = _norms(weight.t(), down.t(), up.t()).square().reshape(-1, kernel).sum(1)
    weights = _weights(dora.magnitude, squares.sqrt()).repeat_interleave(kernel).float()
    found = svd_of_product(up, down * weights, rank)
    return replace(found, right=found.right / weights)


def _norms(weight: torch.Tensor, up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """Return the norm of each row of weight + up·down in fp64."""
    squares = torch.linalg.vector_norm(weight, dim=1, dtype=torch.float64).square()
    crossed = ((weight @ down.t()).double() * up.double()).sum(1)
    own = ((up.double() @ (down.double() @ down.double().t())) * up.double()).sum(1)
    return (squares + 2 * crossed + own).clamp_min(0.0).sqrt()


def _weights(magnitude: torch.Tensor, norms: torch.Tensor) -> torch.Tensor:
    weights = magnitude.double().flatten().abs() / norms.clamp_min(torch.finfo(torch.float32).tiny)
    return weights.clamp_min(float(weights.max()) * _LEAST or 1.0)
