"""Arguments that argparse alone would take for something else: negative strengths, and `-` for standard input."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import safe_open

from tests import tiny
from tests.core import samples
from tests.core.samples import REPO, command


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    tiny.make_tiny("wan21", folder / "wan.safetensors")
    tiny.make_lora(folder / "a.safetensors", tiny.flat("lora_unet_", tiny.modules("wan21")), 4, alpha=2)
    return folder


@pytest.mark.parametrize(
    "text", ["-1", "-1.", "-.5", "-0.25", "-1e-1", "-1E-1", "-2.5e+0", "-1.e-2", "-.5e0", "-0", "-1_0", "-0.000_1"]
)
def test_every_spelling_of_a_negative_strength(files: Path, tmp_path: Path, text: str) -> None:
    out, base, lora = tmp_path / "out.safetensors", files / "wan.safetensors", files / "a.safetensors"
    done = command("merge", "--base", base, "--lora", lora, text, "0.5", "--lora", lora, text, "--out", out)
    assert done.returncode == 0, done.stderr
    (receipt,) = [value for key, value in samples.metadata_of(out).items() if key == "lora_core.merged_from"]
    assert receipt.count(f'"strength_model": {float(text)}') == 2


@pytest.mark.parametrize("text", ["-inf", "-nan", "-Infinity", "-1e300"])
def test_numbers_that_are_no_strength(files: Path, tmp_path: Path, text: str) -> None:
    arguments = ["--base", files / "wan.safetensors", "--lora", files / "a.safetensors", text]
    done = command("merge", *arguments, "--out", tmp_path / "out.safetensors")
    assert done.returncode == 2
    assert f"strength must be within -100 and 100, found '{text}'" in done.stderr


def piped(path: Path | None, *arguments: object) -> subprocess.CompletedProcess[bytes]:
    words = [sys.executable, "-m", "lora_core", *map(str, arguments)]
    if path is None:
        return subprocess.run(words, cwd=REPO, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return subprocess.run(words, cwd=REPO, input=path.read_bytes(), capture_output=True, check=False)


def test_a_file_may_come_through_a_pipe(files: Path, tmp_path: Path) -> None:
    base, lora, out = files / "wan.safetensors", files / "a.safetensors", tmp_path / "out.safetensors"
    assert b"standard input: 17 modules" in piped(lora, "inspect", "-").stdout
    done = piped(lora, "merge", "--base", base, "--lora", "-", "-.5", "--out", out)
    assert done.returncode == 0, done.stderr
    command("merge", "--base", base, "--lora", lora, "-.5", "--out", tmp_path / "named.safetensors")
    with safe_open(out, "pt") as one, safe_open(tmp_path / "named.safetensors", "pt") as other:
        assert all(samples.same_bytes(one.get_tensor(key), other.get_tensor(key)) for key in other.keys())  # noqa: SIM118
    assert piped(out, "verify", "-", "--base", base, "--lora", lora).returncode == 0
    assert piped(base, "resize", "-", "--rank", "2", "--out", tmp_path / "x.safetensors").returncode == 1
    assert piped(lora, "inspect", lora, "--against", base, "--stack", "-").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["merge", "--base", "-", "--lora", "-", "--out", "x.safetensors"], "which can be read once; give the other"),
        (["merge", "--base", "a", "--lora", "b", "--out", "-"], "--out: - would be standard output"),
        (["inspect", "-", "--against", "-"], "which can be read once; give the other"),
        (["import", "x.json", "--out", "-"], "--out: - would be standard output"),
    ],
)
def test_what_a_pipe_can_not_be(tmp_path: Path, arguments: list[str], text: str) -> None:
    done = piped(None, *arguments)
    assert done.returncode == 2
    assert text.encode() in done.stderr


def test_nothing_is_left_of_what_came_through_a_pipe(files: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lora_core", "inspect", "-"],
        cwd=REPO, input=(files / "a.safetensors").read_bytes(), capture_output=True, check=False,
        env={"TMPDIR": str(tmp_path), "PATH": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert samples.listing(tmp_path) == []
