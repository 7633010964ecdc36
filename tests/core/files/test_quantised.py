"""Quantised checkpoints: values by independent formulas, what a merge writes, and formats refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import lora_core
from lora_core.algebra.rounding import round_stochastically
from lora_core.errors import FileFormatError, LoraError, OptionError, UnknownArchError
from lora_core.files.decoded import decoded
from lora_core.files.opening import open_tensors
from lora_core.reading.checkpoint import Checkpoint
from tests import tiny
from tests.core import samples

FP8 = torch.float8_e4m3fn
KEY = "blocks.0.self_attn.q.weight"
LAYER = "blocks.0.self_attn.q"


def note(**config: Any) -> Tensor:
    return torch.tensor(list(json.dumps(config).encode()), dtype=torch.uint8)


def scaled(weight: Tensor, dtype: torch.dtype = FP8) -> tuple[Tensor, Tensor]:
    scale = weight.abs().max() / torch.finfo(dtype).max
    return (weight / scale).to(dtype), scale


def blocked(scales: Tensor) -> Tensor:
    """cuBLAS's layout, straight from its description: tiles of 128 x 4, row r at (r % 32) * 16 + (r // 32) * 4."""
    rows, columns = scales.shape
    across = -(-columns // 4)
    flat = torch.zeros(-(-rows // 128) * across * 512, dtype=scales.dtype)
    for row in range(rows):
        for column in range(columns):
            tile = (row // 128) * across + column // 4
            flat[tile * 512 + (row % 32) * 16 + (row % 128) // 32 * 4 + column % 4] = scales[row, column]
    return flat.reshape(-1, across * 4)


def read(path: Path, tensors: dict[str, Tensor], name: str = "a.weight") -> Tensor:
    save_file(tensors, path)
    with decoded(open_tensors(path)) as file:
        value = file.tensor(name)
        assert file[name].shape == tuple(value.shape)
        assert list(file) == [name]
        return value


def test_nvfp4_values(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(0, 256, (136, 40), dtype=torch.uint8, generator=generator)
    scales = torch.rand(136, 5, generator=generator).to(FP8)
    table = [0.0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6]
    expected = torch.empty(136, 80, dtype=torch.float64)
    for row in range(136):
        for column in range(80):
            byte = int(codes[row, column // 2])
            value = table[byte >> 4 if column % 2 == 0 else byte & 15]  # the high half comes first
            expected[row, column] = value * float(scales[row, column // 16]) * 0.125
    tensors = {
        "a.weight": codes, "a.weight_scale": blocked(scales.view(torch.uint8)).view(FP8),
        "a.weight_scale_2": torch.tensor(0.125), "a.comfy_quant": note(format="nvfp4"),
    }  # fmt: skip
    assert torch.equal(read(tmp_path / "x.safetensors", tensors).double(), expected)
    columns = torch.arange(80.0)
    found = read(tmp_path / "y.safetensors", tensors | {"a.pre_quant_scale": columns})
    assert torch.equal(found.double(), expected * columns.double())


def test_mxfp8_values(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    codes = torch.randn(40, 160, generator=generator).to(FP8)
    exponents = torch.randint(100, 140, (40, 5), dtype=torch.uint8, generator=generator)
    expected = codes.double() * (2.0 ** (exponents.double() - 127)).repeat_interleave(32, 1)
    for scale in (blocked(exponents), blocked(exponents).view(torch.float8_e8m0fnu)):
        tensors = {"a.weight": codes, "a.weight_scale": scale, "a.comfy_quant": note(format="mxfp8")}
        assert torch.equal(read(tmp_path / "x.safetensors", tensors).double(), expected)


@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize("shape", [(), (48, 1), (48,)])
def test_int8_values(tmp_path: Path, rotated: bool, shape: tuple[int, ...]) -> None:
    codes = torch.randint(-128, 128, (48, 32), generator=torch.Generator().manual_seed(0)).to(torch.int8)
    scale = torch.rand(shape, generator=torch.Generator().manual_seed(1)) + 0.5
    expected = codes.double() * (scale.double().reshape(-1, 1) if shape else scale.double())
    if rotated:
        four = torch.tensor([[1, 1, 1, -1], [1, 1, -1, 1], [1, -1, 1, 1], [-1, 1, 1, 1]]).double() / 2
        expected = expected @ torch.block_diag(*[torch.kron(four, four)] * 2)
    config = {"convrot": True, "convrot_groupsize": 16} if rotated else {}
    tensors = {"a.weight": codes, "a.weight_scale": scale, "a.comfy_quant": note(format="int8_tensorwise", **config)}
    torch.testing.assert_close(
        read(tmp_path / "x.safetensors", tensors).double(), expected, rtol=1e-6, atol=1e-4 if rotated else 0
    )


def test_stochastic_rounding_is_right_on_average_and_leaves_what_fits() -> None:
    for dtype in (FP8, torch.float8_e5m2):
        codes = torch.arange(256, dtype=torch.uint8).view(dtype).float()
        exact = codes[codes.isfinite()].repeat(50)
        assert torch.equal(round_stochastically(exact, dtype, 3).float(), exact)
        for value in (0.3, -0.3, 1.01, 3e-3, torch.finfo(dtype).smallest_normal / 24):
            many = torch.full((200_000,), value)
            rounded = round_stochastically(many, dtype, 5).float()
            low, high = rounded.min(), rounded.max()
            assert float(low) < value < float(high)
            spread = float(high - low)  # 5 standard errors
            assert abs(float(rounded.double().mean()) - float(many[0])) < 5 * spread / 2 / 200_000**0.5
        assert (
            round_stochastically(torch.tensor([1e9, -1e9]), dtype, 0).float().abs().tolist()
            == [torch.finfo(dtype).max] * 2
        )
    same = [round_stochastically(torch.full((99,), 0.3), FP8, seed).float() for seed in (1, 1, 2)]
    assert torch.equal(same[0], same[1]) and not torch.equal(same[0], same[2])


# Whole checkpoints

LAYOUTS = ("legacy", "current", "header", "rows")


def wan(path: Path, layout: str) -> tuple[Path, dict[str, Tensor], Path]:
    """A tiny Wan whose attention is scaled fp8, the values that it stands for, and a LoRA."""
    tensors = {key: tiny.fill(key, shape).bfloat16() for key, (_, shape) in tiny.tiny("wan21").items()}
    values, written = dict(tensors), dict(tensors)
    layers: dict[str, Any] = {}
    for key, tensor in tensors.items():
        if not key.endswith(("attn.q.weight", "attn.k.weight")):
            continue
        layer, weight = key.removesuffix(".weight"), tensor.float()
        codes, scale = scaled(weight)
        if layout == "rows":
            scale = weight.abs().amax(1, keepdim=True) / 448
            codes = (weight / scale).to(FP8)
        values[key] = codes.float() * scale
        legacy = layout == "legacy"
        written[key] = codes
        written[f"{layer}.{'scale_weight' if legacy else 'weight_scale'}"] = scale
        written[f"{layer}.{'scale_input' if legacy else 'input_scale'}"] = torch.tensor(0.5)
        layers[layer] = {"format": "float8_e4m3fn", "full_precision_matrix_mult": True}
        if layout in ("current", "rows"):
            written[f"{layer}.comfy_quant"] = note(**layers[layer])
    if layout == "legacy":
        written["scaled_fp8"] = torch.zeros(2, dtype=FP8)
    metadata = {"_quantization_metadata": json.dumps({"layers": layers})} if layout == "header" else {}
    save_file(written, path, {"format": "pt", **metadata})
    modules = {f"lora_unet_{LAYER.replace('.', '_')}": tuple(tensors[KEY].shape)}
    return path, values, tiny.make_lora(path.with_name("lora.safetensors"), modules, 2, dtype=torch.float32)


def exact(values: dict[str, Tensor], lora: Path) -> Tensor:
    parts = {name.rpartition("lora_")[2]: tensor.double() for name, tensor in samples.load(lora).items()}
    return values[KEY].double() + parts["up.weight"] @ parts["down.weight"]  # alpha is the rank


@pytest.mark.parametrize("layout", LAYOUTS)
def test_keep_gives_changed_layers_new_codes_and_leaves_the_rest(tmp_path: Path, layout: str) -> None:
    base, values, lora = wan(tmp_path / "base.safetensors", layout)
    out = tmp_path / "out.safetensors"
    report = lora_core.merge(base, [lora], out, verify=True)
    before, after = samples.load(base), samples.load(out)
    assert before.keys() == after.keys()
    scale_key = f"{LAYER}.{'scale_weight' if layout == 'legacy' else 'weight_scale'}"
    assert {name for name in before if not samples.same_bytes(before[name], after[name])} == {KEY, scale_key}
    ours = {"lora_core.merged_from", "lora_core.receipt"}
    assert set(samples.metadata_of(out)) - ours == set(samples.metadata_of(base))
    wanted, found = exact(values, lora), after[KEY].double() * after[scale_key].double()
    largest = wanted.abs().amax(1, keepdim=True) if layout == "rows" else wanted.abs().max()
    torch.testing.assert_close(
        after[scale_key].double(), (largest / 448).reshape(after[scale_key].shape), rtol=1e-5, atol=0
    )
    step = torch.maximum(wanted.abs() / 8, after[scale_key].double() * 2**-9)  # the distance of two codes
    assert bool(((found - wanted).abs() <= 1.001 * step).all())
    assert abs(float((found - wanted).mean())) < 4 * float(step.mean()) / wanted.numel() ** 0.5
    (text,) = [line for line in (*report.notes, *report.warnings) if "written change differs" in line]
    change = wanted - values[KEY].double()
    lost = float((found - wanted).norm() / change.norm())
    assert text == f"1 changed layer written as fp8: the written change differs from the exact one by {lost:.0%}"
    again = tmp_path / "again.safetensors"
    lora_core.merge(base, [lora], again)
    assert again.read_bytes() == out.read_bytes()
    assert lora_core.inspect(base).notes[-1].endswith("weights are stored as float8_e4m3fn")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32", "fp8_e4m3fn"])
def test_other_formats_are_plain_checkpoints(tmp_path: Path, layout: str, dtype: Any) -> None:
    base, values, lora = wan(tmp_path / "base.safetensors", layout)
    out = tmp_path / "out.safetensors"
    lora_core.merge(base, [lora], out, dtype=dtype)
    plain = samples.save(tmp_path / "plain.safetensors", values)
    expected = tmp_path / "expected.safetensors"
    lora_core.merge(plain, [lora], expected, dtype=dtype)
    found, wanted = samples.load(out), samples.load(expected)
    assert found.keys() == wanted.keys() == values.keys()
    assert [name for name in found if not samples.same_bytes(found[name], wanted[name])] == []
    assert "_quantization_metadata" not in samples.metadata_of(out)


@pytest.mark.parametrize("layout", [*LAYOUTS, "none"])
def test_scaled_fp8_in_the_current_layout(tmp_path: Path, layout: str) -> None:
    base, values, lora = wan(tmp_path / "base.safetensors", layout if layout != "none" else "legacy")
    if layout == "none":
        samples.save(base, values)
    out = tmp_path / "out.safetensors"
    lora_core.merge(base, [lora], out, dtype="fp8_e4m3fn_scaled")
    before, after = samples.load(base), samples.load(out)
    matrices = {
        key for key, value in values.items() if value.dim() == 2 and key.endswith(".weight") and "embed" not in key
    }
    assert {key.removesuffix(".comfy_quant") + ".weight" for key in after if key.endswith("comfy_quant")} == matrices
    assert not {key for key in after if key.endswith(("scale_weight", "scale_input", "scaled_fp8"))}
    for key in values:
        if key not in matrices:
            assert samples.same_bytes(after[key], values[key])
            continue
        layer = key.removesuffix(".weight")
        config = json.loads(bytes(after[f"{layer}.comfy_quant"].tolist()))
        assert config["format"] == "float8_e4m3fn"
        found = after[key].double() * after[f"{layer}.weight_scale"].double()
        if layout != "none" and before[key].dtype == FP8:
            assert config.get("full_precision_matrix_mult") is True
            assert float(after[f"{layer}.input_scale"]) == 0.5
            if key != KEY:
                assert samples.same_bytes(after[key], before[key])
        wanted = exact(values, lora) if key == KEY else values[key].double()
        assert float((found - wanted).norm() / wanted.norm()) < 0.07
    with Checkpoint(out) as checkpoint:
        assert checkpoint.codings == {"float8_e4m3fn": len(matrices)}


def test_formats_that_are_only_read_are_not_written(tmp_path: Path) -> None:
    base, values, lora = wan(tmp_path / "base.safetensors", "current")
    weight = values[KEY].float()
    scale = weight.abs().max() / 127
    tensors = samples.load(base) | {
        KEY: (weight / scale).round().to(torch.int8), f"{LAYER}.weight_scale": scale,
        f"{LAYER}.comfy_quant": note(format="int8_tensorwise"),
    }  # fmt: skip
    samples.save(base, tensors)
    out = tmp_path / "out.safetensors"
    text = samples.message(OptionError, lambda: lora_core.merge(base, [lora], out))
    assert text == (
        f"base.safetensors: {KEY!r} is stored as int8_tensorwise, which this version can read but not write; "
        "choose dtype bf16 or fp16."
    )
    assert samples.listing(tmp_path) == ["base.safetensors", "lora.safetensors"]
    lora_core.merge(base, [lora], out, dtype="fp32")
    expected = exact({KEY: tensors[KEY].float() * scale}, lora)
    torch.testing.assert_close(samples.load(out)[KEY].double(), expected, rtol=1e-5, atol=1e-6)
    elsewhere = {f"lora_unet_{LAYER.replace('.q', '.o').replace('.', '_')}": tuple(values[KEY].shape)}
    other = tiny.make_lora(tmp_path / "other.safetensors", elsewhere, 2)
    lora_core.merge(base, [other], out, overwrite=True)  # nothing quantised changes
    assert samples.same_bytes(samples.load(out)[KEY], tensors[KEY])


def test_extraction_reads_values_and_warns_of_the_noise(tmp_path: Path) -> None:
    base, values, lora = wan(tmp_path / "base.safetensors", "legacy")
    tuned = tmp_path / "tuned.safetensors"
    lora_core.merge(base, [lora], tuned, dtype="fp32")
    report = lora_core.extract(base, tuned, tmp_path / "found.safetensors", rank=2, dtype="fp32")
    assert [layer["name"] for layer in report.layers] == [f"lora_unet_{LAYER.replace('.', '_')}"]
    assert report.layers[0]["norm"] == pytest.approx(float((exact(values, lora) - values[KEY]).norm()), rel=1e-3)
    (warning,) = report.warnings
    assert warning.startswith("base.safetensors: ") and "stored as float8_e4m3fn and not so in tuned" in warning


def foreign(name: str) -> dict[str, Tensor]:
    return {name: torch.ones(1), KEY: torch.ones(2, 2)}


def with_format(**config: Any) -> dict[str, Tensor]:
    return {
        KEY: torch.ones(2, 2).to(FP8),
        f"{LAYER}.weight_scale": torch.ones(()),
        f"{LAYER}.comfy_quant": note(**config),
    }


BROKEN: dict[str, tuple[dict[str, Tensor], type[LoraError], str]] = {
    "nf4": (foreign(f"{KEY}.quant_state.bitsandbytes__nf4"), UnknownArchError, "is quantised by bitsandbytes NF4 ("),
    "absmax": (foreign(f"{KEY}.absmax"), UnknownArchError, "is quantised by bitsandbytes 4-bit or 8-bit ("),
    "quant_map": (foreign(f"{KEY}.quant_map"), UnknownArchError, "is quantised by bitsandbytes 4-bit or 8-bit ("),
    "int8": (foreign(f"{LAYER}.SCB"), UnknownArchError, "is quantised by bitsandbytes int8 ("),
    "gptq": (foreign(f"{LAYER}.g_idx"), UnknownArchError, "is quantised by GPTQ ("),
    "awq": (foreign(f"{LAYER}.qzeros"), UnknownArchError, "is quantised by GPTQ or AWQ ("),
    "nunchaku": (foreign(f"{LAYER}.wscales"), UnknownArchError, "is quantised by SVDQuant (Nunchaku) ("),
    "deepseek": (foreign(f"{LAYER}.weight_scale_inv"), UnknownArchError, "is quantised by block-scaled fp8 (Deep"),
    "w4a4": (with_format(format="convrot_w4a4"), UnknownArchError, f"{KEY!r} is quantised as 'convrot_w4a4', which "),
    "w4a8": (with_format(format="asym_w4a8_int8"), UnknownArchError, f"{KEY!r} is quantised as 'asym_w4a8_int8', whi"),
    "new": (with_format(format="q9000"), UnknownArchError, f"{KEY!r} is quantised as 'q9000', which this"),
    "no JSON": (with_format() | {f"{LAYER}.comfy_quant": torch.ones(3, dtype=torch.uint8)}, FileFormatError, "'"),
    "no object": (with_format() | {f"{LAYER}.comfy_quant": torch.tensor([49], dtype=torch.uint8)}, FileFormatError,
                  f"'{LAYER}.comfy_quant' should be a JSON object."),
    "huge note": (with_format() | {f"{LAYER}.comfy_quant": torch.ones(2**17, dtype=torch.uint8)}, FileFormatError,
                  f"'{LAYER}.comfy_quant' should be JSON of at most 65536 bytes."),
    "no weight": ({f"{LAYER}.comfy_quant": note(format="nvfp4")}, FileFormatError, f"{LAYER!r} is said to be quan"),
    "no scale": (with_format(format="mxfp8") | {f"{LAYER}.weight_scale": None}, FileFormatError, f"{KEY!r} does not"),
    "no codes": (with_format(format="nvfp4"), FileFormatError, f"{KEY!r} does not hold nvfp4: found F8_E4M3 [2, 2]"),
    "two spellings": (with_format(format="float8_e4m3fn") | {f"{LAYER}.scale_weight": torch.ones(())}, FileFormatError,
                      f"{LAYER!r} has two spellings of weight_scale."),
    "stray": ({KEY: torch.ones(2, 2), f"{LAYER}.scale_weight": torch.ones(())}, UnknownArchError,
              f"'{LAYER}.scale_weight' is the scale of a quantised weight, but {KEY!r} holds F32, which is no format"),
}  # fmt: skip


@pytest.mark.case(15)
@pytest.mark.parametrize("kind", BROKEN)
def test_what_can_not_be_read_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    tensors, error, expected = BROKEN[kind]
    bad = tmp_path / "bad.safetensors"
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, bad)
    text = samples.message(error, lambda: Checkpoint(bad))
    assert text.startswith(f"bad.safetensors: {expected}"), text
    if error is UnknownArchError:
        assert text.endswith("; use the fp16, bf16 or fp8 version of the model.")
    lora = tiny.make_lora(tmp_path / "lora.safetensors", {"lora_unet_x": (4, 4)}, 2)
    assert samples.message(error, lambda: lora_core.merge(bad, [lora], tmp_path / "out.safetensors")) == text
    assert samples.listing(tmp_path) == ["bad.safetensors", "lora.safetensors"]


@pytest.mark.parametrize(
    "parts",
    [
        {"a.weight": torch.ones(4, 4).to(FP8), "a.weight_scale": torch.ones(3)},
        {"a.weight": torch.ones(32, 64).to(FP8), "a.weight_scale": torch.ones(5, dtype=torch.uint8), "f": "mxfp8"},
        {"a.weight": torch.ones(4, 8).char(), "a.weight_scale": torch.ones(()), "f": "int8_tensorwise", "rotated": 1},
    ],
)
def test_scales_that_do_not_fit_are_noticed(tmp_path: Path, parts: dict[str, Any]) -> None:
    name, rotated = parts.get("f", "float8_e4m3fn"), {"convrot": True} if "rotated" in parts else {}
    tensors = {key: value for key, value in parts.items() if key.startswith("a.")}
    action = lambda: read(tmp_path / "x.safetensors", tensors | {"a.comfy_quant": note(format=name, **rotated)})  # noqa: E731
    text = samples.message(FileFormatError, action)
    assert text.startswith(f"x.safetensors: 'a.weight' ({name}): ")
    assert text.endswith("; the file is damaged.")
