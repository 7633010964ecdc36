"""Combine LoRAs in a real ComfyUI: the file makes the image of the stack, by our loader and by ComfyUI's own."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import pytest

from tests.core.samples import metadata_of
from tests.host.families import FAMILIES, Family, builtin_chain, kept, node, our_stack, render, stack_rows
from tests.host.test_images import distance, stack_of, worst
from tests.host.test_writing_nodes import picture
from tests.host_server import Run, Server

OPTIONS: dict[str, Any] = {
    "method": "sum", "rank": 0, "energy": 0.0, "max_rank": 128, "rank_by": "auto", "threshold": 0.0, "density": 0.5,
    "sign": "weighted", "seed": 0, "dialect": "kohya", "dtype": "fp32", "on_unmatched": "error",
}  # fmt: skip


def combined(server: Server, family: Family, prefix: str, **changes: Any) -> Run:
    prompt: dict[str, Any] = {}
    node("stack", prompt, "LoraCoreStack", rows=stack_rows(*stack_of(family)))
    options = {**OPTIONS, "base": family.model, "filename_prefix": f"{prefix}/{family.name}", **changes}
    node("combine", prompt, "LoraCoreCombine", lora_stack=["stack", 0], **options)
    node("name", prompt, "PreviewAny", source=["combine", 0])
    node("picture", prompt, "PreviewImage", images=["combine", 2])
    return server.run(prompt)


# each family in one dialect: `test_converted_in_host` has the names of both, for every module of these models
@pytest.mark.parametrize(
    ("family", "dialect"),
    [*zip(FAMILIES, cycle(("kohya", "comfy")), strict=False)],
    ids=lambda one: getattr(one, "name", one),
)
def test_the_combined_file_makes_the_image_of_the_stack(server: Server, family: Family, dialect: str) -> None:
    family.write(server)
    run = combined(server, family, f"combined_{dialect}", dialect=dialect)
    assert (run.status, run.error) == ("success", "")
    name = run.text("name")
    assert name in server.node_info("LoraLoader")["input"]["required"]["lora_name"][0]
    live = kept(server, family.prompt(our_stack(*stack_of(family))))
    ours = render(server, family.prompt(our_stack((name, 1.0, 1.0))))
    theirs = render(server, family.prompt(builtin_chain((name, 1.0, 1.0))))
    assert distance(live, kept(server, family.prompt())) > 5
    assert worst(ours, live) <= 1
    assert worst(theirs, live) <= 1


def test_the_node_shows_its_report_and_picture(server: Server) -> None:
    family = next(one for one in FAMILIES if one.name == "sd15")
    family.write(server)
    run = combined(server, family, "shown", rank=3, dtype="keep")
    assert (run.status, run.error) == ("success", "")
    (report,) = run.outputs["combine"]["report"]
    assert report["operation"] == "combine"
    assert [found["name"] for found in report["loras"]] == ["a.safetensors", "b.safetensors"]
    assert {layer["rank"] for layer in report["layers"]} == {3}
    assert "lost " in run.text("combine")
    assert run.progress[-1][0] == run.progress[-1][1] == len(report["layers"]), "the bar ends full"
    shown = picture(server, run, "combine")
    assert shown.shape[1] == 960 and (shown == picture(server, run, "picture")).all()
    assert '"strength_clip": 0.6' in metadata_of(server.models / "loras" / run.text("name"))["lora_core.combined_from"]


def test_loras_of_two_models_are_refused_and_nothing_is_left(server: Server) -> None:
    first, second = (one for one in FAMILIES if one.name in ("flux", "sd15"))
    first.write(server)
    second.write(server)
    prompt: dict[str, Any] = {}
    rows = stack_rows((first.lora("a"), 1.0, 1.0), (second.lora("a"), 1.0, 1.0))
    node("stack", prompt, "LoraCoreStack", rows=rows)
    options = {**OPTIONS, "base": first.model, "filename_prefix": "refused/it"}
    node("combine", prompt, "LoraCoreCombine", lora_stack=["stack", 0], **options)
    run = server.run(prompt)
    assert run.status == "error"
    assert "Flux.1" in run.error and second.lora("a").rpartition("/")[2] in run.error
    assert list((server.models / "loras").rglob("refused/*")) == []
