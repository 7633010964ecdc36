"""The member list of a PyTorch file: its counts and sizes are compared with what a model needs before it is read."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lora_core.errors import FileFormatError
from lora_core.files.pytorch.pytorchfile import PickledFile
from lora_core.files.pytorch.ziplist import MAX_MEMBERS
from tests.core import samples
from tests.hostile_pickles import STORAGE, TENSOR, archive, of

MODEL = archive(of(TENSOR))
LIST = MODEL.index(b"PK\1\2")  # where the list begins
END = MODEL.index(b"PK\5\6")
MORE = 2**32 - 1  # a number that stands elsewhere, with 64 bits


def entry(name: bytes = b"x", more: bytes = b"", comment: bytes = b"", nbytes: int = 0, header: int = 0) -> bytes:
    lengths = len(name), len(more), len(comment)
    return (
        struct.pack("<4s6H3L5H2L", b"PK\1\2", *(0,) * 7, nbytes, nbytes, *lengths, 0, 0, 0, header)
        + name
        + more
        + comment
    )


def end(count: int, length: int, start: int, comment: bytes = b"") -> bytes:
    return (
        struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, min(count, 65535), min(count, 65535), length, start, len(comment))
        + comment
    )


def with_list(entries: bytes, count: int, *, length: int | None = None, comment: bytes = b"") -> bytes:
    """The model with more entries behind its three."""
    whole = MODEL[LIST:END] + entries
    return MODEL[:LIST] + whole + end(3 + count, len(whole) if length is None else length, LIST, comment)


def end64(count: int, length: int, start: int, at: int) -> bytes:
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, length, start)
    return record + struct.pack("<4sLQL", b"PK\6\7", 0, at, 1) + end(65535, MORE, MORE)


def changed(field: int, value: bytes, entry_number: int = 1) -> bytes:
    at = -1
    for _ in range(entry_number):
        at = MODEL.index(b"PK\1\2", at + 1)
    return MODEL[: at + field] + value + MODEL[at + field + len(value) :]


BROKEN: dict[str, tuple[Callable[[], bytes], str]] = {
    "65,535 members": (lambda: with_list(entry() * 65_532, 65_532, length=0, comment=b"c" * 65_535), "broken PyTorch"),
    "200,000 members": (
        lambda: MODEL[:LIST] + entry() * 200_000 + end64(200_000, 9_400_000, LIST, LIST + 9_400_000),
        "has more structure",
    ),
    "200,000 members, said to be 4": (
        lambda: with_list(entry() * 200_000, 1),
        "broken PyTorch file: its list of members is longe",
    ),
    "2^64 members": (lambda: MODEL[:END] + end64(2**64 - 1, END - LIST, LIST, END), "has more structure"),
    "2^64 bytes of list": (lambda: MODEL[:END] + end64(3, 2**64 - 1, LIST, END), "has more structure"),
    "list at 2^63": (
        lambda: MODEL[:END] + end64(3, END - LIST, 2**63, END),
        "broken PyTorch file: its list of members is not",
    ),
    "end at 2^63": (lambda: MODEL[:END] + end64(3, END - LIST, LIST, 2**63), "broken PyTorch file: its end is not"),
    "end that is none": (lambda: MODEL[:END] + end64(3, END - LIST, LIST, 0), "broken PyTorch file: its end is not"),
    "more members than entries": (lambda: with_list(b"", 40), "broken PyTorch file: its list of members is shorter"),
    "a name of 64 KB": (lambda: with_list(entry(b"n" * 65_535), 1), "has more structure"),
    "names of 64 KB": (lambda: with_list(entry(b"n" * 65_535) * 100, 100), "has more structure"),
    "more of 64 KB": (lambda: with_list(entry(more=bytes(65_535)), 1), "has more structure"),
    "a comment of 64 KB": (lambda: with_list(entry(comment=bytes(65_535)), 1), "has more structure"),
    "a comment that is cut": (
        lambda: MODEL[:END] + end(3, END - LIST, LIST, b"abc")[:-1],
        "broken PyTorch file: its comment ",
    ),
    "members of one name": (lambda: with_list(entry(b"y") * 2, 2), "the archive has two members of one name; "),
    "members of one place": (
        lambda: changed(42, bytes(4), 3),
        "members of the archive overlap; the file is made to harm.",
    ),
    "members that overlap": (lambda: changed(24, struct.pack("<L", 70), 2), "members of the archive overlap; "),
    "a member in the list": (
        lambda: with_list(entry(b"y", nbytes=4, header=LIST), 1),
        "broken PyTorch file: 'y' lies beyond ",
    ),
    "a member of 2^63 bytes": (
        lambda: with_list(entry(b"y", struct.pack("<HHQQ", 1, 16, 2**63, 2**63), nbytes=MORE), 1),
        "its members claim 9223",
    ),
    "a member that is encrypted": (lambda: changed(8, b"\1\0", 3), "1 member of the archive compressed, e.g. "),
    "something before": (lambda: b"PK\3\4" + MODEL, "broken PyTorch file: its list of members is not"),
    "no list": (lambda: b"PK\3\4" + bytes(100), "broken PyTorch file: File is not a zip file; "),
    "an archive in it": (lambda: archive(MODEL), "holds more than tensors, or is broken, and is not loaded ("),
}


@pytest.mark.attack(24)
@pytest.mark.parametrize("case", BROKEN)
def test_a_list_that_no_model_needs_is_refused_before_it_is_read(tmp_path: Path, case: str) -> None:
    make, expected = BROKEN[case]
    path = tmp_path / "bad.pt"
    path.write_bytes(make())
    tracemalloc.start()
    text = samples.message(FileFormatError, lambda: PickledFile(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert text.startswith(f"bad.pt: {expected}")
    assert peak < 2**20 + 3 * path.stat().st_size  # Python's own reader makes an object of half a KB for each entry
    if case == "200,000 members":
        assert peak < 2**20


def test_the_least_and_the_most_that_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    for content in (
        MODEL,
        MODEL[:END] + end64(3, END - LIST, LIST, END),
        MODEL[:END] + end(3, END - LIST, LIST, b"a note"),
    ):
        path.write_bytes(content)
        with PickledFile(path) as file:
            assert file.tensor("x").tolist() == [0.0] * 16
    assert MAX_MEMBERS > 100_000


@pytest.mark.parametrize("is_long", [False, True])
def test_members_lie_where_the_reference_library_finds_them(tmp_path: Path, is_long: bool) -> None:
    path, out = tmp_path / "x.pt", io.BytesIO()
    torch.save({"x": torch.arange(5)}, tmp_path / "plain.pt")
    with zipfile.ZipFile(tmp_path / "plain.pt") as plain, zipfile.ZipFile(out, "w") as long:
        for member in plain.infolist():
            with long.open(member.filename, "w", force_zip64=is_long) as there:
                there.write(plain.read(member))
    path.write_bytes(out.getvalue())
    with PickledFile(path) as file:
        assert file.tensor("x").tolist() == [0, 1, 2, 3, 4]
    assert STORAGE in TENSOR
