"""Fuzz all targets, or some, one after the other, for so many seconds in total."""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import sys
import time
from pathlib import Path
from types import ModuleType

from tests.fuzz import CORPUS, TARGETS
from tests.fuzz.figures import read_figures
from tests.fuzz.one import fuzzed, imported
from tests.fuzz.reach import reaching_more
from tests.fuzz.scratch import root

REPO = Path(__file__).resolve().parents[2]
WORK = REPO / "build" / "fuzz"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"some of {', '.join(TARGETS)}; all if none")
    parser.add_argument("--seconds", type=float, default=60.0, help="for all targets together")
    parser.add_argument("--keep", action="store_true", help="then add to the corpus what reaches new code")
    options = parser.parse_args()
    targets = options.targets or list(TARGETS)
    if unknown := set(targets) - set(TARGETS):
        parser.error(f"no target {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    if importlib.util.find_spec("atheris") is None:
        sys.stdout.write("fuzz: skipped: atheris is not installed; there is none for this Python or system.\n")
        return 0
    root()  # before a fuzzer is forked
    end = time.monotonic() + options.seconds
    modules = imported(targets)
    left = len(targets)
    failed = False
    for target, module in modules.items():
        ok = _fuzz(target, module, (end - time.monotonic()) / left)
        failed, left = failed or not ok, left - 1
    for target, module in modules.items() if options.keep else ():
        _keep(target, module)
    return 1 if failed else 0


def _fuzz(target: str, module: ModuleType, seconds: float) -> bool:
    """Fuzz one target, tell how it went, and return whether nothing was found."""
    work = WORK / target
    before = set(work.glob("found-*"))
    code = fuzzed(module, work, seconds)
    figures = read_figures((work / "log").read_text("utf-8", "replace"))
    found = sorted(set(work.glob("found-*")) - before)
    text = f"{figures.executions:,} inputs in {figures.seconds:.0f} s, {figures.covered:,} places reached"
    if code == 0 and not found:
        text += ", nothing found"
    else:
        files = ", ".join(path.relative_to(REPO).as_posix() for path in found) or f"exit code {code}"
        text += f", FOUND {files}; see {(work / 'log').relative_to(REPO).as_posix()}"
    sys.stdout.write(f"fuzz {target}: {text}\n")
    sys.stdout.flush()
    return code == 0 and not found


def _keep(target: str, module: ModuleType) -> None:
    kept = CORPUS / target
    known = [*module.seeds().values(), *(path.read_bytes() for path in kept.iterdir())]
    found = sorted((path.read_bytes() for path in (WORK / target / "corpus").iterdir()), key=len)
    new = reaching_more(module.check, known, found)
    for data in new:
        (kept / hashlib.sha256(data).hexdigest()[:12]).write_bytes(data)
    sys.stdout.write(f"fuzz {target}: {len(new)} inputs added to the corpus\n")


if __name__ == "__main__":
    sys.exit(main())
