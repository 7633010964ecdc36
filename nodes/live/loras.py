"""What Load LoRA keeps between runs, so that another strength reads no file, parses nothing and maps no key.

LoRA files stay in memory, counted as the tensors that they hold, up to a share of the machine's memory; the ones in use
are never dropped, since the patches hold their tensors anyway. A LoRA that no file holds is read at every run: it
belongs to the node that made it, and is gone when that lets it go.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...lora_core.adapters import packed
from ...lora_core.files.openfile import Mark, mark_of
from ...lora_core.naming.keymap import KeyMap
from ...lora_core.naming.targets import Target
from ...lora_core.options import Semantics
from ...lora_core.reading.adapterspec import AdapterSpec
from ...lora_core.reading.lorafile import LoraFile
from ...lora_core.stack.matching import LoraMatch, PlacedSpec, match_lora
from ...lora_core.stack.sizes import Size, sized, told_not_finite
from ..host import memory_bytes
from .models import LoadedModel

SHARE = 8  # of the machine's memory, one part in so many is for LoRA files that are not in use
LEAST = 2**30  # bytes for them in any case

# A file's path, or the numbers of tensors that no file holds; the mark of the file; what it was read with
FileKey = tuple[str | tuple[tuple[str, int], ...], Mark | None, Semantics]
Source = Path | Mapping[str, Any]

_lock = threading.RLock()


class LoadedLora(LoraFile):
    """A LoRA file whose tensors are in memory, with all that was made of them so far."""

    def __init__(self, source: Source, key: FileKey) -> None:
        super().__init__(source, key[-1])
        with self:
            self.load()
            self.file.check_unchanged()
        self.key = key
        self.nbytes = sum(tensor.nbytes for tensor in (self._tensors or {}).values())
        self._matches: weakref.WeakKeyDictionary[KeyMap, LoraMatch] = weakref.WeakKeyDictionary()
        self._adapters: dict[tuple[Any, ...], _Packed] = {}
        self._sizes: weakref.WeakKeyDictionary[KeyMap, tuple[list[dict[str, Any]], float | None, list[str]]] = (
            weakref.WeakKeyDictionary()
        )

    def match(self, keymap: KeyMap) -> LoraMatch:
        """Return where the adapters go on a model."""
        known = self._matches.get(keymap)
        if known is None:
            known = self._matches[keymap] = match_lora(self, keymap)
        return known

    def packed(self, item: PlacedSpec) -> tuple[Any, ...]:
        """Return the adapter of this file as plain values, checked once; raises AdapterError for NaN or infinity."""
        part = _part(item.spec, item.target)
        known = self._adapters.get(part)
        if known is None:
            adapter = item.placed().adapter
            known = self._adapters[part] = _Packed(packed(adapter), not adapter.is_zero(), adapter.change_square())
        item.tell(changes=known.changes)
        return known.values

    def sized(self, model: LoadedModel, weights: Callable[[], Mapping[str, Any]]) -> tuple[Any, Any, list[str]]:
        """Return the blocks of the report with their sizes, the relative size of the whole, and what can't be told.

        Adapters count that `packed` has been asked for. `weights` are those of the model without any patch.
        """
        known = self._sizes.get(model.keymap)
        if known is None:
            match = self.match(model.keymap)
            changes = [(target, self._adapters.get(_part(spec, target))) for spec, target in match.places]
            squares = model.squares([target for target, _ in changes], weights)
            sizes = [
                Size.on(target, model.keymap, one.square if one else None, square)
                for (target, one), square in zip(changes, squares, strict=True)
            ]
            known = self._sizes[model.keymap] = (*sized(match.report.blocks, sizes), told_not_finite(sizes))
        return known


@dataclass(frozen=True, slots=True)
class _Packed:
    """An adapter as plain values, and what is known of it."""

    values: tuple[Any, ...]
    changes: bool  # anything
    square: float | None  # |dW|² at strength 1


def _part(spec: AdapterSpec, target: Target) -> tuple[Any, ...]:
    return id(spec), target.rows, target.shape[0] if target.rows else None


_files: OrderedDict[FileKey, LoadedLora] = OrderedDict()
_numbers: dict[int, tuple[weakref.ref[Any], int]] = {}  # of tensors that no file holds, by their ids
_count = itertools.count()


def loaded_loras(sources: Sequence[Source], semantics: Semantics) -> list[LoadedLora]:
    """Return the LoRAs with their tensors in memory, files from an earlier run if they have not changed since."""
    with _lock:
        keys = [_key(source, semantics) for source in sources]
        return [_loaded(source, key, keys) for source, key in zip(sources, keys, strict=True)]


def _loaded(source: Source, key: FileKey, keep: Iterable[FileKey]) -> LoadedLora:
    if isinstance(source, Mapping):
        return LoadedLora(source, key)
    if key not in _files:
        _files[key] = LoadedLora(source, key)
    _files.move_to_end(key)
    _drop(keep)
    return _files[key]


def _key(source: Source, semantics: Semantics) -> FileKey:
    if isinstance(source, Mapping):
        return tuple((name, _number(tensor)) for name, tensor in source.items()), None, semantics
    return str(source), mark_of(source.stat()), semantics


def _number(tensor: Any) -> int:
    """Return a number that no other tensor ever has; the id of one that has gone is given out again."""
    place = id(tensor)
    known = _numbers.get(place)
    if known is None or known[0]() is not tensor:
        gone = weakref.ref(tensor, lambda _: _numbers.pop(place, None))
        known = _numbers[place] = gone, next(_count)
    return known[1]


def _drop(keep: Iterable[FileKey]) -> None:
    """Drop the files that were used longest ago, until the rest is within the limit."""
    unused = [key for key in _files if key not in set(keep)]
    size, limit = sum(_files[key].nbytes for key in unused), max(LEAST, memory_bytes() // SHARE)
    for key in unused:
        if size > limit:
            size -= _files.pop(key).nbytes
