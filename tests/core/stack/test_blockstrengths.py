"""Strengths of blocks: the grammar, the names of every architecture, and what a merge makes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import lora_core
from lora_core.arch import ARCHES, DIFFUSION_ARCHES
from lora_core.arch.blockgroups import GROUP_TITLES
from lora_core.errors import OptionError
from lora_core.library.info import block_groups, presets_of
from lora_core.naming.blocks import ModelBlocks, named_block
from lora_core.naming.detection import detect
from lora_core.naming.keymap import KeyMap
from lora_core.naming.outlines import outlines_of, read_outline
from lora_core.reading.lorafile import LoraFile
from lora_core.stack.blockstrengths import factors_on
from lora_core.stack.blockterms import parse_blocks
from tests import manifests, tiny
from tests.core import samples
from tests.core.samples import load, metadata_of
from tests.manifests import tiny as tiny_keys

PREFIX = "model.diffusion_model."
ARCH = {arch.id: arch for arch in ARCHES}
FLUX = ModelBlocks.of_arch(ARCH["flux1"])


def factors(text: str, model: ModelBlocks = FLUX) -> Any:
    return factors_on(parse_blocks(text), model, "x")


@pytest.mark.parametrize(
    "text, block, factor",
    [
        ("double.0-9=0.5", ("double", 9), 0.5),
        ("double.0-9=0.5", ("double", 10), 1.0),
        ("double.3=2", ("double", 3), 2.0),
        ("double.3=2", ("single", 3), 1.0),
        ("DOUBLE = -1e-1", ("double", 18), -0.1),
        ("all=0, double.3=1", ("double", 3), 1.0),
        ("all=0, double.3=1", ("te.clip_l", None), 0.0),
        ("double.3=1, all=0", ("double", 3), 0.0),
        ("te=0", ("te.t5xxl", None), 0.0),
        ("te=0, te.clip_l=0.3", ("te.clip_l", None), 0.3),
        ("te.clip_l=0.3", ("te.t5xxl", None), 1.0),
        ("other=0.25,", ("other", None), 0.25),
        ("no-double", ("double", 4), 0.0),
        ("no-double, double.4=0.5\nte=0", ("double", 4), 0.5),
        ("", ("double", 0), 1.0),
    ],
)
def test_the_last_term_that_selects_a_block_wins(text: str, block: Any, factor: float) -> None:
    assert factors(text).of(block) == factor


@pytest.mark.parametrize(
    "text, message",
    [
        (7, "blocks: expected text, found 7; write for example double.0-9=0.5, te=0."),
        ("a" * 1001, "blocks: 1,001 characters; at most 1,000 are read."),
        ("=1", "blocks: '=1' names no block; write for example double.0-9=0.5, te=0."),
        ("double 3=1", "blocks: 'double 3=1' names no block; write for example double.0-9=0.5, te=0."),
        ("double.3", "blocks: 'double.3' has no strength; write double.3=0.5."),
        ("double.9-3=1", "blocks: 'double.9-3' counts backwards; write double.3-9."),
        *(
            (
                f"double={number}",
                f"blocks: {f'double={number}'!r}: expected a number within -100 and 100, found {number!r}.",
            )
            for number in ("", "nan", "inf", "1e9", "-100.5", "1_0", "0x1", "٣", "__import__('os')", "1=1")
        ),
    ],
)
def test_what_is_not_of_the_grammar(text: Any, message: str) -> None:
    with pytest.raises(OptionError) as error:
        parse_blocks(text)
    assert str(error.value) == message


@pytest.mark.parametrize(
    "text, message",
    [
        ("duoble=1",
         "x: blocks: no blocks 'duoble'; did you mean 'double'? Flux.1 has double.0-18, single.0-37, other, "
                     "te, te.clip_l, te.t5xxl, all; presets: no-double, no-single."),
        ("stlye", "x: blocks: no preset 'stlye'. Flux.1 has double.0-18, single.0-37, other, te, te.clip_l, te.t5xxl, "
                  "all; presets: no-double, no-single."),
        ("double", "x: blocks: 'double' has no strength; write double=0.5."),
        ("double.0-19=1", "x: blocks: 'double.0-19' is out of range; Flux.1 has double.0-18."),
        ("double.999999=1", "x: blocks: 'double.999999' is out of range; Flux.1 has double.0-18."),
        ("te.3=1", "x: blocks: 'te' has no numbers here; write te=1."),
        ("in.3=1", "x: blocks: no blocks 'in'. Flux.1 has double.0-18, single.0-37, other, te, te.clip_l, te.t5xxl, "
                   "all; presets: no-double, no-single."),
    ],
)  # fmt: skip
def test_names_that_the_model_does_not_have(text: str, message: str) -> None:
    with pytest.raises(OptionError) as error:
        factors(text)
    assert str(error.value) == message


def test_a_text_encoder_alone_takes_the_names_of_any_model() -> None:
    shapes = read_outline("clip_l").shapes
    alone = KeyMap((shapes, detect(shapes))).blocks
    assert factors("double.99=0, style, te=0.5", alone).of(("te.clip_l", None)) == 0.5
    with pytest.raises(OptionError, match="no blocks 'duoble'"):
        factors("duoble=0", alone)


@pytest.mark.parametrize("arch", DIFFUSION_ARCHES, ids=lambda arch: arch.id)
def test_every_architecture_has_named_groups_and_working_presets(arch: Any) -> None:
    groups = {group["name"]: group for group in block_groups(arch)}
    assert arch.blocks, "an architecture without groups"
    for name in arch.blocks:
        assert groups[name]["numbers"], f"{name} counts nothing"
        assert groups[name]["title"] == GROUP_TITLES[name]
    has_encoders = any(one.text_encoders for one in (arch, *arch.editions))
    assert {"other", *(["te"] if has_encoders else [])} <= set(groups)
    for found in outlines_of(arch):
        model = ModelBlocks.of(KeyMap((read_outline(found.id).shapes, [found])).components)
        for preset in presets_of(arch):
            assert factors(preset, model).terms, f"{preset} of {found.id}"


@pytest.mark.parametrize("name", ["flux1_dev", "sdxl", "hunyuan_video", "z_image", "wan21_t2v_14b", "sd3_medium"])
def test_blocks_of_the_diffusers_layout_are_those_of_the_own(name: str) -> None:
    """Both layouts of a model hold the same parameters, and each block has as many of them in one as in the other."""
    found = manifests.checkpoint(name)
    counts: list[dict[Any, int]] = []
    for shapes in (found.keys, found.diffusers_keys):
        assert shapes
        blocks = KeyMap((shapes, [one for one in detect(shapes) if one.arch.role == "diffusion"])).blocks
        sizes: dict[Any, int] = {}
        for key, (block, _) in blocks.by_key.items():
            sizes[block] = sizes.get(block, 0) + torch.Size(shapes[key]).numel()
        counts.append(sizes)
    assert counts[0] == counts[1]
    assert len(counts[0]) > 10


def test_groups_of_an_unknown_model_are_what_its_names_tell() -> None:
    from lora_core.arch.base import Arch
    from lora_core.naming.detection import FoundArch

    shapes = {f"stack.inner.{i}.proj.weight": (4, 4) for i in range(3)} | {"head.1.weight": (4, 4)}
    shapes["stack.inner.1.gate"] = (4,)  # a bare parameter
    model = KeyMap((shapes, [FoundArch(Arch("new", "New", (), ("",)), None, "")])).blocks
    assert model.groups == {"stack.inner": (0, 1, 2)}
    assert factors("stack.inner.1-2=0.5", model).of(("stack.inner", 2)) == 0.5
    assert model.by_key["head.1.weight"][0] == ("other", None)
    assert model.by_key["stack.inner.1.gate"][0] == ("stack.inner", 1)


def test_a_group_counts_whole_names_only() -> None:
    assert named_block(ARCH["wan21"], "blocks.3.ffn.0") == ("blocks", 3)
    assert named_block(ARCH["wan21"], "blocks_3.ffn.0") == ("other", None)
    assert named_block(ARCH["wan21"], "vace_blocks.3.ffn.0") == ("vace", 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("blocks")
    samples.save(folder / "flux.safetensors", model())
    tiny.make_lora(folder / "kohya.safetensors", tiny.flat("lora_unet_", modules()), 4, seed=3)
    return folder


def model() -> dict[str, Tensor]:
    """The tiny Flux with three double blocks and two single ones."""
    keys = {key: shape for key, (_, shape) in tiny_keys("flux").items()}
    more = {
        key.replace("_blocks.0.", f"_blocks.{number}."): shape
        for key, shape in keys.items()
        for number in range(3 if "double_blocks.0." in key else 2 if "single_blocks.0." in key else 1)
    }
    return {key: tiny.fill(key, shape) for key, shape in more.items()}


def modules() -> dict[str, tuple[int, ...]]:
    """Those that trainers put adapters on, with the shapes of their weights."""
    weights = {key[len(PREFIX) : -len(".weight")]: value for key, value in model().items() if key.startswith(PREFIX)}
    return {name: tuple(value.shape) for name, value in weights.items() if value.dim() > 1}


def merged(folder: Path, lora: str, *rest: Any) -> tuple[dict[str, Tensor], Any]:
    out = folder / "out.safetensors"
    report = lora_core.merge(folder / "flux.safetensors", [(folder / lora, *rest)], out, overwrite=True)
    return load(out), report


def reference(folder: Path, strength_of: Any) -> dict[str, Tensor]:
    """The merge in fp64, from the tensors of the files alone."""
    weights = load(folder / "flux.safetensors")
    parts = load(folder / "kohya.safetensors")
    for module in modules():
        key = f"{PREFIX}{module}.weight"
        name = "lora_unet_" + module.replace(".", "_")
        up, down = (parts[f"{name}.lora_{part}.weight"].double() for part in ("up", "down"))
        scale = float(parts[f"{name}.alpha"]) / down.shape[0]
        weights[key] = weights[key].double() + strength_of(module) * scale * (up @ down)
    return weights


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for key, value in expected.items():
        assert torch.allclose(found[key].double(), value.double(), rtol=0, atol=2e-6), key


def test_a_merge_is_the_fp64_reference_block_by_block(folder: Path) -> None:
    found, report = merged(folder, "kohya.safetensors", 0.8, 0.8, "double.0-1=0.5, single.1=-2, other=0")
    shares = {f"double_blocks.{i}": share for i, share in enumerate((0.5, 0.5, 1))}
    shares |= {"single_blocks.0": 1, "single_blocks.1": -2}
    assert_close(found, reference(folder, lambda name: 0.8 * shares.get(".".join(name.split(".")[:2]), 0)))
    assert report.loras[0].block_strengths == {"double.0-1": 0.5, "other": 0, "single.1": -2}
    assert "blocks: double.0-1 at 0.5, other at 0, single.1 at -2" in report.text()
    note = json.loads(metadata_of(folder / "out.safetensors")["lora_core.merged_from"])["loras"][0]
    assert note["blocks"] == "double.0-1=0.5, single.1=-2, other=0"


def test_all_but_one_block(folder: Path) -> None:
    found, report = merged(folder, "kohya.safetensors", 1, 1, "all=0, double.1=1")
    assert_close(found, reference(folder, lambda name: float(name.startswith("double_blocks.1."))))
    before = load(folder / "flux.safetensors")
    changed = {key for key in before if not samples.same_bytes(before[key], found[key])}
    assert changed == {f"{PREFIX}{name}.weight" for name in modules() if name.startswith("double_blocks.1.")}
    assert report.warnings == []


def test_a_lora_under_other_names_gets_the_same(folder: Path) -> None:
    lora_core.convert(folder / "kohya.safetensors", folder / "diffusers.safetensors", dialect="diffusers",
                      base=folder / "flux.safetensors", overwrite=True)  # fmt: skip
    blocks = "double.0=0.25, single=0.5"
    found, report = merged(folder, "diffusers.safetensors", 1, 1, blocks)
    assert_close(found, merged(folder, "kohya.safetensors", 1, 1, blocks)[0])
    assert report.loras[0].block_strengths == {"double.0": 0.25, "single.0-1": 0.5}


def test_blocks_that_the_lora_does_not_change_are_told(folder: Path) -> None:
    double = {name: shape for name, shape in modules().items() if name.startswith("double")}
    tiny.make_lora(folder / "double.safetensors", tiny.flat("lora_unet_", double), 4)
    _, report = merged(folder, "double.safetensors", 1, 1, "no-single, double.0=0.5, single.0=0.5, te=0")
    assert report.warnings == ["double.safetensors: blocks: nothing of this LoRA is in single.0, te."]


def test_the_command_line_and_the_stack_entry_say_it_too(folder: Path) -> None:
    from lora_core.cli.entry import main
    from lora_core.stack.entry import StackEntry

    expected = merged(folder, "kohya.safetensors", 0.5, 0.5, "double=0")[0]
    lora, out = str(folder / "kohya.safetensors"), folder / "cli.safetensors"
    base = str(folder / "flux.safetensors")
    given = ["merge", "--base", base, "--lora", lora, "0.5", "blocks=double=0", "--out", str(out), "--quiet"]
    assert main(given) == 0
    assert_close(load(out), expected)
    lora_core.merge(base, [StackEntry(lora, 0.5, 0.5, blocks="double=0")], out, overwrite=True)
    assert_close(load(out), expected)
    assert main([*given[:-1], "--overwrite", "--lora", lora, "blocks=duoble=0"]) == 2


def test_combined_and_extracted_loras_do_what_the_stack_does(folder: Path) -> None:
    base, blocks = folder / "flux.safetensors", "double.0=0.5, single=0"
    item = (folder / "kohya.safetensors", 1.0, 1.0, blocks)
    expected, _ = merged(folder, "kohya.safetensors", 1, 1, blocks)
    combined = lora_core.combine([item], folder / "combined.safetensors", base=base, overwrite=True)
    assert combined.loras[0].block_strengths == {"double.0": 0.5, "single.0-1": 0}
    lora_core.extract(base, None, folder / "extracted.safetensors", loras=[item], rank=4, dtype="fp32", overwrite=True)
    for name in ("combined", "extracted"):
        names = {key for key in load(folder / f"{name}.safetensors") if "single" in key}
        assert not names
        assert_close(merged(folder, f"{name}.safetensors")[0], expected)


def test_the_sizes_of_an_inspected_stack_are_those_of_its_blocks(folder: Path) -> None:
    lora, base = folder / "kohya.safetensors", [folder / "flux.safetensors"]
    report = lora_core.inspect(lora, base, stack=[(lora, 1.0, 1.0, "double=-1, single=0, other=0")])
    cosines = {block["block"]: block["cosine"] for block in report.pairs[0]["blocks"]}
    assert cosines["double_blocks.0"] == pytest.approx(-1)
    assert "single_blocks.0" not in cosines
    assert report.loras[1].block_strengths["double.0-2"] == -1
    with pytest.raises(OptionError, match=r"kohya.safetensors: blocks: no blocks 'in'"):
        lora_core.inspect(lora, base, stack=[(lora, 1.0, 1.0, "in=0")])


@pytest.mark.parametrize("kind", ["dora", "oft"])
def test_kinds_that_read_the_weight_interpolate_as_at_any_strength(folder: Path, kind: str) -> None:
    name, module = f"{kind}.safetensors", "lora_unet_double_blocks_0_img_mlp_0"
    shape = modules()["double_blocks.0.img_mlp.0"]
    generator = torch.Generator().manual_seed(5)

    def random(*size: int) -> Tensor:
        return torch.randn(size, generator=generator) * 0.1

    parts = {
        "dora": {"lora_up.weight": random(shape[0], 2), "lora_down.weight": random(2, shape[1]),
                 "dora_scale": random(shape[0], 1).abs() + 0.5},
        "oft": {"oft_blocks": random(4, shape[0] // 4, shape[0] // 4), "alpha": torch.tensor(0.0)},
    }  # fmt: skip
    samples.save(folder / name, {f"{module}.{part}": tensor for part, tensor in parts[kind].items()})
    assert_close(merged(folder, name, 1, 1, "double.0=0.3")[0], merged(folder, name, 0.3)[0])


def test_a_lora_file_has_the_groups_of_the_model_that_it_looks_like(folder: Path) -> None:
    trained = tiny.flat("lora_unet_", {f"double_blocks.{i}.img_attn.qkv": (9216, 3072) for i in range(3)})
    tiny.make_lora(folder / "large.safetensors", trained, 1)
    with LoraFile(folder / "large.safetensors") as lora:
        assert block_groups(lora)[0] == {"name": "double", "title": "Double blocks", "numbers": list(range(19))}
        assert presets_of(lora) == {"no-double": "double=0", "no-single": "single=0"}
    samples.save(
        folder / "odd.safetensors", {"odd.lora_A.weight": torch.ones(1, 4), "odd.lora_B.weight": torch.ones(4, 1)}
    )
    with LoraFile(folder / "odd.safetensors") as lora:
        assert (block_groups(lora), presets_of(lora)) == ([], {})
