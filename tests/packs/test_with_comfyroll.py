"""Beside Comfyroll: its CR LoRA Stack into our nodes, ours into its CR Apply LoRA Stack."""

from __future__ import annotations

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


def cr_stack(prompt: Prompt) -> Link:
    """Add CR LoRA Stack with both LoRAs, and a third that is switched off."""
    rows = [("On", *STRENGTHS[0]), ("Off", INK, 1.0, 1.0), ("On", *STRENGTHS[1])]
    inputs = {}
    for number, (switch, name, model, clip) in enumerate(rows, start=1):
        row = {"switch": switch, "lora_name": name, "model_weight": model, "clip_weight": clip}
        inputs |= {f"{field}_{number}": value for field, value in row.items()}
    node("cr", prompt, "CR LoRA Stack", **inputs)
    return ["cr", 0]


def cr_apply(prompt: Prompt, model: Link, clip: Link | None, stack: Link) -> Patched:
    node("apply", prompt, "CR Apply LoRA Stack", model=model, clip=clip, lora_stack=stack)
    return ["apply", 0], ["apply", 1]


def test_theirs_into_our_load(scene: Scene) -> None:
    theirs = scene.image(lambda prompt, model, clip: cr_apply(prompt, model, clip, cr_stack(prompt)))
    ours = scene.image(lambda prompt, model, clip: our_load(prompt, model, clip, cr_stack(prompt)))
    assert worst(theirs, ours) <= 1
    assert differs(ours, scene.image())


def test_ours_into_their_loader(scene: Scene) -> None:
    theirs = scene.image(lambda prompt, model, clip: cr_apply(prompt, model, clip, our_rows(prompt)))
    ours = scene.image(lambda prompt, model, clip: our_load(prompt, model, clip, our_rows(prompt)))
    assert worst(theirs, ours) <= 1
    assert differs(ours, scene.image())


def test_theirs_into_our_merge(scene: Scene) -> None:
    prompt: Prompt = {}
    node(
        "merge", prompt, "LoraCoreMerge", checkpoint=SD15_FILE, lora_stack=cr_stack(prompt), dtype="fp32",
        filename_prefix="packs/comfyroll", semantics="paper", on_unmatched="warn", verify=False,
    )  # fmt: skip
    run = scene.server.run(prompt)
    assert (run.status, run.error) == ("success", "")
    merged = scene.image(model="packs/comfyroll_00001_.safetensors")
    theirs = scene.image(lambda prompt, model, clip: cr_apply(prompt, model, clip, cr_stack(prompt)))
    assert worst(merged, theirs) <= 1


def test_entries_have_three_fields_on_both_ways(scene: Scene) -> None:
    prompt: Prompt = {}
    node("theirs", prompt, "CR LoRA Stack", **_OFF, lora_stack=our_rows(prompt))
    assert scene.stack(prompt, ["theirs", 0]) == entries_of(STRENGTHS)
    prompt = {}
    scene.check_left_alone(prompt, cr_stack(prompt), entries_of(STRENGTHS))


def test_imported(scene: Scene) -> None:
    scene.check_imported(
        lambda prompt, model, clip: cr_apply(prompt, model, clip, cr_stack(prompt)),
        "CR LoRA Stack",
        "CR Apply LoRA Stack",
    )


SD15_FILE = "sd15.safetensors"
_OFF = {
    f"{field}_{number}": value
    for number in (1, 2, 3)
    for field, value in {"switch": "Off", "lora_name": GRAIN, "model_weight": 1.0, "clip_weight": 1.0}.items()
}
