"""A cancel takes effect while a LoRA of many modules is opened and placed, before any step of the work: attack 30."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import lora_core
from lora_core.parallel import asking
from tests.core import samples

MODULES = 200


class CancelError(Exception):
    """The user cancels."""


@pytest.fixture
def lora(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(asking, "SECONDS", 0.0)  # every look at the clock is a question
    parts = {"lora_A.weight": (2, 4), "lora_B.weight": (4, 2)}
    names = [f"transformer.transformer_blocks.{at}.attn.to_q" for at in range(MODULES)]
    tensors = {f"{name}.{part}": torch.ones(shape) for name in names for part, shape in parts.items()}
    path = tmp_path / "many.safetensors"
    samples.save(path, tensors)
    return path


def asked_until(number: int, work: Callable[[Any], object]) -> int:
    """Return how often the work asked, a cancel at that question included; it raises the cancel as it is."""
    count = 0

    def on_step(done: int, total: int) -> None:
        nonlocal count
        count += 1
        if count == number:
            raise CancelError

    if number:
        with pytest.raises(CancelError):
            work(on_step)
    else:
        work(on_step)
    return count


@pytest.mark.attack(30)
@pytest.mark.parametrize("operation", ["inspect", "convert", "resize", "combine"])
def test_a_cancel_is_heard_while_a_lora_is_opened(tmp_path: Path, lora: Path, operation: str) -> None:
    out = tmp_path / "out.safetensors"
    work: dict[str, Callable[[Any], object]] = {
        "inspect": lambda on_step: lora_core.inspect(lora, on_step=on_step),
        "convert": lambda on_step: lora_core.convert(lora, out, dialect="comfy", arch="flux", on_step=on_step),
        "resize": lambda on_step: lora_core.resize(lora, out, rank=1, on_step=on_step),
        "combine": lambda on_step: lora_core.combine([lora, lora], out, on_step=on_step),
    }
    before = sorted(tmp_path.iterdir())
    for number in (1, 2, 5, 90):
        assert asked_until(number, work[operation]) == number
        assert sorted(tmp_path.iterdir()) == before


@pytest.mark.attack(30)
def test_questions_grow_with_the_modules(lora: Path) -> None:
    """Each pass over the tensors or the modules asks: the header alone takes no step of progress."""
    assert asked_until(0, lambda on_step: lora_core.inspect(lora, on_step=on_step)) >= 3 * MODULES


def test_what_is_asked_keeps_the_progress_that_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "SECONDS", 0.0)
    told: list[tuple[int, int]] = []
    with asking.cancellable(lambda done, total: told.append((done, total))) as on_step:
        assert on_step is not None
        on_step(3, 7)
        assert list(asking.each(range(2))) == [0, 1]
        with asking.cancellable(None) as inner:
            assert inner is None
    assert told == [(3, 7)] * 3
    assert list(asking.each(range(2))) == [0, 1]
    assert len(told) == 3
