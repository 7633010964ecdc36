"""`<lora:…>` text as rows. Programs read the numbers differently, so the reader has to be told whose text it is.

lora-manager: name:model[:clip], clip as model when left out; also rgthree's name:strength.
prompt-control: the same, with schedules around it and block weights after it, which a row cannot hold.
easy-use: name:model:clip, each 1 when left out; the first of two equal names counts; LBW=… is not kept.
a1111: name:encoder[:model] - the text encoder comes first - or te= and unet=; other name=value parts are not kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from ...errors import OptionError
from ...options.importing import TEXT_DIALECT, TextDialect
from ...stack.rows import ROWS_VERSION
from ...text import visible, visible_json
from .model import RowValue, row
from .names import Names

_TAG = re.compile(r"<lora:([^<>]*)>", re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_MAX_TEXT = 1_000_000


@dataclass(slots=True)
class TextRows:
    """The rows of a text, and what the user should know."""

    rows: list[RowValue] = field(default_factory=list[RowValue])
    notes: list[str] = field(default_factory=list[str])

    def to_dict(self) -> dict[str, Any]:
        """Return the value of Stack LoRAs' `rows`."""
        return {"v": ROWS_VERSION, "rows": self.rows}

    def text(self) -> str:
        return visible_json(self.to_dict())


@dataclass(frozen=True, slots=True)
class _Tag:
    """One tag: its name, the strengths it sets (None: left out), and the parts that nothing of ours keeps."""

    name: str
    model: str | None
    clip: str | None
    lost: tuple[str, ...] = ()


def rows_of_text(text: str, dialect: TextDialect = "lora-manager", *, names: Iterable[str] | None = None) -> TextRows:
    """Return the rows of every `<lora:…>` in `text`, in order; `names` are the files that are there, to complete names.

    Raises OptionError for an unknown dialect or a strength that is no number.
    """
    TEXT_DIALECT.check(dialect)
    if len(text) > _MAX_TEXT:
        raise OptionError(f"text: {len(text)} characters; expected at most {_MAX_TEXT}.")
    result, seen, files = TextRows(), set[str](), Names(names)
    for match in _TAG.finditer(text):
        tag, whole = _READERS[dialect](match[1].split(":")), match[0]
        if not tag.name:
            raise OptionError(f"{whole}: has no name.")
        if dialect == "easy-use" and tag.name in seen:
            result.notes.append(f"{whole}: left out, for Easy-Use reads the first tag of a name only.")
            continue
        seen.add(tag.name)
        result.rows.append(row(tag.name, tag.model or 1.0, tag.clip, on=True, where=whole))
        result.rows[-1]["name"], note = files.completed(result.rows[-1]["name"])
        result.notes += [f"{whole}: {note}"] if note else []
        result.notes += [f"{whole}: {part} is not kept." for part in tag.lost]
        if dialect == "prompt-control" and _is_scheduled(text[: match.start()]):
            result.notes.append(f"{whole}: stands in a schedule; the row counts for all steps.")
    result.notes = [visible(note) for note in result.notes]
    return result


def _model_then_clip(parts: list[str]) -> _Tag:
    name, *rest = (part.strip() for part in parts)
    model, clip = ([part or None for part in rest[:2]] + [None, None])[:2]
    return _Tag(name, model, clip, tuple(part for part in rest[2:] if part))


def _prompt_control(parts: list[str]) -> _Tag:
    name, *rest = (part.strip() for part in parts)
    numbers = [part for part in rest[:2] if _NUMBER.fullmatch(part)]
    model, clip = (*numbers, None, None)[:2]
    return _Tag(name, model, clip, tuple(rest[len(numbers) :]))


def _easy_use(parts: list[str]) -> _Tag:
    name, *rest = (part.strip() for part in parts)
    numbers = [part for part in rest if _NUMBER.fullmatch(part)]
    model, clip = (*numbers, "1", "1")[:2] if numbers else ("1", "1")
    return _Tag(name, model, clip, tuple(part for part in rest if part and part not in numbers))


def _a1111(parts: list[str]) -> _Tag:
    name, *rest = (part.strip() for part in parts)
    named = dict(part.split("=", 1) for part in rest if "=" in part)
    plain = [part for part in rest if "=" not in part]
    encoder = named.pop("te", plain[0] if plain else "1")
    model = named.pop("unet", plain[1] if len(plain) > 1 else encoder)
    lost = (*plain[2:], *(f"{key}={value}" for key, value in named.items()))
    return _Tag(name, model, encoder, lost)


_READERS: dict[TextDialect, Callable[[list[str]], _Tag]] = {
    "lora-manager": _model_then_clip,
    "prompt-control": _prompt_control,
    "easy-use": _easy_use,
    "a1111": _a1111,
}


def _is_scheduled(before: str) -> bool:
    """Return whether a bracket is open: Prompt Control's schedules are [a:b:0.5]."""
    plain = re.sub(r"\\.", "", before)
    return plain.count("[") > plain.count("]")
