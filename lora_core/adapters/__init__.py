"""Adapter kinds: one class each. A kind of the suffix table that is missing here is named and not applied."""

from __future__ import annotations

from .adalora import AdaLoRA
from .base import Adapter
from .boft import BOFT, InputBOFT
from .c3a import C3A
from .deft import DEFT
from .delora import DeLoRA
from .dora import DoRA
from .embedding import EmbeddingLoRA
from .fourier import FourierFT, WaveFT
from .full import BiasDifference, FullDifference, NormDifference, SetValue
from .glora import GLoRA
from .gralora import GraLoRA
from .hira import EmbeddingHiRA, HiRA
from .hra import HRA
from .ia3 import IA3, PeftIA3
from .input_oft import InputOFT
from .loha import LoHa
from .lokr import LoKr
from .lora import LoRA
from .miss import MiSS, MiSSBat
from .numbers import check_numbers
from .oft import DiagOFT, KohyaOFT
from .osf import OSF
from .packing import moved, packed, tensors_of, unpacked, with_tensors
from .peanut import PEANuT
from .peftglora import PeftGLoRA
from .peftwhole import BEFT, LNTuning
from .randlora import RandLoRA
from .reshape import Reshape
from .road import RoAd
from .rows import RowCut, rows_of
from .shapes import Shape, fits_shape, same_but_ones
from .sparse import SHiRA, SuperTuning
from .stored import StoredAdapter
from .tinylora import TinyLoRA, UniLoRA
from .tokens import TrainedTokens
from .vblora import VBLoRA
from .vera import PVeRA, VeRA

# By their ids. DoRA and Reshape are not here: they wrap one of these. Of kinds that are spelled alike the first that
# its parts may mean takes them.
KINDS: dict[str, type[StoredAdapter]] = {
    kind.id: kind
    for kind in (
        *(AdaLoRA, LoRA, EmbeddingLoRA, BiasDifference, LoHa, LoKr, GLoRA),
        *(KohyaOFT, BOFT, DiagOFT, InputOFT, InputBOFT, IA3, PeftIA3),
        *(FullDifference, NormDifference, SetValue),
        # PEFT's own
        *(HiRA, EmbeddingHiRA, DeLoRA, GraLoRA, VeRA, PVeRA, RandLoRA, VBLoRA, TinyLoRA, UniLoRA, PeftGLoRA, MiSSBat),
        *(
            MiSS,
            C3A,
            FourierFT,
            WaveFT,
            SHiRA,
            SuperTuning,
            HRA,
            RoAd,
            OSF,
            DEFT,
            PEANuT,
            BEFT,
            LNTuning,
            TrainedTokens,
        ),
    )
}

__all__ = [
    "BEFT",
    "BOFT",
    "C3A",
    "DEFT",
    "HRA",
    "IA3",
    "KINDS",
    "OSF",
    "AdaLoRA",
    "Adapter",
    "BiasDifference",
    "DeLoRA",
    "DiagOFT",
    "DoRA",
    "EmbeddingHiRA",
    "EmbeddingLoRA",
    "FourierFT",
    "FullDifference",
    "GLoRA",
    "GraLoRA",
    "HiRA",
    "InputBOFT",
    "InputOFT",
    "KohyaOFT",
    "LNTuning",
    "LoHa",
    "LoKr",
    "LoRA",
    "MiSS",
    "MiSSBat",
    "NormDifference",
    "PEANuT",
    "PVeRA",
    "PeftGLoRA",
    "PeftIA3",
    "RandLoRA",
    "Reshape",
    "RoAd",
    "RowCut",
    "SHiRA",
    "SetValue",
    "Shape",
    "SuperTuning",
    "TinyLoRA",
    "TrainedTokens",
    "UniLoRA",
    "VBLoRA",
    "VeRA",
    "WaveFT",
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
