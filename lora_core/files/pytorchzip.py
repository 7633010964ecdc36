"""The archive that torch.save writes: its members, where each one's bytes lie, and the one that tells the structure.

Everything is checked here before it is believed: members are stored as they are and lie in the file.
"""

from __future__ import annotations

import os
import struct
import zipfile
from dataclasses import dataclass
from typing import Any

from ..errors import FileFormatError
from ..text import counted
from .openfile import OpenFile
from .tensorheader import MAX_TENSORS

MAX_STRUCTURE_BYTES = 16 * 2**20  # of the part that is not tensor data; of 50,000 tensors it has 9 MB
INSTEAD = "convert it to safetensors"
_LOCAL_HEADER = struct.Struct("<26xHH")  # lengths of the name and of what follows it, then the member's bytes
_BROKEN = (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error, EOFError, OverflowError)


@dataclass(frozen=True, slots=True)
class ZipMember:
    """The bytes of one member, as they lie in the file."""

    start: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class PytorchZip:
    """The open archive."""

    structure: bytes
    storages: dict[str, ZipMember]  # by torch's key, e.g. "0"


def open_pytorch_zip(file: OpenFile) -> PytorchZip:
    """Read the archive's list; raises FileFormatError for what torch.save would not write."""
    name = file.path.name
    listed = _listed(file)
    _check(name, listed, file.size)
    members = {member.filename: _member(file, member) for member in listed}
    pickled = next(path for path in members if path.endswith("/data.pkl"))
    folder = pickled.removesuffix("data.pkl")
    order = members.get(f"{folder}byteorder")
    if order and bytes(file.read(order.start, min(order.nbytes, 8))) != b"little":
        raise FileFormatError(f"{name}: is not in the byte order of this machine; {INSTEAD}.")
    found = members[pickled]
    start = f"{folder}data/"
    storages = {path.removeprefix(start): member for path, member in members.items() if path.startswith(start)}
    return PytorchZip(bytes(file.read(found.start, found.nbytes)), storages)


def _listed(file: OpenFile) -> list[zipfile.ZipInfo]:
    try:
        with os.fdopen(os.dup(file.fileno()), "rb") as stream, zipfile.ZipFile(stream) as archive:
            return archive.infolist()
    except _BROKEN as error:
        raise FileFormatError(f"{file.path.name}: broken PyTorch file: {error}; download or copy it again.") from error


def _check(name: str, members: list[zipfile.ZipInfo], size: int) -> None:
    structure = [member for member in members if member.filename.endswith("/data.pkl")]
    if not structure and members and all(member.filename.endswith(".npy") for member in members):
        raise FileFormatError(f"{name}: is a NumPy archive (.npz), which old MLX scripts save; {INSTEAD}.")
    if len(structure) != 1:
        raise FileFormatError(f"{name}: is a zip archive, but not a PyTorch file of tensors; {INSTEAD}.")
    if structure[0].file_size > MAX_STRUCTURE_BYTES or len(members) > MAX_TENSORS + 10:
        raise FileFormatError(f"{name}: has more structure than a model needs; {INSTEAD}.")
    packed = [member.filename for member in members if member.compress_type != zipfile.ZIP_STORED]
    if packed:
        raise FileFormatError(
            f"{name}: {counted(packed, 'member')} of the archive compressed, e.g. {packed[0][:80]!r}, which "
            f"PyTorch never does and could unpack to any size; {INSTEAD}."
        )
    claimed = sum(member.file_size for member in members)
    if claimed > size:
        raise FileFormatError(f"{name}: its members claim {claimed} bytes, the file has {size}; {INSTEAD}.")
    if len({member.filename for member in members}) < len(members):
        raise FileFormatError(f"{name}: the archive has two members of one name; {INSTEAD}.")


def _member(file: OpenFile, listed: zipfile.ZipInfo) -> ZipMember:
    header = file.read(listed.header_offset, _LOCAL_HEADER.size) if listed.header_offset < file.size - 30 else b""
    sizes: tuple[Any, ...] = _LOCAL_HEADER.unpack(header) if header else (0, 0)
    start = listed.header_offset + _LOCAL_HEADER.size + sum(sizes)
    if not header or start + listed.file_size > file.size:
        raise FileFormatError(
            f"{file.path.name}: broken PyTorch file: {listed.filename[:80]!r} lies beyond its end; "
            "download or copy it again."
        )
    return ZipMember(start, listed.file_size)
