"""The arithmetic: every kind against dense fp64 formulas, every source of alpha, and the laws of strength and stacks.

Bounds follow from the arithmetic, not from what was seen: a sum of n products in fp32 is off by at most n·u times the
same sum of absolute values, with u = 2^-24 (Higham, Accuracy and Stability, 3.1), whatever the order of the sum.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lora_core.adapters import (
    BiasDifference,
    FullDifference,
    LoRA,
    NormDifference,
    packed,
    same_but_ones,
    tensors_of,
    unpacked,
)
from lora_core.errors import AdapterError
from lora_core.naming.targets import Target
from lora_core.reading.loraconfig import Scale
from lora_core.reading.lorafile import LoraFile
from lora_core.stack.apply import Placed, apply_stack
from tests.core import samples

U = 2.0**-24  # half the distance from 1 to the next fp32
STRENGTHS = (0.0, 0.5, 1.0, -1.0, 2.0)
DTYPES = (torch.float32, torch.float16, torch.bfloat16)

# name: (up, down, mid or None, weight)
SHAPES: dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...] | None, tuple[int, ...]]] = {
    "linear": ((24, 4), (4, 40), None, (24, 40)),
    "rank 1": ((24, 1), (1, 40), None, (24, 40)),
    "rank above the sides": ((6, 16), (16, 5), None, (6, 5)),
    "1x1 convolution": ((24, 4, 1, 1), (4, 12, 1, 1), None, (24, 12, 1, 1)),
    "1x1 factors on a linear layer": ((24, 4, 1, 1), (4, 12, 1, 1), None, (24, 12)),
    "linear factors on a 1x1 convolution": ((24, 4), (4, 12), None, (24, 12, 1, 1)),
    "3x3 convolution": ((24, 4, 1, 1), (4, 12, 3, 3), None, (24, 12, 3, 3)),
    "3x3 convolution with a flat up": ((24, 4), (4, 12, 3, 3), None, (24, 12, 3, 3)),
    "1x2x2 convolution of a video": ((16, 4, 1, 1, 1), (4, 6, 1, 2, 2), None, (16, 6, 1, 2, 2)),
    "3x3x3 convolution": ((8, 4, 1, 1, 1), (4, 6, 3, 3, 3), None, (8, 6, 3, 3, 3)),
    "Tucker 3x3": ((24, 4, 1, 1), (4, 12, 1, 1), (4, 4, 3, 3), (24, 12, 3, 3)),
    "Tucker 3x3 with two ranks": ((24, 5, 1, 1), (3, 12, 1, 1), (5, 3, 3, 3), (24, 12, 3, 3)),
    "Tucker 3x3x3": ((8, 4, 1, 1, 1), (4, 6, 1, 1, 1), (4, 4, 3, 3, 3), (8, 6, 3, 3, 3)),
}


def normal(shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def lora(case: str, dtype: torch.dtype = torch.float32, scale: float = 1.0, seed: int = 0) -> LoRA:
    up, down, mid, _ = SHAPES[case]
    core = normal(mid, seed + 2, dtype) if mid else None
    return LoRA(normal(up, seed, dtype), normal(down, seed + 1, dtype), core, scale)


def dense(adapter: LoRA, shape: tuple[int, ...], by: Callable[[Tensor], Tensor] = lambda part: part) -> Tensor:
    """The published formula in fp64: ΔW = scale · up · down, with the core of Tucker's decomposition between."""
    up, down = (by(part.double()) for part in (adapter.up, adapter.down))
    if adapter.mid is None:
        result = torch.einsum("or,r...->o...", up.flatten(1), down)
    else:
        result = torch.einsum("or,rj...,ji->oi...", up.flatten(1), by(adapter.mid.double()), down.flatten(1))
    return (result * by(torch.tensor(adapter.scale, dtype=torch.float64))).reshape(shape)


def bound(adapter: LoRA, shape: tuple[int, ...]) -> Tensor:
    """The most that fp32 may be off: the sums' lengths, the scale, and one for good measure."""
    terms = adapter.up.shape[1] + (0 if adapter.mid is None else adapter.down.shape[0]) + 2
    return terms * U * dense(adapter, shape, torch.abs)


def assert_within(found: Tensor, expected: Tensor, most: Tensor | float) -> None:
    assert found.dtype == torch.float32
    assert found.shape == expected.shape
    error = (found.double() - expected).abs()
    assert bool((error <= most).all()), f"off by {float((error / most).nan_to_num(0).max()):.2f} of what is allowed"


# Each kind against its formula


@pytest.mark.case(44)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", SHAPES)
def test_lora_is_the_published_product(case: str, dtype: torch.dtype) -> None:
    adapter, shape = lora(case, dtype, scale=0.75), SHAPES[case][3]
    assert_within(adapter.delta(torch.zeros(shape)), dense(adapter, shape), bound(adapter, shape))
    up, down = adapter.factors()
    assert_within((up @ down).reshape(shape), dense(adapter, shape), bound(adapter, shape))
    shapes = {"up": tuple(adapter.up.shape), "down": tuple(adapter.down.shape)}
    shapes |= {} if adapter.mid is None else {"mid": tuple(adapter.mid.shape)}
    assert same_but_ones(LoRA.delta_shape(shapes), shape)
    assert LoRA.rank_of(shapes) == adapter.down.shape[0]  # what LyCORIS divides alpha by, with a core too


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("weight_dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", SHAPES)
def test_a_strength_scales_the_change_of_a_weight(case: str, weight_dtype: torch.dtype, strength: float) -> None:
    adapter, shape = lora(case, torch.float16, scale=0.5), SHAPES[case][3]
    weight = normal(shape, 9, weight_dtype)
    before = weight.clone()
    for semantics in ("paper", "comfyui"):
        changed = apply_stack(weight, [Placed(adapter, Target("k", shape), strength)], semantics)
        if semantics == "comfyui" and adapter.comfyui_fails():
            assert case == "Tucker 3x3x3"  # a core of a three-dimensional kernel
            assert samples.same_bytes(changed, before.float())
            continue
        expected = before.double() + strength * dense(adapter, shape)
        most = abs(strength) * bound(adapter, shape) * 2 + 2 * U * (expected.abs() + before.double().abs())
        assert_within(changed, expected, most)
        if strength == 0:
            assert samples.same_bytes(changed, before.float())
    assert samples.same_bytes(weight, before)


@pytest.mark.parametrize("kind", [FullDifference, NormDifference, BiasDifference])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("strength", STRENGTHS)
def test_a_whole_difference_is_added(kind: type[FullDifference], dtype: torch.dtype, strength: float) -> None:
    for shape in ((7,), (3, 4), (2, 3, 3, 3), (1, 6, 8)):
        diff, weight = normal(shape, 1, dtype), normal(shape, 2)
        adapter = kind(diff, 0.25)
        changed = apply_stack(weight, [Placed(adapter, Target("k", shape), strength)])
        expected = weight.double() + strength * 0.25 * diff.double()
        assert_within(changed, expected, 3 * U * (expected.abs() + weight.abs()))
        assert adapter.factors() is None


def test_a_stored_vector_fits_a_parameter_with_ones() -> None:
    changed = FullDifference(torch.ones(8)).delta(torch.zeros(1, 8, 1))
    assert changed.shape == (1, 8, 1)


@pytest.mark.parametrize("case", SHAPES)
def test_packed_values_make_the_same_adapter_again(case: str) -> None:
    adapter = lora(case, torch.bfloat16, 0.3)
    weight = torch.zeros(SHAPES[case][3])
    again = unpacked(packed(adapter))
    assert torch.equal(again.delta(weight), adapter.delta(weight))
    assert all(part is other for part, other in zip(tensors_of(again), tensors_of(adapter), strict=True))


@pytest.mark.parametrize("kind", [FullDifference, NormDifference, BiasDifference])
def test_a_whole_differences_values_make_it_again(kind: type[FullDifference]) -> None:
    adapter = kind(normal((3, 2), 0), 0.5)
    again = unpacked(packed(adapter))
    assert type(again) is kind
    assert torch.equal(again.delta(torch.zeros(3, 2)), adapter.delta(torch.zeros(3, 2)))


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ({"up": (8, 4)}, "has up without down"),
        ({"down": (4, 8)}, "has down without up"),
        ({"mid": (4, 4, 3, 3)}, "has down without up"),
        ({"up": (8, 4), "down": (3, 8)}, "the ranks of up [8, 4] and down [3, 8] differ"),
        ({"up": (8,), "down": (4, 8)}, "expected up [out, r] and down [r, in, ...], found [8] and [4, 8]"),
        (
            {"up": (8, 4, 3, 3), "down": (4, 8, 1, 1)},
            "expected up [out, r] and down [r, in, ...], found [8, 4, 3, 3] and [4, 8, 1, 1]",
        ),
        (
            {"up": (8, 4, 1, 1), "down": (4, 8, 1, 1), "mid": (5, 4, 3, 3)},
            "the ranks of up [8, 4, 1, 1], mid [5, 4, 3, 3] and down [4, 8, 1, 1] differ",
        ),
        (
            {"up": (8, 4, 1, 1), "down": (4, 8, 3, 3), "mid": (4, 4, 3, 3)},
            "with a Tucker core down must be [r, in, 1, 1], found [4, 8, 3, 3]",
        ),
        ({"up": (8, 0), "down": (0, 8)}, "holds no numbers: up [8, 0], down [0, 8]"),
        ({"up": (8, 4, 1, 1), "down": (4, 8, 1, 1), "mid": (4,)}, "the core must be [r, r', ...], found [4]"),
    ],
)
def test_parts_that_contradict_are_named(shapes: dict[str, tuple[int, ...]], expected: str) -> None:
    assert samples.message(AdapterError, lambda: LoRA.delta_shape(shapes)) == expected


# Alpha

MODULE = "transformer.blocks.0.attn.to_q"
RANK = 4


def file_with(path: Path, alpha: Tensor | None, metadata: dict[str, str], module: str = MODULE) -> Path:
    parts = {"lora_A": normal((RANK, 16), 0), "lora_B": normal((8, RANK), 1)}
    tensors = {f"{module}.{part}.weight": value for part, value in parts.items()}
    return samples.save(path, tensors | ({} if alpha is None else {f"{module}.alpha": alpha}), metadata)


def scale_of(path: Path, **options) -> Scale:
    with LoraFile(path, **options) as file:
        (spec,) = file.adapters
        adapter = file.adapter(spec)
        weight = torch.zeros(8, 16)
        expected = dense(adapter, (8, 16))
        assert adapter.scale == spec.scale.value
        assert_within(adapter.delta(weight), expected, bound(adapter, (8, 16)))
        return spec.scale


def in_header(**values: object) -> dict[str, str]:
    return {"lora_adapter_metadata": json.dumps(values)}


@pytest.mark.case(6)
@pytest.mark.parametrize(
    "dtype", [torch.float64, *DTYPES, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8], ids=str
)
@pytest.mark.parametrize("shape", [(), (1,)])
def test_alpha_is_a_tensor_of_any_number_format(tmp_path: Path, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    path = file_with(tmp_path / "x.safetensors", torch.full(shape, 6, dtype=dtype), {})
    assert scale_of(path) == Scale(1.5, "tensor", 6.0)
    assert scale_of(path, semantics="comfyui") == Scale(1.5, "tensor", 6.0)


def test_alpha_in_a_small_float_is_read_as_it_is(tmp_path: Path) -> None:
    path = file_with(tmp_path / "x.safetensors", torch.tensor(0.1, dtype=torch.bfloat16), {})
    assert scale_of(path).alpha == torch.tensor(0.1, dtype=torch.bfloat16).item()


HEADERS: dict[str, tuple[dict[str, str], float, float | None]] = {
    # case: (metadata, scale, alpha)
    "none": ({}, 1.0, None),
    "diffusers, by component": (in_header(**{"transformer.lora_alpha": 8, "transformer.r": 4}), 2.0, 8.0),
    "diffusers, of another component, without rank": (in_header(**{"text_encoder.lora_alpha": 8}), 1.0, None),
    "diffusers, of another component": (in_header(**{"unet.lora_alpha": 8, "unet.r": 4}), 2.0, 8.0),
    "of another component whose rank differs": (in_header(**{"unet.lora_alpha": 8, "unet.r": 8}), 1.0, None),
    "of two components that differ": (
        in_header(**{"a.lora_alpha": 8, "a.r": 4, "b.lora_alpha": 2, "b.r": 4}), 1.0, None),
    "of two components that agree": (
        in_header(**{"a.lora_alpha": 8, "a.r": 4, "b.lora_alpha": 8, "b.r": 4}), 2.0, 8.0),
    "of two components, one of a diffusion model": (
        in_header(**{"text_encoder.lora_alpha": 8, "text_encoder.r": 4, "unet.lora_alpha": 2, "unet.r": 4}), 0.5, 2.0),
    "of another component, rank stabilised by pattern": (
        in_header(**{"unet.lora_alpha": 8, "unet.r": 9, "unet.rank_pattern": {"to_q": 4}, "unet.use_rslora": True}),
        4.0, 8.0),
    "flat keys of another component": ({"unet.lora_alpha": "8", "unet.r": "4"}, 2.0, 8.0),
    "PEFT, without component": (in_header(lora_alpha=2, r=4), 0.5, 2.0),
    "the component's own before the rest": (in_header(**{"transformer.lora_alpha": 8, "lora_alpha": 2}), 2.0, 8.0),
    "flat keys with a rank": ({"lora_alpha": "6", "r": "4"}, 1.5, 6.0),
    "flat keys with a kind": ({"lora_alpha": "6", "peft_type": "LORA"}, 1.5, 6.0),
    "flat keys by component": ({"transformer.lora_alpha": "6", "transformer.r": "4"}, 1.5, 6.0),
    "flat keys of which one is elsewhere": ({"transformer.lora_alpha": "6", "r": "4"}, 1.0, None),
    "a log of the training": ({"ss_network_alpha": "2", "ss_network_dim": "4"}, 1.0, None),
    "another log of the training": ({"ss_network_alpha": "2", "ss_network_args": '{"alpha": 3, "r": 4}'}, 1.0, None),
    "a note of a trainer": ({"lora_alpha": "6"}, 1.0, None),
    "a note of another trainer": ({"network_alpha": "6", "network_dim": "4"}, 1.0, None),
    "PEFT beside a log": (in_header(lora_alpha=8) | {"ss_network_alpha": "2"}, 2.0, 8.0),
    "rank stabilised": (in_header(lora_alpha=8, use_rslora=True), 4.0, 8.0),
    "rank stabilised, as text": ({"lora_alpha": "8", "r": "4", "use_rslora": "True"}, 4.0, 8.0),
    "rank stabilised, by component": (
        in_header(**{"transformer.lora_alpha": 8, "transformer.use_rslora": True}), 4.0, 8.0),
    "not rank stabilised": (in_header(lora_alpha=8, use_rslora=False), 2.0, 8.0),
    "not rank stabilised, as text": ({"lora_alpha": "8", "r": "4", "use_rslora": "False"}, 2.0, 8.0),
    "a pattern with the whole name": (in_header(lora_alpha=8, alpha_pattern={"blocks.0.attn.to_q": 16}), 4.0, 16.0),
    "a pattern with the name's end": (in_header(lora_alpha=8, alpha_pattern={"to_q": 16}), 4.0, 16.0),
    "a pattern for another module": (in_header(lora_alpha=8, alpha_pattern={"to_k": 16}), 2.0, 8.0),
    "a pattern for half a name": (in_header(lora_alpha=8, alpha_pattern={"o_q": 16}), 2.0, 8.0),
    "a pattern that diffusers anchors": (in_header(lora_alpha=8, alpha_pattern={"^blocks.0.attn.to_q": 16}), 4.0, 16.0),
    "a pattern by component": (
        in_header(**{"transformer.lora_alpha": 8, "transformer.alpha_pattern": {"to_q": 1}}), 0.25, 1.0),
    "a pattern with rank stabilisation": (
        in_header(lora_alpha=8, use_rslora=True, alpha_pattern={"to_q": 16}), 8.0, 16.0),
    "a pattern as text": ({"lora_alpha": "8", "r": "4", "alpha_pattern": '{"to_q": 16}'}, 4.0, 16.0),
    "not JSON": ({"lora_adapter_metadata": "{'lora_alpha': 8}"}, 1.0, None),
    "a list": ({"lora_adapter_metadata": "[8]"}, 1.0, None),
    "a number of 5000 digits": ({"lora_adapter_metadata": '{"lora_alpha": ' + "9" * 5000 + "}"}, 1.0, None),
    "a number of 400 digits": ({"lora_adapter_metadata": '{"lora_alpha": ' + "9" * 400 + "}"}, 1.0, None),
    "infinity": ({"lora_adapter_metadata": '{"lora_alpha": Infinity}'}, 1.0, None),
    "deep JSON": ({"lora_adapter_metadata": "[" * 100_000}, 1.0, None),
    "a pattern that is no object": (in_header(lora_alpha=8, alpha_pattern=[1, 2]), 2.0, 8.0),
    "a pattern whose value is no number": (in_header(lora_alpha=8, alpha_pattern={"to_q": "x"}), 2.0, 8.0),
}  # fmt: skip


@pytest.mark.case(6)
@pytest.mark.parametrize("case", HEADERS)
def test_alpha_in_the_header(tmp_path: Path, case: str) -> None:
    metadata, scale, alpha = HEADERS[case]
    path = file_with(tmp_path / "x.safetensors", None, metadata)
    assert scale_of(path) == Scale(scale, "none" if alpha is None else "header", alpha)
    assert scale_of(path, semantics="comfyui") == Scale(1.0, "none")  # ComfyUI reads alpha from tensors only


@pytest.mark.parametrize("case", HEADERS)
def test_a_tensor_comes_before_the_header(tmp_path: Path, case: str) -> None:
    path = file_with(tmp_path / "x.safetensors", torch.tensor(3.0), HEADERS[case][0])
    assert scale_of(path) == Scale(0.75, "tensor", 3.0)


@pytest.mark.parametrize("module", ["lora_unet_blocks_0_attn_to_q", "base_model.model.blocks.0.attn.to_q", "to_q"])
def test_a_header_without_component_counts_for_every_dialect(tmp_path: Path, module: str) -> None:
    assert scale_of(file_with(tmp_path / "x.safetensors", None, in_header(lora_alpha=8), module)).value == 2.0


def test_every_component_has_its_own_alpha(tmp_path: Path) -> None:
    names = {"transformer": 8.0, "text_encoder": 2.0, "text_encoder_2": 1.0}
    tensors = {
        f"{name}.blocks.0.to_q.{part}.weight": normal(shape, 0)
        for name in names
        for part, shape in (("lora_A", (4, 8)), ("lora_B", (8, 4)))
    }
    metadata = in_header(**{f"{name}.lora_alpha": alpha for name, alpha in names.items()})
    with LoraFile(samples.save(tmp_path / "x.safetensors", tensors, metadata)) as file:
        assert {spec.module.split(".")[0]: spec.scale.alpha for spec in file.adapters} == names


@pytest.mark.case(6)
def test_an_alpha_of_zero_is_one_warning_and_no_change(tmp_path: Path) -> None:
    modules = [f"m{number}" for number in range(7)]
    parts = {"lora_A.weight": torch.ones(4, 8), "lora_B.weight": torch.ones(8, 4), "alpha": torch.zeros(())}
    tensors = {f"{name}.{part}": value.clone() for name in modules for part, value in parts.items()}
    with LoraFile(samples.save(tmp_path / "x.safetensors", tensors)) as file:
        assert file.warnings == [
            "x.safetensors: alpha is 0, which changes nothing, in 7 modules: m0, m1, m2, m3, m4 and 2 more."
        ]
        assert not file.adapter(file.adapters[0]).delta(torch.zeros(8, 8)).any()


@pytest.mark.case(6)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_an_alpha_that_is_no_number_is_an_error(tmp_path: Path, value: float) -> None:
    path = file_with(tmp_path / "x.safetensors", torch.tensor(value), {})
    assert samples.message(AdapterError, lambda: LoraFile(path)) == (
        f"x.safetensors: {MODULE}: alpha is {value}; the file is damaged."
    )


@pytest.mark.case(6)
def test_a_negative_alpha_is_a_scale_as_any_other(tmp_path: Path) -> None:
    assert scale_of(file_with(tmp_path / "x.safetensors", torch.tensor(-2.0), {})).value == -0.5


def test_a_bias_beside_a_lora_is_scaled_as_the_lora(tmp_path: Path) -> None:
    tensors = {
        "m.lora_A.weight": normal((4, 8), 0),
        "m.lora_B.weight": normal((8, 4), 1),
        "m.lora_B.bias": torch.ones(8),
    }
    with LoraFile(samples.save(tmp_path / "x.safetensors", tensors, in_header(lora_alpha=2))) as file:
        bias = next(spec for spec in file.adapters if spec.param == "bias")
        assert torch.equal(file.adapter(bias).delta(torch.zeros(8)), torch.full((8,), 0.5))


# Laws

strengths = st.floats(-4, 4, width=32)
sizes = st.integers(1, 9)


@st.composite
def placed(draw: st.DrawFn, shape: tuple[int, int]) -> Placed:
    """A LoRA or a whole difference on all of a weight (out, in), or on some of it."""
    out, width = shape
    start = draw(st.integers(0, out - 1))
    length = draw(st.integers(1, out - start))
    whole = draw(st.booleans())
    rows = out if whole else length
    transposed = whole and draw(st.booleans())
    first, half = 0 if whole else start, rows // 2
    swap = rows % 2 == 0 and not transposed and draw(st.booleans())
    order = ((first + half, half), (first, half)) if swap else ()
    seen = (width, rows) if transposed else (rows, width)
    target = Target("k", seen, start=None if whole else start, order=order, transposed=transposed)
    seed = draw(st.integers(0, 2**16))
    if draw(st.booleans()):
        return Placed(FullDifference(normal(seen, seed)), target, draw(strengths))
    rank = draw(st.integers(1, 4))
    adapter = LoRA(normal((seen[0], rank), seed), normal((rank, seen[1]), seed + 1), None, draw(st.floats(-2, 2)))
    return Placed(adapter, target, draw(strengths))


@st.composite
def stacks(draw: st.DrawFn) -> tuple[Tensor, list[Placed]]:
    shape = (draw(sizes), draw(sizes))
    return normal(shape, draw(st.integers(0, 2**16))), draw(st.lists(placed(shape), min_size=1, max_size=6))


def added(weight: Tensor, one: Placed) -> Tensor:
    """What one adapter adds to `weight`, in fp64, by arithmetic of row numbers."""
    target, rows = one.target, torch.arange(weight.shape[0])
    delta = one.adapter.diff.double() if isinstance(one.adapter, FullDifference) else dense(one.adapter, target.shape)
    if target.transposed:
        delta = delta.t()
    start = target.start or 0
    touched = rows[start : start + delta.shape[0]]
    if target.order:
        half = len(touched) // 2
        touched = torch.tensor([*touched[half:].tolist(), *touched[:half].tolist()])
    result = torch.zeros_like(weight, dtype=torch.float64)
    result[touched] = delta
    return one.strength * result


def allowed(weight: Tensor, stack: list[Placed]) -> Tensor:
    """What fp32 may be off by: every sum is one of at most `terms` numbers of at most this size together."""
    size = weight.double().abs()
    terms = 4 + len(stack)
    for one in stack:
        if isinstance(one.adapter, LoRA):
            terms += one.adapter.up.shape[1] + 2
            absolute = LoRA(one.adapter.up.abs(), one.adapter.down.abs(), None, abs(one.adapter.scale))
        else:
            absolute = FullDifference(one.adapter.diff.abs())
        size += added(weight, Placed(absolute, one.target, abs(one.strength)))
    return terms * U * size + 1e-40  # and numbers too small for fp32


@pytest.mark.case(44)
@settings(max_examples=300)
@given(stacks(), st.sampled_from(["paper", "comfyui"]))
def test_a_stack_is_the_sum_of_its_changes(given_stack: tuple[Tensor, list[Placed]], semantics: str) -> None:
    weight, stack = given_stack
    before = weight.clone()
    expected = before.double() + sum(added(weight, one) for one in stack)
    assert_within(apply_stack(weight, stack, semantics), expected, allowed(weight, stack))
    assert samples.same_bytes(weight, before)


@pytest.mark.case(44)
@given(stacks(), st.randoms())
def test_the_order_of_additive_kinds_does_not_matter(given_stack: tuple[Tensor, list[Placed]], random) -> None:
    weight, stack = given_stack
    other = stack.copy()
    random.shuffle(other)
    difference = (apply_stack(weight, stack) - apply_stack(weight, other)).double().abs()
    assert bool((difference <= 2 * allowed(weight, stack)).all())


@given(stacks())
def test_plus_a_strength_and_minus_it_is_nothing(given_stack: tuple[Tensor, list[Placed]]) -> None:
    weight, stack = given_stack
    there = apply_stack(weight, stack)
    back = apply_stack(there, [Placed(one.adapter, one.target, -one.strength) for one in reversed(stack)])
    assert bool(((back - weight).double().abs() <= 2 * allowed(weight, stack)).all())


@given(stacks(), st.floats(-2, 2, width=32))
def test_the_change_is_linear_in_the_strength(given_stack: tuple[Tensor, list[Placed]], factor: float) -> None:
    weight, stack = given_stack
    more = [Placed(one.adapter, one.target, one.strength * factor) for one in stack]
    change = apply_stack(weight, stack).double() - weight.double()
    expected = weight.double() + factor * change
    assert_within(apply_stack(weight, more), expected, allowed(weight, more) + abs(factor) * allowed(weight, stack))


@given(stacks())
def test_strength_zero_changes_no_bit(given_stack: tuple[Tensor, list[Placed]]) -> None:
    weight, stack = given_stack
    none = [Placed(one.adapter, one.target, 0.0) for one in stack]
    assert samples.same_bytes(apply_stack(weight, none), weight)


@given(stacks())
def test_the_same_stack_gives_the_same_bits(given_stack: tuple[Tensor, list[Placed]]) -> None:
    weight, stack = given_stack
    assert samples.same_bytes(apply_stack(weight, stack), apply_stack(weight, stack))


@pytest.mark.case(44)
@given(sizes, st.integers(1, 4), st.integers(1, 4), st.integers(0, 99))
def test_concatenated_factors_are_the_sum(side: int, first: int, second: int, seed: int) -> None:
    one = LoRA(normal((side, first), seed), normal((first, 7), seed + 1), None, 0.5)
    other = LoRA(normal((side, second), seed + 2), normal((second, 7), seed + 3), None, -2.0)
    ups, downs = zip(one.factors(), other.factors(), strict=True)
    joined = torch.cat(ups, dim=1) @ torch.cat(downs)
    expected = dense(one, (side, 7)) + dense(other, (side, 7))
    most = (first + second + 4) * U * (dense(one, (side, 7), torch.abs) + dense(other, (side, 7), torch.abs))
    assert_within(joined, expected, most)


@pytest.mark.parametrize("shape", [(8,), (8, 1), (8, 1, 1, 1)])
def test_a_product_fits_a_vector(shape: tuple[int, ...]) -> None:
    adapter = LoRA(normal((8, 2), 0), normal((2, 1), 1), None, 1.0)
    changed = apply_stack(torch.zeros(shape), [Placed(adapter, Target("k", shape), 1.0)])
    assert_within(changed, dense(adapter, shape), bound(adapter, shape))


def test_an_untouched_part_of_a_fused_weight_keeps_its_bits() -> None:
    weight = normal((12, 5), 0)
    target = Target("k", (4, 5), start=4)
    changed = apply_stack(weight, [Placed(LoRA(normal((4, 2), 1), normal((2, 5), 2), None, 1.0), target, 1.0)])
    assert samples.same_bytes(changed[:4], weight[:4])
    assert samples.same_bytes(changed[8:], weight[8:])
    assert bool((changed[4:8] != weight[4:8]).all())


def test_the_bounds_notice_a_lost_factor() -> None:
    """Half a scale, a transposed core or fp16 sums are far outside the bounds."""
    adapter, shape = lora("Tucker 3x3", scale=0.5), SHAPES["Tucker 3x3"][3]
    assert adapter.mid is not None
    wrong = (
        LoRA(adapter.up, adapter.down, adapter.mid, 0.25),
        LoRA(adapter.up, adapter.down, adapter.mid.transpose(0, 1), 0.5),
        LoRA(adapter.up.half(), adapter.down, adapter.mid, 0.5),
    )
    for other in wrong:
        with pytest.raises(AssertionError):
            assert_within(other.delta(torch.zeros(shape)), dense(adapter, shape), bound(adapter, shape))
    assert float(bound(adapter, shape).max() / dense(adapter, shape).abs().max()) < 1e-5
