"""All files below a folder, through links to other folders: models lie on other drives, and ComfyUI follows links."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_NOT_LISTED = (".git",)  # nor by ComfyUI


def files_below(root: Path) -> Iterator[Path]:
    """Yield all files below a folder, through links to folders, but not around in a circle."""
    above: dict[str, frozenset[str]] = {str(root): frozenset()}  # folder -> the real folders on the way to it
    for parent, folders, names in os.walk(root, followlinks=True):
        way = above.pop(parent, frozenset[str]()) | {os.path.realpath(parent)}
        folders[:] = sorted(
            name for name in folders
            if name not in _NOT_LISTED and os.path.realpath(os.path.join(parent, name)) not in way  # noqa: PTH118
        )  # fmt: skip
        above |= {os.path.join(parent, name): way for name in folders}  # noqa: PTH118
        yield from (Path(parent, name) for name in sorted(names))
