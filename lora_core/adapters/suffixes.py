"""The suffix table: how trainers spell the tensors of an adapter. A further spelling is one more row.

A part's name is `module + suffix`; the suffix tells the adapter's kind, the part's field and which parameter of the
module it changes. Matching is exact on the end of the name; longer suffixes win. Some suffixes say nothing alone, and
count only beside other parts.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Part:
    """One row: a suffix and what it means."""

    suffix: str
    kind: str  # adapter kind; "" for parts that any kind may have
    field: str
    param: str = "weight"  # the parameter of the module that the adapter changes
    keeps: str = ""  # what of the suffix belongs to the module's name
    beside: str = ""  # counts only if the module has this suffix too
    in_lora: bool = False  # counts only in a file that holds an adapter besides


class SplitName(NamedTuple):
    module: str  # as the trainer names it, dialect prefix included
    part: Part


def _spelled(kind: str, field: str, *suffixes: str, param: str = "weight") -> tuple[Part, ...]:
    return tuple(Part(suffix, kind, field, param) for suffix in suffixes)


def _factors(kind: str, prefix: str, *fields: str, ending: str = "") -> tuple[Part, ...]:
    return tuple(Part(f".{prefix}{field}{ending}", kind, field) for field in fields)


def _whole_norms(ending: str, *names: str) -> tuple[Part, ...]:
    """The norms that control LoRAs store whole, as a checkpoint does."""
    return tuple(Part(f".{name}{ending}", "set", "value", keeps=f".{name}", in_lora=True) for name in names)


PARTS: tuple[Part, ...] = (
    *_spelled(
        "lora",
        "up",
        ".lora_up.weight",  # kohya, LyCORIS, OneTrainer
        ".lora_B.weight",  # PEFT, diffusers
        ".lora_B.default.weight",  # PEFT with its adapter name left in; any other name is read too
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
    *_factors("loha", "hada_", "w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2"),
    *_factors("lokr", "lokr_", "w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2"),
    *_factors("glora", "", "a1", "a2", "b1", "b2", ending=".weight"),
    # Which OFT it is, the shape and the module's name tell
    *_spelled("oft", "blocks", ".oft_blocks"),
    *(Part(f".oft_blocks.{index}", "oft", f"blocks_{index}") for index in range(4)),  # kohya, a fused weight of Flux
    *_spelled("oft", "rescale", ".rescale"),
    *_spelled("input_oft", "vectors", ".oft_R.weight", ".oft_R.default.weight"),  # PEFT, OneTrainer
    *_spelled("input_oft", "scaled", ".oft_R.scaled_oft"),  # OneTrainer
    *_spelled("input_boft", "blocks", ".boft_R", ".boft_R.default"),
    *_spelled("input_boft", "rescale", ".boft_s", ".boft_s.default"),
    *_spelled("ia3", "on_input", ".on_input"),  # LyCORIS
    Part(".weight", "ia3", "vector", beside=".on_input"),
    *_spelled("peft_ia3", "vector", ".ia3_l", ".ia3_l.default"),
    *_spelled("full", "diff", ".diff"),
    *_spelled("full", "diff", ".diff_b", param="bias"),
    *_spelled("full", "diff", ".diff_m", param="modulation"),  # Wan distills
    *_spelled("norm", "diff", ".w_norm"),
    *_spelled("norm", "diff", ".b_norm", param="bias"),
    *_spelled("set", "value", ".set_weight"),
    *_whole_norms(".scale", "query_norm", "key_norm"),  # BFL
    *_whole_norms(".weight", "norm_q", "norm_k", "norm_added_q", "norm_added_k"),  # diffusers
    # Parts around an adapter of any kind
    *_spelled("", "alpha", ".alpha"),
    *_spelled("", "magnitude", ".dora_scale"),
    *_spelled(
        "",
        "peft_magnitude",
        ".lora_magnitude_vector",
        ".lora_magnitude_vector.weight",
        ".lora_magnitude_vector.default.weight",
    ),
    *_spelled("", "shape", ".reshape_weight"),
    # Kinds that this version names but does not apply: a module that has one of these parts is not half-applied
    *_spelled("AdaLoRA", "factor", ".lora_E", ".lora_E.default", ".ranknum", ".ranknum.default"),
    *_spelled("T-LoRA", "factor", ".lambda_layer", ".q_layer.weight", ".p_layer.weight"),
    *_spelled("VeRA", "factor", ".vera_lambda_b", ".vera_lambda_d"),
)

_BY_SUFFIX = {part.suffix: part for part in PARTS}
_LENGTHS = sorted({len(suffix) for suffix in _BY_SUFFIX}, reverse=True)


def split_name(name: str) -> SplitName | None:
    """Return the module and the part that `name` spells whatever stands beside it, or None if it spells none."""
    split = _longest(name)
    return None if split is None or split.part.beside or split.part.in_lora else split


def split_names(names: Collection[str]) -> dict[str, SplitName]:
    """Return {name: module and part} of all names of one file that are an adapter's."""
    found = {name: split for name in names if (split := _longest(name))}
    known = set(names)
    found = {n: s for n, s in found.items() if not s.part.beside or s.module + s.part.beside in known}
    if all(split.part.in_lora for split in found.values()):
        return {}
    return found


def _longest(name: str) -> SplitName | None:
    for length in _LENGTHS:
        part = _BY_SUFFIX.get(name[-length:])
        if part is not None and len(name) > length:
            split = SplitName(name[:-length] + part.keeps, part)
            return (part.beside and _with_adapter_name(name)) or split  # a bare `.weight` is any name's end
    return None


def _with_adapter_name(name: str) -> SplitName | None:
    """Return what PEFT's `module.lora_A.NAME.weight` spells, NAME being whatever the user called the adapter."""
    module, field, *rest = name.rsplit(".", 3) if name.count(".") > 2 else (name, "")
    part = _BY_SUFFIX.get(f".{field}.weight") if field in ("lora_A", "lora_B") and rest[-1:] == ["weight"] else None
    return part and SplitName(module, part)
