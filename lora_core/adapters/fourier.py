"""FourierFT and WaveFT: a few coefficients of the change in another basis, at places that a seed draws.

Gao et al., arXiv:2405.03003; Bilican et al., arXiv:2505.12532; as PEFT has them. The file holds the coefficients alone:
the places follow from the seed and the weight's shape, drawn by PyTorch's generator on the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import AdapterError
from ..lazytorch import torch
from .numbers import holds_zeros
from .peft import PeftAdapter, choice_option, is_linear_weight, number_option, whole_option, with_dimensions
from .shapes import Shape, Shapes
from .spelling import Part, suffix_rows
from .stored import Told


@dataclass(frozen=True, slots=True)
class FourierFT(PeftAdapter):
    """delta = scale · the real part of the inverse Fourier transform of the coefficients."""

    spectrum: torch.Tensor  # (n,)
    seed: int
    scale: float

    id: ClassVar[str] = "fourierft"
    kind: ClassVar[str] = "FourierFT"
    additive: ClassVar[bool] = True
    suffixes: ClassVar[tuple[Part, ...]] = suffix_rows("fourierft", "spectrum", ".fourierft_spectrum")

    @classmethod
    def delta_shape(cls, shapes: Shapes) -> Shape:
        with_dimensions(shapes, 1, "spectrum")
        return (0, 0)

    @classmethod
    def fits(cls, shapes: Shapes, weight: Shape, **settings: Any) -> bool:
        return is_linear_weight(weight) and shapes["spectrum"][0] <= math.prod(weight)

    @classmethod
    def settings_of(cls, shapes: Shapes, told: Told) -> dict[str, Any]:
        return {"seed": whole_option(told, "random_loc_seed"), "factor": number_option(told, "scaling")}

    @classmethod
    def from_parts(cls, parts: Mapping[str, torch.Tensor], scale: float, **settings: Any) -> FourierFT:
        return cls(parts["spectrum"], settings["seed"], settings["factor"])

    def is_zero(self) -> bool:
        return self.scale == 0 or holds_zeros(self.spectrum)

    def delta(self, weight: torch.Tensor) -> torch.Tensor:
        return (torch.fft.ifft2(self._dense(weight)).real * self.scale).reshape(weight.shape)

    def _dense(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the coefficients at their places of a matrix [out, in]."""
        generator = torch.Generator().manual_seed(self.seed)
        places = torch.randperm(weight.numel(), generator=generator)[: len(self.spectrum)].to(weight.device)
        dense = torch.zeros(weight.numel(), device=weight.device)
        dense[places] = self.spectrum.float()
        return dense.reshape(weight.shape[0], -1)


@dataclass(frozen=True, slots=True)
class WaveFT(FourierFT):
    """delta = scale · the inverse of one step of Haar's wavelet transform, or the coefficients themselves."""

    is_transformed: bool

    id: ClassVar[str] = "waveft"
    kind: ClassVar[str] = "WaveFT"
    suffixes: ClassVar[tuple[Part, ...]] = suffix_rows("waveft", "spectrum", ".waveft_spectrum")

    @classmethod
    def settings_of(cls, shapes: Shapes, told: Told) -> dict[str, Any]:
        is_transformed = choice_option(told, "use_idwt", (True, False))
        if is_transformed and told.option("wavelet_family") != "db1":
            raise AdapterError(f"its wavelets are {str(told.option('wavelet_family'))[:60]}, only db1 is supported")
        # fields of the super class cannot be reached by super() in a class with slots that is a dataclass
        return {**FourierFT.settings_of(shapes, told), "is_transformed": is_transformed}

    @classmethod
    def from_parts(cls, parts: Mapping[str, torch.Tensor], scale: float, **settings: Any) -> WaveFT:
        return cls(parts["spectrum"], settings["seed"], settings["factor"], settings["is_transformed"])

    def delta(self, weight: torch.Tensor) -> torch.Tensor:
        dense = self._dense(weight)
        if self.is_transformed:
            rows, columns = dense.shape
            dense = _haar(torch.nn.functional.pad(dense, (0, columns % 2, 0, rows % 2)))[:rows, :columns]
        return (dense * self.scale).reshape(weight.shape)


def _haar(coefficients: torch.Tensor) -> torch.Tensor:
    """Return the matrix whose averages and differences of 2 x 2 entries the quarters of `coefficients` are."""
    top, bottom = coefficients.chunk(2)
    (mean, down), (across, both) = top.chunk(2, dim=1), bottom.chunk(2, dim=1)
    first = torch.stack((mean + down + across + both, mean + down - across - both), dim=2)
    second = torch.stack((mean - down + across - both, mean - down - across + both), dim=2)
    half = len(top)
    return torch.stack((first, second), dim=1).reshape(2 * half, -1) / 2
