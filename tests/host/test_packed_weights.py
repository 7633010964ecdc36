"""Models whose weights other packs hold as codes: extraction reads what their layers give, and tells the rest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests import tiny
from tests.core.samples import REPO
from tests.host.test_quantised_formats import comfyui


def test_packed_weights_are_read_or_told(tmp_path: Path) -> None:
    model = tiny.make_tiny("wan21", tmp_path / "wan.safetensors", dtype=torch.float32)
    found = json.loads(comfyui("packed.py", REPO, model).splitlines()[-1])
    assert (found["codings"], found["titles"]) == ({"Q8_0": 3}, ["Wan", "Wan"])
    for name in "qk":  # by the layer's `get_weight`, by the tensor's `dequantize`
        change = found[name].pop("change")
        assert found[name] == {"dtype": "F32", "shape": [128, 128], "same": True, "plain": True}
        assert change == pytest.approx(0.005 if name == "q" else 0, rel=1e-4)
    assert found["v"] == {"dtype": "U8", "shape": [128, 128]}
    assert found["report"]["notes"][0] == "1 changed, 40 unchanged, 0 outside the known models, 1 not compared"
    (warning,) = found["report"]["warnings"]
    assert warning.startswith("1 weight not compared, as they are packed")
    assert "diffusion_model.blocks.0.self_attn.v.weight" in warning
