"""CLIP text encoders: L, H, G and any other size, in both on-disk layouts.

transformers' layout is the common tongue: LoRA files name its modules. OpenCLIP's layout (inside SD 2 and SDXL
checkpoints) fuses query, key and value, and keeps `text_projection` transposed.
"""

from __future__ import annotations

from .base import Arch, Rename, Signature

_LAYER = "text_model.encoder.layers.{i}."

# transformers 5 has no `text_model.` level in CLIPTextModel; old SD 1 files lack it on disk
_LEVEL = (
    Rename("text_model.{rest}", "{rest}", read_only=True),
    Rename("encoder.{rest}", "text_model.encoder.{rest}"),
    Rename("embeddings.{rest}", "text_model.embeddings.{rest}"),
    Rename("final_layer_norm", "text_model.final_layer_norm"),
)
_OPENCLIP = (
    Rename(
        "transformer.resblocks.{i}.attn.in_proj",
        (f"{_LAYER}self_attn.q_proj", f"{_LAYER}self_attn.k_proj", f"{_LAYER}self_attn.v_proj"),
    ),
    Rename("transformer.resblocks.{i}.attn.out_proj", f"{_LAYER}self_attn.out_proj"),
    Rename("transformer.resblocks.{i}.mlp.c_fc", f"{_LAYER}mlp.fc1"),
    Rename("transformer.resblocks.{i}.mlp.c_proj", f"{_LAYER}mlp.fc2"),
    Rename("transformer.resblocks.{i}.ln_1", f"{_LAYER}layer_norm1"),
    Rename("transformer.resblocks.{i}.ln_2", f"{_LAYER}layer_norm2"),
    Rename("ln_final", "text_model.final_layer_norm"),
    Rename("token_embedding", "text_model.embeddings.token_embedding"),
    Rename("positional_embedding", "text_model.embeddings.position_embedding"),
    Rename("text_projection", "text_projection", transposed=True),
    Rename("text_model.{rest}", "{rest}", read_only=True),
)


def _clip(encoder: str, title: str, width: int | None, prefixes: tuple[str, ...]) -> Arch:
    query, words = "encoder.layers.0.self_attn.q_proj.weight", "embeddings.token_embedding.weight"
    return Arch(
        id=encoder,
        title=title,
        role="text_encoder",
        signatures=(
            Signature(shapes={f"text_model.{query}": (width, width)}),
            Signature(shapes={query: (width, width), words: (None, width)}),
        ),
        prefixes=(*prefixes, f"text_encoders.{encoder}.transformer.", f"{encoder}.transformer.", ""),
        renames=_LEVEL,
        kohya_names="there",
        kohya_modules="text_model.encoder.layers.",
    )


def _openclip(encoder: str, title: str, width: int | None, prefixes: tuple[str, ...]) -> Arch:
    rows = 3 * width if width else None
    return Arch(
        id=encoder,
        title=title,
        role="text_encoder",
        signatures=(Signature(shapes={"transformer.resblocks.0.attn.in_proj_weight": (rows, width)}),),
        prefixes=(*prefixes, ""),
        renames=_OPENCLIP,
        kohya_names="there",
        kohya_modules="text_model.encoder.layers.",
    )


CLIP_L = _clip("clip_l", "CLIP-L", 768, ("conditioner.embedders.0.transformer.", "cond_stage_model.transformer."))
CLIP_H = _clip("clip_h", "CLIP-H", 1024, ())
CLIP_G = _clip("clip_g", "CLIP-G", 1280, ())
CLIP_H_OPENCLIP = _openclip("clip_h", "CLIP-H", 1024, ("cond_stage_model.model.",))
CLIP_G_OPENCLIP = _openclip(
    "clip_g", "CLIP-G", 1280, ("conditioner.embedders.1.model.", "conditioner.embedders.0.model.")
)

CLIP = _clip("clip", "CLIP", None, ())  # any other size
CLIP_OPENCLIP = _openclip("clip", "CLIP", None, ())

CLIPS = (CLIP_L, CLIP_H, CLIP_G, CLIP_H_OPENCLIP, CLIP_G_OPENCLIP, CLIP, CLIP_OPENCLIP)
