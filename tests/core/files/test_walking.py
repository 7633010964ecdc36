"""Folders that links double are listed in few steps, and others under every name that they have."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lora_core.files.walking import MOST_WAYS, files_below
from lora_core.library.modelfolders import ModelFolders

pytestmark = pytest.mark.attack(10)


def doubled(root: Path, links: dict[str, str]) -> Path:
    """Make 40 folders; each holds these links, to the folder that is so many numbers on."""
    for number in range(40):
        (root / f"d{number}").mkdir(parents=True)
        (root / f"d{number}/x.safetensors").touch()
    for number in range(40):
        for name, to in links.items():
            (root / f"d{number}/{name}").symlink_to(f"../d{(number + int(to)) % 40}")
    return root


@pytest.mark.parametrize("links", [{"a": "1", "b": "1"}, {str(to): str(to) for to in range(1, 8)}])
@pytest.mark.parametrize("ways", [1, MOST_WAYS])
def test_links_that_double_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: dict[str, str], ways: int
) -> None:
    root, asked, realpath = doubled(tmp_path / "loras", links), list[str](), os.path.realpath

    def counted(path: str) -> str:
        asked.append(path)
        assert len(asked) < 20_000, "it would never end"
        return realpath(path)

    monkeypatch.setattr(os.path, "realpath", counted)
    found = list(files_below(root, ways))
    monkeypatch.undo()
    assert {path.resolve().parent.name for path in found} == {f"d{number}" for number in range(40)}
    assert len(found) <= 40 * ways


def test_a_folder_is_listed_under_every_link_to_it(tmp_path: Path) -> None:
    (tmp_path / "drive").mkdir()
    (tmp_path / "drive/ink.safetensors").touch()
    loras = tmp_path / "models/loras"
    loras.mkdir(parents=True)
    for number in range(10):
        (loras / f"link{number}").symlink_to(tmp_path / "drive")
    names = ModelFolders(tmp_path / "models").names("loras")
    assert names == [f"link{number}/ink.safetensors" for number in range(10)]
