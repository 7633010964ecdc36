"""Every bad input of the promise: one clear error, exit code 1, no output, nothing left behind."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import lora_core
from tests import manifests, tiny
from tests.core.samples import TOO_LARGE, command, listing, load, python, save, sparse_checkpoint

MODULE = "lora_unet_double_blocks_0_img_attn_qkv"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny Flux checkpoint and a LoRA for it."""
    folder = tmp_path_factory.mktemp("good")
    tiny.make_tiny("flux", folder / "flux.safetensors")
    tiny.make_lora(folder / "lora.safetensors", tiny.flat("lora_unet_", tiny.modules("flux")), 4)
    return folder


def changed(source: Path, target: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> Path:
    tensors = load(source)
    change(tensors)
    return save(target, tensors)


def missing(good: Path, bad: Path) -> None: ...


def truncated(good: Path, bad: Path) -> None:
    bad.write_bytes((good / "lora.safetensors").read_bytes()[:-10])


def other_type(good: Path, bad: Path) -> None:
    bad.write_bytes(b"PK\x03\x04" + bytes(100))


def is_checkpoint(good: Path, bad: Path) -> None:
    bad.write_bytes((good / "flux.safetensors").read_bytes())


def foreign(good: Path, bad: Path) -> None:
    name = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
    tiny.make_lora(bad, {name: (640, 2048), "lora_unet_conv_in": (320, 4, 3, 3)}, 4)


def other_shape(good: Path, bad: Path) -> None:
    tiny.make_lora(bad, {MODULE: (384, 64)}, 4)


def up_without_down(good: Path, bad: Path) -> None:
    changed(good / "lora.safetensors", bad, lambda tensors: tensors.pop(f"{MODULE}.lora_down.weight"))


def down_without_up(good: Path, bad: Path) -> None:
    changed(good / "lora.safetensors", bad, lambda tensors: tensors.pop(f"{MODULE}.lora_up.weight"))


def other_ranks(good: Path, bad: Path) -> None:
    key = f"{MODULE}.lora_down.weight"
    changed(good / "lora.safetensors", bad, lambda tensors: tensors.update({key: tensors[key][:3]}))


def nan(good: Path, bad: Path) -> None:
    changed(good / "lora.safetensors", bad, lambda tensors: tensors[f"{MODULE}.lora_up.weight"][0].fill_(float("nan")))


def infinite(good: Path, bad: Path) -> None:
    changed(good / "lora.safetensors", bad, lambda t: t[f"{MODULE}.lora_down.weight"][0].fill_(float("inf")))


def nan_alpha(good: Path, bad: Path) -> None:
    changed(good / "lora.safetensors", bad, lambda tensors: tensors[f"{MODULE}.alpha"].fill_(float("nan")))


def unknown_kind(good: Path, bad: Path) -> None:
    save(bad, {f"{MODULE}.lambda_layer": torch.ones(1, 4), f"{MODULE}.q_layer.weight": torch.ones(4, 64)})


def only_alphas(good: Path, bad: Path) -> None:
    save(bad, {f"{MODULE}.alpha": torch.ones(())})


def embedding(good: Path, bad: Path) -> None:
    save(bad, {"emb_params": torch.ones(4, 768)})


BAD_LORAS: dict[Callable[[Path, Path], None], str] = {
    missing: "bad.safetensors: no such file (",
    truncated: "bad.safetensors: truncated: has ",
    other_type: "bad.safetensors: broken PyTorch file: File is not a zip file; download or copy it again.",
    is_checkpoint: "bad.safetensors: is a checkpoint of Flux.1 dev, not a LoRA; "
    "give it as the base, or choose a LoRA file.",
    foreign: "bad.safetensors: this is an SDXL or KOALA LoRA; the checkpoint is Flux.1 dev. "
    "0 of 2 modules would fit; use a LoRA made for Flux.1 dev.",
    other_shape: "bad.safetensors: nothing was applied: 1 module of another shape than in Flux.1 dev, "
    f"e.g. '{MODULE}': expected [384, 128], found [384, 64]; the LoRA is for another model.",
    up_without_down: f"bad.safetensors: {MODULE}: has up without down; the file is damaged or not complete.",
    down_without_up: f"bad.safetensors: {MODULE}: has down without up; the file is damaged or not complete.",
    other_ranks: f"bad.safetensors: {MODULE}: the ranks of up [384, 4] and down [3, 128] differ; "
    "the file is damaged or not complete.",
    nan: f"bad.safetensors: {MODULE}: holds NaN or infinity; the file is damaged or its training failed.",
    infinite: f"bad.safetensors: {MODULE}: holds NaN or infinity; the file is damaged or its training failed.",
    nan_alpha: f"bad.safetensors: {MODULE}: alpha is nan; the file is damaged.",
    unknown_kind: "bad.safetensors: nothing was applied: its modules are T-LoRA, which this version can't apply.",
    only_alphas: "bad.safetensors: is not a LoRA: it holds alphas and nothing that they scale.",
    embedding: "bad.safetensors: is a textual inversion embedding, not a LoRA; put it into the embeddings folder",
}


@pytest.mark.case(7, 8, 9, 10, 11, 12)
@pytest.mark.parametrize("make", BAD_LORAS, ids=lambda make: make.__name__)
def test_bad_lora(good: Path, tmp_path: Path, make: Callable[[Path, Path], None]) -> None:
    bad, out = tmp_path / "bad.safetensors", tmp_path / "out/merged.safetensors"
    out.parent.mkdir()
    make(good, bad)
    with pytest.raises(lora_core.LoraError) as error:
        lora_core.merge(good / "flux.safetensors", [good / "lora.safetensors", bad], out)
    assert str(error.value).startswith(BAD_LORAS[make])
    assert listing(out.parent) == []
    stack = ("--lora", good / "lora.safetensors", "--lora", bad)
    done = command("merge", "--base", good / "flux.safetensors", *stack, "--out", out)
    assert_failed(done, str(error.value), out)


BAD_BASES: dict[str, str] = {
    "gone": "base.safetensors: no such file (",
    "truncated": "base.safetensors: truncated: has ",
    "lora": "base.safetensors: is a LoRA, not a checkpoint; give it with the LoRAs, and a checkpoint as the base.",
    "vae": "base.safetensors: none of the known architectures fits its ",
    "quantised": "base.safetensors: is quantised by bitsandbytes NF4 ('model.diffusion_model.double_blocks.0.img_attn",
}


@pytest.mark.case(11, 12, 15)
@pytest.mark.parametrize("kind", BAD_BASES)
def test_bad_base(good: Path, tmp_path: Path, kind: str) -> None:
    base, out = tmp_path / "base.safetensors", tmp_path / "out/merged.safetensors"
    out.parent.mkdir()
    if kind == "truncated":
        base.write_bytes((good / "flux.safetensors").read_bytes()[:-1])
    elif kind == "lora":
        base.write_bytes((good / "lora.safetensors").read_bytes())
    elif kind == "vae":
        tiny.make_tiny("tae16", base)
    elif kind == "quantised":
        key = "model.diffusion_model.double_blocks.0.img_attn.qkv.weight.quant_state.bitsandbytes__nf4"
        scale = {key: torch.ones(1)}
        changed(good / "flux.safetensors", base, lambda tensors: tensors.update(scale))
    with pytest.raises(lora_core.LoraError) as error:
        lora_core.merge(base, [good / "lora.safetensors"], out)
    assert str(error.value).startswith(BAD_BASES[kind])
    assert_failed(
        command("merge", "--base", base, "--lora", good / "lora.safetensors", "--out", out), str(error.value), out
    )


@pytest.mark.case(25)
def test_existing_output_stays(good: Path, tmp_path: Path) -> None:
    out = tmp_path / "merged.safetensors"
    out.write_bytes(b"precious")
    done = command("merge", "--base", good / "flux.safetensors", "--lora", good / "lora.safetensors", "--out", out)
    assert done.returncode == 1
    assert done.stderr == ("lora-core: merged.safetensors: already exists; choose another name or allow overwriting.\n")
    assert out.read_bytes() == b"precious"
    assert listing(tmp_path) == [out.name]


@pytest.mark.case(26)
@pytest.mark.parametrize("operation", ["merge", "extract"])
def test_output_that_is_an_input(good: Path, tmp_path: Path, operation: str) -> None:
    base = tmp_path / "base.safetensors"
    base.write_bytes((good / "flux.safetensors").read_bytes())
    before = base.read_bytes()
    alias = tmp_path / "alias.safetensors"
    alias.hardlink_to(base)
    tuned = tmp_path / "tuned.safetensors"
    lora_core.merge(good / "flux.safetensors", [good / "lora.safetensors"], tuned)
    for out in (base, alias):
        with pytest.raises(lora_core.LoraError, match="is also an input; choose another name for the output"):
            if operation == "merge":
                lora_core.merge(base, [good / "lora.safetensors"], out, overwrite=True)
            else:
                lora_core.extract(base, tuned, out, overwrite=True)
    assert base.read_bytes() == before


@pytest.mark.case(22)
def test_full_disk(good: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for a disk without space: the writer is refused in the middle."""
    out = tmp_path / "merged.safetensors"
    arguments = ["merge", "--base", good / "flux.safetensors", "--lora", good / "lora.safetensors", "--out", out]
    code = (
        "import resource, signal, sys; from lora_core.cli.entry import main; "
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20)); "
        f"sys.exit(main({[str(argument) for argument in arguments]!r}))"
    )
    done = python("-c", code)
    assert done.returncode == 1
    assert done.stderr == f"lora-core: merged.safetensors: {TOO_LARGE}\n"
    assert listing(tmp_path) == []


PAIRS = {
    "sd15": ("lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k", (640, 768)),
    "sdxl": ("lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k", (640, 2048)),
    "flux1_dev": ("lora_unet_double_blocks_0_img_attn_qkv", (9216, 3072)),
    "sd3_medium": ("lora_unet_joint_blocks_0_x_block_attn_qkv", (4608, 1536)),
    "wan21_t2v_1.3b": ("lora_unet_blocks_0_self_attn_q", (1536, 1536)),
}
TITLES = {
    "sd15": "Stable Diffusion 1.5",
    "sdxl": "SDXL",
    "flux1_dev": "Flux.1",
    "sd3_medium": "Stable Diffusion 3",
    "wan21_t2v_1.3b": "Wan",
}


@pytest.mark.case(10)
@pytest.mark.parametrize("here", PAIRS)
def test_each_foreign_architecture_is_named(tmp_path: Path, here: str) -> None:
    base = sparse_checkpoint(tmp_path / "base.safetensors", here)
    for there, (name, shape) in PAIRS.items():
        if there == here:
            continue
        # a text encoder's module that both have in common must not let half of the LoRA through
        modules = {name: shape, "lora_te1_text_model_encoder_layers_0_mlp_fc1": (3072, 768)}
        lora = tiny.make_lora(tmp_path / f"{there}.safetensors", modules, 2)
        with pytest.raises(lora_core.LoraError) as error:
            lora_core.merge(base, [lora], tmp_path / "out.safetensors")
        # one module may be of several architectures; all are named
        named = re.match(rf"{lora.name}: this is an? ([^;]*) LoRA; the checkpoint is ", str(error.value))
        assert named
        assert TITLES[there] in named[1].split(" or ")
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.case(9)
def test_policies(good: Path, tmp_path: Path) -> None:
    """A LoRA of which one module has no place: a warning, an error, or silence."""
    lora, out = tmp_path / "lora.safetensors", tmp_path / "out.safetensors"
    tiny.make_lora(lora, {MODULE: (384, 128), "lora_unet_double_blocks_7_img_attn_qkv": (384, 128)}, 2)
    message = "1 module without a place in Flux.1 dev: lora_unet_double_blocks_7_img_attn_qkv."
    report = lora_core.merge(good / "flux.safetensors", [lora], out)
    assert report.warnings == [f"lora.safetensors: {message}"]
    with pytest.raises(lora_core.LoraError) as error:
        lora_core.merge(good / "flux.safetensors", [lora], out, overwrite=True, on_unmatched="error")
    assert str(error.value) == f"lora.safetensors: {message}"
    report = lora_core.merge(good / "flux.safetensors", [lora], out, overwrite=True, on_unmatched="ignore")
    assert (report.warnings, report.loras[0].modules_matched) == ([], 1)
    foreign(good, lora)
    report = lora_core.merge(good / "flux.safetensors", [lora], out, overwrite=True, on_unmatched="ignore")
    assert report.loras[0].modules_matched == 0
    before, after = load(good / "flux.safetensors"), load(out)
    assert [name for name, tensor in before.items() if not torch.equal(tensor, after[name])] == []


def assert_failed(done: subprocess.CompletedProcess[str], message: str, out: Path) -> None:
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == f"lora-core: {message}\n"
    assert listing(out.parent) == []


def test_manifests_hold_the_pairs() -> None:
    """The shapes above are those of the real checkpoints."""
    for arch, (_, shape) in PAIRS.items():
        assert shape in set(manifests.checkpoint(arch).keys.values())
