"""The archive that torch.save writes: its members, where each one's bytes lie, and the one that tells the structure.

Everything is checked here before it is believed: members are stored as they are and lie in the file.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from ...errors import FileFormatError
from ...text import counted
from ..openfile import OpenFile
from .ziplist import ListedMember, TooLongError, ZipError, ZipList, read_list

MAX_STRUCTURE_BYTES = 16 * 2**20  # of the part that is not tensor data; of 50,000 tensors it has 9 MB
INSTEAD = "convert it to safetensors"
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # mark, lengths of the name and of what follows it, then the member's bytes


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
    _check(name, listed.members, file.size)
    members = {member.name: _member(file, member, listed.start) for member in listed.members}
    _refuse_overlaps(name, members)
    pickled = next(path for path in members if path.endswith("/data.pkl"))
    folder = pickled.removesuffix("data.pkl")
    order = members.get(f"{folder}byteorder")
    if order and bytes(file.read(order.start, min(order.nbytes, 8))) != b"little":
        raise FileFormatError(f"{name}: is not in the byte order of this machine; {INSTEAD}.")
    found = members[pickled]
    start = f"{folder}data/"
    storages = {path.removeprefix(start): member for path, member in members.items() if path.startswith(start)}
    return PytorchZip(bytes(file.read(found.start, found.nbytes)), storages)


def _listed(file: OpenFile) -> ZipList:
    try:
        return read_list(file)
    except TooLongError:
        raise FileFormatError(f"{file.path.name}: has more structure than a model needs; {INSTEAD}.") from None
    except (ZipError, struct.error) as error:
        raise FileFormatError(f"{file.path.name}: broken PyTorch file: {error}; download or copy it again.") from error


def _check(name: str, members: list[ListedMember], size: int) -> None:
    structure = [member for member in members if member.name.endswith("/data.pkl")]
    if not structure and members and all(member.name.endswith(".npy") for member in members):
        raise FileFormatError(f"{name}: is a NumPy archive (.npz), which old MLX scripts save; {INSTEAD}.")
    if len(structure) != 1:
        raise FileFormatError(f"{name}: is a zip archive, but not a PyTorch file of tensors; {INSTEAD}.")
    if structure[0].nbytes > MAX_STRUCTURE_BYTES:
        raise FileFormatError(f"{name}: has more structure than a model needs; {INSTEAD}.")
    packed = [member.name for member in members if not member.is_stored]
    if packed:
        raise FileFormatError(
            f"{name}: {counted(packed, 'member')} of the archive compressed, e.g. {packed[0][:80]!r}, which "
            f"PyTorch never does and could unpack to any size; {INSTEAD}."
        )
    claimed = sum(member.nbytes for member in members)
    if claimed > size:
        raise FileFormatError(f"{name}: its members claim {claimed} bytes, the file has {size}; {INSTEAD}.")
    if len({member.name for member in members}) < len(members):
        raise FileFormatError(f"{name}: the archive has two members of one name; {INSTEAD}.")


def _member(file: OpenFile, listed: ListedMember, end: int) -> ZipMember:
    """Return where a member's bytes lie, all of them before `end`."""
    header = listed.header
    raw = file.read(header, _LOCAL_HEADER.size) if header + _LOCAL_HEADER.size <= end else b""
    mark, *lengths = _LOCAL_HEADER.unpack(raw) if raw else (b"",)
    start = header + _LOCAL_HEADER.size + sum(lengths)
    if mark != b"PK\3\4" or start + listed.nbytes > end:
        raise FileFormatError(
            f"{file.path.name}: broken PyTorch file: {listed.name[:80]!r} lies beyond its end; "
            "download or copy it again."
        )
    return ZipMember(start, listed.nbytes)


def _refuse_overlaps(name: str, members: Mapping[str, ZipMember]) -> None:
    end = 0
    for member in sorted(members.values(), key=lambda member: (member.start, member.nbytes)):
        if member.start < end:
            raise FileFormatError(f"{name}: members of the archive overlap; the file is made to harm.")
        end = member.start + member.nbytes
