"""What we write tells of no folder, no user and no workflow, whatever the inputs tell; every operation is looked at."""

from __future__ import annotations

import getpass
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import lora_core
from lora_core.files.private import without_paths, without_private
from lora_core.receipts.receipt import RECEIPT
from tests import tiny
from tests.core import samples

pytestmark = pytest.mark.case(37)

USER = "annabelle"
# What trainers and ComfyUI leave in headers: each value, and what may be left of it
TOLD = {
    "ss_sd_model_name": (f"/home/{USER}/models/sd/base.safetensors", "base.safetensors"),
    "ss_vae_name": (f"C:\\Users\\{USER}\\vae\\fine.pt", "fine.pt"),
    "ss_training_comment": (f"see D:/{USER}/notes/a.txt or \\\\nas01\\{USER}\\b.txt", "see a.txt or b.txt"),
    "ss_dataset_dirs": (
        json.dumps({f"/mnt/{USER}/10_ink": {"n_repeats": 10}}), json.dumps({"10_ink": {"n_repeats": 10}})),
    "training_info": (
        json.dumps({"model": f"C:\\Users\\{USER}\\x.ckpt", "log": f"~/{USER}/log"}),
        json.dumps({"model": "x.ckpt", "log": "log"})),
    "ss_network_args": (json.dumps({"init": f"file:///srv/{USER}/init.pt"}), json.dumps({"init": "init.pt"})),
    "home": (f"/home/{USER}", ""),
    "modelspec.thumbnail": ("data:image/jpeg;base64,/9j/4AAQ/SkZJ/Rg+/ab/c=", None),
    "modelspec.description": ("see https://example.org/a/b/c and 1/2/3 and/or http://x.y/z/", None),
    "ss_tag_frequency": (json.dumps({"10_ink": {"naruto \\(series\\)": 3, ":/": 1, "a/b": 2, ">:\\": 1}}), None),
    "prompt": (json.dumps({"3": {"class_type": "KSampler"}}), None),
    "workflow": (json.dumps({"nodes": [{"title": USER}]}), None),
}  # fmt: skip
METADATA = {key: value for key, (value, _) in TOLD.items()}
ABSOLUTE = re.compile(r"(?:^|[\s\"'=:,(\[])(?:~?/[^\s/\"']+/|[A-Za-z]:[\\/]+\w|\\\\+\w+\\)")
LINKS = re.compile(r"\w+://\S+|data:\S+")


def assert_private(path: Path, folder: Path) -> dict[str, str]:
    """Look at all metadata of a written file, and at its name's."""
    metadata = samples.metadata_of(path)
    for key, value in metadata.items():
        for secret in (str(folder), folder.name, str(Path.home()), USER, "KSampler"):
            assert secret not in value, (path.name, key)
        assert not ABSOLUTE.search(LINKS.sub("", value)), (path.name, key, value)
        if getpass.getuser() not in ("root", "user"):  # which are words too
            assert getpass.getuser() not in value, (path.name, key)
    assert not {"prompt", "workflow"} & metadata.keys()
    return metadata


def test_what_is_left_of_each_value() -> None:
    left = without_private(METADATA)
    assert left == {
        key: value if expected is None else expected
        for key, (value, expected) in TOLD.items()
        if key not in ("prompt", "workflow")
    }
    assert without_private(left) == left


@pytest.mark.parametrize(
    "text",
    ["^(?!.*\\\\.to_q)(.*\\\\.blocks\\\\.\\\\d+)", "a\\\\w\\\\.foo", "<b>x</b>/<i>y</i>", "+/a/b+/c/d", "x:/", "N/A"],
)
def test_what_only_looks_like_a_path_stays(text: str) -> None:
    assert without_paths(text) == text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a secret in its name, a model, a tuned one and a LoRA whose headers tell all of the above."""
    folder = tmp_path / f"of-{USER}"
    base = samples.load(tiny.make_tiny("flux", folder / "plain.safetensors", dtype=torch.bfloat16))
    samples.save(folder / "base.safetensors", base, METADATA)
    plain = tiny.make_lora(folder / "lora0.safetensors", tiny.flat("lora_unet_", tiny.modules("flux")), 4)
    samples.save(folder / "lora.safetensors", samples.load(plain), METADATA)
    lora_core.merge(folder / "base.safetensors", [plain], folder / "tuned.safetensors")
    return folder


MADE: dict[str, Callable[[Path, Path], Any]] = {
    "merge": lambda at, out: lora_core.merge(at / "base.safetensors", [(at / "lora.safetensors", 0.5)], out),
    "merge and verify": lambda at, out: lora_core.merge(
        at / "base.safetensors", [(at / "lora.safetensors", 0.5, 0.5, "double=0.5")], out, dtype="fp16", verify=True
    ),
    "extract": lambda at, out: lora_core.extract(at / "base.safetensors", at / "tuned.safetensors", out, rank=2),
    "extract a stack": lambda at, out: lora_core.extract(
        at / "base.safetensors", None, out, loras=[at / "lora.safetensors"], rank=2, dialect="diffusers"
    ),
    "resize": lambda at, out: lora_core.resize(at / "lora.safetensors", out, rank=2),
    "convert": lambda at, out: lora_core.convert(
        at / "lora.safetensors", out, dialect="comfy", base=at / "base.safetensors"
    ),
    "convert to diffusers": lambda at, out: lora_core.convert(
        at / "lora.safetensors", out, dialect="diffusers", base=at / "base.safetensors"
    ),
    "combine": lambda at, out: lora_core.combine(
        [(at / "lora.safetensors", 0.5), at / "lora.safetensors"], out, base=at / "base.safetensors"
    ),
    "ties": lambda at, out: lora_core.combine(
        [at / "lora.safetensors", (at / "lora0.safetensors", 0.3)], out, method="ties", base=at / "base.safetensors"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MADE)
def test_no_operation_writes_what_is_private(folder: Path, name: str) -> None:
    out = folder / "out.safetensors"
    MADE[name](folder, out)
    metadata = assert_private(out, folder)
    receipt = json.loads(metadata[RECEIPT])
    assert receipt["operation"] == {"merge and verify": "merge", "ties": "combine"}.get(name, name.split(maxsplit=1)[0])
    assert receipt.get("base", {}).get("name", "base.safetensors") == "base.safetensors"
    named = [*receipt.get("loras", []), *[receipt[role] for role in ("base", "tuned") if role in receipt]]
    assert named
    for one in named:
        assert one["sha256"] == samples.content_hash(folder / one["name"])
    assert out.stat().st_size > 0


def test_folders_too(folder: Path) -> None:
    model = folder / "model"
    (model / "transformer").mkdir(parents=True)
    tensors = samples.load(tiny.make_tiny("wan21", folder / "wan.safetensors", dtype=torch.bfloat16))
    samples.save(model / "transformer" / "diffusion_pytorch_model.safetensors", tensors, METADATA)
    lora = tiny.make_lora(folder / "w.safetensors", tiny.flat("lora_unet_", tiny.modules("wan21")), 2)
    out = folder.parent / "out"
    lora_core.merge(model, [lora], out)
    written = [path for path in out.rglob("*") if path.is_file()]
    assert sorted(path.name for path in written) == ["diffusion_pytorch_model.safetensors", "lora_core_receipt.json"]
    for path in written:
        if path.suffix == ".safetensors":
            assert_private(path, folder)
        else:
            text = path.read_text("utf-8")
            assert USER not in text and not ABSOLUTE.search(text)


def test_the_configuration_beside_a_peft_file(folder: Path) -> None:
    peft = folder / "peft"
    modules = {f"base_model.model.{name}": shape for name, shape in tiny.modules("flux").items() if "img_mlp" in name}
    tiny.make_lora(peft / "adapter_model.safetensors", modules, 4, style="peft")
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 4, "base_model_name_or_path": f"/home/{USER}/flux"}
    (peft / "adapter_config.json").write_text(json.dumps(config))
    (folder / "to").mkdir()
    lora_core.resize(peft, folder / "to" / "adapter_model.safetensors", rank=2)
    assert_private(folder / "to" / "adapter_model.safetensors", folder)
    assert USER not in (folder / "to" / "adapter_config.json").read_text("utf-8")


def test_the_scan_sees_a_planted_path(folder: Path) -> None:
    for value in (f"/home/x/{USER}", "a /opt/models/x", "C:\\x", '{"a": "D:/b/c"}', "\\\\nas\\x", "~/x/y"):
        samples.save(folder / "planted.safetensors", {"x": torch.ones(1)}, {"note": value})
        with pytest.raises(AssertionError):
            assert_private(folder / "planted.safetensors", folder)
