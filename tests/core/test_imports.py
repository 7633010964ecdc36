"""The import direction: nodes use lora_core and, through nodes/host.py alone, ComfyUI; lora_core never looks up."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]

# A module may import modules of its own level and of those before it. A package counts as one module.
LEVELS = (
    ("visible", "errors", "options", "lazytorch", "threads", "streams", "version"),
    (
        "report",
        "tables",
        "parts",
        "patterns",
        "dialects",
        "arch",
        "files",
        "rounding",
        "interrupts",
        "blockterms",
        "stackentry",
        "stack",
        "pairs",
    ),
    (
        "renames",
        "detection",
        "targets",
        "products",
        "component",
        "blocks",
        "keymap",
        "outlines",
        "writing",
        "adapters",
        "krylov",
        "linalg",
        "ranks",
        "factored",
        "factorised",
        "sizes",
    ),
    (
        "loraconfig",
        "adapterspec",
        "specreader",
        "lorafile",
        "blockstrengths",
        "stacked",
        "checkpoint",
        "apply",
    ),
    (
        "refusals",
        "library",
        "resolve",
        "stackfiles",
        "precheck",
        "matching",
        "pipeline",
        "ahead",
        "steps",
        "rewrite",
        "jobs",
        "precision",
        "receipt",
        "receiptread",
        "folderfiles",
        "rewriter",
        "leftovers",
        "lorawriter",
        "truncation",
        "layers",
        "changes",
        "analysis",
        "conflicts",
    ),
    (
        "merge",
        "extract",
        "extraction",
        "resizing",
        "resize",
        "combine",
        "conversion",
        "combining",
        "convert",
        "inspect",
        "graph",
        "importing",
    ),
    ("receiptinputs", "verify"),
    ("workflowfiles",),
    ("workflow", "demo"),
    ("commands",),
    ("cli", "__init__"),
    ("__main__",),
)
LEVEL_OF = {module: level for level, modules in enumerate(LEVELS) for module in modules}

CORE_LIBRARIES = {"torch", "safetensors", "numpy", "tqdm"}  # tqdm only draws the command line's progress
OPTIONAL = {"lora_core/files/gguffile.py": "gguf"}  # imported when such a file is read; without it, refused
NODE_LIBRARIES = {"torch", "numpy", "PIL", "aiohttp"}  # ComfyUI itself brings them
DYNAMIC_IMPORTS = "lora_core/lazytorch.py"  # imports torch when it is first used, so that importing the pack is quick

Module = tuple[str, ...]


def violations(root: Path) -> list[str]:
    """Every import below `root` that breaks the direction, as `file:line: what is wrong`."""
    files = [file for folder in ("lora_core", "nodes") for file in sorted((root / folder).rglob("*.py"))]
    found: list[str] = []
    for file in files:
        name = file.relative_to(root).as_posix()
        check = _wrong_in_core if name.startswith("lora_core/") else _wrong_in_nodes
        for line, module, is_relative in _imports(file, root):
            wrong = check(name, module) if is_relative else _wrong_absolute(name, module[0])
            if wrong:
                found.append(f"{name}:{line}: {wrong}")
    return found


def _imports(file: Path, root: Path) -> Iterator[tuple[int, Module, bool]]:
    """Line, module below the root (or absolute name), whether it was a relative import; one for each name."""
    package = file.relative_to(root).parent.parts
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, tuple(alias.name.split(".")), False) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            named = tuple(node.module.split(".")) if node.module else ()
            base = (*package[: len(package) + 1 - node.level], *named) if node.level else named
            yield from ((node.lineno, (*base, alias.name), node.level > 0) for alias in node.names)


def _wrong_in_core(name: str, module: Module) -> str | None:
    if module[0] != "lora_core":
        return f"imports {'.'.join(module)}, which lies outside lora_core"
    importer = _unit(tuple(name.removesuffix(".py").split("/")))
    # `from . import x` names a module, or else something that __init__.py defines
    imported = _unit(module) if _unit(module) in LEVEL_OF or len(module) > 2 else "__init__"
    for unit in (importer, imported):
        if unit not in LEVEL_OF:
            return f"lora_core/{unit} has no level; give it one in LEVELS of tests/core/test_imports.py"
    if LEVEL_OF[imported] > LEVEL_OF[importer]:
        return f"{importer} imports {imported}, which is of a higher level"
    return None


def _unit(module: Module) -> str:
    return module[1]


def _wrong_in_nodes(name: str, module: Module) -> str | None:
    if module[0] in ("lora_core", "nodes"):
        return None
    return f"imports {'.'.join(module)}; nodes may import lora_core and nodes only"


def _wrong_absolute(name: str, top: str) -> str | None:
    if top == "importlib" and name != DYNAMIC_IMPORTS:
        return "imports importlib, which would hide imports from this test"
    if top in sys.stdlib_module_names or name == "nodes/host.py":
        return None
    if top in ("lora_core", "nodes") or (REPO / top).is_dir():
        return f"imports {top} by its absolute name; inside the pack use a relative import"
    if name.startswith("lora_core/"):
        allowed = top in CORE_LIBRARIES or OPTIONAL.get(name) == top
        return None if allowed else f"imports {top}; lora_core may import {_listed(CORE_LIBRARIES)} only"
    if top == "comfy_api" or top in NODE_LIBRARIES:
        return None
    return f"imports {top}; of nodes/ only host.py may import ComfyUI, and the rest {_listed(NODE_LIBRARIES)}"


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))


def test_every_import_follows_the_direction() -> None:
    assert violations(REPO) == []


@pytest.mark.parametrize(
    ("file", "line", "expected"),
    [
        ("lora_core/merge.py", "import comfy.utils", "imports comfy; lora_core may import numpy, safetensors, torch"),
        ("lora_core/merge.py", "from ..nodes import host", "imports nodes.host, which lies outside lora_core"),
        ("lora_core/merge.py", "import folder_paths", "imports folder_paths; lora_core may import"),
        ("lora_core/merge.py", "from lora_core.errors import LoraError", "imports lora_core by its absolute name"),
        ("lora_core/merge.py", "from . import cli", "merge imports cli, which is of a higher level"),
        ("lora_core/merge.py", "from . import __version__", "merge imports __init__, which is of a higher level"),
        ("lora_core/arch/flux.py", "from ..keymap import KeyMap", "arch imports keymap, which is of a higher level"),
        ("lora_core/merge.py", "import gguf", "imports gguf; lora_core may import numpy, safetensors, torch"),
        ("lora_core/brandnew.py", "from .errors import LoraError", "lora_core/brandnew has no level; give it one"),
        ("lora_core/merge.py", "from .brandnew import x", "lora_core/brandnew has no level; give it one"),
        ("lora_core/merge.py", "import importlib", "imports importlib"),
        ("nodes/load.py", "import comfy.sd", "imports comfy; of nodes/ only host.py may import ComfyUI"),
        ("nodes/load.py", "from folder_paths import base_path", "imports folder_paths; of nodes/ only host.py"),
        ("nodes/load.py", "from server import PromptServer", "imports server; of nodes/ only host.py"),
        ("nodes/load.py", "import lora_core", "imports lora_core by its absolute name"),
        ("nodes/load.py", "from ..tests import tiny", "imports tests.tiny; nodes may import"),
    ],
)
def test_the_checker_sees_a_planted_violation(tmp_path: Path, file: str, line: str, expected: str) -> None:
    for folder in ("lora_core", "nodes"):
        shutil.copytree(REPO / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    planted = tmp_path / file
    planted.parent.mkdir(exist_ok=True)
    text = planted.read_text("utf-8") if planted.is_file() else ""
    # inside a function, where imports are easily missed
    planted.write_text(f"{text}\n\ndef _planted():\n    {line}\n", "utf-8")
    assert [v for v in violations(tmp_path) if v.startswith(f"{file}:") and expected in v]


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("lora_core/merge.py", "from .errors import LoraError"),
        ("lora_core/cli.py", "import tqdm"),
        ("lora_core/__main__.py", "from .cli import main"),
        ("nodes/load.py", "from comfy_api.latest import io"),
        ("nodes/load.py", "from ..lora_core import merge"),
        ("nodes/load.py", "from . import host"),
        ("nodes/host.py", "import comfy.utils"),
    ],
)
def test_the_checker_lets_allowed_imports_pass(tmp_path: Path, file: str, line: str) -> None:
    planted = tmp_path / file
    planted.parent.mkdir()
    planted.write_text(line, "utf-8")
    assert violations(tmp_path) == []


@pytest.mark.case(39)
def test_importing_the_library_loads_neither_torch_nor_comfyui() -> None:
    program = "import json, sys, lora_core; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=REPO, capture_output=True, text=True, check=True)
    loaded = {name.split(".", maxsplit=1)[0] for name in json.loads(done.stdout)}
    assert "lora_core" in loaded
    assert not loaded & {"torch", "safetensors", "numpy", "comfy", "comfy_api", "folder_paths", "nodes", "server"}
