"""Converted LoRA files on models of diffusers that have no hand-written layout here: the checkpoint is diffusers' own.

The LoRA has ComfyUI's names, of every matrix and convolution in the original layout; lora_core merges it into the
model as diffusers lays it out, and diffusers fuses what it was converted to. What each row is named, test_row_meaning
holds against diffusers' conversion of checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import diffusers
import pytest
from diffusers.loaders import lora_pipeline as loaders
from safetensors.torch import load_file
from torch import nn

import lora_core
from lora_core.naming.detection import detect, own_shapes
from tests.peers.models import assert_same, changed, pipeline, plain, randomised, write
from tests.peers.test_converted import FP32, no_warnings, trained
from tests.tiny import random_normal

__all__ = ["no_warnings"]  # a fixture

_HEADS = {"attention_head_dim": 16, "num_attention_heads": 2}
_ONE = {"num_layers": 1, "num_single_layers": 1}
MODELS: dict[str, tuple[type, Callable[[], nn.Module]]] = {
    "qwen_image": (
        loaders.QwenImageLoraLoaderMixin,
        lambda: diffusers.QwenImageTransformer2DModel(
            in_channels=16, out_channels=4, num_layers=1, joint_attention_dim=3584, axes_dims_rope=(4, 6, 6), **_HEADS
        ),
    ),
    "hunyuan_video": (
        loaders.HunyuanVideoLoraLoaderMixin,
        lambda: diffusers.HunyuanVideoTransformer3DModel(
            in_channels=4, out_channels=4, num_refiner_layers=1, text_embed_dim=24, pooled_projection_dim=20,
            rope_axes_dim=(4, 6, 6), **_ONE, **_HEADS,
        ),
    ),
    "ltxv": (
        loaders.LTXVideoLoraLoaderMixin,
        lambda: diffusers.LTXVideoTransformer3DModel(
            in_channels=8, out_channels=8, cross_attention_dim=32, num_layers=1, caption_channels=24, **_HEADS
        ),
    ),
    "auraflow": (
        loaders.AuraFlowLoraLoaderMixin,
        lambda: diffusers.AuraFlowTransformer2DModel(
            sample_size=8, in_channels=4, num_mmdit_layers=1, num_single_dit_layers=1, joint_attention_dim=24,
            caption_projection_dim=32, pos_embed_max_size=16, **_HEADS,
        ),
    ),
    "chroma": (
        loaders.FluxLoraLoaderMixin,
        lambda: diffusers.ChromaTransformer2DModel(
            in_channels=4, joint_attention_dim=24, axes_dims_rope=(4, 6, 6), approximator_num_channels=8,
            approximator_hidden_dim=32, approximator_layers=1, **_ONE, **_HEADS,
        ),
    ),
    "flux2": (
        loaders.Flux2LoraLoaderMixin,
        lambda: diffusers.Flux2Transformer2DModel(
            in_channels=4, joint_attention_dim=24, axes_dims_rope=(4, 4, 4, 4), **_ONE, **_HEADS
        ),
    ),
    "mochi": (
        loaders.Mochi1LoraLoaderMixin,
        lambda: diffusers.MochiTransformer3DModel(
            num_attention_heads=2, attention_head_dim=8, num_layers=2, pooled_projection_dim=12, in_channels=4,
            text_embed_dim=24, time_embed_dim=16, max_sequence_length=8,
        ),
    ),
    "cogvideox": (
        loaders.CogVideoXLoraLoaderMixin,
        lambda: diffusers.CogVideoXTransformer3DModel(
            in_channels=4, out_channels=4, time_embed_dim=16, text_embed_dim=24, num_layers=1, sample_width=8,
            sample_height=8, sample_frames=5, **_HEADS,
        ),
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of diffusers, about its own parts
@pytest.mark.parametrize("name", MODELS)
def test_diffusers_loads_a_converted_lora(tmp_path: Path, name: str) -> None:
    loader, make = MODELS[name]
    model = randomised(make())
    before = {key: tensor.contiguous() for key, tensor in plain(model).items()}
    base = write(tmp_path / "base.safetensors", before)
    shapes = {key: tuple(tensor.shape) for key, tensor in before.items()}
    (found,) = detect(shapes)
    assert found.arch.id == name
    original = own_shapes(found.arch, shapes, "") if found.renamed else shapes
    # tables of registers and of positions are no layers, and no LoRA is on them
    layers = {
        key: random_normal(key, shape, 0)
        for key, shape in original.items()
        if key.endswith(".weight") and len(shape) > 1 and key.removesuffix(".weight") not in shapes
    }
    lora = write(tmp_path / "trained.safetensors", trained(layers, "lora_unet_", ranks=True))
    lora_core.merge(base, [lora], tmp_path / "merged.safetensors", on_unmatched="error")
    out = tmp_path / "pytorch_lora_weights.safetensors"
    lora_core.convert(lora, out, dialect="diffusers", base=base, on_unmatched="error")
    pipe = pipeline(loader, transformer=model)
    pipe.load_lora_weights(str(tmp_path), weight_name=out.name)
    pipe.fuse_lora(components=["transformer"])
    after = {key: tensor.contiguous() for key, tensor in plain(model).items()}
    assert_same(after, load_file(tmp_path / "merged.safetensors"), FP32)
    assert len(changed(before, after)) >= len(layers) > 5
