"""What the system is asked for, as strace sees it, and what happens when the system refuses."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import tiny
from tests.core import samples
from tests.faults.campaigns import SmallDisk, mount

STRACE = shutil.which("strace") or ""
WRITE = """
import os, sys
from pathlib import Path
from lora_core.errors import LoraError
from lora_core.files.tensorwriter import PlannedTensor, TensorWriter
if len(sys.argv) > 2:
    os.setuid(int(sys.argv[2]))
try:
    with TensorWriter(Path(sys.argv[1]), [PlannedTensor("x", "U8", (2**21,))], overwrite=True) as writer:
        writer.put_bytes("x", memoryview(bytes(2**21)))
        writer.commit()
except LoraError as error:
    sys.exit(str(error))
"""
OLD = b"what was there before"


def traced(options: list[str], *command: str) -> subprocess.CompletedProcess[str]:
    """Runs a child Python under strace; skips where there is none, or where it may not look."""
    if not STRACE:
        pytest.skip("strace is not installed")
    whole = [STRACE, "-f", "-qq", *options, sys.executable, *command]
    environment = {**os.environ, "PYTHONPATH": str(samples.REPO), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        whole, cwd=samples.REPO, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    if "ptrace" in done.stderr and "Operation not permitted" in done.stderr:
        pytest.skip("strace is not allowed to trace here")
    return done


@pytest.fixture
def out(tmp_path: Path) -> Path:
    path = tmp_path / "results/out.safetensors"
    path.parent.mkdir()
    return path


NAMING = ["-y", "-e", "trace=fsync,fdatasync,link,linkat,rename,renameat,renameat2,mmap", "-o"]


def events(trace: Path, out: Path) -> list[str]:
    """What happened to the output and its folder, in order; whatever else is flushed or named is left out."""
    found: list[str] = []
    for line in trace.read_text().splitlines():
        call = re.sub(r"^\d+\s+", "", line).partition("(")[0]
        partial = f"/.{out.name}." in line and ".partial" in line
        if call == "fsync" and partial:
            found.append("flush file")
        elif call == "fsync" and f"<{out.parent}>" in line:
            found.append("flush folder")
        elif call.startswith(("link", "rename")) and partial:
            found.append("name")
    return found


@pytest.mark.case(24)
@pytest.mark.parametrize("exists", [False, True])
def test_the_file_is_flushed_then_named_then_its_folder_is_flushed(out: Path, tmp_path: Path, exists: bool) -> None:
    if exists:
        out.write_bytes(OLD)
    trace = tmp_path / "trace"
    code = WRITE if exists else WRITE.replace("overwrite=True", "overwrite=False")
    done = traced([*NAMING, str(trace)], "-c", code, str(out))
    assert (done.returncode, done.stderr) == (0, "")
    assert events(trace, out) == ["flush file", "name", "flush folder"]


@pytest.mark.case(24, 31)
def test_a_merge_flushes_in_that_order_maps_no_input_and_renames_within_the_folder(out: Path, tmp_path: Path) -> None:
    base = tiny.make_tiny("flux", tmp_path / "base.safetensors")
    lora = tiny.make_lora(tmp_path / "lora.safetensors", tiny.flat("lora_unet_", tiny.modules("flux")), 4)
    trace = tmp_path / "trace"
    words = ["merge", "--base", str(base), "--lora", str(lora), "--out", str(out), "--dtype", "bf16"]
    done = traced(["--seccomp-bpf", *NAMING, str(trace)], "-m", "lora_core", *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert events(trace, out) == ["flush file", "name", "flush folder"]
    text = trace.read_text()
    assert "mmap(" in text  # it was looked at
    assert ".safetensors>" not in "".join(line for line in text.splitlines() if "mmap(" in line)
    named = [line for line in text.splitlines() if ".partial" in line and "fsync" not in line]
    assert named
    assert all(line.count(f"{out.parent}/") == 2 or f"<{out.parent}>" in line for line in named)


FAULTS = {
    "space that can't be reserved": ("fallocate:error=ENOSPC:when=1", samples.DISK_FULL),
    "a write": ("pwrite64:error=EIO:when=2", samples.DISK_FAILED),
    "a write to a full disk": ("pwrite64:error=ENOSPC:when=2", samples.DISK_FULL),
    "a write over quota": ("pwrite64:error=EDQUOT:when=2", "can't be written: Disk quota exceeded; nothing was kept; "),
    "the flush": ("fsync:error=EIO:when=1", samples.DISK_FAILED),
    "the naming": ("/^rename:error=EIO:when=1", samples.DISK_FAILED),
}


@pytest.mark.case(22, 23)
@pytest.mark.parametrize("fault", FAULTS)
def test_what_the_system_refuses_is_told_and_the_old_file_stays(out: Path, fault: str) -> None:
    out.write_bytes(OLD)
    inject, expected = FAULTS[fault]
    call = inject.partition(":")[0]
    done = traced(["-e", f"trace={call}", "-e", f"inject={inject}", "-o", "/dev/null"], "-c", WRITE, str(out))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"out.safetensors: {expected}")
    assert out.read_bytes() == OLD
    assert samples.listing(out.parent) == [out.name]


@pytest.mark.case(23)
def test_a_name_that_is_not_flushed_is_told_though_the_file_is_complete(out: Path) -> None:
    inject = ["-e", "trace=fsync", "-e", "inject=fsync:error=EIO:when=2", "-o", "/dev/null"]
    done = traced(inject, "-c", WRITE, str(out))
    assert done.returncode == 1
    assert done.stderr == (
        "out.safetensors: is complete, but the disk failed to keep its name (Input/output error); check the disk, and "
        "whether the file is still there after a restart.\n"
    )
    assert out.stat().st_size > 2**21


@pytest.mark.case(31)
@pytest.mark.parametrize(
    ("inject", "exists"),
    [("/^link:error=EPERM", False), ("fsync:error=EINVAL:when=2", True), ("/^fchmod:error=EPERM", True),
     ("/chown:error=EPERM", True), ("fallocate:error=EOPNOTSUPP", False)],
)  # fmt: skip
def test_what_a_file_system_lacks_is_done_without(out: Path, inject: str, exists: bool) -> None:
    """No hard links, no flush of folders, no modes, no owners, no reserving: FAT, SMB, FUSE and their like."""
    if exists:
        out.write_bytes(OLD)
    code = WRITE if exists else WRITE.replace("overwrite=True", "overwrite=False")
    call = inject.partition(":")[0]
    done = traced(["-e", f"trace={call}", "-e", f"inject={inject}", "-o", "/dev/null"], "-c", code, str(out))
    assert (done.returncode, done.stderr) == (0, "")
    assert samples.listing(out.parent) == [out.name]
    assert out.stat().st_size > 2**21


@pytest.mark.case(23)
@pytest.mark.parametrize(
    ("mode", "advice"), [(0o555, "; check who may write to the folder, or choose another."), (0o000, "")]
)
def test_a_folder_that_may_not_be_written_to(mode: int, advice: str) -> None:
    with tempfile.TemporaryDirectory() as made:  # pytest's own folders are closed to other users
        Path(made).chmod(0o755)
        out = Path(made) / "results/out.safetensors"
        out.parent.mkdir()
        out.write_bytes(OLD)
        out.parent.chmod(mode)
        done = samples.python("-c", WRITE, str(out), *(["65534"] if os.geteuid() == 0 else []))
        out.parent.chmod(0o755)
        assert done.returncode == 1
        assert done.stderr.startswith("out.safetensors: can't be written: Permission denied; nothing was kept" + advice)
        assert "Traceback" not in done.stderr
        assert out.read_bytes() == OLD
        assert samples.listing(out.parent) == [out.name]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    try:
        disk = SmallDisk(tmp_path / "disk", 128 * 2**20)
        at = disk.__enter__()
    except PermissionError as error:
        pytest.skip(str(error))
    yield at
    disk.__exit__()


@pytest.mark.case(23)
def test_a_disk_that_can_only_be_read(small_disk: Path) -> None:
    out = small_disk / "out.safetensors"
    out.write_bytes(OLD)
    mount("-o", "remount,ro", str(small_disk))
    done = samples.python("-c", WRITE, str(out))
    assert done.returncode == 1
    assert done.stderr == (
        "out.safetensors: can't be written: Read-only file system; nothing was kept; this disk can only be read: write "
        "to another.\n"
    )
    assert out.read_bytes() == OLD


@pytest.mark.case(22)
def test_a_disk_that_is_too_small_is_known_before(small_disk: Path) -> None:
    out = small_disk / "out.safetensors"
    out.write_bytes(OLD)
    with (small_disk / "ballast").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 100 * 2**20)
    done = samples.python("-c", WRITE, str(out))
    assert done.returncode == 1
    assert re.fullmatch(
        r"out\.safetensors: not enough disk space: needs \d+ bytes with reserve, \d+ are free\.\n", done.stderr
    )
    assert out.read_bytes() == OLD
    assert samples.listing(small_disk) == ["ballast", out.name]
