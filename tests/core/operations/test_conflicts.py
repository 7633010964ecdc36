"""How the LoRAs of a stack agree, against dense algebra in fp64; names of several dialects mean the same layers."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

import lora_core
from lora_core.errors import OptionError
from tests import tiny
from tests.core.samples import load, message, save, sparse_checkpoint

TIGHT = 1e-6  # relative: factors come in fp32 with scale and strength folded in
Deltas = Mapping[str, torch.Tensor]  # module of the own layout -> the change at strength 1, fp64


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_tiny("flux", tmp_path_factory.mktemp("base") / "flux.safetensors")


def random(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    return tiny.random_normal(name, shape, 0)


def lora(path: Path, seed: int, rank: int = 4, leave_out: str = "-") -> Path:
    modules = {name: shape for name, shape in tiny.modules("flux").items() if leave_out not in name}
    return tiny.make_lora(path, tiny.flat("lora_unet_", modules), rank, seed=seed, dtype=torch.float32)


def deltas(path: Path) -> dict[str, torch.Tensor]:
    tensors = load(path)
    return {
        name: tensors[f"{flat}.lora_up.weight"].double() @ tensors[f"{flat}.lora_down.weight"].double()
        for name in tiny.modules("flux")
        if f"{(flat := 'lora_unet_' + name.replace('.', '_'))}.lora_up.weight" in tensors
    }


def product(first: Deltas, second: Deltas, part: str = "") -> float:
    return sum(float((first[name] * second[name]).sum()) for name in first if name in second and part in name)


def cosine(first: Deltas, second: Deltas, part: str = "") -> float:
    return product(first, second, part) / (product(first, first, part) * product(second, second, part)) ** 0.5


def interference(stack: list[tuple[Deltas, float]], part: str = "") -> float:
    apart = sum(weight**2 * product(one, one, part) for one, weight in stack)
    return sum(w * v * product(one, two, part) for one, w in stack for two, v in stack) / apart


def overlap(first: torch.Tensor, second: torch.Tensor) -> float:
    """‖Q₁ᵀQ₂‖_F² / min(r₁, r₂) − max(r₁, r₂) / m of the column spaces, from the dense changes."""
    spaces = []
    for delta in (first, second):
        left, values, _ = torch.linalg.svd(delta, full_matrices=False)
        spaces.append(left[:, values > 1e-5 * values[0]])
    ranks = sorted(space.shape[1] for space in spaces)
    return float((spaces[0].t() @ spaces[1]).square().sum()) / ranks[0] - ranks[1] / len(first)


@pytest.mark.parametrize("with_base", [True, False])
def test_against_the_dense_changes(tmp_path: Path, base: Path, with_base: bool) -> None:
    files = [lora(tmp_path / "a.safetensors", 0), lora(tmp_path / "b.safetensors", 1, rank=6, leave_out="single")]
    files.append(lora(tmp_path / "c.safetensors", 0, rank=2))  # its factors are not the first's, but near
    strengths = [1.0, 0.5, -0.7]
    stack = list(zip(files[1:], strengths[1:], strict=True))
    report = lora_core.inspect(files[0], [base] if with_base else [], stack=stack)
    dense = list(zip(map(deltas, files), strengths, strict=True))
    assert report.interference == pytest.approx(interference(dense), rel=TIGHT)
    for block in report.blocks:
        part = block["block"] + "."
        if "." in block["block"] and block["block"] != "final_layer.adaLN_modulation.1":
            own = [item for item in dense if product(item[0], item[0], part)]
            assert block["interference"] == pytest.approx(interference(own, part), rel=TIGHT)
    assert [pair["numbers"] for pair in report.pairs] == [[0, 1], [0, 2], [1, 2]]
    for pair in report.pairs:
        (one, first), (two, second) = (dense[number] for number in pair["numbers"])
        sign = 1 if first * second > 0 else -1
        assert pair["cosine"] == pytest.approx(sign * cosine(one, two), rel=TIGHT, abs=1e-9)
        shared = [name for name in one if name in two]
        assert pair["tensors"] == len(shared)
        weights = [float(one[name].norm() * two[name].norm()) for name in shared]
        for field, turned in (("column_overlap", False), ("row_overlap", True)):
            each = [overlap(one[n].t(), two[n].t()) if turned else overlap(one[n], two[n]) for n in shared]
            mean = sum(w * value for w, value in zip(weights, each, strict=True)) / sum(weights)
            assert pair[field] == pytest.approx(mean, abs=TIGHT)
        by_block = {entry["block"]: entry for entry in pair["blocks"]}
        wanted = sign * cosine(one, two, "double_blocks.0.")
        assert by_block["double_blocks.0"]["cosine"] == pytest.approx(wanted, rel=TIGHT, abs=1e-9)
    assert "single_blocks.0" not in {entry["block"] for entry in report.pairs[0]["blocks"]}


def test_a_fused_weight_and_its_pieces_are_the_same_layer(tmp_path: Path, base: Path) -> None:
    """A has qkv in one; B, in diffusers' names, has q and v of their own: the rows of qkv that they are count."""
    up, down = random("up", (384, 4)), random("down", (4, 128))
    first = {"lora_unet_double_blocks_0_img_attn_qkv.lora_up.weight": up}
    first["lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight"] = down
    second: dict[str, torch.Tensor] = {}
    whole = torch.zeros(384, 128, dtype=torch.float64)
    for name, start in (("to_q", 0), ("to_v", 256)):
        b, a = random(name, (128, 2)) + up[start : start + 128, :2], down[:2] + 0.1
        second[f"transformer.transformer_blocks.0.attn.{name}.lora_B.weight"] = b
        second[f"transformer.transformer_blocks.0.attn.{name}.lora_A.weight"] = a
        whole[start : start + 128] = b.double() @ a.double()
    files = [save(tmp_path / f"{name}.safetensors", one) for name, one in (("a", first), ("b", second))]
    (pair,) = lora_core.inspect(files[0], [base], stack=files[1:]).pairs
    one, two = {"qkv": up.double() @ down.double()}, {"qkv": whole}
    assert pair["tensors"] == 1
    assert pair["cosine"] == pytest.approx(cosine(one, two), rel=TIGHT)
    assert abs(pair["cosine"]) > 0.3
    assert pair["column_overlap"] == pytest.approx(overlap(one["qkv"], two["qkv"]), abs=TIGHT)
    assert pair["row_overlap"] == pytest.approx(overlap(one["qkv"].t(), two["qkv"].t()), abs=TIGHT)


def test_halves_that_change_places_are_the_same_layer(tmp_path: Path, base: Path) -> None:
    """Diffusers has scale and shift of the last norm the other way round."""
    up, down = random("up", (256, 4)), random("down", (4, 128))
    own = "lora_unet_final_layer_adaLN_modulation_1"
    first = {f"{own}.lora_up.weight": up, f"{own}.lora_down.weight": down}
    swapped = torch.cat((up[128:], up[:128]))
    second = {"transformer.norm_out.linear.lora_B.weight": swapped, "transformer.norm_out.linear.lora_A.weight": down}
    files = [save(tmp_path / f"{name}.safetensors", one) for name, one in (("a", first), ("b", second))]
    report = lora_core.inspect(files[0], [base], stack=files[1:])
    assert report.pairs[0]["cosine"] == pytest.approx(1.0, abs=TIGHT)
    assert report.interference == pytest.approx(2.0, abs=TIGHT)


def test_dialects_meet_without_a_model(tmp_path: Path) -> None:
    """The outline of the model that the names tell says that kohya's and diffusers' names are one layer."""
    shape = (640, 2048)
    tail = "transformer_blocks_0_attn2_to_k"
    first = tiny.make_lora(tmp_path / "a.safetensors", {f"lora_unet_input_blocks_4_1_{tail}": shape}, 3)
    tensors = load(first)
    up, down = (tensors[f"lora_unet_input_blocks_4_1_{tail}.lora_{part}.weight"] for part in ("up", "down"))
    module = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
    second = save(tmp_path / "b.safetensors", {f"{module}.lora_B.weight": up, f"{module}.lora_A.weight": down})
    (pair,) = lora_core.inspect(first, stack=[second]).pairs
    assert (pair["tensors"], [entry["block"] for entry in pair["blocks"]]) == (1, ["input_blocks.4"])
    assert pair["cosine"] == pytest.approx(1.0, abs=TIGHT)


def test_dense_kinds_count_too(tmp_path: Path, base: Path) -> None:
    module = "lora_unet_double_blocks_0_img_attn_proj"
    diff, vector = random("diff", (128, 128)), random("bias", (128,))
    up, down = random("up", (128, 4)), random("down", (4, 128))
    first = save(tmp_path / "a.safetensors", {f"{module}.diff": diff, f"{module}.diff_b": vector})
    factors = {f"{module}.lora_up.weight": up, f"{module}.lora_down.weight": down, f"{module}.diff_b": vector * 2}
    second = save(tmp_path / "b.safetensors", factors)
    (pair,) = lora_core.inspect(first, [base], stack=[second]).pairs
    one = {"weight": diff.double(), "bias": vector.double()}
    two = {"weight": up.double() @ down.double(), "bias": vector.double() * 2}
    assert pair["cosine"] == pytest.approx(cosine(one, two), rel=TIGHT)
    assert pair["tensors"] == 2


def test_the_strengths_of_model_and_text_encoder_weigh_the_layers(tmp_path: Path) -> None:
    modules = {
        "lora_unet_double_blocks_0_img_attn_proj": (3072, 3072),
        "lora_te1_text_model_encoder_layers_0_mlp_fc1": (3072, 768),
    }
    files = [tiny.make_lora(tmp_path / f"{seed}.safetensors", modules, 2, seed=seed) for seed in (0, 1)]
    report = lora_core.inspect((files[0], 0.5, 2.0), stack=[(files[1], 1.0, 0.0)])
    (pair,) = report.pairs
    blocks = {entry["block"]: entry for entry in pair["blocks"]}
    assert list(blocks) == ["double_blocks.0"], "the second LoRA leaves the text encoder as it is"
    stored = [load(path) for path in files]
    dense = [
        {name: (t[f"{name}.lora_up.weight"].double() @ t[f"{name}.lora_down.weight"].double()) for name in modules}
        for t in stored
    ]
    for number, strengths in enumerate(((0.5, 2.0), (1.0, 0.0))):
        dense[number] = {name: dense[number][name] * s for name, s in zip(modules, strengths, strict=True)}
    assert pair["cosine"] == pytest.approx(cosine(*dense), rel=TIGHT)
    assert [lora.strength_clip for lora in report.loras] == [2.0, 0.0]


@pytest.mark.parametrize(("strength", "how"), [(0.5, ""), (-0.5, " at opposite strengths")])
def test_one_lora_given_twice_is_told(tmp_path: Path, strength: float, how: str) -> None:
    first = lora(tmp_path / "a.safetensors", 0)
    again = save(tmp_path / "again.safetensors", {name: t.half() for name, t in load(first).items()})
    report = lora_core.inspect(first, stack=[(again, strength), lora(tmp_path / "b.safetensors", 1)])
    sign = "" if strength > 0 else "-"
    assert report.warnings == [
        f"a.safetensors and again.safetensors make the same change{how} (cosine {sign}1.0000): "
        "is it one LoRA, given twice?"
    ]


def test_loras_of_different_models_do_not_compare(tmp_path: Path) -> None:
    flux = lora(tmp_path / "flux.safetensors", 0)
    module = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k"
    other = tiny.make_lora(tmp_path / "sdxl.safetensors", {module: (640, 2048)}, 2)
    wanted = (
        "sdxl.safetensors: is for SDXL, but flux.safetensors is for Flux.1; "
        "LoRAs compare with those of the same model only."
    )
    assert message(OptionError, lambda: lora_core.inspect(flux, stack=[other])) == wanted


def test_a_checkpoint_has_no_stack(tmp_path: Path, base: Path) -> None:
    other = lora(tmp_path / "a.safetensors", 0)
    wanted = "flux.safetensors: is a checkpoint; a stack is compared with LoRAs, so inspect one of them."
    assert message(OptionError, lambda: lora_core.inspect(base, stack=[other])) == wanted


def test_broken_layers_are_left_out_and_named(tmp_path: Path) -> None:
    first, second = lora(tmp_path / "a.safetensors", 0), lora(tmp_path / "b.safetensors", 1)
    tensors = load(second)
    tensors["lora_unet_img_in.lora_up.weight"][0, 0] = float("nan")
    report = lora_core.inspect(first, stack=[save(tmp_path / "c.safetensors", tensors)])
    assert "img_in" not in {entry["block"] for entry in report.pairs[0]["blocks"]}
    whole = lora_core.inspect(first, stack=[second]).pairs[0]
    assert report.pairs[0]["tensors"] == whole["tensors"] - 1
    assert len(report.warnings) == 1 and "in 1 layer: lora_unet_img_in." in report.warnings[0]


def test_layers_of_zeros_agree_with_nothing(tmp_path: Path) -> None:
    first, second = lora(tmp_path / "a.safetensors", 0), lora(tmp_path / "b.safetensors", 1)
    zeros = {name: torch.zeros_like(t) if "lora_up" in name else t for name, t in load(second).items()}
    report = lora_core.inspect(first, stack=[save(tmp_path / "c.safetensors", zeros)])
    (pair,) = report.pairs
    assert (pair["cosine"], pair["column_overlap"], pair["tensors"], report.interference) == (None, None, 0, None)
    assert "cosine -, overlap of outputs -" in report.text()


def test_many_loras_have_all_pairs(tmp_path: Path) -> None:
    files = [lora(tmp_path / f"{seed}.safetensors", seed, rank=1) for seed in range(7)]
    report = lora_core.inspect(files[0], stack=files[1:])
    assert [tuple(pair["numbers"]) for pair in report.pairs] == list(itertools.combinations(range(7), 2))
    assert "the 15 closest pairs" in report.text()


def test_a_widened_layer_meets_one_that_is_not(tmp_path: Path) -> None:
    """ComfyUI's reshape_weight: the widened change is compared where both have numbers."""
    model = sparse_checkpoint(tmp_path / "flux.safetensors", "flux1_dev")
    up, down = random("up", (3072, 2)), random("down", (2, 128))
    wide = {"lora_unet_img_in.lora_up.weight": up, "lora_unet_img_in.lora_down.weight": down}
    wide["lora_unet_img_in.reshape_weight"] = torch.tensor([3072, 128])
    narrow = {"lora_unet_img_in.lora_up.weight": up, "lora_unet_img_in.lora_down.weight": down[:, :64].contiguous()}
    files = [save(tmp_path / f"{name}.safetensors", one) for name, one in (("a", wide), ("b", narrow))]
    (pair,) = lora_core.inspect(files[0], [model], stack=files[1:]).pairs
    one, two = {"w": up.double() @ down.double()}, {"w": up.double() @ down.double()}
    two["w"][:, 64:] = 0
    assert pair["cosine"] == pytest.approx(cosine(one, two), rel=TIGHT)
