"""What a reader needs for an input, measured in a process that may be killed."""

from __future__ import annotations

import multiprocessing
import re
import resource
import signal
import time
import warnings
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType

from lora_core.errors import LoraError
from tests.fuzz.cost.readers import Read

# What an input may cost: generous to JSON, whose objects take 50 bytes and more for one of text
SECONDS, SECONDS_PER_BYTE = 0.5, 4e-6
MEMORY, MEMORY_PER_BYTE = 100e6, 120
ADDRESSES = 8 * 2**30  # bytes of address space: beyond it is a MemoryError, which is a finding too
GRACE = 20  # seconds beyond which a process is killed


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of the processor, bytes of memory at the most, and what was raised that is no LoraError."""

    size: int
    seconds: float
    memory: float
    raised: str = ""

    @property
    def finding(self) -> bool:
        limits = SECONDS + SECONDS_PER_BYTE * self.size, MEMORY + MEMORY_PER_BYTE * self.size
        return bool(self.raised) or self.seconds > limits[0] or self.memory > limits[1]

    def __str__(self) -> str:
        told = f"{self.seconds:.1f} s, {self.memory / 1e6:,.0f} MB"
        return f"{told}, {self.raised}" if self.raised else told


class Measuring:
    """A process that measures one reader; a new one when it had to be killed."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._start()

    def __enter__(self) -> Measuring:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.join()

    def _start(self) -> None:
        self._connection, theirs = multiprocessing.Pipe()
        fork = multiprocessing.get_context("fork")
        self._process = fork.Process(target=_work, args=(self._read, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def cost(self, data: bytes) -> Cost:
        self._connection.send_bytes(data)
        try:
            if self._connection.poll(GRACE):
                return Cost(len(data), *self._connection.recv())
            raised = "did not end"
        except EOFError:
            raised = "the process ended"
        self._process.kill()
        self._process.join()
        self._start()
        return Cost(len(data), GRACE, 0, raised)


def _work(read: Read, connection: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    while True:
        connection.send(_measured(read, connection.recv_bytes()))


def _measured(read: Read, data: bytes) -> tuple[float, float, str]:
    Path("/proc/self/clear_refs").write_text("5")  # forget the most memory that there was
    before, start, raised = _memory("VmRSS"), time.process_time(), ""
    try:
        read(data)
    except LoraError as error:
        raised = f"a message of {len(str(error)):,} characters" if len(str(error)) > 4000 else ""
    except Exception as error:  # noqa: BLE001  (anything else is what is looked for)
        raised = f"{type(error).__name__}: {error}"[:200]
    return time.process_time() - start, _memory("VmHWM") - before, raised


def _memory(field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text("ascii"))
    return int(found[1]) * 1024 if found else 0
