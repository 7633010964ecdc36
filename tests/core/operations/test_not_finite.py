"""No report holds NaN or infinity, which no page's JSON can read: the weight is named instead."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

import lora_core
from lora_core.report import LoraReport, Report, as_json_has_it
from tests import tiny
from tests.core.samples import load

KEY = "blocks.0.self_attn.q.weight"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tiny.make_tiny("wan21", tmp_path / "base.safetensors") or tmp_path / "base.safetensors"
    tiny.make_lora(tmp_path / "ink.safetensors", tiny.modules("wan21"), seed=1)
    return path


def spoil(path: Path, value: float) -> Path:
    tensors = {key: tensor.clone() for key, tensor in load(path).items()}
    tensors[KEY][0, 0] = value
    out = path.with_name("spoilt.safetensors")
    save_file(tensors, out)
    return out


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_merging_into_such_a_model(base: Path, tmp_path: Path, value: float) -> None:
    ink = tmp_path / "ink.safetensors"
    report = lora_core.merge(spoil(base, value), [ink], tmp_path / "out.safetensors")
    json.dumps(report.to_dict(), allow_nan=False)
    assert f"1 weight of NaN or infinity, not measured: {KEY}." in report.warnings
    assert (report.loras[0].relative_size or 0) > 0, "that of the other weights"
    assert "nan" not in report.text()


def test_inspecting_against_such_a_model(base: Path, tmp_path: Path) -> None:
    report = lora_core.inspect(tmp_path / "ink.safetensors", against=[spoil(base, math.nan)], spectra=True)
    json.dumps(report.to_dict(), allow_nan=False)
    assert any(KEY.removesuffix(".weight") in warning for warning in report.warnings)
    assert "nan" not in report.text().lower().replace("nan or infinity", "")


def test_whatever_else_a_report_holds() -> None:
    lora = LoraReport("a", "kohya", ["LoRA"], (4, 4), {"min": math.nan, "max": math.inf, "source": "none"}, 1)
    report = Report("x", loras=[lora], layers=[{"name": "one", "deep": [{"energy": -math.inf}, 2.0]}])
    shown = report.to_dict()
    json.dumps(shown, allow_nan=False)
    assert shown["layers"] == [{"name": "one", "deep": [{"energy": None}, 2.0]}]
    found: dict[str, Any] = {}
    assert as_json_has_it({"name": "q", "norm": math.nan, "rank": 4}, "", found) == {
        "name": "q",
        "norm": None,
        "rank": 4,
    }
    assert found == {"q": ["norm"]}
