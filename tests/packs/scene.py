"""What every test beside another pack uses: a tiny Stable Diffusion 1.5, two LoRAs, and the images made with them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lora_core.workflows.importing import convert_workflow
from tests import tiny
from tests.host.families import FAMILIES, LOAD, Patch, Prompt, kept, node, render, stack_rows
from tests.host_server import Server

SD15 = next(family for family in FAMILIES if family.name == "sd15")
# in a folder, and with a space: packs differ in what they do with such names; LoRA Manager knows base names only
INK, GRAIN = "styles/ink wash.safetensors", "grain.safetensors"
LORAS = (INK, GRAIN)
STRENGTHS = ((INK, 0.8, 0.6), (GRAIN, -0.5, 0.7))

Link = list[Any]
Patched = tuple[Link, Link | None]


@dataclass
class Scene:
    """The server with the files that all of them use."""

    server: Server

    def write(self, loras: Iterable[str]) -> None:
        SD15.write(self.server)
        for seed, name in enumerate(loras):
            tiny.make_lora(self.server.models / "loras" / name, SD15.modules(), 4, alpha=2, seed=seed)

    def image(self, patch: Patch | None = None, **names: str) -> np.ndarray:
        """Return the image made with `patch` between the loaders and the sampler."""
        return kept(self.server, SD15.prompt(patch, **names))

    def check_imported(self, patch: Patch, *gone: str) -> None:
        """The image of a prompt with nodes of another pack, and of the same prompt with ours for those of `gone`."""
        prompt = SD15.prompt(patch)
        imported = convert_workflow(prompt, names=LORAS).workflow
        kinds = {inner["class_type"] for inner in imported.values()}
        assert {*gone} <= {inner["class_type"] for inner in prompt.values()}
        assert not kinds & {*gone}
        assert "LoraCoreStack" in kinds or "LoraCoreLoad" in kinds
        assert worst(render(self.server, imported), self.image(patch)) <= 1

    def stack(self, prompt: Prompt, output: Link) -> list[list[Any]]:
        """Run `prompt` and return what the LORA_STACK at `output` holds."""
        run = self.server.run({**prompt, "show": {"class_type": "PreviewAny", "inputs": {"source": output}}})
        assert (run.status, run.error) == ("success", "")
        return json.loads(run.text("show"))

    def check_left_alone(self, stacker: Prompt, output: Link, entries: list[list[Any]]) -> None:
        """Our Stack LoRAs behind a stack of another pack, which the host then hands out from its cache again."""
        assert self.stack(stacker, output) == entries
        for strength in (0.25, 0.75):  # other rows, so that ours runs again
            prompt = dict(stacker)
            node("ours", prompt, "LoraCoreStack", rows=stack_rows((GRAIN, strength, strength)), lora_stack=output)
            assert self.stack(prompt, ["ours", 0]) == [*entries, [GRAIN, strength, strength]]
        assert self.stack(stacker, output) == entries


def entries_of(loras: Iterable[tuple[str, float, float]]) -> list[list[Any]]:
    return [list(lora) for lora in loras]


def our_rows(prompt: Prompt, loras: Iterable[tuple[str, float, float]] = STRENGTHS) -> Link:
    """Add our Stack LoRAs and return its output."""
    node("stack", prompt, "LoraCoreStack", rows=stack_rows(*loras))
    return ["stack", 0]


def our_load(prompt: Prompt, model: Link, clip: Link | None, stack: Link) -> Patched:
    """Add our Load LoRA and return its outputs."""
    node("load", prompt, "LoraCoreLoad", model=model, clip=clip, lora_stack=stack, **LOAD)
    return ["load", 0], ["load", 1]


def worst(image: np.ndarray, other: np.ndarray) -> int:
    """Return the largest difference of two images, in levels."""
    return int(abs(image - other).max())


def differs(image: np.ndarray, other: np.ndarray) -> bool:
    """Tell whether an image is another one, and not the same with other roundings."""
    return float(abs(image - other).mean()) > 1
