"""What Load LoRA keeps of a loaded model between runs: its targets, the marks of its patches, the sizes of its weights.

All of it lives as long as the model and its text encoder.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from ...lora_core.naming.detection import FoundArch, detect, unknown_arch
from ...lora_core.naming.keymap import KeyMap
from ...lora_core.naming.targets import Target
from ...lora_core.stack.sizes import weight_square
from ..hostmodels import known_names

MARKS = 256  # sets of patches that are remembered of a model

_lock = threading.RLock()


@dataclass(slots=True)
class LoadedModel:
    """The targets of a loaded model and its text encoder, and which patches they have had."""

    keymap: KeyMap
    found: list[FoundArch]
    _marks: dict[tuple[Any, ...], Any] = field(default_factory=dict)
    _squares: dict[tuple[str, int | None, int], float | None] = field(default_factory=dict)

    def squares(self, targets: Sequence[Target], weights: Callable[[], Mapping[str, Any]]) -> list[float | None]:
        """Return about |W|² of each target, each looked at once in the life of the model."""
        places = [(target.key, target.start, target.shape[0]) for target in targets]
        new = {place: target for place, target in zip(places, targets, strict=True) if place not in self._squares}
        if new:
            found = weights()
            squares = {
                place: weight_square(found[target.key], target) if target.key in found else None
                for place, target in new.items()
            }
            self._squares |= _numbers(squares)
        return [self._squares[place] for place in places]

    def mark(self, patcher: Any, before: Any, content: tuple[Any, ...]) -> None:
        """Give a patcher of this model the mark that it had with the same patches.

        The host patches all weights anew unless `patches_uuid` is that of the patches that are in them: where only the
        text encoder's strength changes, the diffusion model stays as it is. `before` is the mark without our patches.
        """
        if len(self._marks) >= MARKS:
            self._marks.clear()
        patcher.patches_uuid = self._marks.setdefault((before, content), patcher.patches_uuid)


_models: weakref.WeakKeyDictionary[Any, list[tuple[weakref.ref[Any] | None, LoadedModel]]] = weakref.WeakKeyDictionary()


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


def _numbers(squares: dict[tuple[str, int | None, int], Any]) -> dict[tuple[str, int | None, int], float | None]:
    """Return one-number tensors as numbers, with one wait for each device that they are on."""
    by_device: dict[Any, list[tuple[str, int | None, int]]] = {}
    for place, square in squares.items():
        if square is not None:
            by_device.setdefault(square.device, []).append(place)
    found: dict[tuple[str, int | None, int], float | None] = dict.fromkeys(squares)
    for places in by_device.values():
        found |= zip(places, torch.stack([squares[place] for place in places]).tolist(), strict=True)
    return found


def _mapped(diffusion: Any, encoder: Any) -> LoadedModel:
    files: list[tuple[dict[str, tuple[int, ...]], list[FoundArch]]] = []
    for module in (diffusion, encoder):
        if module is not None:
            shapes = _shapes(module)
            files.append((shapes, detect(shapes)))
    if not files[0][1]:  # its own names and the host's still count
        files[0] = (files[0][0], [unknown_arch(type(diffusion).__name__, "diffusion_model.")])
    keymap = KeyMap(*files, more=_host_targets(diffusion, encoder, files))
    return LoadedModel(keymap, [item for _, items in files for item in items])


def _shapes(module: Any) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a loaded model's tensors, of quantised weights those that they stand for."""
    shapes = {key: tuple(value.shape) for key, value in module.state_dict().items()}  # packed codes are narrower
    return shapes | {key: tuple(value.shape) for key, value in module.named_parameters() if key in shapes}


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
