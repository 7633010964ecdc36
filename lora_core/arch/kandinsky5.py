"""Kandinsky 5: the makers, diffusers and ComfyUI share one naming."""

from __future__ import annotations

from .base import DIFFUSION_PREFIXES, Arch, Edition, Signature


def _edition(name: str, title: str, width: int) -> Edition:
    return Edition(name, title, Signature(shapes={"visual_embeddings.in_layer.bias": (width,)}))


KANDINSKY5 = Arch(
    id="kandinsky5",
    title="Kandinsky 5",
    signatures=(
        Signature(
            has=(
                "visual_transformer_blocks.0.cross_attention.key_norm.weight",
                "text_transformer_blocks.0.self_attention.to_query.weight",
            )
        ),
    ),
    prefixes=DIFFUSION_PREFIXES,
    blocks={"blocks": "visual_transformer_blocks", "text": "text_transformer_blocks"},
    editions=(
        _edition("kandinsky5_lite_video", "Kandinsky 5 Video Lite", 1792),
        _edition("kandinsky5_lite_image", "Kandinsky 5 Image Lite", 2560),
        _edition("kandinsky5_pro_video", "Kandinsky 5 Video Pro", 4096),
    ),
    text_encoders={"clip_l": ("te1", "te", "te2"), "qwen25_7b": ("te1", "te")},
)
