"""Beside a weight: y + branch equals the layer with the changed weight in fp64, for every kind that has a branch.

The bound is for sums of at most a few thousand products in fp32, over the largest number of the output.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lora_core.adapters import IA3, Adapter, DoRA, LoHa, LoKr, LoRA, rows_of
from lora_core.naming.targets import Target
from lora_core.stack.apply import Placed, apply_stack
from lora_core.stack.branches import Layer, branch_of

FP32 = 5e-6
OUT, IN = 24, 16
LINEAR, KERNEL, VOLUME = (OUT, IN), (OUT, IN, 3, 3), (OUT, IN, 3, 1, 1)
GENERATOR = torch.Generator().manual_seed(7)


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=GENERATOR)


def lora(shape: tuple[int, ...], rank: int = 2) -> LoRA:
    return LoRA(normal(shape[0], rank), normal(rank, *shape[1:]), None, 0.5)


def tucker(shape: tuple[int, ...]) -> LoRA:
    if len(shape) == 2:
        return lora(shape)
    ones = [1] * (len(shape) - 2)
    return LoRA(normal(shape[0], 2, *ones), normal(2, shape[1], *ones), normal(2, 2, *shape[2:]), 0.5)


def loha(shape: tuple[int, ...]) -> LoHa:
    parts = [normal(shape[0], 1), normal(1, *shape[1:]), normal(shape[0], 2), normal(2, *shape[1:])]
    return LoHa(*parts, None, None, 0.5)


def lokr(shape: tuple[int, ...]) -> LoKr:
    return LoKr(normal(4, 2), None, None, normal(shape[0] // 4, shape[1] // 2, *shape[2:]), None, None, None, 0.5)


def factored_lokr(shape: tuple[int, ...]) -> LoKr:
    inputs = Tensor(shape[1:]).prod().int().item() // 4
    return LoKr(None, normal(6, 1), normal(1, 4), None, normal(shape[0] // 6, 2), normal(2, int(inputs)), None, 0.5)


KINDS = {
    "LoRA": lora,
    "Tucker": tucker,
    "LoHa": loha,
    "LoKr": lokr,
    "factored LoKr": factored_lokr,
    "DoRA": lambda shape: DoRA(lora(shape), normal(shape[0]).abs()),
    "DoRA of LoHa": lambda shape: DoRA(loha(shape), normal(shape[0]).abs()),
    "IA3": lambda shape: IA3(normal(shape[0]), False),
}
SHAPES = {"linear": LINEAR, "kernel": KERNEL, "volume": VOLUME}


def layer_of(shape: tuple[int, ...], bias: Tensor | None, groups: int = 1) -> Layer:
    if len(shape) == 2:
        return Layer(torch.nn.functional.linear, bias=bias)
    convolve = {4: torch.nn.functional.conv2d, 5: torch.nn.functional.conv3d}[len(shape)]
    stride, padding, dilation = (2, 1), (1, 2), (1, 2)
    more = (1,) * (len(shape) - 4)
    geometry = {"stride": (*stride, *more), "padding": (*padding, *more), "dilation": (*dilation, *more)}

    def multiply(x: Tensor, weight: Tensor) -> Tensor:
        return convolve(x, weight, None, groups=groups, **geometry)

    return Layer(multiply, is_convolution=True, groups=groups, bias=bias)


def output(layer: Layer, x: Tensor, weight: Tensor) -> Tensor:
    y = layer.multiply(x, weight)
    return y if layer.bias is None else layer.rows_back(layer.rows_last(y) + layer.bias)


def inputs_of(shape: tuple[int, ...], groups: int = 1) -> Tensor:
    return normal(3, 5, shape[1]) if len(shape) == 2 else normal(2, shape[1] * groups, 9, 8, *[4] * (len(shape) - 4))


def found_and_wanted(
    shape: tuple[int, ...], stack: list[tuple[Placed, int]], strengths: list[float], groups: int = 1
) -> tuple[Tensor, Tensor]:
    """The output with the branch, in fp32, and with the changed weight, in fp64."""
    weight, bias, x = normal(*shape), normal(shape[0]), inputs_of(shape, groups)
    branch = branch_of(weight, stack, groups)
    assert branch is not None
    layer = layer_of(shape, bias, groups)
    found = branch.added_to(output(layer, x, weight), x, torch.tensor(strengths), layer)
    scaled = [replace(placed, strength=placed.strength * strengths[owner]) for placed, owner in stack]
    changed = apply_stack(weight, scaled).double()
    return found, output(replace(layer, bias=bias.double()), x.double(), changed)


def assert_near(found: Tensor, wanted: Tensor) -> None:
    assert found.shape == wanted.shape
    assert float((found - wanted).abs().max()) <= FP32 * max(1.0, float(wanted.abs().max()))


@pytest.mark.parametrize("on", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("strength", [1.0, -0.7])
def test_a_branch_is_the_changed_weight(kind: str, on: str, strength: float) -> None:
    shape = SHAPES[on]
    placed = Placed(KINDS[kind](shape), Target("x", shape), 0.9)
    assert_near(*found_and_wanted(shape, [(placed, 0)], [strength]))


@pytest.mark.parametrize("on", SHAPES)
def test_a_stack_of_several_is_one_branch(on: str) -> None:
    shape = SHAPES[on]
    kinds: list[Adapter] = [KINDS["DoRA"](shape), lora(shape), lokr(shape), loha(shape)]
    stack = [(Placed(adapter, Target("x", shape), 0.5 + 0.25 * at), at % 3) for at, adapter in enumerate(kinds)]
    assert_near(*found_and_wanted(shape, stack, [0.3, 1.2, -0.4]))


@pytest.mark.parametrize("kind", ["LoRA", "LoKr", "DoRA", "IA3"])
def test_a_slice_of_a_fused_weight(kind: str) -> None:
    part = (8, IN)
    stack = [(Placed(KINDS[kind](part), Target("x", part, start=8), 1.0), 0)]
    stack += [(Placed(lora(part), Target("x", part, start=start), 1.0), 1) for start in (0, 16)]
    assert_near(*found_and_wanted(LINEAR, stack, [0.8, 0.4]))


def test_rows_in_another_order() -> None:
    target = Target("x", LINEAR, order=((12, 12), (0, 12)))
    for adapter in (lora(LINEAR), DoRA(lora(LINEAR), normal(OUT).abs())):
        assert_near(*found_and_wanted(LINEAR, [(Placed(adapter, target, 1.0), 0)], [0.8]))


def test_a_weight_on_its_side() -> None:
    target = Target("x", (IN, OUT), transposed=True)
    assert_near(*found_and_wanted(LINEAR, [(Placed(lora((IN, OUT)), target, 1.0), 0)], [0.8]))


def test_rows_of_a_kronecker_product() -> None:
    cut = rows_of(factored_lokr((OUT * 2, IN)), 7, OUT, OUT * 2)
    assert_near(*found_and_wanted(LINEAR, [(Placed(cut, Target("x", LINEAR), 1.0), 0)], [0.8]))


@pytest.mark.parametrize("kind", ["LoRA", "Tucker", "LoHa", "DoRA"])
def test_a_convolution_in_groups(kind: str) -> None:
    shape = (OUT, 4, 3, 3)
    stack = [(Placed(KINDS[kind](shape), Target("x", shape), 1.0), 0)]
    assert_near(*found_and_wanted(shape, stack, [0.6], groups=4))


def test_another_strength_changes_no_number_but_the_strengths() -> None:
    weight, x = normal(*LINEAR), inputs_of(LINEAR)
    placed = Placed(lora(LINEAR), Target("x", LINEAR), 1.0)
    branch = branch_of(weight, [(placed, 0)])
    assert branch is not None
    layer, strengths = layer_of(LINEAR, None), torch.tensor([0.5])
    y = output(layer, x, weight)
    first = branch.added_to(y, x, strengths, layer)
    strengths.fill_(0)
    assert torch.equal(branch.added_to(y, x, strengths, layer), y)
    strengths.fill_(0.5)
    assert torch.equal(branch.added_to(y, x, strengths, layer), first)


def test_what_reads_the_weight_after_others_has_none() -> None:
    dora = DoRA(lora(LINEAR), normal(OUT).abs())
    stack = [(Placed(one, Target("x", LINEAR), 1.0), 0) for one in (lora(LINEAR), dora)]
    assert branch_of(normal(*LINEAR), stack) is None


@pytest.mark.parametrize("adapter", [lora(LINEAR, rank=12), IA3(normal(IN), True)], ids=["high rank", "columns"])
def test_what_is_not_cheap_has_none(adapter: Adapter) -> None:
    assert branch_of(normal(*LINEAR), [(Placed(adapter, Target("x", LINEAR), 1.0), 0)]) is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_input_s_number_format_is_the_branch_s(dtype: torch.dtype) -> None:
    shape = KERNEL
    stack = [(Placed(KINDS[kind](shape), Target("x", shape), 1.0), 0) for kind in ("DoRA", "LoRA", "LoKr")]
    weight, x = normal(*shape), inputs_of(shape)
    branch = branch_of(weight, stack)
    assert branch is not None
    layer = layer_of(shape, None)
    wanted = branch.added_to(output(layer, x, weight), x, torch.ones(1), layer)
    there = branch.moved("cpu", dtype)
    found = there.added_to(output(layer, x, weight).to(dtype), x.to(dtype), torch.ones(1), layer)
    assert found.dtype == dtype
    assert float((found - wanted).abs().max()) <= 0.03 * float(wanted.abs().max())
