"""All files below a folder, through links to other folders: models lie on other drives, and ComfyUI follows links."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

MOST_WAYS = 16  # on which one folder is listed: with links in links, each may double the ways
_NOT_LISTED = (".git",)  # nor by ComfyUI


def files_below(root: Path, ways: int = MOST_WAYS) -> Iterator[Path]:
    """Yield all files below a folder, through links to folders, but not around in a circle.

    A folder that several links lead to is listed under as many names, up to `ways`.
    """
    above: dict[str, frozenset[str]] = {str(root): frozenset()}  # folder -> the real folders on the way to it
    listed = Counter[str]()  # by the real folder

    def is_next(parent: str, name: str, way: frozenset[str]) -> bool:
        real = os.path.realpath(os.path.join(parent, name))  # noqa: PTH118
        listed[real] += name not in _NOT_LISTED and real not in way
        return name not in _NOT_LISTED and real not in way and listed[real] <= ways

    for parent, folders, names in os.walk(root, followlinks=True):
        way = above.pop(parent, frozenset[str]()) | {os.path.realpath(parent)}
        folders[:] = [name for name in sorted(folders) if is_next(parent, name, way)]
        above |= {os.path.join(parent, name): way for name in folders}  # noqa: PTH118
        yield from (Path(parent, name) for name in sorted(names))
