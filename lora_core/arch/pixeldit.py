"""PixelDiT draws pixels, and PiD is the decoder made of it; ComfyUI splits the modulation of their pixel blocks."""

from __future__ import annotations

from .base import DIFFUSION_PREFIXES, Arch, Edition, Rename, Signature

_PLACES = 256  # in a patch of 16 x 16
_CHUNKS = "pixel_blocks.{i}.adaLN_modulation"

PIXELDIT = Arch(
    id="pixeldit_t2i",
    title="PixelDiT",
    signatures=(Signature(has=("pixel_blocks.0.compress_to_attn.weight", "pixel_blocks.0.adaLN_modulation.0.weight")),),
    others=(Signature(has=("pixel_blocks.0.compress_to_attn.weight", "pixel_blocks.0.adaLN_modulation_msa.weight")),),
    prefixes=tuple(prefix + level for prefix in DIFFUSION_PREFIXES for level in ("core.", "")),
    blocks={"blocks": "patch_blocks", "pixel": "pixel_blocks"},
    renames=(
        # six chunks for every place of a patch: three for the attention, three for the feed-forward
        Rename(
            f"{_CHUNKS}.0",
            (f"{_CHUNKS}_msa", f"{_CHUNKS}_mlp"),
            order=tuple(2 * place + half for half in (0, 1) for place in range(_PLACES)),
        ),
    ),
    editions=(Edition("pid", "PiD", Signature(has=("lq_proj.latent_proj.0.weight",)), {}),),
    text_encoders={"gemma2_2b": ("te", "te1")},
    host_splits=("pixel_blocks.",),
)
