"""Every kind against its formula in dense fp64, and the laws that hold for all of them.

The bound is for sums of at most a few hundred products in fp32; solving for a rotation loses a digit more.
"""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lora_core.adapters import (
    BOFT,
    IA3,
    KINDS,
    Adapter,
    BiasDifference,
    DiagOFT,
    DoRA,
    EmbeddingLoRA,
    FullDifference,
    GLoRA,
    InputBOFT,
    InputOFT,
    KohyaOFT,
    LoHa,
    LoKr,
    LoRA,
    NormDifference,
    PeftIA3,
    Reshape,
    SetValue,
    moved,
    packed,
    rows_of,
    suffixes,
    tensors_of,
    unpacked,
    with_tensors,
)
from lora_core.adapters.spelling import suffix_rows
from lora_core.adapters.suffixes import PARTS, is_applied
from lora_core.errors import AdapterError
from lora_core.naming.targets import Target
from lora_core.stack.apply import Placed, apply_stack
from tests.core.adapters.peft_adapters import (
    IN,
    INPUTS,
    OUT,
    PEFT_ADAPTERS,
    PEFT_MIXED,
    RANK,
    READ_AS_OTHERS,
    SHAPES,
    normal,
    peft_dense,
)

FP32 = 3e-6  # of the largest number in sight


def lora(on: str, seed: int = 0) -> LoRA:
    return LoRA(normal(OUT, RANK, seed=seed), normal(RANK, *SHAPES[on][1:], seed=seed + 1), None, 0.5)


def loha(on: str, seed: int = 0) -> LoHa:
    a, b = (OUT, RANK), (RANK, *SHAPES[on][1:])
    parts = [normal(*shape, seed=seed + number) for number, shape in enumerate((a, b, a, b))]
    return LoHa(*parts, None, None, 0.5)


def tucker_loha(seed: int = 0) -> LoHa:
    a, b, core = (RANK, OUT), (RANK, IN), (RANK, RANK, 3, 3)
    parts = [normal(*shape, seed=seed + number) for number, shape in enumerate((a, b, a, b, core, core))]
    return LoHa(*parts, 0.5)


def lokr(on: str, seed: int = 0) -> LoKr:
    w2_b = normal(2, INPUTS[on] // 2, seed=seed + 2)
    return LoKr(normal(3, 2, seed=seed), None, None, None, normal(4, 2, seed=seed + 1), w2_b, None, 0.5)


def glora(on: str, seed: int = 0) -> GLoRA:
    b_down = normal(RANK, *SHAPES[on][1:], seed=seed + 3)
    return GLoRA(normal(IN, RANK, seed=seed), normal(RANK, IN, seed=seed + 1), normal(OUT, RANK), b_down, 0.1)


ADAPTERS = {
    "LoRA": lora,
    "LoHa": loha,
    "Tucker LoHa": lambda on, seed=0: tucker_loha(seed) if on == "kernel" else loha(on, seed),
    "LoKr": lokr,
    "GLoRA": glora,
    "full": lambda on, seed=0: FullDifference(normal(*SHAPES[on], seed=seed), 0.5),
    "norm": lambda on, seed=0: NormDifference(normal(*SHAPES[on], seed=seed)),
    "bias": lambda on, seed=0: BiasDifference(normal(*SHAPES[on], seed=seed)),
    "set": lambda on, seed=0: SetValue(normal(*SHAPES[on], seed=seed)),
    "DoRA": lambda on, seed=0: DoRA(lora(on, seed), normal(OUT, seed=seed).abs()),
    "DoRA of LoKr": lambda on, seed=0: DoRA(lokr(on, seed), normal(OUT, seed=seed).abs()),
    "DoRA of the input": lambda on, seed=0: DoRA(lora(on, seed), normal(IN, seed=seed).abs(), of_input=True),
    "Diag-OFT": lambda on, seed=0: DiagOFT(normal(3, 4, 4, seed=seed), normal(OUT, seed=seed), 0.3),
    "kohya's OFT": lambda on, seed=0: KohyaOFT((normal(2, 2, 2, seed=seed), normal(2, 4, 4, seed=seed)), 0.2),
    "BOFT": lambda on, seed=0: BOFT(normal(2, 3, 4, 4, seed=seed)[:1], None, 0.0),
    "input OFT": lambda on, seed=0: InputOFT(normal(INPUTS[on] // 4, 6, seed=seed) / 9, False, 5, None, False),
    "input BOFT": lambda on, seed=0: InputBOFT(normal(1, INPUTS[on] // 4, 4, 4, seed=seed), normal(OUT, 1)),
    "IA3": lambda on, seed=0: IA3(normal(OUT, seed=seed), False),
    "IA3 of the input": lambda on, seed=0: IA3(normal(IN, seed=seed), True),
    "PEFT's IA3": lambda on, seed=0: PeftIA3(normal(OUT, seed=seed), None),
    **PEFT_ADAPTERS,
}
MIXED = ("DoRA of the input", "Diag-OFT", "BOFT", "kohya's OFT", *PEFT_MIXED)
EVERYWHERE = [(kind, on) for kind in ADAPTERS for on in SHAPES]


def assert_near(found: Tensor, expected: Tensor, size: float | None = None) -> None:
    size = float(expected.abs().max()) if size is None else size
    assert found.shape == expected.shape
    assert float((found.double() - expected.double()).abs().max()) <= FP32 * max(size, 1.0)


def rotation(blocks: Tensor, most: float) -> Tensor:
    """(I + Q)(I − Q)⁻¹ as one block diagonal fp64 matrix."""
    q = blocks.double() - blocks.double().transpose(1, 2)
    q = q * min(1.0, most / float(q.norm())) if most else q
    one = torch.eye(q.shape[-1], dtype=torch.float64)
    return torch.block_diag(*((one + q) @ torch.linalg.inv(one - q)))


def dense(adapter: Adapter, weight: Tensor) -> Tensor | None:  # noqa: PLR0911  (one formula a kind)
    """W' of the published formula, in fp64; None for kinds that other tests have."""
    match adapter:
        case LoHa(t1=None):
            parts = [part.double().flatten(1) for part in tensors_of(adapter)]
            return weight + 0.5 * ((parts[0] @ parts[1]) * (parts[2] @ parts[3])).reshape(weight.shape)
        case LoHa():
            a1, b1, a2, b2, t1, t2 = (part.double() for part in tensors_of(adapter))
            first, second = (torch.einsum("ijkl,jr,ip->prkl", *parts) for parts in ((t1, b1, a1), (t2, b2, a2)))
            return weight + 0.5 * first * second
        case LoKr():
            w1, w2_a, w2_b = (part.double() for part in tensors_of(adapter))
            w2 = (w2_a @ w2_b).reshape(4, -1)
            return weight + 0.5 * torch.kron(w1, w2).reshape(weight.shape)
        case GLoRA():
            a_up, a_down, b_up, b_down = (part.double().flatten(1) for part in tensors_of(adapter))
            turned = torch.einsum("oi...,ij->oj...", weight, a_up @ a_down)
            return weight + 0.1 * (turned + (b_up @ b_down).reshape(weight.shape))
        case DoRA(of_input=of_input):
            changed = dense(adapter.inner, weight)
            assert changed is not None
            flat = changed.transpose(0, int(of_input)).flatten(1)
            flat = flat * (adapter.magnitude.double() / flat.norm(dim=1))[:, None]
            shape = [*weight.shape]
            shape[0], shape[int(of_input)] = shape[int(of_input)], shape[0]
            return flat.reshape(shape).transpose(0, int(of_input))
        case LoRA():
            return weight + 0.5 * (adapter.up.double() @ adapter.down.double().flatten(1)).reshape(weight.shape)
        case DiagOFT():
            turned = rotation(adapter.blocks, 0.3 * OUT).T @ weight.flatten(1)
            assert adapter.rescale is not None
            return (adapter.rescale.double()[:, None] * turned).reshape(weight.shape)
        case KohyaOFT():
            pieces = weight.flatten(1).split((4, 8))
            turned = [rotation(b, 0.2 * len(p)).T @ p for b, p in zip(adapter.blocks, pieces, strict=True)]
            return torch.cat(turned).reshape(weight.shape)
        case IA3(on_input=True):
            return weight * (1 + adapter.vector.double()).reshape(1, -1, *[1] * (weight.dim() - 2))
        case IA3():
            return weight * (1 + adapter.vector.double()).reshape(-1, *[1] * (weight.dim() - 1))
        case SetValue():
            return adapter.value.double()
    return peft_dense(adapter, weight)


@pytest.mark.case(44)
@pytest.mark.parametrize(("kind", "on"), EVERYWHERE)
@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0, -1.0, 2.0])
def test_a_kind_is_its_formula(kind: str, on: str, strength: float) -> None:
    adapter, weight = ADAPTERS[kind](on), normal(*SHAPES[on], seed=9)
    before = weight.clone()
    expected = dense(adapter, weight.double())
    if expected is None:
        return
    wanted = weight.double() + strength * (expected - weight.double())
    found = apply_stack(weight, [Placed(adapter, Target("k", SHAPES[on]), strength)])
    assert_near(found, wanted, float(expected.abs().max()) * max(1, abs(strength)))
    assert torch.equal(weight, before)
    assert strength or torch.equal(found, before)


@pytest.mark.parametrize(("kind", "on"), EVERYWHERE)
def test_a_delta_leaves_its_input_and_is_linear_in_the_strength(kind: str, on: str) -> None:
    adapter, weight = ADAPTERS[kind](on), normal(*SHAPES[on], seed=5)
    before = weight.clone()
    delta = adapter.delta(weight)
    assert torch.equal(weight, before)
    assert delta.dtype == torch.float32 and delta.shape == weight.shape
    assert delta.any()
    for strength in (0.5, -1.0, 2.0):
        changed = apply_stack(weight, [Placed(adapter, Target("k", SHAPES[on]), strength)])
        assert_near(changed, weight.double() + strength * delta.double(), 4 * float((weight + delta).abs().max()))


@pytest.mark.parametrize(("kind", "on"), EVERYWHERE)
def test_what_is_additive_does_not_read_the_weight(kind: str, on: str) -> None:
    adapter = ADAPTERS[kind](on)
    one, other = (adapter.delta(normal(*SHAPES[on], seed=seed)) for seed in (1, 2))
    assert torch.equal(one, other) == adapter.additive
    factors = adapter.factors()
    if factors is not None:
        assert_near((factors[0] @ factors[1]).reshape(one.shape), one)


@pytest.mark.parametrize(("kind", "on"), [(k, on) for k, on in EVERYWHERE if ADAPTERS[k](on).additive])
@given(strength=st.floats(-3, 3, width=32), seed=st.integers(0, 99))
@settings(max_examples=20)
def test_plus_and_minus_of_an_additive_kind_is_nothing(kind: str, on: str, strength: float, seed: int) -> None:
    adapter, weight = ADAPTERS[kind](on, seed), normal(*SHAPES[on], seed=seed)
    stack = [Placed(adapter, Target("k", SHAPES[on]), sign * strength) for sign in (1, -1)]
    size = float((strength * adapter.delta(weight)).abs().max()) + float(weight.abs().max())
    assert_near(apply_stack(weight, stack), weight.double(), size)


@pytest.mark.parametrize(("kind", "on"), [(kind, on) for kind, on in EVERYWHERE if kind not in MIXED])
@given(ends=st.sets(st.integers(1, OUT - 1), min_size=1, max_size=3), seed=st.integers(0, 99))
@settings(max_examples=10)
def test_rows_are_the_rows_of_the_whole(kind: str, on: str, ends: set[int], seed: int) -> None:
    adapter, weight = ADAPTERS[kind](on, seed), normal(*SHAPES[on], seed=seed)
    whole = adapter.delta(weight)
    size = float(whole.abs().max())
    for start, end in pairwise([0, *sorted(ends), OUT]):
        rows = rows_of(adapter, start, end - start, OUT)
        assert_near(rows.delta(weight[start:end]), whole[start:end], size)
        assert (rows.factors() is None) == (adapter.factors() is None)
        assert rows.additive == adapter.additive
        once_more = rows_of(rows, 0, 1, end - start)
        assert_near(once_more.delta(weight[start : start + 1]), whole[start : start + 1], size)


@pytest.mark.parametrize("kind", MIXED)
def test_kinds_that_mix_rows_say_so(kind: str) -> None:
    adapter = ADAPTERS[kind]("linear")
    assert rows_of(adapter, 0, OUT, OUT) is adapter
    with pytest.raises(AdapterError, match=r"rows of a fused weight"):
        rows_of(adapter, 1, 6, OUT)


def test_pieces_of_kohyas_oft_can_be_taken_apart() -> None:
    adapter, weight = ADAPTERS["kohya's OFT"]("linear"), normal(OUT, IN)
    whole = adapter.delta(weight)
    assert_near(rows_of(adapter, 4, 8, OUT).delta(weight[4:]), whole[4:].double())
    assert_near(rows_of(adapter, 0, 4, OUT).delta(weight[:4]), whole[:4].double())


@pytest.mark.parametrize(("start", "length"), [(-1, 2), (0, 0), (4, 9), (0, 13)])
def test_rows_outside_the_weight_are_an_error(start: int, length: int) -> None:
    with pytest.raises(AdapterError, match="within the 12 rows"):
        rows_of(lora("linear"), start, length, OUT)


@pytest.mark.parametrize(("kind", "on"), EVERYWHERE)
def test_packed_values_are_plain_and_make_the_adapter_again(kind: str, on: str) -> None:
    adapter, weight = ADAPTERS[kind](on), normal(*SHAPES[on])
    values = packed(adapter)
    assert _is_plain(values)
    again = unpacked(values)
    assert type(again) is type(adapter)
    assert torch.equal(again.delta(weight), adapter.delta(weight))
    assert all(one is other for one, other in zip(tensors_of(adapter), tensors_of(again), strict=True))
    assert moved(adapter, torch.device("cpu")) is adapter
    assert [t.device.type for t in tensors_of(moved(adapter, torch.device("meta")))] == ["meta"] * len(
        list(tensors_of(adapter))
    )
    assert not with_tensors(again, torch.zeros_like).delta(weight).equal(adapter.delta(weight))


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (type, bool, int, float, torch.Tensor))


@pytest.mark.parametrize("kind", ADAPTERS)
def test_adapters_are_frozen_and_say_what_they_are(kind: str) -> None:
    adapter = ADAPTERS[kind]("linear")
    with pytest.raises(FrozenInstanceError):
        setattr(adapter, fields(adapter)[0].name, None)
    assert adapter.kind
    assert type(adapter) in (*KINDS.values(), DoRA)


# Order in a stack


def test_what_reads_the_weight_sees_what_came_before() -> None:
    weight, target = normal(OUT, IN), Target("k", (OUT, IN))
    first, second = lora("linear"), DoRA(lora("linear", 7), normal(OUT, seed=3).abs())
    stack = [Placed(first, target, 0.7), Placed(second, target, 0.6), Placed(first, target, -0.3)]
    one = weight + 0.7 * first.delta(weight)
    two = one + 0.6 * second.delta(one)
    assert_near(apply_stack(weight, stack), (two - 0.3 * first.delta(two)).double())
    other = apply_stack(weight, [stack[1], stack[0], stack[2]])
    assert float((other - apply_stack(weight, stack)).abs().max()) > 0.01


def test_dora_on_a_slice_takes_the_norm_of_the_slice() -> None:
    weight, adapter = normal(3 * OUT, IN), DoRA(lora("linear"), normal(IN, seed=3).abs(), of_input=True)
    changed = apply_stack(weight, [Placed(adapter, Target("k", (OUT, IN), start=OUT), 1.0)])
    assert torch.equal(changed[:OUT], weight[:OUT]) and torch.equal(changed[2 * OUT :], weight[2 * OUT :])
    norms = torch.linalg.vector_norm(changed[OUT : 2 * OUT], dim=0)
    assert_near(norms, adapter.magnitude.double())


def test_dora_of_a_row_of_zeros_stays_finite() -> None:
    none = LoRA(torch.zeros(OUT, 1), torch.zeros(1, IN), None, 1.0)
    assert torch.isfinite(DoRA(none, torch.ones(OUT)).delta(torch.zeros(OUT, IN))).all()


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_a_reshape_pads_with_zeros_before_the_adapter(strength: float) -> None:
    weight = normal(OUT, IN)
    adapter = LoRA(normal(OUT, 2), normal(2, 2 * IN), None, 1.0)
    first = Placed(lora("linear"), Target("k", (OUT, IN)), 1.0)
    stack = [first, Placed(Reshape(adapter, (OUT, 2 * IN)), Target("k", (OUT, IN)), strength)]
    for semantics in ("paper", "comfyui"):
        changed = apply_stack(weight, stack, semantics)
        padded = torch.cat((apply_stack(weight, [first]), torch.zeros(OUT, IN)), dim=1)
        assert_near(changed, (padded + strength * adapter.delta(padded)).double())
    assert torch.equal(apply_stack(weight, [Placed(stack[1].adapter, stack[1].target, 0.0)]), weight)


def test_a_reshape_never_shrinks() -> None:
    stack = [Placed(Reshape(lora("linear"), (OUT, IN)), Target("k", (OUT, 9)), 1.0)]
    with pytest.raises(AdapterError, match=r"can't grow a weight of shape \[12, 9\] to \[12, 8\]"):
        apply_stack(normal(OUT, 9), stack)


# The suffix table


def test_kinds_are_listed_once_and_share_no_suffix_by_accident() -> None:
    assert len({row.suffix for row in PARTS}) == len(PARTS)
    assert {type(make("linear")) for make in ADAPTERS.values()} - {DoRA} == set(KINDS.values()) - {
        EmbeddingLoRA
    } - READ_AS_OTHERS


def test_a_kind_that_gets_a_class_is_no_longer_one_that_is_only_named() -> None:
    words = {row.kind for row in PARTS}
    named = next(row for row in PARTS if row.kind and not is_applied(row.kind))

    class Applied(IA3):
        suffixes = suffix_rows("applied", "vector", named.suffix)

    then = {row.kind for row in suffixes._rows_of((*KINDS.values(), Applied))}
    assert (then - words, words - then) == ({"applied"}, {named.kind})
