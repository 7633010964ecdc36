"""Extracting a LoRA, beside the full SVD that most programs take and the randomised one of KJNodes."""

from __future__ import annotations

import os
from collections.abc import Mapping
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
    measure_layers,
    one_thread,
    sloped,
    squared_values,
)
from benchmarks.peers import full_svd, kj_extract
from benchmarks.turns import Sample, Samples, cpu, in_turn, peak_rss, wall
from lora_core.algebra.svd import svd_of_dense
from tests.manifests import Shape

RANK = 32
OURS, FULL, KJ = "LoRA Core", "full SVD", "svd_lowrank"
UNET = "model.diffusion_model."
FLUX_BLOCKS = {"double_blocks": 1, "single_blocks": 2}  # of 19 and 38: memory is that of one layer at a time


def measure(rounds: int, folder: Path, quick: bool) -> dict[str, Any]:
    """Extract from layers of SDXL, from its whole UNet, and from some blocks of Flux."""
    found = Findings()
    bare, once = task.run(None).peak_rss, max(1, rounds // 5)
    files_of: dict[str, Samples] = {}
    with found.part("error of extraction"), one_thread():
        found.figures.append(worst_error(*((96, 128) if quick else (768, 1024))))
    with found.part("extract, layer by layer"):
        costs = measure_layers(counted(linear_shapes(quick)), _cases, rounds, once)
        found.figures += layer_figures(costs)
        found.tables.append(layer_table(costs, once))
    with found.part("extract from the SDXL UNet"):
        keys = {key: shape for key, shape in files.model_keys("sdxl", quick).items() if key.startswith(UNET)}
        samples, size = pair(folder, "sdxl_unet", keys, once)
        found.figures += unet_figures(samples, bare)
        files_of[f"SDXL UNet, {size:.1f} GB each"] = samples
    with found.part("extract from blocks of Flux"):
        samples, size = pair(folder, "flux", flux_keys(quick), once)
        found.figures.append(flux_figure(samples))
        files_of[f"Flux.1, 3 blocks, {size:.1f} GB each"] = samples
    note = f"`import torch` alone: {bare / 1e9:.2f} GB; {os.cpu_count()} cores."
    found.tables.append(table_of("Extract at rank 32, files", files_of, note))
    return found.as_dict()


def linear_shapes(quick: bool) -> list[Shape]:
    keys = files.model_keys("sdxl", quick)
    return [shape for key, shape in keys.items() if key.startswith(UNET) and len(shape) == 2]


def layer_table(costs: Costs, once: int) -> Table:
    note = f"CPU seconds, one BLAS thread, singular values about i^-1/2; medians, full SVD {once} runs of each shape."
    columns = ("shape", "layers", *next(iter(costs.seconds.values())))
    return Table("Extract at rank 32, linear layers of the SDXL UNet", columns, costs.rows(), note)


def flux_figure(samples: Samples) -> Figure:
    note = "1 + 2 of 19 + 38 blocks: layers come one by one, and the LoRA waits on disk"
    return Figure("Flux.1, true shapes: peak memory, torch included", peak_rss(samples) / 1e9, "GB", 1.5, note=note)


def _cases(shape: Matrix) -> tuple[Cases, Cases]:
    matrix = sloped(*shape)
    rank = min(RANK, *shape)
    quick: Cases = {
        OURS: lambda: svd_of_dense(matrix, rank).factors(rank),
        KJ: lambda: kj_extract(matrix, rank),
    }
    return quick, {FULL: lambda: full_svd(matrix, rank)}


def layer_figures(costs: Costs) -> list[Figure]:
    what = f"Extract, rank {RANK}, {sum(costs.counts.values())} linear layers of SDXL: times less CPU than"
    ours, full, kj = (costs.total(case) for case in (OURS, FULL, KJ))
    note = f"{ours:,.0f} s against {{:,.0f}} s; each of {len(costs.counts)} shapes counted as often as it is there"
    return [
        Figure(f"{what} the full SVD", full / ours, "×", 30, at_most=False, note=note.format(full)),
        Figure(f"{what} svd_lowrank", kj / ours, "×", 1.8, at_most=False, note=note.format(kj)),
    ]


def unet_figures(samples: Samples, bare: int) -> list[Figure]:
    above = (peak_rss(samples) - bare) / 1e9
    return [
        Figure(
            "Extract from the SDXL UNet, rank 32: CPU time", cpu(samples), "s", 100, note=f"{wall(samples):.0f} s wall"
        ),
        Figure("Extract from the SDXL UNet: memory above that of a bare `import torch`", above, "GB", 0.5),
    ]


def pair(folder: Path, name: str, keys: Mapping[str, Shape], rounds: int) -> tuple[Samples, float]:
    """Make a base and a tuned file, extract between them, and return what it cost and the size of one in GB."""
    base, tuned, out = (folder / f"{name}_{what}.safetensors" for what in ("base", "tuned", "out"))
    try:
        files.tuned_file(tuned, files.model_file(base, keys))

        def run() -> Sample:
            out.unlink(missing_ok=True)
            return task.run("extract", base, tuned, out, rank=RANK)

        return in_turn(rounds, {name: run})[name], base.stat().st_size / 1e9
    finally:
        for path in (base, tuned, out):
            path.unlink(missing_ok=True)


def flux_keys(quick: bool) -> dict[str, Shape]:
    """Return Flux.1's tensors with its first blocks only."""
    keys = files.model_keys("flux1_dev", quick)
    return {key: shape for key, shape in keys.items() if _is_early(key)}


def _is_early(key: str) -> bool:
    kind, _, rest = key.removeprefix(UNET).partition(".")
    return kind not in FLUX_BLOCKS or int(rest.split(".")[0]) < FLUX_BLOCKS[kind]


def worst_error(rows: int, columns: int) -> Figure:
    """Return the largest error over the optimum on spectra from flat to steep, at ranks from 16 to 128."""
    worst = dict.fromkeys((OURS, KJ), 0.0)
    for seed, values in enumerate(_spectra(rows)):
        matrix = _matrix(values, columns, seed)
        exact = matrix.double()
        squares = squared_values(exact)
        for rank in [rank for rank in (16, 32, 64, 128) if rank < rows]:
            found = {OURS: svd_of_dense(matrix, rank).factors(rank), KJ: kj_extract(matrix, rank)}
            for name, factors in found.items():
                worst[name] = max(worst[name], error_over_optimum(exact, squares, *factors))
    what = f"Extract: largest error over the least possible, 7 spectra of {rows}×{columns}, ranks 16 to 128"
    return Figure(what, worst[OURS], "×", 1.01, note=f"svd_lowrank: {worst[KJ]:.3f}")


def _spectra(size: int) -> list[torch.Tensor]:
    """Return singular values: falling as powers, exponentially, a low rank with a tail, and those of white noise."""
    steps = torch.arange(1, size + 1, dtype=torch.float64)
    powers = [steps**-slope for slope in (0.1, 0.5, 1.0, 2.0)]
    low = torch.where(steps <= 48, 1.0, 0.1)
    noise = torch.linalg.svdvals(torch.randn(size, size * 4 // 3, generator=torch.Generator().manual_seed(1)).double())
    return [*powers, 0.98**steps, low, noise]


def _matrix(values: torch.Tensor, columns: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    left = torch.linalg.qr(torch.randn(len(values), len(values), generator=generator, dtype=torch.float64))[0]
    right = torch.linalg.qr(torch.randn(columns, len(values), generator=generator, dtype=torch.float64))[0]
    return ((left * values) @ right.t()).float()
