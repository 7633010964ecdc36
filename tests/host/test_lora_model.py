"""The host's own training into our nodes: a LORA_MODEL changes the image as the host's LoraModelLoader does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.host.families import FAMILIES, LOAD, Family, Prompt, kept, node, render, stack_rows
from tests.host_server import PromptRejectedError, Server

SD15 = next(family for family in FAMILIES if family.name == "sd15")
STRENGTH = 0.7

Link = list[Any]
Patched = tuple[Link, Link | None]


@pytest.fixture(scope="module", params=[("LoRA", "bf16"), ("LoKr", "fp32")], ids="-".join)
def trained(server: Server, request: pytest.FixtureRequest) -> Trained:
    return Trained(server, SD15.without_text(server), *request.param)


class Trained:
    """Two steps of training on a tiny model, before whatever else a prompt does."""

    def __init__(self, server: Server, family: Family, algorithm: str, dtype: str) -> None:
        self.server, self.family = server, family
        self.algorithm, self.dtype = algorithm, dtype

    def train(self, prompt: Prompt, model: Link) -> Link:
        """Add Train LoRA; its output is in the host's cache after the first prompt."""
        node("data", prompt, "EmptyLatentImage", width=64, height=64, batch_size=1)
        node("words", prompt, "LoraCoreTestRandomConditioning", tokens=16, width=768, pooled=768, seed=5)
        node(
            "train", prompt, "TrainLoraNode", model=model, latents=["data", 0], positive=["words", 0], batch_size=1,
            grad_accumulation_steps=1, steps=2, learning_rate=0.1, rank=4, optimizer="AdamW", loss_function="MSE",
            seed=1, training_dtype="fp32", lora_dtype=self.dtype, quantized_backward=False, algorithm=self.algorithm,
            gradient_checkpointing=False, checkpoint_depth=1, offloading=False, existing_lora="[None]",
            bucket_mode=False, bypass_mode=False,
        )  # fmt: skip
        return ["train", 0]

    def alone(self) -> tuple[Prompt, Link]:
        """Return a prompt that only trains."""
        prompt: Prompt = {}
        node("model", prompt, "CheckpointLoaderSimple", ckpt_name=self.family.model)
        return prompt, self.train(prompt, ["model", 0])

    def by_the_host(self, strength: float) -> np.ndarray:
        def patch(prompt: Prompt, model: Link, clip: Link | None) -> Patched:
            lora = self.train(prompt, model)
            node("loader", prompt, "LoraModelLoader", model=model, lora=lora, strength_model=strength, bypass=False)
            return ["loader", 0], clip

        return render(self.server, self.family.prompt(patch))

    def by_us(self, *, through_stack: bool) -> np.ndarray:
        def patch(prompt: Prompt, model: Link, clip: Link | None) -> Patched:
            lora = self.train(prompt, model)
            given: dict[str, Any] = {"lora": lora, **LOAD, "strength_model": STRENGTH}
            if through_stack:
                node("strength", prompt, "PrimitiveFloat", value=STRENGTH)
                node("stack", prompt, "LoraCoreStack", rows=stack_rows(), lora=lora, lora_strength=["strength", 0])
                given = {"lora_stack": ["stack", 0], **LOAD}
            node("load", prompt, "LoraCoreLoad", model=model, **given)
            return ["load", 0], clip

        return render(self.server, self.family.prompt(patch))


def worst(image: np.ndarray, other: np.ndarray) -> int:
    return int(abs(image - other).max())


@pytest.mark.parametrize("through_stack", [False, True], ids=["load", "stack"])
def test_live_as_the_hosts_loader(trained: Trained, through_stack: bool) -> None:
    ours = trained.by_us(through_stack=through_stack)
    assert worst(ours, trained.by_the_host(STRENGTH)) <= 1
    assert abs(ours - kept(trained.server, trained.family.prompt())).mean() > 1


def test_merged_as_the_hosts_loader(trained: Trained) -> None:
    theirs = trained.by_the_host(1.0)
    prompt, lora = trained.alone()
    prefix = f"trained/{trained.algorithm}"
    node(
        "merge", prompt, "LoraCoreMerge", checkpoint=trained.family.model, lora=lora, dtype="fp32",
        filename_prefix=prefix, semantics="paper", on_unmatched="warn", verify=False,
    )  # fmt: skip
    run = trained.server.run(prompt)
    assert (run.status, run.error) == ("success", "")
    assert "train" in run.cached, "another training gives another LoRA"
    assert run.text("merge").startswith("LoRA in memory: ")
    merged = render(trained.server, trained.family.prompt(model=f"{prefix}_00001_.safetensors"))
    assert worst(merged, theirs) <= 1


def test_resized_to_its_own_rank_as_the_hosts_loader(trained: Trained) -> None:
    theirs = trained.by_the_host(1.0)
    prompt, lora = trained.alone()
    prefix = f"trained/{trained.algorithm}"
    # one that holds it: a LoKr's is the product of its factors' ranks
    inputs = {"rank": 32768, "energy": 0.0, "max_rank": 128, "conv_rank": 0, "rank_by": "auto", "threshold": 0.0}
    node(
        "resize", prompt, "LoraCoreResize", lora_name="None", lora=lora, dtype="fp32", filename_prefix=prefix,
        base="None", **inputs,
    )  # fmt: skip
    run = trained.server.run(prompt)
    assert (run.status, run.error) == ("success", "")
    assert "train" in run.cached, "another training gives another LoRA"

    def patch(prompt: Prompt, model: Link, clip: Link | None) -> Patched:
        name = f"{prefix}_00001_.safetensors"
        node("file", prompt, "LoraLoaderModelOnly", model=model, lora_name=name, strength_model=1.0)
        return ["file", 0], clip

    resized = render(trained.server, trained.family.prompt(patch))
    assert worst(resized, theirs) <= 1


def test_a_file_and_a_wire_at_once_are_refused(trained: Trained) -> None:
    prompt, lora = trained.alone()
    inputs = {"rank": 4, "energy": 0.0, "max_rank": 128, "conv_rank": 0, "rank_by": "auto", "threshold": 0.0}
    node(
        "resize", prompt, "LoraCoreResize", lora_name=SD15.lora("a"), lora=lora, dtype="fp32", filename_prefix="x",
        base="None", **inputs,
    )  # fmt: skip
    with pytest.raises(PromptRejectedError, match="a LoRA is wired too"):
        trained.server.run(prompt)


def test_other_packs_see_a_name_that_says_why(trained: Trained) -> None:
    prompt, lora = trained.alone()
    node("stack", prompt, "LoraCoreStack", rows=stack_rows((SD15.lora("a"), 0.5, 0.5)), lora=lora)
    node("show", prompt, "PreviewAny", source=["stack", 0])
    text = trained.server.run(prompt).text("show")
    assert f'["{SD15.lora("a")}", 0.5, 0.5]'.replace(" ", "") in text.replace(" ", "").replace("\n", "")
    assert "LoRA in memory, for LoRA Core's nodes only" in text
