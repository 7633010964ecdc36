"""The files that a workflow's nodes name, below a folder like ComfyUI's models, and those that a run has written."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from ..errors import OptionError
from ..files.hashes import Hashes
from ..files.names import new_path
from ..library.listing import Listing
from ..library.modelfolders import CHECKPOINTS, LORAS, OTHER_MODELS, ModelFolders, folder_kind
from ..library.stackfiles import changed, located
from ..stack.entry import StackEntry


class WorkflowFiles:
    """Finds files by the names that nodes give; a name that a node of this run gives on means the file it wrote."""

    def __init__(self, models: Path, output: Path | None) -> None:
        self._folders, self._output = ModelFolders(models), output
        self._written: dict[str, Path] = {}  # the name that a node gives on -> the file
        self._hashes = Hashes()
        self._files: dict[str, dict[str, Path]] = {}  # of a kind, by name: what was there, and what this run wrote
        self._listings: dict[str, Listing] = {}

    def model(self, name: Any) -> Path:
        """Return the file that a model name means; one that a node wrote by the name that it gives on."""
        return self._model(name)[0]

    def located(self, entries: Iterable[StackEntry]) -> list[StackEntry]:
        written = ((one, self._written.get(one[0])) for one in entries)
        known = [changed(one, one[0], path=str(path)) if path else one for one, path in written]
        return located(known, self._listing(LORAS))

    def loaded_model(self, model: Any, name: str) -> NoReturn:
        raise OptionError(f"{name}: expected a wire from a node that loads a model, found {model!r:.80}.")

    def lora(self, name: Any) -> Path:
        return self._written.get(str(name)) or self._file(LORAS, str(name))

    def new_path(self, prefix: Any, beside: Any) -> Path:
        if not isinstance(prefix, str):
            raise OptionError(f"filename_prefix: expected text, found {prefix!r}.")
        kind = LORAS if beside is None else self._model(beside)[1]
        roots = [self._output] if self._output else self._folders.roots(kind)
        roots[0].mkdir(parents=True, exist_ok=True)
        return new_path(roots, prefix)

    def listed_name(self, path: Path, beside: Any) -> str:
        self._written[path.name] = path
        for kind, files in self._files.items():
            if (name := self._folders.name_of(kind, path)) is not None:
                files.setdefault(name, path)
        self._listings.clear()
        return path.name

    def _model(self, name: Any) -> tuple[Path, str]:
        """Return the file and the folder that a model name means: checkpoints, or the folder that it begins with."""
        if (written := self._written.get(str(name))) is not None:
            return written, CHECKPOINTS
        head, _, rest = str(name).replace("\\", "/").partition("/")
        if folder_kind(head) in OTHER_MODELS and rest and str(name) not in self._found(CHECKPOINTS):
            return self._file(folder_kind(head), rest), folder_kind(head)
        return self._file(CHECKPOINTS, str(name)), CHECKPOINTS

    def _file(self, folder: str, name: str) -> Path:
        listing = self._listing(folder)
        return listing.path(listing.find(name).name)

    def _found(self, folder: str) -> dict[str, Path]:
        if folder not in self._files:
            self._files[folder] = self._folders.files(folder)
        return self._files[folder]

    def _listing(self, folder: str) -> Listing:
        if folder not in self._listings:
            self._listings[folder] = self._folders.listing_of(folder, self._found(folder), self._hashes)
        return self._listings[folder]
