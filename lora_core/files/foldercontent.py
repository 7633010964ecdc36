"""What lies in a model folder beside its weights: the files that a copy has too, and what is not the model's at all."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import FileFormatError
from .modelfolder import COMPONENT, WEIGHT_SUFFIXES, leads_out, model_parts

MOST_FILES = 20_000
Names = tuple[str, ...]  # of a file, below the folder

_BLOB = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")  # a file in Hugging Face's cache, which its folders link to
_OWN = re.compile(r"model_index\.json|(?:generation_)?config\.json|[\w.-]+\.safetensors\.index(?:\.[\w-]+)?\.json")
_OF_SYSTEMS = frozenset((".DS_Store", "Thumbs.db", "desktop.ini"))


@dataclass(slots=True)
class FolderContent:
    files: list[tuple[Path, Names]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)  # links to what is not the folder's


def other_files(folder: Path, skipped: Collection[Path]) -> FolderContent:
    """Return everything but hidden and skipped files.

    A link that leads out of the folder is followed to weights and to files of Hugging Face's cache, and nowhere else:
    whoever gives the copy away would give away what it leads to. Raises FileFormatError for a folder without bounds.
    """
    content = FolderContent()
    _Walk(folder, set(skipped), content).below(folder, (), frozenset({os.path.realpath(folder)}))
    return content


@dataclass(frozen=True, slots=True)
class _Walk:
    root: Path
    skipped: set[Path]
    content: FolderContent

    def below(self, folder: Path, names: Names, above: frozenset[str], *, is_linked: bool = False) -> None:
        for path in sorted(folder.iterdir()):
            here = (*names, path.name)
            if path.name.startswith(".") or path in self.skipped:
                continue
            if path.is_file():
                self._add(path, here)
            elif path.is_dir() and (real := os.path.realpath(path)) not in above:  # else it would never end
                is_link = path.is_symlink()
                if leads_out(path, self.root) or (is_link and is_linked):  # links in links: each doubles the files
                    self.content.left_out.append("/".join(here))
                else:
                    self.below(path, here, above | {real}, is_linked=is_linked or is_link)

    def _add(self, path: Path, names: Names) -> None:
        if is_elsewhere(path, self.root):
            self.content.left_out.append("/".join(names))
            return
        self.content.files.append((path, names))
        if len(self.content.files) > MOST_FILES:
            raise FileFormatError(
                f"{self.root.name}: holds more than {MOST_FILES} files; a model folder has some dozens, so give that."
            )


def is_elsewhere(path: Path, root: Path) -> bool:
    """Tell whether a file is a link out of the folder, to anything but weights and a cache of such files."""
    if not leads_out(path, root):
        return False
    real = Path(os.path.realpath(path))
    is_weight = real.suffix in WEIGHT_SUFFIXES and path.suffix in WEIGHT_SUFFIXES
    return not (is_weight or (real.parent.name == "blobs" and _BLOB.fullmatch(real.name)))


def foreign_files(folder: Path, written: Collection[Names]) -> list[str]:
    """Return the names of what is lost if a model folder makes room for one of the files `written`.

    Not lost are files that are written again, and those that tell of weights, or are the weights that are read of it.
    """
    own = {file for part in model_parts(folder) for file in (*part.files, part.index)}
    return [
        "/".join(names)
        for path, names in _everything(folder)
        if names not in written and path not in own and not _is_own(names)
    ]


def _everything(folder: Path) -> Iterator[tuple[Path, Names]]:
    """Yield all that is no folder, in order; links to folders too, which are not followed."""
    for parent, folders, files in os.walk(folder):
        folders.sort()
        links = [name for name in folders if Path(parent, name).is_symlink()]
        for name in sorted([*files, *links]):
            path = Path(parent, name)
            yield path, path.relative_to(folder).parts


def _is_own(names: Names) -> bool:
    is_place = len(names) == 1 or (len(names) == 2 and bool(COMPONENT.fullmatch(names[0])))
    return names[-1] in _OF_SYSTEMS or (is_place and bool(_OWN.fullmatch(names[-1])))
