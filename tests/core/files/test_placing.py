"""How a finished file gets its name: on Windows with patience, beside other writers, and for small texts too."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from lora_core.errors import OutputError
from lora_core.files import leftovers, placing
from lora_core.files.layout import PlannedTensor
from lora_core.files.names import new_path
from lora_core.files.temporary import write_text
from lora_core.files.tensorwriter import TensorWriter
from tests.core import samples

PLAN = [PlannedTensor("x", "U8", (4,))]


def write(path: Path, content: bytes = b"1234", **options: bool) -> None:
    with TensorWriter(path, PLAN, **options) as writer:
        writer.put_bytes("x", memoryview(content))
        writer.commit()


# Windows, as its errors tell it


class BusyError(PermissionError):
    winerror = 32


def busy(times: int, action: Callable[..., object], number: int = 32) -> Callable[..., object]:
    """The action, refused so many times as Windows does while another program holds the file."""
    seen: list[int] = []

    def refusing(*arguments: object, **options: object) -> object:
        seen.append(1)
        if len(seen) <= times:
            error = BusyError(13, "The process cannot access the file because it is being used by another process")
            error.winerror = number
            raise error
        return action(*arguments, **options)

    return refusing


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    seconds: list[float] = []
    monkeypatch.setattr(placing.time, "sleep", seconds.append)
    return seconds


@pytest.mark.case(32)
@pytest.mark.parametrize("number", [5, 32, 33, 1224])
def test_a_file_that_another_program_holds_for_a_moment_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waited: list[float], number: int
) -> None:
    out = tmp_path / "out.safetensors"
    out.write_bytes(b"old")
    monkeypatch.setattr(Path, "replace", busy(3, Path.replace, number))
    write(out, overwrite=True)
    assert out.read_bytes().endswith(b"1234")
    assert waited == list(placing.WAITS[:3])
    assert samples.listing(tmp_path) == [out.name]


@pytest.mark.case(32)
def test_a_file_that_another_program_keeps_is_not_lost_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waited: list[float]
) -> None:
    out = tmp_path / "out.safetensors"
    out.write_bytes(b"old")
    monkeypatch.setattr(Path, "replace", busy(99, Path.replace))
    text = samples.message(OutputError, lambda: write(out, overwrite=True))
    (kept,) = samples.partials(tmp_path)
    assert text == (
        "out.safetensors: another program holds the file, so it can't be replaced; the finished file was kept "
        f"beside it as {kept}: close the program and rename it."
    )
    assert (out.read_bytes(), waited) == (b"old", list(placing.WAITS))
    assert (tmp_path / kept).read_bytes().endswith(b"1234")


@pytest.mark.case(32)
def test_another_error_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waited: list[float]) -> None:
    out = tmp_path / "out.safetensors"
    out.write_bytes(b"old")
    monkeypatch.setattr(Path, "replace", busy(99, Path.replace, 3))
    text = samples.message(OutputError, lambda: write(out, overwrite=True))
    assert text.startswith("out.safetensors: can't be written: The process cannot access the file")
    assert waited == []
    assert samples.listing(tmp_path) == [out.name]


@pytest.mark.case(32)
def test_windows_is_not_asked_whether_a_process_runs() -> None:
    """There `os.kill(pid, 0)` ends it."""
    with pytest.MonkeyPatch.context() as there:  # undone before pytest tells of a failure
        there.setattr(os, "kill", lambda *_: pytest.fail("a process would be ended"))
        there.setattr(os, "name", "nt")
        assert leftovers._is_running(os.getppid())


# Several at once

WRITER = """
import sys
from pathlib import Path
from lora_core.errors import LoraError
from lora_core.files.tensorwriter import PlannedTensor, TensorWriter
out, letter, overwrite = Path(sys.argv[1]), sys.argv[2].encode(), sys.argv[3] == "True"
size = 2**20 + ord(letter)
try:
    with TensorWriter(out, [PlannedTensor("x", "U8", (size,))], overwrite=overwrite) as writer:
        writer.put_bytes("x", memoryview(letter * size))
        print("ready", flush=True)
        sys.stdin.readline()
        writer.commit()
except LoraError as error:
    sys.exit(str(error))
"""


@pytest.mark.case(27)
@pytest.mark.parametrize("overwrite", [False, True])
def test_two_processes_with_one_target(tmp_path: Path, overwrite: bool) -> None:
    out = tmp_path / "out.safetensors"
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(out), letter, str(overwrite)],
            cwd=samples.REPO, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for letter in "abc"
    ]  # fmt: skip
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"  # all have begun
    assert len(samples.partials(tmp_path)) == 3
    ended = [(*writer.communicate("go\n", timeout=60), writer.returncode) for writer in writers]
    codes = [code for _, _, code in ended]
    assert codes == ([0, 0, 0] if overwrite else [0, 1, 1])
    refused = "out.safetensors: already exists; another job wrote it meanwhile.\n"
    assert [errors for _, errors, code in ended if code] == [refused] * codes.count(1)
    content = out.read_bytes()
    letter = content[-1:]
    assert letter == (b"c" if overwrite else b"a")  # the last, or the first
    assert content.endswith(letter * (2**20 + ord(letter)))
    assert samples.listing(tmp_path) == [out.name]


@pytest.mark.case(27)
def test_threads_with_one_counted_name(tmp_path: Path) -> None:
    ready, written, refused = threading.Barrier(8), list[bytes](), list[str]()

    def work(number: int) -> None:
        content = bytes([number]) * 4
        path = new_path([tmp_path], "name")
        ready.wait(30)
        try:
            write(path, content)
        except OutputError as error:
            refused.append(str(error))
        else:
            written.append(content)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert samples.listing(tmp_path) == ["name_00001_.safetensors"]
    assert (tmp_path / "name_00001_.safetensors").read_bytes()[-4:] == written[0]
    assert (len(written), len(refused)) == (1, 7)
    assert all(text.startswith("name_00001_.safetensors: already exists; ") for text in refused)


# Small texts


def test_a_text_is_written_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config.json"
    write_text(path, "one\n", overwrite=False)
    assert samples.message(OutputError, lambda: write_text(path, "two\n", overwrite=False)) == (
        "config.json: already exists; another job wrote it meanwhile."
    )
    path.chmod(0o640)
    write_text(path, "墨\n", overwrite=True)
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == ("墨\n".encode(), 0o640)

    def broken(fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    text = samples.message(OutputError, lambda: write_text(path, "three\n", overwrite=True))
    assert text == f"config.json: {samples.DISK_FAILED}"
    assert samples.listing(tmp_path) == ["config.json"]
    assert path.read_text("utf-8") == "墨\n"


@pytest.mark.case(25)
def test_the_owner_stays_where_that_is_allowed(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root may give a file to another user")
    out = tmp_path / "out.safetensors"
    out.write_bytes(b"old")
    out.chmod(0o640)
    os.chown(out, 1234, 2345)
    write(out, overwrite=True)
    found = out.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (1234, 2345, 0o640)


@pytest.mark.case(25)
def test_a_hard_link_to_the_old_file_keeps_the_old_content(tmp_path: Path) -> None:
    out, other = tmp_path / "out.safetensors", tmp_path / "other.safetensors"
    out.write_bytes(b"old")
    other.hardlink_to(out)
    write(out, overwrite=True)
    assert other.read_bytes() == b"old"
    assert out.read_bytes().endswith(b"1234")
