"""What fuzzers start from and what they found holds; the fuzzers themselves are `make fuzz`."""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError

from lora_core import errors
from lora_core.adapters import GLoRA
from lora_core.files import names, tensorheader
from lora_core.stack.matching import LoraMatch
from tests.fuzz import CORPUS, TARGETS
from tests.fuzz.choices import Choices
from tests.fuzz.figures import read_figures

EXAMPLES = 40  # changed inputs of each target
LARGEST_CORPUS = 300_000  # bytes


def _target(name: str) -> ModuleType:
    return importlib.import_module(f"tests.fuzz.{name}")


def _inputs(target: str) -> dict[str, bytes]:
    """Seeds and kept inputs by name."""
    kept = {path.name: path.read_bytes() for path in sorted((CORPUS / target).glob("*"))}
    return {**_target(target).seeds(), **kept}


@pytest.mark.case(43)
@pytest.mark.parametrize("target", TARGETS)
def test_every_input_of_the_corpus_keeps_the_promise(target: str) -> None:
    module, failed = _target(target), list[str]()
    for name, data in _inputs(target).items():
        try:
            module.check(data)
        except Exception as error:  # noqa: BLE001 - all inputs are tried, and each that fails is named
            failed.append(f"{name}: {type(error).__name__}: {error}")
    assert failed == []


@pytest.mark.case(43)
@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=EXAMPLES, derandomize=True)
@given(seed=st.integers(0, 2**32), edits=st.lists(st.binary(max_size=6), max_size=6))
def test_changed_inputs_keep_it_too(target: str, seed: int, edits: list[bytes]) -> None:
    chance = random.Random(seed)
    data = bytearray(chance.choice(list(_known(target))))
    for edit in edits:
        start = chance.randrange(len(data) + 1)
        data[start : start + chance.randrange(4)] = edit
    _target(target).check(bytes(data))


def _known(target: str, known: dict[str, tuple[bytes, ...]] = {}) -> tuple[bytes, ...]:  # noqa: B006 - a cache
    return known.setdefault(target, tuple(_inputs(target).values()))


def _no_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorheader, "_check_layout", lambda *_: None)


def _no_rules_for_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "is_plain", lambda part: True)


def _nothing_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors, "message_line", lambda text: text)


def _any_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GLoRA, "fits", classmethod(lambda cls, *_, **__: True))


def _all_placed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = _target("keys")
    whole = keys.match_lora

    def twice(*arguments: Any) -> LoraMatch:
        match = whole(*arguments)
        match.places.extend(match.places[:])
        return match

    monkeypatch.setattr(keys, "match_lora", twice)


BREAKS: dict[str, tuple[str, Callable[[pytest.MonkeyPatch], None]]] = {
    "a hole or an overlap is not noticed": ("header", _no_layout),
    "a name leads out of the folder": ("names", _no_rules_for_names),
    "an escape sequence is printed as it is": ("rows", _nothing_escaped),
    "an adapter is applied to what it does not fit": ("adapters", _any_weight),
    "a module is placed twice": ("keys", _all_placed_twice),
}


@pytest.mark.case(43)
@pytest.mark.parametrize("broken", BREAKS)
def test_the_corpus_notices_broken_code(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the tests above show nothing."""
    target, breaks = BREAKS[broken]
    breaks(monkeypatch)
    with pytest.raises((AssertionError, RuntimeError, ValueError, SafetensorError)):
        for data in _inputs(target).values():
            _target(target).check(data)


def test_the_corpus_stays_small() -> None:
    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) < LARGEST_CORPUS
    assert {path.name for path in CORPUS.iterdir()} <= set(TARGETS)


def test_choices_end_in_zeros() -> None:
    choices = Choices(b"\x05\x01")
    assert [choices.number(4), choices.yes(), choices.number(10), choices.text(), choices.rest()] == [
        1,
        True,
        0,
        "",
        b"",
    ]


def test_figures_are_read_from_a_log() -> None:
    log = "#12\tNEW    cov: 40 ft: 51 corp: 3/9b\n#90\tDONE   cov: 44 ft: 60\nDone 90 runs in 7 second(s)\n"
    figures = read_figures(log)
    assert (figures.executions, figures.seconds, figures.covered) == (90, 7, 44)
    assert read_figures("#12\tNEW    cov: 40\n").executions == 12
    assert read_figures("").executions == 0
