"""Converted files in ComfyUI's own loader, on the key maps that it makes of the real models: all read, same change."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

import lora_core
from tests import manifests
from tests.core.operations.test_convert import CASES, Tensors, deltas, deviation, lora
from tests.host_server import REPO
from tests.tiers import find_host

# The change is computed in another order, and compared as its product with thousands of random columns
FP32 = 1e-5
WRITTEN = [(dialect, *case) for dialect in ("comfy", "kohya") for case in CASES]
ENCODERS = {"flux1_dev": "te_flux1", "sd3_medium": "te_sd3", "sdxl": "te_sdxl", "wan21_t2v_1.3b": "te_wan"}


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Everything that ComfyUI makes of the converted files; one process for all."""
    folder, host = tmp_path_factory.mktemp("converted"), find_host()
    assert host is not None
    for number, (dialect, arch, style, named) in enumerate(WRITTEN):
        source = folder / f"{number}.source"
        save_file(lora(named, style, alpha=1.5 if style == "kohya" else None), source)
        lora_core.convert(source, folder / f"{number}.safetensors", dialect=dialect, arch=arch, on_unmatched="error")
        models = (arch, ENCODERS[arch])
        aliases = {name: alias for model in models for name, alias in manifests.aliases(model).items()}
        shapes = {key: shape for model in models for key, shape in manifests.target_shapes(model).items()}
        text = {"aliases": {n: dataclasses.astuple(alias) for n, alias in aliases.items()}, "shapes": shapes}
        (folder / f"{number}.json").write_text(json.dumps(text), encoding="utf-8")
    script = REPO / "tests/host/patched.py"
    done = subprocess.run(
        [host.python, script, folder], cwd=host.path, check=True, capture_output=True, text=True, timeout=600
    )
    return folder, [
        text for text in json.loads(done.stdout.splitlines()[-1]) if "not loaded" in text or "ERROR" in text
    ]


@pytest.mark.parametrize("number", range(len(WRITTEN)), ids=[f"{d}-{a}-{s}" for d, a, s, _ in WRITTEN])
def test_the_hosts_own_loader_makes_the_same_change(number: int, theirs: tuple[Path, list[str]]) -> None:
    folder, dropped = theirs
    _, arch, _, _ = WRITTEN[number]
    assert dropped == []
    checkpoint = manifests.checkpoint(arch)
    expected: Tensors = {}
    for (model, key), change in deltas(folder / f"{number}.source", arch).items():
        disk = checkpoint.prefix + key
        inside = checkpoint.renames.get(disk, key)
        is_encoder = model.startswith(("clip", "t5", "umt5"))
        expected[f"{model}.transformer.{key}" if is_encoder else f"diffusion_model.{inside}"] = change
    got: dict[Any, Any] = load_file(folder / f"{number}.out.safetensors")
    assert deviation(got, expected) < FP32
