"""What the figures were taken on, and whether it was quiet."""

from __future__ import annotations

import os
import platform
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

from tests import tiers

BUSY = 1.5  # load average for each core above which figures are not to be trusted
PACKAGES = ("torch", "numpy", "safetensors", "peft")


def described(folder: Path) -> dict[str, Any]:
    """Return the machine, the disk below `folder`, and the versions that matter."""
    return {
        "cpu": _field("/proc/cpuinfo", "model name") or platform.processor() or "unknown",
        "cores": os.cpu_count() or 1,
        "memory_gb": _memory("MemTotal"),
        "free_memory_gb": _memory("MemAvailable"),
        "disk": _disk(folder),
        "free_disk_gb": round(shutil.disk_usage(folder).free / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
        "load_average": round(os.getloadavg()[0], 2),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    found = {"Python": platform.python_version()}
    for package in ("lora-core", *PACKAGES):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    host = tiers.find_host()
    if host is not None:
        found["ComfyUI"] = _field(str(host.path / "comfyui_version.py"), "__version__", "=").strip('"') or "unknown"
    return found


def load() -> float:
    """Return the load average of the last minute for each core."""
    return os.getloadavg()[0] / (os.cpu_count() or 1)


def is_busy() -> bool:
    return load() > BUSY


def _field(path: str, name: str, sign: str = ":") -> str:
    if not Path(path).exists():
        return ""
    lines = (line.partition(sign) for line in Path(path).read_text().splitlines())
    return next((value.strip() for key, _, value in lines if key.strip() == name), "")


def _memory(name: str) -> float | None:
    text = _field("/proc/meminfo", name)
    return round(int(text.split()[0]) * 1024 / 1e9, 1) if text else None


def _disk(folder: Path) -> str:
    """Return the file system that holds `folder`, and what its device says of itself."""
    mounts = Path("/proc/mounts")
    if not mounts.exists():
        return "unknown"
    lines = [line.split()[:3] for line in mounts.read_text().splitlines()]
    here = [(device, at, kind) for device, at, kind in lines if folder.resolve().is_relative_to(at)]
    device, _, kind = max(here, key=lambda line: len(line[1]))
    rotational = Path(f"/sys/block/{Path(device).name}/queue/rotational")
    if not rotational.exists():
        return f"{kind} on {Path(device).name}"
    name = Path(device).name
    sort = "virtual disk" if name.startswith("vd") else "hard disk" if rotational.read_text().strip() == "1" else "SSD"
    return f"{kind} on a {sort}"
