"""The dialects: how trainers begin the names of modules, and how those are written that we write. A row for each.

A row says which role its names address: "diffusion" for the diffusion model; a text encoder's id, or its number as
trainers count them ("te", "te1", …; an architecture says which encoder that is); "base" for a text encoder or a
language model that stands alone, without a diffusion model and other encoders.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from ..arch.base import NameStyle
from ..options.shared import WrittenDialect

DIFFUSION = "diffusion"
BASE = "base"

# What ComfyUI calls its text encoders -> their ids here; one name may stand for several sizes
_SIZES = {
    "t5xxl": ("t5xxl", "t5xxl_cosmos_predict2"),
    "llama": ("llama", "llama_hidream_i1"),
    "qwen3_06b": ("qwen3_06b", "qwen3_06b_ace_step_1.5_2b"),
    "qwen3vl_8b": ("qwen3_8b",),
    "qwen3vl_32b": ("qwen3vl_32b_minimax_h3",),
    "gemma3_12b": ("gemma3_12b", "gemma4_12b"),
    "gemma": ("gemma3_4b",),
    "gpt_oss": ("gpt_oss_20b",),
    "t5gemma": ("t5gemma_b",),
    "jina": ("jina_clip_2",),
}
_NAMES = (
    *("clip_l", "clip_g", "clip_h", "hydit_clip", "t5xxl", "umt5xxl", "umt5base", "pile_t5xl", "mt5xl", "byt5_small"),
    *("llama", "mistral3_24b", "ministral3_3b", "qwen25_3b", "qwen25_7b", "gemma2_2b", "gemma3_12b"),
    *("qwen3_06b", "qwen3_2b", "qwen3_4b", "qwen3vl_4b", "qwen3_8b", "qwen3vl_8b", "qwen3vl_32b"),
    *("t5base", "t5gemma", "gemma", "jina", "gpt_oss"),
)
_ENCODERS: dict[str, tuple[str, ...]] = {name: _SIZES.get(name, (name,)) for name in _NAMES}
# Those that ComfyUI also names without their own name: all but CLIP, and of two that are alike the larger one
_UNNAMED = tuple(
    encoder
    for name, encoders in _ENCODERS.items()
    for encoder in encoders
    if not name.startswith("clip_") and encoder != "qwen3_06b_ace_step_1.5_2b"
)


@dataclass(frozen=True, slots=True)
class Dialect:
    """One prefix of one trainer's names; `flat` names have `_` where the module has dots."""

    id: str
    prefix: str
    roles: tuple[str, ...]
    flat: bool = False


DIALECTS: tuple[Dialect, ...] = (
    Dialect("kohya", "lora_unet_", (DIFFUSION,), flat=True),
    Dialect("kohya", "oft_unet_", (DIFFUSION,), flat=True),
    Dialect("kohya", "lora_te_", ("te",), flat=True),
    Dialect("kohya", "lora_te1_", ("te1",), flat=True),
    Dialect("kohya", "lora_te2_", ("te2",), flat=True),
    Dialect("kohya", "lora_te3_", ("te3",), flat=True),
    Dialect("kohya", "lora_te4_", ("te4",), flat=True),
    Dialect("kohya", "lora_prior_te_", ("prior_te",), flat=True),  # Stable Cascade
    Dialect("diffusers", "unet.", (DIFFUSION,)),
    Dialect("diffusers", "transformer.", (DIFFUSION,)),
    Dialect("diffusers", "text_encoder.", ("te", "te1")),
    Dialect("diffusers", "text_encoder_2.", ("te2",)),
    Dialect("diffusers", "text_encoder_3.", ("te3",)),
    Dialect("diffusers", "text_encoder_4.", ("te4",)),
    Dialect("peft", "base_model.model.", (DIFFUSION, BASE)),
    Dialect("peft", "unet.base_model.model.", (DIFFUSION,)),  # PixArt's own script
    Dialect("comfy", "diffusion_model.", (DIFFUSION,)),
    *(Dialect("comfy", f"text_encoders.{name}.transformer.", encoders) for name, encoders in _ENCODERS.items()),
    Dialect("comfy", "text_encoders.transformer.", _UNNAMED),
    Dialect("comfy", "text_encoders.", ("minimax_music3_ar",)),
    Dialect("onetrainer", "lora_transformer_", (DIFFUSION,), flat=True),
    Dialect("simpletuner", "lycoris_", (DIFFUSION,), flat=True),
    Dialect("wan-fun", "lora_unet__", (DIFFUSION,), flat=True),
    Dialect("stable-cascade", "lora_prior_unet_", (DIFFUSION,), flat=True),
    Dialect("diffusers", "prior_unet.", (DIFFUSION,)),  # Stable Cascade
    Dialect("bare", "", (DIFFUSION, BASE)),
)


# How they spell the parts of adapters: as ComfyUI and kohya do, or as PEFT and diffusers do
Family = Literal["kohya", "peft"]
# The programs that read what we write
Loader = Literal["comfyui", "diffusers", "peft"]
# What says which text encoder a name is of: its own name, the number that it usually has in a model, the lowest number
# that it may have, or nothing, because a file is for one model
EncoderNames = Literal["name", "usual number", "lowest number", "nothing"]


@dataclass(frozen=True, slots=True)
class Writing:
    """One dialect as it is written."""

    id: WrittenDialect
    names: NameStyle | None  # of a diffusion model's modules; None: as the architecture says of kohya's trainers
    flat: bool  # dots become underscores
    family: Family  # how it spells the parts of adapters
    encoders: EncoderNames
    loader: Loader  # the program that reads it
    names_model: bool = False  # the prefix is what diffusers calls the diffusion model

    @property
    def is_for_one_model(self) -> bool:
        """Whether a file can't hold adapters of a model and of its text encoders."""
        return self.encoders == "nothing"

    @property
    def counts_encoders(self) -> bool:
        """Whether a text encoder's name depends on the model that it belongs to."""
        return self.encoders in ("usual number", "lowest number")

    @property
    def has_alpha(self) -> bool:
        """Whether it has a tensor beside the factors; without it the scale is folded into them."""
        return self.family == "kohya"


WRITINGS: dict[WrittenDialect, Writing] = {
    "comfy": Writing("comfy", "here", False, "kohya", "name", "comfyui"),
    "kohya": Writing("kohya", None, True, "kohya", "usual number", "comfyui"),
    "diffusers": Writing("diffusers", "there", False, "peft", "lowest number", "diffusers", names_model=True),
    "peft": Writing("peft", "there", False, "peft", "nothing", "peft"),
}


def dialects_of(name: str) -> list[Dialect]:
    """Return the rows whose prefix begins `name`, the longest prefix first; the last is the bare one."""
    return [dialect for dialect in _BY_START.get(name[:_START], _BY_START[""]) if name.startswith(dialect.prefix)]


def addressed_roles(name: str) -> frozenset[str]:
    """Return the roles that a module name's prefix addresses; empty for a bare name."""
    return frozenset(role for dialect in dialects_of(name)[:1] if dialect.prefix for role in dialect.roles)


def split_dialect(name: str) -> tuple[Dialect, str]:
    """Return the dialect with the longest prefix of `name`, and the rest."""
    rows = _BY_START.get(name[:_START], _BY_START[""])
    dialect = next(row for row in rows if name.startswith(row.prefix))
    return dialect, name[len(dialect.prefix) :]


def _by_start(rows: Iterable[Dialect]) -> dict[str, list[Dialect]]:
    """Return the rows that names of the same first letters may have, the longest prefix first."""
    longest_first = sorted(rows, key=lambda row: -len(row.prefix))
    starts = {row.prefix[:_START] for row in longest_first}
    return {start: [row for row in longest_first if row.prefix[:_START] in (start, "")] for start in starts}


_START = 4  # letters: no prefix is shorter, so a name is compared with few of them
_BY_START = _by_start(DIALECTS)
