"""The run's last lines: one per tier, and no tier that can run leaves a test out."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
CONFIG = "[pytest]\naddopts = --confcutdir=tests\npythonpath = .\n"
PASSES = "def test_it():\n    pass\n"
SKIPS = "import pytest\n\ndef test_it():\n    pytest.skip('not today')\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with our conftest, one test that passes in core, and a ComfyUI that is nothing but a file."""
    for name in ("conftest.py", "tiers.py", "processes.py"):
        shutil.copy(TESTS / name, tmp_path / _made(tmp_path / "tests") / name)
    (tmp_path / "tests" / "host_fixtures.py").touch()
    (tmp_path / "pytest.ini").write_text(CONFIG)
    (_made(tmp_path / "ComfyUI") / "main.py").touch()
    _write(tmp_path, "core/test_passes.py", PASSES)
    return tmp_path


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _write(project: Path, name: str, text: str) -> None:
    path = project / "tests" / name
    _made(path.parent)
    path.write_text(text)


def _run(project: Path, comfyui: str = "ComfyUI", *more: str) -> tuple[int, list[str]]:
    """Exit status, and the lines after pytest's own summary."""
    found = {"COMFYUI_PATH": str(project / comfyui), "COMFYUI_PYTHON": sys.executable}
    found["COMFYUI_PACKS"] = str(project / "packs")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *more, "tests"]
    done = subprocess.run(command, cwd=project, env=os.environ | found, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    last = max(n for n, line in enumerate(lines) if re.search(r" in [\d.]+s\b", line))  # after a minute more follows
    return done.returncode, lines[last + 1 :]


def test_the_last_lines_are_one_per_tier(project: Path) -> None:
    status, lines = _run(project)
    assert status == 0
    expected = ["core", "peers", "web", "host", "packs", "browser"]
    assert [line.split(":")[0] for line in lines] == [f"tier {tier}" for tier in expected]
    assert lines[0] == "tier core: ran, 1 passed"


def test_without_comfyui_its_tier_is_skipped_with_the_reason(project: Path) -> None:
    _write(project, "host/test_host.py", "import module_of_a_host_that_is_not_here\n")
    status, lines = _run(project, "nowhere")
    assert status == 0
    assert lines[3] == "tier host: skipped: ComfyUI not found; set COMFYUI_PATH"


@pytest.mark.parametrize("text", [SKIPS, "import pytest\n\npytest.importorskip('no_such_module')\n"])
def test_a_skip_in_a_tier_that_can_run_fails_the_run(project: Path, text: str) -> None:
    _write(project, "host/test_host.py", text)
    status, lines = _run(project)
    assert status == 1
    assert lines[0].startswith("FAILED tests/host/test_host.py")
    assert "tier host: ran, 1 skipped" in lines


@pytest.mark.parametrize("text", [SKIPS, "import pytest\n\npytest.importorskip('no_such_module')\n"])
def test_several_processes_count_every_test_once(project: Path, text: str) -> None:
    _write(project, "host/test_host.py", text)
    _write(project, "core/test_skips.py", SKIPS)
    status, lines = _run(project, "ComfyUI", "-n", "2")
    assert status == 1
    assert lines[0].startswith("FAILED tests/host/test_host.py")
    assert lines[1] == "tier core: ran, 1 passed, 1 skipped"
    assert "tier host: ran, 1 skipped" in lines


def test_what_needs_the_host_runs_in_one_process(project: Path) -> None:
    note = (
        "import os\n\ndef test_it():\n    with open('processes', 'a') as file:\n        print(os.getpid(), file=file)\n"
    )
    for number in range(4):
        _write(project, f"host/test_host_{number}.py", note)
        _write(project, f"core/test_core_{number}.py", PASSES)
    status, _ = _run(project, "ComfyUI", "-n", "2")
    assert status == 0
    assert len(set((project / "processes").read_text().split())) == 1


def test_a_skip_in_core_is_counted_and_no_failure(project: Path) -> None:
    _write(project, "core/test_skips.py", SKIPS)
    status, lines = _run(project)
    assert status == 0
    assert lines[0] == "tier core: ran, 1 passed, 1 skipped"


def test_packs_that_are_not_there_are_left_out_and_named(project: Path) -> None:
    _write(project, "packs/test_with_comfyroll.py", PASSES)
    _write(project, "packs/test_with_rgthree.py", "import module_of_a_pack_that_is_not_here\n")
    assert _run(project)[1][4] == "tier packs: skipped: no packs found; set COMFYUI_PACKS"
    (_made(project / "packs" / "comfyui_comfyroll_customnodes") / "__init__.py").touch()
    status, lines = _run(project)
    assert status == 0
    assert lines[4].startswith("tier packs: ran, 1 passed; with ComfyUI_Comfyroll_CustomNodes; not installed at ")
    assert lines[4].endswith("efficiency-nodes-comfyui, ComfyUI-GGUF, ComfyUI-Lora-Manager, rgthree-comfy")


def test_a_test_outside_the_tiers_is_an_error(project: Path) -> None:
    _write(project, "test_loose.py", PASSES)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert "a test belongs in one of core, peers, web, host, packs, browser below tests/" in done.stderr + done.stdout


def test_names_of_test_files_are_unique() -> None:
    """pytest imports them by name alone: two of one name fail, and only in a run of both their tiers."""
    counts = Counter(path.name for path in TESTS.rglob("test_*.py"))
    assert [name for name, count in counts.items() if count > 1] == []
