"""AuraFlow: split attention in both naming styles; the text is stream 1 and the image stream 2 in the makers' names."""

from __future__ import annotations

from .base import DIFFUSION_PREFIXES, Arch, Rename, Signature
from .blockgroups import STREAM_PRESETS

_DOUBLE, _JOINT = "double_layers.{i}.", "joint_transformer_blocks.{i}."
_SINGLE, _SINGLE_THERE = "single_layers.{i}.", "single_transformer_blocks.{i}."
_MLP = (("c_fc1", "linear_1"), ("c_fc2", "linear_2"), ("c_proj", "out_projection"))
_IMAGE = (("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("o", "to_out.0"))
_TEXT = (("q", "add_q_proj"), ("k", "add_k_proj"), ("v", "add_v_proj"), ("o", "to_add_out"))


def _fused(block: str, names: str, there: str) -> Rename:
    """Return the row of what diffusers fuses in fuse_qkv_projections; `names` has `#` for q, k and v."""
    return Rename(
        tuple(f"{block}attn.{names.replace('#', part)}" for part in "qkv"), f"{block}attn.{there}", read_only=True
    )


RENAMES = (
    *(Rename(f"{_DOUBLE}attn.w2{part}", f"{_JOINT}attn.{other}") for part, other in _IMAGE),
    *(Rename(f"{_DOUBLE}attn.w1{part}", f"{_JOINT}attn.{other}") for part, other in _TEXT),
    *(Rename(f"{_SINGLE}attn.w1{part}", f"{_SINGLE_THERE}attn.{other}") for part, other in _IMAGE),
    *(Rename(f"{_DOUBLE}mlpX.{part}", f"{_JOINT}ff.{other}") for part, other in _MLP),
    *(Rename(f"{_DOUBLE}mlpC.{part}", f"{_JOINT}ff_context.{other}") for part, other in _MLP),
    *(Rename(f"{_SINGLE}mlp.{part}", f"{_SINGLE_THERE}ff.{other}") for part, other in _MLP),
    Rename(f"{_DOUBLE}modX.1", f"{_JOINT}norm1.linear"),
    Rename(f"{_DOUBLE}modC.1", f"{_JOINT}norm1_context.linear"),
    Rename(f"{_SINGLE}modCX.1", f"{_SINGLE_THERE}norm1.linear"),
    _fused(_JOINT, "to_#", "to_qkv"),
    _fused(_JOINT, "add_#_proj", "to_added_qkv"),
    _fused(_SINGLE_THERE, "to_#", "to_qkv"),
    Rename("positional_encoding", "pos_embed.pos_embed"),
    Rename("init_x_linear", "pos_embed.proj"),
    Rename("cond_seq_linear", "context_embedder"),
    Rename("t_embedder.mlp.0", "time_step_proj.linear_1"),
    Rename("t_embedder.mlp.2", "time_step_proj.linear_2"),
    Rename("modF.1", "norm_out.linear", order=(1, 0)),
    Rename("final_linear", "proj_out"),
)

AURAFLOW = Arch(
    id="auraflow",
    title="AuraFlow",
    signatures=(Signature(has=("double_layers.0.attn.w1q.weight", "init_x_linear.weight")),),
    others=(Signature(has=("joint_transformer_blocks.0.attn.add_q_proj.weight", "time_step_proj.linear_1.weight")),),
    prefixes=("model.", *DIFFUSION_PREFIXES),
    blocks={"double": "double_layers", "single": "single_layers"},
    block_presets=STREAM_PRESETS,
    renames=RENAMES,
    text_encoders={"pile_t5xl": ("te1", "te")},
)
