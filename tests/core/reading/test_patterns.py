"""Module patterns of strangers: matched as PEFT does, looked up where they are names, bounded in what they cost."""

from __future__ import annotations

import json
import re
import tracemalloc
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lora_core.errors import AdapterError
from lora_core.reading import patterns, patterntable
from lora_core.reading.lorafile import LoraFile
from lora_core.reading.patternparser import PatternError
from lora_core.reading.patterns import ModulePattern
from lora_core.reading.patterntable import MOST_STEPS, PatternCostError, PatternTable
from tests.core import samples

_BEGINS = st.sampled_from(["", "", "^", ".*", "^.*", r".*\."])
_PIECES = st.sampled_from(["a", "b", ".", r"\.", "a.b", "q", "-", "_", "é", r"\d", "[ab]", "(a|b)"])
_ENDS = st.sampled_from(["", "", "$", r"\$"])
_TEXTS = st.tuples(_BEGINS, st.lists(_PIECES, max_size=5).map("".join), _ENDS).map("".join)


def first_of_peft(texts: Sequence[str], name: str) -> str | None:
    """PEFT's own choice (peft.utils.get_pattern_key)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return next((text for text in texts if re.match(rf"(.*\.)?({text})$", name)), None)


@pytest.mark.attack(2)
@given(st.lists(_TEXTS, max_size=5, unique=True), st.lists(st.text("ab..q_-é0$", max_size=9), max_size=6))
def test_the_first_pattern_is_that_of_peft(texts: list[str], names: list[str]) -> None:
    table = PatternTable(texts, names)
    assert [table.first(name) for name in names] == [first_of_peft(texts, name) for name in names]


@given(
    st.lists(st.sampled_from(["a", "é", r"\w", r"\s", r"[^\d.]", "[a-c0-9]", "[]a]", "[^]a-]", "(a|^b)", "(b$|a)"])),
    st.text("ab. ]é٣_", max_size=6),
)
def test_classes_are_those_of_peft(pieces: list[str], name: str) -> None:
    text = "".join(pieces)
    assert ModulePattern(text).matches(name) == (first_of_peft([text], name) is not None)


@pytest.mark.parametrize("text", ["[b-a]", r"[\d-a]", r"[a-\d]", "^*", "$+", r"[\q]"])
def test_what_python_refuses_is_refused(text: str) -> None:
    with pytest.raises(re.error):
        re.compile(f"({text})$")
    with pytest.raises(PatternError):
        ModulePattern(text)


def test_a_name_with_a_line_end_is_nobodys() -> None:
    assert not ModulePattern("[^x]*").matches("a\nb")
    assert PatternTable(["b", ".*"], []).first("a\nb") is None


@pytest.mark.attack(2)
def test_ranges_cost_nothing() -> None:
    """532 bytes of ranges over all of Unicode took 2 GB and 11 seconds."""
    text = "[!-\U0010ffff]" * 12
    tracemalloc.start()
    try:
        pattern = ModulePattern(text)
        assert pattern.matches("x" * 12)
        assert not pattern.matches("x" * 11)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def names_of(count: int) -> list[str]:
    return [
        f"down_blocks.{at % 4}.attentions.{at // 4 % 8}.blocks.{at // 32}.attn{at % 2 + 1}.to_{'qkv'[at % 3]}"
        for at in range(count)
    ]


@pytest.mark.attack(2)
def test_a_pattern_for_each_module_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """As diffusers writes them. No automaton is made, and the steps of a name do not grow with the patterns."""
    monkeypatch.delattr(patterntable, "ModulePattern")
    steps: list[float] = []
    for count in (720, 7_200):
        names = names_of(count)
        table = PatternTable([f"^{name}" if at % 2 else name for at, name in enumerate(names)], names)
        assert all(first_of_peft([table.first(name) or "nothing"], name) for name in names[::97])
        steps.append(table.steps / count)
    assert steps[1] < 3 * steps[0]
    assert table.steps < MOST_STEPS // 10  # ten thousand modules are far from the bound


def test_patterns_are_read_once_for_all_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    class Counted(PatternTable):
        def __init__(self, texts: Any, *more: Any) -> None:
            made.append(len(texts))
            super().__init__(texts, *more)

    monkeypatch.setattr("lora_core.reading.loraconfig.PatternTable", Counted)
    names = names_of(90)
    with LoraFile(saved(tmp_path, names, dict.fromkeys(names, 4))) as file:
        assert {spec.scale.value for spec in file.adapters} == {2.0}
    assert [count for count in made if count] == [90]


def saved(folder: Path, names: list[str], alphas: dict[str, Any]) -> Path:
    """Save a LoRA as diffusers does, of rank 2, with these alphas in its header."""
    parts = {"lora_A.weight": (2, 3), "lora_B.weight": (3, 2)}
    tensors = {f"unet.{name}.{part}": torch.ones(shape) for name in names for part, shape in parts.items()}
    config = {"unet.r": 2, "unet.lora_alpha": 2, "unet.alpha_pattern": alphas, "unet.peft_type": "LORA"}
    path = folder / "a.safetensors"
    samples.save(path, tensors, {"lora_adapter_metadata": json.dumps(config)})
    return path


HOSTILE: dict[str, dict[str, Any]] = {
    "expressions": {f"x[a-{chr(98 + at % 20)}]*{at}": 1 for at in range(10_000)},
    "alternatives": {"(" + "|".join(["a?"] * 300) + f")*{at}": 1 for at in range(40)},
    "refused": {"(?=a)" + "a" * 900 + str(at): 1 for at in range(100)},
    "masks": {"".join("." if at >> bit & 1 else "a" for bit in range(14)) + "a" * 40: 1 for at in range(16_000)},
    "ends": {".*" + "a" * (at % 500) + "." * (at // 500) + "b": 1 for at in range(8_000)},
}


@pytest.mark.attack(2)
@pytest.mark.parametrize("case", HOSTILE)
def test_what_costs_too_much_is_refused_before_it_is_done(
    tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(patterns.ModulePattern, "matches")  # nothing is matched
    names = ["a." * 10 + "a" * 54 + "." + "a" * 400 + str(at) for at in range(100)]
    names += ["a" * (54 + at) + "." + "a" * 54 for at in range(300)]
    with pytest.raises(AdapterError, match=r"a\.safetensors: alpha_pattern: .*no honest file needs so many") as error:
        LoraFile(saved(tmp_path, names, HOSTILE[case]))
    assert len(str(error.value)) < 400


def test_the_bound_counts_all_places_of_a_file() -> None:
    names = names_of(100)
    table = PatternTable(["[a-z]*x"], names)
    assert PatternTable(["[a-z]*x"], names, table.steps).steps == table.steps
    with pytest.raises(PatternCostError):
        PatternTable(["[a-z]*x"], names, table.steps - 1)


@pytest.mark.attack(2)
def test_many_patterns_that_count_for_nothing_are_few_lines(tmp_path: Path) -> None:
    bad = {f"(?=a){at}": 1 for at in range(500)}
    with LoraFile(saved(tmp_path, ["a"], bad)) as file:
        assert len(file.warnings) == 6
        assert file.warnings[-1] == "a.safetensors: 495 more patterns of alpha_pattern count for no module."


@pytest.mark.attack(2)
def test_many_sections_and_names_are_looked_up(tmp_path: Path) -> None:
    """Components that the file does not have, and names of layers: each was compared with each module."""
    compared = 0

    class Name(str):
        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return super().__eq__(other)

        __hash__ = str.__hash__

    names = names_of(200)
    path = saved(tmp_path, names, {})
    with LoraFile(path) as file:
        configs = file.configs()
        (section,) = configs.sections
        object.__setattr__(section, "values", {"feedforward_modules": [Name(f"x{at}") for at in range(5_000)]})
        assert [configs.is_feedforward(f"unet.{name}") for name in names] == [False] * 200
    assert compared < 20_000  # of a million
