"""Adapter kinds: one class each. A kind of the suffix table that is missing here is named and not applied."""

from __future__ import annotations

from .base import Adapter
from .boft import BOFT, InputBOFT
from .dora import DoRA
from .embedding import EmbeddingLoRA
from .full import BiasDifference, FullDifference, NormDifference, SetValue
from .glora import GLoRA
from .ia3 import IA3, PeftIA3
from .input_oft import InputOFT
from .loha import LoHa
from .lokr import LoKr
from .lora import LoRA
from .numbers import check_numbers
from .oft import DiagOFT, KohyaOFT
from .packing import moved, packed, tensors_of, unpacked, with_tensors
from .reshape import Reshape
from .rows import RowCut, rows_of
from .shapes import Shape, fits_shape, same_but_ones
from .stored import StoredAdapter

# By their ids. DoRA and Reshape are not here: they wrap one of these. Of kinds that are spelled alike the first that
# its parts may mean takes them.
KINDS: dict[str, type[StoredAdapter]] = {
    kind.id: kind
    for kind in (
        *(LoRA, EmbeddingLoRA, BiasDifference, LoHa, LoKr, GLoRA),
        *(KohyaOFT, BOFT, DiagOFT, InputOFT, InputBOFT, IA3, PeftIA3),
        *(FullDifference, NormDifference, SetValue),
    )
}

__all__ = [
    "BOFT",
    "IA3",
    "KINDS",
    "Adapter",
    "BiasDifference",
    "DiagOFT",
    "DoRA",
    "EmbeddingLoRA",
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
