"""Extract LoRA in a real ComfyUI from loaded models and stacks: the file gives the live image back in any loader."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.host.families import FAMILIES, Family, Prompt, builtin_chain, kept, node, our_stack, render, stack_rows
from tests.host.test_writing_nodes import picture
from tests.host_server import Run, Server

EXTRACTED = 0.3  # mean levels: what the fp16 rounding of the factors leaves, at a rank that holds the whole change
EXTRACT: dict[str, Any] = {
    "base": "None", "tuned": "None", "rank": 16, "energy": 0.0, "max_rank": 64, "conv_rank": 0, "dialect": "kohya",
    "dtype": "fp16",
}  # fmt: skip


@dataclass(frozen=True)
class Scene:
    """A family on the server, and its image with a stack of LoRAs on the diffusion model alone."""

    server: Server
    family: Family
    base: np.ndarray
    live: np.ndarray

    @property
    def loras(self) -> tuple[tuple[str, float, float], ...]:
        return (self.family.lora("a"), 0.8, 0.0), (self.family.lora("b"), -0.5, 0.0)

    def loaded(self, prompt: Prompt, name: str = "model") -> list[Any]:
        if self.family.model.startswith("diffusion_models/"):
            file = self.family.model.removeprefix("diffusion_models/")
            node(name, prompt, "UNETLoader", unet_name=file, weight_dtype="default")
        else:
            node(name, prompt, "CheckpointLoaderSimple", ckpt_name=self.family.model)
        return [name, 0]

    def image(self, lora: str, patch: Any = builtin_chain) -> np.ndarray:
        return render(self.server, self.family.prompt(patch((lora, 1.0, 0.0))))


@pytest.fixture(scope="module", params=[family for family in FAMILIES if family.name != "sd15"], ids=lambda f: f.name)
def scene(server: Server, request: pytest.FixtureRequest) -> Scene:
    family = request.param.without_text(server)
    loras = (family.lora("a"), 0.8, 0.0), (family.lora("b"), -0.5, 0.0)
    live = kept(server, family.prompt(our_stack(*loras)))
    return Scene(server, family, kept(server, family.prompt()), live)


def extracted(server: Server, prompt: Prompt, **inputs: Any) -> tuple[str, Run]:
    """Add the node to the prompt, run it, and return the name of the LoRA that it wrote."""
    node("extract", prompt, "LoraCoreExtract", **{**EXTRACT, **inputs})
    node("name", prompt, "PreviewAny", source=["extract", 0])
    run = server.run(prompt)
    assert (run.status, run.error) == ("success", "")
    return run.text("name"), run


def distance(image: np.ndarray, other: np.ndarray) -> float:
    return float(abs(image - other).mean())


def wired(scene: Scene, prompt: Prompt, patch: Any = our_stack) -> dict[str, list[Any]]:
    model = scene.loaded(prompt)
    patched, _ = patch(*scene.loras)(prompt, model, None)
    return {"model_base": model, "model_tuned": patched}


@pytest.mark.parametrize("patch", [our_stack, builtin_chain], ids=["Load LoRA", "LoraLoader"])
def test_two_wired_models_give_the_image_back(scene: Scene, patch: Any) -> None:
    prompt: Prompt = {}
    prefix = f"wired/{scene.family.name}_{patch.__name__}"
    name, run = extracted(scene.server, prompt, **wired(scene, prompt, patch), filename_prefix=prefix)
    assert distance(scene.live, scene.base) > 3
    for loader in (builtin_chain, our_stack):
        assert distance(scene.image(name, loader), scene.live) < EXTRACTED
    (report,) = run.outputs["extract"]["report"]
    assert [item["name"] for item in report["inputs"]] == ["model_base", "model_tuned"]
    assert min(layer["energy"] for layer in report["layers"]) > 0.999
    assert run.progress[-1][0] == run.progress[-1][1], "the bar ends full"


def test_a_file_and_a_wired_model(scene: Scene) -> None:
    prompt: Prompt = {}
    models = wired(scene, prompt)
    name, run = extracted(
        scene.server, prompt, base=scene.family.model, model_tuned=models["model_tuned"],
        filename_prefix=f"mixed/{scene.family.name}",
    )  # fmt: skip
    assert distance(scene.image(name), scene.live) < EXTRACTED
    assert "of the tuned model only" not in run.text("extract")


# where the base comes from and what is written of the change are two parts of the node: each in both its ways
@pytest.mark.parametrize(("kind", "wires"), [("lora", "file"), ("dora", "model")])
def test_a_stack_becomes_one_lora(scene: Scene, kind: str, wires: str) -> None:
    prompt: Prompt = {}
    node("stack", prompt, "LoraCoreStack", rows=stack_rows(*scene.loras))
    base = {"base": scene.family.model} if wires == "file" else {"model_base": scene.loaded(prompt)}
    name, _ = extracted(
        scene.server, prompt, **base, lora_stack=["stack", 0], kind=kind, dialect="comfy",
        rank=16 if kind == "lora" else 512,
        filename_prefix=f"stacked/{scene.family.name}_{kind}_{wires}", dtype="fp16" if kind == "lora" else "fp32",
    )  # fmt: skip
    # ComfyUI's loader divides by ‖W‖ instead of ‖V‖, which is why V has the lengths of W: both read the same
    assert distance(scene.image(name, our_stack), scene.live) < EXTRACTED
    assert distance(scene.image(name, builtin_chain), scene.live) < EXTRACTED


def test_wires_and_a_stack_are_ways_to_the_same_lora(scene: Scene) -> None:
    prompt: Prompt = {}
    name, _ = extracted(scene.server, prompt, **wired(scene, prompt), filename_prefix=f"ways/{scene.family.name}")
    prompt = {}
    node("stack", prompt, "LoraCoreStack", rows=stack_rows(*scene.loras))
    prefix = f"ways/{scene.family.name}_stack"
    other, _ = extracted(scene.server, prompt, base=scene.family.model, lora_stack=["stack", 0], filename_prefix=prefix)
    first, second = (products(load_file(scene.server.models / "loras" / one)) for one in (name, other))
    assert first.keys() == second.keys()
    for module, change in first.items():
        assert float((change - second[module]).norm()) < 2e-3 * float(change.norm()), module  # fp16 factors


def products(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    ends = ".lora_up.weight", ".lora_down.weight"
    modules = [name.removesuffix(ends[0]) for name in tensors if name.endswith(ends[0])]
    return {one: torch.mm(*(tensors[one + end].float().flatten(1) for end in ends)) for one in modules}


FLUX = FAMILIES[0]


@pytest.fixture(scope="module")
def flux(server: Server) -> Server:
    FLUX.write(server)
    return server


def test_an_estimate_writes_nothing_and_shows_the_picture(flux: Server) -> None:
    prompt: Prompt = {}
    node("stack", prompt, "LoraCoreStack", rows=stack_rows((FLUX.lora("a"), 1.0, 1.0)))
    before = sorted((flux.models / "loras").rglob("*"))
    name, run = extracted(
        flux, prompt, base=FLUX.model, lora_stack=["stack", 0], filename_prefix="estimates/flux", estimate_only=True,
        rank_by="file_size", threshold=0.05,
    )  # fmt: skip
    assert name == ""
    assert sorted((flux.models / "loras").rglob("*")) == before
    (report,) = run.outputs["extract"]["report"]
    assert 0.04e6 < report["predicted_bytes"] <= 0.05e6
    assert "the file would have" in run.text("extract")
    shown = picture(flux, run, "extract")
    assert shown.shape[1] == 960
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) > 10


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ({}, "base: choose the checkpoint that was tuned, or connect model_base."),
        ({"base": FLUX.model}, "tuned: choose the tuned checkpoint, or connect model_tuned or lora_stack."),
        ({"base": FLUX.model, "model_base": ["model", 0]}, f"base: both {FLUX.model} and model_base are given"),
        (
            {"base": FLUX.model, "tuned": FLUX.model, "model_tuned": ["model", 0]},
            "tuned: tuned and model_tuned are given, and one of them is needed",
        ),
        ({"base": FLUX.model, "lora_stack": ["empty", 0]}, "lora_stack: is empty; switch on at least one LoRA"),
        ({"base": FLUX.model, "tuned": FLUX.model}, "flux.safetensors: is the base itself, the same file"),
        ({"model_base": ["model", 0], "model_tuned": ["model", 0]}, "nothing to extract"),
    ],
)
def test_what_is_missing_is_said(flux: Server, inputs: dict[str, Any], expected: str) -> None:
    prompt: Prompt = {}
    node("model", prompt, "CheckpointLoaderSimple", ckpt_name=FLUX.model)
    node("empty", prompt, "LoraCoreStack", rows=stack_rows())
    node("extract", prompt, "LoraCoreExtract", **{**EXTRACT, "filename_prefix": "missing/flux", **inputs})
    run = flux.run(prompt)
    assert run.status == "error"
    assert expected in run.error
    assert [path for path in (flux.models / "loras").rglob("*missing*") if path.is_file()] == []
