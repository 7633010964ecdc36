"""Merging: every weight is what fp64 says within one rounding, everything else is the input byte for byte."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import lora_core
from lora_core.errors import (
    FileChangedError,
    NothingMatchedError,
    OptionError,
    OutputError,
    UnknownArchError,
    UnmatchedError,
)
from tests import tiny
from tests.core import samples

U = 2.0**-24
RANK = 4
PREFIX = {"flux": "model.diffusion_model.", "sd3": "model.diffusion_model.", "wan21": ""}
FLOATS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16, "fp8_e4m3fn": torch.float8_e4m3fn}

Rows = slice


class Change:
    """What the LoRAs of a stack add to one weight: the sum in fp64, and the same sum of absolute values."""

    def __init__(self, weight: Tensor) -> None:
        self.sum = weight.double()
        self.absolute = weight.double().abs()
        self.terms = 4

    def add(self, parts: Mapping[str, Tensor], module: str, strength: float, rows: Rows = slice(None)) -> Change:
        up, down = (parts[f"{module}.{name}.weight"].double() for name in names_of(parts, module))
        scale = float(parts[f"{module}.alpha"]) / down.shape[0] if f"{module}.alpha" in parts else 1.0
        shape = self.sum[rows].shape
        self.sum[rows] += (strength * scale * (up.flatten(1) @ down.flatten(1))).reshape(shape)
        self.absolute[rows] += abs(strength * scale) * (up.flatten(1).abs() @ down.flatten(1).abs()).reshape(shape)
        self.terms += down.shape[0] + 3
        return self


def names_of(parts: Mapping[str, Tensor], module: str) -> tuple[str, str]:
    return ("lora_B", "lora_A") if f"{module}.lora_A.weight" in parts else ("lora_up", "lora_down")


def assert_one_rounding(found: Tensor, change: Change, dtype: torch.dtype) -> None:
    """`found` is the fp64 sum within half a step of `dtype`, and what fp32 sums may be off by."""
    assert found.dtype == dtype
    limits = torch.finfo(dtype)
    size = change.sum.abs().clamp_min(limits.smallest_normal)
    most = size * limits.eps / 2 + change.terms * U * change.absolute
    error = (found.double() - change.sum).abs()
    assert bool((error <= most).all()), f"off by {float((error / most).max()):.2f} of one rounding"


def expected_changes(
    base: Mapping[str, Tensor], stack: list[tuple[Mapping[str, Tensor], dict[str, str], float]]
) -> dict[str, Change]:
    """{key: Change} from [(a LoRA's tensors, {its module: key}, strength)]."""
    changes: dict[str, Change] = {}
    for parts, keys, strength in stack:
        for module, key in keys.items():
            changes.setdefault(key, Change(base[key])).add(parts, module, strength)
    return changes


def assert_merged(out: Path, base: Mapping[str, Tensor], changes: Mapping[str, Change]) -> None:
    merged = samples.load(out)
    assert list(merged) == list(base)
    for key, before in base.items():
        if key in changes:
            assert_one_rounding(merged[key], changes[key], before.dtype)
            assert not torch.equal(merged[key].float(), before.float()), key
        else:
            assert samples.same_bytes(merged[key], before), key


def kohya_lora(path: Path, model: str, seed: int, **options: Any) -> dict[str, str]:
    """Writes a LoRA for a tiny model, all its matrices; returns {module: key}."""
    modules = tiny.modules(model)
    tiny.make_lora(path, tiny.flat("lora_unet_", modules), RANK, seed=seed, **options)
    return {f"lora_unet_{name.replace('.', '_')}": f"{PREFIX[model]}{name}.weight" for name in modules}


def peft_lora(path: Path, model: str, seed: int) -> dict[str, str]:
    modules = {f"diffusion_model.{name}": shape for name, shape in tiny.modules(model).items() if "attn" in name}
    tiny.make_lora(path, modules, 2, style="peft", seed=seed)
    return {name: f"{PREFIX[model]}{name.removeprefix('diffusion_model.')}.weight" for name in modules}


# Against fp64


@pytest.mark.parametrize(
    ("model", "dtype"),
    [
        *(("flux", dtype) for dtype in (None, *FLOATS.values())),
        ("sd3", None),
        ("wan21", None),
        ("wan21", torch.float32),
    ],
    ids=str,
)
def test_two_loras_with_their_strengths(tmp_path: Path, model: str, dtype: torch.dtype | None) -> None:
    base = tiny.make_tiny(model, tmp_path / "base.safetensors", dtype=dtype)
    first = kohya_lora(tmp_path / "first.safetensors", model, 1, alpha=2.0)
    second = peft_lora(tmp_path / "second.safetensors", model, 2)
    loras = [(tmp_path / "first.safetensors", 0.8), (tmp_path / "second.safetensors", -0.5)]
    report = lora_core.merge(base, loras, tmp_path / "out.safetensors", verify=True)
    assert [lora.modules_matched for lora in report.loras] == [len(first), len(second)]
    assert report.warnings == []
    tensors = samples.load(base)
    stack = [
        (samples.load(tmp_path / "first.safetensors"), first, 0.8),
        (samples.load(tmp_path / "second.safetensors"), second, -0.5),
    ]
    changes = expected_changes(tensors, stack)
    assert 5 < len(changes) < len(tensors)
    assert_merged(tmp_path / "out.safetensors", tensors, changes)


@pytest.mark.parametrize("dtype", FLOATS)
def test_another_number_format_is_one_rounding_too(tmp_path: Path, dtype: str) -> None:
    base = tiny.make_tiny("wan21", tmp_path / "base.safetensors", dtype=torch.float32)
    keys = kohya_lora(tmp_path / "lora.safetensors", "wan21", 1)
    lora_core.merge(base, [tmp_path / "lora.safetensors"], tmp_path / "out.safetensors", dtype=dtype)
    tensors, merged = samples.load(base), samples.load(tmp_path / "out.safetensors")
    changes = expected_changes(tensors, [(samples.load(tmp_path / "lora.safetensors"), keys, 1.0)])
    for key, before in tensors.items():
        layer = key.endswith(".weight") and before.dim() > 1 and "embedding" not in key
        stays = dtype == "fp8_e4m3fn" and not layer  # vectors, tables and bare parameters keep their format
        written = before.dtype if stays else FLOATS[dtype]
        if key in changes:
            assert_one_rounding(merged[key], changes[key], written)
        else:
            assert samples.same_bytes(merged[key], before.to(written))


def test_split_names_change_their_rows_of_a_fused_weight(tmp_path: Path) -> None:
    base = tiny.make_tiny("flux", tmp_path / "base.safetensors", dtype=torch.float32)
    rows = {  # diffusers' name: key, rows; hand-written
        "transformer_blocks.0.attn.to_q": ("double_blocks.0.img_attn.qkv", slice(0, 128)),
        "transformer_blocks.0.attn.to_k": ("double_blocks.0.img_attn.qkv", slice(128, 256)),
        "transformer_blocks.0.attn.to_v": ("double_blocks.0.img_attn.qkv", slice(256, 384)),
        "transformer_blocks.0.attn.add_v_proj": ("double_blocks.0.txt_attn.qkv", slice(256, 384)),
        "single_transformer_blocks.0.attn.to_k": ("single_blocks.0.linear1", slice(128, 256)),
        "single_transformer_blocks.0.proj_mlp": ("single_blocks.0.linear1", slice(384, 896)),
        "single_transformer_blocks.0.proj_out": ("single_blocks.0.linear2", slice(None)),
    }
    tensors = samples.load(base)
    keys = {f"transformer.{name}": f"{PREFIX['flux']}{module}.weight" for name, (module, _) in rows.items()}
    shapes = {name: tuple(tensors[key][rows[name.removeprefix("transformer.")][1]].shape) for name, key in keys.items()}
    tiny.make_lora(tmp_path / "lora.safetensors", shapes, RANK, style="peft", dtype=torch.float32)
    lora_core.merge(base, [tmp_path / "lora.safetensors"], tmp_path / "out.safetensors")
    parts = samples.load(tmp_path / "lora.safetensors")
    changes: dict[str, Change] = {}
    for name, key in keys.items():
        span = rows[name.removeprefix("transformer.")][1]
        changes.setdefault(key, Change(tensors[key])).add(parts, name, 1.0, span)
    assert_merged(tmp_path / "out.safetensors", tensors, changes)
    merged = samples.load(tmp_path / "out.safetensors")
    untouched = f"{PREFIX['flux']}double_blocks.0.txt_attn.qkv.weight"
    assert torch.equal(merged[untouched][:256], tensors[untouched][:256])


@pytest.fixture(scope="module")
def sd15(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, str]]:
    """A piece of SD 1.5 with its text encoder, a LoRA for both, and {module: key}."""
    folder = tmp_path_factory.mktemp("sd15")
    block, layer = "input_blocks.1.1.transformer_blocks.0.", "text_model.encoder.layers.0."
    unet = {
        "input_blocks.1.0.in_layers.2": ("down_blocks_0_resnets_0_conv1", (320, 320, 3, 3)),
        "input_blocks.1.1.proj_in": ("down_blocks_0_attentions_0_proj_in", (320, 320, 1, 1)),
        f"{block}attn1.to_q": ("down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q", (320, 320)),
        f"{block}attn2.to_k": ("down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k", (320, 768)),
    }
    encoder = {f"{layer}self_attn.q_proj": (768, 768), f"{layer}mlp.fc1": (3072, 768)}
    keys = {f"lora_unet_{other}": f"model.diffusion_model.{name}.weight" for name, (other, _) in unet.items()}
    keys |= {f"lora_te_{name.replace('.', '_')}": f"cond_stage_model.transformer.{name}.weight" for name in encoder}
    shapes = {f"lora_unet_{other}": shape for other, shape in unet.values()}
    shapes |= {f"lora_te_{name.replace('.', '_')}": shape for name, shape in encoder.items()}
    tensors = {key: tiny.fill(key, shapes[module]).half() for module, key in keys.items()}
    tensors["model.diffusion_model.input_blocks.0.0.weight"] = tiny.fill("in", (320, 4, 3, 3)).half()
    tensors["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(77)[None]
    tensors["first_stage_model.decoder.conv_in.weight"] = tiny.fill("vae", (8, 4, 3, 3))
    tensors["v_pred"] = torch.empty(0)
    samples.save(folder / "base.safetensors", tensors, BASE_METADATA)
    tiny.make_lora(folder / "lora.safetensors", shapes, RANK, alpha=3.0)
    return folder / "base.safetensors", folder / "lora.safetensors", keys


BASE_METADATA = {
    "format": "pt",
    "modelspec.title": "Ünïcode \u2028 title",
    "modelspec.hash_sha256": "0xabc",
    "sshs_model_hash": "abc",
    "sshs_legacy_hash": "abc",
    "license": "mine",
}


@pytest.mark.parametrize("strengths", [(0.7,), (1.0, 0.25), (0.5, -1.0), (0.0, 2.0), (2.0, 0.0)])
def test_model_and_text_encoder_have_their_own_strength(
    sd15: tuple[Path, Path, dict[str, str]], tmp_path: Path, strengths: tuple[float, ...]
) -> None:
    base, lora, keys = sd15
    report = lora_core.merge(base, [(lora, *strengths)], tmp_path / "out.safetensors")
    tensors, parts = samples.load(base), samples.load(lora)
    changes: dict[str, Change] = {}
    for module, key in keys.items():
        strength = strengths[0] if module.startswith("lora_unet_") else strengths[-1]
        if strength:
            changes[key] = Change(tensors[key]).add(parts, module, strength)
    assert_merged(tmp_path / "out.safetensors", tensors, changes)
    assert (report.loras[0].strength_model, report.loras[0].strength_clip) == (strengths[0], strengths[-1])
    assert report.loras[0].modules_matched == len(keys)


@pytest.mark.parametrize("semantics", ["paper", "comfyui"])
def test_an_alpha_in_the_header_counts_unless_comfyui_is_asked_for(tmp_path: Path, semantics: str) -> None:
    base = tiny.make_tiny("wan21", tmp_path / "base.safetensors")
    modules = {f"diffusion_model.{name}": shape for name, shape in tiny.modules("wan21").items()}
    metadata = {"lora_adapter_metadata": json.dumps({"diffusion_model.lora_alpha": RANK * 0.25})}
    lora = tiny.make_lora(tmp_path / "lora.safetensors", modules, RANK, style="peft", metadata=metadata)
    lora_core.merge(base, [lora], tmp_path / "out.safetensors", semantics=semantics)
    tensors, parts = samples.load(base), samples.load(lora)
    strength = 0.25 if semantics == "paper" else 1.0
    changes = {
        f"{name.removeprefix('diffusion_model.')}.weight": Change(
            tensors[f"{name.removeprefix('diffusion_model.')}.weight"]
        ).add(parts, name, strength)
        for name in modules
    }
    assert_merged(tmp_path / "out.safetensors", tensors, changes)


def test_values_beyond_the_format_are_clamped_and_counted(tmp_path: Path) -> None:
    base = tiny.make_tiny("wan21", tmp_path / "base.safetensors", dtype=torch.float32)
    key = "blocks.0.self_attn.q.weight"
    tensors = samples.load(base)
    tensors[key][0, :3] = torch.tensor([1e6, -1e6, 500.0])
    samples.save(base, tensors)
    kohya_lora(tmp_path / "lora.safetensors", "wan21", 0)
    lora = [(tmp_path / "lora.safetensors", 0.001)]
    report = lora_core.merge(base, lora, tmp_path / "half.safetensors", dtype="fp16")
    assert samples.load(tmp_path / "half.safetensors")[key][0, :3].tolist() == [65504, -65504, 500]
    text = " values were beyond the range of the written number format and were clamped."
    assert report.warnings[0] == "2" + text
    assert report.warnings[1].startswith("17 changed layers written as fp16: the written change differs")
    report = lora_core.merge(base, lora, tmp_path / "fp8.safetensors", dtype="fp8_e4m3fn")
    assert samples.load(tmp_path / "fp8.safetensors")[key][0, :3].float().tolist() == [448, -448, 448]
    lost = "written as fp8: the written change differs from the exact one by "  # it is a thousandth of the weights
    assert report.warnings[0] == "3" + text
    assert lost in report.warnings[1]
    assert len(report.warnings) == 2
    report = lora_core.merge(base, lora, tmp_path / "bf16.safetensors", dtype="bf16")
    assert not [warning for warning in report.warnings if text in warning]


# What no LoRA touches


def test_what_changes_no_weight_is_told(tmp_path: Path) -> None:
    """A module of zeros, and one whose change is smaller than half a step of bf16."""
    base = tiny.make_tiny("flux", tmp_path / "flux.safetensors", dtype=torch.bfloat16)
    dead, small = "lora_unet_double_blocks_0_img_attn_proj", "lora_unet_double_blocks_0_txt_attn_proj"
    biased = "lora_unet_double_blocks_0_img_attn_qkv"
    tensors = {
        f"{dead}.lora_up.weight": torch.zeros(128, 2), f"{dead}.lora_down.weight": torch.ones(2, 128),
        f"{small}.lora_up.weight": torch.full((128, 1), 1e-12), f"{small}.lora_down.weight": torch.ones(1, 128),
        # its weight stays, its bias does not
        f"{biased}.lora_up.weight": torch.zeros(384, 1), f"{biased}.lora_down.weight": torch.ones(1, 128),
        f"{biased}.diff_b": torch.ones(384),
    }  # fmt: skip
    lora = samples.save(tmp_path / "lora.safetensors", tensors)
    report = lora_core.merge(base, [lora], tmp_path / "out.safetensors")
    assert (report.loras[0].modules_matched, report.loras[0].without_effect) == (3, [dead])
    assert report.warnings == [
        "1 weight not changed, because the change is below the steps of the number format: "
        "model.diffusion_model.double_blocks.0.txt_attn.proj.weight; a dtype with more digits keeps it."
    ]
    assert f"1 module without effect, all zero: {dead}" in report.text()
    report = lora_core.merge(base, [lora], tmp_path / "exact.safetensors", dtype="fp32")
    assert report.warnings == []


def test_markers_metadata_and_whole_numbers_pass_through(
    sd15: tuple[Path, Path, dict[str, str]], tmp_path: Path
) -> None:
    base, lora, _ = sd15
    for dtype in ("keep", "bf16", "fp8_e4m3fn"):
        out = tmp_path / f"{dtype}.safetensors"
        lora_core.merge(base, [lora], out, dtype=dtype)
        before, after = samples.load(base), samples.load(out)
        assert samples.same_bytes(after["v_pred"], before["v_pred"])
        ids = "cond_stage_model.transformer.text_model.embeddings.position_ids"
        assert samples.same_bytes(after[ids], before[ids])
        metadata = samples.metadata_of(out)
        assert json.loads(metadata.pop("lora_core.receipt"))["operation"] == "merge"
        merged_from = json.loads(metadata.pop("lora_core.merged_from"))
        assert merged_from == {
            "loras": [{"name": "lora.safetensors", "strength_model": 1.0, "strength_clip": 1.0}],
            "semantics": "paper",
        }
        stale = {"modelspec.hash_sha256", "sshs_model_hash", "sshs_legacy_hash"}
        assert metadata == {key: value for key, value in BASE_METADATA.items() if key not in stale}
        assert str(tmp_path) not in out.read_bytes()[:100_000].decode("utf-8", "replace")


def test_strength_zero_changes_no_bit(sd15: tuple[Path, Path, dict[str, str]], tmp_path: Path) -> None:
    base, lora, _ = sd15
    odd = samples.load(base)
    key = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"
    odd[key].view(torch.int16)[0, :4] = torch.tensor([-1, 0x7E01, -0x8000, 1], dtype=torch.int16)  # NaNs, -0, tiny
    base = samples.save(tmp_path / "base.safetensors", odd)
    double = samples.save(
        tmp_path / "double.safetensors", {k: v.double() / 3 for k, v in odd.items() if v.is_floating_point()}
    )
    for path in (base, double):
        out = tmp_path / "out.safetensors"
        lora_core.merge(path, [(lora, 0), (lora, 0.0, 0.0)], out, overwrite=True)
        before, after = samples.load(path), samples.load(out)
        assert all(samples.same_bytes(after[name], value) for name, value in before.items())


@pytest.mark.case(40)
def test_the_same_merge_gives_the_same_bytes(sd15: tuple[Path, Path, dict[str, str]], tmp_path: Path) -> None:
    base, lora, _ = sd15
    outs = [tmp_path / f"{number}.safetensors" for number in range(2)]
    for out in outs:
        lora_core.merge(base, [(lora, 0.3), (lora, -0.7, 1.3)], out)
    assert outs[0].read_bytes() == outs[1].read_bytes()


def test_the_input_is_left_as_it_is(sd15: tuple[Path, Path, dict[str, str]], tmp_path: Path) -> None:
    before = [path.read_bytes() for path in sd15[:2]]
    lora_core.merge(sd15[0], [sd15[1]], tmp_path / "out.safetensors")
    assert [path.read_bytes() for path in sd15[:2]] == before


# One result, whoever asks


def test_library_command_line_and_workflow_write_the_same_bytes(
    sd15: tuple[Path, Path, dict[str, str]], tmp_path: Path
) -> None:
    base, lora, _ = sd15
    for folder, source in (("checkpoints", base), ("loras", lora)):
        (tmp_path / "models" / folder).mkdir(parents=True)
        (tmp_path / "models" / folder / source.name).hardlink_to(source)
    expected = tmp_path / "library.safetensors"
    lora_core.merge(base, [(lora, 0.6, -0.4)], expected, dtype="bf16")
    out = tmp_path / "cli.safetensors"
    done = samples.python(
        *("-m", "lora_core", "merge", "--base", str(base), "--lora", str(lora), "0.6", "-0.4"),
        *("--out", str(out), "--dtype", "bf16", "--verify"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    row = {"on": True, "name": lora.name, "strength": 0.6, "strength_clip": -0.4, "blocks": "", "hash": "", "size": 0}
    rows = {"v": 1, "rows": [row, row | {"on": False}]}
    values = ["base.safetensors", "merged", "bf16", "paper", "warn", False]
    api = {
        "1": {"class_type": "LoraCoreStack", "inputs": {"rows": rows}},
        "2": {
            "class_type": "LoraCoreMerge",
            "inputs": dict(zip(("checkpoint", "filename_prefix", "dtype", "semantics", "on_unmatched", "verify"),
                               values, strict=True)) | {"lora_stack": ["1", 0]},
        },
    }  # fmt: skip
    editor = {
        "nodes": [
            {"id": 1, "type": "LoraCoreStack", "mode": 0, "inputs": [], "widgets_values": [rows]},
            {
                "id": 2, "type": "LoraCoreMerge", "mode": 0, "widgets_values": values,
                "inputs": [{"name": "lora_stack", "type": "LORA_STACK", "link": 5}],
            },
        ],
        "links": [[5, 1, 0, 2, 0, "LORA_STACK"]],
    }  # fmt: skip
    written = [out]
    for name, workflow in (("api", api), ("editor", editor)):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(workflow))
        (tmp_path / name).mkdir()
        (report,) = lora_core.run(path, models=tmp_path / "models", output=tmp_path / name)
        assert report.outputs[0]["name"] == "merged_00001_.safetensors"
        written.append(tmp_path / name / "merged_00001_.safetensors")
    assert [path.read_bytes() == expected.read_bytes() for path in written] == [True] * 3


# Progress, cancel, change


def test_progress_counts_every_byte(sd15: tuple[Path, Path, dict[str, str]], tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    out = tmp_path / "out.safetensors"
    lora_core.merge(sd15[0], [sd15[1]], out, on_step=lambda done, total: steps.append((done, total)))
    total = sum(value.numel() * value.element_size() for value in samples.load(out).values())
    assert steps[0] == (0, total)
    assert steps[-1] == (total, total)
    assert steps == sorted(steps)


class Cancelled(BaseException):
    """As ComfyUI's own, which no `except Exception` sees."""


@pytest.mark.parametrize("error", [Cancelled, KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("share", [0, 0.01, 0.5, 1])  # of the bytes; how often one is told depends on the machine
def test_a_cancelled_merge_leaves_nothing(
    sd15: tuple[Path, Path, dict[str, str]], tmp_path: Path, share: float, error: type[BaseException]
) -> None:
    def cancel(done: int, total: int) -> None:
        if done >= share * total:
            assert len(samples.partials(tmp_path)) == 1
            raise error

    with pytest.raises(error):
        lora_core.merge(sd15[0], [sd15[1]], tmp_path / "out.safetensors", on_step=cancel)
    assert samples.listing(tmp_path) == []


@pytest.mark.case(17)
@pytest.mark.parametrize("which", [0, 1])
def test_an_input_that_changes_meanwhile_is_noticed(
    sd15: tuple[Path, Path, dict[str, str]], tmp_path: Path, which: int
) -> None:
    inputs = [tmp_path / path.name for path in sd15[:2]]
    for copy, path in zip(inputs, sd15[:2], strict=True):
        copy.write_bytes(path.read_bytes())

    def touch(done: int, total: int) -> None:
        os.utime(inputs[which], ns=(1, 1))

    text = samples.message(
        FileChangedError, lambda: lora_core.merge(inputs[0], [inputs[1]], tmp_path / "out.safetensors", on_step=touch)
    )
    assert text == f"{inputs[which].name}: changed while it was being read; run again when it is complete."
    assert samples.listing(tmp_path) == ["base.safetensors", "lora.safetensors"]


@pytest.mark.parametrize("byte", [-1, -(320 * 768 * 2)])
def test_verify_notices_what_the_disk_changed(
    sd15: tuple[Path, Path, dict[str, str]], tmp_path: Path, byte: int
) -> None:
    out = tmp_path / "out.safetensors"

    tampered: list[Path] = []

    def tamper(done: int, total: int) -> None:
        if done == total and out not in tampered:
            tampered.append(out)
            (partial,) = tmp_path.glob(".*.partial")
            content = bytearray(partial.read_bytes())
            content[byte] ^= 1
            with partial.open("r+b") as file:
                file.write(content)

    lora_core.merge(sd15[0], [sd15[1]], out, on_step=tamper)  # unnoticed without
    out.unlink()
    tampered.clear()
    text = samples.message(OutputError, lambda: lora_core.merge(sd15[0], [sd15[1]], out, on_step=tamper, verify=True))
    assert text.startswith("out.safetensors: tensor '")
    assert text.endswith("' reads back differently; nothing was kept.")
    assert samples.listing(tmp_path) == []


# What has no place


@pytest.fixture
def partly(tmp_path: Path) -> tuple[Path, Path]:
    """A tiny Flux, and a LoRA of which two modules have no place in it and one another shape."""
    base = tiny.make_tiny("flux", tmp_path / "in" / "base.safetensors")
    block = "lora_unet_double_blocks_"
    shapes = {f"{block}0_img_attn_proj": (128, 128), f"{block}7_img_attn_proj": (128, 128),
              "lora_unet_no_such_module": (8, 8), f"{block}0_txt_attn_proj": (128, 64),
              "lora_te1_text_model_encoder_layers_0_mlp_fc1": (3072, 768)}  # fmt: skip
    return base, tiny.make_lora(tmp_path / "in" / "lora.safetensors", shapes)


PLACELESS = (
    "2 modules without a place in Flux.1 dev: lora_unet_double_blocks_7_img_attn_proj, lora_unet_no_such_module",
    "1 module of another shape than in Flux.1 dev: lora_unet_double_blocks_0_txt_attn_proj",
)


def test_warn_applies_the_rest_and_names_what_has_no_place(partly: tuple[Path, Path], tmp_path: Path) -> None:
    report = lora_core.merge(partly[0], [partly[1]], tmp_path / "out.safetensors")
    assert report.warnings == [f"lora.safetensors: {problem}." for problem in PLACELESS]
    (lora,) = report.loras
    assert (lora.modules_matched, lora.modules_total) == (1, 5)
    assert lora.elsewhere == ["lora_te1_text_model_encoder_layers_0_mlp_fc1"]
    assert lora.mismatched == [
        {"name": "lora_unet_double_blocks_0_txt_attn_proj", "expected": [128, 128], "found": [128, 64]}
    ]
    before, after = samples.load(partly[0]), samples.load(tmp_path / "out.safetensors")
    changed = [key for key, value in before.items() if not samples.same_bytes(after[key], value)]
    assert changed == ["model.diffusion_model.double_blocks.0.img_attn.proj.weight"]


def test_error_stops_and_ignore_says_nothing(partly: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    assert (
        samples.message(UnmatchedError, lambda: lora_core.merge(partly[0], [partly[1]], out, on_unmatched="error"))
        == f"lora.safetensors: {'; '.join(PLACELESS)}."
    )
    assert not out.exists()
    assert lora_core.merge(partly[0], [partly[1]], out, on_unmatched="ignore").warnings == []


def test_text_encoder_adapters_alone_belong_to_another_file(tmp_path: Path) -> None:
    base = tiny.make_tiny("flux", tmp_path / "base.safetensors")
    lora = tiny.make_lora(tmp_path / "te.safetensors", {"lora_te1_text_model_encoder_layers_0_mlp_fc1": (3072, 768)})
    assert samples.message(
        NothingMatchedError, lambda: lora_core.merge(base, [lora], tmp_path / "out.safetensors")
    ) == (
        "te.safetensors: nothing was applied: all of it (1 module) is for a model that is not given, e.g. "
        "'lora_te1_text_model_encoder_layers_0_mlp_fc1'; the checkpoint is Flux.1 dev."
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            {"dtype": "int8"},
            "dtype: expected one of keep, fp32, fp16, bf16, fp8_e4m3fn, fp8_e4m3fn_scaled; found 'int8'.",
        ),
        ({"semantics": "x"}, "semantics: expected one of paper, comfyui; found 'x'."),
        ({"on_unmatched": "x"}, "on_unmatched: expected one of warn, error, ignore; found 'x'."),
    ],
)
def test_options_are_checked(tmp_path: Path, options: dict[str, Any], expected: str) -> None:
    action = lambda: lora_core.merge("none", ["none"], tmp_path / "out.safetensors", **options)  # noqa: E731
    assert samples.message(OptionError, action) == expected


def test_an_empty_stack_is_refused(tmp_path: Path) -> None:
    base = tiny.make_tiny("wan21", tmp_path / "base.safetensors")
    assert samples.message(OptionError, lambda: lora_core.merge(base, [], tmp_path / "out.safetensors")) == (
        "merge: no LoRA given; name at least one (rows of a stack that are off do not count)."
    )


def test_weights_that_are_whole_numbers_are_refused(tmp_path: Path) -> None:
    base = tiny.make_tiny("wan21", tmp_path / "base.safetensors")
    keys = kohya_lora(tmp_path / "lora.safetensors", "wan21", 0)
    tensors = samples.load(base)
    key = sorted(keys.values())[0]
    samples.save(base, tensors | {key: (tensors[key] * 100).to(torch.int8)})
    action = lambda: lora_core.merge(base, [tmp_path / "lora.safetensors"], tmp_path / "out.safetensors")  # noqa: E731
    assert samples.message(UnknownArchError, action) == (
        f"base.safetensors: {key!r} holds whole numbers (I8), which this version can't change; "
        "use the fp16, bf16 or plain fp8 version of the model."
    )
    assert not (tmp_path / "out.safetensors").exists()


# Memory

WIDTH = 1024


def flux_of(path: Path, blocks: int) -> Path:
    """A Flux of `blocks` double blocks, 42 MB each, that takes no room on disk."""
    keys: dict[str, tuple[int, ...]] = {
        "img_in.weight": (WIDTH, 64), "vector_in.in_layer.weight": (WIDTH, 768),
        "guidance_in.in_layer.weight": (WIDTH, 256), "double_blocks.0.img_attn.norm.key_norm.scale": (128,),
    }  # fmt: skip
    for block in range(blocks):
        for stream in ("img", "txt"):
            keys[f"double_blocks.{block}.{stream}_attn.qkv.weight"] = (3 * WIDTH, WIDTH)
            keys[f"double_blocks.{block}.{stream}_mlp.0.weight"] = (4 * WIDTH, WIDTH)
            keys[f"double_blocks.{block}.{stream}_mlp.2.weight"] = (WIDTH, 4 * WIDTH)
    return tiny.sparse_file(path, tiny.with_dtype(keys, "BF16"))


@pytest.mark.case(42)
def test_memory_does_not_grow_with_the_checkpoint(tmp_path: Path) -> None:
    """Bounds: 24 MB of growth from 0.3 to 1 GB, for longer headers; 6 copies of the largest weight in fp32 above
    an idle process (the weight, its change, the sum, the rounded one, and two buffers of the allocator)."""
    idle = int(samples.python("-c", "import torch, resource; torch.ones(9) @ torch.ones(9); "
                              "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)").stdout) * 1024  # fmt: skip
    peaks = []
    for blocks in (6, 22):
        base = flux_of(tmp_path / "base.safetensors", blocks)
        assert base.stat().st_size == pytest.approx(blocks * 46.1e6, rel=0.02)
        modules = {f"lora_unet_double_blocks_{block}_img_mlp_0": (4 * WIDTH, WIDTH) for block in range(blocks)}
        lora = tiny.make_lora(tmp_path / "lora.safetensors", modules, 4)
        out = tmp_path / "out.safetensors"
        done = samples.python(
            *("-m", "lora_core", "merge", "--base", str(base), "--lora", str(lora), "--out", str(out), "--json")
        )
        out.unlink()
        report = json.loads(done.stdout)
        assert report["loras"][0]["modules_matched"] == blocks
        peaks.append(report["peak_rss_bytes"])
    assert peaks[1] - peaks[0] < 24e6, peaks
    assert peaks[1] - idle < 6 * 4 * WIDTH * WIDTH * 4, (idle, peaks)
