"""The prefix table: how trainers begin the names of modules. A further trainer is one more row.

A row says which role its names address: "diffusion" for the diffusion model; a text encoder's id, or its number as
trainers count them ("te", "te1", …; an architecture says which encoder that is).
"""

from __future__ import annotations

from dataclasses import dataclass

DIFFUSION = "diffusion"


@dataclass(frozen=True, slots=True)
class Dialect:
    """One prefix of one trainer's names; `flat` names have `_` where the module has dots."""

    id: str
    prefix: str
    roles: tuple[str, ...]
    flat: bool = False


def _encoder_rows(*encoders: str) -> tuple[Dialect, ...]:
    return tuple(
        Dialect("comfy", f"{before}{encoder}.transformer.", (encoder,))
        for encoder in encoders
        for before in ("text_encoders.", "")
    )


DIALECTS: tuple[Dialect, ...] = (
    Dialect("kohya", "lora_unet_", (DIFFUSION,), flat=True),
    Dialect("kohya", "oft_unet_", (DIFFUSION,), flat=True),
    Dialect("kohya", "lora_te_", ("te",), flat=True),
    Dialect("kohya", "lora_te1_", ("te1",), flat=True),
    Dialect("kohya", "lora_te2_", ("te2",), flat=True),
    Dialect("kohya", "lora_te3_", ("te3",), flat=True),
    Dialect("diffusers", "unet.", (DIFFUSION,)),
    Dialect("diffusers", "transformer.", (DIFFUSION,)),
    Dialect("diffusers", "text_encoder.", ("te", "te1")),
    Dialect("diffusers", "text_encoder_2.", ("te2",)),
    Dialect("diffusers", "text_encoder_3.", ("te3",)),
    Dialect("peft", "base_model.model.", (DIFFUSION,)),
    Dialect("comfy", "diffusion_model.", (DIFFUSION,)),
    *_encoder_rows("clip_l", "clip_g", "clip_h", "t5xxl", "umt5xxl"),
    Dialect("comfy", "text_encoders.transformer.", ("t5xxl", "umt5xxl")),
    Dialect("onetrainer", "lora_transformer_", (DIFFUSION,), flat=True),
    Dialect("simpletuner", "lycoris_", (DIFFUSION,), flat=True),
    Dialect("wan-fun", "lora_unet__", (DIFFUSION,), flat=True),
    Dialect("bare", "", (DIFFUSION,)),
)


def dialects_of(name: str) -> list[Dialect]:
    """Return the rows whose prefix begins `name`, the longest prefix first; the last is the bare one."""
    return [dialect for dialect in _LONGEST_FIRST if name.startswith(dialect.prefix)]


_LONGEST_FIRST = sorted(DIALECTS, key=lambda dialect: -len(dialect.prefix))
