"""One operation of LoRA Core in a process of its own, in which torch is loaded beforehand.

Reads {"operation": name or null, "arguments": [...], "options": {...}, "flush": bool, "torch": bool} from standard
input and prints {"wall", "cpu", "peak_rss"}. Without "flush" the operation does not wait until the disk
has the file: `cp` doesn't either.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.processes import end_in_order, finish, peak_rss
from benchmarks.turns import Sample


def run(
    operation: str | None,
    *arguments: Any,
    flush: bool = True,
    torch: bool = True,
    env: Mapping[str, str] | None = None,
    **options: Any,
) -> Sample:
    """Run `lora_core.<operation>(*arguments, **options)` in a new process; seconds are those of the call alone."""
    plain = [_plain(argument) for argument in arguments]
    task = {"operation": operation, "arguments": plain, "options": options, "flush": flush, "torch": torch}
    done = finish([sys.executable, "-m", "benchmarks.task"], stdin=json.dumps(task), env=env)
    found = json.loads(done.output)
    return Sample(found["wall"], found["cpu"], found["peak_rss"])


def _plain(argument: Any) -> Any:
    if isinstance(argument, Sequence) and not isinstance(argument, str):
        return [_plain(item) for item in argument]
    return argument if isinstance(argument, (int, float)) else os.fspath(argument)


def main() -> None:
    signal.signal(signal.SIGTERM, end_in_order)  # so that an operation takes its unfinished file away
    task = json.load(sys.stdin)
    if task["torch"]:
        import torch  # noqa: F401, PLC0415  (loading it is no part of the operation)
    if not task["flush"]:
        os.fsync = os.fdatasync = lambda fd: None
    found = {"wall": 0.0, "cpu": 0.0}
    if task["operation"]:
        import lora_core  # noqa: PLC0415

        operation = getattr(lora_core, task["operation"])
        wall, cpu = time.perf_counter(), time.process_time()
        operation(*task["arguments"], **task["options"])
        found = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    sys.stdout.write(json.dumps({**found, "peak_rss": peak_rss()}))


if __name__ == "__main__":
    main()
