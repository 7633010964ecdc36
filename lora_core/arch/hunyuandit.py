"""HunyuanDiT: fused query, key, value (key and value in cross attention); diffusers splits them."""

from __future__ import annotations

from .base import DIFFUSION_PREFIXES, Arch, Edition, Rename, Signature
from .blockgroups import BLOCKS

_AT = "blocks.{i}."


def _attention(name: str) -> tuple[Rename, ...]:
    at = f"{_AT}{name}."
    return (
        Rename(f"{at}out_proj", f"{at}to_out.0"),
        Rename(f"{at}q_norm", f"{at}norm_q"),
        Rename(f"{at}k_norm", f"{at}norm_k"),
    )


def _mlp(here: str, there: str) -> tuple[Rename, ...]:
    return (Rename(f"{here}.0", f"{there}.linear_1"), Rename(f"{here}.2", f"{there}.linear_2"))


RENAMES = (
    Rename(f"{_AT}attn1.Wqkv", (f"{_AT}attn1.to_q", f"{_AT}attn1.to_k", f"{_AT}attn1.to_v")),
    Rename(f"{_AT}attn1.Wqkv", f"{_AT}attn1.to_qkv", read_only=True),  # trained on fused projections
    Rename(f"{_AT}attn2.q_proj", f"{_AT}attn2.to_q"),
    Rename(f"{_AT}attn2.kv_proj", (f"{_AT}attn2.to_k", f"{_AT}attn2.to_v")),
    Rename(f"{_AT}attn2.kv_proj", f"{_AT}attn2.to_kv", read_only=True),
    *_attention("attn1"),
    *_attention("attn2"),
    Rename(f"{_AT}mlp.fc1", f"{_AT}ff.net.0.proj"),
    Rename(f"{_AT}mlp.fc2", f"{_AT}ff.net.2"),
    # diffusers also calls norm2 norm3 and norm3 norm2: one name cannot stand for both, so each means what its file says
    Rename(f"{_AT}norm1", f"{_AT}norm1.norm"),
    Rename(f"{_AT}default_modulation.1", f"{_AT}norm1.linear"),
    Rename("x_embedder.proj", "pos_embed.proj"),
    Rename("pooler.{rest}", "time_extra_emb.pooler.{rest}"),
    Rename("style_embedder", "time_extra_emb.style_embedder"),
    *_mlp("t_embedder.mlp", "time_extra_emb.timestep_embedder"),
    *_mlp("extra_embedder", "time_extra_emb.extra_embedder"),
    *_mlp("mlp_t5", "text_embedder"),
    Rename("final_layer.adaLN_modulation.1", "norm_out.linear", order=(1, 0)),
    Rename("final_layer.linear", "proj_out"),
)

HUNYUANDIT = Arch(
    id="hunyuandit",
    title="HunyuanDiT",
    signatures=(Signature(has=("mlp_t5.0.weight", "blocks.0.attn1.Wqkv.weight")),),
    others=(Signature(has=("time_extra_emb.pooler.c_proj.weight", "text_embedder.linear_1.weight")),),
    prefixes=DIFFUSION_PREFIXES,
    blocks=BLOCKS,
    renames=RENAMES,
    editions=(
        Edition("hunyuandit_1.0", "HunyuanDiT 1.0", Signature(shapes={"extra_embedder.0.weight": (None, 3968)})),
        Edition("hunyuandit_1.2", "HunyuanDiT 1.2", Signature()),
    ),
    text_encoders={"hydit_clip": ("te1", "te"), "mt5xl": ("te2",)},
)
