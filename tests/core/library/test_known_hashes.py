"""Before a run a file is found by what is known of contents; only a run reads files to tell which one is meant."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lora_core.errors import AmbiguousFileError, NoSuchFileError, NotHashedError
from lora_core.files.hashes import Hashes, content_hash
from lora_core.library.listing import LONGEST_NAME, Listing
from lora_core.library.precheck import Precheck
from lora_core.library.stackfiles import MOST_LINES, located, missing_files, possible_files
from lora_core.stack.entry import StackEntry
from tests.packparts import PACK, part

COUNT = 40
SIZE = 1_000


@pytest.fixture
def names(tmp_path: Path) -> list[str]:
    """Many files of one size, and one of another."""
    for number in range(COUNT):
        (tmp_path / f"{number}.bin").write_bytes(bytes([number]) * SIZE)
    (tmp_path / "other.bin").write_bytes(b"other")
    return [path.name for path in sorted(tmp_path.iterdir())]


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are hashed, as it happens, by any copy of lora_core."""
    found: list[str] = []

    def counted(path: Path, *more: Any) -> str:
        found.append(Path(path).name)
        return content_hash(path, *more)

    for module in [module for name, module in sys.modules.items() if name.endswith("lora_core.files.hashes")]:
        monkeypatch.setattr(module, "content_hash", counted)
    return found


def listed(folder: Path, names: list[str], hashes: Hashes | None = None, **more: Any) -> Listing:
    return Listing(names, folder.joinpath, "the loras folders", hashes or Hashes(), **more)


def gone(folder: Path, number: int = 7) -> StackEntry:
    return StackEntry("gone.bin", 1, 1, size=SIZE, hash=content_hash(folder / f"{number}.bin"))


@pytest.mark.attack(5)
def test_before_a_run_no_file_is_hashed(tmp_path: Path, names: list[str], hashed: list[str]) -> None:
    entry = gone(tmp_path)
    before = listed(tmp_path, names, on_step=None)
    assert missing_files([("row 1", entry)], before) == ""
    assert len(possible_files([entry], before)) == COUNT
    with pytest.raises(NotHashedError) as error:
        before.find(entry[0], entry.size, entry.hash)
    assert str(error.value).startswith("gone.bin: only the content of files of its size can tell which it is: 0.bin, ")
    row = {"name": entry[0], "size": entry.size, "hash": entry.hash}
    (found,) = Precheck().check(None, [row], before)["rows"]
    assert (found["state"], found["name"]) == ("unknown", None)
    assert hashed == []


@pytest.mark.attack(5)
def test_what_is_known_is_used_before_a_run(tmp_path: Path, names: list[str], hashed: list[str]) -> None:
    entry, hashes = gone(tmp_path), Hashes()
    hashes.of(tmp_path / "7.bin")
    hashed.clear()
    before = listed(tmp_path, names, hashes, on_step=None)
    assert before.find(entry[0], entry.size, entry.hash).name == "7.bin"
    assert possible_files([entry], before) == ["7.bin"]
    assert hashed == []


def test_a_run_hashes_each_file_once_tells_how_far_it_is_and_can_be_cancelled(
    tmp_path: Path, names: list[str], hashed: list[str]
) -> None:
    steps: list[tuple[int, int]] = []
    run = listed(tmp_path, names, on_step=lambda done, total: steps.append((done, total)))
    entries = [gone(tmp_path, 7), gone(tmp_path, 9)] * 20
    hashed.clear()
    assert [entry[0] for entry in located(entries, run)] == ["7.bin", "9.bin"] * 20
    assert sorted(hashed) == sorted(name for name in names if name != "other.bin")
    assert steps == [(SIZE * number, SIZE * COUNT) for number in range(COUNT)]

    def cancel(_: int, __: int) -> None:
        raise InterruptedError

    hashed.clear()
    with pytest.raises(InterruptedError):
        located(entries, listed(tmp_path, names, on_step=cancel))
    assert len(hashed) == 1


def test_a_run_says_what_is_missing_after_all(tmp_path: Path, names: list[str]) -> None:
    entry = StackEntry("gone.bin", 1, 1, size=SIZE, hash="0" * 64)
    with pytest.raises(NoSuchFileError, match=r"LoRA 1: gone\.bin: no such file"):
        located([entry], listed(tmp_path, names))


@pytest.mark.attack(5)
@pytest.mark.parametrize("digest", ["x", "0" * 63, "0" * 12, "g" * 64, "0" * 10_000])
def test_what_is_no_hash_has_nothing_read(tmp_path: Path, names: list[str], hashed: list[str], digest: str) -> None:
    for more in ({}, {"on_step": None}):
        with pytest.raises(NoSuchFileError) as error:
            listed(tmp_path, names, **more).find("gone.bin", SIZE, digest)
        assert not isinstance(error.value, NotHashedError)
    assert hashed == []


@pytest.mark.attack(13)
def test_many_rows_ask_for_each_file_once(tmp_path: Path, names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []
    known = Hashes.known
    monkeypatch.setattr(Hashes, "known", lambda self, path: (asked.append(path), known(self, path))[1])
    before = listed(tmp_path, names, on_step=None)
    possible_files([StackEntry("gone.bin", 1, 1, size=SIZE, hash=f"{number:064x}") for number in range(200)], before)
    assert len(asked) == COUNT


def test_errors_are_a_screen_at_most(tmp_path: Path) -> None:
    names = [f"{number}/face.bin" for number in range(500)]
    for name in names:
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    with pytest.raises(AmbiguousFileError) as error:
        listed(tmp_path, names).find("x/face.bin")
    assert len(str(error.value)) < 200
    assert len(error.value.candidates) == 100
    entries = [(f"row {number}", StackEntry(f"gone{number}", 1, 1)) for number in range(2_000)]
    lines = missing_files(entries, listed(tmp_path, names)).split("\n")
    assert lines[MOST_LINES] == f"And {2_000 - MOST_LINES} more."
    assert len(lines) == MOST_LINES + 2
    with pytest.raises(NoSuchFileError) as missing:
        listed(tmp_path, names).find("x" * (LONGEST_NAME + 1))
    assert len(str(missing.value)) < 200


@pytest.fixture
def nodes_library(tmp_path: Path, names: list[str]) -> Iterator[Any]:
    """nodes/library.py on the files, with as much of the host as it needs."""
    host: Any = ModuleType(f"{PACK}.nodes.host")
    host.own_file = tmp_path.joinpath
    host.lora_names, host.listed_lora = lambda: names, tmp_path.joinpath
    host.file_marks = lambda find, name: [(name, find(name).stat().st_size)]
    host.progress = lambda: lambda _, __: None
    sys.modules.pop(f"{PACK}.nodes.library", None)
    sys.modules[host.__name__] = host
    yield part("library")
    for name in ("host", "library"):
        sys.modules.pop(f"{PACK}.nodes.{name}", None)


@pytest.mark.attack(5)
def test_nodes_hash_nothing_before_they_run(
    tmp_path: Path, nodes_library: Any, names: list[str], request: pytest.FixtureRequest
) -> None:
    entry = gone(tmp_path)
    rows = {"v": 1, "rows": [{"name": entry[0], "size": entry.size, "hash": entry.hash}]}
    hashed = request.getfixturevalue("hashed")  # of the pack's copy of lora_core too, which is there now
    assert nodes_library.rows_problem(rows) is True
    assert len(nodes_library.rows_fingerprint(rows)) == COUNT
    assert hashed == []
    (found,) = nodes_library.found([entry])
    assert found[0] == "7.bin"
    assert len(hashed) == COUNT
    assert nodes_library.rows_fingerprint(rows) == [("7.bin", SIZE)]
    assert (
        nodes_library.rows_problem({"rows": [{"name": "gone", "size": 5, "hash": "0" * 64}]}) is True
    )  # may be other.bin
    assert "row 1: gone: no such file" in str(nodes_library.rows_problem({"rows": [{"name": "gone"}]}))
