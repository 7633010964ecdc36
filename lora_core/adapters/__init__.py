"""Adapter kinds: one class each. A kind of the suffix table that is missing here is named and not applied."""

from __future__ import annotations

from .base import (
    Adapter,
    Shape,
    StoredAdapter,
    fits_shape,
    moved,
    packed,
    same_but_ones,
    tensors_of,
    unpacked,
    with_tensors,
)
from .boft import BOFT, InputBOFT
from .dora import DoRA
from .full import BiasDifference, FullDifference, NormDifference, SetValue
from .glora import GLoRA
from .ia3 import IA3, PeftIA3
from .input_oft import InputOFT
from .loha import LoHa
from .lokr import LoKr
from .lora import LoRA
from .numbers import check_numbers
from .oft import DiagOFT, KohyaOFT
from .reshape import Reshape
from .rows import RowCut, rows_of

# kind in the suffix table -> its class. DoRA and Reshape are not here: they wrap one of these.
KINDS: dict[str, type[StoredAdapter]] = {
    "lora": LoRA,
    "loha": LoHa,
    "lokr": LoKr,
    "glora": GLoRA,
    "diag_oft": DiagOFT,
    "kohya_oft": KohyaOFT,
    "boft": BOFT,
    "input_oft": InputOFT,
    "input_boft": InputBOFT,
    "ia3": IA3,
    "peft_ia3": PeftIA3,
    "full": FullDifference,
    "norm": NormDifference,
    "bias": BiasDifference,
    "set": SetValue,
}

__all__ = [
    "BOFT",
    "IA3",
    "KINDS",
    "Adapter",
    "BiasDifference",
    "DiagOFT",
    "DoRA",
    "FullDifference",
    "GLoRA",
    "InputBOFT",
    "InputOFT",
    "KohyaOFT",
    "LoHa",
    "LoKr",
    "LoRA",
    "NormDifference",
    "PeftIA3",
    "Reshape",
    "RowCut",
    "SetValue",
    "Shape",
    "check_numbers",
    "fits_shape",
    "moved",
    "packed",
    "rows_of",
    "same_but_ones",
    "tensors_of",
    "unpacked",
    "with_tensors",
]
