"""Adapters of PEFT's own kinds, and their formulas in dense fp64, for `test_kinds`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lora_core.adapters import (
    BEFT,
    C3A,
    DEFT,
    HRA,
    OSF,
    AdaLoRA,
    Adapter,
    DeLoRA,
    EmbeddingHiRA,
    FourierFT,
    GraLoRA,
    HiRA,
    LNTuning,
    LoRA,
    MiSS,
    MiSSBat,
    PEANuT,
    PeftGLoRA,
    PVeRA,
    RandLoRA,
    RoAd,
    SHiRA,
    SuperTuning,
    TinyLoRA,
    TrainedTokens,
    UniLoRA,
    VBLoRA,
    VeRA,
    WaveFT,
)

OUT, IN, RANK = 12, 8, 3
SHAPES = {"linear": (OUT, IN), "kernel": (OUT, IN, 3, 3)}
INPUTS = {"linear": IN, "kernel": IN * 9}
READ_AS_OTHERS = {AdaLoRA, DeLoRA, GraLoRA, VBLoRA, TinyLoRA, UniLoRA, PVeRA, EmbeddingHiRA, BEFT, LNTuning}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape) * 31 + seed))


def places(on: str, number: int) -> Tensor:
    """Return places in the flattened weight, none twice."""
    return torch.randperm(OUT * INPUTS[on], generator=torch.Generator().manual_seed(number))[:number]


def super_tuning(on: str, seed: int = 0) -> SuperTuning:
    beside = LoRA(normal(OUT, 2, seed=seed), normal(2, INPUTS[on], seed=seed), None, 0.5)
    return SuperTuning(normal(9, seed=seed), places(on, 9), beside)


def randlora(on: str, seed: int = 0) -> RandLoRA:
    smaller, larger = sorted((OUT, INPUTS[on]))
    number = -(-smaller // RANK)
    a, b = normal(RANK, 1, smaller + 2), normal(larger + 1, number + 1, RANK)
    return RandLoRA(normal(RANK, number, seed=seed), normal(number, smaller, seed=seed), a, b, 0.2)


def vera(on: str, seed: int = 0) -> VeRA:
    a, b = normal(RANK, INPUTS[on] + 3), normal(OUT + 2, RANK)
    return VeRA(normal(OUT, seed=seed), normal(RANK, seed=seed), a, b)


def glora(on: str, seed: int = 0) -> PeftGLoRA:
    return PeftGLoRA((normal(OUT, 2, seed=seed), normal(2, INPUTS[on], seed=seed)), (normal(OUT, 1, seed=seed),))


def osf(on: str, seed: int = 0) -> OSF:
    return OSF(normal(OUT, 4, seed=seed), normal(4, seed=seed), normal(4, INPUTS[on], seed=seed))


def peanut(on: str, seed: int = 0) -> PEANuT:
    return PEANuT(normal(4, OUT, seed=seed), (normal(4, 4),), (normal(4, 4, seed=1),), normal(OUT, 4), 0, 0.2)


PEFT_ADAPTERS: dict[str, Callable[..., Adapter]] = {
    "HiRA": lambda on, seed=0: HiRA(normal(OUT, RANK, seed=seed), normal(RANK, *SHAPES[on][1:], seed=seed + 1)),
    "MiSS": lambda on, seed=0: MiSS(normal(5, OUT, seed=seed), is_mini=False),
    "mini MiSS": lambda on, seed=0: MiSS(normal(5, 4, seed=seed), is_mini=True),
    "bat MiSS": lambda on, seed=0: MiSSBat(normal(3, 4, 4, seed=seed) / 2),
    "VeRA": vera,
    "RandLoRA": randlora,
    "PEFT's GLoRA": glora,
    "C3A": lambda on, seed=0: C3A(normal(3, INPUTS[on] // 4, 4, seed=seed)),
    "FourierFT": lambda on, seed=0: FourierFT(normal(20, seed=seed), 7, 30.0),
    "WaveFT": lambda on, seed=0: WaveFT(normal(20, seed=seed), 7, 3.0, True),
    "SHiRA": lambda on, seed=0: SHiRA(
        normal(9, seed=seed), torch.stack((places(on, 9) // INPUTS[on], places(on, 9) % INPUTS[on]))
    ),
    "Super-Tuning": super_tuning,
    "HRA": lambda on, seed=0: HRA(normal(INPUTS[on], RANK, seed=seed), is_orthogonal=False),
    "RoAd": lambda on, seed=0: RoAd(normal(OUT, seed=seed), normal(OUT, seed=seed + 1), 1.0, 4),
    "OSF": osf,
    "DEFT": lambda on, seed=0: DEFT(normal(OUT, 2, seed=seed) / 4, normal(2, INPUTS[on], seed=seed), False, 0.5),
    "PEANuT": peanut,
    "trained tokens": lambda on, seed=0: TrainedTokens(normal(3, *SHAPES[on][1:], seed=seed), (7, 0, 4)),
}
PEFT_MIXED = (
    "bat MiSS",
    "RandLoRA",
    "PEFT's GLoRA",
    "C3A",
    "FourierFT",
    "WaveFT",
    "Super-Tuning",
    "RoAd",
    "OSF",
    "DEFT",
    "PEANuT",
)


def peft_dense(adapter: Adapter, weight: Tensor) -> Tensor | None:  # noqa: PLR0911, PLR0912  (one formula a kind)
    """W' of the published formula, in fp64; None for kinds that other tests have, against PEFT."""
    matrix = weight.flatten(1)
    match adapter:
        case HiRA():
            return weight + weight * (adapter.up.double() @ adapter.down.double().flatten(1)).reshape(weight.shape)
        case MiSS(is_mini=False):
            ranks = torch.arange(matrix.shape[1]) % len(adapter.block)
            return weight + adapter.block.double()[ranks].t().reshape(weight.shape)
        case MiSSBat():
            pieces = [list(row.split(4, 1)) for row in matrix.split(4)]
            block = adapter.block.double()
            turned = [torch.cat([p + p @ b + b for p in row], 1) for row, b in zip(pieces, block, strict=True)]
            return torch.cat(turned).reshape(weight.shape)
        case VeRA():
            up = torch.diag(adapter.of_output.double()) @ adapter.up.double()[:OUT]
            down = torch.diag(adapter.of_rank.double()) @ adapter.down.double()[:, : matrix.shape[1]]
            return weight + (up @ down).reshape(weight.shape)
        case SHiRA():
            changed = matrix.clone()
            for value, row, column in zip(adapter.values.double(), *adapter.places, strict=True):
                changed[row, column] += value
            return changed.reshape(weight.shape)
        case HRA():
            for plane in adapter.planes.double().t():
                unit = plane / plane.norm()
                matrix = matrix @ (torch.eye(len(unit), dtype=torch.float64) - 2 * torch.outer(unit, unit))
            return matrix.reshape(weight.shape)
        case RoAd():
            changed = torch.zeros_like(matrix)
            for row in range(OUT):
                first = row // 4 * 4 + row % 2
                sign = -1 if row % 4 < 2 else 1
                other = first + 2 if sign < 0 else first
                angle, stretch = adapter.angle.double()[row], adapter.stretch.double()[row]
                changed[row] = stretch * (angle.cos() * matrix[row] + sign * angle.sin() * matrix[other])
            return changed.reshape(weight.shape)
        case OSF():
            u, s, v = torch.linalg.svd(matrix, full_matrices=False)
            kept = len(s) - 4
            mine = adapter.up.double() @ torch.diag(adapter.values.double()) @ adapter.down.double()
            return (u[:, :kept] @ torch.diag(s[:kept]) @ v[:kept] + mine).reshape(weight.shape)
        case DEFT(instead=Tensor()):
            plane = adapter.plane.double()
            return weight + (plane @ (0.5 * adapter.instead.double() - plane.relu().t() @ matrix)).reshape(weight.shape)
        case PEANuT(encoders=(encoder,), decoders=(decoder,)):
            hidden = (adapter.first.double() @ matrix).relu()
            hidden = (decoder.double() @ (encoder.double() @ hidden).relu()).relu() + hidden
            return weight + 0.2 * (adapter.last.double() @ hidden).reshape(weight.shape)
        case TrainedTokens():
            changed = weight.clone()
            changed[[7, 0, 4]] = adapter.rows.double()
            return changed
    return None
