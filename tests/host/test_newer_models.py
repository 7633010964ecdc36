"""MiniMax-H3, Qwen-Image, Ideogram 4, LTX-2, HiDream-O1 and a model that nobody has described, on the real ComfyUI.

One LoRA in several trainers' words. The live latent is the merged file's bit for bit, and that of weights changed by
hand in fp64: ComfyUI holds these models' weights in fp32 here, so only the order of sums differs there, a rounding of
6e-8 a weight, grown by two steps of sampling.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from tests.host.families import Prompt, node, stack_rows
from tests.host.newer import NEWER, Newer, apart, latents
from tests.host_server import Server
from tests.spellings import drawn

ROUNDING = 3e-6  # of a latent's size; a wrong order of rows, a lost module or a wrong alpha moves it by more than 1e-2
CHANGE = 0.05  # of a latent's size, what the LoRA moves it at least: by half, or by a tenth where noise is most of it

Latents = Mapping[str, dict[str, Tensor]]


@dataclass(frozen=True)
class Sampled:
    """A model on the server, and its latents: without a LoRA, changed by hand, and live in each spelling."""

    server: Server
    model: Newer
    latents: Latents


@pytest.fixture(scope="module", params=NEWER, ids=lambda model: model.name)
def sampled(server: Server, request: pytest.FixtureRequest) -> Sampled:
    """One loaded model runs with a LoRA first, and its copy without one: neither may know of the other run."""
    model: Newer = request.param
    model.write(server, drawn(model.modules()))
    first, *others = model.spellings
    before, after, more = Prompt(), Prompt(), Prompt()
    loaded, copied = model.file, model.other("copy")
    model.sample(before, first.id, model.live(before, first.id, model.load(before, "model", loaded), first))
    for tag, file in (("base", loaded), ("copy", copied), ("by hand", model.other("by hand"))):
        model.sample(after, tag, model.load(after, tag, file))
    for spelling in others:
        model.sample(more, spelling.id, model.live(more, spelling.id, model.load(more, "copy", copied), spelling))
    found = [latents(server, prompt) for prompt in (before, after, more)]
    return Sampled(server, model, {tag: latent for one in found for tag, latent in one.items()})


def test_each_spelling_is_the_same_change(sampled: Sampled) -> None:
    assert len(sampled.model.spellings) >= 3
    assert apart(sampled.latents["base"], sampled.latents["by hand"]) > CHANGE
    for spelling in sampled.model.spellings:
        assert apart(sampled.latents[spelling.id], sampled.latents["by hand"]) < ROUNDING, spelling.id


def test_the_merged_file_gives_the_live_latent(sampled: Sampled) -> None:
    server, model, prompt = sampled.server, sampled.model, {}
    for spelling in model.spellings:
        node(f"stack {spelling.id}", prompt, "LoraCoreStack", rows=stack_rows((model.lora(spelling), 1.0, 1.0)))
        node(
            spelling.id, prompt, "LoraCoreMerge", checkpoint=f"diffusion_models/{model.file}", dtype="fp32",
            lora_stack=[f"stack {spelling.id}", 0], filename_prefix=f"newer/{model.name} {spelling.id}",
            on_unmatched="error", semantics="paper", verify=False,
        )  # fmt: skip
    run = server.run(prompt)
    assert (run.status, run.error) == ("success", "")
    for spelling in model.spellings:
        assert model.title in run.text(spelling.id)
    merged: Prompt = {}
    for spelling in model.spellings:
        tag = f"merged {spelling.id}"
        model.sample(merged, tag, model.load(merged, tag, f"newer/{model.name} {spelling.id}_00001_.safetensors"))
    found = latents(server, merged)
    for spelling in model.spellings:
        assert same(found[f"merged {spelling.id}"], sampled.latents[spelling.id]), spelling.id


def test_a_loaded_model_is_itself_again_after_a_lora(sampled: Sampled) -> None:
    """What the model computed with the LoRA's weights is forgotten, as are the weights."""
    assert same(sampled.latents["base"], sampled.latents["copy"])


def same(found: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return found.keys() == other.keys() and all(torch.equal(found[n], other[n]) for n in other)
