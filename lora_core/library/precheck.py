"""What Load LoRA would say of a stack on a model file, before anything is loaded: from the headers alone."""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ..errors import AmbiguousFileError, LoraError, NoSuchFileError, NotHashedError, OptionError
from ..files.openfile import mark_of
from ..naming.detection import FoundArch, describe
from ..naming.keymap import KeyMap
from ..parallel.asking import TookTooLongError, ask, within
from ..reading.checkpoint import Checkpoint
from ..reading.lorafile import LoraFile
from ..report import LoraReport, state_of, summary_of
from ..stack.blockstrengths import factors_on
from ..stack.blockterms import parse_blocks
from ..stack.entry import StackEntry
from ..stack.matching import describe_lora, match_lora
from ..stack.refusals import judge, refuse_foreign
from ..stack.rows import parse_rows
from ..text import counted, plain, plain_line, some_names, without_path
from .listing import Listing

MODELS, FITS = 4, 50_000  # that are remembered
SECONDS = 10.0  # that one file may take, so that the others have their turn
SECONDS_APART = 60.0  # until the next try of one that took longer
_NAMES = 20  # unmatched ones that are told

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ModelTargets:
    """A model file's targets; the file itself is closed."""

    title: str
    found: list[FoundArch]
    keymap: KeyMap


@dataclass(frozen=True, slots=True)
class Fit:
    """A LoRA file on a model file."""

    state: str  # full, partial, none, unknown or broken
    summary: str = ""
    reason: str = ""
    unmatched: Sequence[str] = ()


@dataclass(slots=True)
class Precheck:
    """Checks rows of Stack LoRAs, and remembers what it found of files by their sizes and times."""

    _models: OrderedDict[Hashable, ModelTargets | str] = field(
        default_factory=OrderedDict[Hashable, "ModelTargets | str"]
    )
    _fits: OrderedDict[Hashable, Fit] = field(default_factory=OrderedDict[Hashable, Fit])
    _slow: dict[Hashable, float] = field(default_factory=dict[Hashable, float])  # not to be tried before this time
    _lock: threading.Lock = field(default_factory=threading.Lock)  # never held while a file is read

    def check(self, model: Path | None, rows: Sequence[Any], listing: Listing) -> dict[str, Any]:
        """Return {"title", "error", "rows"}: what is known of the model, and of each row in order, as JSON values."""
        known = self._model(model) if model else ""
        title = known.title if isinstance(known, ModelTargets) else ""
        checked = [self._row(number, row, model, listing) for number, row in enumerate(rows, start=1)]
        return {"title": title, "error": known if isinstance(known, str) else "", "rows": checked}

    def fit(self, model: Path | None, lora: Path) -> Fit:
        """Return how a LoRA file fits a model file; "unknown" without a model, "broken" for a file that is no LoRA."""
        try:
            key = _mark(lora), _mark(model) if model else None
        except (OSError, ValueError):
            return Fit("broken", reason=f"{lora.name}: can't be read.")
        with self._lock:
            fit = self._fits.get(key)
        if fit is None and time.monotonic() < self._slow.get(key, 0.0):
            return _slow_fit(lora)
        if fit is None:
            known = self._model(model) if model else ""
            try:
                with within(SECONDS):
                    fit = _fit(known if isinstance(known, ModelTargets) else None, lora)
            except TookTooLongError:
                ask()  # whether it is the whole that took too long
                self._slow[key] = time.monotonic() + SECONDS_APART
                return _slow_fit(lora)
        with self._lock:
            return _keep(self._fits, key, fit, FITS)

    def _model(self, path: Path) -> ModelTargets | str:
        """Return what is known of a model file, or why nothing is."""
        try:
            key = _mark(path)
        except (OSError, ValueError):
            return f"{path.name}: can't be read."
        with self._lock:
            known = self._models.get(key)
        if known is None:
            try:
                with Checkpoint(path) as checkpoint:
                    known = ModelTargets(checkpoint.title, checkpoint.found, checkpoint.keymap)
            except LoraError as error:
                known = without_path(error, path)
        with self._lock:
            return _keep(self._models, key, known, MODELS)

    def _row(self, number: int, value: Any, model: Path | None, listing: Listing) -> dict[str, Any]:
        ask()
        try:
            row = parse_rows([value])[0]
        except OptionError as error:
            return _answer("broken", reason=plain_line(str(error).replace("rows: row 1", f"row {number}"), 1_000))
        if row.name in ("", "None"):
            return _answer("empty")
        entry = row.entry()
        low = self._file(entry.low, model, listing) if entry.low else None
        return {**self._file(entry, model, listing), "low": low}

    def _file(self, entry: StackEntry, model: Path | None, listing: Listing) -> dict[str, Any]:
        try:
            found = listing.find(entry[0], entry.size, entry.hash)
            path = listing.path(found.name)
            size = path.stat().st_size
        except AmbiguousFileError as error:
            return _answer("ambiguous", reason=plain_line(error, 4_000), candidates=list(error.candidates))
        except NotHashedError as error:
            return _answer("unknown", reason=plain_line(error, 1_000))
        except NoSuchFileError as error:
            return _answer("missing", reason=plain_line(error, 1_000))
        except (LoraError, OSError):  # listed, and gone since
            return _answer("missing", reason="no longer there; refresh the list.")
        fit = self.fit(model, path)
        known = self._model(model) if model else ""
        blocks_error = _blocks_error(entry.blocks, known if isinstance(known, ModelTargets) else None)
        more = {"name": found.name, "how": found.how, "note": plain_line(found.note, 1_000)}
        more |= {"size": size, "hash": listing.hashes.known(path), "blocks_error": blocks_error}
        return _answer(fit.state, summary=fit.summary, reason=fit.reason, unmatched=list(fit.unmatched), **more)


def _answer(state: str, **more: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {"name": None, "how": None, "note": "", "candidates": [], "summary": "", "reason": ""}
    empty |= {"unmatched": [], "blocks_error": "", "size": 0, "hash": "", "relative_size": None, "low": None}
    return {"state": state, **empty, **more}


def _fit(model: ModelTargets | None, path: Path) -> Fit:
    try:
        with LoraFile(path) as lora:
            report = match_lora(lora, model.keymap).report if model else describe_lora(lora)
    except LoraError as error:
        return Fit("broken", reason=plain_line(without_path(error, path), 1_000))
    title = model.title if model else None
    state, reason = _judged(lora, report, model) if model else ("unknown", "")
    missing = [*report.unmatched, *(item["name"] for item in report.mismatched), *lora.unsupported]
    names = [plain_line(name) for name in missing[:_NAMES]]
    return Fit(state, plain_line(summary_of(report, title), 1_000), plain(reason), names)


def _slow_fit(lora: Path) -> Fit:
    return Fit("unknown", reason=f"{lora.name}: not looked at: reading it takes longer than {SECONDS:g} seconds.")


def _blocks_error(text: str, model: ModelTargets | None) -> str:
    """Return what is wrong with strengths of blocks: of their form, and of the names if the model is known."""
    try:
        strengths = parse_blocks(text)
        if model and strengths:
            factors_on(strengths, model.keymap.blocks, "row")
    except LoraError as error:
        return plain_line(str(error).removeprefix("row: "), 1_000)
    return ""


def _judged(lora: LoraFile, report: LoraReport, model: ModelTargets) -> tuple[str, str]:
    """Return the state and why it is not a full one, in the words that Load LoRA has for it."""
    try:
        refuse_foreign(lora, report, model.found)
    except LoraError as error:
        return "none", str(error)
    reasons = list(judge(report, "warn", describe(model.found)[1]))
    state = state_of(report, model.title)
    if report.elsewhere:  # a text encoder of its own file may be wired: only the run can tell
        names = f"{counted(report.elsewhere, 'module')} for a model that is not in this file"
        reasons.append(f"{report.name}: {names}: {some_names(report.elsewhere)}.")
        state = "full" if len(reasons) == 1 else state
    return state, "\n".join(reasons + lora.warnings)


def _mark(path: Path) -> Hashable:
    stat = os.stat(path)  # noqa: PTH116 - half the time of Path's, and a stack may have a thousand rows
    return str(path), *mark_of(stat)


def _keep(known: OrderedDict[Hashable, T], key: Hashable, value: T, most: int) -> T:
    known[key] = value
    known.move_to_end(key)
    while len(known) > most:
        known.popitem(last=False)
    return value
