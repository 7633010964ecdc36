"""A folder like ComfyUI's models, as ComfyUI lists it: linked folders, all of its endings, several roots of a kind."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ..files.hashes import Hashes
from ..files.walking import files_below
from .extrapaths import NAME, extra_folders
from .listing import Listing

LORAS, CHECKPOINTS = "loras", "checkpoints"
OTHER_MODELS = ("diffusion_models", "text_encoders")
# of any letter case; ComfyUI lists GGUF files with a pack
ENDINGS = (".safetensors", ".sft", ".ckpt", ".pt", ".pt2", ".bin", ".pth", ".pkl", ".gguf")
_OLD_NAMES = {"unet": "diffusion_models", "clip": "text_encoders"}  # what folders of a kind were called


class ModelFolders:
    """The files of each kind by name, with forward slashes; of two with the same name the first root's counts."""

    def __init__(self, models: Path) -> None:
        """`models` may have an extra_model_paths.yaml beside it, where ComfyUI has it, or in it."""
        self._roots = {kind: [models / kind] for kind in (LORAS, CHECKPOINTS, *OTHER_MODELS)}
        self._roots["diffusion_models"].insert(0, models / "unet")
        self._roots["text_encoders"].append(models / "clip")
        beside = Path(os.path.abspath(models)).parent  # noqa: PTH100 - not behind a link
        for extra in [*extra_folders(beside / NAME), *extra_folders(models / NAME)]:
            roots = self._roots.get(folder_kind(extra.kind))
            if roots is not None:
                others = [root for root in roots if root != extra.path]
                is_there = len(others) < len(roots)
                if extra.is_default or not is_there:
                    roots[:] = [extra.path, *others] if extra.is_default else [*others, extra.path]

    def roots(self, kind: str) -> list[Path]:
        """Return the folders of a kind, those first into which a new file goes."""
        return sorted(self._roots[kind], key=lambda root: root.name in _OLD_NAMES)

    def names(self, kind: str) -> list[str]:
        return list(self.files(kind))

    def listing(self, kind: str, hashes: Hashes) -> Listing:
        return self.listing_of(kind, self.files(kind), hashes)

    def listing_of(self, kind: str, files: Mapping[str, Path], hashes: Hashes) -> Listing:
        return Listing(list(files), files.__getitem__, str(self.roots(kind)[0]), hashes)

    def files(self, kind: str) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for root in self._roots[kind]:
            for path in files_below(root):
                if path.suffix.lower() in ENDINGS:
                    found.setdefault(path.relative_to(root).as_posix(), path)
        return found

    def name_of(self, kind: str, path: Path) -> str | None:
        """Return the name under which a file would be listed, None if it would not be."""
        root = next((root for root in self._roots[kind] if path.is_relative_to(root)), None)
        return None if root is None or path.suffix.lower() not in ENDINGS else path.relative_to(root).as_posix()


def folder_kind(folder: str) -> str:
    """Return what a folder of this name holds."""
    return _OLD_NAMES.get(folder, folder)
