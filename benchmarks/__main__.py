"""Run the benchmarks and write benchmarks/results.json and benchmarks/RESULTS.md.

Files have the true sizes and layouts of SD 1.5 and SDXL but hold zeros, so that they take no space before the merge;
times and memory do not depend on the values. Each merge runs in a process of its own, in turn with `cp`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

import lora_core
from tests.manifests import checkpoint, trainer
from tests.tiny import sparse_file, with_dtype

REPO = Path(__file__).resolve().parents[1]
RANK = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    results: dict[str, Any] = {"machine": machine(), "rounds": rounds}
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder)
        results["inspect"] = inspect_against(files, rounds)
        results["merge"] = [merge_size(files, arch, count, rounds) for arch in ("sd15", "sdxl") for count in (1, 4)]
    (REPO / "benchmarks/results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    (REPO / "benchmarks/RESULTS.md").write_text(as_text(results), encoding="utf-8")


def machine() -> dict[str, Any]:
    return {
        "cpu": next((line.split(":")[1].strip() for line in cpu_info() if line.startswith("model name")), "unknown"),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lora_core": lora_core.__version__,
        "load_average": os.getloadavg()[0],
    }


def cpu_info() -> Iterator[str]:
    path = Path("/proc/cpuinfo")
    yield from path.read_text().splitlines() if path.exists() else ()


def inspect_against(files: Path, rounds: int) -> dict[str, Any]:
    """Time `inspect` of a LoCon with 3,156 tensors against an SDXL checkpoint, imports apart."""
    lora, base = lora_file(files, "sdxl"), base_file(files, "sdxl")
    seconds = [timed(lambda: lora_core.inspect(lora, [base])) for _ in range(rounds)]
    return {"tensors": len(trainer("kohya_locon-sdxl").tensors), "seconds": seconds}


def merge_size(files: Path, arch: str, count: int, rounds: int) -> dict[str, Any]:
    """Merge `count` LoCons of rank 32 into a checkpoint of `arch`, in turn with copying it, both flushed to disk."""
    lora, base, out = lora_file(files, arch), base_file(files, arch), files / "out.safetensors"
    ours: list[dict[str, Any]] = []
    copies: list[float] = []
    for _ in range(rounds):
        copies.append(timed(lambda: copied(base, out)))
        out.unlink()
        ours.append(merged(base, lora, count, out))
        out.unlink()
    return {
        "arch": arch,
        "bytes": base.stat().st_size,
        "loras": count,
        "seconds": [run["seconds"] for run in ours],
        "cp_seconds": copies,
        "peak_rss_bytes": [run["peak_rss_bytes"] for run in ours],
        "torch_rss_bytes": torch_rss(),
    }


def copied(source: Path, target: Path) -> None:
    subprocess.run(["cp", "--sparse=never", source, target], check=True)
    subprocess.run(["sync", target], check=True)


def merged(base: Path, lora: Path, count: int, out: Path) -> dict[str, Any]:
    loras = [part for index in range(count) for part in ("--lora", str(lora), str(0.1 * (index + 1)))]
    command = [sys.executable, "-m", "lora_core", "merge", "--base", base, *loras, "--out", out, "--json"]
    done = subprocess.run([str(part) for part in command], cwd=REPO, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def torch_rss() -> int:
    """Return the peak memory of a process that only imports torch."""
    code = "import torch, resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)"
    return int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


def base_file(files: Path, arch: str) -> Path:
    path = files / f"{arch}.safetensors"
    return path if path.exists() else sparse_file(path, with_dtype(checkpoint(arch).keys))


def lora_file(files: Path, arch: str) -> Path:
    """Return a LoCon of rank 32 with the names that kohya's trainer writes, all zero but alpha."""
    path = files / f"{arch}_locon.safetensors"
    if not path.exists():
        tensors = {name: factor(name, shape) for name, (_, shape) in trainer(f"kohya_locon-{arch}").tensors.items()}
        save_file(tensors, path)
    return path


def factor(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    if name.endswith(".alpha"):
        return torch.tensor(float(RANK)).half()
    sizes = list(shape)
    sizes["lora_up" in name] = RANK
    return torch.zeros(sizes, dtype=torch.float16)


def timed(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def as_text(results: dict[str, Any]) -> str:
    known = results["machine"]
    inspect = results["inspect"]
    lines = [
        "# Results",
        "",
        f"{known['cpu']}, {known['cores']} cores, Python {known['python']}, torch {known['torch']}; "
        f"medians of {results['rounds']} rounds, load average {known['load_average']:.1f} at the start.",
        "",
        f"`inspect`, {inspect['tensors']} tensors against an SDXL checkpoint, imports apart: "
        f"**{statistics.median(inspect['seconds']):.2f} s**.",
        "",
        "| merge | checkpoint | LoRAs | seconds, flushed | `cp`, flushed | peak memory | of it `import torch` |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in results["merge"]:
        seconds, copy = statistics.median(row["seconds"]), statistics.median(row["cp_seconds"])
        lines.append(
            f"| {row['arch']} | {row['bytes'] / 1e9:.1f} GB | {row['loras']} | {seconds:.1f} | {copy:.1f} "
            f"| {statistics.median(row['peak_rss_bytes']) / 1e9:.2f} GB | {row['torch_rss_bytes'] / 1e9:.2f} GB |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if shutil.which("cp") is None:
        sys.exit("the benchmarks need the command cp")
    main()
