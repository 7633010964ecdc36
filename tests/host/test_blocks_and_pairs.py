"""Strengths of blocks and pairs of files on the real ComfyUI: what is loaded live is what is merged, image by image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests import tiny
from tests.host.families import FAMILIES, LOAD, Family, Patch, kept, node, render
from tests.host_server import Server

FLUX, WAN = (next(family for family in FAMILIES if family.name == name) for name in ("flux", "wan21"))
BLOCKS = "double=0.5, single=-1, te=0.25, other=0"
LOW = "diffusion_models/wan21_low.safetensors"


@pytest.fixture(scope="module")
def flux(server: Server) -> Family:
    FLUX.write(server)
    return FLUX


@pytest.fixture(scope="module")
def wan(server: Server) -> Family:
    WAN.write(server)
    tiny.make_tiny("wan21", server.models / LOW, seed=5)
    return WAN


def stacked(*rows: dict[str, Any], **options: Any) -> Patch:
    """Stack LoRAs with these rows into Load LoRA."""

    def patch(prompt: Any, model: list[Any], clip: list[Any] | None) -> tuple[list[Any], list[Any] | None]:
        node("stack", prompt, "LoraCoreStack", rows={"v": 1, "rows": list(rows)})
        node("load", prompt, "LoraCoreLoad", model=model, lora_stack=["stack", 0], **{**LOAD, **options})
        if clip:
            prompt["load"]["inputs"]["clip"] = clip
        return ["load", 0], ["load", 1] if clip else None

    return patch


def merged(server: Server, model: str, prefix: str, *rows: dict[str, Any], **options: Any) -> tuple[str, str]:
    """Merge rows into a model; return the new file's name and the report."""
    prompt: dict[str, Any] = {}
    node("stack", prompt, "LoraCoreStack", rows={"v": 1, "rows": list(rows)})
    node(
        "merge", prompt, "LoraCoreMerge", checkpoint=model, lora_stack=["stack", 0], dtype="fp32", verify=False,
        filename_prefix=prefix, semantics="paper", on_unmatched="warn", **options,
    )  # fmt: skip
    run = server.run(prompt)
    assert (run.status, run.error) == ("success", "")
    folder, slash, _ = model.partition("/")
    return f"{folder}{slash}{prefix}_00001_.safetensors" if slash else f"{prefix}_00001_.safetensors", run.text("merge")


def row(name: str, strength: float = 1.0, **more: Any) -> dict[str, Any]:
    return {"name": name, "strength": strength, **more}


def is_same(image: np.ndarray, other: np.ndarray) -> bool:
    return int(abs(image - other).max()) == 0


def test_live_is_merged_with_strengths_of_blocks(server: Server, flux: Family) -> None:
    lora = row(flux.lora("a"), 0.8, blocks=BLOCKS)
    live = kept(server, flux.prompt(stacked(lora)))
    plain = render(server, flux.prompt(stacked(row(flux.lora("a"), 0.8))))
    assert abs(live - plain).mean() > 1
    model, report = merged(server, flux.model, "blocks/model", lora)
    assert "blocks: double.0 at 0.5, other at 0, single.0 at -1" in report
    assert flux.encoder
    encoder, _ = merged(server, flux.encoder, "blocks/text", lora)
    assert is_same(render(server, flux.prompt(model=model, encoder=encoder)), live)


def test_the_nodes_own_lora_has_blocks_too(server: Server, flux: Family) -> None:
    own = {"lora_name": flux.lora("a"), "strength_model": 0.8, "strength_clip": 0.8, "blocks": BLOCKS}
    live = kept(server, flux.prompt(stacked(row(flux.lora("a"), 0.8, blocks=BLOCKS))))
    assert is_same(render(server, flux.prompt(stacked(**own))), live)


def test_other_blocks_are_other_patches(server: Server, flux: Family) -> None:
    """The same strengths in other places, after each other on one loaded model."""
    first, second = (f"{one}=0.5, te=0" for one in ("double", "single"))
    images = [
        render(server, flux.prompt(stacked(row(flux.lora("a"), blocks=blocks)))) for blocks in (first, second, first)
    ]
    assert abs(images[0] - images[1]).mean() > 0.5
    assert is_same(images[0], images[2])


@pytest.mark.parametrize(
    "blocks, message",
    [
        ("duoble=1", "a.safetensors: blocks: no blocks 'duoble'; did you mean 'double'?"),
        ("double.7=1", "blocks: 'double.7' is out of range; Flux.1 dev has double.0."),
        ("double=nan", "blocks: 'double=nan': expected a number within -100 and 100, found 'nan'."),
    ],
)
def test_what_is_wrong_with_blocks_is_said_on_the_node(server: Server, flux: Family, blocks: str, message: str) -> None:
    run = server.run(flux.prompt(stacked(lora_name=flux.lora("a"), blocks=blocks)))
    assert run.status == "error"
    assert message in run.error


def pair_prompt(wan: Family, which: str, *rows: dict[str, Any], low: str | None = LOW) -> Any:
    """A prompt whose sampler has one of the two outputs of Load LoRA; `low` is the other model's file."""

    def patch(prompt: Any, model: list[Any], clip: list[Any] | None) -> tuple[list[Any], list[Any] | None]:
        more: dict[str, Any] = {}
        if low:
            name = low.removeprefix("diffusion_models/")
            node("model_low", prompt, "UNETLoader", unet_name=name, weight_dtype="default")
            more = {"model_low": ["model_low", 0]}
        stacked(*rows, **more)(prompt, model, clip)
        return ["load", 0 if which == "high" else 4], None

    return wan.prompt(patch)


def test_each_model_gets_its_file_of_a_pair(server: Server, wan: Family) -> None:
    pair = row(wan.lora("a"), 0.8, low=wan.lora("b"), low_strength=-0.6, blocks="other=0.5")
    both = row(wan.lora("b"), 0.3)
    high = render(server, pair_prompt(wan, "high", pair, both))
    low = render(server, pair_prompt(wan, "low", pair, both))
    for image, model, name, strength in ((high, wan.model, "a", 0.8), (low, LOW, "b", -0.6)):
        alone = stacked(row(wan.lora(name), strength, blocks="other=0.5"), both)
        assert is_same(render(server, wan.prompt(alone, model=model)), image)
        which = "high" if model == wan.model else "low"
        file, report = merged(server, model, f"pairs/{which}", pair, both, pair=which)
        assert is_same(render(server, wan.prompt(model=file)), image)
        assert f"{name}.safetensors: the {which}-noise file of a pair" in report
    assert abs(high - low).mean() > 1


def test_the_report_says_which_model_got_what(server: Server, wan: Family) -> None:
    pair = row(wan.lora("a"), low=wan.lora("b"))
    run = server.run(pair_prompt(wan, "high", pair))
    assert [line.split(":")[0] for line in run.text("load").splitlines() if "names" in line] == [
        "a.safetensors (high-noise model)",
        "b.safetensors (low-noise model)",
    ]
    assert run.text("stack") == "<lora:wan21/a:1> <lora:wan21/b:1>"
    alone = server.run(pair_prompt(wan, "high", pair, low=None))
    warning = "warning: b.safetensors: the low-noise file of a pair is not used: model_low is not wired."
    assert warning in alone.text("load").splitlines()


def test_a_missing_low_noise_file_is_refused_before_the_run(server: Server, wan: Family) -> None:
    from tests.host_server import PromptRejectedError

    with pytest.raises(PromptRejectedError, match=r"gone\.safetensors"):
        server.run(pair_prompt(wan, "high", row(wan.lora("a"), low="gone.safetensors")))


def test_the_low_output_without_its_input_says_what_to_wire(server: Server, wan: Family) -> None:
    run = server.run(pair_prompt(wan, "low", row(wan.lora("a")), low=None))
    assert run.status == "error"
    assert "MODEL_LOW: wire the input model_low." in run.error
