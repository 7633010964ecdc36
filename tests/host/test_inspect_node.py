"""Inspect LoRA in a real ComfyUI: what the node shows and puts out, for one LoRA, a stack, and bad input."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from tests import tiny
from tests.host_server import PromptRejectedError, Run, Server

BASE = "inspecting/flux.safetensors"
LORAS = ("inspecting/style.safetensors", "inspecting/subject.safetensors")


@pytest.fixture(scope="module", autouse=True)
def files(server: Server) -> None:
    tiny.make_tiny("flux", server.models / "checkpoints" / BASE)
    modules = tiny.flat("lora_unet_", tiny.modules("flux"))
    for seed, name in enumerate(LORAS):
        words = {"modelspec.trigger_phrase": f"word{seed}"}
        tiny.make_lora(server.models / "loras" / name, modules, 4, seed=seed, metadata=words)


def prompt(lora_name: str = LORAS[0], *, rows: list[dict[str, Any]] | None = None, **inputs: Any) -> dict[str, Any]:
    """Return a prompt that inspects, and shows all four outputs."""
    wired = {} if rows is None else {"lora_stack": ["stack", 0]}
    nodes = {
        "inspect": {
            "class_type": "LoraCoreInspect",
            "inputs": {"lora_name": lora_name, "against": "None", **wired, **inputs},
        },
        "words": {"class_type": "PreviewAny", "inputs": {"source": ["inspect", 1]}},
        "sizes": {"class_type": "PreviewImage", "inputs": {"images": ["inspect", 2]}},
        "map": {"class_type": "PreviewImage", "inputs": {"images": ["inspect", 3]}},
    }
    if rows is not None:
        nodes["stack"] = {"class_type": "LoraCoreStack", "inputs": {"rows": {"v": 1, "rows": rows}}}
    return nodes


def succeeded(run: Run) -> Run:
    assert (run.status, run.error) == ("success", "")
    return run


def picture(server: Server, image: dict[str, str]) -> np.ndarray:
    address = f"{server.url}/view?filename={image['filename']}&subfolder={image['subfolder']}&type={image['type']}"
    with urlopen(address, timeout=30) as answer, Image.open(BytesIO(answer.read())) as opened:
        return np.asarray(opened.convert("RGB"))


def test_one_lora_with_its_model(server: Server) -> None:
    run = succeeded(server.run(prompt(against=BASE)))
    (report,) = run.outputs["inspect"]["report"]
    assert json.loads(json.dumps(report)) == report
    (lora,) = report["loras"]
    assert lora["modules_matched"] == lora["modules_total"] > 0
    assert lora["relative_size"] == pytest.approx(tiny.RELATIVE_SIZE, rel=0.1), "as the random LoRA was made"
    assert "double_blocks.0" in [block["block"] for block in report["blocks"]]
    assert "double_blocks.0" in run.text("inspect") and "eff. rank" in run.text("inspect")
    assert run.text("words") == "word0"
    shown = [picture(server, image) for image in run.outputs["inspect"]["images"]]
    put_out = [picture(server, run.outputs[node]["images"][0]) for node in ("sizes", "map")]
    assert all(map(np.array_equal, shown, put_out)), "the node shows what it puts out"
    assert shown[0].shape[0] > shown[1].shape[0], "the map only says that it takes two"
    assert run.progress and run.progress[-1][0] == run.progress[-1][1], "the bar ends full"

    again = succeeded(server.run(prompt(against=BASE)))
    assert "inspect" in again.cached
    assert again.text("inspect") == run.text("inspect"), "and shows its report again"


def test_a_stack_gets_a_conflict_map(server: Server) -> None:
    rows = [{"on": True, "name": LORAS[1], "strength": 0.5}, {"on": True, "name": LORAS[0], "strength": -1.0}]
    run = succeeded(server.run(prompt(rows=rows)))
    (report,) = run.outputs["inspect"]["report"]
    assert [pair["numbers"] for pair in report["pairs"]] == [[0, 1], [0, 2], [1, 2]]
    assert report["pairs"][1]["cosine"] == pytest.approx(-1.0), "the same LoRA at opposite strengths"
    assert abs(report["pairs"][0]["cosine"]) < 0.1, "two random LoRAs hardly meet"
    assert report["interference"] < 0.5
    assert "make the same change at opposite strengths" in run.text("inspect")
    assert run.text("words") == "word0, word1"
    colours = np.unique(picture(server, run.outputs["map"]["images"][0]).reshape(-1, 3), axis=0)
    assert len(colours) > 50
    only = succeeded(server.run(prompt("None", rows=rows[:1])))
    assert only.outputs["inspect"]["report"][0]["loras"][0]["name"] == "subject.safetensors"


def test_an_overwritten_file_is_read_again(server: Server) -> None:
    name = "inspecting/changing.safetensors"
    path = server.models / "loras" / name
    modules = tiny.flat("lora_unet_", tiny.modules("flux"))
    tiny.make_lora(path, modules, 2)
    first = succeeded(server.run(prompt(name)))
    tiny.make_lora(path, modules, 3)
    second = succeeded(server.run(prompt(name)))
    assert "inspect" not in second.cached
    assert ("LoRA r2" in first.text("inspect"), "LoRA r3" in second.text("inspect")) == (True, True)


def test_a_layer_of_nan_is_named_and_the_rest_measured(server: Server) -> None:
    name = "inspecting/broken.safetensors"
    tensors = load_file(server.models / "loras" / LORAS[0])
    broken = next(key for key in tensors if key.endswith("lora_up.weight"))
    tensors[broken] = torch.full_like(tensors[broken], float("nan"))
    save_file(tensors, server.models / "loras" / name)
    run = succeeded(server.run(prompt(name)))
    assert f"its training failed, in 1 layer: {broken.split('.')[0]}." in run.text("inspect")
    assert "double_blocks.0" in run.text("inspect")


def test_nothing_to_inspect_is_an_error(server: Server) -> None:
    run = server.run(prompt("None"))
    assert (run.status, "nothing to inspect" in run.error) == ("error", True)
    with pytest.raises(PromptRejectedError, match="no such file in the loras folders"):
        server.run(prompt("gone.safetensors"))


def test_loras_of_different_models_are_an_error(server: Server) -> None:
    name = "inspecting/sdxl.safetensors"
    modules = tiny.flat("lora_unet_", {"input_blocks.4.1.transformer_blocks.0.attn2.to_k": (640, 2048)})
    tiny.make_lora(server.models / "loras" / name, modules)
    run = server.run(prompt(rows=[{"on": True, "name": name, "strength": 1.0}]))
    assert run.status == "error"
    assert "sdxl.safetensors: is for SDXL, but style.safetensors is for Flux.1" in run.error
