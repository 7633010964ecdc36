"""Child processes, with what they cost."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

REPO = Path(__file__).resolve().parents[1]
SHOWN = 300  # characters of a failed process' last line


class ProcessError(RuntimeError):
    """A child process ended with an error; the message holds its last line."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A process that did its work."""

    wall: float  # seconds from start to end
    cpu: float  # seconds, user and system
    output: str


def finish(
    command: Sequence[str | Path],
    *,
    cwd: Path = REPO,
    env: Mapping[str, str] | None = None,
    stdin: str = "",
    timeout: float = 3600,
) -> Finished:
    """Run `command` to its end; `env` is added to this process' environment. Raises ProcessError."""
    with tempfile.TemporaryFile("w+") as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        given.write(stdin)
        given.seek(0)
        start = time.perf_counter()
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=cwd, env={**os.environ, **(env or {})}, stdin=given, stdout=out, stderr=errors,
        )  # fmt: skip
        watch = threading.Timer(timeout, process.terminate)
        watch.start()
        try:
            _, status, used = os.wait4(process.pid, 0)
        except BaseException:  # this process is to end, so that one is too
            process.terminate()
            process.wait()
            raise
        finally:
            watch.cancel()
        spent = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)  # or its end would be waited for once more
        if process.returncode:
            raise ProcessError(_why(command, process.returncode, errors))
        out.seek(0)
        return Finished(spent, used.ru_utime + used.ru_stime, out.read().decode())


def _why(command: Sequence[str | Path], code: int, errors: IO[bytes]) -> str:
    errors.seek(0)
    words = errors.read().decode(errors="replace").strip().splitlines() or ["no message"]
    name = " ".join(Path(str(part)).name for part in command[:3])
    return f"`{name}` ended with {code}: {words[-1][:SHOWN]}"


def end_in_order(number: int, frame: object) -> None:
    """Handle a signal by leaving all `with` and `finally` blocks, which remove files and end children."""
    sys.exit(128 + number)


def peak_rss() -> int:
    """Return the largest resident memory that this process had, in bytes.

    Not what wait4 tells the parent: on Linux that begins with the parent's own memory at the time of the fork.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
