"""diffusers' own folders: a LoRA merged into the shards that diffusers saved gives the weights that it fuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import lora_core
from lora_core.receipts.receipt import RECEIPT_FILE
from tests.peers.models import FAMILIES, assert_same, clip_l, plain, randomised
from tests.peers.test_diffusers import fused, save_lora

FP32 = 1e-6  # the same sum in fp32, in another order


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("name", ["flux", "sd3", "wan", "sd15", "sdxl"])
def test_a_folder_that_diffusers_saved_loads_in_diffusers_with_what_it_fuses(
    tmp_path: Path, name: str, whole: bool
) -> None:
    """`whole`: the pipeline's folder with a text encoder; else the component's folder alone."""
    family = FAMILIES[name]
    lora = save_lora(family, tmp_path)
    base = tmp_path / "pipeline"
    randomised(family.make()).save_pretrained(base / family.component, max_shard_size="30KB")
    randomised(clip_l()).save_pretrained(base / "text_encoder")
    (base / "model_index.json").write_text("{}")
    source, out = (base, tmp_path / "out") if whole else (base / family.component, tmp_path / "out")
    report = lora_core.merge(source, [(lora, 0.7)], out, on_unmatched="error")
    assert report.loras[0].modules_matched == report.loras[0].modules_total > 0
    loaded = type(family.make()).from_pretrained(out / family.component if whole else out)
    assert loaded.dtype == torch.float32
    assert_same(plain(loaded), fused(family, lora, 0.7), FP32)
    shards = sorted(path.name for path in (base / family.component).iterdir())
    assert len(shards) > 3
    written = {path.name for path in (out / family.component if whole else out).iterdir()}
    assert sorted(written - {RECEIPT_FILE}) == shards
