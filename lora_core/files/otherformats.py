"""What a file is that was taken for safetensors, told from its first bytes."""

from __future__ import annotations

from pathlib import Path

from ..errors import FileFormatError

HEAD_BYTES = 48  # that are looked at

_DOWNLOAD = "probably an error page saved by a download; download the file again"
_UNPACK = "unpack it first"

# First bytes, in small letters -> what begins with them, and what to do
_STARTS: tuple[tuple[bytes, str], ...] = (
    (b"pk\x03\x04", "a zip or PyTorch .ckpt/.pt file; convert it to safetensors first"),
    *((bytes((0x80, protocol)), "a pickled PyTorch file; convert it to safetensors first") for protocol in range(2, 6)),
    (b"gguf", "a GGUF file; LoRA Core needs the safetensors version of the model"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself; download the real file"),
    (b"<!", f"an HTML page, {_DOWNLOAD}"),
    (b"<html", f"an HTML page, {_DOWNLOAD}"),
    (b"<?xml", f"an XML page, {_DOWNLOAD}"),
    (b"\x1f\x8b", f"a gzip archive; {_UNPACK}"),
    (b"7z\xbc\xaf", f"a 7z archive; {_UNPACK}"),
    (b"rar!", f"a RAR archive; {_UNPACK}"),
    (b"\x89png", "a PNG picture; choose the model beside it"),
    (b"\xff\xd8\xff", "a JPEG picture; choose the model beside it"),
    (b"riff", "a WebP picture or another media file; choose the model beside it"),
)


def refuse_other_formats(path: Path, head: bytes) -> None:
    """Raise FileFormatError for the first bytes of another format, or of none that could be safetensors."""
    for start, what in _STARTS:
        if head.lower().startswith(start):
            raise FileFormatError(f"{path.name}: expected a safetensors file, found {what}.")
    if len(head) < 10:  # an empty header `{}` behind its length
        raise FileFormatError(f"{path.name}: expected a safetensors file, found {len(head)} bytes.")
    if all(byte in b"\t\r\n" or 0x20 <= byte < 0x7F for byte in head):
        text = head.decode("ascii").split("\n")[0][:40]
        raise FileFormatError(f"{path.name}: expected a safetensors file, found text ({text!r}), {_DOWNLOAD}.")


def refuse_zeros(path: Path, head: bytes) -> None:
    """Raise FileFormatError for a file that begins with zeros, as one does whose download reserved the space."""
    if not any(head):
        raise FileFormatError(
            f"{path.name}: begins with zeros, so its download is probably not complete; download it again."
        )
