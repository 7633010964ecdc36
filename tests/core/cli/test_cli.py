"""The command line: exit codes, what goes to which stream, and the same results as the library."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import lora_core
from lora_core.options.convert import CONVERT
from lora_core.options.extract import EXTRACT
from lora_core.options.merge import MERGE
from lora_core.options.resize import RESIZE
from tests import tiny
from tests.core.samples import REPO, command, content_hash, listing, partials, python, sparse_checkpoint


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    tiny.make_tiny("wan21", folder / "wan.safetensors")
    tiny.make_lora(folder / "a.safetensors", tiny.flat("lora_unet_", tiny.modules("wan21")), 4, alpha=2)
    tiny.make_lora(folder / "b.safetensors", tiny.modules("wan21"), 4, style="peft", seed=1)
    return folder


def cli(*arguments: object) -> subprocess.CompletedProcess[str]:
    return python("-m", "lora_core", *(str(argument) for argument in arguments))


def test_merge_and_extract_as_the_library(files: Path, tmp_path: Path) -> None:
    base, a, b = (files / f"{name}.safetensors" for name in ("wan", "a", "b"))
    merged, extracted = tmp_path / "merged.safetensors", tmp_path / "extracted.safetensors"
    assert cli("merge", "--base", base, "--lora", a, 0.8, "--lora", b, -0.5, 0.25, "--out", merged).returncode == 0
    assert cli("extract", "--base", base, "--tuned", merged, "--rank", 8, "--out", extracted).returncode == 0
    library = tmp_path / "library.safetensors"
    lora_core.merge(base, [(a, 0.8), (b, -0.5, 0.25)], library)
    assert library.read_bytes() == merged.read_bytes()
    lora_core.extract(base, merged, library.with_name("again.safetensors"), rank=8)
    assert library.with_name("again.safetensors").read_bytes() == extracted.read_bytes()


def test_json_is_the_report_and_nothing_else(files: Path, tmp_path: Path) -> None:
    out = tmp_path / "merged.safetensors"
    done = cli("merge", "--base", files / "wan.safetensors", "--lora", files / "a.safetensors", "--out", out, "--json")
    report = json.loads(done.stdout)
    assert done.stderr == ""
    assert list(report) == list(lora_core.Report("merge").to_dict())
    assert (report["operation"], report["arch"]) == ("merge", "wan21")
    paths = files / "wan.safetensors", files / "a.safetensors"
    assert report["inputs"] == [
        {"name": path.name, "bytes": path.stat().st_size, "sha256": content_hash(path)} for path in paths
    ]
    assert report["outputs"] == [{"name": "merged.safetensors", "bytes": out.stat().st_size}]
    assert str(files) not in done.stdout, "a report never holds a folder"


def test_inspect_in_words(files: Path) -> None:
    done = command("inspect", files / "a.safetensors", "--against", files / "wan.safetensors")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "a.safetensors: 17/17 · Wan · LoRA r4 · kohya names · scale 0.5 (alpha 2, tensor) · strength 1\n"
    )


MERGE_XZ = ("merge", "--base", "x", "--out", "z.safetensors")
EXTRACT_XYZ = ("extract", "--base", "x", "--tuned", "y", "--out", "z")


@pytest.mark.parametrize(
    "arguments, code, words",
    [
        ((), 2, "required: COMMAND"),
        (("shrink",), 2, "invalid choice"),
        (("merge", "--base", "x.safetensors"), 2, "required: --lora, --out"),
        (EXTRACT_XYZ, 2, "one of the arguments --rank --energy --rank-by is required"),
        ((*EXTRACT_XYZ, "--rank", "8", "--energy", "0.9"), 2, "not allowed"),
        ((*EXTRACT_XYZ, "--rank", "0"), 2, "rank: expected 1 to 32768; found 0"),
        ((*EXTRACT_XYZ, "--energy", "nan"), 2, "energy: expected 0 to 1"),
        ((*MERGE_XZ, "--lora", "y", "1", "1", "1"), 2, "expected FILE [STRENGTH"),
        ((*MERGE_XZ, "--lora", "y", "loud"), 2, "strength must be a number"),
        ((*MERGE_XZ, "--lora", "y", "--dtype", "int3"), 2, "expected one of"),
        (("inspect", "gone.safetensors"), 1, "gone.safetensors: no such file"),
        (("run", "gone.json"), 1, "gone.json: no such file"),
    ],
)  # fmt: skip
def test_exit_codes(arguments: tuple[str, ...], code: int, words: str) -> None:
    done = command(*arguments)
    assert done.returncode == code
    assert done.stdout == ""
    assert words in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_every_declared_option_has_its_flag() -> None:
    for name, node, apart in (
        ("merge", MERGE, {"checkpoint", "filename_prefix", "pair"}),
        ("extract", EXTRACT, {"filename_prefix"}),
        ("convert", CONVERT, {"lora_name", "filename_prefix"}),
        ("resize", RESIZE, {"lora_name", "filename_prefix"}),
    ):
        text = command(name, "--help").stdout  # a command names the files of a pair themselves
        for option in node.options:
            if option.name not in apart:
                assert "--" + option.name.replace("_", "-") in text
                assert " ".join(option.help.split())[:40] in " ".join(text.split())


def test_convert_as_the_library(tmp_path: Path) -> None:
    source = tiny.make_lora(tmp_path / "a.safetensors", {"lora_unet_double_blocks_0_img_attn_proj": (3072, 3072)})
    out, again = tmp_path / "out.safetensors", tmp_path / "again.safetensors"
    done = command("convert", source, "--out", out, "--dialect", "diffusers", "--arch", "flux1_dev", "--json")
    assert (done.returncode, json.loads(done.stdout)["arch"]) == (0, "flux1_dev")
    lora_core.convert(source, again, dialect="diffusers", arch="flux1_dev")
    assert out.read_bytes() == again.read_bytes()
    assert command("convert", source, "--out", out, "--dialect", "diffusers").returncode == 1, "it exists"
    assert command("convert", source, "--out", again).returncode == 2, "a dialect must be named"


@pytest.mark.case(20)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_merge_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    base = sparse_checkpoint(tmp_path / "base.safetensors", "sdxl")
    module = "lora_unet_output_blocks_8_0_in_layers_2"
    lora = tiny.make_lora(tmp_path / "lora.safetensors", {module: (320, 640, 3, 3)}, 4)
    out = tmp_path / "results" / "out.safetensors"
    out.parent.mkdir()
    command = [
        sys.executable,
        "-m",
        "lora_core",
        "merge",
        "--base",
        base,
        "--lora",
        lora,
        "--out",
        out,
        "--dtype",
        "fp32",
    ]
    process = subprocess.Popen([str(part) for part in command], cwd=REPO, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not partials(out.parent) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors == "lora-core: interrupted; nothing half-written was kept\n"
    assert listing(out.parent) == []


def test_demo_shows_the_main_job(tmp_path: Path) -> None:
    done = cli("demo", tmp_path / "demo")
    assert (done.returncode, done.stderr) == (0, "")
    assert "ink.safetensors: 9/9 · Flux.1 dev · LoRA r4 · kohya names" in done.stdout
    assert "merged and re-extracted weights differ by 0.0" in done.stdout
    again = cli("demo", tmp_path / "demo")
    assert again.returncode == 1
    assert again.stderr.startswith("lora-core: demo: model.safetensors, merged.safetensors, extracted.safetensors, ")
