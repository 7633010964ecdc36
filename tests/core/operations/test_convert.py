"""Conversions between dialects: the same delta under other names, byte for byte where the rows are the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import lora_core
from lora_core.adapters.recast import take_rows
from lora_core.errors import LoraError
from lora_core.naming.dialects import WRITINGS
from lora_core.naming.keymap import KeyMap
from lora_core.naming.outlines import outlined, read_outline
from lora_core.reading.lorafile import LoraFile

Tensors = dict[str, torch.Tensor]
DIALECTS = list(WRITINGS)
RANK = 3


def deltas(path: Path, arch: str) -> dict[tuple[str, str], torch.Tensor]:
    """Return the change of every weight of a model, applied to two random inputs: (rows, 2), summed over adapters."""
    model = next(item for item in outlined(arch) if item.id == arch)
    found = [model, *(encoder for name in model.text_encoders for encoder in outlined(name)[:1])]
    keymap = KeyMap(*((read_outline(item.id).shapes, [item]) for item in found))
    shapes = {key: shape for item in found for key, shape in read_outline(item.id).shapes.items()}
    result: dict[tuple[str, str], torch.Tensor] = {}
    with LoraFile(path) as lora:
        assert not lora.unsupported
        for spec in lora.adapters:
            targets = keymap.find(spec.module, spec.param)
            assert targets, spec.module
            adapter = lora.adapter(spec)
            for target in targets:
                role = next(c.arch.id for c in keymap.components if target.key in c.shapes)
                whole = result.setdefault((role, target.key), torch.zeros(shapes[target.key][0], 2))
                first = target.rows[0] if target.rows else 0
                rows = target.shape[0] if target.shape else 1
                part = take_rows(adapter, [(first, rows)], target.adapter_shape[0] if target.shape else 1)
                up, down = part.factors() or (
                    part.delta(torch.zeros(target.shape)).flatten(1),
                    torch.eye(target.shape[1]),
                )
                target.put(whole, target.take(whole) + up @ (down @ random(down.shape[1], 2, seed=99)))
    return result


def deviation(got: Mapping[Any, torch.Tensor], expected: Mapping[Any, torch.Tensor]) -> float:
    assert set(got) == set(expected)
    return max(float((got[key] - expected[key]).abs().max() / expected[key].abs().max()) for key in expected)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator) / max(1, shape[-1]) ** 0.5


def coarse(*shape: int, seed: int = 0) -> torch.Tensor:
    """Return numbers that stay the same when fp16 holds them, and halved."""
    return (random(*shape, seed=seed) * 512).round() / 512


def lora(
    named: Mapping[str, tuple[int, int]], style: str, alpha: float | None = None, dtype: torch.dtype = torch.float32
) -> Tensors:
    up, down = {"kohya": ("lora_up", "lora_down"), "peft": ("lora_B", "lora_A")}[style]
    tensors: Tensors = {}
    for seed, (module, (rows, columns)) in enumerate(named.items()):
        tensors[f"{module}.{up}.weight"] = coarse(rows, RANK, seed=2 * seed).to(dtype)
        tensors[f"{module}.{down}.weight"] = coarse(RANK, columns, seed=2 * seed + 1).to(dtype)
        if alpha is not None:
            tensors[f"{module}.alpha"] = torch.tensor(alpha)
    return tensors


FLUX_KOHYA = {
    "lora_unet_double_blocks_0_img_attn_qkv": (9216, 3072),
    "lora_unet_double_blocks_3_txt_mlp_0": (12288, 3072),
    "lora_unet_single_blocks_37_linear1": (21504, 3072),
    "lora_unet_final_layer_adaLN_modulation_1": (6144, 3072),
    "lora_te1_text_model_encoder_layers_0_mlp_fc1": (3072, 768),
}
FLUX_DIFFUSERS = {
    "transformer.transformer_blocks.0.attn.to_q": (3072, 3072),
    "transformer.transformer_blocks.0.attn.to_v": (3072, 3072),
    "transformer.single_transformer_blocks.5.proj_mlp": (12288, 3072),
    "transformer.single_transformer_blocks.5.attn.to_k": (3072, 3072),
    "transformer.norm_out.linear": (6144, 3072),
    "transformer.proj_out": (64, 3072),
}
SD3 = {
    "transformer.transformer_blocks.23.norm1_context.linear": (3072, 1536),
    "transformer.transformer_blocks.2.attn.add_k_proj": (1536, 1536),
}
SDXL = {
    "lora_unet_input_blocks_4_1_proj_in": (640, 640),
    "lora_unet_middle_block_1_transformer_blocks_3_attn2_to_k": (1280, 2048),
    "lora_te2_text_model_encoder_layers_31_self_attn_q_proj": (1280, 1280),
}
WAN = {"diffusion_model.blocks.0.cross_attn.k": (1536, 1536), "diffusion_model.blocks.1.ffn.0": (8960, 1536)}
FILES = {
    "flux1_dev": [("kohya", FLUX_KOHYA), ("peft", FLUX_DIFFUSERS)],
    "sd3_medium": [("peft", SD3)],
    "sdxl": [("kohya", SDXL)],
    "wan21_t2v_1.3b": [("peft", WAN)],
}
CASES = [(arch, style, named) for arch, files in FILES.items() for style, named in files]


@pytest.mark.parametrize("dialect", ["comfy", "kohya", "diffusers"])
@pytest.mark.parametrize(("arch", "style", "named"), CASES, ids=[f"{arch}-{style}" for arch, style, _ in CASES])
def test_there_and_back_is_the_same_change(
    tmp_path: Path, arch: str, style: str, named: dict[str, tuple[int, int]], dialect: Any
) -> None:
    source = tmp_path / "source.safetensors"
    save_file(lora(named, style, alpha=1.5 if style == "kohya" else None), source)
    expected = deltas(source, arch)
    there, back = tmp_path / "there.safetensors", tmp_path / "back.safetensors"
    report = lora_core.convert(source, there, dialect=dialect, arch=arch, on_unmatched="error")
    described = report.to_dict()["loras"][0]
    assert described["modules_matched"] == described["modules_total"] == len(named)
    assert deviation(deltas(there, arch), expected) < 1e-6
    first = "kohya" if style == "kohya" else "diffusers" if "transformer." in next(iter(named)) else "comfy"
    lora_core.convert(there, back, dialect=first, arch=arch, on_unmatched="error")
    assert deviation(deltas(back, arch), expected) < 1e-6
    with LoraFile(back) as file:
        assert {spec.module for spec in file.adapters} >= set(named)


def test_a_rename_keeps_every_byte(tmp_path: Path) -> None:
    source, out = tmp_path / "source.safetensors", tmp_path / "out.safetensors"
    before = lora(FLUX_KOHYA, "kohya", alpha=2.0, dtype=torch.float16)
    save_file(before, source, {"ss_output_name": "mine", "sshs_model_hash": "old", "ss_network_alpha": "7"})
    lora_core.convert(source, out, dialect="comfy")
    after = load_file(out)
    name = "diffusion_model.single_blocks.37.linear1"
    old = "lora_unet_single_blocks_37_linear1"
    assert all(torch.equal(after[f"{name}.{part}"], before[f"{old}.{part}"]) for part in PARTS)
    assert {tensor.dtype for key, tensor in after.items() if not key.endswith("alpha")} == {torch.float16}
    with safe_open(out, "pt") as file:
        metadata = file.metadata()
    assert metadata["ss_output_name"] == "mine"
    assert (metadata["ss_network_dim"], metadata["ss_network_alpha"]) == ("3", "2")
    assert metadata["sshs_model_hash"] != "old"
    lora_core.convert(out, tmp_path / "again.safetensors", dialect="kohya")
    again = load_file(tmp_path / "again.safetensors")
    assert set(again) == set(before)
    assert all(torch.equal(again[key], before[key]) for key in before)


PARTS = ("lora_up.weight", "lora_down.weight", "alpha")


def test_split_and_joined_again_has_the_rank_that_it_had(tmp_path: Path) -> None:
    """The three pieces of qkv share their down, so they are one LoRA of the same rank again."""
    source, there, back = (tmp_path / f"{name}.safetensors" for name in ("source", "there", "back"))
    before = lora({"lora_unet_double_blocks_0_img_attn_qkv": (9216, 3072)}, "kohya", alpha=RANK)
    save_file(before, source)
    lora_core.convert(source, there, dialect="diffusers", arch="flux1_dev")
    assert len(load_file(there)) == 6
    lora_core.convert(there, back, dialect="kohya", arch="flux1_dev")
    after = load_file(back)
    assert all(torch.equal(after[key], before[key]) for key in before)


def test_scales_are_folded_without_rounding(tmp_path: Path) -> None:
    """A power of two is folded in fp16; another scale makes that factor fp32, and the report says so."""
    for alpha, dtype, notes in ((RANK / 2, torch.float16, 0), (2.0, torch.float32, 1)):
        source, out = tmp_path / f"{alpha}.safetensors", tmp_path / f"{alpha}_out.safetensors"
        save_file(lora(SDXL, "kohya", alpha=alpha, dtype=torch.float16), source)
        report = lora_core.convert(source, out, dialect="diffusers", arch="sdxl")
        tensors = load_file(out)
        assert not [key for key in tensors if "alpha" in key]
        assert {t.dtype for key, t in tensors.items() if "lora_B" in key} == {dtype}
        assert {t.dtype for key, t in tensors.items() if "lora_A" in key} == {torch.float16}
        assert len(report.notes) == notes
        assert deviation(deltas(out, "sdxl"), deltas(source, "sdxl")) < 1e-6
        with LoraFile(out) as file:
            assert {spec.scale.value for spec in file.adapters} == {1.0}
            config = json.loads(file.metadata["lora_adapter_metadata"])
        assert config["unet.r"] == config["unet.lora_alpha"] == RANK
        assert config["text_encoder_2.target_modules"] == ["encoder.layers.31.self_attn.q_proj"]


def test_ranks_that_differ_are_in_the_patterns(tmp_path: Path) -> None:
    source, out = tmp_path / "source.safetensors", tmp_path / "out.safetensors"
    tensors = lora(WAN, "peft")
    tensors["diffusion_model.blocks.2.ffn.2.lora_B.weight"] = random(1536, 5)
    tensors["diffusion_model.blocks.2.ffn.2.lora_A.weight"] = random(5, 8960, seed=1)
    save_file(tensors, source)
    lora_core.convert(source, out, dialect="diffusers")
    with LoraFile(out) as file:
        config = json.loads(file.metadata["lora_adapter_metadata"])
        assert {spec.scale.value for spec in file.adapters} == {1.0}
    assert config["transformer.rank_pattern"] == {"^blocks.2.ffn.net.2": 5} == config["transformer.alpha_pattern"]


@pytest.mark.parametrize("pattern", [{}, {"to_v": 1.5}])  # pieces that are joined have one scale, or two
def test_an_alpha_that_only_the_header_told_becomes_a_tensor(tmp_path: Path, pattern: dict[str, float]) -> None:
    source, out = tmp_path / "source.safetensors", tmp_path / "out.safetensors"
    config = {"transformer.r": RANK, "transformer.lora_alpha": 6, "transformer.alpha_pattern": pattern}
    save_file(lora(FLUX_DIFFUSERS, "peft"), source, {"lora_adapter_metadata": json.dumps(config)})
    lora_core.convert(source, out, dialect="comfy", arch="flux1_dev")
    with LoraFile(out, semantics="comfyui") as file:
        assert {spec.scale.source for spec in file.adapters} == {"tensor"}
        assert "lora_adapter_metadata" not in file.metadata
    assert deviation(deltas(out, "flux1_dev"), deltas(source, "flux1_dev")) < 1e-6


def test_peft_files_have_their_configuration_beside_them(tmp_path: Path) -> None:
    source, out = tmp_path / "source.safetensors", tmp_path / "adapter_model.safetensors"
    save_file(lora({name: shape for name, shape in FLUX_KOHYA.items() if "_te1_" not in name}, "kohya", 2.0), source)
    report = lora_core.convert(source, out, dialect="peft", arch="flux1_dev")
    assert [item["name"] for item in report.outputs] == ["adapter_model.safetensors", "adapter_config.json"]
    config = json.loads((tmp_path / "adapter_config.json").read_text("utf-8"))
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", RANK, RANK)
    assert "transformer_blocks.0.attn.to_q" in config["target_modules"]
    assert deviation(deltas(out, "flux1_dev"), deltas(source, "flux1_dev")) < 1e-6
    with pytest.raises(LoraError, match="already exists"):
        lora_core.convert(source, out, dialect="peft", arch="flux1_dev")
    out.unlink()
    with pytest.raises(LoraError, match=r"adapter_config.json: already exists beside adapter_model.safetensors"):
        lora_core.convert(source, out, dialect="peft", arch="flux1_dev")
    assert not out.exists()


def test_a_peft_file_is_for_one_model(tmp_path: Path) -> None:
    save_file(lora(FLUX_KOHYA, "kohya"), tmp_path / "source.safetensors")
    with pytest.raises(LoraError, match=r"modules of CLIP-L and Flux.1, but a PEFT file is for one model"):
        lora_core.convert(tmp_path / "source.safetensors", tmp_path / "out.safetensors", dialect="peft")


def test_what_has_no_place_keeps_its_name_and_its_change(tmp_path: Path) -> None:
    source, out = tmp_path / "source.safetensors", tmp_path / "out.safetensors"
    alien = {"transformer.somewhere.else": (64, 32)}
    tensors = {**lora(FLUX_DIFFUSERS, "peft"), **lora(alien, "peft"), "bundle_emb.ink.clip_l": random(2, 768)}
    config = {"transformer.r": RANK, "transformer.lora_alpha": 6}
    save_file(tensors, source, {"lora_adapter_metadata": json.dumps(config)})
    with pytest.raises(LoraError, match=r"1 module without a place in Flux.1 dev: transformer.somewhere.else"):
        lora_core.convert(source, out, dialect="kohya", arch="flux1_dev", on_unmatched="error")
    report = lora_core.convert(source, out, dialect="kohya", arch="flux1_dev")
    assert any("keep their names: transformer.somewhere.else" in warning for warning in report.warnings)
    written = load_file(out)
    assert torch.equal(written["bundle_emb.ink.clip_l"], tensors["bundle_emb.ink.clip_l"])
    name = "transformer.somewhere.else"
    change = written[f"{name}.lora_B.weight"] @ written[f"{name}.lora_A.weight"]
    assert torch.allclose(change, 2 * tensors[f"{name}.lora_B.weight"] @ tensors[f"{name}.lora_A.weight"])
    ignoring = {"arch": "flux1_dev", "on_unmatched": "ignore", "overwrite": True}
    report = lora_core.convert(source, out, dialect="kohya", **ignoring)
    assert not any("without a place" in warning for warning in report.warnings)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"arch": "flux9"}, r"arch: expected the id of a model, found 'flux9'; known are .*flux1_dev"),
        ({"arch": "sdxl"}, r"none of its 5 modules has a place in SDXL"),
        ({"dialect": "klingon"}, r"dialect: expected one of comfy, kohya, diffusers, peft"),
        ({"rank": -1}, r"rank: expected 0 to 32768"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    source = tmp_path / "source.safetensors"
    named = {name: shape for name, shape in FLUX_KOHYA.items() if "_te1_" not in name}
    save_file(lora({**named, "lora_unet_single_blocks_1_linear2": (3072, 15360)}, "kohya"), source)
    with pytest.raises(LoraError, match=message):
        lora_core.convert(source, tmp_path / "out.safetensors", **{"dialect": "comfy", **options})
    assert list(tmp_path.iterdir()) == [source]


def test_names_that_do_not_tell_the_model(tmp_path: Path) -> None:
    source = tmp_path / "source.safetensors"
    save_file(lora({"lora_te1_text_model_encoder_layers_0_mlp_fc1": (3072, 768)}, "kohya"), source)
    with pytest.raises(LoraError, match=r"do not tell which model it is for.*--arch.*--base"):
        lora_core.convert(source, tmp_path / "out.safetensors", dialect="diffusers")


def test_a_model_that_several_fit_alike_is_chosen_where_it_makes_no_difference(tmp_path: Path) -> None:
    """Chroma has Flux.1's blocks: the names are the same."""
    source = tmp_path / "source.safetensors"
    save_file(lora({"lora_unet_double_blocks_0_img_attn_proj": (3072, 3072)}, "kohya"), source)
    report = lora_core.convert(source, tmp_path / "out.safetensors", dialect="diffusers")
    assert report.arch is None
    assert {"Flux.1", "Chroma"} <= set((report.title or "").split(" or "))
