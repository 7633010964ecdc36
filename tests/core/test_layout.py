"""The layout: nodes use lora_core and, through two files alone, ComfyUI; inside lora_core nothing looks up."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.layout import PLACES, REPO, Layout, sources

MERGE, LOAD = "lora_core/operations/merging/merge.py", "nodes/load.py"
CORE_ONLY = "lora_core may import numpy, safetensors, torch"
HOST_ONLY = "of nodes/ only host.py and hostmodels.py may import ComfyUI"


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    return sources()


@pytest.fixture(scope="module")
def layout(files: dict[str, str]) -> Layout:
    return Layout(files)


def test_every_import_follows_the_direction(layout: Layout) -> None:
    assert layout.wrong_imports() == []


def test_no_modules_import_each_other(layout: Layout) -> None:
    assert layout.circles() == []


def test_the_house_has_few_floors_and_a_small_root(layout: Layout) -> None:
    assert layout.floors() <= 14
    assert len([one for one in (REPO / "lora_core").glob("*.py") if one.name != "__init__.py"]) <= 8


def test_modules_have_one_subject(layout: Layout) -> None:
    assert layout.long_modules() == []


def test_names_stand_once(layout: Layout) -> None:
    assert layout.names_twice() == []


def test_what_is_private_stays_in_its_module(layout: Layout) -> None:
    assert layout.private_imports() == []


def test_no_one_else_asks_which_kind_an_adapter_is(layout: Layout) -> None:
    assert layout.kinds_outside_adapters() == []


def test_every_place_is_taken() -> None:
    there = {path.name.removesuffix(".py") for path in (REPO / "lora_core").iterdir() if path.name != "__pycache__"}
    assert sorted(unit for units in PLACES for unit in units) == sorted(there)


@pytest.mark.parametrize(
    ("file", "line", "expected"),
    [
        (MERGE, "import comfy.utils", f"imports comfy; {CORE_ONLY}"),
        (MERGE, "from ....nodes import host", "imports nodes.host, which lies outside lora_core"),
        (MERGE, "import folder_paths", "imports folder_paths; lora_core may import"),
        (MERGE, "from lora_core.errors import LoraError", "imports lora_core by its absolute name"),
        (MERGE, "from ... import cli", "operations imports cli, which does not stand before it"),
        (MERGE, "from ... import __version__", "operations imports __init__, which does not stand before it"),
        (MERGE, "from ..resizing.resize import resize", "merging imports resizing, and no operation imports another"),
        (MERGE, "from ...brandnew import x", "lora_core/brandnew has no place; give it one"),
        (MERGE, "import gguf", f"imports gguf; {CORE_ONLY}"),
        (MERGE, "import importlib", "imports importlib"),
        ("lora_core/arch/flux.py", "from ..naming.keymap import x", "arch imports naming, which does not stand before"),
        ("lora_core/library/info.py", "from ..receipts.receipt import x", "library imports receipts, which does not"),
        ("lora_core/brandnew.py", "from .errors import LoraError", "lora_core/brandnew has no place; give it one"),
        (LOAD, "import comfy.sd", f"imports comfy; {HOST_ONLY}"),
        (LOAD, "from folder_paths import base_path", f"imports folder_paths; {HOST_ONLY}"),
        (LOAD, "from server import PromptServer", f"imports server; {HOST_ONLY}"),
        (LOAD, "import lora_core", "imports lora_core by its absolute name"),
        (LOAD, "from ..tests import tiny", "imports tests.tiny; nodes may import"),
    ],
)
def test_the_checker_sees_a_planted_import(files: dict[str, str], file: str, line: str, expected: str) -> None:
    # inside a function, where imports are easily missed
    planted = {**files, file: f"{files.get(file, '')}\n\ndef _planted():\n    {line}\n"}
    assert [v for v in Layout(planted).wrong_imports() if v.startswith(f"{file}:") and expected in v]


@pytest.mark.parametrize(
    ("file", "line"),
    [
        (MERGE, "from ...errors import LoraError"),
        ("lora_core/cli/entry.py", "import tqdm"),
        ("lora_core/__main__.py", "from .cli import main"),
        (LOAD, "from comfy_api.latest import io"),
        (LOAD, "from ..lora_core import merge"),
        (LOAD, "from . import host"),
        ("nodes/host.py", "import comfy.utils"),
        ("nodes/hostmodels.py", "import comfy.lora"),
    ],
)
def test_the_checker_lets_allowed_imports_pass(file: str, line: str) -> None:
    assert Layout({file: line}).wrong_imports() == []


def test_the_checker_sees_a_circle_even_of_types() -> None:
    planted = {
        "lora_core/files/a.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .b import B\n",
        "lora_core/files/b.py": "from .c import C\n",
        "lora_core/files/c.py": "def late():\n    from .a import A\n",
    }
    assert Layout(planted).circles() == [
        "lora_core/files/a.py -> lora_core/files/b.py -> lora_core/files/c.py -> lora_core/files/a.py"
    ]


@pytest.fixture(scope="module")
def kinds(files: dict[str, str]) -> dict[str, str]:
    return {file: text for file, text in files.items() if file.startswith("lora_core/adapters/")}


@pytest.mark.parametrize("file", [MERGE, LOAD])
@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("return isinstance(x, LoKr)", "LoKr"),
        ("return isinstance(x, (str, adapters.Reshape))", "Reshape"),
        ("return isinstance(x, LoHa | None)", "LoHa"),
        ("return issubclass(KINDS[x], ScaledAdapter)", "ScaledAdapter"),
        ("return isinstance(x, BiasDifference)", "BiasDifference"),
        ("match x:\n        case DoRA():\n            pass", "DoRA"),
    ],
)
def test_the_checker_sees_a_planted_question(kinds: dict[str, str], file: str, question: str, kind: str) -> None:
    [found] = Layout({**kinds, file: f"def _planted(x):\n    {question}\n"}).kinds_outside_adapters()
    assert found.startswith(f"{file}:") and found.endswith(f": {kind}")


def test_results_that_are_no_adapters_may_be_asked() -> None:
    own = "class LoRA(ScaledAdapter): ...\nclass ScaledAdapter(Adapter): ...\nclass Parts: ...\n"
    asking = "def f(x):\n    return isinstance(x, (Parts, StoredDifference))\n"
    assert Layout({"lora_core/adapters/a.py": own, MERGE: asking}).kinds_outside_adapters() == []


def test_the_checker_sees_long_modules_twins_and_leaks() -> None:
    planted = Layout(
        {
            "lora_core/files/a.py": "class A: ...\ndef f(): ...\ndef _g(): ...\n" + "x = 1\n" * 300,
            "lora_core/files/b.py": "from .a import _g\nclass A: ...\ndef f(): ...\n",
        }
    )
    assert planted.long_modules() == ["lora_core/files/a.py"]
    assert planted.names_twice() == ["A", "f"]
    assert planted.private_imports() == ["lora_core/files/b.py: _g"]


@pytest.mark.case(39)
def test_importing_the_library_loads_neither_torch_nor_comfyui() -> None:
    program = "import json, sys, lora_core; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=REPO, capture_output=True, text=True, check=True)
    loaded = {name.split(".", maxsplit=1)[0] for name in json.loads(done.stdout)}
    assert "lora_core" in loaded
    assert not loaded & {"torch", "safetensors", "numpy", "comfy", "comfy_api", "folder_paths", "nodes", "server"}
