"""Where names go: detection, every name that ComfyUI accepts, text encoders in OpenCLIP's layout, no dead rows."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest
import torch

from lora_core.adapters import LoRA
from lora_core.arch import ARCHES
from lora_core.arch.base import DIFFUSION_PREFIXES, Arch, Rename, Signature
from lora_core.arch.text_encoders import CLIP_G_OPENCLIP, CLIP_L
from lora_core.errors import KeyCollisionError
from lora_core.naming.detection import FoundArch, detect
from lora_core.naming.dialects import DIALECTS
from lora_core.naming.keymap import KeyMap
from lora_core.naming.renames import Renames
from lora_core.naming.targets import Target
from lora_core.reading.checkpoint import Checkpoint
from lora_core.stack.apply import Placed, apply_stack
from tests import manifests
from tests.core import samples

ARCHS = manifests.archs()
MODELS = [arch for arch in ARCHS if not arch.startswith("te_")]


@pytest.mark.parametrize("model", MODELS)
def test_no_real_checkpoint_has_two_modules_for_one_name_or_one_for_another_models(model: str, tmp_path: Path) -> None:
    with Checkpoint(samples.sparse_checkpoint(tmp_path / "model.safetensors", model)) as checkpoint:
        keymap = checkpoint.keymap
    assert keymap.roles >= {"diffusion"}
    for name in ("lora_unet_no_such_module", "diffusion_model.no.such", "lora_te3_x", "", "lora_unet_", "unknown.x"):
        assert keymap.find(name) == ()


def test_a_dialect_gives_its_prefix_once() -> None:
    prefixes = [dialect.prefix for dialect in DIALECTS]
    assert len(prefixes) == len(set(prefixes))


# Text encoders on disk in OpenCLIP's layout

OPENCLIP = {"sdxl": ("te_clip_g", "conditioner.embedders.1.model.", "te2"),
            "sd21": ("te_clip_h", "cond_stage_model.model.", "te"),
            "sdxl_refiner": ("te_clip_g", "conditioner.embedders.0.model.", "te")}  # fmt: skip


@pytest.mark.parametrize("model", OPENCLIP)
def test_transformers_names_reach_every_key_of_an_openclip_encoder(model: str) -> None:
    encoder, prefix, number = OPENCLIP[model]
    shapes = manifests.checkpoint(model).keys
    keymap = KeyMap((shapes, detect(shapes)))
    reached: dict[str, list[tuple[int, int]]] = {}
    for key, shape in manifests.checkpoint(encoder).keys.items():
        module, _, param = key.rpartition(".")
        for name in (
            f"text_encoders.{encoder.removeprefix('te_')}.transformer.{module}",
            f"lora_{number}_{module.replace('.', '_')}",
        ):
            (target,) = keymap.find(name, param)
            assert target.shape == shape
        start = target.start or 0
        reached.setdefault(target.key, []).append((start, start + target.shape[1 if target.transposed else 0]))
        if ".self_attn." in key and "out_proj" not in key:
            thirds = {"q_proj": 0, "k_proj": 1, "v_proj": 2}
            assert target.start == thirds[module.rpartition(".")[2]] * shape[0]
        assert target.transposed == (module == "text_projection")
    on_disk = {key: shape for key, shape in shapes.items() if key.startswith(prefix)}
    missed = {key.removeprefix(prefix) for key in on_disk.keys() - reached.keys()}
    assert missed <= {"logit_scale"}  # a number that nothing in image generation uses
    for key, spans in reached.items():
        assert sorted(spans)[0][0] == 0
        assert all(end == start for (_, end), (start, _) in zip(sorted(spans), sorted(spans)[1:], strict=False))
        assert sorted(spans)[-1][1] == on_disk[key][0]


def to_transformers(openclip: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """transformers' own script for OpenCLIP models does the same, layer by layer."""
    words = {"attn.out_proj": "self_attn.out_proj", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2",
             "ln_1": "layer_norm1", "ln_2": "layer_norm2"}  # fmt: skip
    top = {"ln_final.weight": "text_model.final_layer_norm.weight", "ln_final.bias": "text_model.final_layer_norm.bias",
           "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
           "positional_embedding": "text_model.embeddings.position_embedding.weight"}  # fmt: skip
    result: dict[str, torch.Tensor] = {}
    for key, value in openclip.items():
        if key == "text_projection":
            result["text_projection.weight"] = value.t()
        elif not key.startswith("transformer.resblocks."):
            result[top[key]] = value
        else:
            number, part = key.removeprefix("transformer.resblocks.").split(".", 1)
            layer = f"text_model.encoder.layers.{number}."
            if part.startswith("attn.in_proj_"):
                for letter, third in zip("qkv", value.chunk(3), strict=True):
                    result[f"{layer}self_attn.{letter}_proj.{part.removeprefix('attn.in_proj_')}"] = third
            else:
                name, _, param = part.rpartition(".")
                result[f"{layer}{words[name]}.{param}"] = value
    return result


def small_openclip(width: int = 8, layers: int = 2) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes: dict[str, tuple[int, ...]] = {
        "token_embedding.weight": (20, width), "positional_embedding": (7, width), "text_projection": (width, width),
        "ln_final.weight": (width,), "ln_final.bias": (width,),
    }  # fmt: skip
    for layer in (f"transformer.resblocks.{number}." for number in range(layers)):
        shapes |= {layer + "attn.in_proj_weight": (3 * width, width), layer + "attn.in_proj_bias": (3 * width,)}
        for part, out, inside in (("attn.out_proj", 8, 8), ("mlp.c_fc", 32, 8), ("mlp.c_proj", 8, 32)):
            shapes |= {f"{layer}{part}.weight": (out, inside), f"{layer}{part}.bias": (out,)}
        for norm in ("ln_1", "ln_2"):
            shapes |= {f"{layer}{norm}.weight": (width,), f"{layer}{norm}.bias": (width,)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def shapes_of(tensors: dict[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in tensors.items()}


def merged(tensors: dict[str, torch.Tensor], keymap: KeyMap, loras: dict[str, LoRA]) -> dict[str, torch.Tensor]:
    stacks: dict[str, list[Placed]] = {}
    for name, lora in loras.items():
        (target,) = keymap.find(name)
        stacks.setdefault(target.key, []).append(Placed(lora, target, 0.7, name))
    return {key: apply_stack(value, stacks.get(key, ())) for key, value in tensors.items()}


@pytest.mark.parametrize("flat", [True, False])
def test_a_lora_changes_both_layouts_alike(flat: bool) -> None:
    openclip = small_openclip()
    ours = to_transformers(openclip)
    generator = torch.Generator().manual_seed(2)
    loras: dict[str, LoRA] = {}
    for key, value in ours.items():
        module = key.removesuffix(".weight")
        if key.endswith(".weight") and value.dim() == 2 and "position" not in key:
            up, down = (torch.randn(shape, generator=generator) for shape in ((value.shape[0], 2), (2, value.shape[1])))
            name = f"lora_te2_{module.replace('.', '_')}" if flat else f"text_encoder_2.{module}"
            loras[name] = LoRA(up, down, None, 0.5)
    assert len(loras) == 2 * 6 + 2  # six matrices in a layer, token embedding, projection
    on_disk = KeyMap((shapes_of(openclip), [FoundArch(CLIP_G_OPENCLIP, None, "")]))
    inside = KeyMap((shapes_of(ours), [FoundArch(next(a for a in ARCHES if a.id == "clip_g" and a.renames), None, "")]))
    there = to_transformers(merged(openclip, on_disk, loras))
    here = merged(ours, inside, loras)
    assert there.keys() == here.keys()
    for key, value in here.items():
        torch.testing.assert_close(there[key], value, rtol=1e-6, atol=1e-6)  # the same sums in another order
        changed = not torch.equal(value, ours[key])
        assert changed == (value.dim() == 2 and "position" not in key)


def test_names_without_the_text_model_level_are_the_same_modules() -> None:
    shapes = manifests.checkpoint("te_clip_l").keys
    bare = {key.removeprefix("text_model."): shape for key, shape in shapes.items()}
    for held in (shapes, bare):  # transformers 4 and 5, and the first SD 1 files
        keymap = KeyMap((held, detect(held)))
        for key in shapes:
            module, _, param = key.rpartition(".")
            targets = [keymap.find(f"{p}{n}", param) for p in ("text_encoder.", "text_encoders.clip_l.transformer.")
                       for n in (module, module.removeprefix("text_model."))]  # fmt: skip
            expected = key if held is shapes else key.removeprefix("text_model.")
            assert {target.key for (target,) in targets} == {expected}


# Rows of the rename tables

# Rows that no checkpoint here needs, and why they stand: a U-Net's rows come from one rule for four levels
NO_CHECKPOINT = {
    r".*\.skip_connection": "a block has one only where its width changes",
    r"input_blocks\.1[01]\.1\..*": "the deepest level of SD 1 and 2 has no attention, and SDXL has no such level",
    r"input_blocks\.12\.0\.op|output_blocks\.11\.[12]\.conv": "the last level does not change the resolution",
    r"output_blocks\.[58]\.1\.conv": "every model has attention there, which the upsampler follows",
    r"input_blocks\.1\.1\..*|output_blocks\.[45]\.1\..*": "KOALA's uppermost level has no attention",
    r"input_blocks\.6\.0\.op|output_blocks\.[135]\.1\.conv|output_blocks\.5\.2\.conv": "the same in KOALA",
    r"output_blocks\.[012]\.1\..*": "the deepest level of Stable Video Diffusion has no attention",
    r"time_r_in\..*": "only distilled models, which no fixture shows, have a second timestep",
}


def tables() -> dict[tuple[Rename, ...], list[Arch]]:
    result: dict[tuple[Rename, ...], list[Arch]] = {}
    for arch in ARCHES:
        result.setdefault(arch.renames, []).append(arch)
    return result


@cache
def held_by_arch() -> dict[Arch, set[str]]:
    """Every module and bare parameter of all checkpoints, each of which is looked at once."""
    modules: dict[Arch, set[str]] = {}
    held = [manifests.checkpoint(name).keys for name in ARCHS]
    held += [manifests.target_shapes(name) for name in manifests.alias_archs()]  # as ComfyUI names them inside
    for keys in held:
        for item in detect(keys):
            if not item.renamed:
                local = {key[len(item.prefix) :] for key in keys if key.startswith(item.prefix)}
                mine = modules.setdefault(item.arch, set())
                mine |= local | {key.rpartition(".")[0] for key in local}
                mine |= {key.replace("in_proj_weight", "in_proj") for key in local}
    return modules


def modules_of(archs: Iterable[Arch]) -> set[str]:
    """Every module and bare parameter of all checkpoints that hold one of `archs`."""
    modules = set[str]().union(*(held_by_arch().get(arch, set()) for arch in archs))
    if CLIP_L in archs:  # the first SD 1 files
        modules |= {name.removeprefix("text_model.") for name in modules}
    return modules


def skeleton(name: str) -> str:
    return re.sub(r"(?<![^.])(\d+|\{[ij]\})(?![^.])", "#", name)


def by_skeleton(names: Iterable[str]) -> dict[str, set[str]]:
    groups: dict[str, set[str]] = {}
    for name in names:
        groups.setdefault(skeleton(name), set()).add(name)
    return groups


def matching(template: str, groups: dict[str, set[str]]) -> list[re.Match[str]]:
    """Where `template` matches one of the names as a whole; a name is a line."""
    token = {"{i}": r"(?P<i>\d+)", "{j}": r"(?P<j>\d+)", "{rest}": r"(?P<rest>.+)"}
    text = r"\.".join(token.get(part, re.escape(part)) for part in template.split("."))
    near = set[str]().union(*groups.values()) if "{rest}" in template else groups.get(skeleton(template), set())
    return list(re.finditer(f"(?m)^{text}$", "\n".join(near)))


def first(here: str | tuple[str, ...]) -> str:
    return here if isinstance(here, str) else here[0]


@pytest.mark.parametrize("rows", tables(), ids=lambda rows: str(len(rows)))
def test_every_rename_row_matches_something(rows: tuple[Rename, ...]) -> None:
    groups = by_skeleton(modules_of(tables()[rows]))
    for row in (*rows, *rows):  # rows may build on what other rows give, in any order
        there = (row.there,) if isinstance(row.there, str) else row.there
        for match in matching(first(row.here), groups):
            for other in there:
                name = re.sub(r"\{(\w+)\}", lambda place, found=match: found[place[1]], other)
                groups.setdefault(skeleton(name), set()).add(name)
    dead = [row.here for row in rows if not matching(first(row.here), groups)]
    assert [here for here in dead if not any(re.fullmatch(known, first(here)) for known in NO_CHECKPOINT)] == []


def test_every_exception_is_needed() -> None:
    dead: list[str | tuple[str, ...]] = []
    for rows, archs in tables().items():
        if any(arch.id in ("sdxl", "koala", "hunyuan_video", "svd") for arch in archs):
            names = by_skeleton(modules_of(archs))
            dead += [row.here for row in rows if not matching(first(row.here), names)]
    assert all(any(re.fullmatch(known, first(here)) for here in dead) for known in NO_CHECKPOINT)


# A made-up architecture: data, and no code

MADE_UP = Arch(
    id="made_up",
    title="Made-Up 1",
    signatures=(Signature(has=("layers.0.mix.weight",)),),
    prefixes=DIFFUSION_PREFIXES,
    renames=(
        Rename("layers.{i}.mix", ("blocks.{i}.attn.q", "blocks.{i}.attn.kv"), sizes=(1, 2)),
        Rename("blocks.{i}.attn.kv", ("blocks.{i}.attn.k", "blocks.{i}.attn.v")),  # a piece of a piece
        Rename("layers.{i}.out", "blocks.{i}.attn.out.0"),
        Rename("layers.{i}.bend", "blocks.{i}.bend_table"),
        Rename("head", "proj_out", order=(1, 0)),
        Rename("side", "proj_side", transposed=True),
        Rename(("layers.{i}.gate", "layers.{i}.up"), "layers.{i}.gate_up"),  # the other way round: fused there
    ),
)
MADE_UP_SHAPES = {
    "net.layers.0.mix.weight": (12, 4),
    "net.layers.0.mix.bias": (12,),
    "net.layers.0.out.weight": (4, 4),
    "net.layers.0.bend": (2, 4),
    "net.layers.13.mix.weight": (12, 4),
    "net.head.weight": (6, 4),
    "net.side.weight": (3, 5),
    "net.table": (2, 4),
    "net.layers.0.gate.weight": (3, 4),
    "net.layers.0.up.weight": (5, 4),
}
MADE_UP_SPLIT = {  # the same model in the other layout
    "blocks.0.attn.q.weight": (4, 4),
    "blocks.0.attn.k.weight": (4, 4),
    "blocks.0.attn.v.weight": (4, 4),
    "blocks.0.attn.q.bias": (4,),
    "blocks.0.attn.k.bias": (4,),
    "blocks.0.attn.v.bias": (4,),
    "blocks.0.attn.out.0.weight": (4, 4),
    "blocks.0.bend_table": (2, 4),
    "proj_out.weight": (6, 4),
    "proj_side.weight": (5, 3),
    "table": (2, 4),
}


@pytest.fixture
def keymap() -> KeyMap:
    return KeyMap((MADE_UP_SHAPES, [FoundArch(MADE_UP, None, "net.")]))


@pytest.mark.parametrize(
    ("name", "param", "expected"),
    [
        ("lora_unet_layers_0_mix", "weight", Target("net.layers.0.mix.weight", (12, 4))),
        ("diffusion_model.layers.0.mix", "weight", Target("net.layers.0.mix.weight", (12, 4))),
        ("lora_unet_blocks_0_attn_q", "weight", Target("net.layers.0.mix.weight", (4, 4), start=0)),
        ("transformer.blocks.0.attn.kv", "weight", Target("net.layers.0.mix.weight", (8, 4), start=4)),
        ("transformer.blocks.0.attn.kv", "bias", Target("net.layers.0.mix.bias", (8,), start=4)),
        ("transformer.blocks.0.attn.k", "weight", Target("net.layers.0.mix.weight", (4, 4), start=4)),
        ("transformer.blocks.0.attn.v", "bias", Target("net.layers.0.mix.bias", (4,), start=8)),
        ("transformer.blocks.0.attn.v.bias", "weight", Target("net.layers.0.mix.bias", (4,), start=8)),
        ("diffusion_model.layers.0", "bend", Target("net.layers.0.bend", (2, 4))),
        ("lycoris_blocks_13_attn_q", "weight", Target("net.layers.13.mix.weight", (4, 4), start=0)),
        ("blocks.0.attn.out.0", "weight", Target("net.layers.0.out.weight", (4, 4))),
        ("transformer.proj_out", "weight", Target("net.head.weight", (6, 4), order=((3, 3), (0, 3)))),
        ("proj_side", "weight", Target("net.side.weight", (5, 3), transposed=True)),
        ("diffusion_model.table", "weight", Target("net.table", (2, 4))),
        ("lora_unet_layers_0_out", "bias", None),  # the module has none
        ("lora_unet_layers_1_mix", "weight", None),
        ("lora_te_layers_0_mix", "weight", None),  # a text encoder's name
        # half dotted, half flat
        ("lora_unet_layers.0.mix", "weight", Target("net.layers.0.mix.weight", (12, 4))),
        ("diffusion_model.layers_0_mix", "weight", Target("net.layers.0.mix.weight", (12, 4))),
        ("diffusion_model.layers_0_mixed", "weight", None),
    ],
)
def test_a_made_up_architecture_resolves_by_its_data_alone(
    keymap: KeyMap, name: str, param: str, expected: Target | None
) -> None:
    assert keymap.find(name, param) == ((expected,) if expected else ())


def test_a_name_that_fuses_modules_addresses_each_of_them(keymap: KeyMap) -> None:
    assert keymap.find("lora_unet_layers_0_gate_up") == (
        Target("net.layers.0.gate.weight", (3, 4), rows=(0, 8)),
        Target("net.layers.0.up.weight", (5, 4), rows=(3, 8)),
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("blocks.0.attn.q", [Target("blocks.0.attn.q.weight", (4, 4))]),
        (
            "lora_unet_blocks_0_attn_kv",
            [
                Target("blocks.0.attn.k.weight", (4, 4), rows=(0, 8)),
                Target("blocks.0.attn.v.weight", (4, 4), rows=(4, 8)),
            ],
        ),
        (
            "layers.0.mix",
            [
                Target(f"blocks.0.attn.{part}.weight", (4, 4), rows=(row, 12))
                for part, row in zip("qkv", (0, 4, 8), strict=True)
            ],
        ),
        ("layers.0.out", [Target("blocks.0.attn.out.0.weight", (4, 4))]),
        ("head", [Target("proj_out.weight", (6, 4), order=((3, 3), (0, 3)))]),
        ("lora_unet_proj_out", [Target("proj_out.weight", (6, 4))]),
        ("side", [Target("proj_side.weight", (3, 5), transposed=True)]),
        ("diffusion_model.table", [Target("table", (2, 4))]),
        ("layers.1.mix", []),
    ],
)
def test_a_file_in_the_other_layout_takes_names_of_both(name: str, expected: list[Target]) -> None:
    keymap = KeyMap((MADE_UP_SPLIT, [FoundArch(MADE_UP, None, "", renamed=True)]))
    assert keymap.find(name) == tuple(expected)


def test_a_parameter_of_a_module_may_have_another_name_there() -> None:
    keymap = KeyMap((MADE_UP_SPLIT, [FoundArch(MADE_UP, None, "", renamed=True)]))
    for name, param in (("layers.0", "bend"), ("lora_unet_layers_0", "bend"), ("blocks.0.bend_table", "weight")):
        assert keymap.find(name, param) == (Target("blocks.0.bend_table", (2, 4)),)


def test_a_module_of_which_a_piece_is_missing_has_no_place() -> None:
    shapes = {key: shape for key, shape in MADE_UP_SPLIT.items() if key != "blocks.0.attn.k.weight"}
    keymap = KeyMap((shapes, [FoundArch(MADE_UP, None, "", renamed=True)]))
    assert keymap.find("layers.0.mix") == ()
    assert len(keymap.find("layers.0.mix", "bias")) == 3


def test_a_row_that_drops_a_level_leads_back_from_nothing() -> None:
    rows = (Rename("model.{rest}", "{rest}"), Rename("model.layers.{i}.q", "blocks.{i}.to_q"))
    engine = Renames(rows)
    assert [name for name, _, _ in engine.names("model.layers.0.q", (4, 4))] == [
        "model.layers.0.q", "blocks.0.to_q", "layers.0.q",
    ]  # fmt: skip
    assert engine.origin("blocks.0.to_q", (4, 4)).module == "model.layers.0.q"
    assert engine.origin("layers.0.q", (4, 4)).module == "layers.0.q"


def test_a_number_sign_in_a_name_is_no_number(keymap: KeyMap) -> None:
    assert keymap.find("transformer.blocks.#.attn.q") == ()
    assert Renames(MADE_UP.renames).origin("blocks.#.attn.q", (4, 4)).module == "blocks.#.attn.q"


def test_a_prefix_tells_whether_a_name_belongs_elsewhere(keymap: KeyMap) -> None:
    assert keymap.is_elsewhere("lora_te1_text_model_encoder_layers_0_mlp_fc1")
    assert keymap.is_elsewhere("text_encoders.clip_l.transformer.text_model.final_layer_norm")
    assert not keymap.is_elsewhere("lora_unet_no_such")
    assert not keymap.is_elsewhere("no.prefix.at.all")


def test_one_name_for_two_modules_is_an_error() -> None:
    shapes = {"layers.0.mix.weight": (12, 4), "a.b_c.weight": (2, 2), "a_b.c.weight": (2, 2)}
    assert samples.message(KeyCollisionError, lambda: KeyMap((shapes, [FoundArch(MADE_UP, None, "")]))) == (
        "a_b_c: addresses both a.b_c and a_b.c of this checkpoint."
    )


def test_one_name_for_a_module_and_a_renamed_one_is_an_error() -> None:
    shapes = {"layers.0.mix.weight": (12, 4), "blocks.0.attn.q.weight": (4, 4)}
    assert samples.message(KeyCollisionError, lambda: KeyMap((shapes, [FoundArch(MADE_UP, None, "")]))) == (
        "blocks.0.attn.q: addresses both layers.0.mix and blocks.0.attn.q of this checkpoint."
    )


def test_one_name_for_weights_of_two_files_is_an_error() -> None:
    first = manifests.checkpoint("te_clip_l").keys
    second = samples.prefixed("te_clip_l", "clip_l.transformer.")
    keymap = KeyMap((first, detect(first)), (second, detect(second)))
    module = "text_model.encoder.layers.0.mlp.fc1"
    assert samples.message(KeyCollisionError, lambda: keymap.find("lora_te1_text_model_encoder_layers_0_mlp_fc1")) == (
        "lora_te1_text_model_encoder_layers_0_mlp_fc1: addresses several weights of this checkpoint: "
        f"clip_l.transformer.{module}.weight, {module}.weight."
    )


# Targets


def test_parts_are_taken_and_put_back() -> None:
    weight = torch.arange(24.0).reshape(6, 4)
    for target, expected in {
        Target("k", (6, 4)): weight,
        Target("k", (2, 4), start=2): weight[2:4],
        Target("k", (4, 6), transposed=True): weight.t(),
        Target("k", (6, 4), order=((3, 3), (0, 3))): torch.cat((weight[3:], weight[:3])),
        Target("k", (4, 4), start=1, order=((3, 2), (1, 2))): weight[[3, 4, 1, 2]],
    }.items():
        assert torch.equal(target.take(weight), expected)
        changed = weight.clone()
        target.put(changed, target.take(changed) + 100)
        assert torch.equal(target.take(changed), expected + 100)
        assert int((changed != weight).sum()) == expected.numel()
