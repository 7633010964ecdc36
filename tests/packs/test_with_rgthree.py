"""Beside rgthree-comfy: its loaders, which take no LORA_STACK, make the images that ours make."""

from __future__ import annotations

from typing import Any

from tests.host.families import Prompt, node
from tests.packs.scene import INK, STRENGTHS, Link, Patched, Scene, differs, our_load, our_rows, worst


def power_loader(prompt: Prompt, model: Link, clip: Link | None) -> Patched:
    """Add Power Lora Loader with both LoRAs, and one that is switched off."""
    rows: dict[str, Any] = {
        f"lora_{number}": {"on": True, "lora": name, "strength": strength, "strengthTwo": clip_strength}
        for number, (name, strength, clip_strength) in enumerate(STRENGTHS, start=1)
    }
    rows["lora_3"] = {"on": False, "lora": INK, "strength": 1.0}
    header = {"PowerLoraLoaderHeaderWidget": {"type": "PowerLoraLoaderHeaderWidget"}, "➕ Add Lora": ""}
    node("power", prompt, "Power Lora Loader (rgthree)", model=model, clip=clip, **header, **rows)
    return ["power", 0], ["power", 1]


def loader_stack(prompt: Prompt, model: Link, clip: Link | None) -> Patched:
    """Add Lora Loader Stack, which has one strength for both."""
    rows = [(name, strength) for name, strength, _ in STRENGTHS] + [("None", 1.0)] * 2
    inputs: dict[str, Any] = {}
    for number, (name, strength) in enumerate(rows, start=1):
        inputs |= {f"lora_0{number}": name, f"strength_0{number}": strength}
    node("loaders", prompt, "Lora Loader Stack (rgthree)", model=model, clip=clip, **inputs)
    return ["loaders", 0], ["loaders", 1]


def test_power_lora_loader(scene: Scene) -> None:
    theirs = scene.image(power_loader)
    ours = scene.image(lambda prompt, model, clip: our_load(prompt, model, clip, our_rows(prompt)))
    assert worst(theirs, ours) <= 1
    assert differs(ours, scene.image())


def test_lora_loader_stack(scene: Scene) -> None:
    theirs = scene.image(loader_stack)
    same = [(name, strength, strength) for name, strength, _ in STRENGTHS]
    ours = scene.image(lambda prompt, model, clip: our_load(prompt, model, clip, our_rows(prompt, same)))
    assert worst(theirs, ours) <= 1
    assert differs(ours, scene.image())


def test_imported(scene: Scene) -> None:
    scene.check_imported(power_loader, "Power Lora Loader (rgthree)")


def test_imported_loader_stack(scene: Scene) -> None:
    scene.check_imported(loader_stack, "Lora Loader Stack (rgthree)")
