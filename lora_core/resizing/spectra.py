"""The singular values of one layer of a file: what a rank is chosen from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..adapters import DoRA, Reshape
from ..adapters.base import Adapter
from ..checkpoint import Checkpoint
from ..errors import UnmatchedError
from ..factorised import factors_of, svd_of
from ..lazytorch import torch
from ..linalg import Svd
from ..lorafile import LoraFile
from ..truncation import Layer
from .dora import svd_of_direction
from .sources import Source, block, weight_of


@dataclass(frozen=True, slots=True)
class Found:
    """A layer with its singular values, and with the vectors that may be kept."""

    source: Source
    layer: Layer
    svd: Svd
    is_homeless: bool  # a base is given and has no place for it


@dataclass(frozen=True, slots=True)
class Finder:
    """Finds the singular values of one layer after the other; may be used on several threads."""

    lora: LoraFile
    base: Checkpoint | None
    is_relative: bool  # the rule compares with the weight
    limit: Callable[[Layer], int]  # the highest rank that a layer may get

    def found(self, source: Source) -> Found:
        """Raises AdapterError for NaN and infinity, UnmatchedError where a weight to compare with is missing."""
        spec = source.spec
        adapter = self.lora.sound_adapter(spec)
        wants_weight = self.base is not None and (self.is_relative or spec.magnitude is not None)
        weight = weight_of(spec, self.base) if self.base is not None and wants_weight else None
        if self.base is not None and self.is_relative and weight is None:
            raise UnmatchedError(
                f"{self.lora.name}: {spec.module}: has no place of its shape in {self.base.title}, so there is no "
                "weight to compare it with; give the model that the LoRA is for, or another rank_by."
            )
        norm = None if weight is None else float(torch.linalg.vector_norm(weight, dtype=torch.float64))
        layer = Layer(
            spec.module, spec.module, block(spec.module), source.shape, source.suffixes, source.has_alpha,
            weight_norm=norm, was=" ".join(spec.kinds),
        )  # fmt: skip
        return Found(source, layer, self._svd(adapter, layer, weight), wants_weight and weight is None)

    def _svd(self, adapter: Adapter, layer: Layer, weight: torch.Tensor | None) -> Svd:
        adapter = adapter.inner if isinstance(adapter, Reshape) else adapter
        inner = adapter.inner if isinstance(adapter, DoRA) else adapter
        factors = factors_of(inner) if isinstance(adapter, DoRA) and weight is not None else None
        if isinstance(adapter, DoRA) and weight is not None and factors is not None:
            return svd_of_direction(adapter, factors, weight.flatten(1), self.limit(layer))
        svd = svd_of(inner, layer.shape, self.limit(layer))
        assert svd is not None  # sources_of yields only kinds that have factors
        return svd
