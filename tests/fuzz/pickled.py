"""PyTorch files: tensors that lie in the file, or a LoraError; whatever the pickle says, nothing of it runs."""

from __future__ import annotations

import io
import pickle
import sys
import warnings
import zipfile
from contextlib import closing
from functools import cache
from typing import Any

import torch

from lora_core.errors import LoraError
from lora_core.files.pytorch.pytorchfile import PickledFile
from tests.fuzz.choices import Choices
from tests.fuzz.scratch import written

_FORBIDDEN = ("os.", "subprocess.", "socket.", "shutil.", "ctypes.", "pty.", "webbrowser.")
_ALLOWED = ("os.listdir", "os.scandir", "os.stat", "os.chmod")
_watching = False


def check(data: bytes) -> None:
    _watch()
    path = written("pickled.pt", _content(data))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            file = _opened(path)
    except LoraError:
        return
    with closing(file):
        for name, info in file.items():
            tensor = file.tensor(name)
            assert tuple(tensor.shape) == info.shape
            assert tensor.nbytes <= 4 * file.size


def _opened(path: Any) -> PickledFile:
    global _watching  # noqa: PLW0603  (an audit hook can't be taken away again, so it is told when to look)
    _watching = True
    try:
        return PickledFile(path)
    finally:
        _watching = False


@cache
def _watch() -> None:
    """Make everything that a pickle could do fail, from now on and while a file is opened."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if _watching and event.startswith(_FORBIDDEN) and event not in _ALLOWED:
            raise SystemError(f"a pickle reached {event} {arguments!r:.200}")

    sys.addaudithook(hook)


def _content(data: bytes) -> bytes:
    """Return the bytes themselves, or an archive with true sums and lengths around a pickle."""
    choices = Choices(data)
    if choices.yes():
        return choices.rest()
    members = {"x/version": b"3\n", "x/byteorder": choices.one_of((b"little", b"big", b"middle"))}
    members |= {f"x/data/{number}": bytes(choices.number(256)) for number in range(choices.number(4))}
    if choices.yes(8):
        members[choices.text(12) or "x"] = choices.take(8)
    out = io.BytesIO()
    packing = zipfile.ZIP_DEFLATED if choices.yes(16) else zipfile.ZIP_STORED
    with zipfile.ZipFile(out, "w", packing) as archive:
        for name, content in {**members, "x/data.pkl": choices.rest()}.items():
            archive.writestr(zipfile.ZipInfo(name.encode("utf-8", "replace").decode()), content, packing)
    return out.getvalue()


def _saved(content: Any) -> bytes:
    out = io.BytesIO()
    torch.save(content, out)
    return out.getvalue()


def _pickle_of(content: Any) -> bytes:
    with zipfile.ZipFile(io.BytesIO(_saved(content))) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))


class _Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return eval, ("1",)


def seeds() -> dict[str, bytes]:
    two = {"x": torch.ones(3), "y": torch.arange(6).reshape(2, 3).t()}
    contents: dict[str, Any] = {
        "dict": two,
        "state-dict": {"state_dict": two, "epoch": 3},
        "sparse": {"x": torch.ones(2, 2).to_sparse()},
        "parameter": {"x": torch.nn.Parameter(torch.ones(2))},
        "expanded": {"x": torch.ones(1).expand(1000, 1000)},
        "runs": {"x": _Runs()},
        "number": 3,
    }
    files = {f"file-{name}": b"\x01" + _saved(content) for name, content in contents.items() if name == "dict"}
    files |= {f"pickle-{name}": b"\0\0\x03\x40\x40\x40\0\0" + _pickle_of(one) for name, one in contents.items()}
    return {**files, "legacy": b"\x01" + pickle.dumps({"x": 1}, 2)}
