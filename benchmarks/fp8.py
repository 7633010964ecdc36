"""Stochastic rounding to fp8 with a seed, beside ComfyUI's (comfy/float.py)."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, Findings, Table
from benchmarks.processes import REPO, ProcessError, finish
from tests import tiers

ELEMENTS = 2**24
OURS, COMFYUI = "LoRA Core", "ComfyUI"


def measure(rounds: int, folder: Path, quick: bool) -> dict[str, Any]:
    """Round 16.8 million random weights with either program, under ComfyUI's torch."""
    found = Findings()
    with found.part("rounding to fp8"):
        results = comfyui(rounds, 2**16 if quick else ELEMENTS)
        elements = 2**16 if quick else ELEMENTS
        speed = {name: elements / 1e6 / statistics.median(one["seconds"]) for name, one in results.items()}
        worst = {name: max(abs(error) for error in one["bias"].values()) for name, one in results.items()}
        note = f"{speed[OURS]:.0f} against {speed[COMFYUI]:.0f} million numbers for each CPU second"
        mean = "relative error of the mean of a constant, the worst of two"
        found.figures += [
            Figure(
                "fp8 with seeded stochastic rounding: times ComfyUI's speed",
                speed[OURS] / speed[COMFYUI],
                "×",
                4,
                False,
                note=note,
            ),
            Figure(f"fp8: {mean}", worst[OURS], "", note=f"ComfyUI's: {worst[COMFYUI]:.1e}"),
        ]
        rows = [[name, speed[name], *(f"{error:+.1e}" for error in results[name]["bias"].values())] for name in results]
        values = [f"error of the mean at {value}" for value in results[OURS]["bias"]]
        columns = ("program", "million numbers per CPU second", *values)
        found.tables.append(Table("Stochastic rounding to fp8_e4m3fn, one thread", columns, rows))
    return found.as_dict()


def comfyui(rounds: int, elements: int) -> dict[str, Any]:
    host = tiers.find_host()
    if host is None:
        raise ProcessError("ComfyUI not found; set COMFYUI_PATH")
    given = json.dumps({"repo": str(REPO), "rounds": rounds, "elements": elements})
    env = {"PYTHONPATH": str(host.path), "OMP_NUM_THREADS": "1"}
    done = finish([host.python, REPO / "benchmarks/comfy_fp8.py", "--cpu"], cwd=host.path, env=env, stdin=given)
    return json.loads(done.output.splitlines()[-1])
