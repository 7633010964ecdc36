"""LoRA files that lora_core extracts, loaded and fused by diffusers.

A tiny model gets a change of low rank, lora_core extracts it, and diffusers fuses the file into the untouched model,
which must give the tuned one. Tolerance: the change has a lower rank than the file, so nothing is cut off; what is left
is the rounding of the factors to the file's format, and of the sum to fp32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from diffusers.loaders.lora_pipeline import FluxLoraLoaderMixin
from safetensors.torch import load_file

import lora_core
from tests.peers import layouts
from tests.peers.layouts import Weights
from tests.peers.models import (
    DIFFUSION_PREFIX,
    FAMILIES,
    assert_same,
    changed,
    clip_g,
    clip_l,
    deviation,
    pipeline,
    plain,
    prefixed,
    randomised,
    write,
)
from tests.tiny import random_normal

FP32 = 3e-6
WIDE = 3e-5  # layers above 640 get an approximation that is searched for in fp32
FP16_STEP = 2**-10  # of each factor; √S lies on both, so no entry is lost to fp16's small range
CHANGE_RANK, FILE_RANK = 3, 5


def tuned(weights: Mapping[str, torch.Tensor], is_tuned: Callable[[str], bool]) -> Weights:
    """Return the weights with a random change of low rank on every chosen matrix, about as large as the matrix."""
    generator = torch.Generator().manual_seed(3)
    result = dict(weights)
    for key, weight in weights.items():
        if key.endswith("weight") and weight.dim() > 1 and is_tuned(key):
            flat = weight.flatten(1)
            up = torch.randn(flat.shape[0], CHANGE_RANK, generator=generator)
            down = torch.randn(CHANGE_RANK, flat.shape[1], generator=generator)
            result[key] = weight + (up @ down).view_as(weight) / flat.shape[1] ** 0.5
    return result


def extracted(folder: Path, before: Weights, after: Weights, dialect: str, dtype: str = "fp32") -> Path:
    base, changed_file = write(folder / "base.safetensors", before), write(folder / "tuned.safetensors", after)
    lora_core.extract(base, changed_file, folder / "lora.safetensors", rank=FILE_RANK, dialect=dialect, dtype=dtype)
    return folder / "lora.safetensors"


# What trainers put adapters on, and what diffusers' converters for their files know
TRAINED: dict[str, Callable[[str], bool]] = {
    # not linear1, which diffusers cuts at the true model's width only: it has a test of its own
    "flux": lambda key: key.startswith(("double_blocks.", "single_blocks.")) and "linear1" not in key,
    "wan": lambda key: key.startswith("blocks.") and ("attn" in key or "ffn" in key),
    "wan_i2v": lambda key: key.startswith("blocks.") and ("attn" in key or "ffn" in key),
    # one block of each kind, as these are the widest layers here
    "sd15": lambda key: key.startswith(("input_blocks.2.", "input_blocks.3.", "middle_block.", "output_blocks.2.")),
    "sdxl": lambda key: "blocks" in key or "middle_block" in key,
    "sd3": lambda key: not key.startswith("pos_embed"),
}


@pytest.mark.parametrize(
    ("name", "dialect"),
    [("flux", "kohya"), ("sd15", "kohya"), ("sdxl", "kohya"), ("wan", "kohya"), ("wan", "comfy"), ("wan_i2v", "kohya")]
    + [(name, "diffusers") for name in ("flux", "sd15", "sdxl", "wan", "wan_i2v", "sd3")],
)
def test_an_extracted_lora_loads_in_diffusers(tmp_path: Path, name: str, dialect: str) -> None:
    family = FAMILIES[name]
    model = randomised(family.make())
    before = family.to_original(plain(model))  # copies, as fusing works in place
    after = tuned(before, TRAINED[name])
    lora = extracted(tmp_path, prefixed(family.prefix, before), prefixed(family.prefix, after), dialect)
    pipe = pipeline(family.loader, **{family.component: model})
    pipe.load_lora_weights(str(lora.parent), weight_name=lora.name)
    pipe.fuse_lora(components=[family.component])
    fused = family.to_original(plain(model))
    assert_same(fused, after, FP32)
    assert changed(before, fused) == {key for key in before if before[key] is not after[key]} != set()


def test_an_extracted_lora_in_fp16_loads_in_diffusers(tmp_path: Path) -> None:
    """fp16 is the format that files are shared in."""
    family = FAMILIES["flux"]
    model = randomised(family.make())
    before = family.to_original(plain(model))  # copies, as fusing works in place
    after = tuned(before, TRAINED["flux"])
    lora = extracted(tmp_path, before, after, "kohya", "fp16")
    pipe = pipeline(family.loader, transformer=model)
    pipe.load_lora_weights(str(lora.parent), weight_name=lora.name)
    pipe.fuse_lora(components=["transformer"])
    assert_same(family.to_original(plain(model)), after, CHANGE_RANK * FP16_STEP)


def test_a_fused_layer_of_flux_at_its_true_width(tmp_path: Path) -> None:
    """linear1 holds q, k, v and the MLP; all its rows are there, over a few columns."""
    keys = {
        "img_in.weight": (3072, 4),
        "vector_in.in_layer.weight": (3072, 4),
        "double_blocks.0.img_attn.norm.key_norm.scale": (128,),
        "double_blocks.0.txt_attn.qkv.weight": (3 * 3072, 16),
        "single_blocks.0.linear1.weight": (7 * 3072, 16),
    }
    before = {key: random_normal(key, shape, 0) for key, shape in keys.items()}
    after = tuned(before, lambda key: key.endswith(("qkv.weight", "linear1.weight")))
    lora = extracted(tmp_path, before, after, "kohya")
    loaded = FluxLoraLoaderMixin.lora_state_dict(str(lora.parent), weight_name=lora.name)
    single, double = "transformer.single_transformer_blocks.0.", "transformer.transformer_blocks.0.attn."
    pieces = {
        "single_blocks.0.linear1.weight": [f"{single}{x}" for x in ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")],
        "double_blocks.0.txt_attn.qkv.weight": [f"{double}add_{x}_proj" for x in "qkv"],
    }
    assert set(loaded) == {f"{name}.lora_{x}.weight" for names in pieces.values() for name in names for x in "AB"}
    for key, names in pieces.items():
        delta = torch.cat([loaded[f"{name}.lora_B.weight"] @ loaded[f"{name}.lora_A.weight"] for name in names])
        assert deviation(delta, after[key] - before[key]) < FP32


def test_an_extracted_lora_of_all_three_models_of_sdxl_loads_in_diffusers(tmp_path: Path) -> None:
    makers = {"unet": FAMILIES["sdxl"].make, "text_encoder": clip_l, "text_encoder_2": clip_g}
    models = {name: randomised(make()) for name, make in makers.items()}
    before = sdxl_checkpoint({name: plain(model) for name, model in models.items()})
    after = tuned(before, lambda key: "blocks" in key or "middle_block" in key or "encoder.layers" in key)
    # a bare parameter, whose name `tuned` does not look for; all layers get one rank, because diffusers
    # misreads alphas that differ between layers of a text encoder
    fused_key = "conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight"
    up, down = random_normal("up", (3 * 1280, CHANGE_RANK), 0), random_normal("down", (CHANGE_RANK, 1280), 0)
    after[fused_key] = before[fused_key] + up @ down / 1280**0.5
    lora = extracted(tmp_path, before, after, "kohya")
    names = set(load_file(lora))
    assert {name.partition("_text_model")[0] for name in names if name.startswith("lora_te")} == {
        "lora_te1",
        "lora_te2",
    }
    pipe = pipeline(FAMILIES["sdxl"].loader, **models)
    pipe.load_lora_weights(str(lora.parent), weight_name=lora.name)
    pipe.fuse_lora(components=list(models))
    assert_same(sdxl_checkpoint({name: plain(model) for name, model in models.items()}), after, WIDE)


def sdxl_checkpoint(weights: Mapping[str, Mapping[str, torch.Tensor]]) -> Weights:
    return {
        **prefixed(DIFFUSION_PREFIX, layouts.unet(weights["unet"])),
        **prefixed("conditioner.embedders.0.transformer.", layouts.clip_l(weights["text_encoder"])),
        **prefixed("conditioner.embedders.1.model.", layouts.open_clip(weights["text_encoder_2"])),
    }
