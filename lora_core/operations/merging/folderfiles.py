"""What of a model folder is not weights that change: files that are copied, and JSON files that tell of the weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...files.foldercontent import Names, is_elsewhere, other_files
from ...files.folderwriter import FolderWriter
from ...files.modelfolder import WEIGHT_SUFFIXES, read_index
from ...files.openfile import read_bounded
from ...files.private import config_without_paths, tells_paths
from ...options import MergeDtype
from ...reading.checkpoint import Checkpoint, OpenPart
from ...receipts.receipt import RECEIPT_FILE
from ...text import counted, some_names
from .fileplan import FilePlan

_LARGEST_CONFIG = 2**20  # bytes


@dataclass(frozen=True, slots=True)
class FolderFiles:
    """The files of a folder, for a plan of its weights."""

    checkpoint: Checkpoint
    plans: Sequence[tuple[OpenPart, FilePlan]]
    dtype: MergeDtype

    def copied(self, warnings: list[str]) -> list[tuple[Path, Names]]:
        """Return the files to copy. Weights that are not read are left out: they lack the change."""
        read = {*self.checkpoint.paths, *(path for path, _ in self.json_files())}
        read |= {part.index for part in self.checkpoint.parts if part.index} | {self.checkpoint.path / RECEIPT_FILE}
        parts = {below(part) for part in self.checkpoint.parts} | {()}
        content = other_files(self.checkpoint.path, read)
        found = content.files
        if content.left_out:
            warnings.append(
                f"{counted(content.left_out, 'link')} out of the folder not followed, so left out: "
                f"{some_names(content.left_out)}; put the files themselves there if they belong to the model."
            )
        stale = [(path, names) for path, names in found if names[:-1] in parts and WEIGHT_SUFFIXES & set(path.suffixes)]
        if stale:
            names = some_names(["/".join(names) for _, names in stale])
            warnings.append(f"{counted(stale, 'other weight file')} left out, without the LoRAs in it: {names}.")
        return [item for item in found if item not in stale] + self._untouched()

    def written(self, copied: Sequence[tuple[Path, Names]]) -> set[Names]:
        """Return the names of all files of the new folder."""
        names = {name for _, name in copied} | {(*below(part), path.name) for path, part in self.json_files()}
        made = {(*below(part), plan.source.path.name) for part, plan in self.plans if plan.source}
        return names | made | {(RECEIPT_FILE,)}

    def json_files(self) -> list[tuple[Path, OpenPart]]:
        """Return the JSON files that tell of the weights and so change with them."""
        found: list[tuple[Path, OpenPart]] = []
        for part in self.checkpoint.parts:
            if part.index and self._changes(part):
                found.append((part.index, part))
            config = part.folder / "config.json"
            is_there = config.is_file() and not is_elsewhere(config, self.checkpoint.path)
            if self.dtype != "keep" and part.is_coded and is_there:
                found.append((config, part))
        return found

    @staticmethod
    def copy(copied: Sequence[tuple[Path, Names]], folder: FolderWriter, on_bytes: Callable[[int], None]) -> None:
        """Copy files: byte for byte, but for configurations that tell where their author's files lie."""
        for path, names in copied:
            text = _without_paths(path)
            if text is None:
                folder.copy(path, *names, on_bytes=on_bytes)
            else:
                folder.write_text(text, *names)
                on_bytes(path.stat().st_size)

    def write_json(self, folder: FolderWriter) -> None:
        for path, part in self.json_files():
            content = read_index(path, path.name)
            if path == part.index:
                content = self._indexed(content, part)
            else:  # the weights are plain numbers now
                content.pop("quantization_config", None)
            text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
            folder.write_text(config_without_paths(text), *below(part), path.name)

    def _untouched(self) -> list[tuple[Path, Names]]:
        """Return the weight files in which nothing changes, and the indices of parts that consist of them."""
        copies = [(part, plan.source.path) for part, plan in self.plans if plan.is_copy and plan.source]
        indices = [(part, part.index) for part in self.checkpoint.parts if part.index and not self._changes(part)]
        return [(path, (*below(part), path.name)) for part, path in copies + indices]

    def _changes(self, part: OpenPart) -> bool:
        return any(owner is part and not plan.is_copy for owner, plan in self.plans)

    def _indexed(self, content: dict[str, Any], part: OpenPart) -> dict[str, Any]:
        plans = [plan for owner, plan in self.plans if owner is part]
        files = {planned.name: plan.source.path.name for plan in plans if plan.source for planned in plan.planned}
        total = sum(plan.nbytes for plan in plans)
        metadata = content.get("metadata")
        known = metadata if isinstance(metadata, dict) else {}
        return {**content, "metadata": {**known, "total_size": total}, "weight_map": dict(sorted(files.items()))}


def _without_paths(path: Path) -> str | None:
    """Return what a configuration is to be, None if that is what it is."""
    data = read_bounded(path, _LARGEST_CONFIG) if tells_paths(path.name) else None
    try:
        text = data.decode("utf-8") if data else ""
    except UnicodeDecodeError:
        return None
    cleaned = config_without_paths(text)
    return None if cleaned == text else cleaned


def below(part: OpenPart) -> Names:
    """Return the names of a part's folder below the model folder."""
    return (part.name,) if part.name else ()
