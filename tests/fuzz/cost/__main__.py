"""Grow inputs for all readers, or some, for so many seconds in total, and tell those that cost too much."""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

from tests.fuzz.cost.grown import grown
from tests.fuzz.cost.measured import Measuring
from tests.fuzz.cost.readers import Reader, readers
from tests.fuzz.scratch import root

REPO = Path(__file__).resolve().parents[3]
WORK = REPO / "build" / "fuzz" / "cost"
SIZES = (1_000, 10_000, 100_000, 1_000_000)


def main(arguments: Sequence[str] | None = None) -> int:
    known = readers()
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.cost", description=__doc__)
    parser.add_argument("readers", nargs="*", metavar="READER", help=f"some of {', '.join(known)}; all if none")
    parser.add_argument("--seconds", type=float, default=60.0, help="for all readers together")
    parser.add_argument("--seed", type=int, default=None, help="of the random inputs; told at the start")
    options = parser.parse_args(arguments)
    if unknown := set(options.readers) - set(known):
        parser.error(f"no reader {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    root()  # before a process is forked
    seed = options.seed if options.seed is not None else time.time_ns() % 2**32
    sys.stdout.write(f"seed {seed}\n")
    names = options.readers or list(known)
    end = time.monotonic() + options.seconds
    found = 0
    for left, name in enumerate(names):
        found += _grow(name, known[name], Random(f"{seed} {name}"), (end - time.monotonic()) / (len(names) - left))
    return 1 if found else 0


def _grow(name: str, reader: Reader, random: Random, seconds: float) -> int:
    end, count, total, found = time.monotonic() + seconds, 0, 0, set[str]()
    with Measuring(reader.read) as measuring:
        while time.monotonic() < end or count == 0:
            data = grown(random, random.choice(reader.honest), random.choice(SIZES))
            cost = measuring.cost(data)
            count, total = count + 1, total + len(data)
            if cost.finding:
                path = WORK / f"{name.replace(' ', '-').replace('.', '')}-{hashlib.sha256(data).hexdigest()[:12]}"
                WORK.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
                found.add(f"{len(data):,} bytes: {cost}: {path.relative_to(REPO).as_posix()}")
    text = f"{count:,} inputs of {total / 1e6:,.1f} MB"
    sys.stdout.write("\n  ".join([f"cost {name}: {text}, {len(found)} found", *sorted(found)]) + "\n")
    sys.stdout.flush()
    return len(found)


if __name__ == "__main__":
    sys.exit(main())
