"""Merging into a checkpoint beside `cp` of it, and beside loading, patching and saving in ComfyUI."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import task
from benchmarks.correct import differing_bytes, rounding_error
from benchmarks.figures import Figure, Findings, Table, table_of
from benchmarks.merge_cases import (
    COPY,
    COPY_FLUSHED,
    EIGHT,
    FIRST,
    FOUR,
    MERGE,
    MERGE_FLUSHED,
    RANK,
    STRENGTHS,
    UNTOUCHED,
    Bench,
    bench,
    forget,
)
from benchmarks.processes import REPO, ProcessError, finish
from benchmarks.turns import Sample, Samples, in_turn, peak_rss, wall, wall_ratios
from tests import tiers

COMFYUI_FLAGS = ("--cpu", "--fp16-unet", "--fp16-text-enc", "--fp16-vae")  # fp16 in, fp16 out
FIRST_NOTE = "its hash is computed beside the work, for the receipt, and remembered"
NAMES = {"sd15": "SD 1.5", "sdxl": "SDXL"}


def measure(rounds: int, folder: Path, quick: bool) -> dict[str, Any]:
    """Merge into files of the sizes of SD 1.5 and SDXL, each in turn with `cp`."""
    found = Findings()
    bare = task.run(None).peak_rss
    with found.part("merge into SD 1.5"):
        small = bench(folder, "sd15", 1, quick)
        samples = in_turn(rounds, small.cases(COPY, MERGE, FIRST))
        note = "in the page cache throughout; stretch goal 2×"
        found.figures.append(against("sd15", small, samples, MERGE, COPY, 2.5, note))
        found.figures.append(against("sd15", small, samples, FIRST, COPY, None, FIRST_NOTE))
        found.tables.append(table("sd15", small, samples, bare))
        forget(small)
    with found.part("merge into SDXL"):
        large = bench(folder, "sdxl", 8, quick)
        samples = in_turn(rounds, large.cases(COPY, MERGE, FIRST, FOUR, UNTOUCHED, COPY_FLUSHED, MERGE_FLUSHED))
        samples |= in_turn(1, large.cases(EIGHT))
        found.figures += sdxl_figures(large, samples, bare)
        with found.part("ComfyUI's merge"):
            theirs = comfyui(large, max(1, rounds // 5))
            found.figures += comfyui_figures(samples[MERGE], theirs)
            samples["ComfyUI, 1 LoRA"] = theirs
        found.tables.append(table("sdxl", large, samples, bare))
        with found.part("accuracy of the merge"):
            found.figures += accuracy(large, quick)
        forget(large)
    return found.as_dict()


def sdxl_figures(used: Bench, samples: Mapping[str, Samples], bare: int) -> list[Figure]:
    above = "memory above that of a bare `import torch`"
    one = (peak_rss(samples[MERGE]) - bare) / 1e9
    eight = (peak_rss(samples[EIGHT]) - bare) / 1e9
    return [
        against("sdxl", used, samples, MERGE, COPY, 1.2),
        against("sdxl", used, samples, FIRST, COPY, None, FIRST_NOTE),
        against("sdxl", used, samples, FOUR, COPY, 1.4),
        against("sdxl", used, samples, MERGE_FLUSHED, COPY_FLUSHED, 1.1),
        against("sdxl", used, samples, UNTOUCHED, COPY, 1.05),
        against(
            "sdxl", used, samples, MERGE_FLUSHED, COPY, None, "what a user waits, beside a copy that may still be lost"
        ),
        Figure(f"SDXL, 1 LoRA: {above}", one, "GB", 0.35),
        Figure(f"SDXL, 8 LoRAs: {above}", eight, "GB", 0.5, note="one run"),
    ]


def against(
    arch: str, used: Bench, samples: Mapping[str, Samples], ours: str, theirs: str, goal: float | None, note: str = ""
) -> Figure:
    median, least = wall_ratios(samples[ours], samples[theirs])
    what = f"{NAMES[arch]} ({used.gigabytes:.1f} GB), {ours}: time over that of `{theirs}`"
    return Figure(what, median, "×", goal, best=least, note=note)


def accuracy(used: Bench, quick: bool) -> list[Figure]:
    """Merge twice more, and compare with the exact sum, and with the input where nothing may change."""
    used.merge(4)
    stack = list(zip(used.loras[:4], STRENGTHS, strict=False))
    error = rounding_error(used.base, stack, used.out, "sd15" if quick else "sdxl")
    used.out.unlink()
    used.merge(1, strength=0.0)
    differing = differing_bytes(used.base, used.out)
    used.out.unlink()
    return [
        Figure("SDXL, 4 LoRAs: error over that of the exact sum, rounded correctly", error, "×", 1.001),
        Figure("SDXL, strength 0: bytes of the tensors that differ from the input's", differing, "", 0),
    ]


def comfyui(used: Bench, rounds: int) -> list[Sample]:
    """Return what ComfyUI needs for the same file with one LoRA, after its imports."""
    host = tiers.find_host()
    if host is None:
        raise ProcessError("ComfyUI not found; set COMFYUI_PATH")
    given = {"base": str(used.base), "loras": [[str(used.loras[0]), STRENGTHS[0]]], "out": str(used.out)}
    command = [host.python, REPO / "benchmarks/comfy_merge.py", *COMFYUI_FLAGS]

    def run() -> Sample:
        done = finish(command, cwd=host.path, env={"PYTHONPATH": str(host.path)}, stdin=json.dumps(given))
        written = used.out.stat().st_size / used.base.stat().st_size
        if not 0.9 < written < 1.1:
            raise ProcessError(f"it wrote {written:.2f} times the bytes it read, which is no like for like")
        return Sample(**json.loads(done.output.splitlines()[-1]))

    return in_turn(rounds, {"ComfyUI": used.from_scratch(run)})["ComfyUI"]


def comfyui_figures(ours: Samples, theirs: Samples) -> list[Figure]:
    what = "SDXL, 1 LoRA: times faster than load, patch and save in ComfyUI"
    note = f"both after their imports; {len(theirs)} of ComfyUI's runs"
    memory = f"{peak_rss(ours) / 1e9:.2f} GB of {peak_rss(theirs) / 1e9:.1f} GB, torch included in both"
    return [
        Figure(what, wall(theirs) / wall(ours), "×", 2.5, at_most=False, note=note),
        Figure("SDXL, 1 LoRA: memory over ComfyUI's", peak_rss(ours) / peak_rss(theirs), "×", 0.1, note=memory),
    ]


def table(arch: str, used: Bench, samples: Mapping[str, Samples], bare: int) -> Table:
    note = (
        f"`import torch` alone: {bare / 1e9:.2f} GB. A merge ends when the disk has the file, which `cp` does not wait "
        "for; “not flushed”: the calls that wait for it are made to do nothing."
    )
    title = f"Merge, {NAMES[arch]}, {used.gigabytes:.2f} GB fp16, LoRAs of rank {RANK}"
    return table_of(title, samples, note)
