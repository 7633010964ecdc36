"""Small LoRAs whose shapes ask for much memory: they are cheap after all, or refused before anything is allocated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import lora_core
from lora_core import Report
from lora_core.errors import AdapterError, LoraError
from tests import tiny
from tests.core.adapters.disproportionate import peak
from tests.core.samples import load, save

pytestmark = pytest.mark.attack(4)
MODULE = "blocks.0.self_attn.q"  # (128, 128)
ROOM = 150  # MB; the files have at most 1.3 MB, the model 2 MB


def high_rank(rank: int) -> dict[str, torch.Tensor]:
    """A LoKr of a side whose rank is far above its size."""
    return {
        f"{MODULE}.lokr_w1": torch.randn(64, 64),
        f"{MODULE}.lokr_w2_a": torch.randn(2, rank) / rank,
        f"{MODULE}.lokr_w2_b": torch.randn(rank, 2),
    }


def widening(inputs: int) -> dict[str, torch.Tensor]:
    return {
        f"{MODULE}.lora_up.weight": torch.randn(128, 1),
        f"{MODULE}.lora_down.weight": torch.randn(1, inputs),
        f"{MODULE}.reshape_weight": torch.tensor([128, inputs]),
    }


def whole_lokr(side: int) -> dict[str, torch.Tensor]:
    return {"unknown.lokr_w1": torch.randn(side, side), "unknown.lokr_w2": torch.randn(side, side)}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tiny.make_tiny("wan21", tmp_path / "base.safetensors")


def grown_by(run: Callable[[], Report]) -> tuple[Report, float]:
    found: list[Report] = []
    return found, peak(lambda: found.append(run()))  # pyright: ignore[reportReturnType]


def test_a_kronecker_product_of_a_high_rank_is_merged_at_its_own_size(tmp_path: Path, base: Path) -> None:
    path, out = save(tmp_path / "a.safetensors", high_rank(9000)), tmp_path / "out.safetensors"
    (report,), most = grown_by(lambda: lora_core.merge(base, [path], out))
    assert most < ROOM
    w1, a, b = (tensor.double() for tensor in high_rank_of(path))
    weight = load(base)[f"{MODULE}.weight"].double()
    delta = torch.kron(w1, a @ b)
    expected = weight + delta
    assert float((load(out)[f"{MODULE}.weight"].double() - expected).norm() / expected.norm()) < 1e-3
    assert report.loras[0].relative_size == pytest.approx(float(delta.norm() / weight.norm()), rel=1e-3)


def high_rank_of(path: Path) -> list[torch.Tensor]:
    tensors = load(path)
    return [tensors[f"{MODULE}.{name}"] for name in ("lokr_w1", "lokr_w2_a", "lokr_w2_b")]


def test_its_other_uses_take_no_more(tmp_path: Path, base: Path) -> None:
    path = save(tmp_path / "a.safetensors", high_rank(9000))
    out = tmp_path / "out.safetensors"
    for run in (
        lambda: lora_core.inspect(path, spectra=True),
        lambda: lora_core.resize(path, out, rank=4, overwrite=True),
        lambda: lora_core.convert(path, out, dialect="kohya", base=base, kind="lora", overwrite=True),
        lambda: lora_core.combine([(path, 0.5), (path, 0.2)], out, base=base, overwrite=True),
    ):
        assert grown_by(run)[1] < ROOM


def test_a_weight_that_grows_beyond_all_measure_is_refused(tmp_path: Path, base: Path) -> None:
    path, out = save(tmp_path / "a.safetensors", widening(300_000)), tmp_path / "out.safetensors"
    with pytest.raises(AdapterError, match=r"a\.safetensors: blocks.*\[128, 128\] larger, to \[128, 300000\]"):
        lora_core.merge(base, [path], out)
    assert not out.exists()
    lora_core.merge(base, [save(tmp_path / "b.safetensors", widening(384))], out)


def test_a_product_that_no_memory_holds_is_named_or_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.safetensors", whole_lokr(400))
    report = lora_core.inspect(path, spectra=True)
    assert any("far too much memory to be measured" in warning for warning in report.warnings)
    with pytest.raises(
        LoraError,
        match=r"a\.safetensors: unknown: its change takes",
    ):
        lora_core.resize(path, tmp_path / "out.safetensors", rank=4)


def test_a_pair_of_high_ranks_is_compared_without_their_square(tmp_path: Path) -> None:
    rank = 9000
    for name in "ab":
        factors = {"x.lora_up.weight": torch.randn(2, rank), "x.lora_down.weight": torch.randn(rank, 2)}
        save(tmp_path / f"{name}.safetensors", factors)
    stack = [(tmp_path / "b.safetensors", 1.0)]
    assert grown_by(lambda: lora_core.inspect(tmp_path / "a.safetensors", stack=stack, spectra=True))[1] < ROOM
