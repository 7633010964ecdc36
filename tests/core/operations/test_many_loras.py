"""Inspecting more LoRAs than are compared with each other."""

from __future__ import annotations

from pathlib import Path

import pytest

import lora_core
from lora_core.operations.inspecting import agreement
from lora_core.operations.inspecting.inspect import MOST_COMPARED
from tests import tiny
from tests.core.samples import save


@pytest.mark.attack(13)
def test_the_first_loras_alone_are_compared_with_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []
    real = agreement.overlap_of
    monkeypatch.setattr(agreement, "overlap_of", lambda *spaces: (compared.append(1), real(*spaces))[1])
    names = ("lora_up.weight", "lora_down.weight")
    tensors = {f"lora_unet_x.{name}": tiny.random_normal(name, shape, 0)
               for name, shape in zip(names, ((8, 2), (2, 8)), strict=True)}  # fmt: skip
    files = [save(tmp_path / f"{number}.safetensors", tensors) for number in range(MOST_COMPARED + 3)]
    report = lora_core.inspect(files[0], stack=files[1:])
    pairs = MOST_COMPARED * (MOST_COMPARED - 1) // 2
    assert (len(report.pairs), len(compared)) == (pairs, pairs)
    assert max(number for pair in report.pairs for number in pair["numbers"]) == MOST_COMPARED - 1
    assert {layer["lora"] for layer in report.layers} == set(range(len(files)))  # all are measured
    assert f"{len(files)} LoRAs: the first {MOST_COMPARED} alone are compared with each other." in report.warnings
    assert sum("is it one LoRA" in warning for warning in report.warnings) == 10
