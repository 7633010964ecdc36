"""Flux.1: BFL's names fuse query, key, value (and the MLP in single blocks); diffusers splits them."""

from __future__ import annotations

from .base import DIFFUSION_PREFIXES, Arch, Edition, Mark, Rename, Signature

_STREAMS = (
    # BFL's stream, norm, attention projections, output projection, query/key norms, feed-forward in diffusers
    ("img", "norm1", ("to_q", "to_k", "to_v"), "to_out.0", ("norm_q", "norm_k"), "ff"),
    (
        "txt",
        "norm1_context",
        ("add_q_proj", "add_k_proj", "add_v_proj"),
        "to_add_out",
        ("norm_added_q", "norm_added_k"),
        "ff_context",
    ),
)


def _double(stream: str, norm: str, qkv: tuple[str, ...], out: str, norms: tuple[str, str], ff: str):
    here, there = "double_blocks.{i}." + stream, "transformer_blocks.{i}."
    return (
        Rename(f"{here}_mod.lin", f"{there}{norm}.linear"),
        Rename(f"{here}_attn.qkv", tuple(f"{there}attn.{name}" for name in qkv)),
        Rename(f"{here}_attn.proj", f"{there}attn.{out}"),
        Rename(f"{here}_attn.norm.query_norm", f"{there}attn.{norms[0]}"),
        Rename(f"{here}_attn.norm.key_norm", f"{there}attn.{norms[1]}"),
        Rename(f"{here}_mlp.0", f"{there}{ff}.net.0.proj"),
        Rename(f"{here}_mlp.2", f"{there}{ff}.net.2"),
    )


_SINGLE = "single_transformer_blocks.{i}."

RENAMES = (
    *(row for stream in _STREAMS for row in _double(*stream)),
    # XLabs and USO name the processor of the fused attention instead of the module
    Rename("double_blocks.{i}.img_attn.qkv", "double_blocks.{i}.processor.qkv_lora1", read_only=True),
    Rename("double_blocks.{i}.txt_attn.qkv", "double_blocks.{i}.processor.qkv_lora2", read_only=True),
    Rename("double_blocks.{i}.img_attn.proj", "double_blocks.{i}.processor.proj_lora1", read_only=True),
    Rename("double_blocks.{i}.txt_attn.proj", "double_blocks.{i}.processor.proj_lora2", read_only=True),
    Rename(
        "single_blocks.{i}.linear1",
        (f"{_SINGLE}attn.to_q", f"{_SINGLE}attn.to_k", f"{_SINGLE}attn.to_v", f"{_SINGLE}proj_mlp"),
        sizes=(1, 1, 1, 4),
    ),
    Rename(
        "single_blocks.{i}.linear1",
        ("single_blocks.{i}.linear1_qkv", "single_blocks.{i}.linear1_mlp"),
        sizes=(3, 4),
        read_only=True,
    ),
    Rename("single_blocks.{i}.linear1_qkv", "single_blocks.{i}.processor.qkv", read_only=True),
    Rename("single_blocks.{i}.linear2", "single_blocks.{i}.processor.proj", read_only=True),
    Rename("single_blocks.{i}.linear2", f"{_SINGLE}proj_out"),
    Rename("single_blocks.{i}.modulation.lin", f"{_SINGLE}norm.linear"),
    Rename("single_blocks.{i}.norm.query_norm", f"{_SINGLE}attn.norm_q"),
    Rename("single_blocks.{i}.norm.key_norm", f"{_SINGLE}attn.norm_k"),
    Rename("img_in", "x_embedder"),
    Rename("txt_in", "context_embedder"),
    Rename("time_in.in_layer", "time_text_embed.timestep_embedder.linear_1"),
    Rename("time_in.out_layer", "time_text_embed.timestep_embedder.linear_2"),
    Rename("vector_in.in_layer", "time_text_embed.text_embedder.linear_1"),
    Rename("vector_in.out_layer", "time_text_embed.text_embedder.linear_2"),
    Rename("guidance_in.in_layer", "time_text_embed.guidance_embedder.linear_1"),
    Rename("guidance_in.out_layer", "time_text_embed.guidance_embedder.linear_2"),
    Rename("final_layer.adaLN_modulation.1", "norm_out.linear", swap_halves=True),
    Rename("final_layer.linear", "proj_out"),
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
    renames=RENAMES,
    editions=(
        Edition("flux1_fill", "Flux.1 Fill", Signature(shapes={"img_in.weight": (None, 384)})),
        Edition("flux1_dev", "Flux.1 dev", Signature(has=("guidance_in.in_layer.weight",))),
        Edition("flux1_schnell", "Flux.1 schnell", Signature(lacks=("guidance_in.in_layer.weight",))),
    ),
    text_encoders={"clip_l": ("te1", "te"), "t5xxl": ("te3", "te2")},
    marks=(
        Mark(r"double_blocks_\d+_(img|txt)_(attn|mlp|mod)"),
        Mark(r"double_blocks_\d+_processor_"),
        Mark(r"single_blocks_\d+_(linear[12]|modulation|norm|processor)"),
        Mark(r"single_transformer_blocks_\d+_(proj_mlp|proj_out|norm|attn)"),
        Mark(r"transformer_blocks_\d+_(attn|norm1|norm1_context|ff|ff_context)_", frozenset({3072})),
    ),
)
