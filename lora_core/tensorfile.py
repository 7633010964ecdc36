"""safetensors files: the header without the data, single tensors by positional reads, and an atomic streaming writer.

Reading never maps the file, so a file that is truncated meanwhile is a clear error and not a crash of the process.
Format: github.com/huggingface/safetensors, README "Format".
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
import struct
import sys
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeGuard

from .errors import FileChangedError, FileFormatError, OutputError
from .lazytorch import torch

MAX_HEADER_BYTES = 32 * 2**20
MAX_TENSORS = 100_000
MAX_NAME_BYTES = 512
MAX_METADATA_BYTES = 8 * 2**20
MAX_DIMENSIONS = 8
COPY_BYTES = 64 * 2**20  # how much is copied or hashed between two looks at the cancel callback

# dtype name in the header -> (bytes of one element, attribute of torch)
DTYPES: dict[str, tuple[int, str]] = {
    "F64": (8, "float64"),
    "F32": (4, "float32"),
    "F16": (2, "float16"),
    "BF16": (2, "bfloat16"),
    "F8_E4M3": (1, "float8_e4m3fn"),
    "F8_E5M2": (1, "float8_e5m2"),
    "F8_E8M0": (1, "float8_e8m0fnu"),
    "I64": (8, "int64"),
    "I32": (4, "int32"),
    "I16": (2, "int16"),
    "I8": (1, "int8"),
    "U64": (8, "uint64"),
    "U32": (4, "uint32"),
    "U16": (2, "uint16"),
    "U8": (1, "uint8"),
    "BOOL": (1, "bool"),
    "C64": (8, "complex64"),
}
FLOAT_DTYPES = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})

OnStep = Callable[[int, int], None]  # (done, total) in bytes or elements; may raise to cancel


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where one tensor lies in a file."""

    name: str
    dtype: str  # the header's name, e.g. "BF16"
    shape: tuple[int, ...]
    start: int  # offset in the file, header included
    nbytes: int

    @property
    def is_float(self) -> bool:
        return self.dtype in FLOAT_DTYPES


class TensorFile(Mapping[str, TensorInfo]):
    """An open safetensors file: a mapping of tensor names to their infos, with positional reads.

    Raises FileFormatError for a file that is missing, truncated or breaks the format or our limits.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._fd = _open_regular(self.path)
        try:
            self._stat = _identity(os.fstat(self._fd))
            self.metadata, self._infos, self.data_start = _read_header(self.path, self._fd, self.size)
        except BaseException:
            os.close(self._fd)
            raise

    @property
    def size(self) -> int:
        return self._stat[0]

    def __getitem__(self, name: str) -> TensorInfo:
        return self._infos[name]

    def __iter__(self):
        return iter(self._infos)

    def __len__(self) -> int:
        return len(self._infos)

    def __enter__(self) -> TensorFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def fileno(self) -> int:
        return self._fd

    def in_file_order(self) -> list[TensorInfo]:
        return sorted(self._infos.values(), key=lambda info: (info.start, info.nbytes))

    def read(self, name: str) -> bytearray:
        """Return the raw bytes of a tensor."""
        info = self._infos[name]
        buffer = bytearray(info.nbytes)
        _read_exactly(self.path, self._fd, memoryview(buffer), info.start)
        return buffer

    def tensor(self, name: str) -> torch.Tensor:
        """Return a tensor that owns its memory."""
        info = self._infos[name]
        if info.dtype not in DTYPES:
            raise FileFormatError(f"{self.path.name}: tensor {name!r} has dtype {info.dtype}, which can't be read yet.")
        dtype = getattr(torch, DTYPES[info.dtype][1])
        if info.nbytes == 0:  # markers such as `v_pred` hold no data
            return torch.empty(info.shape, dtype=dtype)
        return torch.frombuffer(self.read(name), dtype=dtype).reshape(info.shape)

    def scalar(self, name: str) -> float:
        """Return a one-element tensor's value, without torch."""
        info = self._infos[name]
        raw = bytes(self.read(name))
        if info.dtype == "BF16" and info.nbytes == 2:  # a bfloat16 is the upper half of a float32
            return struct.unpack("<f", b"\0\0" + raw)[0]
        codes = {"F64": "<d", "F32": "<f", "F16": "<e", "I64": "<q", "I32": "<i", "I16": "<h", "I8": "<b", "U8": "<B"}
        code = codes.get(info.dtype)
        if code is None or struct.calcsize(code) != info.nbytes:
            raise FileFormatError(
                f"{self.path.name}: tensor {name!r} must hold one number; found {info.dtype} of shape {info.shape}."
            )
        return float(struct.unpack(code, raw)[0])

    def check_unchanged(self) -> None:
        """Raise FileChangedError if the file was replaced, truncated or written to since it was opened."""
        try:
            by_name = _identity(self.path.stat())
        except OSError as error:
            raise FileChangedError(f"{self.path.name}: disappeared while it was being read.") from error
        if by_name != self._stat or _identity(os.fstat(self._fd)) != self._stat:
            raise FileChangedError(f"{self.path.name}: changed while it was being read; run again when it is complete.")

    def sha256(self) -> str:
        """Return the hash of all bytes after the header: it survives edits of the metadata (`sshs_model_hash`)."""
        return _hashed(self.path, self._fd, self.data_start, self.size - self.data_start).hex()

    def hashed(self, name: str) -> bytes:
        """Return the SHA-256 of one tensor's bytes."""
        return _hashed(self.path, self._fd, self._infos[name].start, self._infos[name].nbytes)


@dataclass(frozen=True, slots=True)
class PlannedTensor:
    """A tensor of a file to be written: known before any data is."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return element_count(self.shape) * DTYPES[self.dtype][0]


class TensorWriter:
    """Writes a safetensors file whose names, dtypes and shapes are known first, tensor by tensor in any order.

    Use as a context manager; `commit()` makes the file appear under its name, complete and on disk. Without it, and on
    any exception, nothing is left. `inputs` are files that must not be overwritten, whatever name they go by.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        plan: Sequence[PlannedTensor],
        metadata: Mapping[str, str] | None = None,
        *,
        overwrite: bool = False,
        inputs: Iterable[Path] = (),
    ) -> None:
        self.path = Path(path)
        self._overwrite = overwrite
        self._infos, header = _layout(self.path, plan, metadata or {})
        self.size = len(header) + sum(info.nbytes for info in self._infos.values())
        self._missing = set(self._infos)
        self._digests: dict[str, bytes] = {}
        self._copied: dict[str, TensorFile] = {}
        _check_target(self.path, overwrite, inputs, self.size)
        self._temporary = self.path.with_name(_temporary_name(self.path.name))
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        with _as_output_error(self.path):
            self._fd = os.open(self._temporary, flags, 0o666)  # less the umask, as any new file
        try:
            with _as_output_error(self.path):
                _reserve(self._fd, self.size)
                _write_all(self._fd, memoryview(header), 0)
        except BaseException:
            self.discard()
            raise

    def __enter__(self) -> TensorWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.discard()

    def put(self, name: str, tensor: torch.Tensor) -> None:
        """Write one tensor; dtype and shape must be the planned ones."""
        info = self._infos[name]
        expected = getattr(torch, DTYPES[info.dtype][1])
        if tensor.dtype != expected or tuple(tensor.shape) != info.shape:
            raise OutputError(
                f"{self.path.name}: tensor {name!r} was planned as {expected} {info.shape}, "
                f"got {tensor.dtype} {tuple(tensor.shape)}."
            )
        if info.nbytes:
            self._put_bytes(info, byte_view(tensor))
        self._missing.discard(name)

    def copy(self, name: str, source: TensorFile, on_bytes: Callable[[int], None] | None = None) -> None:
        """Copy one tensor's bytes from `source`, which has it under the same name, dtype and shape."""
        there, here = source[name], self._infos[name]
        if (there.dtype, there.shape) != (here.dtype, here.shape):
            raise OutputError(f"{self.path.name}: tensor {name!r} differs from the one to copy.")
        with _as_output_error(self.path):
            _copy_range(source, there.start, self._fd, here.start, here.nbytes, on_bytes)
        self._copied[name] = source
        self._missing.discard(name)

    def commit(self, *, verify: bool = False) -> None:
        """Check, flush to disk, and give the file its name. `verify` also reads every tensor back."""
        if self._missing:
            raise OutputError(f"{self.path.name}: {len(self._missing)} planned tensors were not written.")
        with _as_output_error(self.path):
            os.fsync(self._fd)
            self._check_written(verify)
            if self.path.exists():
                self._temporary.chmod(stat.S_IMODE(self.path.stat().st_mode))
            os.close(self._fd)
            self._fd = -1
            _give_name(self._temporary, self.path, self._overwrite)
            _sync_directory(self.path.parent)

    def discard(self) -> None:
        """Remove the temporary file, if it still is one."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._temporary.unlink(missing_ok=True)

    def _put_bytes(self, info: TensorInfo, data: memoryview) -> None:
        with _as_output_error(self.path):
            _write_all(self._fd, data, info.start)
        self._digests[info.name] = hashlib.sha256(data).digest()

    def _check_written(self, verify: bool) -> None:
        size = os.fstat(self._fd).st_size
        if size != self.size:
            raise OutputError(f"{self.path.name}: wrote {size} bytes, planned {self.size}; nothing was kept.")
        _, infos, _ = _read_header(self._temporary, self._fd, size)
        if infos != self._infos:
            raise OutputError(f"{self.path.name}: the header read back differs from the planned one; nothing was kept.")
        for name, info in infos.items() if verify else ():
            source = self._copied.get(name)
            written = _hashed(self._temporary, self._fd, info.start, info.nbytes)
            expected = source.hashed(name) if source else self._digests.get(name, written)
            if written != expected:
                raise OutputError(f"{self.path.name}: tensor {name!r} reads back differently; nothing was kept.")


def element_count(shape: Iterable[int]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def byte_view(tensor: torch.Tensor) -> memoryview:
    """Return a tensor's elements as bytes, without a copy where they lie in order in memory."""
    flat: Any = tensor.detach().contiguous().cpu().reshape(-1).view(torch.uint8).numpy()
    return memoryview(flat)


def dtype_name(dtype: torch.dtype) -> str:
    """Return the header's name of a torch dtype."""
    return next(name for name, (_, attribute) in DTYPES.items() if getattr(torch, attribute, None) is dtype)


# Reading


def _open_regular(path: Path) -> int:
    try:
        # not blocking, because a named pipe would wait for a writer
        flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
        fd = -1 if path.is_dir() else os.open(path, flags)
    except FileNotFoundError as error:
        raise FileFormatError(f"{path.name}: no such file ({path}).") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise FileFormatError(f"{path.name}: can't be opened: {error}.") from error
    if fd < 0:
        raise FileFormatError(f"{path.name}: is a folder; expected a .safetensors file.")
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise FileFormatError(f"{path.name}: is not a regular file; expected a .safetensors file.")
    return fd


def _identity(of: os.stat_result) -> tuple[int, int, int]:
    return of.st_size, of.st_mtime_ns, of.st_ino


def _read_exactly(path: Path, fd: int, into: memoryview, offset: int) -> None:
    done = 0
    while done < len(into):
        try:
            count = _pread_into(fd, into[done:], offset + done)
        except OSError as error:
            raise FileFormatError(f"{path.name}: can't be read at byte {offset + done}: {error}.") from error
        if count == 0:
            raise FileChangedError(
                f"{path.name}: ends at byte {offset + done}, needs {offset + len(into)}; it was cut while being read."
            )
        done += count


def _hashed(path: Path, fd: int, start: int, length: int) -> bytes:
    """Return the SHA-256 of a range of a file, through a bounded buffer."""
    digest, buffer = hashlib.sha256(), memoryview(bytearray(min(4 * 2**20, length)))
    for offset in range(start, start + length, 4 * 2**20):
        part = buffer[: min(len(buffer), start + length - offset)]
        _read_exactly(path, fd, part, offset)
        digest.update(part)
    return digest.digest()


def _pread_into(fd: int, into: memoryview, offset: int) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(fd, [into], offset)
    os.lseek(fd, offset, os.SEEK_SET)  # Windows and old macOS have no positional read
    data = os.read(fd, min(len(into), COPY_BYTES))
    into[: len(data)] = data
    return len(data)


def _read_header(path: Path, fd: int, size: int) -> tuple[dict[str, str], dict[str, TensorInfo], int]:
    """Return (metadata, infos, offset of the data), or raise FileFormatError saying which rule is broken."""
    head = bytearray(min(size, 16))
    _read_exactly(path, fd, memoryview(head), 0)
    length = int.from_bytes(head[:8], "little")
    if length + 8 > size:  # only then, because the first bytes of a length may be those of another format
        _refuse_other_formats(path, bytes(head))
    if length > MAX_HEADER_BYTES:
        raise FileFormatError(
            f"{path.name}: not a safetensors file, or its header is above our limit: "
            f"it claims {length} bytes, the limit is {MAX_HEADER_BYTES}."
        )
    if 8 + length > size:
        raise FileFormatError(f"{path.name}: truncated: has {size} bytes, its header alone needs {8 + length}.")
    raw = bytearray(length)
    _read_exactly(path, fd, memoryview(raw), 8)
    header = _parse_json(path, bytes(raw))
    metadata = _check_metadata(path, header.pop("__metadata__", None))
    if len(header) > MAX_TENSORS:
        raise FileFormatError(f"{path.name}: {len(header)} tensors; the limit is {MAX_TENSORS}.")
    infos = {name: _check_info(path, name, value, 8 + length) for name, value in header.items()}
    _check_layout(path, infos, 8 + length, size)
    return metadata, infos, 8 + length


def _refuse_other_formats(path: Path, head: bytes) -> None:
    known = (
        (b"PK\x03\x04", "a zip or PyTorch .ckpt/.pt file; convert it to safetensors first"),
        (b"\x80\x02", "a pickled PyTorch file; convert it to safetensors first"),
        (b"GGUF", "a GGUF file; LoRA Core needs the safetensors version of the model"),
        (b"version ", "a Git LFS pointer, not the file itself; download the real file"),
        (b"<!", "an HTML page, probably an error page saved by a download; download the file again"),
        (b"<html", "an HTML page, probably an error page saved by a download; download the file again"),
    )
    for start, what in known:
        if head.lower().startswith(start.lower()):
            raise FileFormatError(f"{path.name}: expected a safetensors file, found {what}.")
    if len(head) < 10:  # an empty header `{}` behind its length
        raise FileFormatError(f"{path.name}: expected a safetensors file, found {len(head)} bytes.")


def _parse_json(path: Path, raw: bytes) -> dict[str, Any]:
    def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            raise FileFormatError(f"{path.name}: broken header: a key appears twice.")
        return result

    def no_constants(text: str) -> Any:
        raise FileFormatError(f"{path.name}: broken header: {text} is not a number.")

    def counts(text: str) -> int:
        if text.startswith("-") or len(text) > 20:  # the format's numbers have at most 64 bits
            raise FileFormatError(f"{path.name}: broken header: {text[:30]} is not a size or an offset.")
        return int(text)

    if not raw.lstrip(b" \t\r\n").startswith(b"{"):
        raise FileFormatError(f"{path.name}: expected a safetensors file; its header is not JSON.")
    try:
        text = raw.decode("utf-8")
        header = json.loads(text, object_pairs_hook=no_duplicates, parse_constant=no_constants, parse_int=counts)
        if "\\u" in text:  # an escape may spell half a character, which no UTF-8 text can hold
            json.dumps(header, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise FileFormatError(f"{path.name}: broken header: a name is not text.") from error
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise FileFormatError(f"{path.name}: broken header: {error}.") from error
    return header


def _check_metadata(path: Path, metadata: Any) -> dict[str, str]:
    if metadata is None:
        return {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise FileFormatError(f"{path.name}: broken header: __metadata__ must map text to text.")
    if sum(len(key) + len(value) for key, value in metadata.items()) > MAX_METADATA_BYTES:
        raise FileFormatError(f"{path.name}: metadata is above our limit of {MAX_METADATA_BYTES} bytes.")
    return metadata


def _check_info(path: Path, name: str, value: Any, data_start: int) -> TensorInfo:
    shown = name if len(name) < 80 else name[:77] + "..."
    if not name or len(name.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES:
        raise FileFormatError(f"{path.name}: tensor name {shown!r} is empty or above {MAX_NAME_BYTES} bytes.")
    if not isinstance(value, dict):
        raise FileFormatError(f"{path.name}: broken header at {shown!r}: expected dtype, shape and data_offsets.")
    dtype, shape, offsets = value.get("dtype"), value.get("shape"), value.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise FileFormatError(f"{path.name}: tensor {shown!r} has dtype {dtype!r}, which this version does not know.")
    if not _is_counts(shape) or not _is_counts(offsets) or len(offsets) != 2 or len(shape) > MAX_DIMENSIONS:
        raise FileFormatError(f"{path.name}: broken header at {shown!r}: shape {shape!r}, data_offsets {offsets!r}.")
    nbytes = offsets[1] - offsets[0]
    if element_count(size or 1 for size in shape) * 64 >= 2**64:  # an overflow elsewhere, even with a zero beside it
        raise FileFormatError(f"{path.name}: broken header at {shown!r}: shape {shape} has too many elements.")
    if nbytes != element_count(shape) * DTYPES[dtype][0]:
        raise FileFormatError(
            f"{path.name}: broken header at {shown!r}: {dtype} of shape {shape} does not fill {nbytes} bytes."
        )
    return TensorInfo(name, dtype, tuple(shape), data_start + offsets[0], nbytes)


def _is_counts(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 2**63 for item in value)


def _check_layout(path: Path, infos: Mapping[str, TensorInfo], data_start: int, size: int) -> None:
    expected = data_start
    for info in sorted(infos.values(), key=lambda info: (info.start, info.nbytes)):
        if info.start != expected:
            what = "overlaps another" if info.start < expected else "leaves a hole before it"
            raise FileFormatError(f"{path.name}: broken header: tensor {info.name!r} {what}.")
        expected += info.nbytes
    if size < expected:
        raise FileFormatError(f"{path.name}: truncated: has {size} bytes, needs {expected}; download or copy it again.")
    if size > expected:
        raise FileFormatError(f"{path.name}: {size - expected} bytes follow the last tensor; the file is damaged.")


# Writing


def _layout(
    path: Path, plan: Sequence[PlannedTensor], metadata: Mapping[str, str]
) -> tuple[dict[str, TensorInfo], bytes]:
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for tensor in plan:
        if tensor.name in header:
            raise OutputError(f"{path.name}: tensor {tensor.name!r} is planned twice.")
        end = offset + tensor.nbytes
        header[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % 8)  # data starts aligned, as the reference writer does
    if len(text) > MAX_HEADER_BYTES:
        raise OutputError(f"{path.name}: the header would need {len(text)} bytes; the limit is {MAX_HEADER_BYTES}.")
    start = 8 + len(text)
    infos = {
        tensor.name: TensorInfo(
            tensor.name,
            tensor.dtype,
            tensor.shape,
            start + header[tensor.name]["data_offsets"][0],
            tensor.nbytes,
        )
        for tensor in plan
    }
    return infos, struct.pack("<Q", len(text)) + text


def _check_target(path: Path, overwrite: bool, inputs: Iterable[Path], size: int) -> None:
    if path.suffix != ".safetensors":
        raise OutputError(f"{path.name}: the output's name must end in .safetensors.")
    folder = path.parent
    if not folder.is_dir():
        raise OutputError(f"{path.name}: the folder {folder} does not exist; create it first.")
    if path.exists() or path.is_symlink():
        for source in inputs:
            if source.exists() and path.exists() and path.samefile(source):
                raise OutputError(f"{path.name}: is also an input; choose another name for the output.")
        if not overwrite:
            raise OutputError(f"{path.name}: already exists; choose another name or allow overwriting.")
        if not path.is_file() or path.is_symlink():
            raise OutputError(f"{path.name}: is not a regular file and won't be replaced.")
    free = shutil.disk_usage(folder).free
    needed = size + size // 20 + 64 * 2**20
    if free < needed:
        raise OutputError(f"{path.name}: not enough disk space: needs {needed} bytes with reserve, {free} are free.")


def _temporary_name(name: str) -> str:
    start = name.encode("utf-8", "replace")[:180].decode("utf-8", "ignore")  # a name has at most 255 bytes
    return f".{start}.{os.getpid()}-{uuid.uuid4().hex[:8]}.partial"


class _as_output_error:  # noqa: N801  (reads as a phrase: `with _as_output_error(path)`)
    """Turns an OSError of writing into an OutputError that names the file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if isinstance(error, FileExistsError):
            raise OutputError(f"{self._path.name}: already exists; another job wrote it meanwhile.") from error
        if isinstance(error, OSError):
            reason = error.strerror or str(error)
            raise OutputError(f"{self._path.name}: can't be written: {reason}; nothing was kept.") from error


def _write_all(fd: int, data: memoryview, offset: int) -> None:
    done = 0
    while done < len(data):
        part = data[done : done + COPY_BYTES]
        if hasattr(os, "pwrite"):
            done += os.pwrite(fd, part, offset + done)
        else:  # Windows has no positional write
            os.lseek(fd, offset + done, os.SEEK_SET)
            done += os.write(fd, part)


def _copy_range(
    source: TensorFile, start: int, fd: int, offset: int, length: int, on_bytes: Callable[[int], None] | None
) -> None:
    """Copy bytes file to file: inside the kernel where it can, through a bounded buffer otherwise."""
    done, in_kernel = 0, hasattr(os, "copy_file_range")
    while done < length:
        count = min(COPY_BYTES, length - done)
        if in_kernel:
            try:
                copied = os.copy_file_range(source.fileno(), fd, count, start + done, offset + done)
            except OSError:  # another file system, or one that can't: the buffer always works
                copied = 0
            in_kernel = copied > 0
        else:
            copied = min(count, 8 * 2**20)
            buffer = memoryview(bytearray(copied))
            _read_exactly(source.path, source.fileno(), buffer, start + done)
            _write_all(fd, buffer, offset + done)
        done += copied
        if on_bytes and copied:
            on_bytes(copied)


def _reserve(fd: int, size: int) -> None:
    """Take the space now where the file system can, so that a full disk is known before the work."""
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise


def _give_name(temporary: Path, path: Path, overwrite: bool) -> None:
    if overwrite:
        temporary.replace(path)
        return
    try:
        path.hardlink_to(temporary)  # fails if the name was taken meanwhile, where replace would overwrite
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if path.exists():
            raise FileExistsError(path) from None
        temporary.replace(path)
    else:
        temporary.unlink()


def _sync_directory(folder: Path) -> None:
    if sys.platform == "win32":  # Windows can't open a folder to flush it
        return
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError:  # some network file systems refuse; the rename itself has happened
        pass
    finally:
        os.close(fd)
