"""Names of what is written: whatever a prompt asks for, the file lies in the folder where it belongs, or is refused."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from lora_core.errors import LoraError
from lora_core.files.names import new_path
from lora_core.files.outputs import check_target, temporary_name
from tests.fuzz.choices import Choices
from tests.fuzz.scratch import folder
from tests.fuzz.seen import check_shown

_PIECES = (
    *("a", "ink", "/", "\\", "..", ".", "~", ":", "C:", "//", "\\\\host\\share", "%date%", "$HOME", "\0", "\n", " "),
    *("CON", "nul", "com1", "COM¹", "LPT0", "aux.txt", "e\u0301", "é", "😀", "\ud800", "\u202e", "\x1b[0m"),
    *(".safetensors", "x" * 100, "é" * 60, "😀" * 30, "link", "link/", "\x7f", "\x85", "*", "?", "<", "|", '"'),
)


def check(data: bytes) -> None:
    choices = Choices(data)
    prefix = "".join(
        choices.one_of(_PIECES) if choices.yes() else choices.text(6) for _ in range(1 + choices.number(12))
    )
    check_prefix(folder("names"), prefix)
    check_out(folder("names"), prefix)


def check_prefix(base: Path, prefix: str) -> None:
    """Ask for a new file below `base`/root, beside which lies what a link inside it leads to."""
    root, outside = base / "root", base / "outside"
    for path in (root, outside):
        path.mkdir(exist_ok=True)
    if not (root / "link").is_symlink():
        (root / "link").symlink_to(outside)
    try:
        path = new_path([root, base / "other"], prefix)
    except LoraError as error:
        check_shown(str(error))
        assert list(outside.iterdir()) == []
        return
    assert Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))
    assert path.suffix == ".safetensors"
    check_target(path, False, ())
    path.with_name(temporary_name(path.name)).write_bytes(b"")
    path.write_bytes(b"x")
    assert new_path([root, base / "other"], prefix) != path
    shutil.rmtree(root)


def check_out(base: Path, text: str) -> None:
    """A name from the command line may be any; what can't be written is told before anything is."""
    for target in (base / f"{text}.safetensors", base / text / "x.safetensors"):
        try:
            check_target(target, False, ())
        except LoraError as error:
            check_shown(str(error))


def seeds() -> dict[str, bytes]:
    single = {f"piece-{number:02}": bytes([0, 1, number]) for number in range(len(_PIECES))}
    pairs = {f"below-{number:02}": bytes([2, 1, 1, 1, 2, 1, number]) for number in range(len(_PIECES))}
    return single | pairs
