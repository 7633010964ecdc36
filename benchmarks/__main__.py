"""Run the benchmarks, each beside its peers and `cp` in the same run.

Writes benchmarks/results.json, benchmarks/RESULTS.md and the table in the README. A run of some subjects keeps what is
known of the others. A quick run is made of tiny files, writes nothing, and shows that everything works.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import machine, results
from benchmarks.processes import end_in_order
from benchmarks.subject import MODULES, measured

DISK_GB = 30  # the largest files of a subject and what is made of them
COMMANDS = ("cp", "sync", "sh")


def main() -> None:
    options = _parser().parse_args()
    signal.signal(signal.SIGTERM, end_in_order)
    reason = why_not(options.folder, options.quick, options.busy)
    if reason:
        sys.exit(reason)
    rounds = 1 if options.quick else options.rounds
    found = {} if options.quick else results.read()
    for name in options.only:
        sys.stdout.write(f"{name} …")
        sys.stdout.flush()
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            found[name] = measured(name, rounds, Path(folder), options.quick)
        known = {name: found[name] for name in MODULES if name in found}
        if not options.quick:
            results.write(known)
        missing = "".join(f"\n  not measured: {text}" for text in found[name]["missing"])
        sys.stdout.write(f" {found[name]['minutes']} minutes{missing}\n")
    if options.quick:
        sys.stdout.write("\n" + results.as_text(known))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of each case; the slowest peers take a fifth of them")
    parser.add_argument("--only", type=_subjects, default=tuple(MODULES), help=f"of {','.join(MODULES)}")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where to make files")
    parser.add_argument("--quick", action="store_true", help="tiny files, one round, nothing written")
    parser.add_argument("--busy", action="store_true", help="measure although the machine is busy, and say so")
    return parser


def _subjects(text: str) -> Sequence[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in MODULES]
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; choose of {', '.join(MODULES)}")
    return [name for name in MODULES if name in names]


def why_not(folder: Path, quick: bool, busy: bool) -> str | None:
    """Return what keeps the benchmarks from running here."""
    absent = [command for command in COMMANDS if shutil.which(command) is None]
    if absent:
        return f"the benchmarks need the commands {', '.join(absent)}"
    if quick:
        return None
    free = shutil.disk_usage(folder).free / 1e9
    if free < DISK_GB:
        return f"{folder}: {free:.0f} GB are free; the benchmarks need {DISK_GB} GB, choose another --folder"
    if machine.is_busy() and not busy:
        return f"the load is {machine.load():.1f} for each core; wait until it is below {machine.BUSY}, or give --busy"
    return None


if __name__ == "__main__":
    main()
