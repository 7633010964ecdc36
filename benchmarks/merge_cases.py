"""The files of one size of checkpoint, and the ways to copy it and to merge into it.

Before each timed run the output is removed, the disk is synchronised, and the inputs are read once, so that they lie in
the page cache. `cp` is the plain command. Merges are timed inside a process that has torch loaded. The receipt of a
merge needs the checkpoint's hash, which is remembered: it is known already, but in the cases of a first merge.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import files, task
from benchmarks.processes import ProcessError, finish
from benchmarks.turns import Sample
from lora_core.files.hashes import KNOWN_HASHES, Hashes

RANK = 32
STRENGTHS = (0.8, 0.6, -0.4, 0.5, 0.3, 0.7, -0.2, 0.4)
COPY, COPY_FLUSHED = "cp", "cp and sync"
MERGE, MERGE_FLUSHED = "1 LoRA, not flushed", "1 LoRA, flushed"
FOUR, EIGHT = "4 LoRAs, not flushed", "8 LoRAs, not flushed"
FIRST = "1 LoRA, the first merge into this checkpoint, not flushed"
UNTOUCHED = "1 LoRA at strength 0, not flushed"


@dataclass(frozen=True, slots=True)
class Bench:
    """The files of one size of checkpoint, and how each case is run with them."""

    base: Path
    loras: Sequence[Path]
    out: Path
    home: Path  # of the user who merges: hashes are remembered there

    @property
    def gigabytes(self) -> float:
        return self.base.stat().st_size / 1e9

    def cases(self, *names: str) -> dict[str, Callable[[], Sample]]:
        every: Mapping[str, Callable[[], Sample]] = {
            COPY: lambda: self.command("cp", self.base, self.out),
            COPY_FLUSHED: lambda: self.command("sh", "-c", 'cp "$0" "$1" && sync "$1"', self.base, self.out),
            MERGE: lambda: self.merge(1),
            MERGE_FLUSHED: lambda: self.merge(1, flush=True),
            FOUR: lambda: self.merge(4),
            EIGHT: lambda: self.merge(8),
            FIRST: lambda: self.merge(1, home=self.home / "new"),
            UNTOUCHED: lambda: self.merge(1, strength=0.0),
        }
        return {name: self.from_scratch(every[name]) for name in names}

    def from_scratch(self, case: Callable[[], Sample]) -> Callable[[], Sample]:
        """Return the case with a clean disk and warm inputs before it, and nothing left after it."""

        def run() -> Sample:
            self.out.unlink(missing_ok=True)
            shutil.rmtree(self.home / "new", ignore_errors=True)
            finish(["sync", "-f", self.out.parent])
            for path in (self.base, *self.loras):
                read_once(path)
            try:
                return case()
            finally:
                self.out.unlink(missing_ok=True)

        return run

    def command(self, *command: str | Path) -> Sample:
        done = finish(command)
        if self.out.stat().st_size != self.base.stat().st_size:
            raise ProcessError(f"{command[0]}: wrote {self.out.stat().st_size} bytes, not as many as it read")
        return Sample(done.wall, done.cpu)

    def merge(
        self, count: int, *, flush: bool = False, strength: float | None = None, home: Path | None = None
    ) -> Sample:
        strengths = [strength] * count if strength is not None else STRENGTHS
        stack = list(zip(self.loras[:count], strengths, strict=False))
        return task.run("merge", self.base, stack, self.out, flush=flush, env={"HOME": str(home or self.home)})


def read_once(path: Path) -> None:
    buffer = memoryview(bytearray(2**24))
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def bench(folder: Path, arch: str, count: int, quick: bool) -> Bench:
    base = files.model_file(folder / f"{arch}.safetensors", files.model_keys(arch, quick))
    home = folder / "home"
    Hashes(home / KNOWN_HASHES).of(base)
    return Bench(base, files.lora_files(folder, arch, RANK, count, quick), folder / f"{arch}_out.safetensors", home)


def forget(used: Bench) -> None:
    for path in (used.base, *used.loras, used.out):
        path.unlink(missing_ok=True)
