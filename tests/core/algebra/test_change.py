"""A change is the same whether its factors are known or not."""

from __future__ import annotations

import pytest
import torch

from lora_core.algebra.change import Change, grown
from lora_core.naming.targets import Target

UP, DOWN = torch.randn(8, 2, generator=torch.Generator().manual_seed(0)), torch.arange(12.0).reshape(2, 6)
FACTORED, WHOLE = Change((UP, DOWN)), Change((UP @ DOWN,))
TARGETS = [
    (Target("w", (8, 6)), (8, 6)),
    (Target("w", (8, 6), start=2), (12, 6)),
    (Target("w", (8, 6), order=((4, 4), (0, 4))), (8, 6)),
    (Target("w", (8, 6), start=1, order=((5, 4), (1, 4))), (9, 6)),
    (Target("w", (8, 6), transposed=True), (6, 8)),
    (Target("w", (3, 6), rows=(4, 8)), (3, 6)),
]


@pytest.mark.parametrize(("target", "shape"), TARGETS)
def test_a_change_is_placed_in_its_weight_with_zeros_around(target: Target, shape: tuple[int, ...]) -> None:
    weight = torch.zeros(shape)
    first, length = target.rows[0] if target.rows else 0, target.shape[0]
    target.put(weight, WHOLE.dense()[first : first + length])
    for change in (FACTORED, WHOLE):
        assert torch.allclose(change.placed(target, shape).dense(), weight)
        assert change.placed(target, shape).size == shape


@pytest.mark.parametrize(("target", "shape"), TARGETS[:5])
def test_what_was_placed_is_taken_again(target: Target, shape: tuple[int, ...]) -> None:
    for change in (FACTORED, WHOLE):
        assert torch.allclose(change.placed(target, shape).taken(target).dense(), WHOLE.dense())


def test_sums_products_and_sizes_are_those_of_the_matrices() -> None:
    matrix = WHOLE.dense()
    for one in (FACTORED, WHOLE):
        assert torch.equal(one.times(-2).dense(), one.dense() * -2)
        assert torch.equal(one.padded(9, 8).dense()[:8, :6], one.dense())
        assert one.padded(9, 8).size == (9, 8)
        for other in (FACTORED, WHOLE):
            assert torch.allclose(one.plus(other).dense(), 2 * matrix)
            assert one.product(other) == pytest.approx(float(matrix.double().square().sum()), rel=1e-6)
    assert FACTORED.plus(FACTORED).factors
    assert WHOLE.plus(FACTORED).factors is None


def test_vectors_and_kernels_are_matrices() -> None:
    assert Change.whole(torch.ones(5)).size == (5, 1)
    assert Change.whole(torch.ones(5, 2, 3, 3)).size == (5, 18)
    kernel = grown(torch.ones(2, 1, 3, 3), (2, 2, 3, 3))
    assert torch.equal(kernel.sum((2, 3)), torch.tensor([[9.0, 0.0], [9.0, 0.0]]))
