"""Tensor files: what is read is what the reference library reads, the broken is refused, nothing is half-written."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import stat
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, deserialize, safe_open
from safetensors.torch import load, load_file

from lora_core.errors import FileChangedError, FileFormatError, OutputError
from lora_core.files import dtypes, tensorheader
from lora_core.files.layout import PlannedTensor
from lora_core.files.tensorfile import TensorFile
from lora_core.files.tensorwriter import TensorWriter
from tests.core import samples
from tests.core.samples import F32, raw

RELAXED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
DTYPES = sorted(set(dtypes.DTYPES) - {"F8_E8M0"})  # torch can't fill or compare that one; it has its own test
TORCH = {name: getattr(torch, attribute) for name, (_, attribute) in dtypes.DTYPES.items()}


def write(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None, **options) -> Path:
    plan = [PlannedTensor(n, dtypes.dtype_name(t.dtype), tuple(t.shape)) for n, t in tensors.items()]
    with TensorWriter(path, plan, metadata, **{"overwrite": True, "verify": True} | options) as writer:
        for name, tensor in tensors.items():
            writer.put(name, tensor)
        writer.commit()
    return path


# Round trips

names = st.text(min_size=1, max_size=40).filter(lambda name: name != "__metadata__")
shapes = st.lists(st.integers(0, 5), max_size=4).map(tuple)


@st.composite
def tensor(draw: st.DrawFn) -> torch.Tensor:
    dtype, shape = draw(st.sampled_from(DTYPES)), draw(shapes)
    count = math.prod(shape) * dtypes.DTYPES[dtype][0]
    data = draw(st.binary(min_size=count, max_size=count))
    if dtype == "BOOL":
        data = bytes(byte & 1 for byte in data)
    return torch.frombuffer(bytearray(data), dtype=TORCH[dtype]).reshape(shape) if count else torch.empty(
        shape, dtype=TORCH[dtype]
    )  # fmt: skip


@RELAXED
@given(
    tensors=st.dictionaries(names, tensor(), max_size=5),
    metadata=st.dictionaries(st.text(max_size=20), st.text(max_size=40), max_size=3),
)
def test_what_is_written_the_reference_library_and_we_read_back(
    tmp_path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]
) -> None:
    path = write(tmp_path / "x.safetensors", tensors, metadata)
    found = load_file(path)
    assert found.keys() == tensors.keys()
    assert samples.metadata_of(path) == metadata
    with TensorFile(path) as file:
        assert file.metadata == metadata
        assert list(file) == list(tensors)
        for name, expected in tensors.items():
            assert samples.same_bytes(found[name], expected)
            assert samples.same_bytes(file.tensor(name), expected)
            assert (file[name].shape, TORCH[file[name].dtype]) == (tuple(expected.shape), expected.dtype)


@RELAXED
@given(tensors=st.dictionaries(names, tensor(), min_size=1, max_size=5))
def test_what_the_reference_library_writes_we_read(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    path = samples.save(tmp_path / "x.safetensors", tensors)
    with TensorFile(path) as file:
        assert {name: samples.same_bytes(file.tensor(name), value) for name, value in tensors.items()} == dict.fromkeys(
            tensors, True
        )


def test_every_number_format_of_the_table_is_one_of_the_reference_library(tmp_path: Path) -> None:
    for name, (size, _) in dtypes.DTYPES.items():
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(raw({"x": {"dtype": name, "shape": [3], "data_offsets": [0, 3 * size]}}, bytes(3 * size)))
        with safe_open(path, "np") as file:
            assert list(file.keys()) == ["x"]
        with TensorFile(path) as ours:
            assert ours.tensor("x").element_size() == size
            copied = write(tmp_path / "copy.safetensors", {"x": ours.tensor("x")})
        assert copied.read_bytes()[-3 * size :] == bytes(3 * size)


@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8"])
def test_a_scalar_is_read_without_torch(tmp_path: Path, dtype: str) -> None:
    for shape in ((), (1,), (1, 1)):
        path = samples.save(tmp_path / "x.safetensors", {"alpha": torch.full(shape, 12, dtype=TORCH[dtype])})
        with TensorFile(path) as file:
            assert file.scalar("alpha") == 12.0


def test_a_scalar_that_is_none_is_refused(tmp_path: Path) -> None:
    path = samples.save(tmp_path / "x.safetensors", {"alpha": torch.ones(2)})
    with TensorFile(path) as file:
        assert samples.message(FileFormatError, lambda: file.scalar("alpha")) == (
            "x.safetensors: tensor 'alpha' must hold one number; found F32 of shape (2,)."
        )


@pytest.mark.case(3)
@pytest.mark.parametrize(
    "text",
    [
        b'{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"extra":[1,{}]}}',
        b' \n{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}  ',
        b'{"__metadata__":{"a":"b"},"x":{"data_offsets":[0,8],"shape":[2],"dtype":"F32"}}',
        b'{"../../x<script>":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
    ],
)
def test_odd_but_valid_headers_are_read(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(raw(text, struct.pack("<2f", 1.5, -2)))
    with TensorFile(path) as file:
        (name,) = file
        assert file.tensor(name).tolist() == [1.5, -2] == load_file(path)[name].tolist()


@pytest.mark.parametrize("length", [640, 640 + 65536, 8508, 8508 + 3 * 65536])
def test_a_header_length_that_looks_like_another_format_is_no_other_format(tmp_path: Path, length: int) -> None:
    """The first two bytes of 640 are those of a pickle, those of 8508 are `<!`."""
    text = json.dumps({"x": F32}).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(raw(text + b" " * (length - len(text)), bytes(8)))
    with TensorFile(path) as file:
        assert file.tensor("x").tolist() == [0, 0]


# Refusals

HEADER = {"x": F32}
TWO = {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]}
EIGHT = bytes(8)
DEEP = b'{"x":' + b"[" * 200_000 + b"]" * 200_000 + b"}"


def _entry(**changed: object) -> dict[str, object]:
    return {"x": F32 | changed}


BROKEN: dict[str, tuple[bytes, str]] = {
    # case: (the file's bytes, a part of the message that only this case has)
    "empty": (b"", "expected a safetensors file, found 0 bytes."),
    "shorter than a header can be": (b"\x02\0\0\0\0\0\0\0{", "expected a safetensors file, found 9 bytes."),
    "length 2^63": (raw(HEADER, EIGHT, length=2**63), f"it claims {2**63} bytes, the limit is 100000000."),
    "length above the limit": (raw(HEADER, EIGHT, length=100_000_001), "it claims 100000001 bytes"),
    "length past the end": (raw(HEADER, EIGHT, length=1000), "its header alone needs 1008; download or copy it"),
    "not JSON": (raw(b"hello world!"), "its header is not JSON."),
    "JSON that is cut": (raw(b'{"x":{"dtype":"F32"'), "broken header: "),
    "a JSON list": (raw(b"[1, 2, 3, 4]"), "its header is not JSON."),
    "not UTF-8": (raw(b'{"\xff":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', EIGHT), "can't decode byte 0xff"),
    "half a surrogate pair": (raw(rb'{"\ud800":' + json.dumps(F32).encode() + b"}", EIGHT), "a name is not text."),
    "truncated": (raw(HEADER, EIGHT[:5]), "has 74 bytes, needs 77; download or copy it again."),
    "trailing bytes": (raw(HEADER, EIGHT + b"123"), "3 bytes follow the last tensor; the file is damaged."),
    "hole": (raw({"x": F32, "y": TWO | {"data_offsets": [9, 17]}}, bytes(17)), "tensor 'y' leaves a hole before it."),
    "hole at the start": (raw({"y": TWO}, bytes(16)), "tensor 'y' leaves a hole before it."),
    "overlap": (raw({"x": F32, "y": TWO | {"data_offsets": [4, 12]}}, bytes(12)), "tensor 'y' overlaps another."),
    "two at one place": (raw({"x": F32, "y": F32}, EIGHT), "tensor 'y' overlaps another."),
    "wrong size": (raw(_entry(shape=[3]), EIGHT), "F32 of shape [3] does not fill 8 bytes."),
    "shape overflow": (raw(_entry(shape=[2**32, 2**32]), EIGHT), "[4294967296, 4294967296] has too many elements."),
    "overflow before a zero": (raw(_entry(shape=[2**62, 2**62, 0], data_offsets=[0, 0])), "too many elements"),
    "negative offset": (raw(_entry(data_offsets=[-8, 0]), EIGHT), "-8 is not a size or an offset."),
    "offsets that go back": (raw(_entry(shape=[0], data_offsets=[8, 0]), EIGHT), "does not fill -8 bytes."),
    "negative size": (raw(_entry(shape=[-2]), EIGHT), "-2 is not a size or an offset."),
    "minus zero": (raw(b'{"x":{"dtype":"F32","shape":[-0],"data_offsets":[0,0]}}'), "-0"),
    "a bool as size": (raw(_entry(shape=[True, 2]), EIGHT), "shape [True, 2]"),
    "a fraction as size": (raw(_entry(shape=[2.0]), EIGHT), "shape [2.0]"),
    "three offsets": (raw(_entry(data_offsets=[0, 8, 8]), EIGHT), "data_offsets [0, 8, 8]."),
    "nine dimensions": (raw(_entry(shape=[1] * 8 + [2]), EIGHT), "shape [1, 1, 1, 1, 1, 1, 1, 1, 2]"),
    "duplicate key": (
        raw(b'{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"x":{"dtype":"F32","shape":[1],'
            b'"data_offsets":[0,4]}}', EIGHT), "a key appears twice."),
    "identical duplicate key": (
        raw(b'{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"x":{"dtype":"F32","shape":[2],'
            b'"data_offsets":[0,8]}}', EIGHT), "a key appears twice."),
    "duplicate field": (raw(b'{"x":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}', EIGHT), "twice."),
    "metadata that is no text": (raw({"__metadata__": {"a": 1}, "x": F32}, EIGHT), "must map text to text."),
    "metadata that is a list": (raw({"__metadata__": ["a"], "x": F32}, EIGHT), "__metadata__ must map text to text."),
    "unknown dtype": (raw(_entry(dtype="F128"), EIGHT), "has dtype 'F128', which this version does not know."),
    "dtype that is no text": (raw(_entry(dtype=["F32"]), EIGHT), "has dtype ['F32']"),
    "no dtype": (raw({"x": {"shape": [2], "data_offsets": [0, 8]}}, EIGHT), "has dtype None"),
    "entry that is a list": (raw({"x": [0, 8]}, EIGHT), "expected dtype, shape and data_offsets."),
    "deep JSON": (raw(DEEP), "broken header: "),
    "NaN in the header": (raw(b'{"x":{"shape":[NaN]}}'), "NaN is not a number"),
    "a number of 5000 digits": (raw(b'{"x":{"dtype":"F32","shape":[' + b"1" * 5000 + b"]}}"), "broken header: "),
    "no name": (raw({"": F32}, EIGHT), "tensor name '' is empty or above 512 bytes."),
    "a name of 10 kB": (raw({"n" * 10_000: F32}, EIGHT), "...' is empty or above 512 bytes."),
    "HTML page": (b"<!DOCTYPE html><html><body>404</body></html>", "found an HTML page, probably an error page"),
    "HTML page without a doctype": (b"<HTML><body>login</body></html>", "found an HTML page, probably an error page"),
    "LFS pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "found a Git LFS pointer"),
    "GGUF": (b"GGUF\x03\0\0\0" + bytes(64), "found a GGUF file"),
    "pickle": (b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01K\x01s.", "found a pickled PyTorch file"),
}  # fmt: skip


@pytest.mark.case(1, 2, 5, 12)
@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_refused_by_name_and_reason(tmp_path: Path, case: str) -> None:
    path = tmp_path / "broken.safetensors"
    content, part = BROKEN[case]
    path.write_bytes(content)
    text = samples.message(FileFormatError, lambda: TensorFile(path))
    assert text.startswith("broken.safetensors: ")
    assert text.count("broken.safetensors") == 1
    assert part in text


OURS_ONLY = {  # what the reference library accepts and our limits or rules do not
    "identical duplicate key",
    "length above the limit",
    "nine dimensions",
    "no name",
    "a name of 10 kB",
}


@pytest.mark.case(1)
@pytest.mark.parametrize("case", sorted(BROKEN.keys() - OURS_ONLY))
def test_the_reference_library_refuses_them_too(case: str) -> None:
    with pytest.raises((SafetensorError, ValueError, OverflowError)):
        load(BROKEN[case][0])


@pytest.mark.case(11)
def test_a_zip_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"x" * 100)
    assert samples.message(FileFormatError, lambda: TensorFile(path)) == (
        "model.safetensors: expected a safetensors file, found a zip or PyTorch .ckpt/.pt file; "
        "convert it to safetensors first."
    )


@pytest.mark.case(11)
def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "folder.safetensors"
    folder.mkdir()
    assert samples.message(FileFormatError, lambda: TensorFile(folder)) == (
        "folder.safetensors: is a folder; expected a .safetensors file."
    )
    missing = tmp_path / "missing.safetensors"
    assert samples.message(FileFormatError, lambda: TensorFile(missing)) == (
        f"missing.safetensors: no such file ({missing})."
    )
    assert "can't be opened: embedded null byte" in samples.message(FileFormatError, lambda: TensorFile("a\0b"))
    assert "can't be opened" in samples.message(FileFormatError, lambda: TensorFile("x" * 5000))


def test_a_pipe_is_refused_and_does_not_block(tmp_path: Path) -> None:
    path = tmp_path / "pipe.safetensors"
    os.mkfifo(path)

    def give_up(*_: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(10)  # opening a pipe for reading waits for a writer
    try:
        assert samples.message(FileFormatError, lambda: TensorFile(path)) == (
            "pipe.safetensors: is not a regular file; expected a .safetensors file."
        )
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


@pytest.mark.case(4)
def test_a_header_bomb_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before any of its tensors is looked at."""
    entry = b'"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    path = tmp_path / "bomb.safetensors"
    path.write_bytes(raw(b"{" + b",".join(entry % number for number in range(100_001)) + b"}"))
    monkeypatch.setattr(tensorheader, "_check_info", lambda *_: pytest.fail("a tensor was looked at"))
    assert "100001 tensors; the limit is 100000." in samples.message(FileFormatError, lambda: TensorFile(path))


def test_a_broken_file_is_closed_again(tmp_path: Path) -> None:
    path = tmp_path / "broken.safetensors"
    path.write_bytes(raw(b"hello world!"))
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(20):
        samples.message(FileFormatError, lambda: TensorFile(path))
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


VALID = raw(
    {
        "__metadata__": {"format": "pt"},
        "a.weight": {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]},
        "b": {"dtype": "I64", "shape": [], "data_offsets": [12, 20]},
        "c": {"dtype": "BOOL", "shape": [0, 4], "data_offsets": [20, 20]},
        "d": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [20, 24]},
    },
    bytes(range(24)),
)
HEADER_END = len(VALID) - 24
PIECES = st.sampled_from(
    [
        *(
            b'"',
            b",",
            b"[",
            b"]",
            b"{",
            b"}",
            b"0",
            b"1",
            b"-",
            b"-0",
            b"e3",
            b".",
            b"null",
            b"true",
            b"\\",
            b"\\u0000",
        ),
        *(
            b"\\ud800",
            b"\x00",
            b"\xff",
            b"\t",
            b" ",
            b'"a":1,',
            b'"dtype"',
            b'"shape":[]',
            b"18446744073709551616",
            b"24",
        ),
    ]
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A valid file with a few bytes of its header replaced, removed or put in, its length kept right or not."""
    text = VALID[8:HEADER_END]
    for _ in range(draw(st.integers(1, 3))):
        between = [place for place, byte in enumerate(text) if byte in b'",:[]{}']
        start = draw(st.one_of(st.sampled_from(between or [0]), st.integers(0, len(text))))
        end = min(len(text), start + draw(st.sampled_from([0, 0, 1, 4])))
        text = text[:start] + draw(st.one_of(PIECES, st.binary(max_size=2), st.just(b""))) + text[end:]
    length = draw(st.sampled_from([len(text)] * 5 + [len(text) - 1, len(text) + 24, len(text) + 25, 0]))
    return raw(text, VALID[HEADER_END:], length=length)


@pytest.mark.case(43)
@settings(RELAXED, max_examples=600)
@given(content=mutated())
def test_what_we_accept_the_reference_library_accepts_with_the_same_values(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    try:
        file = TensorFile(path)
    except FileFormatError as error:
        assert str(error).startswith("x.safetensors: ")
        return
    with file, safe_open(path, "np") as reference:
        assert set(file) == set(reference.keys())
        assert file.metadata == (reference.metadata() or {})
        for name in file:
            there = reference.get_slice(name)
            assert (file[name].dtype, list(file[name].shape)) == (there.get_dtype(), there.get_shape())
        data = {name: bytes(entry["data"]) for name, entry in deserialize(content)}
        assert {name: bytes(file.read(name)) for name in file} == data


@pytest.mark.case(43)
@settings(RELAXED, max_examples=300)
@given(content=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_as_a_file_format(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    try:
        TensorFile(path).close()
    except FileFormatError:
        return
    load(content)


# A file that changes while it is read


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return samples.save(tmp_path / "in.safetensors", {"x": torch.arange(1000.0), "y": torch.ones(10)})


@pytest.mark.case(16)
def test_a_file_cut_while_it_is_read(small: Path) -> None:
    with TensorFile(small) as file:
        os.truncate(small, file["y"].start + 8)
        text = samples.message(FileChangedError, lambda: [file.tensor("y"), file.tensor("x")])
        assert text.startswith("in.safetensors: ends at byte ")
        assert text.endswith("; it was cut while being read.")
        samples.message(FileChangedError, file.check_unchanged)
        samples.message(FileChangedError, lambda: [file.hashed("x"), file.hashed("y")])


@pytest.mark.case(17, 18)
def test_a_file_replaced_removed_or_written_to_while_it_is_read(small: Path, tmp_path: Path) -> None:
    expected = "in.safetensors: changed while it was being read; run again when it is complete."
    with TensorFile(small) as file:
        file.check_unchanged()
        other = shutil.copy2(small, tmp_path / "other.safetensors")
        Path(other).replace(small)
        assert samples.message(FileChangedError, file.check_unchanged) == expected
        assert file.tensor("y").tolist() == [1] * 10  # the open file is still the old one
    with TensorFile(small) as file:
        with small.open("r+b") as out:
            out.write(b"\x01")
        os.utime(small, ns=(1, 1))  # whatever the clock's steps
        assert samples.message(FileChangedError, file.check_unchanged) == expected
    small.write_bytes(VALID)
    with TensorFile(small) as file:
        small.unlink()
        assert samples.message(FileChangedError, file.check_unchanged) == (
            "in.safetensors: disappeared while it was being read."
        )


@pytest.mark.case(16)
def test_a_file_cut_while_it_is_copied(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    with TensorFile(small) as file, TensorWriter(out, planned(file)) as writer:
        os.truncate(small, file["x"].start + 100)
        samples.message(FileChangedError, lambda: writer.copy(["x"], file))
    assert not out.exists()
    assert samples.partials(tmp_path) == []


# Writing


def planned(file: TensorFile) -> list[PlannedTensor]:
    return [PlannedTensor(info.name, info.dtype, info.shape) for info in file.in_file_order()]


ONE = [PlannedTensor("x", "F32", (4,))]
FOUR = torch.arange(4.0)


def one(path: Path, **options) -> None:
    with TensorWriter(path, ONE, **options) as writer:
        writer.put("x", FOUR)
        writer.commit()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.safetensors"


def test_without_a_commit_nothing_is_left(out: Path) -> None:
    with TensorWriter(out, ONE) as writer:
        writer.put("x", FOUR)
        assert len(samples.partials(out.parent)) == 1
    assert samples.listing(out.parent) == []


@pytest.mark.case(25)
def test_an_existing_output_is_refused(out: Path) -> None:
    out.write_bytes(b"old")
    assert samples.message(OutputError, lambda: one(out)) == (
        "out.safetensors: already exists; choose another name or allow overwriting."
    )
    assert out.read_bytes() == b"old"
    assert samples.partials(out.parent) == []


@pytest.mark.case(27)
def test_an_output_that_appears_meanwhile_is_not_replaced(out: Path) -> None:
    with TensorWriter(out, ONE) as writer:
        writer.put("x", FOUR)
        out.write_bytes(b"another job's")
        assert samples.message(OutputError, writer.commit) == (
            "out.safetensors: already exists; another job wrote it meanwhile."
        )
    assert out.read_bytes() == b"another job's"
    assert samples.partials(out.parent) == []


@pytest.mark.case(25)
@pytest.mark.parametrize("mode", [0o640, 0o600, 0o664])
def test_overwriting_keeps_the_mode(out: Path, mode: int) -> None:
    out.write_bytes(b"old")
    out.chmod(mode)
    one(out, overwrite=True)
    assert stat.S_IMODE(out.stat().st_mode) == mode
    assert load_file(out)["x"].tolist() == [0, 1, 2, 3]


@pytest.mark.case(25)
@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_a_new_file_has_the_mode_of_the_umask(out: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        one(out)
        assert os.umask(umask) == umask  # and the umask is as it was
    finally:
        os.umask(before)
    assert stat.S_IMODE(out.stat().st_mode) == 0o666 & ~umask


@pytest.mark.case(26)
@pytest.mark.parametrize("way", ["same path", "symlink", "hard link", "another spelling of the folder"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_an_output_that_is_an_input_is_refused(small: Path, way: str, overwrite: bool) -> None:
    before = small.read_bytes()
    out = small.with_name("link.safetensors")
    if way == "same path":
        out = small
    elif way == "symlink":
        out.symlink_to(small)
    elif way == "hard link":
        out.hardlink_to(small)
    else:
        out = small.parent / ".." / small.parent.name / small.name
    assert samples.message(OutputError, lambda: one(out, overwrite=overwrite, inputs=[small])) == (
        f"{out.name}: is also an input; choose another name for the output."
    )
    assert small.read_bytes() == before
    assert samples.partials(small.parent) == []


@pytest.mark.case(25)
def test_what_is_no_file_to_replace_is_refused(out: Path, tmp_path: Path) -> None:
    target = tmp_path / "target.safetensors"
    target.write_bytes(b"old")
    out.symlink_to(target)
    expected = "out.safetensors: is not a regular file and won't be replaced."
    assert samples.message(OutputError, lambda: one(out, overwrite=True)) == expected
    assert out.is_symlink()
    target.unlink()  # and the same for a link to nothing
    assert samples.message(OutputError, lambda: one(out, overwrite=True)) == expected
    out.unlink()
    out.mkdir()
    assert samples.message(OutputError, lambda: one(out, overwrite=True)) == expected


def test_a_name_or_folder_that_does_not_do_is_refused(tmp_path: Path) -> None:
    assert samples.message(OutputError, lambda: one(tmp_path / "out.ckpt")) == (
        "out.ckpt: the output's name must end in .safetensors."
    )
    assert samples.message(OutputError, lambda: one(tmp_path / "no" / "out.safetensors")) == (
        f"out.safetensors: the folder {tmp_path / 'no'} does not exist; create it first."
    )


def test_a_long_name_of_many_bytes_is_written(tmp_path: Path) -> None:
    out = tmp_path / ("墨" * 80 + ".safetensors")  # 252 bytes; file systems allow 255
    one(out)
    assert samples.listing(tmp_path) == [out.name]


@pytest.mark.parametrize(
    ("given_tensor", "found"),
    [
        (torch.zeros(4, dtype=torch.float16), "torch.float16 (4,)"),
        (torch.zeros(5), "torch.float32 (5,)"),
        (torch.zeros(2, 2), "torch.float32 (2, 2)"),
    ],
)
def test_a_tensor_that_is_not_as_planned_is_refused(out: Path, given_tensor: torch.Tensor, found: str) -> None:
    with TensorWriter(out, ONE) as writer:
        assert samples.message(OutputError, lambda: writer.put("x", given_tensor)) == (
            f"out.safetensors: tensor 'x' was planned as torch.float32 (4,), got {found}."
        )
    assert samples.listing(out.parent) == []


def test_a_copy_of_another_shape_is_refused(out: Path, small: Path) -> None:
    with TensorFile(small) as file, TensorWriter(out, ONE) as writer:
        assert samples.message(OutputError, lambda: writer.copy(["x"], file)) == (
            "out.safetensors: tensor 'x' differs from the one to copy."
        )


def test_a_missing_tensor_is_noticed(out: Path) -> None:
    with TensorWriter(out, [*ONE, PlannedTensor("y", "F32", (0,))]) as writer:
        writer.put("x", FOUR)
        assert samples.message(OutputError, writer.commit) == "out.safetensors: 1 planned tensors were not written."
    assert samples.listing(out.parent) == []


def test_a_tensor_planned_twice_is_refused(out: Path) -> None:
    assert samples.message(OutputError, lambda: TensorWriter(out, ONE * 2)) == (
        "out.safetensors: tensor 'x' is planned twice."
    )
    assert samples.listing(out.parent) == []


@pytest.mark.parametrize("make", [lambda t: t.t(), lambda t: t[:, ::2], lambda t: t[1:], lambda t: t.expand(3, 6, 4)])
def test_views_are_written_as_their_elements(out: Path, make: Callable[[torch.Tensor], torch.Tensor]) -> None:
    view = make(torch.arange(24.0).reshape(6, 4))
    write(out, {"x": view})
    assert torch.equal(load_file(out)["x"], view)
    assert out.stat().st_size < 400  # the elements, and not the storage behind the view


def test_an_interrupt_as_soon_as_the_file_is_there_leaves_nothing(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open

    def interrupted(*arguments: Any) -> int:
        os.close(opened(*arguments))
        raise KeyboardInterrupt

    monkeypatch.setattr("lora_core.files.tensorwriter.os.open", interrupted)
    with pytest.raises(KeyboardInterrupt), TensorWriter(out, ONE):
        pass
    assert samples.listing(out.parent) == []


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("exists", [False, True])
def test_an_exception_midway_leaves_nothing(out: Path, error: type[BaseException], exists: bool) -> None:
    if exists:
        out.write_bytes(b"old")
    with pytest.raises(error), TensorWriter(out, ONE, overwrite=True) as writer:
        writer.put("x", FOUR)
        raise error
    assert samples.listing(out.parent) == (["out.safetensors"] if exists else [])
    assert not exists or out.read_bytes() == b"old"


@pytest.mark.case(24)
def test_data_is_on_disk_before_the_file_gets_its_name(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    fsync, replace, link = os.fsync, Path.replace, Path.hardlink_to

    def spy_fsync(fd: int) -> None:
        events.append("fsync folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "fsync file")
        fsync(fd)

    def spy_replace(self: Path, target: Path) -> Path:
        events.append("name")
        return replace(self, target)

    def spy_link(self: Path, target: Path) -> None:
        events.append("name")
        link(self, target)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(Path, "replace", spy_replace)
    monkeypatch.setattr(Path, "hardlink_to", spy_link)
    one(out)
    assert events == ["fsync file", "name", "fsync folder"]
    events.clear()
    one(out, overwrite=True)
    assert events == ["fsync file", "name", "fsync folder"]


@pytest.mark.case(23)
def test_a_failed_fsync_is_an_error_and_leaves_the_old_file(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out.write_bytes(b"old")

    def broken(fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    assert samples.message(OutputError, lambda: one(out, overwrite=True)) == (f"out.safetensors: {samples.DISK_FAILED}")
    assert out.read_bytes() == b"old"
    assert samples.partials(out.parent) == []


@pytest.mark.case(22)
def test_a_full_disk_is_known_before(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 10**6, 10**6))
    text = samples.message(OutputError, lambda: one(out))
    assert text.startswith("out.safetensors: not enough disk space: needs ")
    assert text.endswith(" bytes with reserve, 1000000 are free.")
    assert samples.listing(out.parent) == []


@pytest.mark.case(31)
@pytest.mark.parametrize(("number", "is_error"), [(95, False), (22, False), (38, False), (28, True), (122, True)])
def test_a_file_system_that_can_not_reserve_space_is_no_full_one(
    out: Path, monkeypatch: pytest.MonkeyPatch, number: int, is_error: bool
) -> None:
    """EOPNOTSUPP, EINVAL and ENOSYS are the former, ENOSPC and EDQUOT the latter."""

    def refuses(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", refuses)
    if is_error:
        text = samples.message(OutputError, lambda: one(out))
        assert text.startswith(f"out.safetensors: can't be written: {os.strerror(number)}; nothing was kept; ")
        assert text.endswith(" or write to another disk.")
        assert samples.listing(out.parent) == []
    else:
        one(out)
        assert load_file(out)["x"].tolist() == [0, 1, 2, 3]


def test_verify_notices_a_flipped_byte_of_a_put_tensor(out: Path) -> None:
    with TensorWriter(out, ONE, verify=True) as writer:
        writer.put("x", FOUR)
        flip_last(writer)
        assert samples.message(OutputError, writer.commit) == (
            "out.safetensors: tensor 'x' reads back differently; nothing was kept."
        )
    assert samples.listing(out.parent) == []


def test_verify_notices_a_flipped_byte_of_a_copied_tensor(out: Path, small: Path) -> None:
    with TensorFile(small) as file, TensorWriter(out, planned(file), verify=True) as writer:
        for name in file:
            writer.copy([name], file)
        flip_last(writer)
        assert samples.message(OutputError, writer.commit).endswith(" reads back differently; nothing was kept.")
    assert not out.exists()


def test_without_verify_a_changed_header_is_noticed(out: Path) -> None:
    with TensorWriter(out, ONE) as writer:
        writer.put("x", FOUR)
        os.pwrite(writer._fd, b"y", 8 + 2)
        assert samples.message(OutputError, writer.commit) == (
            "out.safetensors: the header read back differs from the planned one; nothing was kept."
        )


def flip_last(writer: TensorWriter) -> None:
    last = os.pread(writer._fd, 1, writer.size - 1)
    os.pwrite(writer._fd, bytes([last[0] ^ 1]), writer.size - 1)


def test_a_copy_has_the_same_bytes_with_and_without_the_kernels_help(
    tmp_path: Path, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copied(name: str) -> bytes:
        steps: list[int] = []
        with TensorFile(small) as file, TensorWriter(tmp_path / name, planned(file), verify=True) as writer:
            writer.copy(list(file), file, steps.append)
            writer.commit()
        assert sum(steps) == 4040
        return (tmp_path / name).read_bytes()[-4040:]

    expected = small.read_bytes()[-4040:]
    assert copied("a.safetensors") == expected

    def refuses(*_: object) -> int:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "copy_file_range", refuses)
    assert copied("b.safetensors") == expected


# Other processes: a limited disk, a killed one

CHILD = """
import resource, signal, sys, time
from pathlib import Path
import torch
from lora_core.errors import OutputError
from lora_core.files.tensorwriter import PlannedTensor, TensorWriter, os
task, out = sys.argv[1], Path(sys.argv[2])
plan = [PlannedTensor(f"x{i}", "F32", (2**18,)) for i in range(8)]
if task.startswith("full"):
    resource.setrlimit(resource.RLIMIT_FSIZE, (5 * 2**20, 5 * 2**20))
if task == "full midway":  # a file system that can't reserve space
    os.posix_fallocate = lambda *_: None
try:
    with TensorWriter(out, plan, overwrite=True) as writer:
        for number, tensor in enumerate(plan):
            writer.put(tensor.name, torch.ones(2**18))
            if task == "full":
                sys.exit("the space was not reserved")
            if task == "killed" and number == 4:
                print("midway", flush=True)
                time.sleep(60)
        writer.commit()
except OutputError as error:
    sys.exit(str(error))
"""


@pytest.mark.case(22)
@pytest.mark.parametrize("task", ["full", "full midway"])
def test_a_disk_that_is_full_leaves_the_old_file(out: Path, task: str) -> None:
    one(out)
    before = out.read_bytes()
    done = samples.python("-c", CHILD, task, str(out))
    assert done.stderr == f"out.safetensors: {samples.TOO_LARGE}\n"
    assert done.returncode == 1
    assert out.read_bytes() == before
    assert samples.listing(out.parent) == ["out.safetensors"]


@pytest.mark.case(19)
def test_a_killed_writer_leaves_the_old_file_and_the_next_one_succeeds(out: Path) -> None:
    one(out)
    before = out.read_bytes()
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, "killed", str(out)], cwd=samples.REPO, stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "midway\n"
        child.kill()
        assert child.wait() == -signal.SIGKILL
    assert out.read_bytes() == before
    assert len(samples.partials(out.parent)) == 1  # what is left can't be mistaken for a model
    assert f".{child.pid}-" in samples.partials(out.parent)[0]
    one(out, overwrite=True)
    assert load_file(out)["x"].tolist() == [0, 1, 2, 3]


def test_a_read_tensor_owns_its_memory(small: Path) -> None:
    with TensorFile(small) as file:
        first = file.tensor("y")
        first += 1
        assert file.tensor("y").tolist() == [1] * 10
    assert first.tolist() == [2] * 10
