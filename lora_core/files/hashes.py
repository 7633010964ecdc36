"""What a file's content is known by: the SHA-256 of all that follows a safetensors header, so of the tensors alone.

It is what kohya's scripts call `sshs_model_hash` and what model managers look up, by its first 12 digits, as AutoV3.
A hash is computed when it is asked for and remembered by the file's mark: its size, its times and its inode.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..text import parse_json
from .openfile import Mark, OpenFile, hashed_range, mark_of, read_whole
from .tensorheader import MAX_HEADER_BYTES

MOST = 20_000  # files that are remembered
LARGEST_STORE = 8 * 2**20  # bytes
AUTOV3 = 12  # digits
KNOWN_HASHES = ".cache/lora-core/hashes.json"  # below the home folder
FORMAT, MARKS = 2, 4  # of the store; an entry of version 1 had the size and one time alone, and is not believed
_HASH = re.compile(r"[0-9a-f]{64}")

Entry = tuple[Mark, str]  # of the file that was hashed, and the hash


def content_hash(path: str | os.PathLike[str], on_bytes: Callable[[int], None] = lambda _: None) -> str:
    """Return the hash of a file's content in lowercase hexadecimal: of a file without such a header, of all of it.

    `on_bytes` is told how many bytes come next; it may wait, or raise to cancel. Raises FileFormatError if the file
    can't be read, FileChangedError if it changes meanwhile.
    """
    file = OpenFile(Path(path), "a LoRA file")
    try:
        start = _data_start(file)
        digest = hashed_range(file.path, file.fileno(), start, file.size - start, on_bytes)
        file.check_unchanged()
    finally:
        file.close()
    return digest.hex()


class Hashes:
    """Content hashes of files, each computed once. `store` is a file that keeps them from one session to the next.

    The store is a help and no more: a broken one is ignored, and one that can't be written is not missed. It names no
    files: its keys are made from their paths.
    """

    def __init__(self, store: Path | None = None) -> None:
        self._store = store
        self._known: dict[str, Entry] | None = None
        self._lock = threading.Lock()

    def known(self, path: Path) -> str:
        """Return the hash if it is known already, else an empty text."""
        now = _mark(path)
        with self._lock:
            mark, digest = self._entries().get(_key(path), (None, ""))
        return digest if now is not None and mark == now else ""

    def of(self, path: Path, on_bytes: Callable[[int], None] = lambda _: None) -> str:
        """Return the hash, computed now if need be; raises as `content_hash` does."""
        return self.known(path) or self.computed(path, on_bytes)

    def computed(self, path: Path, on_bytes: Callable[[int], None] = lambda _: None) -> str:
        """Return the hash of what the file holds now, whatever is known; raises as `content_hash` does."""
        before = _mark(path)
        digest = content_hash(path, on_bytes)
        if before is not None and _mark(path) == before:  # else another file may have been hashed
            self._keep(_key(path), (before, digest))
        return digest

    def _entries(self) -> dict[str, Entry]:
        if self._known is None:
            self._known = _read(self._store) if self._store else {}
        return self._known

    def _keep(self, key: str, entry: Entry) -> None:
        with self._lock:
            entries = self._entries()
            entries.pop(key, None)
            entries[key] = entry
            while len(entries) > MOST:
                del entries[next(iter(entries))]
            if self._store:
                _write(self._store, entries)


def remembered() -> Hashes:
    """Return the hashes that this user's runs outside ComfyUI share: a large file is hashed once."""
    try:
        return Hashes(Path("~", KNOWN_HASHES).expanduser())
    except RuntimeError:  # nobody's home is known
        return Hashes()


def _data_start(file: OpenFile) -> int:
    """Return where the tensors of a safetensors file begin, 0 for a file of another format."""
    if file.size < 10:
        return 0
    head = bytes(file.read(0, 9))
    length = int.from_bytes(head[:8], "little")
    is_safetensors = head[8:9] == b"{" and length <= MAX_HEADER_BYTES and 8 + length <= file.size
    return 8 + length if is_safetensors else 0


def _mark(path: Path) -> Mark | None:
    try:
        return mark_of(path.stat())
    except (OSError, ValueError):
        return None


def _key(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:32]


def _read(store: Path) -> dict[str, Entry]:
    try:
        items: Any = parse_json(read_whole(store, LARGEST_STORE, "known hashes"))["hashes"].items()
        return {key: (tuple(mark), digest) for key, (mark, digest) in items if _is_entry(mark, digest)}
    except (ValueError, KeyError, TypeError, AttributeError):  # a LoraError is a ValueError
        return {}  # none yet, or broken: hashes are computed again


def _is_entry(mark: Any, digest: Any) -> bool:
    is_mark = isinstance(mark, list) and len(mark) == MARKS and all(type(one) is int for one in mark)
    return is_mark and isinstance(digest, str) and bool(_HASH.fullmatch(digest))


def _write(store: Path, entries: dict[str, Entry]) -> None:
    """Replace the store as a whole, so that a reader or a crash meets the old or the new one."""
    temporary = store.with_name(f".{store.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps({"v": FORMAT, "hashes": entries}), "utf-8")
        temporary.replace(store)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
