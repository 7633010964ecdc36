"""HunyuanDiT's first text encoder: a BERT, with or without the `bert.` level."""

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
