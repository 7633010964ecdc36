"""A class of ComfyUI, built without weights, has the key list that tests/data holds of it, and the same aliases."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.core.samples import REPO
from tests.keylist import fixtures
from tests.tiers import find_host

CALL = """
import json, sys
from pathlib import Path
from tests.keylist import classes
kind, folder, *rest = sys.argv[1:]
given = [rest[0], Path(rest[1])] if kind == "host" else rest
print(json.dumps(getattr(classes, kind)(Path(folder), *given)))
"""


def of_host(kind: str, *given: str | Path) -> dict[str, Any]:
    """Return what a function of tests.keylist.classes gives in the host's Python."""
    host = find_host()
    assert host
    command = [host.python, "-c", CALL, kind, host.path, *given]
    done = subprocess.run(command, cwd=REPO, check=True, capture_output=True, text=True, timeout=600)
    return json.loads(done.stdout.splitlines()[-1])


def test_a_class_of_the_host_with_what_its_detection_finds(tmp_path: Path) -> None:
    held, path = fixtures.written("checkpoints", "krea2"), tmp_path / "config.json"
    path.write_text(json.dumps(held["config"]), encoding="utf-8")
    found = of_host("host", "Krea2", path)
    assert found["keys"] == held["keys"]
    assert found["detected_class"] == "Krea2"


def test_the_hosts_aliases_of_a_key_list() -> None:
    held, found = fixtures.written("lora_keys", "krea2"), of_host("aliases", "krea2")
    assert found["target_shapes"] == held["target_shapes"]
    assert found["aliases"] == held["aliases"]
