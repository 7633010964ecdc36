"""Every architecture that LoRA Core knows, one data file per family."""

from __future__ import annotations

from .ace_step import ACE_STEPS
from .animatediff import ANIMATEDIFF
from .auraflow import AURAFLOW
from .base import Arch
from .bert import BERTS
from .chroma_radiance import CHROMA_RADIANCE
from .cogvideox import COGVIDEOX
from .cogview import COGVIEWS
from .cosmos import COSMOS_PREDICT2
from .cosmos1 import COSMOSES
from .ernie_image import ERNIE_IMAGE
from .flux import FLUX1
from .flux2 import FLUX2
from .flux3 import FLUX3
from .flux_kin import FLUX_KIN
from .hidream import HIDREAMS
from .hunyuan_video import HUNYUAN_VIDEOS
from .hunyuandit import HUNYUANDIT
from .ideogram4 import IDEOGRAM4
from .joyimage import JOYIMAGE
from .kandinsky5 import KANDINSKY5
from .kandinsky6 import KANDINSKY6
from .koala import KOALA
from .krea2 import KREA2
from .language_models import LANGUAGE_MODELS
from .ltx import LTX2, LTXV
from .lumina2 import LUMINAS
from .minimax_h3 import MINIMAX_H3
from .mochi import MOCHI
from .omnigen2 import OMNIGENS
from .one_layout import ONE_LAYOUT
from .pixart import PIXART
from .pixeldit import PIXELDIT
from .qwen_image import QWEN_IMAGES
from .sd3 import SD3
from .stable_audio import STABLE_AUDIOS
from .stable_cascade import STABLE_CASCADE
from .svd import SVD
from .t5 import T5S
from .text_encoders import CLIPS
from .unet import UNETS
from .wan import WAN21

ARCHES: tuple[Arch, ...] = (
    *UNETS,
    KOALA,
    SVD,
    ANIMATEDIFF,
    FLUX1,
    FLUX2,
    FLUX3,
    *FLUX_KIN,
    CHROMA_RADIANCE,
    *QWEN_IMAGES,
    KREA2,
    ERNIE_IMAGE,
    IDEOGRAM4,
    AURAFLOW,
    PIXART,
    SD3,
    WAN21,
    MINIMAX_H3,
    COGVIDEOX,
    *COGVIEWS,
    LTXV,
    LTX2,
    MOCHI,
    *ACE_STEPS,
    *STABLE_AUDIOS,
    *STABLE_CASCADE,
    *LUMINAS,
    *OMNIGENS,
    *HIDREAMS,
    JOYIMAGE,
    PIXELDIT,
    *HUNYUAN_VIDEOS,
    HUNYUANDIT,
    COSMOS_PREDICT2,
    *COSMOSES,
    KANDINSKY5,
    KANDINSKY6,
    *ONE_LAYOUT,
    *CLIPS,
    *T5S,
    *BERTS,
    *LANGUAGE_MODELS,
)
DIFFUSION_ARCHES = tuple(arch for arch in ARCHES if arch.role == "diffusion")
ENCODER_ARCHES = tuple(arch for arch in ARCHES if arch.role == "text_encoder")
