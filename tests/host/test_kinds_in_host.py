"""`semantics="comfyui"` of every kind that ComfyUI reads, against ComfyUI's own loader in ComfyUI's Python."""

from __future__ import annotations

import logging
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.host.own_loader import STRENGTHS
from tests.host_server import REPO
from tests.peers import kinds
from tests.peers.kind_cases import cases
from tests.tiers import find_host

# Of the largest weight. Most kinds are equal bit for bit; rotations come from another solver, norms from another sum
FP32 = 1e-6
NOT_READ = ("IA3", "OFT")  # ComfyUI drops (IA)³ and the input's OFT
PEFTS = ("LoRA", "DoRA of LoRA", "LoHa", "LoKr")  # of PEFT's kinds it reads these
CASES = {
    case.name: case
    for case in cases()
    if (case.kind in PEFTS if case.oracle == "PEFT merge" else case.kind not in NOT_READ)
}
EXTRA = "LoHa / OneTrainer's factors in four dimensions"

logging.getLogger("LyCORIS").setLevel(logging.ERROR)


def made_of(name: str) -> kinds.Made:
    if name != EXTRA:
        return CASES[name].make(4)
    made = next(case for case in CASES.values() if case.kind == "LoHa" and case.layer == "kernel").make(4)
    tensors = dict(made.tensors)
    for part in ("w1", "w2"):
        a, b = (f"lora_unet_m.hada_{part}_{side}" for side in "ab")
        tensors[a], tensors[b] = tensors[a][:, :, None, None], tensors[b].reshape(-1, *made.before["weight"].shape[1:])
    return kinds.Made(tensors, made.before, made.after)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, torch.Tensor]]:
    """What ComfyUI makes of every case, by strength; one process for all."""
    folder, host = tmp_path_factory.mktemp("own"), find_host()
    assert host is not None
    names = [*CASES, EXTRA]
    for number, name in enumerate(names):
        made = made_of(name)
        save_file({k: v.contiguous() for k, v in made.tensors.items()}, folder / f"{number}.lora.safetensors")
        save_file({"weight": made.before["weight"].contiguous()}, folder / f"{number}.weight.safetensors")
    script = REPO / "tests/host/own_loader.py"
    subprocess.run([host.python, script, folder], cwd=host.path, check=True, capture_output=True, timeout=600)
    return {name: load_file(folder / f"{number}.out.safetensors") for number, name in enumerate(names)}


@pytest.mark.parametrize("name", [*CASES, EXTRA])
def test_the_hosts_own_loader(tmp_path: Path, name: str, theirs: dict[str, dict[str, torch.Tensor]]) -> None:
    made = made_of(name)
    for strength in STRENGTHS:
        found = kinds.ours(made, tmp_path, float(strength), "comfyui")["weight"]
        expected = theirs[name][strength]
        assert float((found - expected).abs().max()) <= FP32 * float(expected.abs().max()), strength


def test_where_the_host_deviates(theirs: dict[str, dict[str, torch.Tensor]], tmp_path: Path) -> None:
    """The two semantics differ where they should: the host's deviations are still there."""
    different = {
        CASES[name].kind
        for name in CASES
        if kinds.error({"weight": theirs[name]["1.0"]}, _weight_only(made_of(name))) > 1e-3
    }
    assert different == {"DoRA of LoRA", "DoRA of LoHa", "DoRA of LoKr", "Diag-OFT", "BOFT", "LoKr", "LoRA", "LoHa"}
    made = made_of(EXTRA)
    assert torch.equal(theirs[EXTRA]["1.0"], made.before["weight"])
    assert not torch.equal(kinds.ours(made, tmp_path)["weight"], made.before["weight"])


def _weight_only(made: kinds.Made) -> kinds.Made:
    return kinds.Made(made.tensors, {"weight": made.before["weight"]}, {"weight": made.after["weight"]})
