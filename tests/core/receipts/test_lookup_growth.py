"""Files of rows, receipts and modules are found by look-up: twice as many of both cost twice as much."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lora_core.library.listing import Listing
from lora_core.reading.placefinder import PlaceFinder
from lora_core.receipts.inputfinder import InputFinder
from lora_core.receipts.readback import ReadReceipt
from lora_core.stack.matching import PlacedSpec
from tests import growing


class Asked(dict[Path, int]):
    """Hashes that are the names of the files; counts how often each is asked for."""

    def of(self, path: Path, *_: Any) -> str:
        self[path] = self.get(path, 0) + 1
        return path.stem

    computed = of

    def known(self, path: Path) -> str:
        return ""


def no_hashes() -> Any:
    return Asked()


def _nothing(*_: Any) -> None:
    """Stand in for the look at what lies beside a LoRA."""


def _look_up(names: Sequence[str], param: str) -> tuple[tuple[str, ...], str]:
    return ("target",), "without a prefix"


def made(folder: Path, count: int) -> list[Path]:
    folder.mkdir(exist_ok=True)
    files = [folder / f"{number:064x}.safetensors" for number in range(count)]
    for file in files:
        if not file.exists():
            file.write_bytes(b"12345678")
    return files


@pytest.mark.attack(13)
def test_rows_are_found_by_content(tmp_path: Path) -> None:
    def prepare(count: int) -> growing.Run:
        files, asked = made(tmp_path / str(count), count), no_hashes()
        listing = Listing([f"d{n}/same.safetensors" for n in range(count)],
                          lambda name: files[int(name[1 : name.index("/")])], "here", asked)  # fmt: skip

        def run() -> None:
            for file in files:
                assert listing.find("same.safetensors", 8, file.stem).name == f"d{int(file.stem, 16)}/same.safetensors"
                assert listing.find("other.safetensors", 8, file.stem).how == "hash"
            assert max(asked.values()) <= 2  # as one of its name, and as one of all

        return run

    assert growing.exponent(prepare, 25) < 1.2


@pytest.mark.attack(13)
@pytest.mark.parametrize("given", [True, False])
def test_inputs_of_a_receipt_are_found_once(given: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(InputFinder, "_check_beside", _nothing)

    def prepare(count: int) -> growing.Run:
        folder = tmp_path / str(count)
        base, *files = made(folder, count + 1)
        entries = [{"name": "x", "bytes": 8, "sha256": file.stem} for file in (base, *files)]
        receipt = ReadReceipt("merge", {}, {"base": entries[:1], "loras": entries[1:]}, {})
        asked = no_hashes()

        def run() -> None:
            finder = InputFinder("m", receipt, [folder], asked)
            found = finder.inputs(base, [(file, 1.0) for file in reversed(files)] if given else [])
            assert [path for path, *_ in found.loras] == files
            assert max(asked.values()) <= 2

        return run

    assert growing.exponent(prepare, 25) < 1.2


@pytest.mark.attack(13)
def test_one_lora_many_times_at_other_strengths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(InputFinder, "_check_beside", _nothing)
    base, file = made(tmp_path, 2)

    def prepare(count: int) -> growing.Run:
        loras = [{"name": "x", "bytes": 8, "sha256": file.stem, "strength_model": n / 100, "strength_clip": n / 100}
                 for n in range(count)]  # fmt: skip
        receipt = ReadReceipt(
            "merge", {}, {"base": [{"name": "b", "bytes": 8, "sha256": base.stem}], "loras": loras}, {}
        )

        def run() -> None:
            given = [(file, n / 100) for n in reversed(range(count))]
            found = InputFinder("m", receipt, [], no_hashes()).inputs(base, given)
            assert [model for _, model, *_ in found.loras] == [n / 100 for n in range(count)]

        return run

    assert growing.exponent(prepare, 25) < 1.2


class Name(str):
    """A text that counts how often it is compared with another."""

    compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Name.compared += 1
        return str(self) == str(other)


@pytest.mark.attack(13)
def test_modules_without_effect_are_told_once() -> None:
    report: Any = SimpleNamespace(without_effect=[])
    changing: dict[str, bool] = {}
    Name.compared = 0
    for number in range(2_000):
        spec: Any = SimpleNamespace(module=Name(f"m{number}"))
        none: Any = None
        PlacedSpec(none, spec, none, 1.0, report, changing).tell(changes=False)
    assert len(report.without_effect) == 2_000
    assert Name.compared < 20_000


@pytest.mark.attack(13)
def test_modules_that_are_read_otherwise_are_told_once() -> None:
    modules = [Name(f"m{number}") for number in range(2_000)]
    specs = [SimpleNamespace(module=one, names=(one,), param="weight", optional=True) for one in modules]
    lora: Any = SimpleNamespace(adapters=specs)
    keymap: Any = SimpleNamespace(look_up_first=_look_up)
    finder = PlaceFinder(lora, keymap)
    Name.compared = 0
    for spec in [*specs, *specs]:
        any_spec: Any = spec
        finder.find(any_spec)
    assert len(finder.read_as["without a prefix"]) == 2_000
    assert Name.compared < 40_000
