"""One tiny model for each family that the issue names, and the prompt that makes an image with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image
from safetensors.torch import load_file, save_file

from tests import tiny
from tests.host_server import Run, Server

Prompt = dict[str, dict[str, Any]]
Patch = Callable[[Prompt, list[Any], list[Any] | None], tuple[list[Any], list[Any] | None]]
SIZE = 64  # pixels


@dataclass(frozen=True)
class Family:
    """A tiny model: its files, and how ComfyUI loads, conditions and decodes it."""

    name: str
    model: str  # as Merge to Checkpoint lists it
    has_text: bool  # a text encoder that a LoRA can change
    encoder: str | None = None  # its own file, if it has one
    latent: str = "EmptySD3LatentImage"
    width: int = 4096  # of the random conditioning where there is no text encoder
    pooled: int = 2048

    def write(self, server: Server) -> None:
        """Write the model's files and its LoRAs, once."""
        for path, model in self._files().items():
            target = server.models / path
            if not target.exists():
                tiny.make_tiny(model, target)
        # ComfyUI's own loader folds a Tucker core for two-dimensional kernels only; Wan's are three-dimensional
        second = "kohya" if self.name == "wan21" else "tucker"
        for name, style, rank, seed in (("a", "kohya", 4, 1), ("b", second, 3, 2)):
            path = server.models / "loras" / self.lora(name)
            if not path.exists():
                tiny.make_lora(path, self.modules(), rank, style=style, alpha=2, seed=seed)

    def without_text(self, server: Server) -> Family:
        """Return the same model without its text encoder, which is most of its bytes; write its files."""
        self.write(server)
        if not self.has_text:
            return self
        bare = replace(self, has_text=False, encoder=None, width=768, pooled=768)
        if self.encoder:
            return bare
        bare = replace(bare, model=f"{self.name}_bare.safetensors")
        path = server.models / "checkpoints" / bare.model
        if not path.exists():
            tensors = load_file(path.with_name(self.model))
            save_file({key: tensors[key] for key in tensors if not key.startswith("cond_stage_model.")}, path)
        return bare

    def lora(self, name: str) -> str:
        return f"{self.name}/{name}.safetensors"

    def modules(self) -> dict[str, tuple[int, ...]]:
        """The modules that the LoRAs change, by kohya's names: the diffusion model's, and the text encoder's."""
        named = tiny.flat("lora_unet_", tiny.modules(self.name))
        if self.has_text:
            prefix = "lora_te_" if self.encoder is None else "lora_te1_"
            layers = {f"text_model.encoder.layers.{i}.mlp.fc{n}": SHAPES[n] for i in range(12) for n in (1, 2)}
            queries = {
                f"text_model.encoder.layers.{i}.self_attn.{p}_proj": (768, 768) for i in range(12) for p in "qkv"
            }
            named |= tiny.flat(prefix, {**layers, **queries})
        return named

    def prompt(self, patch: Patch | None = None, *, model: str | None = None, encoder: str | None = None) -> Prompt:
        """Return a prompt that saves an image; `patch` may add LoRA nodes between the loaders and the sampler."""
        prompt: Prompt = {}
        loaded, clip, vae = self._loaders(prompt, model or self.model, encoder or self.encoder)
        if patch:
            loaded, clip = patch(prompt, loaded, clip)
        if clip is None:
            node(
                "text",
                prompt,
                "LoraCoreTestRandomConditioning",
                tokens=16,
                width=self.width,
                pooled=self.pooled,
                seed=7,
            )
        else:
            node("text", prompt, "CLIPTextEncode", clip=clip, text="a lighthouse in ink")
        length = {"length": 1} if self.latent == "EmptyHunyuanLatentVideo" else {}
        node("latent", prompt, self.latent, width=SIZE, height=SIZE, batch_size=1, **length)
        node(
            "sampler", prompt, "KSampler", model=loaded, positive=["text", 0], negative=["text", 0], seed=3, steps=2,
            latent_image=["latent", 0], cfg=1.0, sampler_name="euler", scheduler="simple", denoise=1.0,
        )  # fmt: skip
        node("image", prompt, "VAEDecode", samples=["sampler", 0], vae=vae)
        node("save", prompt, "SaveImage", images=["image", 0], filename_prefix=f"tests/{self.name}")
        return prompt

    def _files(self) -> Mapping[str, str]:
        folder = "" if self.model.startswith("diffusion_models/") else "checkpoints/"
        files = {folder + self.model: self.name}
        if self.encoder:
            files[self.encoder] = "clip_l"
        if folder == "":
            files["vae/tae16.safetensors"] = "tae16"
        return files

    def _loaders(
        self, prompt: Prompt, model: str, encoder: str | None
    ) -> tuple[list[Any], list[Any] | None, list[Any]]:
        if model.startswith("diffusion_models/"):
            name = model.removeprefix("diffusion_models/")
            node("model", prompt, "UNETLoader", unet_name=name, weight_dtype="default")
            node("vae", prompt, "VAELoader", vae_name="tae16.safetensors")
            return ["model", 0], None, ["vae", 0]
        node("model", prompt, "CheckpointLoaderSimple", ckpt_name=model)
        if encoder:
            name = encoder.removeprefix("text_encoders/")
            node("clip", prompt, "CLIPLoader", clip_name=name, type="stable_diffusion")
        clip = ["clip", 0] if encoder else ["model", 1] if self.has_text else None
        return ["model", 0], clip, ["model", 2]


SHAPES = {1: (3072, 768), 2: (768, 3072)}  # the two layers of CLIP-L's feed-forward

FAMILIES = (
    Family("flux", "flux.safetensors", has_text=True, encoder="text_encoders/clip_l.safetensors"),
    Family("sd15", "sd15.safetensors", has_text=True, latent="EmptyLatentImage"),
    Family("sd3", "sd3.safetensors", has_text=False),
    Family("wan21", "diffusion_models/wan21.safetensors", has_text=False, latent="EmptyHunyuanLatentVideo"),
)


def node(name: str, prompt: Prompt, class_type: str, **inputs: Any) -> None:
    prompt[name] = {"class_type": class_type, "inputs": inputs}


def stack_rows(*loras: tuple[str, float, float]) -> dict[str, Any]:
    rows = [{"on": True, "name": name, "strength": model, "strength_clip": clip} for name, model, clip in loras]
    return {"v": 1, "rows": rows}


def our_stack(*loras: tuple[str, float, float], **options: Any) -> Patch:
    """Stack LoRAs into Load LoRA."""

    def patch(prompt: Prompt, model: list[Any], clip: list[Any] | None) -> tuple[list[Any], list[Any] | None]:
        node("stack", prompt, "LoraCoreStack", rows=stack_rows(*loras))
        node("load", prompt, "LoraCoreLoad", model=model, lora_stack=["stack", 0], **{**LOAD, **options})
        if clip:
            prompt["load"]["inputs"]["clip"] = clip
        return ["load", 0], ["load", 1] if clip else None

    return patch


LOAD = {
    "lora_name": "None",
    "strength_model": 1.0,
    "strength_clip": 1.0,
    "on_unmatched": "warn",
    "semantics": "paper",
}


def builtin_chain(*loras: tuple[str, float, float]) -> Patch:
    """ComfyUI's own loaders, one after the other."""

    def patch(prompt: Prompt, model: list[Any], clip: list[Any] | None) -> tuple[list[Any], list[Any] | None]:
        for index, (name, strength_model, strength_clip) in enumerate(loras):
            if clip:
                node(
                    f"lora{index}", prompt, "LoraLoader", model=model, clip=clip, lora_name=name,
                    strength_model=strength_model, strength_clip=strength_clip,
                )  # fmt: skip
                clip = [f"lora{index}", 1]
            else:
                node(
                    f"lora{index}", prompt, "LoraLoaderModelOnly", model=model, lora_name=name,
                    strength_model=strength_model,
                )  # fmt: skip
            model = [f"lora{index}", 0]
        return model, clip

    return patch


def pixels(server: Server, run: Run) -> np.ndarray:
    """Return the saved image as integers [height, width, 3]."""
    assert (run.status, run.error) == ("success", "")
    (saved,) = run.outputs["save"]["images"]
    with Image.open(server.output / saved["subfolder"] / saved["filename"]) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def render(server: Server, prompt: Prompt) -> np.ndarray:
    return pixels(server, server.run(prompt))


def kept(server: Server, prompt: Prompt) -> np.ndarray:
    """Return the image of a prompt of files that no test changes, made once in a run."""
    key = server.url, json.dumps(prompt)
    if key not in _IMAGES:
        _IMAGES[key] = render(server, prompt)
    return _IMAGES[key]


_IMAGES: dict[tuple[str, str], np.ndarray] = {}
