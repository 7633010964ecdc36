"""The demo replaces nothing that is in its folder, whatever has the name of one of its files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lora_core.cli.demo import NAMES, demo
from lora_core.errors import OutputError
from tests.core import samples

pytestmark = pytest.mark.attack(6)


def link(path: Path) -> None:
    path.with_name("precious.txt").write_bytes(b"precious")
    path.symlink_to(path.with_name("precious.txt"))


THERE: dict[str, Callable[[Path], object]] = {
    "a file": lambda path: path.write_bytes(b"precious"),
    "a link": link,
    "a link to nowhere": lambda path: path.symlink_to("gone"),
    "a folder": lambda path: path.mkdir(),
    "a pipe": os.mkfifo,
}


def content(folder: Path) -> list[tuple[str, int, bytes]]:
    found = [(path, path.lstat()) for path in sorted(folder.rglob("*"))]
    return [(path.name, stat.st_mtime_ns, path.read_bytes() if path.is_file() else b"") for path, stat in found]


@pytest.mark.parametrize("what", THERE)
@pytest.mark.parametrize("name", ["model", "merged_from_extracted", "light"])
def test_nothing_is_replaced_and_nothing_written(tmp_path: Path, name: str, what: str) -> None:
    path = tmp_path / "mine" / f"{name}.safetensors"
    path.parent.mkdir()
    THERE[what](path)
    before = content(path.parent)
    text = samples.message(OutputError, lambda: demo(path.parent))
    assert text == (
        f"mine: {path.name} already there, and the demo replaces nothing; name a folder that is empty or does not "
        "exist."
    )
    assert content(path.parent) == before


def test_all_that_is_there_is_named(tmp_path: Path) -> None:
    for name in NAMES:
        (tmp_path / f"{name}.safetensors").touch()
    text = samples.message(OutputError, lambda: demo(tmp_path))
    assert all(f"{name}.safetensors" in text for name in NAMES)


@pytest.mark.parametrize("below", ["file", "file/demo"])
def test_a_file_in_place_of_the_folder_is_one_error(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_bytes(b"precious")
    assert "\n" not in samples.message(OutputError, lambda: demo(tmp_path / below))
    assert (tmp_path / "file").read_bytes() == b"precious"


def test_other_files_of_the_folder_stay(tmp_path: Path) -> None:
    (tmp_path / "mine.safetensors").write_bytes(b"precious")
    demo(tmp_path)
    assert (tmp_path / "mine.safetensors").read_bytes() == b"precious"
    assert len(list(tmp_path.iterdir())) == 1 + len(NAMES)
