"""JoyImage: ComfyUI's names are diffusers'; the makers' lack the level `attn`."""

from __future__ import annotations

from .base import DIFFUSION_PREFIXES, Arch, Rename, Signature

_BLOCK = "double_blocks.{i}."
_PARTS = ("qkv", "proj", "q_norm", "k_norm")

JOYIMAGE = Arch(
    id="joyimage",
    title="JoyImage",
    signatures=(Signature(has=("double_blocks.0.attn.img_attn_qkv.weight", "condition_embedder.time_proj.weight")),),
    others=(Signature(has=("double_blocks.0.img_attn_qkv.weight", "condition_embedder.time_proj.weight")),),
    prefixes=DIFFUSION_PREFIXES,
    blocks={"double": "double_blocks"},
    renames=tuple(
        Rename(f"{_BLOCK}attn.{stream}_attn_{part}", f"{_BLOCK}{stream}_attn_{part}", read_only=True)
        for stream in ("img", "txt")
        for part in _PARTS
    ),
    text_encoders={"qwen3_8b": ("te", "te1")},
)
