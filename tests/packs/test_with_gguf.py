"""Beside ComfyUI-GGUF: a stack beside its weights is exact, in the model that its loader gives and in clones of it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests import tiny
from tests.host.beside_files import write_kinds
from tests.host_server import REPO
from tests.tiers import find_host, find_packs

SAME = 1e-5  # of the LoRAs' effect; both sides compute in fp32, in another order


def test_a_stack_beside_its_weights(tmp_path: Path) -> None:
    host = find_host()
    assert host is not None
    write_kinds(tmp_path, "flux", tiny.make_tiny("flux", tmp_path / "flux.safetensors"))
    script = Path(__file__).with_name("gguf_runs.py")
    command = [str(host.python), str(script), str(REPO), str(tmp_path), str(find_packs()["gguf"])]
    done = subprocess.run(command, cwd=host.path, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    for found in json.loads(done.stdout.splitlines()[-1]).values():
        assert found["live"] <= SAME and found["a clone"] <= SAME
        assert found["notes"][0].startswith("live: beside 23 of 23 weights")
