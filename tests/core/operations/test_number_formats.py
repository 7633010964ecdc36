"""Every operation on LoRAs in every number format that is read, against fp64, alone and mixed with the others."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import pytest
import torch

from lora_core import Report, combine, convert, inspect, resize
from lora_core.errors import LoraError
from tests.core.operations.test_combine import QUERY, dense_lora, deviation, lora, of_file
from tests.core.samples import load, save

pytestmark = pytest.mark.attack(7)

FORMATS = {
    name: getattr(torch, name) for name in ("float8_e4m3fn", "float8_e5m2", "bfloat16", "float16", "float32", "float64")
}
ROUNDED = {"float8_e4m3fn": 0.08, "float8_e5m2": 0.15, "bfloat16": 0.01, "float16": 2e-3, "float32": 1e-5}
KEY = "clip_l text_model.encoder.layers.0.self_attn.q_proj.weight"
METHODS = ("sum", "magnitude_prune", "ties", "dare_linear", "dare_ties", "core_ties", "core_tsv")


def small(path: Path, seed: str, dtype: torch.dtype) -> Path:
    factors = lora(QUERY, 768, 768, 2, seed=seed)
    return save(path, {name: tensor.to(dtype) for name, tensor in factors.items()})


def change(path: Path) -> torch.Tensor:
    return dense_lora(load(path), QUERY)


@pytest.mark.parametrize(("first", "second"), list(combinations_with_replacement(FORMATS, 2)))
def test_a_combination_is_the_sum_in_fp64(tmp_path: Path, first: str, second: str) -> None:
    one, other = (
        small(tmp_path / "a.safetensors", "a", FORMATS[first]),
        small(tmp_path / "b.safetensors", "b", FORMATS[second]),
    )
    for number, strengths in enumerate(((0.5, -1.0, 0.3), (-1.0, 0.25, 2.0))):
        out = tmp_path / f"{number}.safetensors"
        combine([(one, strengths[0]), (other, strengths[1]), (one, strengths[2])], out, arch="sdxl")
        expected = {KEY: (strengths[0] + strengths[2]) * change(one) + strengths[1] * change(other)}
        widest = min(ROUNDED.get(first, 1e-5), ROUNDED.get(second, 1e-5))
        assert deviation(of_file(out), expected) <= widest


def operations(one: Path, other: Path, out: Path) -> dict[str, Callable[[], Report]]:
    found: dict[str, Callable[[], Report]] = {
        "resize": lambda: resize(one, out, rank=1),
        "inspect": lambda: inspect(one),
        "convert": lambda: convert(one, out, dialect="diffusers", arch="sdxl"),
        "as a LoRA": lambda: convert(one, out, dialect="kohya", kind="lora", rank=1, arch="sdxl"),
        "by itself": lambda: combine([(one, 0.7)], out, arch="sdxl"),
        "twice": lambda: combine([(one, 0.5), (one, 0.5)], out, arch="sdxl"),
    }
    for method in METHODS:
        more: dict[str, Any] = {} if method == "sum" else {"method": method}
        found[method] = lambda more=more: combine([(one, 1.0), (other, 0.5)], out, arch="sdxl", **more)
    return found


NAMES = ("resize", "inspect", "convert", "as a LoRA", "by itself", "twice", *METHODS)


@pytest.mark.parametrize("name", FORMATS)
def test_every_operation_takes_every_format(tmp_path: Path, name: str) -> None:
    one, other = (small(tmp_path / f"{seed}.safetensors", seed, FORMATS[name]) for seed in "ab")
    found = operations(one, other, tmp_path / "out.safetensors")
    assert tuple(found) == NAMES
    for what, run in found.items():
        run()
        if what in ("convert", "twice"):
            assert deviation(of_file(tmp_path / "out.safetensors"), {KEY: change(one)}) <= 1e-6, what
        (tmp_path / "out.safetensors").unlink(missing_ok=True)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fnuz, torch.int8, torch.bool, torch.uint8])
def test_other_formats_are_one_clear_error(tmp_path: Path, dtype: torch.dtype) -> None:
    one, other = (small(tmp_path / f"{seed}.safetensors", seed, dtype) for seed in "ab")
    for what, run in operations(one, other, tmp_path / "out.safetensors").items():
        with pytest.raises(LoraError, match=r"a\.safetensors: .*(dtype|holds|real numbers)"):
            run()
        assert not (tmp_path / "out.safetensors").exists(), what
