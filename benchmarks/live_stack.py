"""A stack of LoRAs on a loaded model, beside ComfyUI's own patches, in ComfyUI's Python on one thread.

Layer by layer: what the host does to patch a weight stored in fp16, with our patch and with its own. Besides: what
another strength costs before any weight is patched, Load LoRA against LoraLoader, and the memory that Load LoRA takes.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import files
from benchmarks.figures import Figure, Findings, Table
from benchmarks.processes import REPO, ProcessError, finish
from tests import manifests, tiers

RANK = 32
LAYERS = ((640, 640), (1280, 1280), (10240, 1280), (3072, 3072), (3072, 12288))
COUNTS = (1, 4, 8)
TIMES, FIXED = 2.0, 30.0  # the goals: times faster from 1280x1280 and four LoRAs on; milliseconds for each SDXL LoRA
QUICK_LAYERS = ((64, 64), (320, 256))


def measure(rounds: int, *, quick: bool = False) -> dict[str, Any]:
    """Return figures and tables, as Findings has them."""
    found = Findings()
    with found.part("live stack"), tempfile.TemporaryDirectory() as folder:
        measured = in_comfyui(rounds, Path(folder), quick)
        found.figures += layer_figures(measured["layers"]) if not quick else []
        found.figures += fixed_figures(measured)
        found.tables.append(layer_table(measured["layers"]))
    return found.as_dict()


def in_comfyui(rounds: int, folder: Path, quick: bool) -> dict[str, Any]:
    """Run comfy_live.py. Raises ProcessError where there is no ComfyUI."""
    host = tiers.find_host()
    if host is None:
        raise ProcessError("ComfyUI not found; set COMFYUI_PATH")
    model = manifests.checkpoint("sdxl")
    given = {
        "repo": str(REPO), "rounds": rounds, "layers": QUICK_LAYERS if quick else LAYERS, "counts": COUNTS,
        "rank": RANK, "prefix": model.prefix, "keys": model.keys, "loras": loras(folder, quick),
    }  # fmt: skip
    env = {"PYTHONPATH": str(host.path), "OMP_NUM_THREADS": "1"}
    command = [host.python, REPO / "benchmarks/comfy_live.py", "--cpu"]
    return json.loads(finish(command, cwd=host.path, env=env, stdin=json.dumps(given)).output.splitlines()[-1])


def loras(folder: Path, quick: bool) -> list[str]:
    """Return four LoRAs for SDXL, one file under four names: each is read by itself, and the disk holds one."""
    path = files.lora_file(folder / "lora.safetensors", files.lora_shapes("sdxl", False), 1 if quick else RANK)
    names = [folder / f"lora_{index}.safetensors" for index in range(1, 4)]
    for name in names:
        name.hardlink_to(path)
    return [str(path), *map(str, names)]


def layer_figures(layers: list[dict[str, Any]]) -> list[Figure]:
    counted = [one for one in layers if one["count"] >= 4 and min(one["layer"]) >= 1280]
    least = min(counted, key=times)
    worst = max(one["error"]["ours"] for one in layers)
    return [
        Figure(
            "live stack, layers from 1280×1280, four LoRAs and more: times faster than ComfyUI's own patches",
            times(least), goal=TIMES, at_most=False, best=max(map(times, counted)),
            note=f"the least of {len(counted)}: {named(least)}; CPU seconds on one thread, rank {RANK}",
        ),
        Figure("live stack: error over that of correct rounding into fp16", worst, goal=1.001, note="against fp64"),
    ]  # fmt: skip


def fixed_figures(measured: dict[str, Any]) -> list[Figure]:
    """Return what another strength costs for each LoRA, and the memory of Load LoRA."""
    figures: list[Figure] = []
    modules = len(files.lora_shapes("sdxl", False))
    for count, seconds in measured["fixed"].items():
        ours, theirs = (statistics.median(seconds[side]) * 1000 / int(count) for side in ("ours", "theirs"))
        stack = "one SDXL LoRA" if count == "1" else f"each of {count} SDXL LoRAs"
        note = f"{modules} modules; LoraLoader: {theirs:.0f} ms; before any weight is patched"
        figures.append(Figure(f"another strength of {stack}", ours, "ms", FIXED, note=note))
    first, peak, nbytes = measured["first"], measured["peak"], measured["tensors"]
    figures.append(Figure("first run of one SDXL LoRA, file cached by the system", first * 1000, "ms"))
    note = f"its tensors are {nbytes / 1e6:.0f} MB; the rest is key map, parsed file and buffers"
    figures.append(Figure("memory of Load LoRA at its peak, one SDXL LoRA", peak / 1e6, "MB", note=note))
    return figures


def layer_table(layers: list[dict[str, Any]]) -> Table:
    rows = [
        [
            f"{one['layer'][0]}×{one['layer'][1]}", one["count"],
            *(f"{statistics.median(one[side]) * 1000:.1f}" for side in ("ours", "theirs")), f"{times(one):.1f}",
        ]
        for one in layers
    ]  # fmt: skip
    return Table(
        f"Live stack, rank {RANK}, fp16",
        ["layer", "LoRAs", "LoRA Core, ms", "ComfyUI, ms", "times faster"],
        rows,
        "CPU time of one thread, medians: ComfyUI's cast to fp32, the patches, and its rounding.",
    )


def times(one: dict[str, Any]) -> float:
    return statistics.median(one["theirs"]) / statistics.median(one["ours"])


def named(one: dict[str, Any]) -> str:
    rows, columns = one["layer"]
    return f"{rows}×{columns}, {one['count']} LoRAs"
