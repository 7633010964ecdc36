"""The same inputs give the same bytes: in another run, on any number of threads, in another process."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import lora_core
from tests import tiny
from tests.core import samples

pytestmark = pytest.mark.case(40)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    tiny.make_tiny("flux", folder / "base.safetensors", dtype=torch.bfloat16)
    tiny.make_tiny("flux", folder / "tuned.safetensors", seed=1, dtype=torch.bfloat16)
    modules = tiny.flat("lora_unet_", tiny.modules("flux"))
    for seed, name in enumerate(("lora", "second")):
        tiny.make_lora(folder / f"{name}.safetensors", modules, 4, seed=seed)
    return folder


JOBS: dict[str, Callable[[Path, Path], object]] = {
    "merge": lambda f, out: lora_core.merge(
        f / "base.safetensors", [(f / "lora.safetensors", 0.7), (f / "second.safetensors", -0.3)], out),
    "merge to fp8": lambda f, out: lora_core.merge(
        f / "base.safetensors", [f / "lora.safetensors"], out, dtype="fp8_e4m3fn_scaled"),
    "extract": lambda f, out: lora_core.extract(
        f / "base.safetensors", f / "tuned.safetensors", out, rank_by="error", threshold=0.5),
    "resize": lambda f, out: lora_core.resize(f / "lora.safetensors", out, rank=2),
    "convert": lambda f, out: lora_core.convert(
        f / "lora.safetensors", out, dialect="diffusers", base=f / "base.safetensors"),
    "combine": lambda f, out: lora_core.combine(
        [f / "lora.safetensors", f / "second.safetensors"], out, rank=4, base=f / "base.safetensors"),
    "combine by DARE": lambda f, out: lora_core.combine(
        [f / "lora.safetensors", f / "second.safetensors"], out, method="dare_linear", density=0.5, seed=7,
        base=f / "base.safetensors"),
}  # fmt: skip


def digest(job: str, files: Path, folder: Path) -> str:
    """The SHA-256 of what a job writes, each time under the same name."""
    out = folder / "out.safetensors"
    JOBS[job](files, out)
    content = out.read_bytes()
    out.unlink()
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("job", JOBS)
def test_runs_and_threads_change_no_byte(files: Path, tmp_path: Path, job: str) -> None:
    threads, found = torch.get_num_threads(), list[str]()
    try:
        for count in (1, 1, 2, 8):
            torch.set_num_threads(count)
            found.append(digest(job, files, tmp_path))
    finally:
        torch.set_num_threads(threads)
    assert len(set(found)) == 1, found


def test_another_process_changes_no_byte(files: Path, tmp_path: Path) -> None:
    """One whose sets and dicts of names come in another order, if anything depends on that."""
    code = (
        "import json, sys; from pathlib import Path; from tests.core.operations.test_same_bytes import JOBS, digest; "
        "print(json.dumps({job: digest(job, Path(sys.argv[1]), Path(sys.argv[2])) for job in JOBS}))"
    )
    done = samples.python("-c", code, str(files), str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {job: digest(job, files, tmp_path) for job in JOBS}


def test_another_strength_changes_the_bytes(files: Path, tmp_path: Path) -> None:
    """Else the tests above show nothing."""
    outs = [tmp_path / f"{number}.safetensors" for number in range(2)]
    for out, strength in zip(outs, (0.7, 0.701), strict=True):
        lora_core.merge(files / "base.safetensors", [(files / "lora.safetensors", strength)], out)
    assert outs[0].read_bytes() != outs[1].read_bytes()
