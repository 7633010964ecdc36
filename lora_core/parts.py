"""The suffix table: how trainers spell the tensors of an adapter. A further spelling is one more row.

A part's name is `module + suffix`; the suffix tells the adapter's kind, the part's field and which parameter of the
module it changes. Matching is exact on the end of the name; longer suffixes win.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Part:
    """One row: a suffix and what it means."""

    suffix: str
    kind: str  # adapter kind; "" for parts that any kind may have
    field: str
    param: str = "weight"  # the parameter of the module that the adapter changes


class SplitName(NamedTuple):
    module: str  # as the trainer names it, dialect prefix included
    part: Part


def _spelled(kind: str, field: str, *suffixes: str, param: str = "weight") -> tuple[Part, ...]:
    return tuple(Part(suffix, kind, field, param) for suffix in suffixes)


PARTS: tuple[Part, ...] = (
    *_spelled(
        "lora",
        "up",
        ".lora_up.weight",  # kohya, LyCORIS, OneTrainer
        ".lora_B.weight",  # PEFT, diffusers
        ".lora_B.default.weight",  # PEFT with its adapter name left in
        ".lora_B",  # Mochi
        ".lora.up.weight",  # diffusers 0.20
        "_lora.up.weight",  # diffusers attention processors
        ".lora_linear_layer.up.weight",  # diffusers text encoders
        ".up.weight",  # XLabs, USO: the module's name ends in `_lora1`
    ),
    *_spelled(
        "lora",
        "down",
        ".lora_down.weight",
        ".lora_A.weight",
        ".lora_A.default.weight",
        ".lora_A",
        ".lora.down.weight",
        "_lora.down.weight",
        ".lora_linear_layer.down.weight",
        ".down.weight",
    ),
    *_spelled("lora", "mid", ".lora_mid.weight"),  # the core of a Tucker decomposition, LyCORIS
    *_spelled("bias", "diff", ".lora_B.bias", ".lora_up.bias", param="bias"),  # scaled as the LoRA beside it
    *_spelled("", "alpha", ".alpha"),
    *_spelled("full", "diff", ".diff"),
    *_spelled("full", "diff", ".diff_b", param="bias"),
    *_spelled("full", "diff", ".diff_m", param="modulation"),  # Wan distills
    *_spelled("norm", "diff", ".w_norm"),
    *_spelled("norm", "diff", ".b_norm", param="bias"),
    # Kinds that this version names but does not apply: a module that has one of these parts is not half-applied.
    *_spelled("DoRA", "magnitude", ".dora_scale", ".lora_magnitude_vector", ".lora_magnitude_vector.weight"),
    *_spelled("LoHa", "factor", ".hada_w1_a", ".hada_w1_b", ".hada_w2_a", ".hada_w2_b", ".hada_t1", ".hada_t2"),
    *_spelled("LoKr", "factor", ".lokr_w1", ".lokr_w1_a", ".lokr_w1_b", ".lokr_w2", ".lokr_w2_a", ".lokr_w2_b"),
    *_spelled("LoKr", "factor", ".lokr_t2"),
    *_spelled("GLoRA", "factor", ".a1.weight", ".a2.weight", ".b1.weight", ".b2.weight"),
    *_spelled("OFT", "factor", ".oft_blocks", ".oft_blocks.0", ".oft_blocks.1", ".oft_blocks.2", ".rescale"),
    *_spelled("OFT", "factor", ".oft_R.weight", ".oft_R.scaled_oft"),
    *_spelled("IA3", "factor", ".on_input"),
    *_spelled("set", "value", ".set_weight"),
    *_spelled("reshape", "shape", ".reshape_weight"),
)

_BY_SUFFIX = {part.suffix: part for part in PARTS}
_LENGTHS = sorted({len(suffix) for suffix in _BY_SUFFIX}, reverse=True)


def split_name(name: str) -> SplitName | None:
    """Return the module and the part that `name` spells, or None if it is no adapter's tensor."""
    for length in _LENGTHS:
        part = _BY_SUFFIX.get(name[-length:])
        if part is not None and len(name) > length:
            return SplitName(name[:-length], part)
    return None
