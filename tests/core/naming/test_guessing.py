"""What a LoRA's names and shapes are taken for, and how much work a guess may be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lora_core.arch.base import Rename, Shape
from lora_core.naming import guessing
from lora_core.naming.guessing import guess_arches
from lora_core.naming.numbersets import number_set, stands_for
from lora_core.naming.outlines import read_outline
from lora_core.naming.places import Place
from lora_core.naming.renames import Renames
from lora_core.reading.lorafile import LoraFile
from tests.core.naming.test_trainers import write_lora

# A file, what it is for, and at most how many modules get their names for that: the outlines have 2,000 to 15,000
WORK = (
    ("kohya_lora-sdxl", ["sdxl"], 600),
    ("lycoris_locon-sd15", ["sd15"], 1200),
    ("aitoolkit_lora-flux1_dev", ["flux1"], 300),
    ("aitoolkit_or_comfy_lora-wan21_t2v_14b", ["wan21"], 400),
)


@pytest.mark.parametrize(("name", "arches", "most"), WORK, ids=[name for name, *_ in WORK])
def test_a_first_guess_expands_no_outline_and_makes_few_names(
    name: str, arches: list[str], most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named: list[str] = []
    names = Renames.names

    def counted(self: Renames, module: str, shape: Shape) -> Iterator[tuple[str, Place, bool]]:
        named.append(module)
        return names(self, module, shape)

    monkeypatch.setattr(Renames, "names", counted)
    guessing._known.cache_clear()  # pyright: ignore[reportPrivateUsage]
    read_outline.cache_clear()
    with LoraFile(write_lora(tmp_path / "lora.safetensors", name)) as lora:
        assert [arch.id for arch in lora.arches] == arches
    assert read_outline.cache_info().misses == 0
    assert 0 < len(named) <= most


@pytest.mark.parametrize("name", ["blocks_{1-2}_attn", "blocks_{x}_attn", f"blocks_{'1' * 5000}_attn", "a_\ud800"])
def test_names_that_only_look_like_numbers_fit_nothing(name: str) -> None:
    assert guess_arches([(name, (8, 8))]) == []


@pytest.mark.parametrize(
    ("token", "numbers"),
    [("7", {"7"}), ("{0-2}", {"0", "1", "2"}), ("{1-2,4}", {"1", "2", "4"}), ("{x}", set()), ("{0-99999999}", set())],
)
def test_sets_of_numbers(token: str, numbers: set[str]) -> None:
    assert number_set(token) == numbers
    assert {number for number in map(str, range(10)) if stands_for(token, number)} == numbers


def test_a_row_of_one_number_names_that_one_of_many() -> None:
    engine = Renames([Rename("in.4.{rest}", "down.1.{rest}"), Rename("down.{i}.norm", "level.{i}.norm")])
    names = {name: place.module for name, place, _ in engine.names("in.{3-5}.norm", ())}
    assert names == dict.fromkeys(["in.{3-5}.norm", "down.1.norm", "level.1.norm"], "in.{3-5}.norm")
    assert [name for name, *_ in engine.names("in.{5-9}.norm", ())] == ["in.{5-9}.norm"]
