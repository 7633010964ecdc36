"""Extract on the command line and in workflow files: from LoRAs, as an estimate, and what must be given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import lora_core
from lora_core.errors import OptionError, WorkflowError
from tests import tiny
from tests.core import samples


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like ComfyUI's, with a model and two LoRAs for it."""
    folder = tmp_path_factory.mktemp("models")
    tiny.make_tiny("wan21", folder / "diffusion_models/wan.safetensors")
    for seed, name in enumerate(("a", "b")):
        modules = tiny.flat("lora_unet_", tiny.modules("wan21"))
        tiny.make_lora(folder / f"loras/{name}.safetensors", modules, 4, seed=seed)
    return folder


def test_a_stack_on_the_command_line(models: Path, tmp_path: Path) -> None:
    base, loras = models / "diffusion_models/wan.safetensors", models / "loras"
    out, again = tmp_path / "lora.safetensors", tmp_path / "again.safetensors"
    stack = ("--lora", loras / "a.safetensors", 0.8, "--lora", loras / "b.safetensors")
    done = samples.command(
        "extract", "--base", base, *stack, "--rank-by", "file_size", "--threshold", 0.05, "--out", out
    )
    assert (done.returncode, done.stderr) == (0, "")
    pairs = [(loras / "a.safetensors", 0.8), loras / "b.safetensors"]
    lora_core.extract(base, out=again, loras=pairs, rank_by="file_size", threshold=0.05)
    assert out.read_bytes() == again.read_bytes()
    assert out.stat().st_size <= 50_000


def test_an_estimate_on_the_command_line(models: Path, tmp_path: Path) -> None:
    base, lora = models / "diffusion_models/wan.safetensors", models / "loras/a.safetensors"
    done = samples.command("extract", "--base", base, "--lora", lora, "--rank", 2, "--estimate-only", "--json")
    assert done.returncode == 0
    report = json.loads(done.stdout)
    assert report["outputs"] == []
    assert all(layer["rank"] == 2 and layer["bytes"] > 0 for layer in report["layers"])
    assert report["predicted_bytes"] > sum(layer["bytes"] for layer in report["layers"])


BASE = ("extract", "--base", "x", "--rank", "8")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*BASE, "--out", "z.safetensors"), "one of the arguments --tuned --lora is required"),
        ((*BASE, "--tuned", "y", "--lora", "a", "--out", "z"), "not allowed with argument --tuned"),
        ((*BASE, "--tuned", "y", "--rank-by", "energy"), "not allowed with argument --rank"),
        ((*BASE, "--tuned", "y", "--kind", "loha", "--out", "z"), "expected one of lora, dora; found 'loha'"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], words: str) -> None:
    done = samples.command(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in " ".join(done.stderr.split())


def workflow(tmp_path: Path, **inputs: Any) -> Path:
    rows = {"v": 1, "rows": [{"on": True, "name": "a.safetensors", "strength": 0.8}]}
    nodes = {
        "stack": {"class_type": "LoraCoreStack", "inputs": {"rows": rows}},
        "empty": {"class_type": "LoraCoreStack", "inputs": {"rows": {"v": 1, "rows": []}}},
        "model": {"class_type": "UNETLoader", "inputs": {"unet_name": "wan.safetensors"}},
        "extract": {"class_type": "LoraCoreExtract", "inputs": {"rank": 4, **inputs}},
    }
    path = tmp_path / "workflow.json"
    path.write_text(json.dumps(nodes), encoding="utf-8")
    return path


def test_a_stack_in_a_workflow_file(models: Path, tmp_path: Path) -> None:
    inputs = {"base": "diffusion_models/wan.safetensors", "lora_stack": ["stack", 0], "dtype": "fp32"}
    file = workflow(tmp_path, **inputs)
    (report,) = lora_core.run(file, models=models, output=tmp_path / "out")
    (out,) = (tmp_path / "out").rglob("*.safetensors")
    assert report.outputs[0]["name"] == out.name
    again, base = tmp_path / "again.safetensors", models / "diffusion_models/wan.safetensors"
    lora_core.extract(base, out=again, loras=[(models / "loras/a.safetensors", 0.8)], rank=4, dtype="fp32")
    assert out.read_bytes() == again.read_bytes()


def test_an_estimate_in_a_workflow_file(models: Path, tmp_path: Path) -> None:
    inputs = {"base": "diffusion_models/wan.safetensors", "lora_stack": ["stack", 0], "estimate_only": True}
    before = samples.listing(models)
    (report,) = lora_core.run(workflow(tmp_path, **inputs), models=models)
    assert (report.outputs, samples.listing(models)) == ([], before)
    assert (report.predicted_bytes or 0) > 0


@pytest.mark.parametrize(
    ("error", "inputs", "expected"),
    [
        (OptionError, {}, "base: choose the checkpoint that was tuned, or connect model_base."),
        (OptionError, {"base": "diffusion_models/wan.safetensors"}, "tuned: choose the tuned checkpoint, or connect"),
        (
            OptionError,
            {"base": "diffusion_models/wan.safetensors", "lora_stack": ["empty", 0]},
            "lora_stack: is empty; switch on at least one LoRA of the stack.",
        ),
        (
            WorkflowError,
            {"model_base": ["model", 0], "lora_stack": ["stack", 0]},
            "node model (UNETLoader) needs ComfyUI",
        ),
    ],
)
def test_what_a_workflow_must_give(
    models: Path, tmp_path: Path, error: Any, inputs: dict[str, Any], expected: str
) -> None:
    file = workflow(tmp_path, **inputs)
    text = samples.message(error, lambda: lora_core.run(file, models=models, output=tmp_path / "out"))
    assert expected in text


def test_the_example_runs_without_comfyui(models: Path, tmp_path: Path) -> None:
    example = json.loads((samples.REPO / "example_workflows/extract_lora.json").read_text("utf-8"))
    (node,) = (node for node in example["nodes"] if node["type"] == "LoraCoreExtract")
    tiny.make_tiny("wan21", tmp_path / "models/checkpoints/base.safetensors")
    tiny.make_tiny("wan21", tmp_path / "models/checkpoints/tuned.safetensors", 1)
    node["widgets_values"][:2] = ["base.safetensors", "tuned.safetensors"]
    file = tmp_path / "example.json"
    file.write_text(json.dumps(example), encoding="utf-8")
    (report,) = lora_core.run(file, models=tmp_path / "models", output=tmp_path / "out")
    assert report.outputs[0]["name"] == "extracted_00001_.safetensors"
