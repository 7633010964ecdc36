"""How cost grows: with the rank, the number of LoRAs, the size of the checkpoint, and the threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import files, task
from benchmarks.figures import Findings, Table
from benchmarks.layers import factors, one_thread, sloped
from benchmarks.processes import finish
from benchmarks.turns import Sample, Samples, cpu, in_turn, peak_rss, timed, wall
from lora_core.linalg import svd_of_dense, svd_of_product

RANKS = (8, 32, 128)
COUNTS = (1, 2, 4, 8)
THREADS = tuple(threads for threads in (1, 2, 4, 8, 16) if threads <= (os.cpu_count() or 1))
SIZES = ("sd15", "ssd1b", "sdxl")
UNET = "model.diffusion_model."


def measure(rounds: int, folder: Path, quick: bool) -> dict[str, Any]:
    """Merge into checkpoints, extract, resize, and take layers apart, with one thing changed at a time."""
    found = Findings()
    several = rounds // 2 + 1
    base = files.model_file(folder / "sd15.safetensors", files.model_keys("sd15", quick))
    loras = {rank: files.lora_files(folder, "sd15", rank, 8 if rank == 32 else 1, quick) for rank in RANKS}
    out = folder / "out.safetensors"

    def table(title: str, runs: int, cases: Mapping[str, Callable[[], Sample]]) -> None:
        with found.part(title):
            samples = in_turn(runs, {name: _fresh(case, out) for name, case in cases.items()})
            found.tables.append(_table(title, samples))
        out.unlink(missing_ok=True)

    table(
        "Merge into SD 1.5, LoRAs of rank 32, by their number",
        several,
        {f"{count} LoRAs": partial(_merge, base, loras[32][:count], out) for count in COUNTS},
    )
    table(
        "Merge into SD 1.5, one LoRA, by its rank",
        several,
        {f"rank {rank}": partial(_merge, base, loras[rank], out) for rank in (8, 128)}
        | {"rank 32": partial(_merge, base, loras[32][:1], out)},
    )
    table(
        "Merge into SD 1.5, four LoRAs, by threads",
        several,
        {_threads(count): partial(_merge, base, loras[32][:4], out, count) for count in THREADS},
    )
    table(
        "Resize of an SD 1.5 LoRA from rank 128 to 32, by threads",
        several,
        {_threads(count): partial(_with_threads, count, "resize", loras[128][0], out, rank=32) for count in THREADS},
    )
    with found.part("making of a tuned model"):
        tuned = files.tuned_file(folder / "tuned.safetensors", base)
        table(
            "Extract of rank 32 from SD 1.5, by threads",
            1,
            {_threads(count): partial(_with_threads, count, "extract", base, tuned, out, rank=32) for count in THREADS},
        )
        tuned.unlink()
    with found.part("making of checkpoints"):
        table("Merge of one LoRA of rank 32, by the checkpoint's size", several, dict(_sizes(folder, out, quick)))
    with found.part("layers by rank"):
        found.tables += layer_tables(rounds, 128 if quick else 1280)
    return found.as_dict()


def _merge(base: Path, loras: Sequence[Path], out: Path, threads: int = 0) -> Sample:
    return _with_threads(threads, "merge", base, [(path, 0.5) for path in loras], out, flush=False)


def _with_threads(threads: int, operation: str, *arguments: Any, **options: Any) -> Sample:
    env = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)} if threads else {}
    return task.run(operation, *arguments, env=env, **options)


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count > 1 else ''}"


def _fresh(case: Callable[[], Sample], out: Path) -> Callable[[], Sample]:
    def run() -> Sample:
        out.unlink(missing_ok=True)
        finish(["sync", "-f", out.parent])
        return case()

    return run


def _sizes(folder: Path, out: Path, quick: bool) -> Iterator[tuple[str, Callable[[], Sample]]]:
    """Yield a merge for each model, of a LoRA that changes every matrix of its UNet."""
    for arch in SIZES:
        keys = files.model_keys(arch, quick)
        base = files.model_file(folder / f"{arch}.safetensors", keys)
        unet = {key.removeprefix(UNET): shape for key, shape in keys.items() if key.startswith(UNET)}
        modules = {
            f"diffusion_model.{key.removesuffix('.weight')}": shape
            for key, shape in unet.items()
            if key.endswith(".weight") and len(shape) > 1
        }
        lora = files.lora_file(folder / f"{arch}_all.safetensors", modules, 32)
        yield f"{arch}, {base.stat().st_size / 1e9:.1f} GB", partial(_merge, base, [lora], out)


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
        _table(f"Extract from a {size}×{size} layer, one thread, by rank", dense),
        _table(f"Singular values of a {size}×{size} product, one thread, by its rank", small),
    ]


def _table(title: str, samples: Mapping[str, Samples]) -> Table:
    rows = [
        [name, len(several), wall(several), cpu(several), peak_rss(several) / 1e9 or "–"]
        for name, several in samples.items()
    ]
    return Table(title, ("case", "runs", "median s", "CPU s", "peak memory, GB"), rows)
