"""Beside LoRA Manager: its Lora Stacker into our nodes, ours into its Lora Loader."""

from __future__ import annotations

from typing import Any

from tests.host.families import Prompt, node
from tests.packs.scene import INK, STRENGTHS, Link, Patched, Scene, differs, entries_of, our_load, our_rows, worst


def widgets(loras: tuple[tuple[str, float, float], ...] = STRENGTHS) -> dict[str, Any]:
    """Return the values of its widgets: names without folder and ending, and a LoRA that is switched off."""
    listed = [
        {"name": _stem(name), "strength": model, "clipStrength": clip, "active": True} for name, model, clip in loras
    ]
    off = {"name": _stem(INK), "strength": 1.0, "clipStrength": 1.0, "active": False}
    return {"text": "", "loras": {"__value__": [*listed, off]}}


def _stem(name: str) -> str:
    return name.rsplit("/", 1)[-1].removesuffix(".safetensors")


def lm_stacker(prompt: Prompt, **more: Any) -> Link:
    node("lm", prompt, "Lora Stacker (LoraManager)", **widgets(), **more)
    return ["lm", 0]


def lm_loader(prompt: Prompt, model: Link, clip: Link | None, **given: Any) -> Patched:
    node("loader", prompt, "Lora Loader (LoraManager)", model=model, clip=clip, **{**widgets(()), **given})
    return ["loader", 0], ["loader", 1]


def test_theirs_into_our_load(scene: Scene) -> None:
    theirs = scene.image(lambda prompt, model, clip: lm_loader(prompt, model, clip, **widgets()))
    ours = scene.image(lambda prompt, model, clip: our_load(prompt, model, clip, lm_stacker(prompt)))
    assert worst(theirs, ours) <= 1
    assert differs(ours, scene.image())


def test_ours_into_their_loader(scene: Scene) -> None:
    theirs = scene.image(lambda prompt, model, clip: lm_loader(prompt, model, clip, lora_stack=our_rows(prompt)))
    ours = scene.image(lambda prompt, model, clip: our_load(prompt, model, clip, our_rows(prompt)))
    assert worst(theirs, ours) <= 1
    assert differs(ours, scene.image())


def test_entries_have_three_fields_on_both_ways(scene: Scene) -> None:
    prompt: Prompt = {}
    behind = lm_stacker(prompt, lora_stack=our_rows(prompt))
    assert scene.stack(prompt, behind) == entries_of(STRENGTHS) * 2
    prompt = {}
    scene.check_left_alone(prompt, lm_stacker(prompt), entries_of(STRENGTHS))


def test_imported(scene: Scene) -> None:
    scene.check_imported(
        lambda prompt, model, clip: lm_loader(prompt, model, clip, **widgets()), "Lora Loader (LoraManager)"
    )


def test_imported_stack(scene: Scene) -> None:
    scene.check_imported(
        lambda prompt, model, clip: our_load(prompt, model, clip, lm_stacker(prompt)), "Lora Stacker (LoraManager)"
    )
