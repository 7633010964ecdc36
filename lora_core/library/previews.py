"""The picture beside a LoRA: found by its name as model managers write it, and known to be one by what it holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..files.openfile import read_bounded
from .folders import beside

LARGEST = 20 * 2**20  # bytes
# In the order in which LoRA Manager looks; films are left out.
_SUFFIXES = (
    *(".webp", ".preview.webp", ".preview.png", ".preview.jpeg", ".preview.jpg"),
    *(".png", ".jpeg", ".jpg", ".gif", ".avif", ".jxl"),
)


@dataclass(frozen=True, slots=True)
class Preview:
    """A picture file, and the media type that its first bytes show."""

    path: Path
    type: str
    size: int
    mtime_ns: int

    def read(self) -> bytes:
        """Return the picture; raises OSError if it can't be read any more."""
        data = read_bounded(self.path, LARGEST)
        if data is None:
            raise OSError(f"{self.path.name} can't be read")
        return data


def preview_of(path: Path) -> Preview | None:
    """Return the first picture beside a LoRA file that is one; None if there is none."""
    for file in beside(path, _SUFFIXES):
        try:
            stat = file.stat()
            if not file.is_file() or stat.st_size > LARGEST:
                continue
            with file.open("rb") as opened:
                kind = _type_of(opened.read(16))
        except OSError:
            continue
        if kind:
            return Preview(file, kind, stat.st_size, stat.st_mtime_ns)
    return None


def _type_of(head: bytes) -> str:
    """Return the media type of a picture by its first 16 bytes, an empty text for anything else."""
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "image/webp"
    if head[4:12] in (b"ftypavif", b"ftypavis"):
        return "image/avif"
    return next((kind for start, kind in _STARTS if head.startswith(start)), "")


_STARTS = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"\xff\x0a", "image/jxl"),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "image/jxl"),
)
