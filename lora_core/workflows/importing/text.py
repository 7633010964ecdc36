"""`<lora:…>` text as rows. Programs read the numbers differently, so the reader has to be told whose text it is.

lora-manager: name:model[:clip], clip as model when left out; also rgthree's name:strength.
prompt-control: the same, with schedules around it and block weights after it, which a row cannot hold.
easy-use: name:model:clip, each 1 when left out; the first of two equal names counts; LBW=… is not kept.
a1111: name:encoder[:model] - the text encoder comes first - or te= and unet=; other name=value parts are not kept.
    <lyco:…> is the same.

Of a choice, such as {<lora:a>|<lora:b>}, one branch alone counts: the first is on, and the rows of the others are off.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from ...errors import OptionError
from ...options.importing import TEXT_DIALECT, TextDialect
from ...shortage import tells_shortages
from ...stack.rows import ROWS_VERSION
from ...text import NAMES_SHOWN, message_line, shortened, visible_json
from .alternatives import FoundTag, comments, tags_of, variants
from .model import RowValue, row
from .names import Names

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_WILDCARD = re.compile(r"__.+__")
MAX_TEXT = 1_000_000


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


@tells_shortages
def rows_of_text(text: str, dialect: TextDialect = "lora-manager", *, names: Iterable[str] | None = None) -> TextRows:
    """Return the rows of every `<lora:…>` in `text`, in order; `names` are the files that are there, to complete names.

    Raises OptionError for an unknown dialect or a strength that is no number.
    """
    TEXT_DIALECT.check(dialect)
    if len(text) > MAX_TEXT:
        raise OptionError(f"text: {len(text)} characters; expected at most {MAX_TEXT}.")
    maker = _RowMaker(dialect, Names(names))
    found, wildcards = tags_of(text)
    hidden = [] if dialect == "lora-manager" else comments(text, hashes=dialect == "a1111")[::-1]
    for tag in found:
        while hidden and hidden[-1][1] <= tag.match.start():
            hidden.pop()
        if hidden and hidden[-1][0] <= tag.match.start():
            maker.result.notes.append(f"{tag.match[0]}: stands in a comment; left out.")
        else:
            maker.read(tag)
    maker.result.notes += [f"{name}: a wildcard; what it stands for is not read." for name in wildcards]
    maker.result.notes = [message_line(note) for note in maker.result.notes]
    return maker.result


class _RowMaker:
    """Makes rows of tags, one after the other."""

    def __init__(self, dialect: TextDialect, files: Names) -> None:
        self._dialect: TextDialect = dialect
        self._files = files
        self._seen: set[str] = set()
        self.result = TextRows()

    def read(self, found: FoundTag) -> None:
        whole = found.match[0]
        kind, content = whole[1:-1].split(":", 1)
        if kind.lower() == "lyco" and self._dialect != "a1111":
            self._tell(whole, "left out: <lyco:...> is A1111's; read it as a1111's text.")
            return
        is_on = self._is_chosen(found, whole)
        options = variants(content)
        if len(options) > 1:
            self._tell(whole, f"one of {len(options)} choices is meant; the first one's row is on.")
        for number, option in enumerate(options):
            self._row(whole, option, on=is_on and number == 0)

    def _is_chosen(self, found: FoundTag, whole: str) -> bool:
        """Return whether the row is on, and tell what stands around it that a row can't say."""
        kinds, is_on = found.kinds(), found.is_chosen("choice")
        if "choice" in kinds:
            self._tell(whole, f"one of several choices; its row is {'on' if is_on else 'off'}.")
        if "steps" in kinds and self._dialect != "prompt-control":
            self._tell(whole, "stands in a schedule or alternation, which is for words; the row counts for all steps.")
        elif "steps" in kinds and found.is_chosen("steps"):
            self._tell(whole, "stands in a schedule; the row counts for all steps.")
        elif "steps" in kinds:
            self._tell(whole, "stands in a schedule or alternation after another; its row is off.")
            return False
        return is_on

    def _row(self, whole: str, content: str, *, on: bool) -> None:
        tag = _READERS[self._dialect](content.split(":"))
        if not tag.name:
            raise OptionError(f"{whole}: has no name.")
        if _WILDCARD.fullmatch(tag.name):
            self._tell(whole, "left out: its name is a wildcard.")
            return
        if self._dialect == "easy-use" and tag.name in self._seen:
            self._tell(whole, "left out, for Easy-Use reads the first tag of a name only.")
            return
        self._seen.add(tag.name)
        made = row(tag.name, tag.model or 1.0, tag.clip, on=on, where=whole)
        made["name"], note = self._files.completed(made["name"])
        self.result.rows.append(made)
        for text in ([note] if note else []) + _told_lost(tag.lost):
            self._tell(whole, text)

    def _tell(self, whole: str, text: str) -> None:
        self.result.notes.append(f"{shortened(whole)}: {text}")


def _told_lost(lost: tuple[str, ...]) -> list[str]:
    rest = len(lost) - NAMES_SHOWN
    told = [f"{part} is not kept." for part in lost[:NAMES_SHOWN]]
    return [*told, f"{rest} more parts are not kept."] if rest > 0 else told


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
    return _Tag(name, model, clip, tuple(part for part in rest if part and not _NUMBER.fullmatch(part)))


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
