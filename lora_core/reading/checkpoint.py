"""Checkpoints: files or folders with a diffusion model, text encoders, or both."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ..adapters.suffixes import split_name
from ..arch.base import Settings
from ..errors import UnknownArchError, WrongFileKindError
from ..files.decoded import Decoded, decoded
from ..files.opening import open_model
from ..files.tensorheader import TensorInfo
from ..files.tensors import Tensors
from ..lazytorch import torch
from ..naming.detection import FoundArch, describe, detect, own_prefix, unknown_arch
from ..naming.keymap import KeyMap
from ..naming.targets import Target
from ..parallel.collector import collections_paused
from ..text import json_object
from .notloras import other_kind

UNKNOWN = "unknown model"
_CONFIG = "config"  # of a header: JSON, with an object for each model of the file


@dataclass(frozen=True, slots=True)
class OpenPart:
    """One open model of a checkpoint: the only one, or that of a component folder."""

    name: str  # the component folder's; empty for a file and for a folder that is the model itself
    tensors: Tensors  # as values, whatever the format they are stored in
    index: Path | None = None  # the file that says which shard holds what

    @property
    def folder(self) -> Path:
        return self.tensors.paths[0].parent

    @property
    def is_coded(self) -> bool:
        return isinstance(self.tensors, Decoded)

    def key(self, name: str) -> str:
        """Return what the whole checkpoint calls a tensor of this part."""
        return f"{self.name}/{name}" if self.name else name


class Checkpoint:
    """An open checkpoint with every target that a LoRA may address.

    In a folder with component folders, a key is the component folder's name, a slash, and the tensor's name.
    A model that no architecture fits is one without other names than its own. Raises FileFormatError for a broken
    file, WrongFileKindError for a LoRA, UnknownArchError for a VAE and the like and for a folder of two models of one
    architecture.
    """

    @collections_paused()
    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.name = self.path.name or self.path.resolve().name
        self.is_folder = self.path.is_dir()
        self._homes: dict[str, tuple[Tensors, str]] = {}  # key -> the container and the tensor's name there
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.found: list[FoundArch] = []
        with ExitStack() as opened:
            self.parts = [OpenPart(name, decoded(raw), index) for name, raw, index in open_model(self.path, opened)]
            for part in self.parts:
                self._add(part)
            self.is_known = bool(self.found)
            if not self.found:
                self._refuse_others()
                self.found = [unknown_arch(UNKNOWN, own_prefix(self.shapes))]
            self._opened = opened.pop_all()

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._opened.close()

    @cached_property
    def keymap(self) -> KeyMap:
        """Every target in the file by every name; made when first asked for."""
        return KeyMap((self.shapes, self.found))

    @property
    def arch(self) -> str:
        """The diffusion model's id, or the text encoders' if there is none."""
        return describe(self.found)[0]

    @property
    def title(self) -> str:
        return describe(self.found)[1]

    @property
    def paths(self) -> list[Path]:
        """Every file that is read."""
        return [path for part in self.parts for path in part.tensors.paths]

    def info(self, key: str) -> TensorInfo:
        tensors, name = self._homes[key]
        return tensors[name]

    def tensor(self, key: str) -> torch.Tensor:
        """Return a tensor's values."""
        tensors, name = self._homes[key]
        return tensors.tensor(name)

    def check_unchanged(self) -> None:
        for part in self.parts:
            part.tensors.check_unchanged()

    def described(self) -> dict[str, Any]:
        """Return the checkpoint as reports name it: never with its folder."""
        return {"name": self.name, "bytes": sum(part.tensors.size for part in self.parts)}

    @cached_property
    def codings(self) -> Counter[str]:
        """How many weights are stored as codes, by the format's name; plain fp8 is among them."""
        counts: Counter[str] = Counter()
        for tensors, name in self._homes.values():
            coding = tensors.coded_as(name)
            if coding is None and tensors[name].dtype.startswith("F8_"):
                coding = "fp8 without scales"
            if coding:
                counts[coding] += 1
        return counts

    def notes(self) -> list[str]:
        """Return what opening the checkpoint showed, as text for a report: no known model, formats of its weights."""
        unknown = "" if self.is_known else f"{self.name}: no known architecture fits; its own names are used"
        coded = [f"{count} weights are stored as {coding}" for coding, count in sorted(self.codings.items())]
        return [unknown, *coded] if unknown else coded

    @property
    def warnings(self) -> list[str]:
        return [warning for part in self.parts for warning in part.tensors.warnings]

    def _add(self, part: OpenPart) -> None:
        shapes = {name: info.shape for name, info in part.tensors.items()}
        for name, shape in shapes.items():
            self.shapes[part.key(name)] = shape
            self._homes[part.key(name)] = part.tensors, name
        for item in detect(shapes, _settings(part.tensors)):
            twin = next((other for other in self.found if other.arch is item.arch and part.name), None)
            if twin:
                first = twin.prefix.partition("/")[0]
                raise UnknownArchError(
                    f"{self.name}: {first} and {part.name} are both {item.arch.title}, and a LoRA is for one of them; "
                    f"give that folder itself, e.g. {self.name}/{first}."
                )
            self.found.append(replace(item, prefix=part.key(item.prefix)))

    def _refuse_others(self) -> None:
        """Raise for a file that no architecture fits and that is known to be no model for LoRAs."""
        adapters = sum(split_name(name) is not None for name in self.shapes)
        if adapters * 2 > len(self.shapes):
            raise WrongFileKindError(
                f"{self.name}: is a LoRA, not a checkpoint; give it with the LoRAs, and a checkpoint as the base."
            )
        other = other_kind(self.shapes)
        if other or not self.shapes:
            some = ", ".join(repr(name) for name in list(self.shapes)[:3]) or "nothing"
            what = f"; it is {other.what}: {other.advice}" if other else ""
            raise UnknownArchError(
                f"{self.name}: none of the known architectures fits its {len(self.shapes)} tensors; "
                f"it holds {some}{what}."
            )


def weight_on(targets: Sequence[Target], tensor: Callable[[str], torch.Tensor]) -> torch.Tensor:
    """Return the weight that an adapter on these targets changes, as it sees it, in fp32.

    `tensor` gives the values of a key.
    """
    parts = [target.take(tensor(target.key).float()) for target in targets]
    return torch.cat(parts).reshape(targets[0].adapter_shape)


def _settings(tensors: Tensors) -> Settings:
    """Return what the header says of how the diffusion model is built, as ComfyUI asks it; mostly nothing."""
    said = json_object(tensors.metadata.get(_CONFIG, "")).get("transformer")
    return said if isinstance(said, dict) else {}
