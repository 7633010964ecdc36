"""Quantised weights, written by ComfyUI's own code: we read what it reads."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import torch

import lora_core
from lora_core.files.decoded import Decoded
from lora_core.files.opening import open_tensors
from lora_core.files.quantised import fp8_codes
from tests import tiny
from tests.core import samples
from tests.tiers import find_host

FORMATS = {
    "fp8": "float8_e4m3fn", "fp8_e5m2": "float8_e5m2", "fp8_random": "float8_e4m3fn", "nvfp4": "nvfp4",
    "nvfp4_small": "nvfp4", "mxfp8": "mxfp8", "int8": "int8_tensorwise", "int8_rows": "int8_tensorwise",
    "int8_rotated": "int8_tensorwise",
}  # fmt: skip


@pytest.fixture(scope="module")
def quantised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("quantised") / "quantised.safetensors"
    comfyui("quantise.py", out)
    return out


def comfyui(script: str, *paths: Path) -> str:
    """Return what a script prints that ComfyUI's Python runs."""
    host = find_host()
    assert host is not None
    command = [str(host.python), str(Path(__file__).with_name(script)), str(host.path), *map(str, paths)]
    return subprocess.run(command, check=True, timeout=300, capture_output=True, text=True).stdout


@pytest.mark.parametrize("layer", FORMATS)
def test_values_are_comfyuis_own(quantised: Path, layer: str) -> None:
    with Decoded(open_tensors(quantised)) as file:
        assert file.coded_as(f"{layer}.weight") == FORMATS[layer]
        found, expected = file.tensor(f"{layer}.weight"), file.tensor(f"{layer}.expected")
        before = file.tensor(f"{layer}.weight_before")
        assert file[f"{layer}.weight"].shape == tuple(before.shape)
        shown = {key.removeprefix(f"{layer}.") for key in file if key.startswith(f"{layer}.")}
        assert shown == {"expected", "weight", "weight_before"}  # nothing of the quantisation
    torch.testing.assert_close(found, expected, rtol=2e-7, atol=1e-9)
    # and both are the weight, as far as its format goes
    assert float((found - before).norm() / before.norm()) < (0.15 if "fp4" in layer else 0.06)


def test_new_fp8_codes_are_comfyuis_own(quantised: Path) -> None:
    tensors = samples.load(quantised)
    for layer in ("fp8", "fp8_e5m2"):
        codes = tensors[f"{layer}.weight"]
        found, scale = fp8_codes(tensors[f"{layer}.weight_before"], torch.ones(()), codes.dtype, None)
        assert float(scale) == pytest.approx(float(tensors[f"{layer}.weight_scale"]), rel=1e-7)
        same = found.view(torch.uint8) == codes.view(torch.uint8)
        assert float(same.float().mean()) > 0.999  # ComfyUI multiplies by the reciprocal


def test_what_a_merge_writes_loads_as_quantised_and_as_plain(tmp_path: Path) -> None:
    """A plain base written as scaled fp8, that merged again with `keep`, and that again decoded."""
    base = tiny.make_tiny("flux", tmp_path / "base.safetensors", dtype=torch.bfloat16)
    lora = tiny.make_lora(tmp_path / "lora.safetensors", tiny.flat("lora_unet_", tiny.modules("flux")), 2)
    paths = [base]
    for dtype in ("fp8_e4m3fn_scaled", "keep", "bf16"):
        paths.append(tmp_path / f"{dtype}.safetensors")
        lora_core.merge(paths[-2], [(lora, 0.2)], paths[-1], dtype=dtype)
    plain, scaled, kept, decoded = json.loads(comfyui("load.py", *paths).splitlines()[-1])
    assert len(plain) > 20
    for name, (no_format, norm) in plain.items():
        assert no_format is None and decoded[name][0] is None
        assert scaled[name][0] == kept[name][0] == "float8_e4m3fn"
        for layers in (scaled, kept, decoded):
            assert layers[name][1] == pytest.approx(norm, rel=0.1)
