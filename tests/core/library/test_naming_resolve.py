"""Where results go, and which file a name means."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_core.errors import FileFormatError, OutputError
from lora_core.files.names import checked_prefix, new_path
from lora_core.library.listing import resolve


def test_counts_on_over_all_roots(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    (second / "sub").mkdir(parents=True)
    (second / "sub/Merged_00007_.safetensors").touch()
    path = new_path([first, second], "sub/merged")
    assert path == first / "sub/merged_00008_.safetensors"
    assert path.parent.is_dir()
    assert not path.exists()


@pytest.mark.parametrize(
    "prefix",
    ["", " ", "..", "../x", "a/../x", "/x", "a//b", "~/../x/..", "con", "sub/NUL.txt", "a:b", "C:x", "x\0", "x\ny",
     "a.", "dir /x", "\\\\server\\x", "é" * 101, "what?", "x|y"],
)  # fmt: skip
@pytest.mark.case(28)
def test_refused_prefixes(prefix: str) -> None:
    with pytest.raises(OutputError, match="can't be part of a file name"):
        checked_prefix(prefix)


@pytest.mark.parametrize(
    "prefix, parts",
    [("merged", ["merged"]), ("a\\b", ["a", "b"]), ("é/日本.v2", ["é", "日本.v2"]), ("x.safetensors", ["x"])],
)
def test_accepted_prefixes(prefix: str, parts: list[str]) -> None:
    assert checked_prefix(prefix) == parts


@pytest.mark.case(28, 29)
def test_a_link_out_of_the_root_is_refused(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "link").symlink_to(outside)
    with pytest.raises(OutputError, match="leads out of the folder root"):
        new_path([root], "link/x")
    assert list(outside.iterdir()) == []


@pytest.mark.case(28)
@given(prefix=st.text(max_size=40) | st.lists(st.sampled_from(["..", ".", "a", "/", "\\", "~", "C:"])).map("".join))
def test_a_path_stays_in_its_root(tmp_path_factory: pytest.TempPathFactory, prefix: str) -> None:
    root = tmp_path_factory.getbasetemp() / "contained"
    root.mkdir(exist_ok=True)
    try:
        path = new_path([root], prefix)
    except OutputError:
        return
    assert os.path.commonpath((os.path.realpath(path), os.path.realpath(root))) == os.path.realpath(root)
    assert path.name.endswith("_00001_.safetensors")


LISTED = ["styles/ink.safetensors", "Detail.safetensors", "a/face.safetensors", "b/face.safetensors"]


@pytest.mark.parametrize(
    "name, found",
    [
        ("styles/ink.safetensors", "styles/ink.safetensors"),
        ("styles\\ink.safetensors", "styles/ink.safetensors"),
        ("STYLES/Ink.safetensors", "styles/ink.safetensors"),
        ("detail.safetensors", "Detail.safetensors"),
        ("moved/ink.safetensors", "styles/ink.safetensors"),
    ],
)
def test_resolves_tolerantly(name: str, found: str) -> None:
    assert resolve(name, LISTED, "the loras folder") == found


def test_never_guesses_between_two() -> None:
    with pytest.raises(FileFormatError) as error:
        resolve("c/face.safetensors", LISTED, "the loras folder")
    assert str(error.value) == (
        "c/face.safetensors: several files in the loras folder fit: a/face.safetensors, b/face.safetensors; "
        "choose one of them."
    )


def test_a_missing_file_is_named() -> None:
    with pytest.raises(FileFormatError) as error:
        resolve("gone.safetensors", LISTED, "the loras folder")
    assert str(error.value) == ("gone.safetensors: no such file in the loras folder; put it there or choose another.")
