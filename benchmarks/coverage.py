"""What LoRA Core loads, and how exactly: `python -m benchmarks.coverage` prints it and writes benchmarks/COVERAGE.md.

Each kind of adapter is compared with what the program that defined it computes. Every trainer file in tests/data is
matched with the model it is for: by LoRA Core, and by ComfyUI's load_lora with the key map that ComfyUI makes for
that model. "Fully" means that every tensor is used, or is none of an adapter's.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lora_core.naming.detection import detect
from lora_core.reading.lorafile import LoraFile
from tests import manifests, tiers
from tests.core.naming.alias_reasons import MODEL_OF
from tests.core.naming.test_trainers import matched, model_of, write_lora
from tests.peers import kind_cases

REPO = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Line:
    """One trainer's file: how many of its modules LoRA Core applies, and of its tensors ComfyUI's loader."""

    name: str
    ours: tuple[int, int]
    theirs: tuple[int, int] | None  # None without ComfyUI

    @property
    def is_full(self) -> bool:
        return self.ours[0] == self.ours[1]

    @property
    def is_full_there(self) -> bool:
        return self.theirs is not None and self.theirs[0] == self.theirs[1]


def main() -> None:
    logging.disable(logging.CRITICAL)  # LyCORIS tells every layer that it makes
    text = as_text(worst_errors(), lines())
    (REPO / "benchmarks/COVERAGE.md").write_text(text, encoding="utf-8")
    sys.stdout.write(text)


def worst_errors() -> dict[tuple[str, str], tuple[float, int]]:
    """Return {(kind, oracle): (largest error of the change, cases)} over layers, options and seeds."""
    worst: dict[tuple[str, str], tuple[float, int]] = {}
    for name, error in kind_cases.report():
        kind, oracle, *_ = name.split(" / ")
        known, cases = worst.get((kind, oracle), (0.0, 0))
        worst[kind, oracle] = max(known, error), cases + 1
    return worst


def lines() -> list[Line]:
    """Return a line for each trainer file."""
    host = tiers.find_host()
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: write_lora(Path(folder) / f"{name}.safetensors", name) for name in manifests.trainers()}
        theirs = comfyui_takes(host, paths) if host else {}
        return [_line(name, path, theirs.get(name)) for name, path in paths.items()]


def _line(name: str, path: Path, theirs: tuple[int, int] | None) -> Line:
    with LoraFile(path) as lora:
        report = matched(lora, model_of(name))
    if theirs:  # what is no adapter's is nothing that a loader could take
        theirs = theirs[0], theirs[1] - len(report.not_adapters)
    return Line(name, (report.modules_matched, report.modules_total), theirs)


def comfyui_takes(host: tiers.Host, paths: dict[str, Path]) -> dict[str, tuple[int, int]]:
    """Return {trainer file: (tensors that ComfyUI's loader takes, tensors)}."""
    files = [{"path": str(path), "aliases": _aliases(model_of(name))} for name, path in paths.items()]
    done = subprocess.run(
        [str(host.python), str(REPO / "benchmarks/comfy_loader.py"), "--cpu"],
        cwd=host.path, env={"PYTHONPATH": str(host.path), "OMP_NUM_THREADS": "1"}, check=True, text=True,
        input=json.dumps({"files": files}), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    return {name: (taken, total) for name, (taken, total) in zip(paths, json.loads(done.stdout), strict=True)}


@cache
def _aliases(model: str) -> dict[str, Any]:
    """Return ComfyUI's names for the model and its text encoders, as ComfyUI's own functions gave them."""
    arch = _arch(model)
    encoders = [table for table in manifests.alias_archs() if table.startswith("te_")]
    tables = [model, *(table for table in encoders if _arch(MODEL_OF.get(table, table[3:])) == arch)]
    return {
        name: [alias.key, alias.span] if alias.span else alias.key
        for table in tables
        for name, alias in manifests.aliases(table).items()
    }


def _arch(model: str) -> str:
    return detect(manifests.checkpoint(model).keys)[0].arch.id


def as_text(errors: dict[tuple[str, str], tuple[float, int]], found: list[Line]) -> str:
    full, full_there = sum(line.is_full for line in found), sum(line.is_full_there for line in found)
    head = [
        "# Coverage",
        "",
        "`python -m benchmarks.coverage` wrote this.",
        "",
        "## Kinds",
        "",
        "The largest error of W' over the largest change, over layers (linear, 1x1, kernels of two and three",
        "dimensions), options and seeds; both sides compute in fp32. The tests' bound is 3e-6.",
        "",
        "| kind | oracle | cases | largest error |",
        "|---|---|---|---|",
        *(f"| {kind} | {oracle} | {cases} | {worst:.1e} |" for (kind, oracle), (worst, cases) in errors.items()),
        "",
        "## Files",
        "",
        "The list is every key list in `tests/data/trainers`.",
        "",
        f"Files applied fully: LoRA Core **{full}**, ComfyUI's own loader {full_there}, of {len(found)}.",
        "",
        "| file that ComfyUI's loader does not take fully | ComfyUI, tensors | LoRA Core, modules |",
        "|---|---|---|",
    ]
    rows = [
        f"| {line.name} | {line.theirs[0]} of {line.theirs[1]} | {line.ours[0]} of {line.ours[1]} |"
        for line in found
        if line.theirs and not (line.is_full_there and line.is_full)
    ]
    return "\n".join([*head, *rows, ""])


if __name__ == "__main__":
    main()
