"""Importing the pack in ComfyUI, and lora_core beside a torch that is loaded, each time in a new process."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, Findings, table_of
from benchmarks.processes import REPO, ProcessError, finish
from benchmarks.turns import Sample, in_turn, wall
from tests import tiers

PACK, CORE = "the pack, in ComfyUI", "lora_core, beside torch"
GOAL = 0.3  # seconds beyond what ComfyUI has loaded
CORE_ALONE = """
import asyncio, concurrent.futures, json, logging, sys, time, urllib.parse
import numpy, safetensors, torch
wall, cpu = time.perf_counter(), time.process_time()
import lora_core
sys.stdout.write(json.dumps({"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}))
"""
COMPILED = {"PYTHONDONTWRITEBYTECODE": ""}  # as users have it: every start but the first finds compiled files


def measure(rounds: int, folder: Path, quick: bool) -> dict[str, Any]:
    """Import both in turn, after a first time that compiles them."""
    found = Findings()
    with found.part("import"):
        _in_comfyui(), _core()
        samples = in_turn(rounds, {PACK: _in_comfyui, CORE: _core})
        least = min(sample.wall for sample in samples[PACK])
        figure = Figure("Import of the pack beyond what ComfyUI has loaded", wall(samples[PACK]), "s", GOAL, best=least)
        found.figures.append(figure)
        found.tables.append(table_of("Import, each time in a new process", samples))
    return found.as_dict()


def _core() -> Sample:
    return _sample(finish([sys.executable, "-c", CORE_ALONE], env=COMPILED).output)


def _in_comfyui() -> Sample:
    host = tiers.find_host()
    if host is None:
        raise ProcessError(str(tiers.why_not("host")))
    command = [host.python, REPO / "benchmarks/comfy_import.py", "--cpu"]
    env = {**COMPILED, "PYTHONPATH": str(host.path)}
    return _sample(finish(command, cwd=host.path, env=env, stdin=json.dumps({"pack": str(REPO)})).output)


def _sample(output: str) -> Sample:
    found = json.loads(output.splitlines()[-1])
    return Sample(found["wall"], found["cpu"])
