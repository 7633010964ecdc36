"""Every case of every kind and peer, for the tests; run as a module it prints the largest error of each."""

from __future__ import annotations

import logging
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.peers.kinds import Case, error, ours
from tests.peers.lycoris_kinds import lycoris_cases
from tests.peers.peft_kinds import peft_cases


def cases() -> list[Case]:
    return [*lycoris_cases(), *peft_cases()]


def report() -> Iterator[tuple[str, float]]:
    """Yield (case, largest error over three seeds)."""
    with tempfile.TemporaryDirectory() as name:
        for number, case in enumerate(cases()):
            found = []
            for seed in range(3):
                made = case.make(seed)
                found.append(error(ours(made, Path(name) / f"{number}-{seed}"), made))
            yield case.name, max(found)


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)  # LyCORIS tells every layer that it makes
    for name, worst in report():
        sys.stdout.write(f"{worst:.1e}  {name}\n")
