"""Beside Easy-Use: its EasyLoraStack into our nodes, ours into its Easy Apply LoraStack."""

from __future__ import annotations

from typing import Any

from tests.host.families import Prompt, node
from tests.packs.scene import (
    GRAIN,
    INK,
    STRENGTHS,
    Link,
    Patched,
    Scene,
    differs,
    entries_of,
    our_load,
    our_rows,
    worst,
)

# Version 1.3.7 starts each LoRA from the text encoder that was wired, so that only the last one changes it
TEXT_OF_LAST = ((INK, 0.8, 0.0), (GRAIN, -0.5, 0.7))


def easy_stack(prompt: Prompt, loras: tuple[tuple[str, float, float], ...], mode: str = "advanced") -> Link:
    inputs: dict[str, Any] = {"toggle": True, "mode": mode, "num_loras": len(loras)}
    for number, (name, model, clip) in enumerate(loras, start=1):
        row = {"name": name, "strength": model, "model_strength": model, "clip_strength": clip}
        inputs |= {f"lora_{number}_{field}": value for field, value in row.items()}
    node("easy", prompt, "easy loraStack", **inputs)
    return ["easy", 0]


def easy_apply(prompt: Prompt, model: Link, clip: Link | None, stack: Link) -> Patched:
    node("apply", prompt, "easy loraStackApply", model=model, optional_clip=clip, lora_stack=stack)
    return ["apply", 0], ["apply", 1]


def test_theirs_into_our_load(scene: Scene) -> None:
    theirs = scene.image(lambda prompt, model, clip: easy_apply(prompt, model, clip, easy_stack(prompt, TEXT_OF_LAST)))
    ours = scene.image(lambda prompt, model, clip: our_load(prompt, model, clip, easy_stack(prompt, TEXT_OF_LAST)))
    assert worst(theirs, ours) <= 1
    assert differs(ours, scene.image())


def test_ours_into_their_loader(scene: Scene) -> None:
    theirs = scene.image(lambda prompt, model, clip: easy_apply(prompt, model, clip, our_rows(prompt, TEXT_OF_LAST)))
    ours = scene.image(lambda prompt, model, clip: our_load(prompt, model, clip, our_rows(prompt, TEXT_OF_LAST)))
    assert worst(theirs, ours) <= 1
    assert differs(ours, scene.image())


def test_a_stack_that_is_switched_off_is_none(scene: Scene) -> None:
    prompt: Prompt = {}
    easy_stack(prompt, STRENGTHS)
    prompt["easy"]["inputs"]["toggle"] = False
    node("ours", prompt, "LoraCoreStack", lora_stack=["easy", 0])
    assert scene.stack(prompt, ["ours", 0]) == []


def test_entries_have_three_fields_on_both_ways(scene: Scene) -> None:
    prompt: Prompt = {}
    behind = easy_stack(prompt, STRENGTHS)
    prompt["easy"]["inputs"]["optional_lora_stack"] = our_rows(prompt)
    assert scene.stack(prompt, behind) == entries_of(STRENGTHS) * 2
    prompt = {}
    scene.check_left_alone(prompt, easy_stack(prompt, STRENGTHS), entries_of(STRENGTHS))


def test_imported(scene: Scene) -> None:
    scene.check_imported(
        lambda prompt, model, clip: easy_apply(prompt, model, clip, easy_stack(prompt, TEXT_OF_LAST)),
        "easy loraStack",
    )
