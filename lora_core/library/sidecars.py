"""What other tools write beside a LoRA file: words, titles, notes. Read only, bounded, and never trusted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..files.openfile import read_bounded
from ..text import CUT, LONGEST, parse_json, plain, plain_line, without_markup
from .folders import beside

LARGEST = 8 * 2**20  # bytes of one file
LARGEST_TEXT = 64 * 2**10  # bytes of a .txt: a list of words is short
MOST_WORDS = 200
LONGEST_WORD = 300  # characters
_SHA256 = re.compile(r"(?i)\b[0-9a-f]{64}\b")

LORA_MANAGER, CIVITAI, RGTHREE, A1111 = "LoRA Manager", "civitai.info", "rgthree", "json"
TEXT, SHA256 = "txt", "sha256"

Word = tuple[str, int | None]  # the word, and how often it was in the training data, if that is told


@dataclass(slots=True)
class Sidecar:
    """What one file beside a LoRA says; empty texts for what it doesn't."""

    source: str
    words: list[Word] = field(default_factory=list[Word])
    title: str = ""
    base: str = ""
    author: str = ""
    license: str = ""
    description: str = ""
    notes: str = ""
    url: str = ""  # where the file can be downloaded; https only
    sha256: str = ""  # of the whole file


def read_sidecars(path: Path) -> tuple[list[Sidecar], list[str]]:
    """Return what lies beside a LoRA, the most telling first, and notes on files that could not be used."""
    found: list[Sidecar] = []
    notes: list[str] = []
    for source, suffix, whole_name in _FILES:
        for file in beside(path, (suffix,), whole_name=whole_name):
            sidecar = _read(source, file)
            if isinstance(sidecar, str):
                notes.append(f"{plain_line(file.name)}: {sidecar}; it is ignored.")
            else:
                found.append(sidecar)
    return found, notes


def _read(source: str, file: Path) -> Sidecar | str:
    """Return what the file says, or why it can't be used."""
    data = read_bounded(file, LARGEST_TEXT if source in (TEXT, SHA256) else LARGEST)
    if data is None:
        return "is too large or can't be read"
    if source == SHA256:
        digest = _SHA256.search(data.decode("utf-8", "replace"))
        return Sidecar(source, sha256=digest[0].lower()) if digest else "holds no hash"
    if source == TEXT:
        return Sidecar(source, words=_words(data.decode("utf-8-sig", "replace")))
    try:
        value: Any = parse_json(data.decode("utf-8-sig"))
    except ValueError:
        return "is not valid JSON"
    return _READERS[source](source, value) if isinstance(value, dict) else "holds no JSON object"


def _civitai(source: str, data: Mapping[str, Any]) -> Sidecar:
    """Read the answer of civitai's API on a version of a model."""
    model, creator = _object(data, "model"), _object(data, "creator")
    names = [plain_line(one) for one in (model.get("name"), data.get("name"))]
    return Sidecar(
        source,
        words=_words(data.get("trainedWords")),
        title=" · ".join(name for name in names if name),
        base=plain_line(data.get("baseModel")),
        author=plain_line(creator.get("username") or _object(model, "creator").get("username")),
        description=without_markup(data.get("description") or model.get("description")),
        url=_https(data.get("downloadUrl")),
    )


def _lora_manager(source: str, data: Mapping[str, Any]) -> Sidecar:
    found = _civitai(source, _object(data, "civitai"))
    found.words += [word for word in _words(data.get("trainedWords")) if word not in found.words]
    found.title = plain_line(data.get("model_name")) or found.title
    found.base = plain_line(data.get("base_model")) or found.base
    found.description = found.description or without_markup(data.get("modelDescription"))
    found.notes, found.sha256 = plain(data.get("notes")), _digest(data.get("sha256"))
    return found


def _rgthree(source: str, data: Mapping[str, Any]) -> Sidecar:
    title, base = plain_line(data.get("name")), plain_line(data.get("baseModel"))
    words = _words(data.get("trainedWords"))
    return Sidecar(source, words, title, base, notes=plain(data.get("userNote")), sha256=_digest(data.get("sha256")))


def _a1111(source: str, data: Mapping[str, Any]) -> Sidecar:
    description, notes = without_markup(data.get("description")), plain(data.get("notes"))
    base = plain_line(data.get("sd version"))
    return Sidecar(source, _words(data.get("activation text")), base=base, description=description, notes=notes)


_READERS = {LORA_MANAGER: _lora_manager, CIVITAI: _civitai, RGTHREE: _rgthree, A1111: _a1111}
_FILES = (  # source, suffix, whether it follows the whole name
    (LORA_MANAGER, ".metadata.json", False),
    (CIVITAI, ".civitai.info", False),
    (RGTHREE, ".rgthree-info.json", True),
    (A1111, ".json", False),
    (TEXT, ".txt", False),
    (SHA256, ".sha256", False),
)


def _words(value: Any) -> list[Word]:
    """Return the words of a text with commas or lines, of a list of such texts, or of a list of objects with a word."""
    items: list[Any] = value[:MOST_WORDS] if isinstance(value, list) else [value]
    words: dict[str, int | None] = {}
    for item in items:
        text, count = (item.get("word"), item.get("count")) if isinstance(item, dict) else (item, None)
        for word in split_words(text):
            words.setdefault(word, count if type(count) is int and 0 <= count < 2**53 else None)
    return list(words.items())[:MOST_WORDS]


def split_words(text: Any) -> list[str]:
    """Return the words in a text, separated by commas or line ends; one that is cut is none, for a prompt takes it."""
    words = re.split(r"[,\n]", plain(text))
    if isinstance(text, str) and len(text) > LONGEST:
        words.pop()
    return [word for word in map(word_of, words) if word]


def word_of(text: str) -> str:
    """Return a word as it may stand in a prompt; an empty text for one that is too long, or was cut by somebody."""
    word = text.strip()
    return "" if len(word) > LONGEST_WORD or word.endswith(CUT.strip()) else plain_line(word)


def _object(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = data.get(key)
    return value if isinstance(value, dict) else {}


def _digest(value: Any) -> str:
    return value.lower() if isinstance(value, str) and _SHA256.fullmatch(value) else ""


def _https(value: Any) -> str:
    text = value if isinstance(value, str) and len(value) <= 2_000 else ""
    return text if re.fullmatch(r"https://[!-~]+", text) else ""
