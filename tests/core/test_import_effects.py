"""Importing LoRA Core does nothing but import: seen by an audit hook in a Python of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.archive import REPO
from tests.watching import WATCHED

EVERY_MODULE = '''
import pkgutil, importlib
import torch, safetensors, numpy, concurrent.futures, asyncio, logging

def work():
    import lora_core
    names = [one.name for one in pkgutil.walk_packages(lora_core.__path__, "lora_core.")]
    names.remove("lora_core.__main__")
    assert len(names) > 150
    for name in names:
        importlib.import_module(name)

watched(work)
'''
THE_PACK = '''
import importlib.util

def work():
    spec = importlib.util.spec_from_file_location("pack", "__init__.py", submodule_search_locations=["."])
    pack = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pack)
    assert pack.WEB_DIRECTORY == "./web" and pack.comfy_entrypoint

watched(work)
assert "torch" not in sys.modules
'''


def _run(code: str) -> str:
    """Return what a Python that watches `code` has to say; nothing if it saw nothing."""
    command = [sys.executable, "-B", "-c", WATCHED + code]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0 or done.stderr
    return done.stderr if done.returncode else ""


@pytest.mark.case(38)
def test_importing_every_module_of_lora_core_does_nothing_else() -> None:
    assert _run(EVERY_MODULE) == ""


def test_importing_lora_core_needs_no_torch() -> None:
    assert _run("watched(lambda: __import__('lora_core'))\nassert 'torch' not in sys.modules") == ""


@pytest.mark.case(38)
def test_importing_the_pack_does_nothing_else() -> None:
    assert _run(THE_PACK) == ""


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("open(r'{path}', 'w')", "for writing"),
        ("os.environ['LORA_CORE'] = '1'", "the environment is another one"),
        ("import socket; socket.socket().close()", "socket."),
        ("import subprocess; subprocess.Popen(['true']).wait()", "subprocess.Popen"),
        ("os.mkdir(r'{path}')", "os.mkdir"),
    ],
)
def test_the_watch_sees(tmp_path: Path, code: str, told: str) -> None:
    code = code.format(path=tmp_path / "x")
    assert told in _run(f"def work():\n    {code}\nwatched(work)")
