"""LTX-Video and LTX-2, which adds sound: the makers' names and diffusers' differ outside of the attention."""

from __future__ import annotations

from .base import DIFFUSION_PREFIXES, Arch, Edition, Rename, Signature
from .blockgroups import TRANSFORMER_BLOCKS

_BLOCK = "transformer_blocks.{i}."


def _attention(name: str, cross: bool) -> tuple[Rename, ...]:
    here = f"{_BLOCK}{name}."
    fused = ("to_k", "to_v") if cross else ("to_q", "to_k", "to_v")
    return (
        Rename(f"{here}q_norm", f"{here}norm_q"),
        Rename(f"{here}k_norm", f"{here}norm_k"),
        # diffusers after fuse_qkv_projections
        Rename(tuple(here + part for part in fused), here + ("to_kv" if cross else "to_qkv")),
    )


def _connector(name: str) -> tuple[Rename, ...]:
    """Return the rows of a text connector, which is part of a model of its own in diffusers."""
    here = f"{name}_embeddings_connector.transformer_1d_blocks.{{i}}."
    there = f"connectors.{name}_connector.transformer_blocks.{{i}}."
    return (
        Rename(f"{here}attn1.q_norm", f"{there}attn1.norm_q"),
        Rename(f"{here}attn1.k_norm", f"{there}attn1.norm_k"),
        *(Rename(f"{here}attn1.{part}", f"{there}attn1.{part}") for part in ("to_q", "to_k", "to_v", "to_out.0")),
        *(Rename(f"{here}{part}", f"{there}{part}") for part in ("ff.net.0.proj", "ff.net.2")),
    )


_VIDEO = (
    *_attention("attn1", cross=False),
    *_attention("attn2", cross=True),
    Rename("patchify_proj", "proj_in"),
    Rename("adaln_single.{rest}", "time_embed.{rest}"),
)
_SOUND = (
    *_attention("audio_attn1", cross=False),
    *(
        row
        for name in ("audio_attn2", "audio_to_video_attn", "video_to_audio_attn")
        for row in _attention(name, cross=True)
    ),
    Rename(f"{_BLOCK}scale_shift_table_a2v_ca_audio", f"{_BLOCK}audio_a2v_cross_attn_scale_shift_table"),
    Rename(f"{_BLOCK}scale_shift_table_a2v_ca_video", f"{_BLOCK}video_a2v_cross_attn_scale_shift_table"),
    Rename("audio_patchify_proj", "audio_proj_in"),
    Rename("audio_adaln_single.{rest}", "audio_time_embed.{rest}"),
    Rename("av_ca_video_scale_shift_adaln_single.{rest}", "av_cross_attn_video_scale_shift.{rest}"),
    Rename("av_ca_audio_scale_shift_adaln_single.{rest}", "av_cross_attn_audio_scale_shift.{rest}"),
    Rename("av_ca_a2v_gate_adaln_single.{rest}", "av_cross_attn_video_a2v_gate.{rest}"),
    Rename("av_ca_v2a_gate_adaln_single.{rest}", "av_cross_attn_audio_v2a_gate.{rest}"),
    *(row for name in ("audio", "video") for row in _connector(name)),
    Rename("prompt_adaln_single.{rest}", "prompt_adaln.{rest}"),
    Rename("audio_prompt_adaln_single.{rest}", "audio_prompt_adaln.{rest}"),
)

_SOUND_HERE, _SOUND_THERE = "audio_adaln_single.linear.weight", "audio_time_embed.linear.weight"
_HERE = ("patchify_proj.weight", "adaln_single.linear.weight", "transformer_blocks.0.attn1.q_norm.weight")
_THERE = ("proj_in.weight", "time_embed.linear.weight", "transformer_blocks.0.attn1.norm_q.weight")


LTXV = Arch(
    id="ltxv",
    title="LTX-Video",
    signatures=(Signature(has=_HERE, lacks=(_SOUND_HERE,)),),
    others=(Signature(has=_THERE, lacks=(_SOUND_THERE,)),),
    prefixes=DIFFUSION_PREFIXES,
    blocks=TRANSFORMER_BLOCKS,
    renames=_VIDEO,
    editions=(
        Edition("ltxv_2b", "LTX-Video 2B", Signature(shapes={"patchify_proj.weight": (2048,)})),
        Edition("ltxv_13b", "LTX-Video 13B", Signature(shapes={"patchify_proj.weight": (4096,)})),
    ),
    text_encoders={"t5xxl": ("te1", "te")},
)

LTX2 = Arch(
    id="ltx2",
    title="LTX-2",
    signatures=(Signature(has=(*_HERE, _SOUND_HERE)),),
    others=(Signature(has=(*_THERE, _SOUND_THERE)),),
    prefixes=DIFFUSION_PREFIXES,
    blocks=TRANSFORMER_BLOCKS,
    renames=(*_VIDEO, *_SOUND),
    beside=tuple(
        Rename(f"text_embedding_projection.{here}", f"connectors.{there}", read_only=True)
        for here, there in (
            ("aggregate_embed", "text_proj_in"),
            ("video_aggregate_embed", "video_text_proj_in"),
            ("audio_aggregate_embed", "audio_text_proj_in"),
        )
    ),
    editions=(
        Edition("ltx2_19b", "LTX-2 19B", Signature(lacks=("prompt_adaln_single.linear.weight",))),
        Edition(
            "ltx2.5_22b",
            "LTX-2.5",
            Signature(has=("keyframes_abs_pos_embedding",)),
            text_encoders={"gemma4_12b": ("te", "te1")},
        ),
        Edition("ltx2.3_22b", "LTX-2.3", Signature()),
    ),
    text_encoders={"gemma3_12b": ("te", "te1")},
)
