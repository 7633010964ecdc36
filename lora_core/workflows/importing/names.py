"""Names as peers write them - without folder or ending - as the names that a list of LoRA files has."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

from ...errors import FileFormatError
from ...library.listing import Listing, grouped
from ...text import some_names

_ENDINGS = (".safetensors", ".sft", ".ckpt", ".pt", ".pt2", ".pth", ".bin", ".pkl")


class Names:
    """The LoRA files that are there, or None where nobody has told; `separator` is what the host's lists hold."""

    def __init__(self, listed: Iterable[str] | None, separator: str = "/") -> None:
        self._listed = None if listed is None else dict.fromkeys(name.replace("\\", "/") for name in listed)
        self._separator = separator

    def completed(self, name: str) -> tuple[str, str]:
        """Return the listed name that `name` without its ending means, and a note if that took a choice.

        A name that has an ending stays as it is, and so does one that fits no file, or several: what is missing
        shows on the row, and a guess between two would change the image in silence.
        """
        if self._listed is None or not name or name in self._listed or name.lower().endswith(_ENDINGS):
            return name, ""
        for fitting in (self._by_stem.get(name, []), self._by_base.get(_base(name), [])):
            if len(fitting) == 1:
                return fitting[0], ""
            if fitting:
                return name, f"{name}: several files fit: {some_names(fitting)}; choose one of them."
        return name, f"{name}: no such file."

    def is_listed(self, name: Any) -> bool:
        """Return whether a value is the name of one of the files."""
        return self._listed is not None and isinstance(name, str) and name.replace("\\", "/") in self._listed

    def for_host(self, name: str) -> str:
        """Return a row's name as ComfyUI's own loaders list it; unchanged if the file is not there."""
        try:
            found = name if self._listed is None else self._listing.find(name).name
        except FileFormatError:
            found = name
        return found.replace("/", self._separator)

    @cached_property
    def _listing(self) -> Listing:
        return Listing(list(self._listed or ()), Path, "the list")

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        return grouped(sorted(self._listed or ()), _stem)

    @cached_property
    def _by_base(self) -> dict[str, list[str]]:
        return grouped(sorted(self._listed or ()), lambda name: _base(_stem(name)))


def _stem(name: str) -> str:
    return next((name[: -len(ending)] for ending in _ENDINGS if name.lower().endswith(ending)), name)


def _base(name: str) -> str:
    return name.rsplit("/", 1)[-1]
