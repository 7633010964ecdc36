"""Flux.2 dev and Klein: Flux.1's blocks with a gated feed-forward and one modulation for all of them."""

from __future__ import annotations

from dataclasses import replace

from .base import DIFFUSION_PREFIXES, Arch, Edition, Rename, Signature
from .blockgroups import DOUBLE_SINGLE, STREAM_PRESETS
from .flux import FINAL_MODULATION, SHARED, embedder, linear1

_SINGLE, _SINGLE_THERE = "single_blocks.{i}.", "single_transformer_blocks.{i}.attn."

RENAMES = (
    *SHARED,
    *(
        Rename(f"double_blocks.{{i}}.{stream}_mlp.{place}", f"transformer_blocks.{{i}}.{there}.{other}")
        for stream, there in (("img", "ff"), ("txt", "ff_context"))
        for place, other in ((0, "linear_in"), (2, "linear_out"))
    ),
    Rename(f"{_SINGLE}linear1", f"{_SINGLE_THERE}to_qkv_mlp_proj"),
    Rename(f"{_SINGLE}linear2", f"{_SINGLE_THERE}to_out"),
    # names of Flux.1 that some write for Flux.2
    *(replace(row, read_only=True) for row in linear1("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp", mlp=6)),
    Rename("double_stream_modulation_img.lin", "double_stream_modulation_img.linear"),
    Rename("double_stream_modulation_txt.lin", "double_stream_modulation_txt.linear"),
    Rename("single_stream_modulation.lin", "single_stream_modulation.linear"),
    FINAL_MODULATION,
    *embedder("time_in", "time_guidance_embed.timestep_embedder"),
    *embedder("guidance_in", "time_guidance_embed.guidance_embedder"),
    # ... and what ComfyUI calls them
    *embedder("time_in", "time_text_embed.timestep_embedder", read_only=True),
    *embedder("guidance_in", "time_text_embed.guidance_embedder", read_only=True),
)


def _size(name: str, title: str, width: int, encoder: str) -> Edition:
    return Edition(name, title, Signature(shapes={"img_in.weight": (width,)}), {encoder: ("te", "te1")})


FLUX2 = Arch(
    id="flux2",
    title="Flux.2",
    signatures=(Signature(has=("double_stream_modulation_img.lin.weight", "img_in.weight")),),
    others=(Signature(has=("double_stream_modulation_img.linear.weight", "x_embedder.weight")),),
    prefixes=DIFFUSION_PREFIXES,
    blocks=DOUBLE_SINGLE,
    block_presets=STREAM_PRESETS,
    renames=RENAMES,
    editions=(
        _size("flux2_dev", "Flux.2 dev", 6144, "mistral3_24b"),
        _size("flux2_klein_9b", "Flux.2 Klein 9B", 4096, "qwen3_8b"),
        _size("flux2_klein_4b", "Flux.2 Klein 4B", 3072, "qwen3_4b"),
    ),
)
