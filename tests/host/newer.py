"""Tiny models of MiniMax-H3, Qwen-Image, Ideogram 4, LTX-2 and HiDream-O1, an invented one, and how to sample them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests import invented, manifests, tiny
from tests.host.families import LOAD, Prompt, node, stack_rows
from tests.host_server import Server
from tests.manifests import Shape
from tests.spellings import (
    AI_TOOLKIT,
    DIFFSYNTH,
    DIFFUSERS,
    LAGOON,
    LYCORIS,
    MUSUBI,
    Factors,
    Spelling,
    by_head,
    change,
    swapped,
)

Link = list[Any]


@dataclass(frozen=True)
class Newer:
    """A tiny model: which modules a LoRA changes, who writes it how, and what a sampler needs."""

    name: str
    title: str
    changed: str  # pattern of the modules that the LoRAs change, in ComfyUI's words
    spellings: tuple[Spelling, ...]  # ComfyUI's own loader reads the first
    latent: tuple[Shape, ...]  # several: streams of video and sound
    width: int  # of the conditioning
    last_id: int = 0  # of the prompt's tokens, where the model reads their numbers
    loader: str = "LoraCoreTestLoadSmall"  # or ComfyUI's own, where it takes the sizes from the file

    @property
    def file(self) -> str:
        return f"newer/{self.name}.safetensors"

    def other(self, what: str) -> str:
        return self.file.replace(".", f" {what}.")

    def modules(self) -> dict[str, Shape]:
        return {name: shape for name, shape in tiny.modules(self.name).items() if re.fullmatch(self.changed, name)}

    def write(self, server: Server, factors: Factors) -> None:
        """Write the model, a copy, the LoRA as each trainer writes it, and the model with its change, made in fp64."""
        models = server.models / "diffusion_models"
        self._make(models / self.file)
        shutil.copyfile(models / self.file, models / self.other("copy"))
        changed = load_file(models / self.file)
        prefix = next(p for p in ("net.", *tiny.MODEL_PREFIXES) if any(key.startswith(p) for key in changed))
        for module, (down, up) in factors.items():
            key = f"{prefix}{module}.weight"
            changed[key] = (changed[key].double() + change(down, up)).float()
        save_file(changed, models / self.other("by hand"), self._header())
        (server.models / "loras/newer").mkdir(exist_ok=True)
        for spelling in self.spellings:
            save_file(spelling.tensors(factors), server.models / "loras" / self.lora(spelling))

    def _make(self, path: Path) -> None:
        tiny.make_tiny(self.name, path)

    def _header(self) -> dict[str, str]:
        return {"config": json.dumps(manifests.tiny_config(self.name))}

    def lora(self, spelling: Spelling) -> str:
        return f"newer/{self.name}_{spelling.id}.safetensors"

    def load(self, prompt: Prompt, tag: str, file: str) -> Link:
        own = {"unet_name": file, "weight_dtype": "default"}
        node(f"model {tag}", prompt, self.loader, **(own if self.loader == "UNETLoader" else {"file": file}))
        return [f"model {tag}", 0]

    def sample(self, prompt: Prompt, tag: str, model: Link) -> None:
        """Add a sampler of two steps, and what writes its latent as `tag`."""
        conditioning = {"tokens": 12, "width": self.width, "pooled": 16, "seed": 7, "last_id": self.last_id}
        node("text", prompt, "LoraCoreTestRandomConditioning", **conditioning)
        node("latent", prompt, "LoraCoreTestEmptyLatent", shapes=json.dumps(self.latent))
        node(
            f"sampler {tag}", prompt, "KSampler", model=model, positive=["text", 0], negative=["text", 0], seed=3,
            steps=2, latent_image=["latent", 0], cfg=1.0, sampler_name="euler", scheduler="simple", denoise=1.0,
        )  # fmt: skip
        node(tag, prompt, "LoraCoreTestSaveLatents", latent=[f"sampler {tag}", 0], file=f"{self.name} {tag}")

    def live(self, prompt: Prompt, tag: str, model: Link, spelling: Spelling) -> Link:
        rows = stack_rows((self.lora(spelling), 1.0, 1.0))
        node(f"stack {tag}", prompt, "LoraCoreStack", rows=rows)
        node(f"load {tag}", prompt, "LoraCoreLoad", model=model, lora_stack=[f"stack {tag}", 0], **LOAD)
        return [f"load {tag}", 0]


@dataclass(frozen=True)
class Invented(Newer):
    """The model that nobody has described."""

    def modules(self) -> dict[str, Shape]:
        return invented.layers()

    def _make(self, path: Path) -> None:
        save_file({f"net.{key}": tensor for key, tensor in invented.state().items()}, path)

    def _header(self) -> dict[str, str]:
        return {}


def latents(server: Server, prompt: Prompt) -> dict[str, dict[str, Tensor]]:
    """Run a prompt, and return the streams of each latent that it writes."""
    run = server.run(prompt)
    assert (run.status, run.error) == ("success", "")
    written = {tag: output["text"][0] for tag, output in run.outputs.items() if "latents/" in str(output.get("text"))}
    return {tag: load_file(Path(server.output, file)) for tag, file in written.items()}


def apart(found: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """Return how far two latents are apart, as a part of the second's size; of the streams the worst counts."""
    assert found.keys() == other.keys()
    assert all(torch.isfinite(stream).all() for stream in found.values())
    return max(float((found[n] - other[n]).norm() / other[n].norm()) for n in other)


_H3_NAMES = (
    (r"^token_refiner\.blocks", "token_refiner.refiner_blocks"),
    (r"^blocks", "transformer_blocks"),
    (r"attn\.out_proj$", "attn.to_out.0"),
    (r"mlp\.fc1$", "ff.net.0.proj"),
    (r"mlp\.fc2$", "ff.net.2"),
    (r"^video_patch_proj$", "proj_in"),
    (r"^audio_patch_proj$", "audio_proj_in"),
    (r"^condition_proj$", "context_embedder"),
    (r"^time_embedder\.proj_in$", "time_embedder.linear_1"),
    (r"^time_embedder\.proj_out$", "time_embedder.linear_2"),
    (r"^final_layer\.adaln_proj\.linear$", "norm_out.linear"),
    (r"^final_layer\.video_out$", "proj_out"),
    (r"^final_layer\.audio_out$", "audio_proj_out"),
)
_LTX2_NAMES = (
    (r"^(audio_)?patchify_proj$", r"\1proj_in"),
    (r"^(audio_)?adaln_single", r"\1time_embed"),
    (r"^av_ca_(video|audio)_scale_shift_adaln_single", r"av_cross_attn_\1_scale_shift"),
    (r"^av_ca_a2v_gate_adaln_single", "av_cross_attn_video_a2v_gate"),
    (r"^av_ca_v2a_gate_adaln_single", "av_cross_attn_audio_v2a_gate"),
)
_O1_LEVEL = ((r"^", "model."),)

NEWER = (
    Newer(
        "minimax_h3", "MiniMax-H3", ".*",
        (
            AI_TOOLKIT,
            MUSUBI,
            replace(
                DIFFUSERS, names=_H3_NAMES, pieces={"qkv_proj": ("to_q", "to_k", "to_v")}, orders={"mlp.fc1": swapped}
            ),
            Spelling("DiffSynth", "", DIFFSYNTH, orders={"qkv_proj": by_head(56)}),
        ),
        latent=((1, 24, 2, 4, 4), (1, 32, 2, 8)), width=48, loader="UNETLoader",
    ),
    Newer(
        "qwen_image", "Qwen-Image", ".*", (MUSUBI, DIFFUSERS, LYCORIS),
        latent=((1, 16, 1, 8, 8),), width=3584,
    ),
    Newer(
        "ideogram4", "Ideogram 4", r"(?!embed_image).*",
        (
            replace(AI_TOOLKIT, id="OneTrainer", has_alpha=True),
            MUSUBI,
            replace(
                DIFFUSERS, names=((r"attention\.o$", "attention.to_out.0"),),
                pieces={"attention.qkv": ("attention.to_q", "attention.to_k", "attention.to_v")},
            ),
        ),
        latent=((1, 128, 4, 4),), width=80,
    ),
    Newer(
        "ltx2", "LTX-2 19B", r"(?!(audio|video)_embeddings|(audio_)?caption).*",
        (AI_TOOLKIT, MUSUBI, replace(DIFFUSERS, names=_LTX2_NAMES)),
        latent=((1, 128, 2, 2, 2), (1, 8, 4, 16)), width=48, loader="UNETLoader",
    ),
    Newer(
        "hidream_o1", "HiDream O1", r"language_model\.layers.*|t_embedder1.*|x_embedder.*|final_layer2.*",
        (AI_TOOLKIT, replace(MUSUBI, names=_O1_LEVEL), Spelling("DiffSynth", "", DIFFSYNTH, names=_O1_LEVEL)),
        latent=((1, 3, 64, 64),), width=16, last_id=151673,
    ),
    Invented(
        "invented", "unknown model", ".*", LAGOON,
        latent=((1, 4, 8, 8),), width=16, loader="LoraCoreTestLoadInvented",
    ),
)  # fmt: skip
