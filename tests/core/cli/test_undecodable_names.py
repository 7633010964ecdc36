"""File names that are not UTF-8, as archives of other systems leave them: every command takes
them, and receipts keep them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import tiny
from tests.core import samples

NAMES = [b"caf\xe9", b"\xd6\xd0\xce\xc4", b"a\xed\xa0\x80b", b"\xff"]
ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}  # Python takes no name for UTF-8 then


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_tiny("wan21", tmp_path_factory.mktemp("model") / "base.safetensors")


def named(folder: Path, name: bytes, model: Path) -> tuple[Path, Path]:
    """A LoRA and a base of this name."""
    lora = folder / os.fsdecode(name + b".safetensors")
    base = folder / "models" / os.fsdecode(name + b".safetensors")
    base.parent.mkdir()
    modules = dict(list(tiny.modules("wan21").items())[:2])
    plain = folder / "lora.safetensors"
    tiny.make_lora(plain, tiny.flat("lora_unet_", modules), 4)
    try:
        plain.rename(lora)
    except OSError as error:
        pytest.skip(f"this file system takes no such name: {error}")
    base.hardlink_to(model)
    return lora, base


@pytest.mark.parametrize("name", NAMES)
def test_every_command_takes_them(tmp_path: Path, model: Path, name: bytes) -> None:
    lora, base = named(tmp_path, name, model)

    def out(command: str) -> Path:
        return tmp_path / os.fsdecode(name + command.encode() + b".safetensors")

    calls: list[list[object]] = [
        ["inspect", lora],
        ["inspect", lora, "--against", base, "--stack", lora, "0.5", "--json"],
        ["inspect", base],
        ["resize", lora, "--rank", "2", "--out", out("resize")],
        ["merge", "--base", base, "--lora", lora, "--out", out("merge"), "--verify"],
        ["convert", lora, "--dialect", "peft", "--base", base, "--out", out("convert")],
        ["extract", "--base", base, "--tuned", out("merge"), "--rank", "4", "--out", out("extract")],
        ["extract", "--base", base, "--lora", lora, "--energy", "0.9", "--out", out("stack")],
        ["combine", "--lora", lora, "--lora", out("resize"), "0.5", "--base", base, "--out", out("combine")],
        ["verify", out("merge"), "--search", tmp_path],
        ["verify", out("merge"), "--base", base, "--lora", lora],
        ["leftovers", tmp_path],
    ]
    for call in calls:
        done = samples.command(*call)
        assert done.returncode == 0, f"{call[0]}: {done.stderr}"
        (done.stdout + done.stderr).encode()  # every output can show it
    out("merge").rename(tmp_path / "merged.safetensors")  # the reference library opens no such name
    receipt = json.loads(samples.metadata_of(tmp_path / "merged.safetensors")["lora_core.receipt"])
    assert [receipt["base"]["name"], receipt["loras"][0]["name"]] == [base.name, lora.name]
    again = samples.command("resize", lora, "--rank", "2", "--out", out("resize"))
    assert (again.returncode, again.stderr.count("already exists")) == (1, 1)


def test_a_folder_of_such_a_name(tmp_path: Path) -> None:
    plain, folder = tmp_path / "plain", tmp_path / os.fsdecode(b"mod\xe8le")
    lora, _ = named(tmp_path, b"\xe9", tiny.make_tiny("wan21", plain / "diffusion_pytorch_model.safetensors"))
    plain.rename(folder)
    out = tmp_path / os.fsdecode(b"merg\xe9")
    done = samples.command("merge", "--base", folder, "--lora", lora, "--out", out)
    assert done.returncode == 0, done.stderr
    receipt = json.loads((out / "lora_core_receipt.json").read_text("utf-8"))
    assert [receipt["base"]["name"], receipt["loras"][0]["name"]] == [folder.name, lora.name]
    assert samples.command("verify", out, "--base", folder, "--lora", lora).returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="names are Unicode there")
def test_where_names_are_ascii_the_metadata_is_utf8(tmp_path: Path, model: Path) -> None:
    """With LC_ALL=C Python reads é as two half characters; the written file says é all the same."""
    lora, base = named(tmp_path, "été".encode(), model)
    out = tmp_path / "out.safetensors"
    arguments = [sys.executable, "-m", "lora_core", "merge", "--base", base, "--lora", lora, "--out", out]
    environment = {**os.environ, **ASCII, "PYTHONPATH": str(samples.REPO)}
    done = subprocess.run(arguments, env=environment, cwd=samples.REPO, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(samples.metadata_of(out)["lora_core.receipt"])["loras"][0]["name"] == "été.safetensors"
