"""Which tiers of tests can run here, and where the programs lie that they need."""

from __future__ import annotations

import importlib.util
import os
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TIERS = ("core", "peers", "web", "host", "packs", "browser")  # each is a folder below tests/ and a pytest marker
STRICT = ("web", "host", "packs", "browser")  # a test of these may not skip once its tier can run
ON_HOST = ("host", "packs", "browser")  # these share one running ComfyUI

PEERS = ("peft", "diffusers", "transformers")
PACKS = {  # other node packs, by the test files tests/packs/test_with_*.py, and what their folders are called
    "comfyroll": "ComfyUI_Comfyroll_CustomNodes",
    "easy_use": "ComfyUI-Easy-Use",
    "efficiency": "efficiency-nodes-comfyui",
    "gguf": "ComfyUI-GGUF",
    "lora_manager": "ComfyUI-Lora-Manager",
    "rgthree": "rgthree-comfy",
}
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


def tier_of(nodeid: str) -> str:
    """The tier of a test by its id, which begins with or without `tests/`, depending on how pytest is called."""
    return nodeid.removeprefix("tests/").split("/", maxsplit=1)[0]


@dataclass(frozen=True, slots=True)
class Host:
    """A ComfyUI checkout and the Python that runs it."""

    path: Path
    python: Path


def find_host() -> Host | None:
    """The ComfyUI that tests run against: COMFYUI_PATH, else ~/comfy/ComfyUI."""
    path = comfyui_path()
    python = _host_python(path)
    return Host(path, python) if python else None


def comfyui_path() -> Path:
    return Path(os.environ.get("COMFYUI_PATH") or Path.home() / "comfy" / "ComfyUI").expanduser()


def _host_python(path: Path) -> Path | None:
    if not (path / "main.py").is_file():
        return None
    named = os.environ.get("COMFYUI_PYTHON")
    candidates = [Path(named)] if named else [path / ".venv/bin/python", path / ".venv/Scripts/python.exe"]
    return next((python for python in candidates if python.is_file()), None)


def find_chromium() -> str | None:
    return next(filter(None, map(shutil.which, CHROMIUM)), None)


def newest_front_end() -> Path | None:
    """The folder of a newer front end than the host's own, which `make test` installs for the browser tier."""
    folder = Path(__file__).resolve().parents[1] / ".venv/front-end/comfyui_frontend_package/static"
    return folder if (folder / "index.html").is_file() else None


def packs_path() -> Path:
    return Path(os.environ.get("COMFYUI_PACKS") or Path.home() / "comfy" / "packs").expanduser()


@cache
def find_packs() -> dict[str, Path]:
    """The folders of the packs that are there, below COMFYUI_PACKS, else ~/comfy/packs."""
    below = packs_path()
    folders = {path.name.casefold(): path for path in below.iterdir()} if below.is_dir() else {}
    found = {pack: folders.get(name.casefold()) for pack, name in PACKS.items()}  # registries change the case
    return {pack: path for pack, path in found.items() if path and (path / "__init__.py").is_file()}


def is_without_pack(test_file: Path) -> bool:
    """Whether a file of tests is for a pack that is not there."""
    return test_file.stem.removeprefix("test_with_") in PACKS.keys() - find_packs().keys()


def find_node() -> str | None:
    return shutil.which("node")


@cache
def why_not(tier: str) -> str | None:
    """Why the tier can't run here and what would change that, or None if it can run."""
    if tier == "peers":
        return _missing(PEERS)
    if tier == "web":
        return None if find_node() else "node not found on PATH"
    if tier == "host":
        return _why_no_host() or _missing(("websocket",))
    if tier == "packs":
        return why_not("host") or (None if find_packs() else "no packs found; set COMFYUI_PACKS")
    if tier == "browser":
        no_chromium = None if find_chromium() else f"none of {', '.join(CHROMIUM)} found on PATH"
        return why_not("host") or no_chromium or _missing(("playwright",))
    return None


def more_of(tier: str) -> str:
    """What the tier's line says beside its counts: which packs ran, and why others did not."""
    if tier != "packs":
        return ""
    here = [name for pack, name in PACKS.items() if pack in find_packs()]
    absent = [name for pack, name in PACKS.items() if pack not in find_packs()]
    missing = f"; not installed at {packs_path()}: {', '.join(absent)}" if absent else ""
    return f"; with {', '.join(here)}{missing}"


def _why_no_host() -> str | None:
    if find_host():
        return None
    if not (comfyui_path() / "main.py").is_file():
        return "ComfyUI not found; set COMFYUI_PATH"
    return "ComfyUI has no .venv of its own; set COMFYUI_PYTHON"


def _missing(modules: tuple[str, ...]) -> str | None:
    absent = [name for name in modules if importlib.util.find_spec(name) is None]
    return f"not installed: {', '.join(absent)}" if absent else None
