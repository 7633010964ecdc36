"""Names as peers write them - without folder or ending - as the names that a list of LoRA files has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ...errors import FileFormatError
from ...library.listing import resolve

_ENDINGS = (".safetensors", ".sft", ".ckpt", ".pt", ".pt2", ".pth", ".bin", ".pkl")


class Names:
    """The LoRA files that are there, or None where nobody has told; `separator` is what the host's lists hold."""

    def __init__(self, listed: Iterable[str] | None, separator: str = "/") -> None:
        self._listed = None if listed is None else [name.replace("\\", "/") for name in listed]
        self._separator = separator

    def completed(self, name: str) -> tuple[str, str]:
        """Return the listed name that `name` without its ending means, and a note if that took a choice.

        A name that has an ending stays as it is, and so does one that fits no file, or several: what is missing
        shows on the row, and a guess between two would change the image in silence.
        """
        if self._listed is None or not name or name in self._listed or name.lower().endswith(_ENDINGS):
            return name, ""
        for part in (_whole, _base):
            fitting = [listed for listed in self._listed if part(_stem(listed)) == part(name)]
            if len(fitting) == 1:
                return fitting[0], ""
            if fitting:
                return name, f"{name}: several files fit: {', '.join(sorted(fitting))}; choose one of them."
        return name, f"{name}: no such file."

    def is_listed(self, name: Any) -> bool:
        """Return whether a value is the name of one of the files."""
        return self._listed is not None and isinstance(name, str) and name.replace("\\", "/") in self._listed

    def for_host(self, name: str) -> str:
        """Return a row's name as ComfyUI's own loaders list it; unchanged if the file is not there."""
        try:
            found = name if self._listed is None else resolve(name, self._listed, "the list")
        except FileFormatError:
            found = name
        return found.replace("/", self._separator)


def _stem(name: str) -> str:
    return next((name[: -len(ending)] for ending in _ENDINGS if name.lower().endswith(ending)), name)


def _whole(name: str) -> str:
    return name


def _base(name: str) -> str:
    return name.rsplit("/", 1)[-1]
