"""Every architecture that LoRA Core knows, one data file per family."""

from __future__ import annotations

from .ace_step import ACE_STEPS
from .auraflow import AURAFLOW
from .base import Arch
from .bert import HYDIT_CLIP
from .chroma_radiance import CHROMA_RADIANCE
from .cogvideox import COGVIDEOX
from .cosmos import COSMOS_PREDICT2
from .ernie_image import ERNIE_IMAGE
from .flux import FLUX1
from .flux2 import FLUX2
from .flux_kin import FLUX_KIN
from .hidream import HIDREAM_I1
from .hunyuan_video import HUNYUAN_VIDEOS
from .hunyuandit import HUNYUANDIT
from .ideogram4 import IDEOGRAM4
from .kandinsky5 import KANDINSKY5
from .koala import KOALA
from .krea2 import KREA2
from .language_models import LANGUAGE_MODELS
from .ltx import LTX2, LTXV
from .lumina2 import LUMINA2, Z_IMAGE
from .mochi import MOCHI
from .omnigen2 import OMNIGEN2
from .pixart import PIXART
from .qwen_image import QWEN_IMAGE
from .sd3 import SD3
from .stable_cascade import STABLE_CASCADE
from .t5 import T5S
from .text_encoders import CLIPS
from .unet import UNETS
from .wan import WAN21

ARCHES: tuple[Arch, ...] = (
    *UNETS,
    KOALA,
    FLUX1,
    FLUX2,
    *FLUX_KIN,
    CHROMA_RADIANCE,
    QWEN_IMAGE,
    KREA2,
    ERNIE_IMAGE,
    IDEOGRAM4,
    AURAFLOW,
    PIXART,
    SD3,
    WAN21,
    COGVIDEOX,
    LTXV,
    LTX2,
    MOCHI,
    *ACE_STEPS,
    *STABLE_CASCADE,
    LUMINA2,
    Z_IMAGE,
    OMNIGEN2,
    HIDREAM_I1,
    *HUNYUAN_VIDEOS,
    HUNYUANDIT,
    COSMOS_PREDICT2,
    KANDINSKY5,
    *CLIPS,
    *T5S,
    HYDIT_CLIP,
    *LANGUAGE_MODELS,
)
DIFFUSION_ARCHES = tuple(arch for arch in ARCHES if arch.role == "diffusion")
