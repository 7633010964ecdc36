"""A stack on a loaded model: ComfyUI's ModelPatcher holds the patches, and LoRA Core computes them.

One patch per weight carries all adapters of the stack for it, so the live weight comes from the same function as the
merged file's. Facts about the host that this relies on: a patch is rebuilt as `type(patch)(loaded_keys, weights)` when
tensors move between devices, so everything sits in `weights`, nested tuples of tensors and plain values.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..lora_core.adapters import Reshape, packed, unpacked
from ..lora_core.apply import Placed, apply_stack
from ..lora_core.arch.base import Arch
from ..lora_core.checkpoint import describe
from ..lora_core.detection import Found, detect
from ..lora_core.errors import UnknownArchError
from ..lora_core.keymap import KeyMap
from ..lora_core.lorafile import LoraFile
from ..lora_core.matching import OnUnmatched, StackedLora, match_stack
from ..lora_core.options import Semantics
from ..lora_core.report import Report, Stopwatch, described_file
from ..lora_core.stack import StackEntry
from ..lora_core.targets import Target
from .host import WeightAdapterBase, known_names

CACHED_BYTES = 2 * 2**30  # tensors of LoRA files kept between runs; patches in use hold theirs anyway


class KeyStack(WeightAdapterBase):
    """All adapters that a stack has for one weight."""

    name = "lora_core"

    def __init__(self, loaded_keys: set[str], weights: tuple[Any, ...]) -> None:
        self.loaded_keys = loaded_keys
        self.weights = weights

    @classmethod
    def of(cls, placed: Iterable[Placed], semantics: Semantics) -> KeyStack:
        stack = tuple((packed(p.adapter), p.target, p.strength, p.name) for p in placed)
        return cls({name for *_, name in stack}, (semantics, stack))

    def calculate_shape(self, key: str) -> tuple[int, ...] | None:
        """Return the shape that the weight is padded to, for the host to make room for it; None if it keeps its own."""
        adapters = [unpacked(adapter) for adapter, _, strength, _ in self.weights[1] if strength != 0]
        return next((adapter.shape for adapter in reversed(adapters) if isinstance(adapter, Reshape)), None)

    def calculate_weight(
        self,
        weight: Any,
        key: str,
        strength: float,
        strength_model: float,
        offset: Any,
        function: Any,
        intermediate_dtype: Any = None,
        original_weight: Any = None,
    ) -> Any:
        """Return the weight with the stack applied: in fp32 where the host rounds afterwards, else in its dtype.

        The host asks for fp32 when it loads a model, and rounds into the storage dtype itself. In low-VRAM mode it
        asks for the weight's own dtype at every use, and feeds the result to the layer as it is.
        """
        semantics, stack = self.weights
        placed = [
            Placed(unpacked(adapter), target, adapter_strength * strength, name)
            for adapter, target, adapter_strength, name in stack
        ]
        result = apply_stack(weight, placed, semantics)
        return result.to(weight.dtype) if intermediate_dtype == weight.dtype else result

    def h(self, x: Any, base_out: Any) -> Any:
        raise RuntimeError("LoRA Core: bypass mode is not supported; use Load LoRA, which patches the weights.")


@dataclass(frozen=True)
class Applied:
    model: Any
    clip: Any
    report: Report


def apply_live(
    model: Any,
    clip: Any,
    entries: Sequence[StackEntry],
    *,
    semantics: Semantics = "paper",
    on_unmatched: OnUnmatched = "warn",
) -> Applied:
    """Return clones of `model` and `clip` with the stack as patches; each entry's `path` names its file.

    Raises a LoraError as `merge` does: the same stack fails with the same words.
    """
    report = Report("load")
    watch = Stopwatch(report)
    if not entries:  # nothing to place, so the model may be of any architecture
        return Applied(model, clip, watch.stop())
    keymap, found = _keymap_of(model, clip)
    stack = [StackedLora(_read_lora(Path(entry.path), semantics), entry[1], entry[2]) for entry in entries]
    match = match_stack(stack, keymap, found, on_unmatched)
    patches = {key: KeyStack.of((item.read() for item in placed), semantics) for key, placed in match.by_key.items()}
    model, clip = model.clone(), clip.clone() if clip is not None else None
    taken = set(model.add_patches(patches))
    if clip is not None:
        taken |= set(clip.add_patches(patches))
    if taken != set(patches):
        missing = sorted(set(patches) - taken)
        raise UnknownArchError(f"ComfyUI did not take {len(missing)} patches, e.g. {missing[0]!r}; please report this.")
    report.inputs = [described_file(item.lora.path) for item in stack]
    report.arch, report.title = describe(found)
    report.loras, report.warnings = match.reports, match.warnings
    return Applied(model, clip, watch.stop())


# What was read before is kept: key maps as long as their model lives, LoRA files up to a size

_lock = threading.Lock()
_keymaps: weakref.WeakKeyDictionary[Any, tuple[Any, KeyMap, list[Found]]] = weakref.WeakKeyDictionary()
_files: OrderedDict[tuple[str, int, int, str], LoraFile] = OrderedDict()


def _keymap_of(model: Any, clip: Any) -> tuple[KeyMap, list[Found]]:
    """Return the targets of a loaded model and its text encoder, made once for each pair."""
    diffusion, encoder = model.model, clip.cond_stage_model if clip is not None else None
    with _lock:
        known = _keymaps.get(diffusion)
        if known and _is_same(known[0], encoder):
            return known[1:]
        files: list[tuple[dict[str, tuple[int, ...]], list[Found]]] = []
        for module in (diffusion, encoder):
            if module is not None:
                shapes = _shapes(module)
                files.append((shapes, detect(shapes)))
        if not files[0][1]:  # its own names and the host's still count
            files[0] = (files[0][0], [_unknown(type(diffusion).__name__)])
        keymap = KeyMap(*files, more=_host_targets(diffusion, encoder, files))
        found = [item for _, items in files for item in items]
        _keymaps[diffusion] = (weakref.ref(encoder) if encoder is not None else None, keymap, found)
        return keymap, found


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


def _is_same(reference: weakref.ref[Any] | None, encoder: Any) -> bool:
    """Tell whether the reference is to this very encoder; a dead one is not the same as none."""
    return reference is None if encoder is None else reference is not None and reference() is encoder


def _read_lora(path: Path, semantics: Semantics) -> LoraFile:
    """Return the file with its tensors in memory, from the last run if it has not changed."""
    stat = path.stat()
    key = (str(path), stat.st_size, stat.st_mtime_ns, semantics)
    with _lock:
        if key in _files:
            _files.move_to_end(key)
            return _files[key]
        with LoraFile(path, semantics) as lora:
            lora.load()
            lora.file.check_unchanged()
        _files[key] = lora
        while len(_files) > 1 and sum(size for _, size, _, _ in _files) > CACHED_BYTES:
            _files.popitem(last=False)
        return lora
