"""One subject of the benchmarks in a process of its own: `python -m benchmarks.subject NAME ROUNDS FOLDER [quick]`.

Prints what was measured as JSON, with the load of the machine before and after. What goes wrong in one subject, a
process killed for memory included, costs no other its results.
"""

from __future__ import annotations

import importlib
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.processes import ProcessError, end_in_order, finish

MODULES = {
    "import": "importing",
    "inspect": "inspection",
    "fp8": "fp8",
    "live": "live",
    "algebra": "algebra",
    "extract": "extract",
    "merge": "merge",
    "growth": "growth",
}  # the quick ones first, those that fill the disk last
LONGEST = 3600  # seconds for one subject


def measured(name: str, rounds: int, folder: Path, quick: bool) -> dict[str, Any]:
    """Return what a subject found; if it failed, why."""
    start, load = time.perf_counter(), machine.load()
    command = [sys.executable, "-m", "benchmarks.subject", name, str(rounds), folder, *(["quick"] if quick else [])]
    try:
        found = json.loads(finish(command, timeout=LONGEST).output.splitlines()[-1])
    except (ProcessError, ValueError, IndexError) as error:
        found = {"figures": [], "tables": [], "missing": [f"{name}: {error}"]}
    return {
        "taken": time.strftime("%Y-%m-%d"),
        "rounds": rounds,
        "minutes": round((time.perf_counter() - start) / 60, 1),
        "load_before": round(load, 2),
        "busy": load > machine.BUSY,
        "machine": machine.described(folder),
        **found,
    }


def main() -> None:
    signal.signal(signal.SIGTERM, end_in_order)
    name, rounds, folder, *quick = sys.argv[1:]
    subject = importlib.import_module(f"benchmarks.{MODULES[name]}")
    found = subject.measure(int(rounds), Path(folder), bool(quick))
    sys.stdout.write("\n" + json.dumps(found))


if __name__ == "__main__":
    main()
