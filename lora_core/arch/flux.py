"""Flux.1: BFL's names fuse query, key, value (and the MLP in single blocks); diffusers splits them."""

from __future__ import annotations

from .base import DIFFUSION_PREFIXES, Arch, Edition, Rename, Signature
from .blockgroups import DOUBLE_SINGLE, STREAM_PRESETS

_DOUBLE, _DOUBLE_THERE = "double_blocks.{i}.", "transformer_blocks.{i}."
_SINGLE, _SINGLE_THERE = "single_blocks.{i}.", "single_transformer_blocks.{i}."
_STREAMS = (
    # BFL's stream, norm, attention projections, output projection, query/key norms, feed-forward in diffusers
    ("img", "norm1", ("to_q", "to_k", "to_v"), "to_qkv", "to_out.0", ("norm_q", "norm_k"), "ff"),
    (
        "txt",
        "norm1_context",
        ("add_q_proj", "add_k_proj", "add_v_proj"),
        "to_added_qkv",
        "to_add_out",
        ("norm_added_q", "norm_added_k"),
        "ff_context",
    ),
)


def _attention(stream: str, _: str, qkv: tuple[str, ...], fused: str, out: str, norms: tuple[str, str], __: str):
    here, there = f"{_DOUBLE}{stream}_attn.", f"{_DOUBLE_THERE}attn."
    return (
        Rename(f"{here}qkv", tuple(there + name for name in qkv)),
        Rename(f"{here}qkv", there + fused, read_only=True),  # diffusers after fuse_qkv_projections
        Rename(f"{here}proj", there + out),
        Rename(f"{here}norm.query_norm", there + norms[0]),
        Rename(f"{here}norm.key_norm", there + norms[1]),
    )


# Rows that all models of the family share
ATTENTION = (
    *(row for stream in _STREAMS for row in _attention(*stream)),
    Rename(f"{_SINGLE}norm.query_norm", f"{_SINGLE_THERE}attn.norm_q"),
    Rename(f"{_SINGLE}norm.key_norm", f"{_SINGLE_THERE}attn.norm_k"),
    Rename(f"{_SINGLE}linear1_qkv", f"{_SINGLE_THERE}attn.to_qkv", read_only=True),
)
# and those that work on latents
SHARED = (
    *ATTENTION,
    Rename("img_in", "x_embedder"),
    Rename("txt_in", "context_embedder"),
    Rename("final_layer.linear", "proj_out"),
)
FINAL_MODULATION = Rename("final_layer.adaLN_modulation.1", "norm_out.linear", order=(1, 0))


def linear1(*names: str, mlp: int) -> tuple[Rename, Rename]:
    """Return the rows of the fused query, key, value and MLP of single blocks; the MLP is `mlp` times as wide."""
    pieces = tuple(_SINGLE_THERE + name for name in names)
    halves = (f"{_SINGLE}linear1_qkv", f"{_SINGLE}linear1_mlp")
    return (
        Rename(f"{_SINGLE}linear1", pieces, sizes=(1, 1, 1, mlp)),
        Rename(f"{_SINGLE}linear1", halves, sizes=(3, mlp), read_only=True),
    )


# The feed-forward of Flux.1 and of models made from it
FEED_FORWARD = (
    *(
        Rename(f"{_DOUBLE}{stream}_mlp.{place}", f"{_DOUBLE_THERE}{there}.net.{other}")
        for stream, *_, there in _STREAMS
        for place, other in ((0, "0.proj"), (2, "2"))
    ),
    *linear1("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp", mlp=4),
    Rename(f"{_SINGLE}linear2", f"{_SINGLE_THERE}proj_out"),
)
MODULATION = (
    *(Rename(f"{_DOUBLE}{stream}_mod.lin", f"{_DOUBLE_THERE}{norm}.linear") for stream, norm, *_ in _STREAMS),
    Rename(f"{_SINGLE}modulation.lin", f"{_SINGLE_THERE}norm.linear"),
    FINAL_MODULATION,
)


def embedder(here: str, there: str, read_only: bool = False) -> tuple[Rename, Rename]:
    """Return the rows of the two layers that embed the time, the guidance or the pooled text."""
    return (
        Rename(f"{here}.in_layer", f"{there}.linear_1", read_only=read_only),
        Rename(f"{here}.out_layer", f"{there}.linear_2", read_only=read_only),
    )


RENAMES = (
    *SHARED,
    *FEED_FORWARD,
    *MODULATION,
    *embedder("time_in", "time_text_embed.timestep_embedder"),
    *embedder("vector_in", "time_text_embed.text_embedder"),
    *embedder("guidance_in", "time_text_embed.guidance_embedder"),
    # XLabs and USO name the processor of the fused attention instead of the module
    Rename(f"{_DOUBLE}img_attn.qkv", f"{_DOUBLE}processor.qkv_lora1", read_only=True),
    Rename(f"{_DOUBLE}txt_attn.qkv", f"{_DOUBLE}processor.qkv_lora2", read_only=True),
    Rename(f"{_DOUBLE}img_attn.proj", f"{_DOUBLE}processor.proj_lora1", read_only=True),
    Rename(f"{_DOUBLE}txt_attn.proj", f"{_DOUBLE}processor.proj_lora2", read_only=True),
    *(Rename(f"{_SINGLE}linear1_qkv", f"{_SINGLE}processor.{name}", read_only=True) for name in ("qkv", "qkv_lora")),
    *(Rename(f"{_SINGLE}linear2", f"{_SINGLE}processor.{name}", read_only=True) for name in ("proj", "proj_lora")),
)


_LACKS = (
    "distilled_guidance_layer.norms.0.weight",  # Chroma
    "distilled_guidance_layer.norms.0.scale",
    "double_stream_modulation_img.lin.weight",  # Flux.2
)

FLUX1 = Arch(
    id="flux1",
    title="Flux.1",
    signatures=tuple(
        Signature(
            has=(f"double_blocks.0.img_attn.norm.key_norm.{scale}", "img_in.weight", "vector_in.in_layer.weight"),
            lacks=_LACKS,
        )
        for scale in ("scale", "weight")
    ),
    others=(
        Signature(
            has=(
                "single_transformer_blocks.0.proj_mlp.weight",
                "time_text_embed.text_embedder.linear_1.weight",
                "context_embedder.weight",
            )
        ),
    ),
    prefixes=DIFFUSION_PREFIXES,
    blocks=DOUBLE_SINGLE,
    block_presets=STREAM_PRESETS,
    renames=RENAMES,
    editions=(
        Edition("flux1_fill", "Flux.1 Fill", Signature(shapes={"img_in.weight": (None, 384)})),
        Edition("flux1_dev", "Flux.1 dev", Signature(has=("guidance_in.in_layer.weight",))),
        Edition("flux1_schnell", "Flux.1 schnell", Signature(lacks=("guidance_in.in_layer.weight",))),
    ),
    text_encoders={"clip_l": ("te1", "te"), "t5xxl": ("te3", "te2")},
)
