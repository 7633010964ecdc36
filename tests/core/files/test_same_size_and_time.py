"""A file of the same size and time is not the same file: in what is remembered, proved, and read for hours."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import lora_core
from lora_core.errors import FileChangedError, ReceiptError
from lora_core.files.hashes import Hashes, content_hash
from lora_core.files.openfile import OpenFile
from lora_core.library.precheck import _mark
from tests import tiny
from tests.core import samples


def written_over(path: Path, other: Path) -> None:
    """In place, as `rsync --inplace --times` does."""
    with path.open("r+b") as file:
        file.write(other.read_bytes())


def renamed_over(path: Path, other: Path) -> None:
    shutil.copy2(other, path.with_name("copy"))
    path.with_name("copy").replace(path)


def one_bit(path: Path, other: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))


WAYS = [written_over, renamed_over, one_bit]
Way = Callable[[Path, Path], None]


def wait_for_the_clock(path: Path) -> None:
    """A change within one step of the file system's clock has the time of the last one."""
    probe = path.with_name("probe")
    probe.touch()
    while probe.stat().st_ctime_ns <= path.stat().st_ctime_ns:
        probe.unlink()
        probe.touch()
    probe.unlink()


def swap(path: Path, other: Path, way: Way) -> None:
    """Put other content of the same size, time and mode there."""
    before = path.stat()
    wait_for_the_clock(path)
    way(path, other)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


class Merged:
    def __init__(self, folder: Path) -> None:
        self.base = tiny.make_tiny("flux", folder / "base.safetensors", dtype=torch.bfloat16)
        tensors = {key: tensor + 1 for key, tensor in samples.load(self.base).items()}
        self.other = samples.save(folder / "other.safetensors", tensors, samples.metadata_of(self.base))
        self.lora = tiny.make_lora(folder / "lora.safetensors", tiny.flat("lora_unet_", tiny.modules("flux")), 2)
        self.out = folder / "out.safetensors"


@pytest.fixture
def merged(tmp_path: Path) -> Merged:
    return Merged(tmp_path)


@pytest.mark.attack(17)
@pytest.mark.parametrize("way", WAYS)
def test_a_hash_is_forgotten_when_a_file_of_the_same_size_and_time_takes_its_place(merged: Merged, way: Way) -> None:
    store = merged.out.with_name("hashes.json")
    first = Hashes(store).of(merged.base)
    assert Hashes(store).known(merged.base) == first
    mark = _mark(merged.base)
    swap(merged.base, merged.other, way)
    assert Hashes(store).known(merged.base) == ""
    assert Hashes(store).of(merged.base) == content_hash(merged.base) != first
    assert _mark(merged.base) != mark  # nor does the look at a stack take it for the old one


@pytest.mark.attack(17)
@pytest.mark.parametrize("way", WAYS)
def test_a_receipt_and_verify_see_the_new_base(merged: Merged, way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lora_core.receipts.hashing.LARGE", 0)
    hashes = Hashes()
    report = lora_core.merge(merged.base, [merged.lora], merged.out, hashes=hashes)
    assert lora_core.verify(merged.out, base=merged.base, loras=[merged.lora], hashes=hashes).verified["equal"]
    swap(merged.base, merged.other, way)
    text = samples.message(
        ReceiptError, lambda: lora_core.verify(merged.out, base=merged.base, loras=[merged.lora], hashes=hashes)
    )
    assert "base.safetensors: is not the base that was merged into" in text
    again = lora_core.merge(merged.base, [merged.lora], merged.out, overwrite=True, hashes=hashes)
    assert again.inputs[0]["sha256"] == content_hash(merged.base) != report.inputs[0]["sha256"]


@pytest.mark.attack(17)
def test_verify_does_not_believe_what_is_remembered(merged: Merged, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows, or a file system without inodes, a file may have every mark of another."""
    lora_core.merge(merged.base, [merged.lora], merged.out)
    hashes = Hashes()
    hashes.of(merged.base)
    shutil.copyfile(merged.other, merged.base)
    monkeypatch.setattr(Hashes, "known", lambda self, path: next(iter(self._entries().values()))[1])
    found = {"base": merged.base, "loras": [merged.lora], "hashes": hashes}
    samples.message(ReceiptError, lambda: lora_core.verify(merged.out, **found))


@pytest.mark.attack(17)
def test_a_base_that_is_swapped_after_it_was_hashed_is_no_proof(
    merged: Merged, monkeypatch: pytest.MonkeyPatch
) -> None:
    lora_core.merge(merged.base, [merged.lora], merged.out)
    shutil.copy2(merged.base, merged.base.with_name("kept"))
    swap(merged.base, merged.other, written_over)
    lora_core.merge(merged.base, [merged.lora], merged.out.with_name("of_other.safetensors"))
    receipt = samples.metadata_of(merged.out)["lora_core.receipt"]
    lie = samples.load(merged.out.with_name("of_other.safetensors"))
    samples.save(merged.out, lie, {"lora_core.receipt": receipt})
    merged.base.with_name("kept").replace(merged.base)
    computed = Hashes.computed

    def and_swapped(self: Hashes, path: Path) -> str:
        digest = computed(self, path)
        if path == merged.base:
            swap(merged.base, merged.other, renamed_over)
        return digest

    monkeypatch.setattr(Hashes, "computed", and_swapped)
    text = samples.message(
        FileChangedError, lambda: lora_core.verify(merged.out, base=merged.base, loras=[merged.lora])
    )
    assert text == "base.safetensors: changed while it was compared with the receipt; run again."


@pytest.mark.attack(31)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("what", ["base", "lora"])
def test_a_change_with_the_old_time_during_a_merge_is_noticed(merged: Merged, way: Way, what: str) -> None:
    changed: Path = getattr(merged, what)
    other = merged.other
    if what == "lora":
        samples.save(changed, samples.load(changed), samples.metadata_of(changed))
        tensors = {key: tensor + 1 for key, tensor in samples.load(changed).items()}
        other = samples.save(other.with_name("b"), tensors, samples.metadata_of(changed))
    done = list[bool]()

    def change(step: int, total: int) -> None:
        if not done and step > 0:
            done.append(True)
            swap(changed, other, way)

    text = samples.message(
        FileChangedError, lambda: lora_core.merge(merged.base, [merged.lora], merged.out, on_step=change)
    )
    assert text == f"{changed.name}: changed while it was being read; run again when it is complete."
    assert done and not merged.out.exists()


@pytest.mark.attack(31)
def test_reading_a_file_is_no_change_of_it(merged: Merged) -> None:
    file = OpenFile(merged.base, "a file")
    merged.base.read_bytes()
    assert merged.base in merged.base.parent.iterdir()
    file.check_unchanged()
    file.close()
