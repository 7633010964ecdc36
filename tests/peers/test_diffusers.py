"""LoRA files that diffusers and PEFT write: merged by lora_core, against fused by diffusers.

The same tiny random model exists twice: as a diffusers model, and as a checkpoint in the original layout. A file with a
random adapter on every linear layer and convolution, written by diffusers, is fused there and merged here.

Tolerance: both sides form up·down, scale it and add it to the weight in fp32. Only the order of these few operations
differs, which costs some units of 6e-8 of the largest entry.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.loaders import single_file_utils as converters
from safetensors.torch import load_file

import lora_core
from lora_core.reading.lorafile import LoraFile
from tests.peers import layouts
from tests.peers.layouts import Weights
from tests.peers.models import (
    DIFFUSION_PREFIX,
    FAMILIES,
    Family,
    add_adapter,
    assert_same,
    changed,
    clip_g,
    clip_l,
    flux,
    pipeline,
    plain,
    prefixed,
    randomised,
    write,
)
from tests.tiny import random_normal

FP32 = 1e-6
# PEFT takes the one-dimensional bias of lora_bias=True for an incomplete shard when it saves
PEFT_BIAS = "ignore:Adapter 'default'. .* LoRA tensor.s. have invalid shape"
FP16_STEP = 2**-10  # a tie may be rounded to either neighbour, which lies this far off relative to the largest entry
BF16_STEP = 2**-7

VARIANTS: dict[str, dict[str, Any]] = {
    "rank is alpha": {"r": 4, "lora_alpha": 4},
    "alpha": {"r": 4, "lora_alpha": 7},
    "patterns": {"r": 4, "lora_alpha": 7, "patterns": True},
    "rslora and patterns": {"r": 4, "lora_alpha": 3, "use_rslora": True, "patterns": True},
    "bias": {"r": 3, "lora_alpha": 5, "lora_bias": True},
}
CASES = [*((variant, 1.0) for variant in VARIANTS), ("patterns", 0.5), ("patterns", -1.0), ("bias", -1.0)]
NAME = "lora.safetensors"


def save_lora(family: Family, folder: Path, header: bool = True, **options: Any) -> Path:
    """Writes a LoRA the way diffusers' training scripts do; without `header` its configuration is lost."""
    weights, config = add_adapter(randomised(family.make()), **options)
    name = family.component
    parts = {f"{name}_lora_layers": weights, f"{name}_lora_adapter_metadata": config if header else None}
    family.loader.save_lora_weights(folder, weight_name=NAME, **parts)
    return folder / NAME


def fused(family: Family, lora: Path, strength: float) -> Weights:
    model = randomised(family.make())
    pipe = pipeline(family.loader, **{family.component: model})
    pipe.load_lora_weights(str(lora.parent), weight_name=lora.name)
    pipe.fuse_lora(components=[family.component], lora_scale=strength)
    return plain(model)


def original(family: Family, weights: Mapping[str, torch.Tensor]) -> Weights:
    return prefixed(family.prefix, family.to_original(weights))


def base_file(family: Family, folder: Path) -> Path:
    return write(folder / "base.safetensors", original(family, randomised(family.make()).state_dict()))


def merged(base: Path, lora: Path, *strengths: float, **options: Any) -> Weights:
    """Merge, and insist that every module of the LoRA has found its place."""
    out = base.with_name("merged.safetensors")
    report = lora_core.merge(base, [(lora, *strengths)], out, on_unmatched="error", overwrite=True, **options)
    described = report.to_dict()["loras"][0]
    assert described["modules_matched"] == described["modules_total"] > 0
    return load_file(out)


@pytest.mark.parametrize("name", ["sd3", "sd35_medium", "wan", "wan_i2v"])
def test_the_layouts_of_this_test_are_those_that_diffusers_converts_from(name: str) -> None:
    weights = randomised(FAMILIES[name].make()).state_dict()
    convert = {
        "sd3": converters.convert_sd3_transformer_checkpoint_to_diffusers,
        "wan": converters.convert_wan_transformer_to_diffusers,
    }["sd3" if name.startswith("sd3") else "wan"]
    assert_same(convert(FAMILIES[name].to_original(weights)), weights, 0)


def test_the_flux_layout_of_this_test_is_the_one_that_diffusers_converts_from() -> None:
    # the converter knows the true width only, so this model has all its rows, but a single column
    with torch.device("meta"):
        shapes = {key: tensor.shape for key, tensor in flux(**_FLUX_HEADS).state_dict().items()}
    weights = {key: random_normal(key, (shape[0], *(1 for _ in shape[1:])), 0) for key, shape in shapes.items()}
    assert_same(converters.convert_flux_transformer_checkpoint_to_diffusers(layouts.flux(weights)), weights, 0)


_FLUX_HEADS = {"attention_head_dim": 128, "num_attention_heads": 24, "axes_dims_rope": (16, 56, 56)}


@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_the_unet_layouts_of_this_test_are_those_that_diffusers_converts_from(name: str) -> None:
    model = randomised(FAMILIES[name].make())
    weights = model.state_dict()
    theirs = prefixed(DIFFUSION_PREFIX, layouts.unet(weights))
    assert_same(converters.convert_ldm_unet_checkpoint(theirs, dict(model.config)), weights, 0)


def test_the_text_encoder_layouts_of_this_test_are_those_that_diffusers_converts_from() -> None:
    model = randomised(clip_g())
    theirs = prefixed("conditioner.embedders.1.model.", layouts.open_clip(model.state_dict()))
    back = converters.convert_open_clip_checkpoint(model, theirs, prefix="conditioner.embedders.1.model.")
    assert_same(back, model.state_dict(), 0)
    weights = randomised(clip_l()).state_dict()
    theirs = prefixed("cond_stage_model.transformer.", layouts.clip_l(weights))
    assert_same(converters.convert_ldm_clip_checkpoint(theirs), layouts.clip_l(weights), 0)


@pytest.mark.filterwarnings(PEFT_BIAS)
@pytest.mark.parametrize(("variant", "strength"), CASES)
@pytest.mark.parametrize("name", ["flux", "sd3", "sd35_medium", "wan", "wan_i2v"])
def test_a_transformer_lora_of_diffusers(tmp_path: Path, name: str, variant: str, strength: float) -> None:
    compare(FAMILIES[name], tmp_path, variant, strength)


@pytest.mark.filterwarnings(PEFT_BIAS)
@pytest.mark.parametrize(("variant", "strength"), CASES)
def test_a_unet_lora_of_diffusers(tmp_path: Path, variant: str, strength: float) -> None:
    compare(FAMILIES["sdxl"], tmp_path, variant, strength)


@pytest.mark.filterwarnings(PEFT_BIAS)
@pytest.mark.parametrize(("variant", "strength"), [("rslora and patterns", 0.5), ("bias", -1.0)])
def test_a_unet_lora_of_diffusers_with_convolutions_around_attention(
    tmp_path: Path, variant: str, strength: float
) -> None:
    """SD 1.5's layout: proj_in and proj_out are 1x1 convolutions. It is wide, as only its true width tells it apart."""
    compare(FAMILIES["sd15"], tmp_path, variant, strength)


def compare(family: Family, folder: Path, variant: str, strength: float) -> None:
    base, lora = base_file(family, folder), save_lora(family, folder, **VARIANTS[variant])
    assert lora_core.inspect(base).to_dict()["arch"] == family.arch
    after = fused(family, lora, strength)
    assert_same(merged(base, lora, strength), original(family, after), FP32)
    before = randomised(family.make()).state_dict()
    reached = {key.rsplit(".lora_", 1)[0].removeprefix(f"{family.component}.") for key in load_file(lora)}
    parts = ("weight", "bias") if "lora_bias" in VARIANTS[variant] else ("weight",)
    assert changed(before, after) == {f"{module}.{part}" for module in reached for part in parts}


@pytest.mark.parametrize("name", ["flux", "sdxl"])
def test_a_file_without_a_header_has_scale_one_in_both(tmp_path: Path, name: str) -> None:
    family = FAMILIES[name]
    base, lora = base_file(family, tmp_path), save_lora(family, tmp_path, header=False, **VARIANTS["alpha"])
    assert_same(merged(base, lora), original(family, fused(family, lora, 1.0)), FP32)


def test_the_header_matters_and_comfyui_semantics_do_not_read_it(tmp_path: Path) -> None:
    """Without this difference the tests above could not tell whether the header is read."""
    family = FAMILIES["flux"]
    base, lora = base_file(family, tmp_path), save_lora(family, tmp_path, **VARIANTS["patterns"])
    without = write(tmp_path / "without.safetensors", load_file(lora))
    read, not_read = merged(base, lora), merged(base, lora, semantics="comfyui")
    assert_same(not_read, original(family, fused(family, without, 1.0)), FP32)
    assert changed(not_read, read) == changed(load_file(base), read)


@pytest.mark.parametrize("name", ["flux", "sdxl"])
def test_an_adapter_that_diffusers_saves_again_keeps_its_scales(tmp_path: Path, name: str) -> None:
    """`save_lora_adapter` writes bare names, and patterns that begin with ^ for a file that was loaded before."""
    family = FAMILIES[name]
    base = base_file(family, tmp_path)
    first = save_lora(family, tmp_path, header=False, **VARIANTS["patterns"])
    model = randomised(family.make())
    model.load_lora_adapter(str(first.parent), weight_name=first.name, prefix=family.component)
    model.save_lora_adapter(tmp_path / "again", adapter_name="default_0")
    again = tmp_path / "again" / "pytorch_lora_weights.safetensors"
    with LoraFile(again) as file:
        patterns = json.loads(file.metadata["lora_adapter_metadata"])["alpha_pattern"]
    assert any(pattern.startswith("^") for pattern in patterns)
    assert_same(merged(base, again), original(family, fused(family, first, 1.0)), FP32)


@pytest.mark.parametrize(("dtype", "step"), [(torch.float16, FP16_STEP), (torch.bfloat16, BF16_STEP)])
def test_half_precision_is_rounded_once(tmp_path: Path, dtype: torch.dtype, step: float) -> None:
    """Base and LoRA are stored in half precision; the sum is formed in fp32 and rounded to the nearest neighbour."""
    family = FAMILIES["flux"]
    lora = save_lora(family, tmp_path, **VARIANTS["alpha"])
    with LoraFile(lora) as file:
        metadata = dict(file.metadata)
    write(lora, {key: tensor.to(dtype) for key, tensor in load_file(lora).items()}, metadata)
    model = randomised(family.make())
    model.load_state_dict({key: tensor.to(dtype).float() for key, tensor in model.state_dict().items()})
    base = write(
        tmp_path / "base.safetensors",
        {key: tensor.to(dtype) for key, tensor in original(family, model.state_dict()).items()},
    )
    pipe = pipeline(family.loader, transformer=model)
    pipe.load_lora_weights(str(lora.parent), weight_name=lora.name)
    pipe.fuse_lora(components=["transformer"], lora_scale=0.7)
    expected = {key: tensor.to(dtype) for key, tensor in original(family, plain(model)).items()}
    got = merged(base, lora, 0.7)
    assert {tensor.dtype for tensor in got.values()} == {dtype}
    assert_same(got, expected, step)
    differing = sum(int((got[key] != expected[key]).sum()) for key in got)
    assert differing <= sum(tensor.numel() for tensor in got.values()) / 1000  # ties in the last bit are rare


@pytest.mark.filterwarnings(PEFT_BIAS)
# two adapters at a time are what this test is about
@pytest.mark.filterwarnings("ignore:Already found a `peft_config` attribute in the model")
def test_a_stack_of_two_loras_fuses_as_in_diffusers(tmp_path: Path) -> None:
    family = FAMILIES["sd35_medium"]
    base = base_file(family, tmp_path)
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    first = save_lora(family, tmp_path / "first", **VARIANTS["patterns"])
    second = save_lora(family, tmp_path / "second", seed=2, **VARIANTS["bias"])
    model = randomised(family.make())
    pipe = pipeline(family.loader, transformer=model)
    for lora in (first, second):
        pipe.load_lora_weights(str(lora.parent), weight_name=lora.name, adapter_name=lora.parent.name)
    pipe.set_adapters(["first", "second"], [0.8, -0.3])
    pipe.fuse_lora(components=["transformer"])
    out = tmp_path / "merged.safetensors"
    lora_core.merge(base, [(first, 0.8), (second, -0.3)], out, on_unmatched="error")
    assert_same(load_file(out), original(family, plain(model)), FP32)


# Text encoders


def sdxl_base(folder: Path) -> Path:
    weights = {
        **prefixed(DIFFUSION_PREFIX, layouts.unet(randomised(FAMILIES["sdxl"].make()).state_dict())),
        **prefixed("conditioner.embedders.0.transformer.", layouts.clip_l(randomised(clip_l()).state_dict())),
        **prefixed("conditioner.embedders.1.model.", layouts.open_clip(randomised(clip_g()).state_dict())),
    }
    return write(folder / "base.safetensors", weights)


def test_a_lora_on_all_three_models_of_sdxl(tmp_path: Path) -> None:
    family = FAMILIES["sdxl"]
    base = sdxl_base(tmp_path)
    made = {"unet": family.make, "text_encoder": clip_l, "text_encoder_2": clip_g}
    parts: dict[str, Any] = {}
    for seed, (name, make) in enumerate(made.items()):
        options = VARIANTS["patterns" if name == "unet" else "alpha"] | {"seed": seed + 5}
        weights, config = add_adapter(randomised(make()), **options)
        parts |= {f"{name}_lora_layers": weights, f"{name}_lora_adapter_metadata": config}
    family.loader.save_lora_weights(tmp_path, weight_name=NAME, **parts)
    models = {name: randomised(make()) for name, make in made.items()}
    pipe = pipeline(family.loader, **models)
    pipe.load_lora_weights(str(tmp_path), weight_name=NAME)
    pipe.fuse_lora(components=["unet"], lora_scale=0.5)
    pipe.fuse_lora(components=["text_encoder", "text_encoder_2"], lora_scale=-0.8)
    expected = {
        **prefixed(DIFFUSION_PREFIX, layouts.unet(plain(models["unet"]))),
        **prefixed("conditioner.embedders.0.transformer.", layouts.clip_l(plain(models["text_encoder"]))),
        **prefixed("conditioner.embedders.1.model.", layouts.open_clip(plain(models["text_encoder_2"]))),
    }
    got = merged(base, tmp_path / NAME, 0.5, -0.8)
    assert_same(got, expected, FP32)
    moved = changed(load_file(base), got)
    assert "conditioner.embedders.1.model.text_projection" in moved
    assert "conditioner.embedders.1.model.transformer.resblocks.1.attn.in_proj_weight" in moved
    assert "conditioner.embedders.0.transformer.text_model.encoder.layers.1.mlp.fc2.weight" in moved


@pytest.mark.parametrize("names", ["transformers 5", "transformers 4", "kohya"])
@pytest.mark.parametrize("level", ["text_model.", ""])  # some old SD 1 files lack this level on disk
def test_a_lora_on_the_text_encoder_of_sd15(tmp_path: Path, names: str, level: str) -> None:
    loader = FAMILIES["sd15"].loader
    trained = randomised(clip_l())
    weights, config = add_adapter(trained, r=4, lora_alpha=6)
    prefix = "cond_stage_model.transformer."
    model = randomised(clip_l())
    disk = {key.replace("text_model.", level): tensor for key, tensor in layouts.clip_l(model.state_dict()).items()}
    base = write(tmp_path / "base.safetensors", prefixed(prefix, disk))
    loader.save_lora_weights(
        tmp_path,
        weight_name=NAME,
        text_encoder_lora_layers=weights,
        text_encoder_lora_adapter_metadata=config,
    )
    pipe = pipeline(loader, unet=FAMILIES["sdxl"].make(), text_encoder=model)
    pipe.load_lora_weights(str(tmp_path), weight_name=NAME)
    pipe.fuse_lora(components=["text_encoder"], lora_scale=0.5)
    expected = {key.replace("text_model.", level): tensor for key, tensor in layouts.clip_l(plain(model)).items()}
    lora = respelled(tmp_path / NAME, names)
    got = merged(base, lora, 1.0, 0.5)
    assert_same(got, prefixed(prefix, expected), FP32)
    assert sum("encoder.layers" in key for key in changed(load_file(base), got)) == 12


def respelled(lora: Path, names: str) -> Path:
    """Write the same adapters under the names that older libraries and kohya's scripts give them."""
    weights = load_file(lora)
    with LoraFile(lora) as file:
        metadata = dict(file.metadata)
    if names == "transformers 5":
        assert all(key.startswith("text_encoder.encoder.layers.") for key in weights)
        return lora
    if names == "transformers 4":
        weights = {key.replace("text_encoder.", "text_encoder.text_model."): t for key, t in weights.items()}
        return write(lora.with_name("older.safetensors"), weights, metadata)
    renamed: Weights = {}
    for key, tensor in weights.items():
        module, _, part = key.removeprefix("text_encoder.").partition(".lora_")
        flat = f"lora_te_text_model_{module.replace('.', '_')}"
        renamed[f"{flat}.lora_{'down' if part[0] == 'A' else 'up'}.weight"] = tensor
        renamed[f"{flat}.alpha"] = torch.tensor(6.0)
    return write(lora.with_name("kohya.safetensors"), renamed)


def test_an_untouched_model_compares_equal_and_a_touched_one_does_not() -> None:
    """The comparison itself can fail: one entry of one tensor is enough."""
    weights = randomised(flux()).state_dict()
    other = copy.deepcopy(weights)
    assert_same(other, weights, 0)
    other["proj_out.bias"][0] += 1e-4
    with pytest.raises(AssertionError, match=r"1 of \d+ tensors differ: \{'proj_out.bias'"):
        assert_same(other, weights, FP32)
