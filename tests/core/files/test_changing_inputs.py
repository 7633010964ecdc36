"""An input that is cut, overwritten, replaced or deleted during a job: a clear error, no output, a living process."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

import lora_core
from lora_core.errors import FileChangedError
from tests import tiny
from tests.core import samples
from tests.core.samples import listing, load, save

Step = Callable[[int, int], None]
Files = dict[str, Path]
Job = Callable[[Files, Path, Step], object]


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Flux, one that was trained from it, and two LoRAs for it; the first of both in PyTorch's format too."""
    folder = tmp_path_factory.mktemp("originals")
    tiny.make_tiny("flux", folder / "base.safetensors")
    tiny.make_tiny("flux", folder / "tuned.safetensors", seed=1)
    for seed, name in enumerate(("lora", "second")):
        modules = tiny.flat("lora_unet_", tiny.modules("flux"))
        tiny.make_lora(folder / f"{name}.safetensors", modules, 4, seed=seed)
    for name in ("base", "lora"):
        torch.save(load(folder / f"{name}.safetensors"), folder / f"{name}.pt")
    return folder


JOBS: dict[str, tuple[str, Job]] = {
    # name: (the files that it reads, the call)
    "merge": ("base lora second", lambda f, out, step: lora_core.merge(
        f["base"], [f["lora"], f["second"]], out, on_step=step)),
    "merge, cast": ("base", lambda f, out, step: lora_core.merge(
        f["base"], [f["lora"]], out, dtype="bf16", on_step=step)),
    "merge, verified": ("base lora", lambda f, out, step: lora_core.merge(
        f["base"], [f["lora"]], out, verify=True, on_step=step)),
    "extract": ("base tuned", lambda f, out, step: lora_core.extract(
        f["base"], f["tuned"], out, rank=2, on_step=step)),
    "extract a stack": ("base lora second", lambda f, out, step: lora_core.extract(
        f["base"], None, out, loras=[f["lora"], f["second"]], rank=2, on_step=step)),
    "resize": ("lora", lambda f, out, step: lora_core.resize(f["lora"], out, rank=2, on_step=step)),
    "resize by the base": ("base lora", lambda f, out, step: lora_core.resize(
        f["lora"], out, rank_by="relative", threshold=0.1, base=f["base"], on_step=step)),
    "convert": ("base lora", lambda f, out, step: lora_core.convert(
        f["lora"], out, dialect="diffusers", base=f["base"], on_step=step)),
    "combine": ("base lora second", lambda f, out, step: lora_core.combine(
        [f["lora"], f["second"]], out, base=f["base"], on_step=step)),
    "inspect": ("base lora second", lambda f, out, step: lora_core.inspect(
        f["lora"], [f["base"]], stack=[f["second"]], spectra=True, on_step=step)),
}  # fmt: skip


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def cut_to_nothing(path: Path) -> None:
    os.truncate(path, 0)


def overwrite(path: Path) -> None:
    """With numbers that are as good, in place, as a copy of another file over it does."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size - 64)
        file.write(bytes(64))
    os.utime(path, ns=(1, 1))  # whatever the clock's steps


def replace(path: Path) -> None:
    Path(shutil.copy(path, path.with_suffix(".new"))).replace(path)


def delete(path: Path) -> None:
    path.unlink()


CHANGES = {
    cut: ("it was cut while being read.", "changed while it was being read; run again when it is complete."),
    cut_to_nothing: ("it was cut while being read.", "changed while it was being read; run again when it is complete."),
    overwrite: ("changed while it was being read; run again when it is complete.",),
    replace: ("changed while it was being read; run again when it is complete.",),
    delete: ("disappeared while it was being read.",),
}
CASES = {cut: 16, cut_to_nothing: 16, overwrite: 17, replace: 17, delete: 18}
SOME = (cut, overwrite, delete)


def copies(originals: Path, folder: Path, ending: str) -> Files:
    folder.mkdir()
    files = {path.stem: path for path in originals.iterdir() if path.suffix == ".safetensors"}
    files |= {path.stem: path for path in originals.iterdir() if path.suffix == f".{ending}"}
    return {name: Path(shutil.copy(path, folder)) for name, path in files.items()}


# A merge with every change and in both formats, the other jobs with one change of each case
RUNS = [(job, change, "safetensors") for job in JOBS for change in (CHANGES if job == "merge" else SOME)]
RUNS += [("merge", change, "pt") for change in CHANGES]


@pytest.mark.parametrize(
    ("job", "change", "ending"), [pytest.param(*run, marks=pytest.mark.case(CASES[run[1]])) for run in RUNS]
)
def test_an_input_that_changes_during_a_job(
    originals: Path, tmp_path: Path, job: str, change: Callable[[Path], None], ending: str
) -> None:
    names, run = JOBS[job]
    for number, name in enumerate(names.split()):
        files = copies(originals, tmp_path / f"{number}", ending)
        path = files[name]
        steps: list[int] = []

        def on_step(done: int, total: int, path: Path = path, steps: list[int] = steps) -> None:
            if (done, total) == (0, 1):  # asked on a slow machine, before all files are open
                return
            if not steps:
                change(path)
            steps.append(done)

        (tmp_path / "out").mkdir()
        out = tmp_path / "out/o.safetensors"
        text = samples.message(FileChangedError, partial(run, files, out, on_step))
        assert steps
        assert text.startswith(f"{path.name}: "), name
        assert text.endswith(CHANGES[change]), text
        assert listing(tmp_path / "out") == [], name
        (tmp_path / "out").rmdir()


@pytest.mark.case(16, 17, 18)
def test_without_a_change_the_jobs_end_well(originals: Path, tmp_path: Path) -> None:
    """Else the errors above could be of anything."""
    for ending in ("safetensors", "pt"):
        files = copies(originals, tmp_path / ending, ending)
        for job, (_, run) in JOBS.items():
            assert run(files, tmp_path / f"{ending} {job}.safetensors", lambda done, total: None)


CHILD = """
import os, sys
from pathlib import Path
import lora_core
base, lora, which, out = sys.argv[1:]
once = []
def cut(done, total):
    if not once:
        os.truncate(base if which == "base" else lora, 20_000)
    once.append(done)
try:
    lora_core.merge(base, [lora], out, on_step=cut)
except lora_core.LoraError as error:
    sys.exit(str(error))
"""


@pytest.mark.case(16)
@pytest.mark.parametrize(("ending", "which"), [("safetensors", "lora"), ("pt", "base")])
def test_a_cut_input_does_not_end_the_process(originals: Path, tmp_path: Path, ending: str, which: str) -> None:
    """A map of the file would: reading beyond the new end is SIGBUS, which ends ComfyUI with all that it holds."""
    files = copies(originals, tmp_path / "in", ending)
    out = tmp_path / "out.safetensors"
    done = samples.python("-c", CHILD, str(files["base"]), str(files["lora"]), which, str(out))
    assert done.returncode == 1, (done.returncode, done.stderr)
    assert done.stderr.startswith(f"{files[which].name}: ")
    assert done.stderr.rstrip().endswith(CHANGES[cut]), done.stderr
    assert not out.exists() and samples.partials(tmp_path) == []


@pytest.mark.case(16)
def test_a_map_of_a_cut_file_ends_the_process(tmp_path: Path) -> None:
    """So the test above is one of something: what is read by a map dies where we give an error."""
    path = save(tmp_path / "x.safetensors", {"x": torch.ones(2**20)})
    code = (
        "import os, sys; from safetensors import safe_open; file = safe_open(sys.argv[1], 'pt'); "
        "x = file.get_tensor('x'); os.truncate(sys.argv[1], 4096); print(float(x.sum()))"
    )
    assert samples.python("-c", code, str(path)).returncode == -7  # SIGBUS
