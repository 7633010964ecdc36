"""What adapters take, whatever their shapes: no figure makes more numbers than a stated function of weight and file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from lora_core.adapters import KINDS, Adapter
from lora_core.adapters.cost import check_room, check_room_alone
from lora_core.adapters.recast import as_lora
from lora_core.errors import AdapterError
from tests.core.adapters.disproportionate import MAKERS, Sample, peak, samples

pytestmark = pytest.mark.attack(4)


ROOM = 400  # MB, in all: the samples have at most 70,000 numbers, their weights 100,000


def figures(adapter: Adapter, weight: torch.Tensor) -> Iterator[Callable[[], Any]]:
    """Yield everything that somebody asks of an adapter on a weight."""
    shape = tuple(weight.shape)
    yield adapter.is_zero
    yield adapter.change_square
    yield adapter.factors
    yield adapter.low_rank
    yield lambda: adapter.delta(weight)
    yield lambda: adapter.comfyui_change(weight, 0.5)
    if adapter.additive and len(shape) > 1:
        yield lambda: adapter.svd(shape, 4)
        yield lambda: as_lora(adapter, weight, 4)


def test_every_kind_has_samples() -> None:
    assert {name.split()[0] for name in MAKERS} == set(KINDS)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells the highest memory anew")
@pytest.mark.parametrize("kind", KINDS)
def test_no_figure_takes_far_more_than_the_weight_and_the_file(kind: str) -> None:
    for sample in samples(kind, 6):
        assert peak(lambda sample=sample: use(sample)) < ROOM, sample


def use(sample: Sample) -> None:
    """Ask all figures of an adapter that is not refused."""
    kind = KINDS[sample.kind]
    try:
        kind.delta_shape(sample.shapes)
        check_room("x", kind, sample.shapes, sample.weight, **sample.settings)
    except AdapterError:
        return
    adapter, weight = kind.from_parts(sample.parts(), 0.5, **sample.settings), torch.zeros(sample.weight) + 0.5
    for figure in figures(adapter, weight):
        figure()


HONEST: list[tuple[str, tuple[int, ...], dict[str, tuple[int, ...]], dict[str, Any]]] = [
    ("lokr", (55_296, 6144), {"w1": (16, 16), "w2": (3456, 384)}, {}),  # all of Flux.2's largest, undivided
    ("lokr", (55_296, 6144), {"w1": (16, 16), "w2_a": (3456, 4), "w2_b": (4, 384)}, {}),
    ("loha", (18_432, 3072), {"w1_a": (18_432, 64), "w1_b": (64, 3072), "w2_a": (18_432, 64), "w2_b": (64, 3072)}, {}),
    ("lora", (262_144, 5376), {"up": (262_144, 16), "down": (16, 5376)}, {}),
    ("lora", (1280, 1280, 3, 3), {"up": (1280, 64), "mid": (64, 64, 3, 3), "down": (64, 1280, 1, 1)}, {}),
    ("gralora", (18_432, 3072), {"down": (8, 384, 256), "up": (8, 256, 2304)}, {"factor": 1.0}),
    ("vblora", (18_432, 3072), {"down": (4, 12, 256), "up": (72, 4, 256), "bank": (256, 256)}, {"best": 2}),
    ("peanut", (3072, 3072), {"first": (256, 3072), "last": (3072, 256)}, {"activation": 0, "factor": 1.0}),
    ("input_oft", (3072, 18_432), {"vectors": (1, 2016)}, {}),
]


@pytest.mark.parametrize(("kind", "weight", "shapes", "settings"), HONEST)
def test_the_largest_honest_ones_pass(kind: str, weight: Any, shapes: Any, settings: Any) -> None:
    assert KINDS[kind].fits(shapes, weight, **settings)
    check_room("x", KINDS[kind], shapes, weight, **settings)
    check_room_alone("x", KINDS[kind], shapes, **settings)


REFUSED: list[tuple[str, tuple[int, ...], dict[str, tuple[int, ...]], dict[str, Any]]] = [
    ("gralora", (500, 500), {"down": (500, 1, 500), "up": (500, 500, 1)}, {"factor": 1.0}),  # 1 MB: 250 million each
    ("vblora", (10**6, 10**6), {"down": (30_000, 1, 1), "up": (1, 30_000, 1), "bank": (1, 10**6)}, {"best": 1}),
    ("lokr", (90_000, 90_000), {"w1": (300, 300), "w2": (300, 300)}, {}),
    ("lokr", (10**10, 1), {"w1": (10**5, 1), "w2": (10**5, 1)}, {}),
    ("c3a", (10**5, 10**5), {"kernel": (1, 1, 10**5)}, {}),
]


@pytest.mark.parametrize(("kind", "weight", "shapes", "settings"), REFUSED)
def test_those_without_a_model_are_refused_by_their_shapes(kind: str, weight: Any, shapes: Any, settings: Any) -> None:
    with pytest.raises(
        AdapterError, match=r"a\.safetensors: x: its change takes .* numbers at a time, expected at most"
    ):
        check_room_alone("a.safetensors: x", KINDS[kind], shapes, **settings)


def test_those_on_a_weight_are_refused_by_its_size() -> None:
    shapes = {"first": (10**6, 4), "last": (4, 10**6)}  # 16 MB in fp16; its hidden layer would take 1.3 GB
    with pytest.raises(AdapterError, match=r"for a weight of \[4, 320\] and 8000000 numbers of its own"):
        check_room("x", KINDS["peanut"], shapes, (4, 320), activation=0, factor=1.0)
    with pytest.raises(AdapterError, match="has 30000 planes in 9 dimensions"):
        KINDS["hra"].delta_shape({"planes": (9, 30_000)})
