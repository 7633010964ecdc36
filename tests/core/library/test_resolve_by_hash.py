"""Which file a name of a shared workflow means: renamed and moved files, Windows' paths, files of the same name."""

from __future__ import annotations

import hashlib
import json
import os
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lora_core.errors import AmbiguousFileError, FileFormatError, NoSuchFileError
from lora_core.files.hashes import Hashes, content_hash
from lora_core.library.listing import Listing
from lora_core.library.stackfiles import located, missing_files, notes_of, rows_in_use
from lora_core.stack.entry import StackEntry
from lora_core.stack.rows import parse_rows

Make = Callable[[Mapping[str, int]], Listing]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Return a function that makes LoRA files, each with tensors of its own seed, and lists them."""

    def listing(files: Mapping[str, int]) -> Listing:
        for name, seed in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            generator = torch.Generator().manual_seed(seed)
            save_file({"a.lora_up.weight": torch.randn(4, 4, generator=generator)}, path, {"seed": str(seed)})
        return Listing(list(files), tmp_path.joinpath, "the loras folder")

    return listing


def known(listing: Listing, name: str) -> tuple[int, str]:
    path = listing.path(name)
    return path.stat().st_size, content_hash(path)


def test_hash_is_of_what_follows_the_header(make: Make, tmp_path: Path) -> None:
    data = make({"a.safetensors": 1}).path("a.safetensors").read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    assert content_hash(tmp_path / "a.safetensors") == hashlib.sha256(data[start:]).hexdigest()
    (tmp_path / "b.pt").write_bytes(b"PK\x03\x04 and more")
    assert content_hash(tmp_path / "b.pt") == hashlib.sha256(b"PK\x03\x04 and more").hexdigest()
    (tmp_path / "empty").touch()
    assert content_hash(tmp_path / "empty") == hashlib.sha256(b"").hexdigest()
    with pytest.raises(FileFormatError, match="no such file"):
        content_hash(tmp_path / "gone")


def test_hash_survives_other_metadata(tmp_path: Path) -> None:
    tensors = {"a": torch.ones(8)}
    for name, metadata in (("one", {"title": "x"}), ("two", {"title": "another", "more": "y"})):
        save_file(tensors, tmp_path / name, metadata)
    assert content_hash(tmp_path / "one") == content_hash(tmp_path / "two")


def test_hashes_are_kept_until_the_file_changes(make: Make, tmp_path: Path) -> None:
    store = tmp_path / "user/hashes.json"
    path = make({"a.safetensors": 1}).path("a.safetensors")
    first = Hashes(store).of(path)
    assert Hashes(store).known(path) == first == content_hash(path)
    assert str(tmp_path) not in store.read_text()
    make({"a.safetensors": 2})
    os.utime(path, ns=(0, 1))
    assert Hashes(store).known(path) == ""
    assert Hashes(store).of(path) == content_hash(path) != first


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"hashes": 7}', b'{"hashes": {"a": [1]}}', b'{"hashes": {"a": [1, 2, "x"]}}']
)
def test_a_broken_store_is_ignored(make: Make, tmp_path: Path, content: bytes) -> None:
    store = tmp_path / "hashes.json"
    store.write_bytes(content)
    path = make({"a.safetensors": 1}).path("a.safetensors")
    hashes = Hashes(store)
    assert hashes.known(path) == ""
    assert hashes.of(path) == content_hash(path)
    assert len(json.loads(store.read_bytes())["hashes"]) == 1


def test_a_store_that_can_not_be_written_is_not_missed(make: Make, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = make({"a.safetensors": 1}).path("a.safetensors")
    assert Hashes(tmp_path / "file/hashes.json").of(path) == content_hash(path)


def test_a_renamed_file_is_found_by_its_content(make: Make) -> None:
    before = make({"styles/ink.safetensors": 1})
    size, digest = known(before, "styles/ink.safetensors")
    found = make({"sub/ink2.safetensors": 1, "other.safetensors": 2}).find("styles/ink.safetensors", size, digest)
    assert (found.name, found.how) == ("sub/ink2.safetensors", "hash")
    assert found.note == "styles/ink.safetensors: found as sub/ink2.safetensors (by its content)."


@pytest.mark.parametrize(
    "name",
    ["C:\\ComfyUI\\models\\loras\\styles\\ink.safetensors", "\\\\server\\share\\ink.safetensors",
     "/home/me/loras/ink.safetensors", "moved/INK.safetensors"],
)  # fmt: skip
def test_paths_of_other_machines(make: Make, name: str) -> None:
    found = make({"styles/ink.safetensors": 1, "x/other.safetensors": 2}).find(name)
    assert (found.name, found.how) == ("styles/ink.safetensors", "base name")


def test_letters_that_systems_write_differently(make: Make) -> None:
    name = unicodedata.normalize("NFD", "Stil/Größe é.safetensors")
    found = make({unicodedata.normalize("NFC", "stil/größe é.safetensors"): 1}).find(name)
    assert found.how == "case"


def test_two_of_the_same_name_are_told_apart_by_content(make: Make) -> None:
    listing = make({"a/face.safetensors": 1, "b/face.safetensors": 2})
    for name in listing.names:
        size, digest = known(listing, name)
        found = listing.find("people/face.safetensors", size, digest)
        assert (found.name, found.how) == (name, "base name")
    with pytest.raises(AmbiguousFileError) as error:
        listing.find("people/face.safetensors")
    assert error.value.candidates == ("a/face.safetensors", "b/face.safetensors")
    size, _ = known(listing, "a/face.safetensors")
    with pytest.raises(AmbiguousFileError):
        listing.find("people/face.safetensors", size, "0" * 64)


def test_the_same_content_twice_is_no_guess(make: Make) -> None:
    listing = make({"a/one.safetensors": 1, "b/two.safetensors": 1})
    with pytest.raises(AmbiguousFileError) as error:
        listing.find("three.safetensors", *known(listing, "a/one.safetensors"))
    assert error.value.candidates == ("a/one.safetensors", "b/two.safetensors")


def test_content_counts_more_than_the_base_name(make: Make) -> None:
    listing = make({"b/face.safetensors": 2, "renamed.safetensors": 1})
    size, digest = known(listing, "renamed.safetensors")
    assert listing.find("a/face.safetensors", size, digest).name == "renamed.safetensors"


def test_another_file_of_the_same_name_is_told(make: Make) -> None:
    listing = make({"b/face.safetensors": 2})
    size, _ = known(listing, "b/face.safetensors")
    for saved in ((size, "0" * 64), (size + 1, "0" * 64), (size + 1, "")):
        found = listing.find("a/face.safetensors", *saved)
        assert (found.name, found.how) == ("b/face.safetensors", "base name")
        assert "another file of the same name" in found.note
    assert "another file" not in listing.find("a/face.safetensors", size).note
    assert "another file" in listing.find("b/face.safetensors", size + 1).note  # the exact name, another size
    assert listing.find("b/face.safetensors", size).note == ""


def test_only_files_of_the_saved_size_are_read(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = make({"a.safetensors": 1, "b.safetensors": 2, "c.safetensors": 3})
    with listing.path("b.safetensors").open("ab") as file:
        file.write(b"more")
    size, digest = known(listing, "c.safetensors")
    read: list[str] = []
    of = Hashes.of
    monkeypatch.setattr(Hashes, "of", lambda self, path, *more: (read.append(path.name), of(self, path, *more))[1])
    assert listing.find("gone.safetensors", size, digest).name == "c.safetensors"
    assert sorted(read) == ["a.safetensors", "c.safetensors"]
    read.clear()
    listing.find("a.safetensors", size, digest)
    assert read == []


def test_all_missing_rows_in_one_error(make: Make) -> None:
    listing = make({"a/face.safetensors": 1, "b/face.safetensors": 2, "ink.safetensors": 3})
    rows = [
        {"name": "ink.safetensors", "low": "low.safetensors", "low_hash": "b" * 64, "low_size": 5},
        {"name": "gone.safetensors", "hash": "a" * 64, "size": 7},
        {"name": "off.safetensors", "on": False},
        {"name": "c/face.safetensors"},
    ]
    assert missing_files(rows_in_use(parse_rows(rows)), listing) == (
        "row 1, low noise: low.safetensors: no such file in the loras folder (AutoV3 bbbbbbbbbbbb).\n"
        "row 2: gone.safetensors: no such file in the loras folder (AutoV3 aaaaaaaaaaaa).\n"
        "row 4: c/face.safetensors: several files in the loras folder fit: a/face.safetensors, b/face.safetensors; "
        "choose one of them.\n"
        "Put what is missing into the loras folder, choose other files, or switch it off; to find one, search "
        "civitai.com or your model manager for its AutoV3 hash."
    )
    with pytest.raises(NoSuchFileError, match=r"LoRA 2: gone\.safetensors: no such file"):
        located([StackEntry("ink.safetensors", 1, 1), StackEntry("gone.safetensors", 1, 1)], listing)


def test_located_entries_keep_what_they_have(make: Make) -> None:
    listing = make({"ink.safetensors": 1, "low.safetensors": 2})
    low = StackEntry("x/low.safetensors", 0.5, 0.5)
    (found,) = located([StackEntry("INK.safetensors", 1, 2, blocks="te=0", low=low)], listing)
    assert tuple(found) == ("ink.safetensors", 1, 2)
    assert (found.blocks, found.path) == ("te=0", str(listing.path("ink.safetensors")))
    assert found.low is not None and found.low.path == str(listing.path("low.safetensors"))
    assert notes_of([found]) == [
        "INK.safetensors: found as ink.safetensors (by the same name in other letters).",
        "x/low.safetensors: found as low.safetensors (by its base name).",
    ]
    assert located([found], listing) == [found]
