"""Stable Audio 1 and 3, and MiniMax Music 3, whose layers are like theirs: their files fuse what diffusers splits."""

from __future__ import annotations

from .base import DIFFUSION_PREFIXES, Arch, Rename, Signature
from .rows import renamed_below, split

_HERE, _THERE = "transformer.layers.{i}.", "transformer_blocks.{i}."
_NORMS = (("pre_norm", "norm1"), ("cross_attend_norm", "norm2"), ("ff_norm", "norm3"))
_ENDS = renamed_below("transformer.", "", ("project_in", "proj_in"), ("project_out", "proj_out"))

STABLE_AUDIO_1 = Arch(
    id="stable_audio_1",
    title="Stable Audio 1",
    signatures=(
        Signature(
            has=("transformer.layers.0.self_attn.to_qkv.weight", "to_cond_embed.0.weight"),
            lacks=("transformer.layers.0.to_scale_shift_gate",),
        ),
    ),
    others=(Signature(has=("transformer_blocks.0.attn1.to_q.weight", "cross_attention_proj.0.weight")),),
    prefixes=DIFFUSION_PREFIXES,
    blocks={"blocks": "transformer.layers"},
    renames=(
        split(f"{_HERE}self_attn.to_qkv", f"{_THERE}attn1."),
        split(f"{_HERE}cross_attn.to_kv", f"{_THERE}attn2.", parts="kv"),
        *renamed_below(
            _HERE,
            _THERE,
            ("self_attn.to_out", "attn1.to_out.0"),
            ("cross_attn.to_q", "attn2.to_q"),
            ("cross_attn.to_out", "attn2.to_out.0"),
            ("ff.ff.0.proj", "ff.net.0.proj"),
            ("ff.ff.2", "ff.net.2"),
        ),
        *_ENDS,
        *(Rename(f"{_HERE}{here}.gamma", f"{_THERE}{norm}") for here, norm in _NORMS),
        *(
            Rename(f"{here}.{place}", f"{there}.{place}")
            for here, there in (
                ("to_timestep_embed", "timestep_proj"),
                ("to_global_embed", "global_proj"),
                ("to_cond_embed", "cross_attention_proj"),
            )
            for place in (0, 2)
        ),
    ),
    text_encoders={"t5base": ("te", "te1")},
)

STABLE_AUDIO_3 = Arch(
    id="stable_audio_3_medium",
    title="Stable Audio 3 Medium",
    signatures=(Signature(has=("transformer.layers.0.to_scale_shift_gate", "transformer.memory_tokens")),),
    others=(Signature(has=("transformer_blocks.0.to_scale_shift_gate", "memory_tokens")),),
    prefixes=DIFFUSION_PREFIXES,
    blocks={"blocks": "transformer.layers"},
    renames=(
        # differential attention: [q; k; v; q2; k2] here, [q; q2; k; k2; v] there
        Rename(f"{_HERE}self_attn.to_qkv", f"{_THERE}self_attn.to_qkv", order=(0, 3, 1, 4, 2)),
        *renamed_below(
            _HERE,
            _THERE,
            *(f"self_attn.{part}" for part in ("to_out", "q_norm.{rest}", "k_norm.{rest}")),
            *(f"cross_attn.{part}" for part in ("to_q", "to_kv", "to_out", "q_norm.{rest}", "k_norm.{rest}")),
            "to_scale_shift_gate",
            "to_local_embed.{rest}",
            *(f"{name}.gamma" for name in ("pre_norm", "cross_attend_norm", "ff_norm")),
            ("ff.ff.0.proj", "ff.proj_in"),
            ("ff.ff.2", "ff.proj_out"),
        ),
        *renamed_below("transformer.", "", "memory_tokens", "rotary_pos_emb.inv_freq"),
        Rename("transformer.global_cond_embedder.{rest}", "global_cond_embedder.{rest}"),
        *_ENDS,
    ),
    text_encoders={"t5gemma_b": ("te", "te1")},
)

_MUSIC = "diffusion_transformer."

MINIMAX_MUSIC3 = Arch(
    id="minimax_music3",
    title="MiniMax Music 3",
    signatures=(
        Signature(has=("diffusion_transformer.transformer.layers.0.self_attn.to_qkv.weight", "cond_layer_logits")),
    ),
    others=(Signature(has=("transformer_blocks.0.ff_in.weight", "preprocess_conv.weight", "time_proj.weight")),),
    prefixes=DIFFUSION_PREFIXES,
    blocks={"blocks": "diffusion_transformer.transformer.layers"},
    renames=(
        split(f"{_MUSIC}{_HERE}self_attn.to_qkv", f"{_THERE}attn."),
        *renamed_below(
            _MUSIC + _HERE,
            _THERE,
            ("self_attn.to_out", "attn.to_out.0"),
            ("ff.ff.0.proj", "ff_in"),
            ("ff.ff.2", "ff_out"),
        ),
        *(
            Rename(f"{_MUSIC}{_HERE}{here}.{param}", f"{_THERE}{norm}{bias}")
            for here, norm in (("pre_norm", "norm1"), ("ff_norm", "norm2"))
            for param, bias in (("gamma", ""), ("beta", ".bias"))
        ),
        *(Rename(_MUSIC + row.here, row.there) for row in _ENDS if isinstance(row.here, str)),
        *renamed_below(
            _MUSIC, "", ("to_timestep_embed.0", "time_embed.linear_1"), ("to_timestep_embed.2", "time_embed.linear_2")
        ),
        *renamed_below(_MUSIC, "", "preprocess_conv", "postprocess_conv"),
        Rename(f"{_MUSIC}timestep_features", "time_proj"),
    ),
    text_encoders={"minimax_music3_ar": ("te", "te1")},
)

STABLE_AUDIOS = (STABLE_AUDIO_1, STABLE_AUDIO_3, MINIMAX_MUSIC3)
