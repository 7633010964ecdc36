"""Every architecture that LoRA Core knows, one data file per family."""

from __future__ import annotations

from .base import Arch
from .flux import FLUX1
from .koala import KOALA
from .sd3 import SD3
from .text_encoders import TEXT_ENCODERS
from .unet import UNETS
from .wan import WAN21

ARCHES: tuple[Arch, ...] = (*UNETS, KOALA, FLUX1, SD3, WAN21, *TEXT_ENCODERS)
DIFFUSION_ARCHES = tuple(arch for arch in ARCHES if arch.role == "diffusion")
