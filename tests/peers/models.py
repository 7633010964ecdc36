"""Tiny random models of diffusers and transformers, and the diffusers loaders that serve them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
    WanTransformer3DModel,
)
from diffusers.loaders.lora_pipeline import (
    FluxLoraLoaderMixin,
    SD3LoraLoaderMixin,
    StableDiffusionLoraLoaderMixin,
    StableDiffusionXLLoraLoaderMixin,
    WanLoraLoaderMixin,
)
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from tests.peers import layouts
from tests.peers.layouts import Weights

DIFFUSION_PREFIX = "model.diffusion_model."


@dataclass(frozen=True)
class Family:
    """One kind of diffusion model: how to make a tiny one, lay it out as the original, and serve it in diffusers."""

    make: Callable[[], nn.Module]
    to_original: Callable[[Mapping[str, torch.Tensor]], Weights]
    loader: type
    component: str = "transformer"
    arch: str = ""  # what lora_core must recognise
    prefix: str = ""  # before the diffusion model's keys in the checkpoint


def flux(**sizes: int) -> nn.Module:
    """Unequal widths of image, text and pooled text, so that no two layers can be mistaken for one another."""
    heads = {"attention_head_dim": 16, "num_attention_heads": 2, "axes_dims_rope": (4, 4, 8)}
    return FluxTransformer2DModel(
        patch_size=1,
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        joint_attention_dim=24,
        pooled_projection_dim=20,
        guidance_embeds=True,
        **(heads | sizes),
    )


def sd3(**options: Any) -> nn.Module:
    return SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_projection_dim=32,
        joint_attention_dim=24,
        pooled_projection_dim=20,
        out_channels=4,
        pos_embed_max_size=8,
        **options,
    )


def sd35_medium() -> nn.Module:
    return sd3(dual_attention_layers=(0,), qk_norm="rms_norm")


def wan(**options: Any) -> nn.Module:
    return WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        text_dim=16,
        freq_dim=16,
        ffn_dim=32,
        num_layers=2,
        cross_attn_norm=True,
        **options,
    )


def wan_image_to_video() -> nn.Module:
    return wan(image_dim=20, added_kv_proj_dim=24)


def sd15() -> nn.Module:
    return UNet2DConditionModel(
        block_out_channels=(320, 32),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=768,
        attention_head_dim=8,
    )


def sdxl() -> nn.Module:
    return UNet2DConditionModel(
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=2048,
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=2816,
        transformer_layers_per_block=(1, 2),
    )


def clip_l() -> nn.Module:
    return CLIPTextModel(_clip_config(768, 12))


def clip_g() -> nn.Module:
    return CLIPTextModelWithProjection(_clip_config(1280, 20))


def _clip_config(width: int, heads: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=64,
        hidden_size=width,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=heads,
        max_position_embeddings=16,
        projection_dim=40,
        bos_token_id=62,
        eos_token_id=63,
    )


FAMILIES: dict[str, Family] = {
    "flux": Family(flux, layouts.flux, FluxLoraLoaderMixin, arch="flux1_dev"),
    "sd3": Family(sd3, layouts.sd3, SD3LoraLoaderMixin, arch="sd3_medium", prefix=DIFFUSION_PREFIX),
    "sd35_medium": Family(sd35_medium, layouts.sd3, SD3LoraLoaderMixin, arch="sd35_medium"),
    "wan": Family(wan, layouts.wan, WanLoraLoaderMixin, arch="wan21"),
    "wan_i2v": Family(wan_image_to_video, layouts.wan, WanLoraLoaderMixin, arch="wan21_i2v_14b"),
    "sd15": Family(sd15, layouts.unet, StableDiffusionLoraLoaderMixin, "unet", "sd15", DIFFUSION_PREFIX),
    "sdxl": Family(sdxl, layouts.unet, StableDiffusionXLLoraLoaderMixin, "unet", "sdxl", DIFFUSION_PREFIX),
}


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """Return the model with every tensor random, norms and biases included, so that no two of them are equal."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.state_dict().values():
        if parameter.is_floating_point():
            fan_in = max(1, parameter[0].numel()) if parameter.dim() > 1 else 1
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / fan_in**0.5)
    return model.requires_grad_(False)


def add_adapter(model: nn.Module, seed: int = 1, **options: Any) -> tuple[Weights, dict[str, Any]]:
    """Put a random LoRA on every linear layer and convolution of `model`; return its weights and its configuration.

    The factors are scaled so that the change has about the size of the weight, whatever alpha and rank are.
    """
    targets = target_modules(model, with_bias=options.get("lora_bias", False))
    # a suffix and a whole name, which are the two ways that patterns are written
    patterns = options.pop("patterns", False)
    if patterns:
        options["rank_pattern"] = {"to_k": 3, targets[-1]: 2}
        options["alpha_pattern"] = {"to_k": 1.5, targets[-1]: 5}
    config = LoraConfig(target_modules=targets, **options)
    model.add_adapter(config)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            fan_in = parameter[0].numel() if parameter.dim() > 1 else 1
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) / fan_in**0.5)
    weights = {key: tensor.contiguous() for key, tensor in get_peft_model_state_dict(model).items()}
    return weights, model.peft_config["default"].to_dict()


def target_modules(model: nn.Module, with_bias: bool = False) -> list[str]:
    """Return every linear layer and convolution; `with_bias`, those whose bias PEFT can change."""
    layers = ((name, module) for name, module in model.named_modules() if isinstance(module, _LAYERS))
    return [name for name, module in layers if module.bias is not None or not with_bias]


_LAYERS = (nn.Linear, nn.Conv2d, nn.Conv3d)


def pipeline(loader: type, **components: nn.Module | None) -> Any:
    """Return what diffusers' LoRA loaders need of a pipeline: their own methods, and the models as attributes."""
    present = {name: components.get(name) for name in loader._lora_loadable_modules}
    return type("Pipeline", (loader,), {"hf_device_map": None, "components": present, **present})()


def plain(model: nn.Module) -> Weights:
    """Return the weights of a model whose adapters are fused, under the names that it has without adapters."""
    return {
        key.replace(".base_layer.", "."): tensor.detach().clone()
        for key, tensor in model.state_dict().items()
        if ".lora_" not in key
    }


def write(path: Path, weights: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None) -> Path:
    save_file({key: tensor.contiguous() for key, tensor in weights.items()}, path, {"format": "pt", **(metadata or {})})
    return path


def prefixed(prefix: str, weights: Mapping[str, torch.Tensor]) -> Weights:
    return {prefix + key: tensor for key, tensor in weights.items()}


def deviation(got: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the largest difference, relative to the largest entry."""
    assert got.shape == expected.shape, (got.shape, expected.shape)
    return float((got.double() - expected.double()).abs().max() / expected.double().abs().max())


def assert_same(got: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], tolerance: float) -> None:
    """Hold every tensor to `tolerance`, relative to its largest entry."""
    assert set(got) == set(expected)
    wrong = {key: error for key in expected if (error := deviation(got[key], expected[key])) > tolerance}
    assert not wrong, f"{len(wrong)} of {len(expected)} tensors differ: {wrong}"


def changed(before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor]) -> set[str]:
    """Return the keys of tensors that moved by more than rounding can explain."""
    return {key for key in before if deviation(after[key], before[key]) > 1e-2}
