"""Hand-made files, and what the tests of the core look at afterwards."""

from __future__ import annotations

import _thread
import contextlib
import hashlib
import io
import json
import os
import struct
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lora_core.cli.entry import main
from lora_core.errors import LoraError
from tests import manifests, tiny

REPO = Path(__file__).resolve().parents[2]
F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}  # one tensor's entry in a header
# what an error of writing says after the file's name
TOO_LARGE = (
    "can't be written: File too large; nothing was kept; the file system or a limit allows no file of this size "
    "(FAT32: 4 GB): write to another disk."
)
DISK_FULL = "can't be written: No space left on device; nothing was kept; free some space, or write to another disk."
DISK_FAILED = (
    "can't be written: Input/output error; nothing was kept; the disk or the connection to it failed: check it, or "
    "write to another."
)
SECONDS = 120  # that a child process may take


def raw(header: bytes | Mapping[str, Any], data: bytes = b"", *, length: int | None = None) -> bytes:
    """A file's bytes from its header, as text or as an object; `length` is what the file claims instead."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def save(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None) -> Path:
    """Writes a file with the reference library."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, dict(metadata or {}) or None)
    return path


def metadata_of(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return file.metadata() or {}


def content_hash(path: Path) -> str:
    """SHA-256 of what follows the header, found without our code."""
    content = path.read_bytes()
    return hashlib.sha256(content[8 + int.from_bytes(content[:8], "little") :]).hexdigest()


def load(path: Path) -> dict[str, torch.Tensor]:
    """Reads a file with the reference library, into memory of its own."""
    return {name: tensor.clone() for name, tensor in load_file(path).items()}


def same_bytes(first: torch.Tensor, second: torch.Tensor) -> bool:
    return (
        first.dtype == second.dtype
        and first.shape == second.shape
        and torch.equal(
            first.contiguous().reshape(-1).view(torch.uint8), second.contiguous().reshape(-1).view(torch.uint8)
        )
    )


def threads(most: int | None = None) -> int:
    """How many threads Python has begun that have not ended; with `most` once there are no more, or after a while."""
    end = time.monotonic() + 10
    while most is not None and _thread._count() > most and time.monotonic() < end:  # type: ignore[attr-defined]
        time.sleep(0.001)
    return _thread._count()  # type: ignore[attr-defined]


def partials(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*.partial"))


def listing(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def message(error: type[LoraError], action: Any) -> str:
    """The text of the error that `action` raises, exactly of the type `error`."""
    with pytest.raises(LoraError) as caught:
        action()
    assert type(caught.value) is error, f"{type(caught.value).__name__}: {caught.value}"
    return str(caught.value)


def python(*arguments: str, cwd: Path = REPO, seconds: int = SECONDS, **more: Any) -> subprocess.CompletedProcess[str]:
    """Runs a child Python that finds lora_core."""
    environment = {**os.environ, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd, env=environment, capture_output=True, text=True, timeout=seconds, check=False, **more,
    )  # fmt: skip


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs `lora-core` in this process, which is a hundred times quicker than in one of its own."""
    words, out, errors = [str(argument) for argument in arguments], io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        try:
            code = main(words)
        except SystemExit as end:  # on wrong usage
            code = end.code
    return subprocess.CompletedProcess(words, code, out.getvalue(), errors.getvalue())


def sparse_checkpoint(path: Path, arch: str, prefix: str | None = None) -> Path:
    """A checkpoint of true names and sizes without data; `prefix` stands before the keys instead of its own."""
    found = manifests.checkpoint(arch)
    keys = found.keys if prefix is None else prefixed(arch, prefix)
    return tiny.sparse_file(path, tiny.with_dtype(keys))


def prefixed(arch: str, prefix: str) -> dict[str, tuple[int, ...]]:
    """The keys of the diffusion model or text encoder alone, with another prefix."""
    found = manifests.checkpoint(arch)
    return {
        prefix + key.removeprefix(found.prefix): shape
        for key, shape in found.keys.items()
        if key.startswith(found.prefix)
    }
