"""A word that was cut to be shown is no word: it would go into prompts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lora_core.library.sidecars import LONGEST_WORD
from lora_core.library.words import known_words, shown_words, tags_in, trigger_words
from lora_core.text import CUT, LONGEST
from tests import tiny
from tests.core.samples import save

LONG = "x" * (LONGEST_WORD + 1)
MANY = ", ".join(["word"] * LONGEST)
TEXTS = {
    "one long word": LONG,
    "among others": f"ink, {LONG}, brush",
    "a text that is cut inside of a word": MANY[: LONGEST - 2] + "y" * 100,
    "cut by another program": f"ink{CUT}, brush",
    "a long line": f"ink\n{LONG}",
}


@pytest.mark.attack(20)
@pytest.mark.parametrize("case", TEXTS)
@pytest.mark.parametrize("source", ["modelspec.trigger_phrase", "trained_words", ".txt", ".civitai.info"])
def test_no_word_is_cut(case: str, source: str, tmp_path: Path) -> None:
    text = TEXTS[case]
    metadata = {source: json.dumps([text]) if source == "trained_words" else text} if "." not in source[:1] else {}
    tensors = {"lora_unet_x.lora_up.weight": tiny.random_normal("up", (4, 1), 0)}
    tensors["lora_unet_x.lora_down.weight"] = tiny.random_normal("down", (1, 4), 0)
    path = save(tmp_path / "a.safetensors", tensors, metadata)
    if source == ".txt":
        (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    if source == ".civitai.info":
        (tmp_path / "a.civitai.info").write_text(json.dumps({"trainedWords": [text]}), encoding="utf-8")
    words = trigger_words(path)
    assert not any("(cut)" in word or "\u2026" in word or len(word) > LONGEST_WORD for word in words)
    assert set(words) <= {"ink", "brush", "word"}


@pytest.mark.attack(20)
def test_no_tag_is_cut_where_tags_stand_for_words() -> None:
    metadata = {"ss_tag_frequency": json.dumps({"set": {LONG: 9, "ink": 3}})}
    tags = tags_in(metadata)
    assert tags == [("ink", 3)]
    assert [one.word for one in shown_words((), metadata, tags)] == ["ink"]
    assert known_words((), {"modelspec.trigger_phrase": "x" * LONGEST_WORD})[0].word == "x" * LONGEST_WORD
