"""How cost grows: with the rank, the number of LoRAs, the size of the checkpoint, and the threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import files, task
from benchmarks.figures import Findings, Table, table_of
from benchmarks.layers import factors, one_thread, sloped
from benchmarks.processes import finish
from benchmarks.turns import Sample, in_turn, timed
from lora_core.algebra.svd import svd_of_dense, svd_of_product

RANKS = (8, 32, 128)
COUNTS = (1, 2, 4, 8)
THREADS = tuple(threads for threads in (1, 2, 4, 8, 16) if threads <= (os.cpu_count() or 1))
SIZES = ("sd15", "ssd1b")  # and SDXL, which merge.py measures
UNET = "model.diffusion_model."


Cases = Mapping[str, Callable[[], Sample]]


def measure(rounds: int, folder: Path, quick: bool) -> dict[str, Any]:
    """Merge into checkpoints, extract, resize, and take layers apart, with one thing changed at a time."""
    found = Findings()
    several, out = rounds // 2 + 1, folder / "out.safetensors"
    base = files.model_file(folder / "sd15.safetensors", files.model_keys("sd15", quick))
    tuned = folder / "tuned.safetensors"
    loras = {rank: files.lora_files(folder, "sd15", rank, 8 if rank == 32 else 1, quick) for rank in RANKS}
    plan: list[tuple[str, int, Callable[[], Cases]]] = [
        ("Merge into SD 1.5, LoRAs of rank 32, by their number", several, lambda: _by_count(base, loras[32], out)),
        ("Merge into SD 1.5, one LoRA, by its rank", several, lambda: _by_rank(base, loras, out)),
        ("Merge into SD 1.5, four LoRAs, by threads", several, lambda: _merge_by_threads(base, loras[32][:4], out)),
        (
            "Resize of an SD 1.5 LoRA from rank 128 to 32, by threads",
            several,
            lambda: _by_threads("resize", loras[128][0], out, rank=32),
        ),
        (
            "Extract of rank 32 from SD 1.5, by threads",
            1,
            lambda: _by_threads("extract", base, files.tuned_file(tuned, base), out, rank=32),
        ),
        ("Merge of one LoRA of rank 32, by the checkpoint's size", several, lambda: _by_size(folder, out, quick)),
    ]
    for title, runs, cases in plan:
        with found.part(title):
            samples = in_turn(runs, {name: _fresh(case, out) for name, case in cases().items()})
            found.tables.append(table_of(title, samples))
    with found.part("layers by rank"):
        found.tables += layer_tables(rounds, 128 if quick else 1280)
    return found.as_dict()


def _by_count(base: Path, loras: Sequence[Path], out: Path) -> Cases:
    return {_some(count, "LoRA"): partial(_merge, base, loras[:count], out) for count in COUNTS}


def _by_rank(base: Path, loras: Mapping[int, Sequence[Path]], out: Path) -> Cases:
    return {f"rank {rank}": partial(_merge, base, loras[rank][:1], out) for rank in RANKS}


def _merge_by_threads(base: Path, loras: Sequence[Path], out: Path) -> Cases:
    return _by_threads("merge", base, _stack(loras), out, flush=False)


def _by_threads(operation: str, *arguments: Any, **options: Any) -> Cases:
    cases: dict[str, Callable[[], Sample]] = {}
    for count in THREADS:
        env = {"OMP_NUM_THREADS": str(count), "MKL_NUM_THREADS": str(count)}
        cases[_some(count, "thread")] = partial(task.run, operation, *arguments, env=env, **options)
    return cases


def _by_size(folder: Path, out: Path, quick: bool) -> Cases:
    """Return a merge for each model, of a LoRA that changes every matrix of its UNet."""
    cases: dict[str, Callable[[], Sample]] = {}
    for arch in SIZES:
        keys = files.model_keys(arch, quick)
        base = files.model_file(folder / f"{arch}.safetensors", keys)
        modules = {
            f"diffusion_model.{key.removeprefix(UNET).removesuffix('.weight')}": shape
            for key, shape in keys.items()
            if key.startswith(UNET) and key.endswith(".weight") and len(shape) > 1
        }
        lora = files.lora_file(folder / f"{arch}_all.safetensors", modules, 32)
        cases[f"{arch}, {base.stat().st_size / 1e9:.1f} GB"] = partial(_merge, base, [lora], out)
    return cases


def _merge(base: Path, loras: Sequence[Path], out: Path) -> Sample:
    return task.run("merge", base, _stack(loras), out, flush=False)


def _stack(loras: Sequence[Path]) -> list[tuple[Path, float]]:
    return [(path, 0.5) for path in loras]


def _some(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count > 1 else ''}"


def _fresh(case: Callable[[], Sample], out: Path) -> Callable[[], Sample]:
    def run() -> Sample:
        finish(["sync", "-f", out.parent])
        try:
            return case()
        finally:
            out.unlink(missing_ok=True)

    return run


def layer_tables(rounds: int, size: int) -> list[Table]:
    """Return the CPU time of a layer's singular values, by rank: of a product, and of a dense change."""
    square, ranks = sloped(size, size), [rank for rank in (8, 16, 32, 64, 128) if rank < size]
    products = {rank: factors(size, size, rank) for rank in ranks}
    with one_thread():
        dense = in_turn(rounds, {f"rank {rank}": partial(timed, partial(svd_of_dense, square, rank)) for rank in ranks})
        small = in_turn(
            rounds, {f"rank {rank}": partial(timed, partial(svd_of_product, *products[rank])) for rank in ranks}
        )
    return [
        table_of(f"Extract from a {size}×{size} layer, one thread, by rank", dense),
        table_of(f"Singular values of a {size}×{size} product, one thread, by its rank", small),
    ]
