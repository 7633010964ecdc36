"""A file by the name that a workflow carries: exact, then tolerant of slashes and case, then by a unique base name."""

from __future__ import annotations

from collections.abc import Iterable

from .errors import FileFormatError


def resolve(name: str, listed: Iterable[str], where: str) -> str:
    """Return the one of `listed` names (relative paths) that `name` means.

    Raises FileFormatError if there is none, or if several fit: a guess between two would change the image in silence.
    """
    names = list(listed)
    if name in names:
        return name
    wanted = name.replace("\\", "/")
    for same in (_slashes, _case, _base_name):
        fitting = [candidate for candidate in names if same(candidate) == same(wanted)]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            options = ", ".join(sorted(fitting))
            raise FileFormatError(f"{name}: several files in {where} fit: {options}; choose one of them.")
    raise FileFormatError(f"{name}: no such file in {where}; put it there or choose another.")


def _slashes(name: str) -> str:
    return name.replace("\\", "/")


def _case(name: str) -> str:
    return _slashes(name).casefold()


def _base_name(name: str) -> str:
    return _case(name).rsplit("/", 1)[-1]
