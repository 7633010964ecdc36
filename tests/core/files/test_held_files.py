"""A leftover is what no process holds: of another container or machine too, whose numbers of processes tell nothing."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import lora_core.cli.leftovers
from lora_core.files import leftovers, locks
from lora_core.files.leftovers import leftovers_in, put_back, told_of
from lora_core.files.locks import can_tell
from lora_core.files.outputs import REPLACED, temporary_name
from lora_core.files.temporary import Temporary, TemporaryFolder
from tests.core import samples

# A process that writes, and thinks that its number is one that nobody here has: so does one of another container
WRITER = """
import os, sys
from pathlib import Path
os.getpid = lambda: 4194305
from lora_core.files.folderwriter import FolderWriter
from lora_core.files.tensorwriter import PlannedTensor, TensorWriter
kind, out = sys.argv[1], Path(sys.argv[2])
plan = [PlannedTensor("x", "U8", (4,))]
def ready():
    print("ready", flush=True)
    sys.stdin.readline()
if kind == "file":
    with TensorWriter(out, plan) as writer:
        ready()
        writer.put_bytes("x", memoryview(b"1234"))
        writer.commit()
else:
    with FolderWriter(out, out.parent / "source", 10) as folder:
        folder.write_text("{}", "config.json")
        ready()
        with TensorWriter(folder.place("unet", "model.safetensors"), plan) as writer:
            writer.put_bytes("x", memoryview(b"1234"))
            writer.commit()
        folder.commit()
"""


@pytest.fixture
def writer(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    out = tmp_path / ("out.safetensors" if request.param == "file" else "out")
    child = subprocess.Popen(
        [sys.executable, "-c", WRITER, request.param, str(out)],
        cwd=samples.REPO, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        yield child
        child.kill()


@pytest.mark.attack(12)
@pytest.mark.parametrize("writer", ["file", "folder"], indirect=True)
def test_what_a_process_of_another_container_writes_is_no_leftover(
    tmp_path: Path, writer: subprocess.Popen[str]
) -> None:
    (found,) = leftovers_in(tmp_path)
    assert (found.is_in_use, found.is_known) == (True, True)
    assert told_of(tmp_path) == []
    (item,) = lora_core.cli.leftovers.leftovers(tmp_path, remove=True).items
    assert item["state"] == "in use by a running process"
    with pytest.raises(BlockingIOError):
        found.clear()  # it was a leftover when it was listed
    writer.communicate("go\n")
    assert writer.returncode == 0
    assert samples.partials(tmp_path) == []
    assert all(path.name.startswith("out") for path in tmp_path.iterdir())


@pytest.mark.attack(12)
@pytest.mark.parametrize("writer", ["file", "folder"], indirect=True)
def test_what_a_killed_process_wrote_is_a_leftover_at_once(tmp_path: Path, writer: subprocess.Popen[str]) -> None:
    if not can_tell(tmp_path):
        pytest.skip("the disk of the temporary folder may be another machine's")
    writer.kill()
    assert writer.wait() == -signal.SIGKILL
    assert len(told_of(tmp_path)) == 1
    (item,) = lora_core.cli.leftovers.leftovers(tmp_path, remove=True).items
    assert item["state"] == "removed"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.attack(12)
@pytest.mark.parametrize("error", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EINVAL])
def test_without_locks_a_leftover_must_be_a_day_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    def refuses(*_: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(locks.fcntl, "flock", refuses)
    assert_waits_a_day(tmp_path)


@pytest.mark.attack(12)
def test_where_locks_may_be_of_this_machine_alone_a_leftover_must_be_a_day_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = tmp_path / "mountinfo"
    line = "1 1 0:1 / {0} rw - {1} server:/x rw\n"
    for kind, tells in (("nfs4", False), ("cifs", False), ("fuse.sshfs", False), ("9p", False), ("xfs", True)):
        name = str(tmp_path / "a b").replace(" ", "\\040")
        mounts.write_text(line.format("/", "ext4") + line.format(name, kind) + line.format(name + "c", "ext4"))
        monkeypatch.setattr(locks, "_MOUNTS", mounts)
        assert can_tell(tmp_path / "a b/c") is tells
        assert can_tell(tmp_path)
    mounts.write_text(line.format("/", "nfs4"))
    (tmp_path / "x").mkdir()
    assert_waits_a_day(tmp_path / "x")
    mounts.unlink()  # another system
    assert not can_tell(tmp_path)


def assert_waits_a_day(folder: Path) -> None:
    path = folder / temporary_name("out.safetensors").replace(f".{os.getpid()}-", ".4194305-")
    path.write_bytes(b"half")
    (item,) = lora_core.cli.leftovers.leftovers(folder, remove=True).items
    assert item["state"] == (
        "perhaps in use: no lock tells on this disk; removed once unchanged for a day, or delete it yourself"
    )
    assert told_of(folder) == []
    assert path.exists()
    os.utime(path, (time.time() - leftovers.ABANDONED - 10,) * 2)
    (item,) = lora_core.cli.leftovers.leftovers(folder, remove=True).items
    assert item["state"] == "removed"
    assert not path.exists()


@pytest.mark.attack(12)
def test_what_is_being_removed_is_not_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the making of a file and its lock somebody may take it for a leftover: then it is made again."""
    taken, take = list[str](), locks.take

    def late(fd: int) -> str:
        if len(taken) < 2:
            for path in tmp_path.iterdir():
                taken.append(path.name)
                path.rmdir() if path.is_dir() and not any(path.iterdir()) else None
                path.unlink() if path.is_file() else None
        return take(fd)

    monkeypatch.setattr("lora_core.files.temporary.take", late)
    temporary = Temporary(tmp_path / "out.safetensors")
    fd = temporary.create()
    assert len(taken) == 2
    assert os.path.samestat(os.fstat(fd), temporary.path.stat())
    assert temporary.path.name not in taken
    os.close(fd)
    temporary.end(None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.attack(12)
def test_an_old_folder_is_not_put_back_while_its_successor_comes(tmp_path: Path) -> None:
    aside = tmp_path / temporary_name("out", REPLACED).replace(f".{os.getpid()}-", ".4194305-")
    aside.mkdir()
    with locks.Lock(aside) as lock:
        assert lock.state == "free"
        put_back(tmp_path / "out")
        assert aside.exists()
    put_back(tmp_path / "out")
    assert (tmp_path / "out").exists()


@pytest.mark.attack(12)
def test_a_finished_folder_holds_nothing_of_the_lock(tmp_path: Path) -> None:
    folder = TemporaryFolder(tmp_path / "out")
    folder.make()
    assert [path.name for path in folder.path.iterdir()] == [locks.LOCK_FILE]
    folder.unlock()
    assert list(folder.path.iterdir()) == []
    assert locks.lock_state(folder.path) == "held"
    folder.end(None)
    assert list(tmp_path.iterdir()) == []


# What is no leftover at all


@pytest.mark.attack(25)
@pytest.mark.parametrize("kind", ["folder", "file", "nowhere", "itself", "pipe"])
def test_a_link_that_is_named_like_a_leftover_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    there = tmp_path / "there"
    (there / "deep").mkdir(parents=True)
    (there / "deep/file").write_bytes(bytes(1000))
    here = tmp_path / "here"
    here.mkdir()
    for ending in (".partial", ".replaced"):
        path = here / f".out.4194305-0123abcd{ending}"
        if kind == "pipe":
            os.mkfifo(path)
        else:
            path.symlink_to(
                {"folder": there, "file": there / "deep/file", "nowhere": "gone", "itself": path.name}[kind]
            )
    walk = os.walk
    monkeypatch.setattr(os, "walk", lambda top, **more: pytest.fail("walked") if there.samefile(top) else walk(top))
    assert leftovers_in(here) == []
    assert told_of(here) == []
    assert lora_core.cli.leftovers.leftovers(here, remove=True).items == []
    put_back(here / "out")
    assert len(list(here.iterdir())) == 2
    assert (there / "deep/file").stat().st_size == 1000


@pytest.mark.attack(25)
def test_links_inside_a_leftover_are_not_followed(tmp_path: Path) -> None:
    left = tmp_path / ".out.4194305-0123abcd.partial"
    left.mkdir()
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").write_bytes(bytes(100_000))
    (left / "link").symlink_to(tmp_path / "precious")
    (left / "round").symlink_to(".")
    (found,) = leftovers_in(tmp_path)
    assert found.nbytes < 100_000
    found.clear()
    assert samples.listing(tmp_path) == ["precious", "precious/file"]
