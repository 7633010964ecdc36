"""Files that ComfyUI's own loader drops or gets wrong change the image here as the fp64 formula says.

The reference is a checkpoint whose weights were computed in fp64 by the formulas below, loaded without any LoRA.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import lora_core
from tests import tiny
from tests.host.families import FAMILIES, Family, builtin_chain, kept, our_stack, pixels, render
from tests.host_server import Server

FAMILY = {family.name: family for family in FAMILIES}
STRENGTH = 0.7

Tensors = dict[str, Tensor]
Change = Callable[[Tensor], Tensor]  # fp64 weight -> fp64 delta


@dataclass(frozen=True)
class Case:
    """A file in one way of writing: for a module's name and weight shape, its tensors and what they mean."""

    family: str
    modules: Mapping[str, str]  # the tiny model's module: as the file names it
    adapter: Callable[[str, tuple[int, ...]], tuple[Tensors, Change]]
    dropped: bool  # ComfyUI's own loader takes none of it; otherwise it makes another image


def drawn(name: str, *shape: int, size: float = 1.0) -> Tensor:
    return tiny.random_normal(name, shape, 5) * size


def lora(down: str, up: str) -> Callable[[str, tuple[int, ...]], tuple[Tensors, Change]]:
    def adapter(name: str, shape: tuple[int, ...]) -> tuple[Tensors, Change]:
        a = drawn(name + "a", 4, shape[1], size=shape[1] ** -0.5)
        b = drawn(name + "b", shape[0], 4, size=0.3)
        return {name + down: a, name + up: b}, lambda weight: (b.double() @ a.double()).reshape(weight.shape)

    return adapter


def dora(name: str, shape: tuple[int, ...]) -> tuple[Tensors, Change]:
    """W' = m · (W + BA) / ‖W + BA‖ over each output row; here the magnitudes are about twice the weight's norms."""
    parts, change = lora(".lora_down.weight", ".lora_up.weight")(name, shape)
    magnitude = 2 + 0.3 * drawn(name + "m", shape[0], 1)

    def delta(weight: Tensor) -> Tensor:
        turned = weight + change(weight)
        return magnitude.double() * turned / turned.norm(dim=1, keepdim=True) - weight

    return {**parts, name + ".dora_scale": magnitude}, delta


def lokr_tucker(name: str, shape: tuple[int, ...]) -> tuple[Tensors, Change]:
    """ΔW = W₁ ⊗ W₂ with W₂ = t2 ×₁ w2_a ×₂ w2_b; alpha / rank is 1."""
    out, width, *kernel = shape
    w1 = drawn(name + "1", 4, 4, size=0.3)
    t2, a, b = drawn(name + "t", 3, 3, *kernel), drawn(name + "a", 3, out // 4), drawn(name + "b", 3, width // 4)
    b = b * 0.3 * (width * 9) ** -0.5
    parts = {".lokr_w1": w1, ".lokr_t2": t2, ".lokr_w2_a": a, ".lokr_w2_b": b, ".alpha": torch.tensor(3.0)}

    def delta(weight: Tensor) -> Tensor:
        w2 = torch.einsum("ijkl,jr,ip->prkl", t2.double(), b.double(), a.double())
        return torch.einsum("ab,ijkl->aibjkl", w1.double(), w2).reshape(weight.shape)

    return {name + suffix: value for suffix, value in parts.items()}, delta


def kohya_oft(name: str, shape: tuple[int, ...]) -> tuple[Tensors, Change]:
    """W' = R W on blocks of output rows, R = (I + Q)(I − Q)⁻¹, Q = B − Bᵀ; the constraint is loose here."""
    blocks = drawn(name + "o", 4, shape[0] // 4, shape[0] // 4, size=0.02)

    def delta(weight: Tensor) -> Tensor:
        q = blocks.double() - blocks.double().transpose(1, 2)
        one = torch.eye(q.shape[-1], dtype=torch.float64)
        rotation = (one + q) @ torch.linalg.inv(one - q)
        rows = weight.reshape(4, shape[0] // 4, -1)
        return torch.einsum("knm,knf->kmf", rotation, rows).reshape(weight.shape) - weight

    return {name + ".oft_blocks": blocks, name + ".alpha": torch.tensor(100.0)}, delta


def diag_oft(name: str, shape: tuple[int, ...]) -> tuple[Tensors, Change]:
    """LyCORIS: the same with a factor for each output row."""
    parts, change = kohya_oft(name, shape)
    rescale = 1 + 0.3 * drawn(name + "r", shape[0], 1)
    return {**parts, name + ".rescale": rescale}, lambda weight: rescale.double() * (weight + change(weight)) - weight


def onetrainer_oft(name: str, shape: tuple[int, ...]) -> tuple[Tensors, Change]:
    """W' = W Rᵀ on blocks of inputs, R the five-term series I + 2Q + 2Q² + 2Q³ + Q⁴ of Cayley's map."""
    size = 16
    vectors = drawn(name + "v", shape[1] // size, size * (size - 1) // 2, size=0.1)

    def delta(weight: Tensor) -> Tensor:
        q = torch.zeros(len(vectors), size, size, dtype=torch.float64)
        rows, columns = torch.triu_indices(size, size, 1)
        q[:, rows, columns] = vectors.double()
        q = q - q.transpose(1, 2)
        rotation = torch.eye(size, dtype=torch.float64) + 2 * q + 2 * q @ q + 2 * q @ q @ q + q @ q @ q @ q
        inputs = weight.reshape(shape[0], -1, size)
        return torch.einsum("onb,ncb->onc", inputs, rotation).reshape(weight.shape) - weight

    return {name + ".oft_R.weight": vectors}, delta


LEVELS = {"input_blocks.1.1": "down_blocks.0.attentions.0", "middle_block.1": "mid_block.attentions.0",
          "output_blocks.0.1": "up_blocks.0.attentions.0", "output_blocks.1.1": "up_blocks.0.attentions.1"}  # fmt: skip
ATTENTION = {
    f"{here}.transformer_blocks.0.attn{n}.{part}": f"{there}.transformer_blocks.0.attn{n}.{part}"
    for here, there in LEVELS.items()
    for n in (1, 2)
    for part in ("to_q", "to_k", "to_v", "to_out.0")
}
CONVOLUTIONS = {
    "input_blocks.1.0.in_layers.2": "down_blocks.0.resnets.0.conv1",
    "middle_block.0.out_layers.3": "mid_block.resnets.0.conv2",
    "middle_block.2.in_layers.2": "mid_block.resnets.1.conv1",
    "output_blocks.1.0.out_layers.3": "up_blocks.0.resnets.1.conv2",
}
WAN = {f"blocks.0.{module}": f"blocks.0.{module}" for module in
       ("self_attn.q", "self_attn.k", "self_attn.v", "self_attn.o", "ffn.0", "ffn.2")}  # fmt: skip
FLUX = (
    "double_blocks.0.img_attn.qkv",
    "double_blocks.0.img_mlp.0",
    "single_blocks.0.linear1",
    "single_blocks.0.linear2",
)
SD3 = ("joint_blocks.0.x_block.attn.qkv", "joint_blocks.0.x_block.mlp.fc1", "joint_blocks.1.x_block.attn.proj")


def flat(prefix: str, names: Mapping[str, str]) -> dict[str, str]:
    return {here: prefix + there.replace(".", "_") for here, there in names.items()}


def same(names: tuple[str, ...]) -> dict[str, str]:
    return {name: name for name in names}


CASES = {
    "PEFT names, diffusers pipeline": Case(
        "sd15", {here: f"unet.{there}" for here, there in ATTENTION.items()},
        lora(".lora_A.weight", ".lora_B.weight"), dropped=True,
    ),
    "PEFT names, saved raw": Case(
        "sd15", {here: f"base_model.model.{there}" for here, there in ATTENTION.items()},
        lora(".lora_A.weight", ".lora_B.weight"), dropped=True,
    ),
    "bare names": Case("wan21", WAN, lora(".lora_A.default.weight", ".lora_B.default.weight"), dropped=True),
    "DoRA on the output axis": Case("flux", flat("lora_unet_", same(FLUX)), dora, dropped=False),
    "LoKr with a Tucker core": Case("sd15", flat("lora_unet_", CONVOLUTIONS), lokr_tucker, dropped=True),
    "OFT of kohya's scripts": Case("sd15", flat("oft_unet_", ATTENTION), kohya_oft, dropped=True),
    "Diag-OFT with rescale": Case("sd3", flat("lora_unet_", same(SD3)), diag_oft, dropped=False),
    "OFT of OneTrainer": Case("sd15", flat("lora_unet_", ATTENTION), onetrainer_oft, dropped=True),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_image_is_that_of_the_fp64_formula(server: Server, name: str) -> None:
    case = CASES[name]
    family = FAMILY[case.family].without_text(server)
    folder = family.model.rpartition("/")[0] or "checkpoints"
    prefix = "" if folder == "diffusion_models" else "model.diffusion_model."
    own = server.models / folder / family.model.rpartition("/")[2]
    weights, file = load_file(own), {}
    prefix = prefix if any(key.startswith(prefix) for key in weights) else ""
    for module, named in case.modules.items():
        key = f"{prefix}{module}.weight"
        parts, change = case.adapter(named, tuple(weights[key].shape))
        file |= parts
        weights[key] = (weights[key].double() + STRENGTH * change(weights[key].double())).float()
    slug = name.replace(" ", "_").replace(",", "").replace("'", "")
    save_file({key: value.float() for key, value in weights.items()}, own.with_name(f"{slug}.safetensors"))
    lora_name = f"{slug}.safetensors"
    save_file({key: value.contiguous() for key, value in file.items()}, server.models / "loras" / lora_name)
    compare(server, family, lora_name, name)


def compare(server: Server, family: Family, lora_name: str, name: str) -> None:
    folder = family.model.rpartition("/")[0]
    reference = render(server, family.prompt(model=f"{folder}/{lora_name}".lstrip("/")))
    base = kept(server, family.prompt())
    ours = render(server, family.prompt(our_stack((lora_name, STRENGTH, STRENGTH))))
    theirs = render(server, family.prompt(builtin_chain((lora_name, STRENGTH, STRENGTH))))
    moved = mean(reference, base)
    ours_off, theirs_off = mean(ours, reference), mean(theirs, reference)
    print(f"{name}: moved {moved:.2f}, ours off by {ours_off:.4f}, theirs by {theirs_off:.2f}")  # noqa: T201
    assert moved > 1
    assert int(abs(ours - reference).max()) <= 1  # fp32 against fp64: at most the last rounding to a level
    assert ours_off < 0.01 * moved
    if CASES[name].dropped:
        assert mean(theirs, base) == 0
    else:
        assert theirs_off > 0.1 * moved


def mean(image: np.ndarray, other: np.ndarray) -> float:
    return float(abs(image - other).mean())


def test_a_name_that_only_comfyui_knows_is_used_and_said(server: Server) -> None:
    """ComfyUI takes Flux.2's name of the feed-forward for Flux.1 too."""
    family = FAMILY["flux"].without_text(server)
    name = "transformer.transformer_blocks.0.ff.linear_in"
    tiny.make_lora(server.models / "loras" / "host_name.safetensors", {name: (512, 128)}, style="peft")
    prompt = family.prompt(our_stack(("host_name.safetensors", 1.0, 1.0)))
    run = server.run(prompt)
    assert f"1 module placed by ComfyUI's names: {name}" in run.text("load")
    theirs = render(server, family.prompt(builtin_chain(("host_name.safetensors", 1.0, 1.0))))
    assert int(abs(pixels(server, run) - theirs).max()) <= 1
    assert mean(theirs, kept(server, family.prompt())) > 0.1


def test_a_quantised_model_takes_the_stack_as_the_builtin_loader_does(server: Server) -> None:
    """ComfyUI holds scaled fp8 as codes, and rounds what a patch gives it with a seed of its own."""
    family = FAMILY["flux"]
    family.write(server)
    lora = (family.lora("a"), 0.8, 0.6)
    own = server.models / "checkpoints" / family.model
    out = own.with_name("flux_scaled_fp8.safetensors")
    lora_core.merge(own, [(server.models / "loras" / lora[0], 0.0)], out, dtype="fp8_e4m3fn_scaled", overwrite=True)
    base = render(server, family.prompt(model=out.name))
    theirs = render(server, family.prompt(builtin_chain(lora), model=out.name))
    run = server.run(family.prompt(our_stack(lora, semantics="comfyui"), model=out.name))
    assert int(abs(pixels(server, run) - theirs).max()) == 0
    assert mean(theirs, base) > 1
    (report,) = run.outputs["load"]["report"][0]["loras"]
    assert report["modules_matched"] == report["modules_total"]
