"""What adapters take, whatever their shapes: no figure makes more numbers than a stated function of weight and file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from lora_core.adapters import KINDS, Adapter
from lora_core.adapters.cost import check_room
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
        check_room("x", kind, sample.shapes, sample.weight, **sample.settings)
    except AdapterError:
        return
    adapter, weight = kind.from_parts(sample.parts(), 0.5, **sample.settings), torch.zeros(sample.weight) + 0.5
    for figure in figures(adapter, weight):
        figure()
