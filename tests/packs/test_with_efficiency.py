"""Beside Efficiency Nodes: its LoRA Stacker into our nodes, ours into its Efficient Loader and its text."""

from __future__ import annotations

from typing import Any

from tests.host.families import Prompt, node
from tests.packs.scene import STRENGTHS, Link, Patched, Scene, differs, entries_of, our_load, our_rows, worst


def stacker(prompt: Prompt, mode: str = "advanced", **more: Any) -> Link:
    """Add LoRA Stacker with both LoRAs, an empty row between them, and the 47 rows that it does not show."""
    rows = [STRENGTHS[0], ("None", 1.0, 1.0), STRENGTHS[1]] + [("None", 1.0, 1.0)] * 47
    inputs: dict[str, Any] = {"input_mode": mode, "lora_count": 3, **more}
    for number, (name, model, clip) in enumerate(rows, start=1):
        row = {"lora_name": name, "lora_wt": model, "model_str": model, "clip_str": clip}
        inputs |= {f"{field}_{number}": value for field, value in row.items()}
    node("stacker", prompt, "LoRA Stacker", **inputs)
    return ["stacker", 0]


def efficient(prompt: Prompt, stack: Link | None = None) -> Patched:
    """Add Efficient Loader, which loads the checkpoint itself."""
    more = {"lora_stack": stack} if stack else {}
    node(
        "efficient", prompt, "Efficient Loader", ckpt_name="sd15.safetensors", vae_name="Baked VAE", clip_skip=-1,
        lora_name="None", lora_model_strength=1.0, lora_clip_strength=1.0, positive="", negative="", batch_size=1,
        token_normalization="none", weight_interpretation="comfy", empty_latent_width=64, empty_latent_height=64,
        **more,
    )  # fmt: skip
    return ["efficient", 0], ["efficient", 5]


def loaded_by_us(prompt: Prompt, stack: Link) -> Patched:
    return our_load(prompt, *efficient(prompt), stack)


def test_theirs_into_our_load(scene: Scene) -> None:
    theirs = scene.image(lambda prompt, *_: efficient(prompt, stacker(prompt)))
    ours = scene.image(lambda prompt, *_: loaded_by_us(prompt, stacker(prompt)))
    assert worst(theirs, ours) <= 1
    assert differs(ours, scene.image(lambda prompt, *_: efficient(prompt)))


def test_ours_into_their_loader(scene: Scene) -> None:
    theirs = scene.image(lambda prompt, *_: efficient(prompt, our_rows(prompt)))
    ours = scene.image(lambda prompt, *_: loaded_by_us(prompt, our_rows(prompt)))
    assert worst(theirs, ours) <= 1
    assert differs(ours, scene.image(lambda prompt, *_: efficient(prompt)))


def test_simple_mode_has_one_strength(scene: Scene) -> None:
    prompt: Prompt = {}
    expected = [[name, model, model] for name, model, _ in STRENGTHS]
    assert scene.stack(prompt, stacker(prompt, "simple")) == expected


def test_ours_as_their_text(scene: Scene) -> None:
    prompt: Prompt = {}
    node("text", prompt, "LoRA Stack to String converter", lora_stack=our_rows(prompt))
    node("show", prompt, "PreviewAny", source=["text", 0])
    expected = "<lora:styles/ink wash.safetensors:0.8:0.6> <lora:grain.safetensors:-0.5:0.7>"
    assert scene.server.run(prompt).text("show") == expected


def test_entries_have_three_fields_on_both_ways(scene: Scene) -> None:
    prompt: Prompt = {}
    behind = stacker(prompt, lora_stack=our_rows(prompt))  # its own rows come first
    assert scene.stack(prompt, behind) == entries_of(STRENGTHS) * 2
    prompt = {}
    scene.check_left_alone(prompt, stacker(prompt), entries_of(STRENGTHS))


def test_imported(scene: Scene) -> None:
    scene.check_imported(lambda prompt, *_: efficient(prompt, stacker(prompt)), "LoRA Stacker")
