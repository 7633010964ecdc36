"""Kinds other than LoRA, converted: ComfyUI's own loader makes the image that Load LoRA makes of the original."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import lora_core
from tests import tiny
from tests.host.families import FAMILIES, builtin_chain, kept, our_stack, render
from tests.host.test_formats import dora, lokr_tucker, mean
from tests.host_server import Server

Maker = Callable[[str, tuple[int, ...]], dict[str, Tensor]]


def drawn(name: str, *shape: int) -> Tensor:
    return tiny.random_normal(name, shape, 8)


def loha(name: str, shape: tuple[int, ...]) -> dict[str, Tensor]:
    rows, columns = shape
    shapes = {"w1_a": (rows, 2), "w1_b": (2, columns), "w2_a": (rows, 2), "w2_b": (2, columns)}
    parts = {f"{name}.hada_{part}": drawn(name + part, *size) for part, size in shapes.items()}
    return {**parts, f"{name}.alpha": torch.tensor(0.05)}


def lokr(name: str, shape: tuple[int, ...]) -> dict[str, Tensor]:
    rows, columns = shape
    w2 = drawn(name + "2", rows // 4, columns // 4) * 0.05
    return {f"{name}.lokr_w1": drawn(name + "1", 4, 4), f"{name}.lokr_w2": w2}


# family, a name of the file and its weight's shape, the kind, and how it is converted
SPLIT = "lycoris_transformer_blocks_0_attn_to_{}"  # pieces of what Flux.1 fuses
CASES: dict[str, tuple[str, dict[str, tuple[int, ...]], Maker, dict[str, str]]] = {
    "LoHa of pieces": ("flux", {SPLIT.format(part): (128, 128) for part in "qkv"}, loha, {}),
    "LoKr of pieces": ("flux", {SPLIT.format(part): (128, 128) for part in "qv"}, lokr, {}),
    "LoKr renamed": ("flux", {"transformer.single_transformer_blocks.0.proj_out": (128, 640)}, lokr, {}),
    "LoKr with a core": (
        "sd15",
        {"lora_unet_down_blocks_0_resnets_0_conv1": (320, 320, 3, 3)},
        lambda name, shape: lokr_tucker(name, shape)[0],
        {"kind": "lora"},
    ),
    "DoRA as LoRA": (
        "flux",
        {"lora_unet_double_blocks_0_img_mlp_0": (512, 128)},
        lambda name, shape: dora(name, shape)[0],
        {"kind": "lora"},
    ),
}


# each case in one dialect: `test_converted_in_host` has the names of both, for every module of five models
@pytest.mark.parametrize(("case", "dialect"), [*zip(CASES, cycle(("comfy", "kohya")), strict=False)])
def test_the_builtin_loader_makes_the_same_image(server: Server, case: str, dialect: str) -> None:
    name, modules, make, options = CASES[case]
    family = next(one for one in FAMILIES if one.name == name).without_text(server)
    loras, slug = server.models / "loras", case.replace(" ", "_")
    tensors = {key: value for module, shape in modules.items() for key, value in make(module, shape).items()}
    save_file({key: value.contiguous() for key, value in tensors.items()}, loras / f"{slug}.safetensors")
    out = loras / f"{slug}_{dialect}.safetensors"
    base = server.models / "checkpoints" / family.model
    lora_core.convert(loras / f"{slug}.safetensors", out, dialect=dialect, base=base, overwrite=True, **options)
    ours = render(server, family.prompt(our_stack((f"{slug}.safetensors", 1.0, 1.0))))
    theirs = render(server, family.prompt(builtin_chain((out.name, 1.0, 1.0))))
    assert mean(ours, kept(server, family.prompt())) > 0.5
    assert int(abs(ours - theirs).max()) <= 1
