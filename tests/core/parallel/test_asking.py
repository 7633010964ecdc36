"""Long work asks whether anybody still waits for it: per thread, and often enough where files are read."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lora_core.files.hashes import Hashes
from lora_core.library.info import info
from lora_core.library.listing import Listing
from lora_core.library.precheck import Precheck
from lora_core.naming.detection import detect
from lora_core.naming.keymap import KeyMap
from lora_core.parallel.asking import TookTooLongError, ask, asking, within
from lora_core.reading.lorafile import LoraFile
from lora_core.stack.matching import match_lora
from tests import tiny

MODULES = 300


class NobodyWaitsError(Exception):
    pass


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    named = {f"lora_unet_double_blocks_{number}_img_attn_proj": (4, 4) for number in range(MODULES)}
    return tiny.make_lora(tmp_path / "many.safetensors", named, 1)


def matched(path: Path) -> Any:
    shapes = {key: shape for key, (_, shape) in tiny.tiny("flux").items()}
    with LoraFile(path) as opened:
        return match_lora(opened, KeyMap((shapes, detect(shapes))))


def loaded(path: Path) -> None:
    with LoraFile(path) as opened:
        opened.load()


WORK: list[Callable[[Path], Any]] = [
    LoraFile,
    loaded,
    matched,
    lambda path: info(path, path.name, [path.name], Hashes()),
    lambda path: Precheck().check(
        None, [{"name": path.name}] * MODULES, Listing([path.name], path.parent.joinpath, "")
    ),
]


@pytest.mark.attack(30)
@pytest.mark.parametrize("work", WORK, ids=["open", "load", "match", "info", "check"])
def test_work_asks_for_every_module_and_stops_when_told(lora: Path, work: Callable[[Path], Any]) -> None:
    count = 0

    def question() -> None:
        nonlocal count
        count += 1

    with asking(question):
        work(lora)
    assert count >= MODULES
    asked, count = count, 0

    def leave() -> None:
        nonlocal count
        count += 1
        if count >= asked // 2:
            raise NobodyWaitsError

    with asking(leave), pytest.raises(NobodyWaitsError):
        work(lora)
    assert count == asked // 2  # nothing went on after it


def test_questions_are_of_one_thread_and_within_each_other() -> None:
    heard: list[str] = []
    with asking(lambda: heard.append("outer")):
        with asking(lambda: heard.append("inner")):
            ask()
            other = threading.Thread(target=ask)
            other.start()
            other.join()
        ask()
    ask()
    assert heard == ["outer", "inner", "outer"]


def test_time_that_is_over() -> None:
    with within(3600):
        ask()
    with within(-1), pytest.raises(TookTooLongError):
        ask()


@pytest.mark.attack(2)
def test_a_slow_file_does_not_keep_the_others_of_a_check(
    lora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import lora_core.library.precheck as module

    good = tiny.make_lora(tmp_path / "good.safetensors", {"lora_unet_double_blocks_0_img_attn_proj": (4, 4)}, 1)
    opened: list[str] = []

    def slow(path: Path) -> LoraFile:
        opened.append(path.name)
        with within(-1.0 if path == lora else 10.0):
            return LoraFile(path)

    monkeypatch.setattr(module, "LoraFile", slow)
    precheck, listing = Precheck(), Listing([lora.name, good.name], tmp_path.joinpath, "the loras folder")
    for _ in range(2):
        first, second = precheck.check(None, [{"name": lora.name}, {"name": good.name}], listing)["rows"]
        assert (first["state"], first["reason"]) == (
            "unknown",
            "many.safetensors: not looked at: reading it takes longer than 10 seconds.",
        )
        assert (second["state"], second["summary"].split(" ")[0]) == ("unknown", "1")
    assert opened == [lora.name, good.name]  # the slow one is not tried again at once
