"""Load LoRA in ComfyUI's Python: what a run does anew, counted, and that patches in place leave nothing behind."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from tests import tiny
from tests.host_server import REPO
from tests.tiers import find_host

WORK = ("files opened", "key maps", "names looked up", "tensors checked")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder, host = tmp_path_factory.mktemp("live"), find_host()
    assert host is not None
    tiny.make_tiny("flux", folder / "flux.safetensors")
    modules = tiny.flat("lora_unet_", tiny.modules("flux"))
    encoder = {f"lora_te1_text_model_encoder_layers_{layer}_mlp_fc1": (64, 16) for layer in range(2)}
    for seed, name in enumerate(("a", "b", "zero", "broken")):
        tiny.make_lora(folder / f"{name}.safetensors", {**modules, **encoder}, 4, seed=seed)
    _change(folder / "zero.safetensors", lambda tensor: tensor * 0)
    _change(folder / "broken.safetensors", lambda tensor: tensor * float("nan"))
    script = Path(__file__).with_name("live_runs.py")
    command = [str(host.python), str(script), str(REPO), str(folder)]
    done = subprocess.run(command, cwd=host.path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return {**json.loads(done.stdout.splitlines()[-1]), "bytes": _bytes(folder / "a.safetensors")}


def _change(path: Path, change: Any) -> None:
    """Change one up factor of a file."""
    tensors = load_file(path)
    name = next(name for name in tensors if "lora_up" in name)
    save_file({**tensors, name: change(tensors[name])}, path)


def _bytes(path: Path) -> int:
    return sum(tensor.nbytes for name, tensor in load_file(path).items() if not name.endswith(".alpha"))


def work(run: dict[str, Any]) -> dict[str, int]:
    return {what: run[what] for what in WORK if what in run}


def test_a_first_run_does_everything_once(runs: dict[str, Any]) -> None:
    first = runs["first"]
    assert (first["files opened"], first["key maps"]) == (1, 1)
    assert first["names looked up"] == first["report"]["loras"][0]["modules_matched"] == 25
    assert first["tensors checked"] == 100, "two factors, for NaN and for zeros"
    assert first["model patched"] > 10
    assert first["clip patched"] == 2


@pytest.mark.parametrize("name", ["again", "other strength", "other clip strength", "with clip again", "zero again"])
def test_another_strength_does_nothing_anew(runs: dict[str, Any], name: str) -> None:
    assert work(runs[name]) == {}


def test_what_is_new_alone_is_done(runs: dict[str, Any]) -> None:
    assert work(runs["without clip"])["key maps"] == 1, "another pair of model and encoder"
    assert "files opened" not in runs["without clip"]
    assert "tensors checked" not in runs["without clip"]
    assert runs["two"]["files opened"] == 1
    assert "key maps" not in runs["two"]
    assert runs["comfyui"]["files opened"] == 1, "the other semantics reads alpha otherwise"
    assert runs["file changed"]["files opened"] == 1
    assert "key maps" not in runs["file changed"]


def test_the_host_patches_only_what_changed(runs: dict[str, Any]) -> None:
    assert (runs["again"]["model patched"], runs["again"]["clip patched"]) == (0, 0)
    assert (runs["other clip strength"]["model patched"], runs["other clip strength"]["clip patched"]) == (0, 2)
    for name in ("other strength", "two", "reversed", "twice", "once", "comfyui"):
        assert runs[name]["model patched"] == runs["first"]["model patched"], name
    assert runs["chain"] == [True, False]


def test_marks_tell_stacks_apart(runs: dict[str, Any]) -> None:
    same = runs["first"]["model"]
    assert runs["again"]["model"] == runs["once"]["model"] == same
    others = ("other strength", "two", "reversed", "twice", "comfyui", "zero", "zero again", "file changed")
    assert len({same, *(runs[name]["model"] for name in others)}) == 1 + len(others)


def test_loaded_weights_are_the_stack_rounded_once(runs: dict[str, Any]) -> None:
    """In place, in tiles, with the host's cast and rounding around: the same bits as `apply_stack` alone."""
    values = {name: run["values"] for name, run in runs.items() if isinstance(run, dict) and "values" in run}
    assert len(values) >= 14
    assert set(values.values()) == {0.0}
    assert runs["low memory"]
    assert runs["restored"], "the host's copy was changed, and its backup was not"


def test_a_report_from_memory_is_the_report(runs: dict[str, Any]) -> None:
    assert runs["again"]["report"] == runs["first"]["report"]
    first, again = runs["zero"]["report"], runs["zero again"]["report"]
    assert len(first["loras"][0]["without_effect"]) == 1
    assert again["loras"][0]["without_effect"] == first["loras"][0]["without_effect"]
    assert again["loras"][0]["strength_model"] == 0.5


def test_a_broken_file_is_refused_every_time(runs: dict[str, Any]) -> None:
    assert "holds NaN or infinity" in runs["broken"]["error"]
    assert runs["broken again"]["error"] == runs["broken"]["error"]


def test_memory_is_counted_in_tensors_and_what_is_in_use_stays(runs: dict[str, Any]) -> None:
    assert runs["cache"] == {"in use stay": True, "others go": True, "bytes": runs["bytes"]}
