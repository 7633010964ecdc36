"""Adapters of every kind with shapes that no training gives: a few sizes are drawn, and the parts follow from them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lora_core.adapters import KINDS, Shape

SIZES = (1, 1, 2, 3, 4, 8, 64, 500, 4000, 30_000)
MOST_PARTS, MOST_WEIGHT = 70_000, 100_000  # numbers


@dataclass(frozen=True)
class Sample:
    """The parts' shapes, and the weight that they are for."""

    kind: str
    weight: Shape
    shapes: Mapping[str, Shape]
    settings: dict[str, Any] = field(default_factory=dict)

    def parts(self) -> dict[str, torch.Tensor]:
        flags = KINDS[self.kind].flags
        generator = torch.Generator().manual_seed(1)
        return {
            name: torch.zeros(shape, dtype=torch.int64) if name in flags else torch.randn(shape, generator=generator)
            for name, shape in self.shapes.items()
        }

    @property
    def numbers(self) -> int:
        """How many numbers the parts have."""
        return sum(map(_count, self.shapes.values()))


def samples(kind: str, number: int, seed: int = 0) -> Iterator[Sample]:
    """Yield samples that are small in a file, and whose weight is small; all that fit it."""
    draw = random.Random(f"{kind} {seed}")
    for make in (one for name, one in MAKERS.items() if name.split()[0] == kind):
        found = 0
        for _ in range(500):
            sample = make(kind, *(draw.choice(SIZES) for _ in range(5)))
            is_small = sample.numbers <= MOST_PARTS and _count(sample.weight) <= MOST_WEIGHT
            if is_small and _fits(sample):
                found += 1
                yield sample
            if found == number:
                break
        assert found, kind


def _fits(sample: Sample) -> bool:
    try:
        return KINDS[sample.kind].fits(sample.shapes, sample.weight, **sample.settings)
    except ValueError:
        return False


def _count(shape: Shape) -> int:
    return int(torch.Size(shape).numel())


def _boft(kind: str, o: int, i: int, r: int, s: int, k: int) -> Sample:
    size, stages = 2 * min(o, 20), min(k, 5)
    count = 2 ** (stages - 1) * min(r, 8)
    return Sample(kind, (count * size, i), {"blocks": (stages, count, size, size)}, {"constraint": 0.1})


def _gralora(kind: str, o: int, i: int, r: int, s: int, k: int) -> Sample:
    return Sample(kind, (k * o, k * i), {"down": (k, i, k * r), "up": (k, k * r, o)}, {"factor": 1.0})


def _vblora(kind: str, o: int, i: int, r: int, s: int, k: int) -> Sample:
    shapes = {"down": (r, i, k), "up": (o, r, k), "bank": (k, s)}
    return Sample(kind, (o * s, i * s), shapes, {"best": min(k, 2)})


def _stored_vblora(kind: str, o: int, i: int, r: int, s: int, k: int) -> Sample:
    factors = {"down": (r, i, k), "up": (o, r, k)}
    places = {f"{name}_places": (*shape[:2], k + 1) for name, shape in factors.items()}
    return Sample(kind, (o * s, i * s), {**factors, **places, "bank": (2, s)})


def _peanut(kind: str, o: int, i: int, r: int, s: int, k: int) -> Sample:
    layers = {f"{what}{at}": (r, r) for what in ("encoders", "decoders") for at in range(k % 3)}
    return Sample(kind, (o, i), {"first": (r, o), "last": (o, r), **layers}, {"activation": 0, "factor": 0.1})


def _randlora(kind: str, o: int, i: int, r: int, s: int, k: int) -> Sample:
    low, high = sorted((o, i))
    shapes = {"of_product": (r, s), "of_side": (s, low), "a": (r, 1, low), "b": (high, s, r)}
    return Sample(kind, (o, i), shapes, {"factor": 0.1})


def _unilora(kind: str, o: int, i: int, r: int, s: int, k: int) -> Sample:
    return Sample(kind, (o, i), {"up": (o, r), "of_up": (o, r), "down": (r, i), "of_down": (r, i), "numbers": (s,)})


def _of(shapes: Callable[..., Mapping[str, Shape]], weight: Callable[..., Shape], **settings: Any) -> Any:
    return lambda kind, *sizes: Sample(kind, weight(*sizes), shapes(*sizes), settings)


def _matrix(o: int, i: int, *_: int) -> Shape:
    return o, i


def _kernel(o: int, i: int, r: int, s: int, k: int) -> Shape:
    return o, i, min(k, 8), 1


MAKERS: dict[str, Callable[..., Sample]] = {
    "lora": _of(lambda o, i, r, s, k: {"up": (o, r), "down": (r, i)}, _matrix),
    "lora core": _of(lambda o, i, r, s, k: {"up": (o, r), "mid": (r, s, min(k, 8), 1), "down": (s, i, 1, 1)}, _kernel),
    "loha": _of(lambda o, i, r, s, k: {"w1_a": (o, r), "w1_b": (r, i), "w2_a": (o, s), "w2_b": (s, i)}, _matrix),
    "loha cores": _of(
        lambda o, i, r, s, k: {
            **{"w1_a": (r, o), "w1_b": (s, i), "t1": (r, s, min(k, 8), 1)},
            **{"w2_a": (s, o), "w2_b": (r, i), "t2": (s, r, min(k, 8), 1)},
        },
        _kernel,
    ),
    "lokr": _of(
        lambda o, i, r, s, k: {"w1": (k, s), "w2_a": (o, r), "w2_b": (r, i)}, lambda o, i, r, s, k: (k * o, s * i)
    ),
    "lokr both": _of(
        lambda o, i, r, s, k: {"w1_a": (k, s), "w1_b": (s, k), "w2_a": (o, r), "w2_b": (r, i)},
        lambda o, i, r, s, k: (k * o, k * i),
    ),
    "lokr whole": _of(lambda o, i, r, s, k: {"w1": (o, i), "w2": (r, s)}, lambda o, i, r, s, k: (o * r, i * s)),
    "lokr core": _of(
        lambda o, i, r, s, k: {"w1": (2, k), "w2_a": (r, o), "w2_b": (s, i), "t2": (r, s, 3, 1)},
        lambda o, i, r, s, k: (2 * o, k * i, 3, 1),
    ),
    "glora": _of(lambda o, i, r, s, k: {"a1": (i, r), "a2": (r, i), "b1": (o, r), "b2": (r, i)}, _matrix),
    "adalora": _of(lambda o, i, r, s, k: {"up": (o, r), "down": (r, i), "sizes": (r, 1)}, _matrix, factor=1.0),
    "embedding": _of(lambda o, i, r, s, k: {"up": (r, o), "down": (i, r)}, _matrix),
    "bias": _of(lambda o, *_: {"diff": (o,)}, lambda o, *_: (o,)),
    "kohya_oft": _of(lambda o, i, r, s, k: {"blocks": (o, r, r)}, lambda o, i, r, *_: (o * r, i), constraint=0.1),
    "diag_oft": _of(lambda o, i, r, s, k: {"blocks": (o, r, r)}, lambda o, i, r, *_: (o * r, i), constraint=0.1),
    "boft": _boft,
    "input_oft": _of(
        lambda o, i, r, s, k: {"vectors": (1, min(r, 300) * (min(r, 300) - 1) // 2)},
        lambda o, i, r, s, k: (o, min(r, 300) * i),
    ),
    "input_boft": _of(
        lambda o, i, r, s, k: {"blocks": (1, i, r, r), "rescale": (o, 1)}, lambda o, i, r, *_: (o, i * r)
    ),
    "ia3": _of(lambda o, *_: {"vector": (o,), "on_input": ()}, _matrix, on_input=False),
    "peft_ia3": _of(lambda o, *_: {"vector": (o, 1)}, _matrix, on_input=False),
    "full": _of(lambda o, i, *_: {"diff": (o, i)}, _matrix),
    "norm": _of(lambda o, *_: {"diff": (o,)}, lambda o, *_: (o,)),
    "set": _of(lambda o, i, *_: {"value": (o, i)}, _matrix),
    "hira": _of(lambda o, i, r, s, k: {"up": (o, r), "down": (r, i)}, _matrix),
    "hira_embedding": _of(lambda o, i, r, s, k: {"up": (r, o), "down": (i, r)}, _matrix),
    "delora": _of(lambda o, i, r, s, k: {"up": (o, r), "down": (r, i), "size": (1,), "norms": (i,)}, _matrix),
    "gralora": _gralora,
    "vera": _of(lambda o, i, r, s, k: {"of_output": (o,), "of_rank": (r,), "down": (r, i), "up": (o, r)}, _matrix),
    "pvera": _of(
        lambda o, i, r, s, k: {"of_output": (o,), "of_rank": (2 * r,), "down": (2 * r, i), "up": (o, r)}, _matrix
    ),
    "randlora": _randlora,
    "vblora": _vblora,
    "vblora places": _stored_vblora,
    "tinylora": _of(
        lambda o, i, r, s, k: {"up": (o, r), "down": (r, i), "projections": (s, r, r), "numbers": (s,)}, _matrix
    ),
    "unilora": _unilora,
    "peft_glora": _of(lambda o, i, r, s, k: {"factor_up": (o, r), "factor_down": (r, i), "term_plain": (1,)}, _matrix),
    "miss_bat": _of(lambda o, i, r, s, k: {"block": (o, r, r)}, lambda o, i, r, *_: (o * r, i * r)),
    "miss": _of(lambda o, i, r, s, k: {"block": (r, s)}, lambda o, i, r, s, k: (s * o, i), is_mini=True),
    "c3a": _of(lambda o, i, r, s, k: {"kernel": (o, i, r)}, lambda o, i, r, *_: (o * r, i * r)),
    "fourierft": _of(lambda o, i, r, s, k: {"spectrum": (r,)}, _matrix, seed=7, factor=1.0),
    "waveft": _of(lambda o, i, r, s, k: {"spectrum": (r,)}, _matrix, seed=7, factor=1.0, is_transformed=True),
    "shira": _of(lambda o, i, r, s, k: {"values": (r,), "places": (2, r)}, _matrix),
    "supertuning": _of(lambda o, i, r, s, k: {"values": (r,), "places": (r,)}, _matrix),
    "hra": _of(lambda o, i, r, s, k: {"planes": (i, r)}, _matrix, is_orthogonal=True),
    "road": _of(lambda o, *_: {"angle": (o,), "stretch": (o,)}, _matrix, numbers=1.0, group=2),
    "osf": _of(lambda o, i, r, s, k: {"up": (o, r), "values": (r,), "down": (r, i)}, _matrix),
    "deft": _of(lambda o, i, r, s, k: {"plane": (o, r), "instead": (r, i)}, _matrix, is_orthogonal=True, factor=1.0),
    "peanut": _peanut,
    "beft": _of(lambda o, *_: {"diff": (o,)}, lambda o, *_: (o,)),
    "ln_tuning": _of(lambda o, *_: {"value": (o,)}, lambda o, *_: (o,)),
    "tokens": _of(lambda o, i, r, s, k: {"rows": (1, i)}, _matrix, tokens=(0,)),
}


def peak(action: Callable[[], None]) -> float:
    """Return by how many MB the memory of this process grows at most while it does something."""
    Path("/proc/self/clear_refs").write_text("5")  # the highest so far is what it is now
    before = _status("VmRSS")
    action()
    return (_status("VmHWM") - before) / 1024


def _status(name: str) -> int:
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if name in line)
