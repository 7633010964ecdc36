"""Encoders that are BERTs: HunyuanDiT's first, with or without the `bert.` level, and Jina CLIP 2."""

from __future__ import annotations

from .base import Arch, Rename, Signature

_WORDS = (47020, 1024)

HYDIT_CLIP = Arch(
    id="hydit_clip",
    title="HunyuanDiT CLIP",
    role="text_encoder",
    signatures=(Signature(shapes={"bert.embeddings.word_embeddings.weight": _WORDS}),),
    others=(Signature(shapes={"embeddings.word_embeddings.weight": _WORDS}),),  # diffusers
    prefixes=("text_encoders.hydit_clip.transformer.", "hydit_clip.transformer.", ""),
    renames=(
        Rename("bert.embeddings.{rest}", "embeddings.{rest}"),
        Rename("bert.encoder.{rest}", "encoder.{rest}"),
    ),
    kohya_names="there",
    kohya_modules="encoder.layer.",
)

JINA_CLIP_2 = Arch(
    id="jina_clip_2",
    title="Jina CLIP 2",
    role="text_encoder",
    signatures=(Signature(shapes={"model.encoder.layers.0.mixer.Wqkv.weight": (3072, 1024)}),),
    prefixes=("text_encoders.jina.transformer.", "jina.transformer.", ""),
    renames=(Rename("model.{rest}", "{rest}", read_only=True),),
    kohya_modules="model.encoder.layers.",
)

BERTS = (HYDIT_CLIP, JINA_CLIP_2)
