"""Cosmos Predict2, and Anima, which is built on it: split query, key, value in both naming styles."""

from __future__ import annotations

from .base import DIFFUSION_PREFIXES, Arch, Edition, Rename, Signature
from .blockgroups import BLOCKS

_PARTS = {
    "q_proj": "to_q",
    "k_proj": "to_k",
    "v_proj": "to_v",
    "output_proj": "to_out.0",
    "q_norm": "norm_q",
    "k_norm": "norm_k",
}
_HERE, _THERE = "blocks.{i}.", "transformer_blocks.{i}."


def _part(number: int, name: str) -> tuple[Rename, ...]:
    """Return the rows of one part of a block, which its modulation comes before."""
    return tuple(
        Rename(f"{_HERE}adaln_modulation_{name}.{place}", f"{_THERE}norm{number}.linear_{place}") for place in (1, 2)
    )


def _attention(number: int, name: str) -> tuple[Rename, ...]:
    return (
        *(Rename(f"{_HERE}{name}.{here}", f"{_THERE}attn{number}.{there}") for here, there in _PARTS.items()),
        *_part(number, name),
    )


def _fused(name: str, parts: str) -> Rename:
    return Rename(tuple(f"{_THERE}{name}.to_{part}" for part in parts), f"{_THERE}{name}.to_{parts}", read_only=True)


RENAMES = (
    *_attention(1, "self_attn"),
    *_attention(2, "cross_attn"),
    *_part(3, "mlp"),
    _fused("attn1", "qkv"),  # trained on fused projections
    _fused("attn2", "kv"),
    Rename(f"{_HERE}mlp.layer1", f"{_THERE}ff.net.0.proj"),
    Rename(f"{_HERE}mlp.layer2", f"{_THERE}ff.net.2"),
    Rename("x_embedder.proj.1", "patch_embed.proj"),
    Rename("t_embedder.1.{rest}", "time_embed.t_embedder.{rest}"),
    Rename("t_embedding_norm", "time_embed.norm"),
    Rename("final_layer.adaln_modulation.1", "norm_out.linear_1"),
    Rename("final_layer.adaln_modulation.2", "norm_out.linear_2"),
    Rename("final_layer.linear", "proj_out"),
)

_SIZES = (("2b", "2B", 2048), ("14b", "14B", 5120))

COSMOS_PREDICT2 = Arch(
    id="cosmos_predict2",
    title="Cosmos Predict2 or Anima",  # without Anima's text adapter, a LoRA's names do not tell which
    signatures=(Signature(has=("blocks.0.mlp.layer1.weight", "x_embedder.proj.1.weight", "t_embedding_norm.weight")),),
    others=(
        Signature(
            has=("patch_embed.proj.weight", "time_embed.norm.weight", "transformer_blocks.0.norm1.linear_2.weight"),
            lacks=("learnable_pos_embed.pos_emb_t",),  # Cosmos 1
        ),
    ),
    prefixes=DIFFUSION_PREFIXES,
    blocks={**BLOCKS, "adapter": "llm_adapter.blocks"},
    renames=RENAMES,
    editions=(
        Edition(
            "anima",
            "Anima",
            Signature(has=("llm_adapter.blocks.0.cross_attn.q_proj.weight",)),
            text_encoders={"qwen3_06b": ("te", "te1")},
        ),
        *(
            Edition(
                f"cosmos_predict2_{size}",
                f"Cosmos Predict2 {title}",
                Signature(shapes={"x_embedder.proj.1.weight": (width,)}),
            )
            for size, title, width in _SIZES
        ),
    ),
    text_encoders={"t5xxl_cosmos_predict2": ("te1", "te")},
)
