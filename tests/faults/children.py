"""Runs of the command in forked children, which begin at once because torch is loaded already, and get into trouble.

A child counts its calls to the system that change a file system, and at the wanted one something happens: it kills
itself before the call or in the middle of it, or has the disk filled.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_core.cli.entry import main

CALLS = ("open", "posix_fallocate", "pwrite", "copy_file_range", "fdatasync", "fsync", "chmod", "link", "unlink",
         "replace", "rename", "close")  # fmt: skip
SECONDS = 120  # that a child may take
INTERRUPTED = 130

Trouble = Callable[[str, Callable[..., Any], tuple[Any, ...]], None]


STOPS = (signal.SIGINT, signal.SIGTERM)  # that wait while a child is made


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended."""

    code: int  # its exit code, or minus the signal
    said: str
    seconds: float
    calls: int = 0  # counted, where it lived to tell
    named: int = 0  # which of them gave the file its name


def run(arguments: Sequence[str], at: int = -1, trouble: Trouble | None = None, *, reserves: bool = True) -> Ended:
    """Run the command in a child; before the call number `at` there is `trouble`."""
    child = Child(arguments, at, trouble, reserves=reserves)
    return child.wait()


class Child:
    """A running command."""

    def __init__(
        self, arguments: Sequence[str], at: int = -1, trouble: Trouble | None = None, *, reserves: bool = True,
        call: Callable[[Sequence[str]], int] | None = None, seconds: int = SECONDS,
    ) -> None:  # fmt: skip
        """`call` is what it does in place of the command; it is killed after so many `seconds`."""
        self._read, write = os.pipe()
        self._started = time.monotonic()
        # one that comes before the child is itself would be raised in its copy of the parent's work
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
        self.pid = os.fork()
        if self.pid != 0:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
        else:
            os.close(self._read)
            signal.alarm(seconds)
            _be_child(arguments, write, _Counter(at, trouble, reserves), call or command)
        os.close(write)

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait(self) -> Ended:
        said = b""
        while part := os.read(self._read, 2**16):  # until the child has closed its end
            said += part
        os.close(self._read)
        _, status = os.waitpid(self.pid, 0)
        text, _, told = said.decode("utf-8", "replace").partition("\0")
        calls, named = map(int, told.split() or (0, 0))
        seconds = time.monotonic() - self._started
        return Ended(os.waitstatus_to_exitcode(status), text, seconds, calls, named)


class _Counter:
    def __init__(self, at: int, trouble: Trouble | None, reserves: bool) -> None:
        self.count = self.named = 0
        self._at, self._trouble, self._reserves = at, trouble, reserves

    def install(self) -> None:
        for name in CALLS:
            setattr(os, name, self._counted(name, getattr(os, name)))

    def _counted(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            number, self.count = self.count, self.count + 1
            if number == self._at and self._trouble:
                self._trouble(name, call, arguments)
            if name in ("link", "replace"):
                self.named = number
            if name == "posix_fallocate" and not self._reserves:
                raise OSError(errno.EOPNOTSUPP, "as on a file system that can't reserve space")
            return call(*arguments, **options)

        return counted


def command(arguments: Sequence[str]) -> int:
    """Run the command as it is."""
    return main([*arguments, "--quiet"])


def _be_child(arguments: Sequence[str], write: int, counter: _Counter, call: Callable[[Sequence[str]], int]) -> None:
    code = 99
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
        for stream in (1, 2):
            os.dup2(write, stream)
        sys.stdout, sys.stderr = (open(stream, "w", encoding="utf-8", closefd=False) for stream in (1, 2))  # noqa: SIM115
        close, send = os.close, os.write
        counter.install()
        code = call(arguments)
        sys.stdout.flush()
        sys.stderr.flush()
        send(write, f"\0{counter.count} {counter.named}".encode())
        close(write)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 98
    except KeyboardInterrupt:  # before the work had begun or when it was done
        code = INTERRUPTED
    except BaseException as error:  # noqa: BLE001  (a child must never return into its parent's work)
        os.write(2, repr(error).encode())
    finally:
        os._exit(code)


def die(name: str, call: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """End as the system ends a process: at once; in the middle of a write after half of it."""
    if name == "pwrite":
        fd, data, offset = arguments
        call(fd, data[: len(data) // 2], offset)
    elif name == "copy_file_range":
        source, fd, count, *offsets = arguments
        call(source, fd, count // 2, *offsets)
    os.kill(os.getpid(), signal.SIGKILL)


def filling(ballast: Path) -> Trouble:
    """Return a trouble that fills the disk of `ballast` to its last byte, as another program would."""

    def fill(name: str, call: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        with ballast.open("ab", buffering=0) as file:
            size = 2**24
            while size:
                try:
                    while file.write(bytes(size)) == size:
                        pass
                    size //= 2
                except OSError:
                    size //= 2

    return fill
