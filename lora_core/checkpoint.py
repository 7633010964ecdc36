"""Checkpoints: single files with a diffusion model, text encoders, or both."""

from __future__ import annotations

import os
from functools import cached_property

from .detection import Found, detect
from .errors import UnknownArchError, WrongFileKindError
from .keymap import KeyMap
from .parts import split_name
from .tensorfile import TensorFile

# Key endings of weights that are stored as codes with a scale beside them
_QUANTISED = (".scale_weight", ".weight_scale", ".weight_scale_2", ".comfy_quant")


class Checkpoint:
    """An open checkpoint with every target that a LoRA may address.

    Raises FileFormatError for a broken file, WrongFileKindError for a LoRA, UnknownArchError if nothing is recognised.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.file = TensorFile(path)
        self.path = self.file.path
        self.name = self.path.name
        try:
            self.shapes = {name: info.shape for name, info in self.file.items()}
            self.found: list[Found] = detect(self.shapes)
            if not self.found:
                self._refuse()
        except BaseException:
            self.file.close()
            raise

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

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

    def refuse_quantised(self) -> None:
        """Raise UnknownArchError if weights are stored as scaled codes, which this version can't add to."""
        key = next((key for key in self.file if key.endswith(_QUANTISED) or key == "scaled_fp8"), None)
        if key:
            raise UnknownArchError(
                f"{self.name}: is quantised with scales ({key!r}), which this version can't change; "
                "use the fp16, bf16 or plain fp8 version of the model."
            )

    def _refuse(self) -> None:
        adapters = sum(split_name(name) is not None for name in self.file)
        if adapters * 2 > len(self.file):
            raise WrongFileKindError(
                f"{self.name}: is a LoRA, not a checkpoint; give it with the LoRAs, and a checkpoint as the base."
            )
        some = ", ".join(repr(name) for name in list(self.file)[:3]) or "nothing"
        raise UnknownArchError(
            f"{self.name}: none of the known architectures fits its {len(self.file)} tensors; it holds {some}."
        )


def describe(found: list[Found]) -> tuple[str, str]:
    """Return (id, title) of what a file holds."""
    diffusion = [item for item in found if item.arch.role == "diffusion"] or found
    return "+".join(item.id for item in diffusion), " and ".join(item.title for item in diffusion)
