"""A workflow of several jobs: one fails, the others are done, and the whole says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import lora_core
from tests import tiny
from tests.core import samples


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    tiny.make_tiny("flux", folder / "checkpoints/flux.safetensors")
    modules = tiny.flat("lora_unet_", tiny.modules("flux"))
    for name in ("a", "b"):
        tiny.make_lora(folder / f"loras/{name}.safetensors", modules, 4, seed=ord(name))
    (folder / "loras/bad.safetensors").write_bytes((folder / "loras/a.safetensors").read_bytes()[:-10])
    return folder


def workflow(tmp_path: Path, *loras: str) -> Path:
    """Resizes each of the LoRAs; what is written is called as the file."""
    nodes: dict[str, Any] = {
        str(number): {
            "class_type": "LoraCoreResize",
            "inputs": {"lora_name": f"{name}.safetensors", "filename_prefix": f"small_{name}", "rank": 2},
        }
        for number, name in enumerate(loras, 1)
    }
    path = tmp_path / "batch.json"
    path.write_text(json.dumps(nodes))
    return path


@pytest.mark.case(21)
def test_one_job_fails_and_the_others_are_done(models: Path, tmp_path: Path) -> None:
    file, out = workflow(tmp_path, "a", "bad", "b"), tmp_path / "out"
    done = samples.command("run", str(file), "--models", str(models), "--output", str(out))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("lora-core: node 2 (Resize LoRA): bad.safetensors: truncated: has ")
    assert done.stderr.endswith(" Written all the same: small_a_00001_.safetensors, small_b_00001_.safetensors.\n")
    assert samples.listing(out) == ["small_a_00001_.safetensors", "small_b_00001_.safetensors"]
    for name in ("a", "b"):
        lora_core.resize(models / f"loras/{name}.safetensors", tmp_path / "alone.safetensors", rank=2, overwrite=True)
        assert (out / f"small_{name}_00001_.safetensors").read_bytes() == (tmp_path / "alone.safetensors").read_bytes()


@pytest.mark.case(21)
def test_every_error_is_told_once(models: Path, tmp_path: Path) -> None:
    text = samples.message(
        lora_core.errors.FileFormatError,
        lambda: lora_core.run(workflow(tmp_path, "bad", "no", "bad"), models=models, output=tmp_path / "out"),
    )
    assert text.count("truncated: has ") == 2  # of two nodes
    assert "node 2 (Resize LoRA): " in text
    assert "Written" not in text


@pytest.mark.case(20)
def test_an_interrupt_ends_the_whole_batch(models: Path, tmp_path: Path) -> None:
    def cancel(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lora_core.run(workflow(tmp_path, "a", "b"), models=models, output=tmp_path / "out", on_step=cancel)
    assert samples.listing(tmp_path / "out") == []


@pytest.mark.case(41)
def test_a_batch_that_is_run_again_takes_nothing_old_for_its_result(models: Path, tmp_path: Path) -> None:
    """There are no marks of what is done: each run makes every file, from the inputs as they are then."""
    file, out = workflow(tmp_path, "a", "b"), tmp_path / "out"

    def cancel(done: int, total: int) -> None:
        if (out / "small_a_00001_.safetensors").exists():  # the first job is done, the second one runs
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lora_core.run(file, models=models, output=out, on_step=cancel)
    assert samples.listing(out) == ["small_a_00001_.safetensors"]
    first = (out / "small_a_00001_.safetensors").read_bytes()
    tiny.make_lora(models / "loras/a.safetensors", tiny.flat("lora_unet_", tiny.modules("flux")), 4, seed=99)
    lora_core.run(file, models=models, output=out)
    assert samples.listing(out) == [
        "small_a_00001_.safetensors", "small_a_00002_.safetensors", "small_b_00001_.safetensors"
    ]  # fmt: skip
    assert (out / "small_a_00001_.safetensors").read_bytes() == first
    lora_core.resize(models / "loras/a.safetensors", tmp_path / "alone.safetensors", rank=2)
    assert (out / "small_a_00002_.safetensors").read_bytes() == (tmp_path / "alone.safetensors").read_bytes() != first
