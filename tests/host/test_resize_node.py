"""Resize LoRA in a real ComfyUI: the node, and what ComfyUI's own loader makes of resized files of every kind."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import lora_core
from tests import tiny
from tests.core.operations.test_resize import KINDS, M
from tests.host.own_loader import STRENGTHS
from tests.host_server import REPO, PromptRejectedError, Run, Server
from tests.tiers import find_host

LORA = "resizing/flux.safetensors"
BASE = "resizing/flux.safetensors"
RANK = 3
FP32 = 1e-6  # of the largest weight


@pytest.fixture(scope="module", autouse=True)
def files(server: Server) -> None:
    tiny.make_tiny("flux", server.models / "checkpoints" / BASE)
    tiny.make_lora(server.models / "loras" / LORA, tiny.flat("lora_unet_", tiny.modules("flux")), 8)


def prompt(**changes: Any) -> dict[str, Any]:
    inputs = {
        "lora_name": LORA, "rank": 4, "energy": 0.0, "max_rank": 128, "conv_rank": 0, "rank_by": "auto",
        "threshold": 0.0, "dtype": "keep", "filename_prefix": "resizing/small", "base": "None", **changes,
    }  # fmt: skip
    return {
        "resize": {"class_type": "LoraCoreResize", "inputs": inputs},
        "name": {"class_type": "PreviewAny", "inputs": {"source": ["resize", 0]}},
        "report": {"class_type": "PreviewAny", "inputs": {"source": ["resize", 1]}},
        "picture": {"class_type": "PreviewImage", "inputs": {"images": ["resize", 2]}},
    }


def succeeded(run: Run) -> Run:
    assert (run.status, run.error) == ("success", "")
    return run


def test_the_node_writes_a_listed_lora_and_reports(server: Server) -> None:
    run = succeeded(server.run(prompt()))
    name = run.text("name")
    path = server.models / "loras" / name
    assert path.parent == server.models / "loras/resizing"
    assert name in server.node_info("LoraLoader")["input"]["required"]["lora_name"][0]
    assert {len(tensor) for key, tensor in load_file(path).items() if "lora_down" in key} == {4}
    assert run.text("resize") == run.text("report")
    assert "rank 8 to 4" in run.text("resize")
    (report,) = run.outputs["resize"]["report"]
    assert (report["operation"], {layer["rank"] for layer in report["layers"]}) == ("resize", {4})
    assert run.outputs["picture"]["images"] and run.outputs["resize"]["images"]
    assert run.progress[-1][0] == run.progress[-1][1], "the bar ends full"


def test_rules_that_need_the_model(server: Server) -> None:
    options = {"rank_by": "relative", "threshold": 0.01, "filename_prefix": "resizing/relative"}
    failed = server.run(prompt(**options))
    assert failed.status == "error" and "needs the model" in failed.error
    assert not list((server.models / "loras/resizing").glob("relative*"))
    succeeded(server.run(prompt(**options, base=BASE)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lora_name": "None"}, "choose the LoRA to resize"),
        ({"lora_name": "gone.safetensors"}, "gone.safetensors"),
        ({"base": "gone.safetensors"}, "gone.safetensors"),
    ],
)
def test_what_is_missing_is_refused_before_the_run(server: Server, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PromptRejectedError, match=message):
        server.run(prompt(**changes))


# ComfyUI's own loader


def _cases() -> dict[str, Any]:
    return {make.__name__: make for make in KINDS}


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ComfyUI makes of the resized files; one process for all."""
    folder, host = tmp_path_factory.mktemp("resized"), find_host()
    assert host is not None
    for name, make in _cases().items():
        tensors, dense = make()
        source = folder / f"{name}.source"
        named = {key.replace(M, "lora_unet_m"): tensor.contiguous() for key, tensor in tensors.items()}
        save_file(named, source)
        lora_core.resize(source, folder / f"{name}.lora.safetensors", rank=RANK)
        weight = torch.randn(dense.shape, generator=torch.Generator().manual_seed(3))
        save_file({"weight": weight}, folder / f"{name}.weight.safetensors")
    script = REPO / "tests/host/own_loader.py"
    subprocess.run([host.python, script, folder], cwd=host.path, check=True, capture_output=True, timeout=600)
    return folder


@pytest.mark.parametrize("name", _cases())
def test_the_hosts_own_loader_makes_the_best_change_of_the_rank(theirs: Path, name: str) -> None:
    dense = _cases()[name]()[1]
    left, values, right = np.linalg.svd(dense.flatten(1).numpy(), full_matrices=False)
    best = torch.from_numpy((left[:, :RANK] * values[:RANK]) @ right[:RANK]).reshape(dense.shape)
    weight = load_file(theirs / f"{name}.weight.safetensors")["weight"].double()
    found = load_file(theirs / f"{name}.out.safetensors")
    for strength in STRENGTHS:
        expected = weight + float(strength) * best
        assert float((found[strength].double() - expected).abs().max()) <= FP32 * float(expected.abs().max()), strength
