"""What a checkpoint's header says of how its model is built: read where only it tells, and kept by what writes one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import lora_core
from lora_core.reading.checkpoint import Checkpoint
from tests import manifests, tiny
from tests.core import samples
from tests.core.operations.test_folders import tiny_tensors

# As the makers of LTX-2.3, LTX-2.5 and Animate 2 write it; spaces and an entry that nobody knows show a text that is
# written again from what was read
CONFIG = '{"transformer":  {"model_type": "animate2", "dim": 5120, "ratio": 0.10}, "vae": {"kept": [1, 2]}}'
HEADER = {
    "config": CONFIG,
    "format": "pt",
    "modelspec.title": "A model",
    "someone.else": "kept",
    "sshs_model_hash": "ab",
}
KEPT = {key: value for key, value in HEADER.items() if key != "sshs_model_hash"}


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    return tiny.make_lora(tmp_path / "lora.safetensors", tiny.flat("lora_unet_", tiny.modules("wan21")), 2)


def kept(path: Path) -> dict[str, str]:
    return {key: value for key, value in samples.metadata_of(path).items() if not key.startswith("lora_core.")}


@pytest.mark.parametrize("dtype", ["keep", "bf16"])
def test_a_merged_file_says_how_its_model_is_built(lora: Path, tmp_path: Path, dtype: Any) -> None:
    base = samples.save(tmp_path / "base.safetensors", tiny_tensors("wan21"), HEADER)
    lora_core.merge(base, [lora], tmp_path / "out.safetensors", dtype=dtype)
    assert kept(tmp_path / "out.safetensors") == KEPT


def test_every_shard_of_a_merged_folder_has_its_own_header(lora: Path, tmp_path: Path) -> None:
    base, weight_map = tmp_path / "base", dict[str, str]()
    base.mkdir()
    tensors = tiny_tensors("wan21")
    for number in range(2):
        own = {name: tensors[name] for name in list(tensors)[number::2]}
        file = samples.save(base / f"model-{number + 1:05}-of-00002.safetensors", own, {**HEADER, "shard": str(number)})
        weight_map |= dict.fromkeys(own, file.name)
    (base / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    lora_core.merge(base, [lora], tmp_path / "out")
    for number in range(2):
        assert kept(tmp_path / f"out/model-{number + 1:05}-of-00002.safetensors") == {**KEPT, "shard": str(number)}


def test_a_gguf_file_keeps_what_tells_the_model_and_no_more(lora: Path, tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(tmp_path / "base.gguf", "wan")
    writer.add_string("config", CONFIG)
    writer.add_string("general.name", "of these bytes")
    for name, tensor in tiny_tensors("wan21").items():
        writer.add_tensor(name, tensor.float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    lora_core.merge(tmp_path / "base.gguf", [lora], tmp_path / "out.safetensors", dtype="bf16")
    assert kept(tmp_path / "out.safetensors") == {"config": CONFIG}


@pytest.mark.parametrize(
    ("config", "edition"),
    [
        (CONFIG, "wan22_animate2_14b"),
        ('{"transformer": {"model_type": "i2v"}}', "wan21_i2v_14b"),
        ('{"vae": {"model_type": "animate2"}}', "wan21_i2v_14b"),
        ('{"transformer": ["model_type", "animate2"]}', "wan21_i2v_14b"),
        ('["transformer"]', "wan21_i2v_14b"),
        ("{", "wan21_i2v_14b"),
        ("[" * 100_000, "wan21_i2v_14b"),
        (None, "wan21_i2v_14b"),
    ],
)
def test_a_header_tells_editions_whose_keys_are_the_same(config: str | None, edition: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    keys = tiny.with_dtype(manifests.checkpoint("wan22_animate2_14b").keys)
    tiny.sparse_file(path, keys, {} if config is None else {"config": config})
    with Checkpoint(path) as checkpoint:
        assert checkpoint.arch == edition


def test_reports_name_the_edition(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    tiny.sparse_file(path, tiny.with_dtype(manifests.checkpoint("wan22_animate2_14b").keys), {"config": CONFIG})
    lora = tiny.make_lora(tmp_path / "lora.safetensors", {"lora_unet_blocks_0_ffn_0": (13824, 5120)}, 1)
    report = lora_core.inspect(lora, against=[path])
    assert (report.arch, report.title) == ("wan22_animate2_14b", "Wan 2.2 Animate 2")


@pytest.mark.parametrize(
    ("model", "title"), [("ltx2_19b", "LTX-2 19B"), ("ltx2.3_22b", "LTX-2.3"), ("ltx2.5_22b", "LTX-2.5")]
)
def test_keys_tell_editions_without_a_header(model: str, title: str, tmp_path: Path) -> None:
    path = samples.sparse_checkpoint(tmp_path / "model.safetensors", model)
    with Checkpoint(path) as checkpoint:
        assert (checkpoint.arch, checkpoint.title) == (model, title)


def test_a_lora_has_nothing_of_the_header_of_its_base(tmp_path: Path) -> None:
    base = samples.save(tmp_path / "base.safetensors", tiny_tensors("wan21"), HEADER)
    changed = {key: value + torch.full_like(value, 0.25) for key, value in tiny_tensors("wan21").items()}
    tuned = samples.save(tmp_path / "tuned.safetensors", changed, HEADER)
    lora_core.extract(base, tuned, tmp_path / "lora.safetensors", rank=1)
    written = samples.metadata_of(tmp_path / "lora.safetensors")
    assert "config" not in written and "someone.else" not in written
