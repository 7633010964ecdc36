"""Inspecting a LoRA against a checkpoint, from their headers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from benchmarks import files, task
from benchmarks.figures import Figure, Findings, table_of
from benchmarks.processes import finish
from benchmarks.turns import Sample, in_turn, wall

RANK = 32
CALL, COMMAND = "inspect(), imports apart", "lora-core inspect"


def measure(rounds: int, folder: Path, quick: bool) -> dict[str, Any]:
    """Inspect an SDXL LoRA against an SDXL checkpoint, each time in a new process."""
    found = Findings()
    with found.part("inspect"):
        (lora,) = files.lora_files(folder, "sdxl", RANK, 1, quick)
        base = files.header_file(folder / "sdxl.safetensors", files.model_keys("sdxl", quick))
        tensors = 3 * len(files.lora_shapes("sdxl", quick))

        def command() -> Sample:
            done = finish([sys.executable, "-m", "lora_core", "inspect", lora, "--against", base])
            return Sample(done.wall, done.cpu)

        cases = {CALL: lambda: task.run("inspect", lora, [base], torch=False), COMMAND: command}
        samples = in_turn(rounds, cases)
        what = f"Inspect of a LoRA of {tensors:,} tensors against an SDXL checkpoint"
        found.figures += [
            Figure(f"{what}: the call", wall(samples[CALL]), "s", 0.3, note="without torch"),
            Figure(f"{what}: the command, from start to end", wall(samples[COMMAND]), "s", 1.0),
        ]
        found.tables.append(table_of("Inspect, each time in a new process", samples))
    return found.as_dict()
