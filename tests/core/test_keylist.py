"""Key lists are taken from files' headers, and from a `.json` that somebody has instead of the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.core import samples
from tests.keylist import fixtures

METADATA = {"ss_network_dim": "4"}


@pytest.mark.parametrize(
    ("one", "dtype"), [([8, 4], "F32"), ({"dtype": "BF16", "shape": [8, 4], "data_offsets": [0, 64]}, "BF16")]
)
def test_a_json_of_names_and_shapes(tmp_path: Path, one: Any, dtype: str) -> None:
    path = tmp_path / "list.json"
    path.write_text(json.dumps({"m.lora_B.weight": one, "__metadata__": METADATA}), encoding="utf-8")
    assert fixtures.read(path) == ({"m.lora_B.weight": (dtype, [8, 4])}, METADATA)


def test_a_file(tmp_path: Path) -> None:
    path = samples.save(tmp_path / "x.safetensors", {"m.lora_B.weight": torch.zeros(8, 4)}, METADATA)
    assert fixtures.read(path) == ({"m.lora_B.weight": ("F32", [8, 4])}, METADATA)
