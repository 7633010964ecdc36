"""The host's texts of our nodes, settings and commands: complete in every language, and none that nothing shows."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from tests import locales

WEB = Path(__file__).resolve().parents[2] / "web"
LITERAL = re.compile(r"\{'.'\}")
ID = re.compile(r"""\bid: "(loracore\.[\w.-]+)\"""")


def test_english_is_what_the_options_declare() -> None:
    expected = locales.node_texts(lambda _, english: english)
    assert locales.read("en", "nodeDefs") == expected, "run python -m tests.locales"


@pytest.mark.parametrize("language", locales.LANGUAGES)
@pytest.mark.parametrize("file", locales.FILES)
def test_every_text_is_there(language: str, file: str) -> None:
    english, other = (locales.flat(locales.read(one, file)) for one in ("en", language))
    assert list(other) == list(english), "run python -m tests.locales"
    assert [place for place, text in other.items() if not text.strip()] == []


@pytest.mark.parametrize("language", ("en", *locales.LANGUAGES))
def test_signs_of_the_message_format_are_literals(language: str) -> None:
    for file in locales.FILES:
        for place, text in locales.flat(locales.read(language, file)).items():
            assert not re.search(r"[{}@|$]", LITERAL.sub("", text)), (file, place)


@pytest.mark.parametrize("language", locales.LANGUAGES)
def test_help_is_translated(language: str) -> None:
    english, other = (locales.flat(locales.read(one, "nodeDefs")) for one in ("en", language))
    assert [place for place, text in other.items() if place[-1] == "tooltip" and text == english[place]] == []


@pytest.mark.parametrize("language", locales.LANGUAGES)
def test_one_english_text_has_one_translation(language: str) -> None:
    english, other = (locales.flat(locales.read(one, "nodeDefs")) for one in ("en", language))
    pairs = {(english[place], text) for place, text in other.items()}
    assert [text for text, count in Counter(text for text, _ in pairs).items() if count > 1] == []


def test_every_setting_and_command_of_the_page_has_its_texts() -> None:
    ids = {found for path in WEB.rglob("*.js") for found in ID.findall(path.read_text(encoding="utf-8"))}
    named = {*locales.read("en", "settings"), *locales.read("en", "commands")}
    assert named == {one.replace(".", "_") for one in ids}


def test_a_translation_goes_with_its_english() -> None:
    old = {("a",): "One.", ("b",): "Two.", ("gone",): "Three."}
    known = {("a",): "Eins.", ("b",): "Zwei.", ("gone",): "Drei."}
    new = {("a",): "One.", ("b",): "Two, or more.", ("c",): "Three.", ("d",): "Four."}
    assert locales.translated(new, old, known) == {("a",): "Eins.", ("b",): "", ("c",): "Drei.", ("d",): ""}
    assert locales.translated(old, old, known) == known
