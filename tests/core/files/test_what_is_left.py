"""What an error says of what is there afterwards is so: whatever fails late, and whatever is renamed meanwhile."""

from __future__ import annotations

import errno
import os
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lora_core.errors import OutputError
from lora_core.files import folderwriter, outputs, temporary
from lora_core.files.folderwriter import FolderWriter
from lora_core.files.layout import PlannedTensor
from lora_core.files.outputs import NOTHING_KEPT
from lora_core.files.temporary import write_text
from lora_core.files.tensorwriter import TensorWriter
from tests.core import samples

PLAN = [PlannedTensor("x", "U8", (4,))]
Midway = Callable[[], object]


def nothing() -> None: ...


def file(out: Path, midway: Midway = nothing, **options: bool) -> None:
    with TensorWriter(out.with_name("out.safetensors"), PLAN, **options) as writer:
        writer.put_bytes("x", memoryview(b"1234"))
        midway()
        writer.commit()


def text(out: Path, midway: Midway = nothing, **options: bool) -> None:
    name = temporary.Temporary.take_name

    def later(self: temporary.Temporary, overwrite: bool) -> None:
        midway()
        name(self, overwrite)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(temporary.Temporary, "take_name", later)
        write_text(out.with_name("out.json"), "1234", overwrite=options.get("overwrite", False))


def folder(out: Path, midway: Midway = nothing, **options: bool) -> None:
    with FolderWriter(out, out.parent.parent / "source", 10, **options) as writer:
        with TensorWriter(writer.place("unet", "model.safetensors"), PLAN) as inner:
            inner.put_bytes("x", memoryview(b"1234"))
            inner.commit()
        midway()
        writer.write_text("{}", "unet", "config.json")
        writer.commit()


WRITERS = [file, text, folder]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "results").mkdir()
    return tmp_path / "results/out"


def refusing(monkeypatch: pytest.MonkeyPatch, *names: str, when: Callable[[str], bool] = lambda _: True) -> None:
    """Have these functions of `os` fail for what is being written."""
    for name in names:
        real = getattr(os, name)

        def refuse(path: Any, *more: Any, real: Any = real, **options: Any) -> Any:
            if isinstance(path, (str, Path)) and ".partial" in str(path) and when(str(path)):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return real(path, *more, **options)

        monkeypatch.setattr(os, name, refuse)


def left_in(place: Path) -> list[str]:
    return [path.name for path in place.rglob("*") if path.name.endswith((".partial", ".replaced"))]


@pytest.mark.attack(21)
@pytest.mark.parametrize("write", [file, text])
def test_a_second_name_that_can_not_be_removed_is_told_with_the_finished_file(
    out: Path, monkeypatch: pytest.MonkeyPatch, write: Any
) -> None:
    refusing(monkeypatch, "unlink")
    message = samples.message(OutputError, lambda: write(out))
    (name,) = left_in(out.parent)
    (done,) = [path for path in out.parent.iterdir() if path.name != name]
    assert message == (
        f"{done.name}: is complete, but {name}, a second name of the same file, could not be removed: delete that."
    )
    assert done.read_bytes().endswith(b"1234")


@pytest.mark.attack(21)
@pytest.mark.parametrize("write", WRITERS)
def test_what_can_not_be_removed_after_an_error_is_named(
    out: Path, monkeypatch: pytest.MonkeyPatch, write: Any
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def break_the_disk() -> None:
        refusing(monkeypatch, "unlink", "rmdir")
        for name in ("fsync", "link", "replace"):
            monkeypatch.setattr(os, name, fails)

    message = samples.message(OutputError, lambda: write(out, break_the_disk))
    (name,) = [name for name in left_in(out.parent) if name.startswith(".out.")]
    assert f"; what was written is left as {name}" in message
    assert NOTHING_KEPT not in message


@pytest.mark.attack(21)
@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("made_again", [False, True])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_is_renamed_meanwhile_holds_nothing_half_written(
    out: Path, write: Any, made_again: bool, overwrite: bool
) -> None:
    other = out.parent.with_name("renamed")

    def rename() -> None:
        out.parent.rename(other)
        if made_again:
            out.parent.mkdir()

    message = samples.message(OutputError, lambda: write(out, rename, overwrite=overwrite))
    assert message.endswith(f": its folder results was renamed, moved or removed meanwhile; {NOTHING_KEPT}.")
    assert list(other.iterdir()) == []
    assert not out.parent.exists() or list(out.parent.iterdir()) == []


@pytest.mark.attack(21)
@pytest.mark.parametrize("write", WRITERS)
def test_what_was_renamed_itself_is_named(out: Path, write: Any) -> None:
    def rename() -> None:
        (path,) = out.parent.iterdir()
        path.rename(out.parent / "mine")

    message = samples.message(OutputError, lambda: write(out, rename))
    assert message.endswith("was renamed, moved or removed meanwhile; what was written is left as mine.")
    assert [path.name for path in out.parent.iterdir()] == ["mine"]


@pytest.mark.attack(21)
@pytest.mark.parametrize("write", WRITERS)
def test_a_folder_that_is_removed_meanwhile(out: Path, write: Any) -> None:
    message = samples.message(OutputError, lambda: write(out, lambda: shutil.rmtree(out.parent)))
    assert message.endswith(f": its folder results was renamed, moved or removed meanwhile; {NOTHING_KEPT}.")
    assert not out.parent.exists()


@pytest.mark.attack(21)
def test_what_took_the_temporary_name_does_not_become_the_file(out: Path) -> None:
    def swap() -> None:
        (path,) = out.parent.iterdir()
        path.unlink()
        path.write_bytes(b"somebody else's")

    message = samples.message(OutputError, lambda: file(out, swap))
    assert "was renamed, moved or removed meanwhile" in message
    assert not out.with_name("out.safetensors").exists()


@pytest.fixture
def old(out: Path) -> Path:
    samples.save(out / "model.safetensors", {})
    return out


@pytest.mark.attack(21)
def test_an_old_folder_that_can_not_be_removed_is_named_with_the_finished_one(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folderwriter.shutil, "rmtree", lambda *_, **__: None)
    message = samples.message(OutputError, lambda: folder(old, overwrite=True))
    (name,) = left_in(old.parent)
    assert message == (
        f"out: is complete, but what it replaced could not be removed, and is left as {name}: delete that."
    )
    assert (old / "unet/config.json").read_text() == "{}"


@pytest.mark.attack(21)
def test_an_old_folder_that_does_not_get_its_name_again_is_named(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename, seen = os.rename, list[object]()

    def once(*names: Any) -> None:
        seen.append(names)
        if len(seen) > 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rename(*names)

    monkeypatch.setattr(os, "rename", once)
    message = samples.message(OutputError, lambda: folder(old, overwrite=True))
    (name,) = [path.name for path in old.parent.iterdir()]
    assert message == (
        "out: can't be replaced ([Errno 5] Input/output error), and what was there can't get its name again "
        f"(Input/output error): it is {name} now, whole; rename it."
    )
    assert (old.parent / name / "model.safetensors").exists()


@pytest.mark.attack(21)
def test_a_warning_tells_what_an_interrupt_leaves(
    out: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refusing(monkeypatch, "unlink")

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        file(out, interrupt)
    (name,) = left_in(out.parent)
    assert caplog.messages == [f"out.safetensors: what was written could not be removed, and is left as {name}"]


# How much room there is


Usage = namedtuple("Usage", "total used free")


@pytest.mark.attack(26)
@pytest.mark.parametrize("write", [file, folder])
@pytest.mark.parametrize(
    "answer",
    [errno.ENOSYS, errno.EIO, errno.ENOTCONN, errno.EACCES, errno.ESTALE, errno.EOVERFLOW, (0, 0, 0), (-1, -1, -1)],
)
def test_a_disk_that_does_not_say_its_size_is_written_to(
    out: Path, monkeypatch: pytest.MonkeyPatch, write: Any, answer: Any
) -> None:
    def usage(_: object) -> Usage:
        if isinstance(answer, int):
            raise OSError(answer, os.strerror(answer))
        return Usage(*answer)

    monkeypatch.setattr(outputs.shutil, "disk_usage", usage)
    write(out)
    assert len(list(out.parent.iterdir())) == 1


@pytest.mark.attack(26)
@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM, errno.ENODEV])
def test_a_disk_that_can_not_reserve_is_written_to(out: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    file(out)
    assert len(list(out.parent.iterdir())) == 1


@pytest.mark.attack(26)
def test_a_full_disk_that_says_so_is_refused(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs.shutil, "disk_usage", lambda _: Usage(100, 100, 0))
    assert "not enough disk space" in samples.message(OutputError, lambda: file(out))
