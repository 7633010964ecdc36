"""A stack in tiles: right against dense fp64, the same bits however the weight is stored, one product for each tile.

Errors of fp32 are bounded as in Higham, Accuracy and Stability, §3.1: a sum of n products is off by at most n units in
the last place of the sum of their sizes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lora_core.adapters import DoRA, FullDifference, LoRA, Reshape
from lora_core.algebra import products
from lora_core.naming.places import Run
from lora_core.naming.targets import Target
from lora_core.stack.apply import Placed, apply_stack

U = 2.0**-24  # unit roundoff of fp32
RANK = 4
ON_MKL = pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="seen with MKL; nothing relies on it")

# rows and columns that divide into tiles evenly, unevenly, with one row or column too many, and not at all
SHAPES = [(256, 192), (200, 130), (65, 257), (129, 64), (7, 5), (1, 300), (300, 1), (96, 20, 3, 3)]


def normal(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def lora(shape: tuple[int, ...], seed: int, rank: int = RANK) -> LoRA:
    up, down = normal((shape[0], rank), seed), normal((rank, *shape[1:]), seed + 1)
    return LoRA(up.half(), down.half(), None, 0.5)


def stack_on(shape: tuple[int, ...], count: int = 3) -> list[Placed]:
    return [Placed(lora(shape, 10 * seed), Target("k", shape), 0.3 * (seed + 1)) for seed in range(count)]


def expected(weight: torch.Tensor, stack: list[Placed]) -> tuple[torch.Tensor, torch.Tensor]:
    """The result in fp64, and how far from it fp32 may be."""
    result, size, terms = weight.double(), weight.double().abs(), 2
    for placed in stack:
        adapter = placed.adapter
        assert isinstance(adapter, LoRA)
        up, down = adapter.up.double() * adapter.scale * placed.strength, adapter.down.double().flatten(1)
        for total, product in ((result, up @ down), (size, up.abs() @ down.abs())):
            part = placed.target.take(total)
            placed.target.put(total, part + product.reshape(part.shape))
        terms += adapter.up.shape[1] + 3
    return result, terms * U * size


def halves(first: int, rows: int) -> tuple[Run, ...]:
    """The runs of rows whose halves changed places."""
    return (first + rows // 2, rows - rows // 2), (first, rows // 2)


def targets_of(weight: torch.Tensor) -> list[Target]:
    """Targets of all sorts that a fused weight has: all rows, slices of them, halves swapped, transposed."""
    rows, columns = weight.shape
    third = rows // 3
    return [
        Target("k", (rows, columns)),
        Target("k", (third, columns), start=0),
        Target("k", (third, columns), start=third),
        Target("k", (rows - 2 * third, columns), start=2 * third),
        Target("k", (rows, columns), order=halves(0, rows)),
        Target("k", (2 * (third // 2), columns), start=third, order=halves(third, 2 * (third // 2))),
        Target("k", (columns, rows), transposed=True),
        Target("k", (columns, rows), transposed=True, order=halves(0, columns)),
    ]


@pytest.fixture(params=[products.TILE, 2**10])
def tile(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Weights of the tests are one tile, and many."""
    monkeypatch.setattr(products, "TILE", request.param)
    if request.param < 2**20:
        monkeypatch.setattr(products, "_WIDTH", 64)
        monkeypatch.setattr(products, "_STEP", 16)
    yield request.param


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_every_way_to_take_the_result_gives_the_same_bits(
    tile: int, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    weight, stack = normal(shape, 1).to(dtype), stack_on(shape)
    result = apply_stack(weight, stack)  # the merge of a stored weight
    value, most = expected(weight, stack)
    assert bool(((result.double() - value).abs() <= most).all())
    live = weight.to(torch.float32, copy=True)  # the host's
    assert apply_stack(live, stack, out=live) is live
    assert torch.equal(live, result)
    rounded = torch.empty_like(weight)
    assert apply_stack(weight, stack, out=rounded) is rounded
    assert torch.equal(rounded, result.to(dtype)), "rounded once"
    assert torch.equal(apply_stack(weight, stack, out=weight), result.to(dtype))  # in place, whatever the dtype


def test_any_slices_of_one_weight(tile: int) -> None:
    weight = normal((200, 130), 3)
    stack = [Placed(lora(one.shape, 7 * at), one, 0.5 + at) for at, one in enumerate(targets_of(weight))]
    for chosen in (stack, stack[1:4], stack[::-1], stack[6:]):
        value, most = expected(weight, chosen)
        assert bool(((apply_stack(weight, chosen).double() - value).abs() <= most).all())


def test_rows_without_a_change_keep_their_bits(tile: int) -> None:
    weight = normal((200, 130), 3).half()
    target = Target("k", (50, 130), start=70)
    changed = apply_stack(weight, [Placed(lora(target.shape, 4), target, 1.0)], out=torch.empty_like(weight))
    same = (changed == weight).all(dim=1)
    assert bool(same[:70].all())
    assert bool(same[120:].all())
    assert not bool(same[70:120].any())


@ON_MKL
def test_a_tile_changes_no_bit_of_a_regular_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row of a product is summed by itself; kernels only treat what is left over at the edges otherwise."""
    weight, stack = normal((768, 512), 1), stack_on((768, 512))
    whole = apply_stack(weight, stack)
    for size in (2**12, 2**14, 2**16, 2**17):
        monkeypatch.setattr(products, "TILE", size)
        assert torch.equal(apply_stack(weight, stack), whole)


@pytest.mark.case(40)
@ON_MKL
def test_the_bits_do_not_depend_on_threads() -> None:
    weight, stack, threads = normal((2049, 1100), 1), stack_on((2049, 1100)), torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(apply_stack(weight, stack))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@pytest.mark.parametrize("shape", [*SHAPES, (10240, 1280), (3072, 12288), (4097, 1281), (5, 100_000), (0, 3)])
def test_tiles_cover_a_weight_once(shape: tuple[int, ...]) -> None:
    rows, columns = shape[0], torch.Size(shape[1:]).numel()
    seen = torch.zeros(rows, columns, dtype=torch.uint8)
    tiles = list(products._tiles(rows, columns, whole=False))
    for part in tiles:
        seen[part] += 1
        assert seen[part].numel() <= 1.1 * products.TILE + 64 * products._WIDTH
        assert min(rows, columns) == 1 or 1 not in seen[part].shape, "a single row is summed in another order"
    assert bool((seen == 1).all())
    assert len(list(products._tiles(rows, columns, whole=True))) == (rows > 0)


def test_a_weight_that_lies_otherwise_in_memory() -> None:
    weight, stack = normal((96, 20, 3, 3), 1).to(memory_format=torch.channels_last), stack_on((96, 20, 3, 3))
    result = apply_stack(weight, stack)
    assert torch.equal(result, apply_stack(weight.contiguous(), stack))
    narrowed = normal((300, 20), 2)  # what the host gives with an offset; its result is not looked at
    value = narrowed.clone()
    part = narrowed[100:196]
    apply_stack(part, stack_on((96, 20)), out=part)
    assert torch.equal(narrowed[100:196], apply_stack(value[100:196], stack_on((96, 20))))
    assert torch.equal(narrowed[:100], value[:100])
    apply_stack(weight, stack, out=weight)
    assert torch.equal(weight, result)
    columns = normal((96, 40), 2)
    value = columns.clone()
    apply_stack(columns[:, 20:], stack_on((96, 20)), out=columns[:, 20:])
    assert torch.equal(columns[:, 20:], apply_stack(value[:, 20:], stack_on((96, 20))))
    assert torch.equal(columns[:, :20], value[:, :20])


def mixed_stack(shape: tuple[int, ...]) -> list[Placed]:
    """Low rank, a DoRA that waits for it, a dense difference, low rank again."""
    first, last = stack_on(shape, 2)
    wrapped = DoRA(lora(shape, 50), normal((shape[0],), 51).abs())
    dense = FullDifference(normal(shape, 52).half())
    return [first, Placed(wrapped, first.target, 0.7), Placed(dense, first.target, -0.2), last]


@pytest.mark.parametrize("semantics", ["paper", "comfyui"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_other_kinds_between(tile: int, semantics: Any, dtype: torch.dtype) -> None:
    weight, stack = normal((200, 130), 1).to(dtype), mixed_stack((200, 130))
    result = apply_stack(weight, stack, semantics)
    for out in (torch.empty_like(weight), torch.empty(weight.shape), weight.clone()):
        assert torch.equal(apply_stack(weight, stack, semantics, out=out), result.to(out.dtype))
    one_by_one = weight.float()
    for placed in stack:
        one_by_one = apply_stack(one_by_one, [placed], semantics)
    assert float((one_by_one - result).abs().max()) <= 1e-5  # the two sums differ in their order; values are up to 10
    assert torch.equal(apply_stack(weight, stack, semantics, out=weight), result.to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_larger_weight_is_a_new_one(dtype: torch.dtype) -> None:
    weight = normal((20, 10), 1).to(dtype)
    before = weight.clone()
    reshape = Reshape(lora((20, 30), 5), (20, 30))
    stack = [*stack_on((20, 10), 1), Placed(reshape, Target("k", (20, 30)), 0.5)]
    result = apply_stack(weight, stack)
    padded = torch.cat((apply_stack(weight, stack[:1]), torch.zeros(20, 20)), 1)
    assert torch.equal(result, apply_stack(padded, [Placed(reshape.inner, Target("k", (20, 30)), 0.5)]))
    out = torch.empty_like(weight)
    larger = apply_stack(weight, stack, out=out)
    assert (larger.shape, larger.dtype) == ((20, 30), dtype)
    assert torch.equal(larger, result.to(dtype))
    assert torch.equal(weight, before)


class Counting(TorchDispatchMode):
    """Counts what torch is asked for, and keeps the size of the largest tensor that was made."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.calls[func.overloadpacket.__name__] += 1
        is_new = not func.is_view and not func.overloadpacket.__name__.endswith("_")
        if is_new and isinstance(result, torch.Tensor):
            self.largest = max(self.largest, result.numel())
        return result


@pytest.mark.parametrize("count", [1, 4, 8])
def test_one_product_for_each_tile(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = (1024, 512)
    monkeypatch.setattr(products, "TILE", 2**16)
    weight, stack = normal(shape, 1).half(), stack_on(shape, count)
    with Counting() as live:
        value = weight.float()
        before = live.largest
        live.largest = 0
        apply_stack(value, stack, out=value)
    assert before == weight.numel()
    assert live.calls["addmm_"] == 8
    assert live.largest <= 2**16, "changing a weight in place makes no tensor of its size"
    with Counting() as fused:
        apply_stack(weight, stack, out=weight)
    assert fused.calls["addmm_"] == 8
    assert fused.largest <= 2**16


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_another_device_gets_one_product(dtype: torch.dtype) -> None:
    """A GPU divides a product itself. Tensors without data stand for it here."""
    weight = torch.empty((4096, 2048), dtype=dtype, device="meta")
    with Counting() as counting:
        result = apply_stack(weight, stack_on((4096, 2048), 4))
        in_place = apply_stack(weight, stack_on((4096, 2048), 4), out=weight)
    assert counting.calls["addmm_"] == 2
    assert (result.device.type, result.dtype) == ("meta", torch.float32)
    assert in_place is weight


def test_strength_zero_reads_nothing() -> None:
    weight = normal((64, 64), 1)
    nothing = [Placed(placed.adapter, placed.target, 0.0) for placed in stack_on((64, 64))]
    with Counting() as counting:
        apply_stack(weight, nothing, out=weight)
    assert not counting.calls
