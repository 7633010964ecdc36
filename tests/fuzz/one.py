"""One fuzzer at work, in a process forked for it: our code has the marks of coverage by then, which takes a while."""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType

from tests.fuzz import CORPUS

SLOWEST, MEMORY = 10, 3000  # seconds for one input, and MB in all, that are a finding
LONGEST = 4096  # bytes of an input
GRACE = 60  # seconds after its time in which a fuzzer must end
TRACEBACK = 77  # libFuzzer's exit code for an exception; any other but 0 is a crash, a hang or too much memory


def imported(targets: Iterable[str]) -> dict[str, ModuleType]:
    """Return the targets' modules, all of lora_core marked for coverage."""
    import atheris

    with _quiet(), atheris.instrument_imports(include=["lora_core"]):
        return {target: importlib.import_module(f"tests.fuzz.{target}") for target in targets}


class _quiet:  # noqa: N801  (reads as a phrase: `with _quiet()`)
    """Keeps the names of 200 modules from standard error."""

    def __enter__(self) -> None:
        self._stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)

    def __exit__(self, *_: object) -> None:
        os.dup2(self._stderr, 2)
        os.close(self._stderr)


def fuzzed(module: ModuleType, work: Path, seconds: float) -> int:
    """Fuzz for so many seconds and return the exit code, 0 if nothing was found; the log is `work`/log."""
    found, seeds, kept = work / "corpus", work / "seeds", CORPUS / module.__name__.rpartition(".")[2]
    for folder in (found, seeds, kept):
        folder.mkdir(parents=True, exist_ok=True)
    for name, data in module.seeds().items():
        (seeds / name).write_bytes(data)
    limits = (f"-timeout={SLOWEST}", f"-rss_limit_mb={MEMORY}", f"-max_len={LONGEST}")
    limits += (f"-max_total_time={max(1, round(seconds))}", f"-artifact_prefix={work}/found-")
    child = os.fork()
    if child == 0:
        _fuzz(module.check, ["fuzz", *limits, str(found), str(seeds), str(kept)], work)
    return _waited(child, seconds + GRACE)


def _fuzz(check: Callable[[bytes], None], arguments: list[str], work: Path) -> None:
    """Become the fuzzer; never returns."""
    import atheris

    def checked(data: bytes) -> None:
        try:
            check(data)
        except BaseException:  # libFuzzer keeps what crashes or hangs, but loses some of what raises
            (work / f"found-{hashlib.sha256(data).hexdigest()[:12]}").write_bytes(data)
            raise

    out = os.open(work / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    atheris.Setup(arguments, checked)
    atheris.Fuzz()  # ends by an exit
    sys.exit(1)


def _waited(child: int, timeout: float) -> int:
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.1)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return -9
