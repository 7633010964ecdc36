"""Merge to Checkpoint and Extract LoRA in a real ComfyUI: where files go, what the nodes show, what they refuse."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

import lora_core
from tests import tiny
from tests.host_server import PromptRejectedError, Run, Server

BASE = "writing/flux.safetensors"
LORA = "writing/flux.safetensors"

MERGE = {"filename_prefix": "writing/merged", "dtype": "keep", "semantics": "paper", "on_unmatched": "warn"}
EXTRACT = {
    "rank": 4, "energy": 0.0, "max_rank": 128, "conv_rank": 0, "dialect": "kohya", "dtype": "fp16",
    "filename_prefix": "writing/extracted",
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def files(server: Server) -> None:
    tiny.make_tiny("flux", server.models / "checkpoints" / BASE)
    modules = tiny.flat("lora_unet_", tiny.modules("flux"))
    tiny.make_lora(server.models / "loras" / LORA, modules)


def merge_prompt(lora: str = LORA, **changes: Any) -> dict[str, Any]:
    """Return a prompt that merges one LoRA and shows the name of the result."""
    rows = {"v": 1, "rows": [{"on": True, "name": lora, "strength": 0.5}]}
    inputs = {"checkpoint": BASE, "verify": True, **MERGE, "lora_stack": ["stack", 0], **changes}
    return {
        "stack": {"class_type": "LoraCoreStack", "inputs": {"rows": rows}},
        "merge": {"class_type": "LoraCoreMerge", "inputs": inputs},
        "name": {"class_type": "PreviewAny", "inputs": {"source": ["merge", 0]}},
        "report": {"class_type": "PreviewAny", "inputs": {"source": ["merge", 1]}},
    }


def extract_prompt(tuned: str, **changes: Any) -> dict[str, Any]:
    inputs = {"base": BASE, "tuned": tuned, **EXTRACT, **changes}
    return {
        "extract": {"class_type": "LoraCoreExtract", "inputs": inputs},
        "name": {"class_type": "PreviewAny", "inputs": {"source": ["extract", 0]}},
        "picture": {"class_type": "PreviewImage", "inputs": {"images": ["extract", 2]}},
    }


def succeeded(run: Run) -> Run:
    assert (run.status, run.error) == ("success", "")
    return run


def keys(path: Path) -> set[str]:
    with safe_open(path, framework="np") as file:
        return set(file.keys())


@pytest.mark.case(37)
def test_merge_writes_a_listed_checkpoint_and_reports(server: Server) -> None:
    run = succeeded(server.run(merge_prompt()))
    name = run.text("name")
    path = server.models / "checkpoints" / name
    assert path.parent == server.models / "checkpoints" / "writing"
    assert keys(path) == keys(server.models / "checkpoints" / BASE)
    assert name in server.node_info("CheckpointLoaderSimple")["input"]["required"]["ckpt_name"][0]
    assert run.text("merge") == run.text("report")
    assert path.name in run.text("merge")
    (report,) = run.outputs["merge"]["report"]
    assert report["operation"] == "merge"
    assert report["loras"][0]["modules_matched"] == report["loras"][0]["modules_total"] > 0
    assert run.progress[-1][0] == run.progress[-1][1], "the bar ends full"
    (told,) = report["precision"]
    layers, dtype = f"{told['layers']} changed layers", told["dtype"]
    assert f"{layers} written as {dtype}: the written change differs from the exact one by " in run.text("merge")
    with safe_open(path, framework="np") as file:
        metadata = file.metadata()
    receipt = json.loads(metadata["lora_core.receipt"])
    assert [one["name"] for one in receipt["loras"]] == [Path(LORA).name]
    assert receipt["loras"][0]["strength_model"] == 0.5
    assert receipt["precision"][0]["layers"] == told["layers"]
    for value in metadata.values():
        assert str(server.base) not in value and "class_type" not in value
    inputs = {"base": server.models / "checkpoints" / BASE, "loras": [server.models / "loras" / LORA]}
    assert lora_core.verify(path, **inputs).verified["equal"], "in another process, with another PyTorch"


def test_merge_again_writes_another_file(server: Server) -> None:
    prefix = {"filename_prefix": "writing/again"}
    first = server.models / "checkpoints" / succeeded(server.run(merge_prompt(**prefix))).text("name")
    content = first.read_bytes()
    again = succeeded(server.run(merge_prompt(**prefix)))
    assert "merge" in again.cached, "the same prompt has its result already"
    assert again.text("merge"), "and shows its report again"
    second = succeeded(server.run(merge_prompt(**prefix, dtype="fp32"))).text("name")
    assert second == "writing/again_00002_.safetensors"
    assert first.read_bytes() == content


def test_merge_of_a_lora_for_another_model_fails_and_leaves_no_file(server: Server) -> None:
    tiny.make_lora(server.models / "loras/writing/alien.safetensors", {"lora_unet_nowhere_to_go": (64, 64)})
    before = sorted((server.models / "checkpoints" / "writing").iterdir())
    run = server.run(merge_prompt("writing/alien.safetensors"))
    assert run.status == "error"
    assert "alien.safetensors" in run.error
    assert sorted((server.models / "checkpoints" / "writing").iterdir()) == before


def test_a_prefix_out_of_the_folder_is_an_error(server: Server) -> None:
    with pytest.raises(PromptRejectedError, match="can't be part of a file name"):
        server.run(merge_prompt(filename_prefix="../../escaped"))
    assert list(server.base.rglob("escaped*")) == []


@pytest.mark.parametrize("prompt", [merge_prompt(checkpoint="gone.safetensors"), extract_prompt("gone.safetensors")])
def test_a_missing_model_is_refused_before_the_run(server: Server, prompt: dict[str, Any]) -> None:
    with pytest.raises(PromptRejectedError, match="no such file in the checkpoints, diffusion_models, text_encoders"):
        server.run(prompt)


def test_extract_finds_the_lora_that_was_merged(server: Server) -> None:
    merged = succeeded(server.run(merge_prompt(filename_prefix="writing/to_extract", dtype="fp32"))).text("name")
    run = succeeded(server.run(extract_prompt(merged)))
    name = run.text("name")
    path = server.models / "loras" / name
    assert path.parent == server.models / "loras" / "writing"
    assert name in server.node_info("LoraLoader")["input"]["required"]["lora_name"][0]
    with safe_open(server.models / "loras" / LORA, framework="np") as file:
        modules = {key.split(".")[0] for key in file.keys()}  # noqa: SIM118 - safe_open is no mapping
    assert {key.split(".")[0] for key in keys(path)} == modules
    (report,) = run.outputs["extract"]["report"]
    assert json.loads(json.dumps(report)) == report
    changed = [layer for layer in report["layers"] if layer["rank"]]
    assert min(layer["energy"] for layer in changed) > 0.99, "the change has rank 4, and rank 4 was asked for"

    shown = picture(server, run, "extract")
    assert np.array_equal(shown, picture(server, run, "picture")), "the node shows what it puts out"
    assert shown.shape[1] == 960 and len(np.unique(shown.reshape(-1, 3), axis=0)) > 10


def test_convert_writes_a_listed_lora_with_the_same_modules(server: Server) -> None:
    inputs = {
        "lora_name": LORA, "dialect": "comfy", "kind": "keep", "rank": 0, "dtype": "keep", "base": BASE,
        "filename_prefix": "writing/converted", "on_unmatched": "error",
    }  # fmt: skip
    prompt = {
        "convert": {"class_type": "LoraCoreConvert", "inputs": inputs},
        "name": {"class_type": "PreviewAny", "inputs": {"source": ["convert", 0]}},
    }
    run = succeeded(server.run(prompt))
    name = run.text("name")
    path = server.models / "loras" / name
    assert path.parent == server.models / "loras" / "writing"
    assert name in server.node_info("LoraLoader")["input"]["required"]["lora_name"][0]
    assert {key.partition(".")[0] for key in keys(path)} == {"diffusion_model"}
    assert len(keys(path)) == len(keys(server.models / "loras" / LORA))
    (report,) = run.outputs["convert"]["report"]
    assert (report["operation"], report["warnings"]) == ("convert", [])
    with pytest.raises(PromptRejectedError, match="choose the LoRA to convert"):
        server.run({"convert": {"class_type": "LoraCoreConvert", "inputs": {**inputs, "lora_name": "None"}}})


def picture(server: Server, run: Run, node: str) -> np.ndarray:
    (image,) = run.outputs[node]["images"]
    address = f"{server.url}/view?filename={image['filename']}&subfolder={image['subfolder']}&type={image['type']}"
    with urlopen(address, timeout=30) as answer, Image.open(BytesIO(answer.read())) as opened:
        return np.asarray(opened.convert("RGB"))
