"""Kinds other than LoRA in a conversion: kept where they can be, else plain LoRA with the same delta, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import lora_core
from lora_core.errors import LoraError
from lora_core.reading.lorafile import LoraFile
from tests.core.operations.test_convert import FLUX_DIFFUSERS, Tensors, deltas, deviation, lora, random

OUT, IN, SPLIT = 9216, 3072, 3072  # Flux.1's fused query, key and value, and each of them
QKV, QUERY = "lora_unet_double_blocks_0_img_attn_qkv", "transformer.transformer_blocks.0.attn.to_q"


def loha(module: str, rows: int, columns: int, alpha: float = 2.0) -> Tensors:
    shapes = {"w1_a": (rows, 2), "w1_b": (2, columns), "w2_a": (rows, 2), "w2_b": (2, columns)}
    parts = {f"{module}.hada_{name}": random(*shape, seed=seed) for seed, (name, shape) in enumerate(shapes.items())}
    return {**parts, f"{module}.alpha": torch.tensor(alpha)}


def lokr(module: str, rows: int, columns: int, alpha: float = 1.0) -> Tensors:
    return {
        f"{module}.lokr_w1": random(4, 4),
        f"{module}.lokr_w2_a": random(rows // 4, 2, seed=1),
        f"{module}.lokr_w2_b": random(2, columns // 4, seed=2),
        f"{module}.alpha": torch.tensor(alpha),
    }


def dora(module: str, rows: int, columns: int) -> Tensors:
    return {**lora({module: (rows, columns)}, "kohya", 1.5), f"{module}.dora_scale": 1 + random(rows, 1, seed=5).abs()}


def convert(folder: Path, tensors: Tensors, dialect: Any, **options: Any) -> tuple[Path, Path, Any]:
    source, out = folder / "source.safetensors", folder / "out.safetensors"
    save_file(tensors, source)
    report = lora_core.convert(source, out, dialect=dialect, **{"arch": "flux1_dev", "overwrite": True, **options})
    return source, out, report


def kinds(path: Path) -> set[str]:
    with LoraFile(path) as file:
        return set(file.kinds)


# The change is compared as its product with thousands of random columns
FP32 = 1e-5
PIECES = {f"transformer.transformer_blocks.0.attn.to_{x}" for x in "qkv"}


def test_loha_is_cut_in_its_own_kind(tmp_path: Path) -> None:
    source, out, report = convert(tmp_path, loha(QKV, OUT, IN), "diffusers")
    with LoraFile(out) as file:
        assert set(file.modules) == PIECES
    assert kinds(out) == {"LoHa"}
    assert deviation(deltas(out, "flux1_dev"), deltas(source, "flux1_dev")) < FP32
    assert any("3 × LoHa: not read by diffusers and PEFT; kind lora" in warning for warning in report.warnings)


def test_lokr_that_is_cut_becomes_lora_exactly(tmp_path: Path) -> None:
    source, out, report = convert(tmp_path, lokr(QKV, OUT, IN), "diffusers")
    assert kinds(out) == {"LoRA"}
    assert deviation(deltas(out, "flux1_dev"), deltas(source, "flux1_dev")) < FP32
    assert {layer["rank"] for layer in report.layers} == {8}  # 4 of w1, times 2
    assert any("3 × LoKr became plain LoRA; largest relative error 0" in note for note in report.notes)


def test_lokr_of_whole_modules_stays_and_diffusers_reads_it(tmp_path: Path) -> None:
    source, out, report = convert(tmp_path, lokr("lora_unet_double_blocks_0_img_attn_proj", SPLIT, IN), "diffusers")
    assert kinds(out) == {"LoKr"}
    assert not [name for name in load_file(out) if name.endswith("alpha")]
    assert deviation(deltas(out, "flux1_dev"), deltas(source, "flux1_dev")) < FP32
    assert report.warnings == []


@pytest.mark.parametrize("make", [loha, lokr])
@pytest.mark.parametrize("rank", [0, 3])
def test_kind_lora(tmp_path: Path, make: Any, rank: int) -> None:
    source, out, report = convert(tmp_path, make(QUERY, SPLIT, IN), "diffusers", kind="lora", rank=rank)
    assert kinds(out) == {"LoRA"}
    (layer,) = report.layers
    found, whole = (dense(path, (SPLIT, IN)) for path in (out, source))
    error = float((found - whole).norm() / whole.norm())
    assert layer["rank"] == (rank or {loha: 4, lokr: 8}[make])
    if rank:
        assert 0.2 < layer["error"] < 1
        assert error == pytest.approx(layer["error"], rel=1e-3)
    else:
        assert layer["error"] == 0
        assert error < FP32


def dense(path: Path, shape: tuple[int, int]) -> torch.Tensor:
    """Return the change of the file's only adapter."""
    with LoraFile(path) as file:
        (spec,) = file.adapters
        return file.adapter(spec).delta(torch.zeros(shape))


FUSED = "double_blocks.0.img_attn.qkv.weight"


def test_a_rank_limits_plain_lora_too(tmp_path: Path) -> None:
    _, _, report = convert(tmp_path, lora(FLUX_DIFFUSERS, "peft"), "diffusers", kind="lora", rank=2)
    assert {layer["rank"] for layer in report.layers} == {2}
    assert 0 < min(layer["error"] for layer in report.layers) < max(layer["error"] for layer in report.layers) < 1


def test_dora_is_cut_and_joined_as_dora(tmp_path: Path) -> None:
    """The magnitudes are of single rows, which stay what they are."""
    before = dora(QKV, OUT, IN)
    _, there, _ = convert(tmp_path, before, "diffusers")
    split = load_file(there)
    assert split[f"{QUERY}.lora_magnitude_vector"].shape == (SPLIT,)
    assert kinds(there) == {"DoRA"}
    back = tmp_path / "back.safetensors"
    lora_core.convert(there, back, dialect="kohya", arch="flux1_dev")
    after = load_file(back)
    assert torch.equal(after[f"{QKV}.dora_scale"], before[f"{QKV}.dora_scale"])
    change, expected = (
        t[f"{QKV}.lora_up.weight"] @ t[f"{QKV}.lora_down.weight"] * (t[f"{QKV}.alpha"] / 3) for t in (after, before)
    )
    assert torch.allclose(change, expected, atol=1e-6)


def test_dora_becomes_lora_with_the_base_only(tmp_path: Path) -> None:
    tensors = dora(QUERY, 64, 64)
    keys = {"double_blocks.0.img_attn.norm.key_norm.scale": (16,), "img_in.weight": (64, 4),
            "vector_in.in_layer.weight": (64, 8), "guidance_in.in_layer.weight": (64, 8), FUSED: (192, 64)}  # fmt: skip
    base = tmp_path / "base.safetensors"
    save_file({key: random(*shape, seed=7) for key, shape in keys.items()}, base)
    options = {"arch": "", "base": base}
    with pytest.raises(LoraError, match=r"the change of DoRA depends on the weight.*give the checkpoint with --base"):
        convert(tmp_path, dora(QUERY, SPLIT, IN), "comfy", kind="lora")
    source, out, report = convert(tmp_path, tensors, "kohya", kind="lora", **options)
    assert kinds(out) == {"LoRA"}
    merged = [tmp_path / f"{name}_merged.safetensors" for name in ("source", "out")]
    for path, target in zip((source, out), merged, strict=True):
        lora_core.merge(base, [path], target)
    first, second = (load_file(path) for path in merged)
    assert deviation(second, first) < 1e-5
    assert report.layers[0]["rank"] <= 64


def test_differences_are_cut_and_joined_with_zeros(tmp_path: Path) -> None:
    tensors = {
        "diffusion_model.double_blocks.0.img_attn.qkv.diff_b": random(OUT),
        "diffusion_model.double_blocks.0.txt_attn.qkv.diff": random(OUT, IN, seed=1),
    }
    source, there, _ = convert(tmp_path, tensors, "diffusers")
    assert load_file(there)[f"{QUERY}.diff_b"].shape == (SPLIT,)
    back = tmp_path / "back.safetensors"
    lora_core.convert(there, back, dialect="comfy", arch="flux1_dev")
    after = load_file(back)
    assert set(after) == set(tensors)
    assert all(torch.equal(after[key], tensors[key]) for key in tensors)
    partial = {key: tensor for key, tensor in load_file(there).items() if ".to_k" in key}
    _, joined, _ = convert(tmp_path, partial, "comfy")
    bias = load_file(joined)["diffusion_model.double_blocks.0.img_attn.qkv.diff_b"]
    assert torch.equal(
        bias[SPLIT : 2 * SPLIT], tensors["diffusion_model.double_blocks.0.img_attn.qkv.diff_b"][SPLIT : 2 * SPLIT]
    )
    assert float(bias[:SPLIT].abs().max()) == 0
    assert source.exists()


def test_kinds_beside_each_other_in_a_module_stay_apart(tmp_path: Path) -> None:
    module = "lora_unet_double_blocks_0_img_attn_proj"
    tensors = {**lora({module: (SPLIT, IN)}, "kohya", 1.0), f"{module}.diff_b": random(SPLIT)}
    _, out, _ = convert(tmp_path, tensors, "diffusers")
    name = "transformer.transformer_blocks.0.attn.to_out.0"
    assert set(load_file(out)) == {f"{name}.lora_{x}" for x in ("A.weight", "B.weight", "B.bias")}
    back = tmp_path / "back.safetensors"
    lora_core.convert(out, back, dialect="kohya", arch="flux1_dev")
    assert torch.equal(load_file(back)[f"{module}.diff_b"], tensors[f"{module}.diff_b"])


def test_pieces_of_several_kinds_become_one_lora(tmp_path: Path) -> None:
    key = "transformer.transformer_blocks.0.attn.to_k"
    tensors = {**loha(QUERY, SPLIT, IN), **lora({key: (SPLIT, IN)}, "peft")}
    source, out, report = convert(tmp_path, tensors, "comfy")
    assert kinds(out) == {"LoRA"}
    assert deviation(deltas(out, "flux1_dev"), deltas(source, "flux1_dev")) < FP32
    assert set(report.layers[0]["from"]) == {QUERY, key}


def test_oft_keeps_its_constraint_and_comfyui_is_told_of_what_it_does_not_read(tmp_path: Path) -> None:
    module = "lora_unet_double_blocks_0_img_attn_proj"
    tensors = {f"{module}.oft_blocks": random(96, 32, 32), f"{module}.alpha": torch.tensor(0.01)}
    _, out, report = convert(tmp_path, tensors, "diffusers")
    name = "transformer.transformer_blocks.0.attn.to_out.0"
    written = load_file(out)
    assert torch.equal(written[f"{name}.oft_blocks"], tensors[f"{module}.oft_blocks"])
    assert torch.equal(written[f"{name}.alpha"], tensors[f"{module}.alpha"])
    assert any("1 × Diag-OFT: not read by diffusers and PEFT" in warning for warning in report.warnings)
    vector = {f"{module}.weight": random(SPLIT), f"{module}.on_input": torch.tensor(0.0)}
    _, _, report = convert(tmp_path, vector, "comfy")
    assert any("1 × IA3: not read by ComfyUI's own loader" in warning for warning in report.warnings)
