"""Searches for cyclic garbage are held off while many objects are made, and come back however that ends."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from lora_core.parallel.collector import collections_paused
from lora_core.reading.lorafile import LoraFile


@pytest.fixture(autouse=True)
def enabled() -> Iterator[None]:
    assert gc.isenabled()
    yield
    gc.enable()


def test_pauses_may_overlap_in_several_threads() -> None:
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with collections_paused():
            inside.set()
            leave.wait(60)

    thread = threading.Thread(target=other)
    with collections_paused():
        thread.start()
        assert inside.wait(60)
    assert not gc.isenabled()
    leave.set()
    thread.join()
    assert gc.isenabled()


def test_an_error_ends_a_pause() -> None:
    @collections_paused()
    def fail() -> None:
        with collections_paused():
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert gc.isenabled()


def test_who_has_none_gets_none() -> None:
    gc.disable()
    with collections_paused():
        pass
    assert not gc.isenabled()


def test_a_file_of_many_modules_begins_none(tmp_path: Path) -> None:
    row = torch.zeros(1, 1)
    modules = [f"lora_unet_x_{number}" for number in range(3000)]
    tensors = {f"{name}.lora_{part}.weight": row.clone() for name in modules for part in ("up", "down")}
    save_file(tensors, tmp_path / "a.safetensors")
    begun: list[int] = []

    def note(phase: str, info: dict[str, Any]) -> None:
        begun.extend([info["generation"]] * (phase == "start"))

    gc.callbacks.append(note)
    try:
        with LoraFile(tmp_path / "a.safetensors") as lora:
            assert len(lora.adapters) == len(modules)
    finally:
        gc.callbacks.remove(note)
    assert begun == []
