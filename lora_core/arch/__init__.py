"""Every architecture that LoRA Core knows, one data file per family."""

from __future__ import annotations

from .base import Arch
from .cosmos import COSMOS_PREDICT2
from .flux import FLUX1
from .flux2 import FLUX2
from .flux_kin import FLUX_KIN
from .hidream import HIDREAM_I1
from .hunyuan_video import HUNYUAN_VIDEOS
from .hunyuandit import HUNYUANDIT
from .kandinsky5 import KANDINSKY5
from .koala import KOALA
from .lumina2 import LUMINA2, Z_IMAGE
from .omnigen2 import OMNIGEN2
from .sd3 import SD3
from .text_encoders import TEXT_ENCODERS
from .unet import UNETS
from .wan import WAN21

ARCHES: tuple[Arch, ...] = (
    *UNETS,
    KOALA,
    FLUX1,
    FLUX2,
    *FLUX_KIN,
    SD3,
    WAN21,
    LUMINA2,
    Z_IMAGE,
    OMNIGEN2,
    HIDREAM_I1,
    *HUNYUAN_VIDEOS,
    HUNYUANDIT,
    COSMOS_PREDICT2,
    KANDINSKY5,
    *TEXT_ENCODERS,
)
DIFFUSION_ARCHES = tuple(arch for arch in ARCHES if arch.role == "diffusion")
