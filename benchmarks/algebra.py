"""Resizing a LoRA and combining several, beside kohya's scripts and PEFT, which take the SVD of the dense change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks import files, task
from benchmarks.figures import Figure, Findings, Table, table_of
from benchmarks.layers import (
    Cases,
    Costs,
    Matrix,
    counted,
    error_over_optimum,
    factors,
    measure_layers,
    one_thread,
    squared_values,
)
from benchmarks.peers import PeftLayer, kohya_combine, kohya_resize
from benchmarks.turns import Samples, cpu, in_turn, wall
from lora_core.algebra.svd import svd_of_product

FROM, TO, COUNT = 128, 32, 4  # ranks of a LoRA before and after; LoRAs that become one, each of rank TO
WEIGHTS = (0.8, 0.6, -0.4, 0.5)
OURS, KOHYA, PEFT = "LoRA Core", "kohya", "PEFT"
SHAPES = ((640, 640), (1280, 1280), (2560, 640))  # on which the error is taken
LIMIT = 1e-5  # of the error above the optimum


def measure(rounds: int, folder: Path, quick: bool) -> dict[str, Any]:
    """Resize an SDXL LoRA from rank 128 to 32, and combine four of rank 32 into one."""
    found = Findings()
    counts = counted(files.lora_shapes("sdxl", quick).values())
    slow_rounds, file_rounds = max(1, rounds // 5), rounds // 2 + 1
    with found.part("error of resize and combine"), one_thread():
        found.figures += errors()
    with found.part("resize, layer by layer"):
        costs = measure_layers(counts, _resize_cases, rounds, slow_rounds)
        found.tables.append(_layer_table("Resize, rank 128 to 32", costs, slow_rounds))
        with found.part("resize of a file"):
            (path,) = files.lora_files(folder, "sdxl", FROM, 1, quick)
            out = folder / "resized.safetensors"
            samples = _files(lambda: task.run("resize", path, out, rank=TO), out, file_rounds)
            found.figures += resize_figures(samples, costs)
            found.tables.append(table_of("Resize of an SDXL LoRA from rank 128 to 32", {OURS: samples}))
            path.unlink()
    with found.part("combine, layer by layer"):
        costs = measure_layers(counts, _combine_cases, rounds, slow_rounds)
        found.tables.append(_layer_table("Combine, four LoRAs of rank 32 into one", costs, slow_rounds))
        with found.part("combine of files"):
            paths = files.lora_files(folder, "sdxl", TO, COUNT, quick)
            out = folder / "combined.safetensors"
            stack = list(zip(paths, WEIGHTS, strict=True))
            samples = _files(lambda: task.run("combine", stack, out, rank=TO), out, file_rounds)
            found.figures += combine_figures(samples, costs)
            found.tables.append(table_of("Combine of four SDXL LoRAs of rank 32 into one", {OURS: samples}))
            for path in paths:
                path.unlink()
    return found.as_dict()


def _resize_cases(shape: Matrix) -> tuple[Cases, Cases]:
    up, down = factors(*shape, FROM)
    quick: Cases = {OURS: lambda: svd_of_product(up, down, TO).factors(TO)}
    return quick, {KOHYA: lambda: kohya_resize(up, down, TO)}


def _combine_cases(shape: Matrix) -> tuple[Cases, Cases]:
    pairs = [factors(*shape, TO, seed) for seed in range(COUNT)]
    quick: Cases = {OURS: lambda: svd_of_product(*_joined(pairs), TO).factors(TO)}
    slow = {KOHYA: lambda: kohya_combine(pairs, WEIGHTS, TO)}
    try:
        layer = PeftLayer(pairs)
    except ImportError:
        return quick, slow
    return quick, {**slow, PEFT: lambda: layer.combine(WEIGHTS, TO)}


def _joined(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    up = torch.cat([weight * up for weight, (up, _) in zip(WEIGHTS, pairs, strict=True)], dim=1)
    return up, torch.cat([down for _, down in pairs])


def errors() -> list[Figure]:
    """Return the worst error over the optimum, less 1, of both operations, before a file rounds the factors."""
    worst = {"resize": 0.0, "combine": 0.0, "kohya's resize": 0.0, "kohya's combine": 0.0}
    for rows, columns in SHAPES:
        pair = factors(rows, columns, FROM)
        several = [factors(rows, columns, TO, seed) for seed in range(COUNT)]
        joined = _joined(several)
        found = {
            "resize": (pair, svd_of_product(*pair).factors(TO)),
            "combine": (joined, svd_of_product(*joined).factors(TO)),
            "kohya's resize": (pair, kohya_resize(*pair, TO)),
            "kohya's combine": (joined, kohya_combine(several, WEIGHTS, TO)),
        }
        for name, ((up, down), result) in found.items():
            exact = up.double() @ down.double()
            worst[name] = max(worst[name], error_over_optimum(exact, squared_values(exact), *result) - 1)
    what = "error above the least possible at the rank, as a share of it"
    note = "kohya's operation: {:.1e}; worst of three shapes"
    return [
        Figure(f"Resize: {what}", worst["resize"], "", LIMIT, note=note.format(worst["kohya's resize"])),
        Figure(f"Combine: {what}", worst["combine"], "", LIMIT, note=note.format(worst["kohya's combine"])),
    ]


def resize_figures(samples: Samples, costs: Costs) -> list[Figure]:
    what = "SDXL LoRA, rank 128 to 32"
    return [
        Figure(f"{what}: wall time", wall(samples), "s", 20),
        *_times_less(f"{what}: times less CPU than kohya's operation", samples, costs, KOHYA, 100),
    ]


def combine_figures(samples: Samples, costs: Costs) -> list[Figure]:
    what = "Four SDXL LoRAs into one of rank 32"
    peers = [name for name in (KOHYA, PEFT) if name in next(iter(costs.seconds.values()))]
    return [
        Figure(f"{what}: wall time", wall(samples), "s"),
        *(
            figure
            for peer in peers
            for figure in _times_less(f"{what}: times less CPU than {peer}'s operation", samples, costs, peer, 50)
        ),
    ]


def _times_less(what: str, samples: Samples, costs: Costs, peer: str, goal: float) -> list[Figure]:
    """Return the ratio for the same work, the algebra of all layers, and that for all that ours does."""
    theirs, ours = costs.total(peer), costs.total(OURS)
    note = f"{ours:.1f} s against {theirs:,.0f} s; each of {len(costs.counts)} shapes counted as often as it is there"
    more = f"{cpu(samples):.1f} s, reading, hashing and writing included, against the other's algebra alone"
    return [
        Figure(what, theirs / ours, "×", goal, at_most=False, note=note),
        Figure(f"{what}, ours with its files", theirs / cpu(samples), "×", at_most=False, note=more),
    ]


def _files(run: Callable[[], Any], out: Path, rounds: int) -> Samples:
    def once() -> Any:
        out.unlink(missing_ok=True)
        return run()

    try:
        return in_turn(rounds, {OURS: once})[OURS]
    finally:
        out.unlink(missing_ok=True)


def _layer_table(title: str, costs: Costs, slow_rounds: int) -> Table:
    cases = next(iter(costs.seconds.values()))
    note = f"CPU seconds, one BLAS thread; ours medians, the others {slow_rounds} runs of each shape."
    return Table(f"{title}, by layers", ("shape", "layers", *cases), costs.rows(), note)
