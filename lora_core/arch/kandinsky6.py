"""Kandinsky 6: video and sound in two halves of every block."""

from __future__ import annotations

from .base import DIFFUSION_PREFIXES, Arch, Edition, Rename, Signature
from .rows import renamed_below

_HALVES = (("videoT", "video_dec_block"), ("audioT", "audio_dec_block"))
_FEED = (("in_layer", "net.0.proj"), ("out_layer", "net.2"))


def _size(name: str, title: str, width: int) -> Edition:
    return Edition(name, title, Signature(shapes={"visual_embeddings.in_layer.bias": (width,)}))


def _text(kind: str) -> tuple[Rename, ...]:
    block = f"{kind}_text_transformer_blocks.{{i}}."
    return (
        Rename(f"{block}self_attention.{{rest}}", f"{block}attn.{{rest}}"),
        *renamed_below(f"{block}feed_forward.", f"{block}feed_forward.", *_FEED),
        *renamed_below(
            f"{kind}_time_embeddings.",
            f"{kind}_time_embeddings.timestep_embedder.",
            ("in_layer", "linear_1"),
            ("out_layer", "linear_2"),
        ),
    )


_HERE, _THERE = "visual_blocks.{i}.", "visual_transformer_blocks.{i}."

KANDINSKY6 = Arch(
    id="kandinsky6",
    title="Kandinsky 6",
    signatures=(Signature(has=("visual_blocks.0.videoT.self_attention.to_query.weight",)),),
    others=(Signature(has=("visual_transformer_blocks.0.video_dec_block.self_attention.to_query.weight",)),),
    prefixes=DIFFUSION_PREFIXES,
    blocks={"blocks": "visual_blocks", "text": "video_text_transformer_blocks"},
    renames=(
        *(Rename(f"{_HERE}{half}.{{rest}}", f"{_THERE}{other}.{{rest}}") for half, other in _HALVES),
        *(
            row
            for _, other in _HALVES
            for row in renamed_below(f"{_THERE}{other}.feed_forward.", f"{_THERE}{other}.feed_forward.", *_FEED)
        ),
        *(
            Rename(f"{_HERE}{part}.{{rest}}", f"{_THERE}{part}.{{rest}}")
            for part in ("av_cross_attention", "va_cross_attention", "av_modulation", "va_modulation")
        ),
        *(row for kind in ("video", "audio") for row in _text(kind)),
        Rename("audio_outLayer.{rest}", "audio_out_layer.{rest}"),
    ),
    editions=(
        _size("kandinsky6_lite", "Kandinsky 6 Lite", 1792),
        _size("kandinsky6_pro", "Kandinsky 6 Pro", 4096),
    ),
)
