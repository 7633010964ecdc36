"""What Load LoRA keeps between runs, so that another strength reads no file, parses nothing and maps no key.

Key maps live as long as their model and text encoder. LoRA files stay in memory, counted as the tensors that they hold,
up to a share of the machine's memory; the ones in use are never dropped, since the patches hold their tensors anyway.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..lora_core.adapters import packed
from ..lora_core.arch.base import Arch
from ..lora_core.detection import Found, detect
from ..lora_core.keymap import KeyMap
from ..lora_core.lorafile import LoraFile
from ..lora_core.matching import LoraMatch, PlacedSpec, match_lora
from ..lora_core.options import Semantics
from ..lora_core.targets import Target
from .host import known_names, memory_bytes

SHARE = 8  # of the machine's memory, one part in so many is for LoRA files that are not in use
LEAST = 2**30  # bytes for them in any case
MARKS = 256  # sets of patches that are remembered of a model

FileKey = tuple[str, int, int, Semantics]  # path, size and time of the file, and the semantics that it was read with

_lock = threading.RLock()


class LoadedLora(LoraFile):
    """A LoRA file whose tensors are in memory, with all that was made of them so far."""

    def __init__(self, path: Path, key: FileKey) -> None:
        super().__init__(path, key[3])
        with self:
            self.load()
            self.file.check_unchanged()
        self.key = key
        self.nbytes = sum(tensor.nbytes for tensor in (self._tensors or {}).values())
        self._matches: weakref.WeakKeyDictionary[KeyMap, LoraMatch] = weakref.WeakKeyDictionary()
        self._adapters: dict[tuple[Any, ...], tuple[tuple[Any, ...], bool]] = {}

    def match(self, keymap: KeyMap) -> LoraMatch:
        """Return where the adapters go on a model."""
        known = self._matches.get(keymap)
        if known is None:
            known = self._matches[keymap] = match_lora(self, keymap)
        return known

    def packed(self, item: PlacedSpec) -> tuple[Any, ...]:
        """Return the adapter of this file as plain values, checked once; raises AdapterError for NaN or infinity."""
        part = (id(item.spec), item.target.rows, item.target.shape[0] if item.target.rows else None)
        known = self._adapters.get(part)
        if known is None:
            adapter = item.placed().adapter
            known = self._adapters[part] = packed(adapter), not adapter.is_zero()
        item.tell(changes=known[1])
        return known[0]


@dataclass(slots=True)
class LoadedModel:
    """The targets of a loaded model and its text encoder, and which patches they have had."""

    keymap: KeyMap
    found: list[Found]
    _marks: dict[tuple[Any, ...], Any] = field(default_factory=dict)

    def mark(self, patcher: Any, before: Any, content: tuple[Any, ...]) -> None:
        """Give a patcher of this model the mark that it had with the same patches.

        The host patches all weights anew unless `patches_uuid` is that of the patches that are in them: where only the
        text encoder's strength changes, the diffusion model stays as it is. `before` is the mark without our patches.
        """
        if len(self._marks) >= MARKS:
            self._marks.clear()
        patcher.patches_uuid = self._marks.setdefault((before, content), patcher.patches_uuid)


_models: weakref.WeakKeyDictionary[Any, list[tuple[weakref.ref[Any] | None, LoadedModel]]] = weakref.WeakKeyDictionary()
_files: OrderedDict[FileKey, LoadedLora] = OrderedDict()


def loaded_model(diffusion: Any, encoder: Any) -> LoadedModel:
    """Return what is known of a model and the text encoder that it is used with, made once for each pair."""
    with _lock:
        pairs = [(one, known) for one, known in _models.get(diffusion, ()) if one is None or one() is not None]
        for reference, known in pairs:
            if (reference() if reference else None) is encoder:
                return known
        known = _mapped(diffusion, encoder)
        _models[diffusion] = [*pairs, (weakref.ref(encoder) if encoder is not None else None, known)]
        return known


def loaded_loras(paths: Sequence[Path], semantics: Semantics) -> list[LoadedLora]:
    """Return the files with their tensors in memory, from an earlier run if they have not changed since."""
    with _lock:
        keys = [_key(path, semantics) for path in paths]
        for path, key in zip(paths, keys, strict=True):
            if key not in _files:
                _files[key] = LoadedLora(path, key)
            _files.move_to_end(key)
            _drop(keep=keys)
        return [_files[key] for key in keys]


def _key(path: Path, semantics: Semantics) -> FileKey:
    stat = path.stat()
    return str(path), stat.st_size, stat.st_mtime_ns, semantics


def _drop(keep: Iterable[FileKey]) -> None:
    """Drop the files that were used longest ago, until the rest is within the limit."""
    unused = [key for key in _files if key not in set(keep)]
    size, limit = sum(_files[key].nbytes for key in unused), max(LEAST, memory_bytes() // SHARE)
    for key in unused:
        if size > limit:
            size -= _files.pop(key).nbytes


def _mapped(diffusion: Any, encoder: Any) -> LoadedModel:
    files: list[tuple[dict[str, tuple[int, ...]], list[Found]]] = []
    for module in (diffusion, encoder):
        if module is not None:
            shapes = _shapes(module)
            files.append((shapes, detect(shapes)))
    if not files[0][1]:  # its own names and the host's still count
        files[0] = (files[0][0], [_unknown(type(diffusion).__name__)])
    keymap = KeyMap(*files, more=_host_targets(diffusion, encoder, files))
    return LoadedModel(keymap, [item for _, items in files for item in items])


def _shapes(module: Any) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a loaded model's tensors, of quantised weights those that they stand for."""
    shapes = {key: tuple(value.shape) for key, value in module.state_dict().items()}  # packed codes are narrower
    return shapes | {key: tuple(value.shape) for key, value in module.named_parameters() if key in shapes}


def _unknown(title: str) -> Found:
    """Return an architecture without another name for anything: what the host loads and LoRA Core does not know."""
    return Found(Arch(title, title, signatures=(), prefixes=("diffusion_model.",)), None, "diffusion_model.")


def _host_targets(
    diffusion: Any, encoder: Any, files: Sequence[tuple[dict[str, tuple[int, ...]], Any]]
) -> dict[str, Target]:
    """Return the names that the host's own loader accepts, as targets."""
    targets: dict[str, Target] = {}
    for name, (key, start, length, swapped) in known_names(diffusion, encoder).items():
        for role, (shapes, _) in zip(("diffusion", "text_encoder"), files, strict=False):
            if key in shapes:
                shape = shapes[key] if length is None else (length, *shapes[key][1:])
                targets[name] = Target(key, shape, role, start, swapped)
    return targets
