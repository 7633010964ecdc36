"""Trigger words: what the files beside a LoRA and its own metadata say that a prompt should hold."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

from ..files.adapterfolder import adapter_file, open_adapter
from ..reading.lorafile import LoraFile
from ..shortage import tells_shortages
from ..stack.entry import StackEntry
from ..stack.rows import each_file
from ..text import json_list, json_object
from .sidecars import MOST_WORDS, Sidecar, read_sidecars, split_words, word_of

MOST_TAGS = 100
_KEYS = ("modelspec.trigger_phrase", "trained_words", "ss_trigger_words")
_INSTEAD = 10  # tags that stand in for words where nothing names any


@dataclass(frozen=True, slots=True)
class TriggerWord:
    """A word, who names it, and how often it was in the training data, if that is told."""

    word: str
    source: str
    count: int | None = None


@tells_shortages
def trigger_words(path: str | os.PathLike[str]) -> list[str]:
    """Return the trigger words of a LoRA file or folder, of its metadata and the files beside it; none if none does."""
    file = adapter_file(Path(path))
    with open_adapter(file) as opened:
        return [one.word for one in known_words(read_sidecars(file)[0], opened.metadata)]


def words_of_stack(entries: Iterable[StackEntry]) -> str:
    """Return the trigger words of all files of located entries, each once, joined with commas."""
    files = dict.fromkeys(entry.path for entry in each_file(entries) if entry.path)
    return ", ".join(dict.fromkeys(word for path in files for word in trigger_words(path)))


def words_of(lora: LoraFile) -> list[str]:
    """Return the trigger words of an open LoRA; beside one in memory lies nothing."""
    sidecars = read_sidecars(lora.path)[0] if lora.file.paths else []
    return [one.word for one in known_words(sidecars, lora.metadata)]


def known_words(sidecars: Iterable[Sidecar], metadata: Mapping[str, str]) -> list[TriggerWord]:
    """Return the words that are named as such, each once: of the files beside the LoRA first."""
    named = [TriggerWord(word, one.source, count) for one in sidecars for word, count in one.words]
    named += [TriggerWord(word, key) for key in _KEYS for word in _listed(metadata.get(key, ""))]
    return _each_once(named)


def shown_words(
    sidecars: Iterable[Sidecar], metadata: Mapping[str, str], tags: Sequence[tuple[str, int]]
) -> list[TriggerWord]:
    """Return the same, or the first of `tags` where no word is named."""
    instead = [TriggerWord(tag, "ss_tag_frequency", count) for tag, count in tags[:_INSTEAD]]
    return known_words(sidecars, metadata) or instead


def words_in(metadata: Mapping[str, str]) -> list[str]:
    """Return the trigger words in a LoRA's metadata."""
    return [one.word for one in known_words((), metadata)]


def tags_in(metadata: Mapping[str, str]) -> list[tuple[str, int]]:
    """Return the tags of the training data with their counts, the most frequent first."""
    counts: dict[str, int] = {}
    for tags in json_object(metadata.get("ss_tag_frequency", "")).values():
        for tag, count in tags.items() if isinstance(tags, dict) else ():
            if type(count) is int and 0 < count < 2**53:
                counts[tag] = counts.get(tag, 0) + count
    most = sorted(counts.items(), key=itemgetter(1), reverse=True)[:MOST_TAGS]
    return [(word, count) for word, count in ((word_of(tag), count) for tag, count in most) if word]


def _listed(text: str) -> list[str]:
    listed = json_list(text.strip())
    texts = listed[:MOST_WORDS] if listed is not None else [text]
    return [word for item in texts for word in split_words(item)]


def _each_once(words: Iterable[TriggerWord]) -> list[TriggerWord]:
    found: dict[str, TriggerWord] = {}
    for one in words:
        found.setdefault(one.word.casefold(), one)
    return list(found.values())[:MOST_WORDS]
