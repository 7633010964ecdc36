"""A stack as one LoRA: the exact sum of every mix of kinds and dialects, the optimum at a rank, and bad input.

Expected changes are dense products in fp64, written out here from the tensors of the files.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import lora_core
from lora_core.errors import AdapterError, LoraError, NothingMatchedError, OptionError, OutputError, UnmatchedError
from lora_core.naming.keymap import KeyMap
from lora_core.naming.outlines import outlined, read_outline
from lora_core.reading.checkpoint import Checkpoint
from lora_core.reading.lorafile import LoraFile
from tests.core.samples import listing, load, message, metadata_of, python, same_bytes, save
from tests.tiny import random_normal

Tensors = dict[str, torch.Tensor]
Changes = dict[str, torch.Tensor]  # key of the base's weight -> its change in fp64

# fp32 holds a factor to 6e-8; a product and a sum of a few of them stay below this share of the change
FP32 = 1e-6
FP16 = 2**-11  # of each value of one factor

SIDE = 64
FLUX = {
    "img_in.weight": (SIDE, 16),
    "vector_in.in_layer.weight": (SIDE, 8),
    "guidance_in.in_layer.weight": (SIDE, 8),
    "double_blocks.0.img_attn.norm.key_norm.scale": (16,),
    "double_blocks.0.img_attn.qkv.weight": (3 * SIDE, SIDE),
    "double_blocks.0.img_attn.qkv.bias": (3 * SIDE,),
    "double_blocks.0.img_attn.proj.weight": (SIDE, SIDE),
    "double_blocks.0.img_mlp.0.weight": (4 * SIDE, SIDE),
}
QKV, PROJ, MLP = (f"double_blocks.0.{name}.weight" for name in ("img_attn.qkv", "img_attn.proj", "img_mlp.0"))
KOHYA = {QKV: "lora_unet_double_blocks_0_img_attn_qkv", PROJ: "lora_unet_double_blocks_0_img_attn_proj"}
THERE = "transformer.transformer_blocks.0.attn."


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tensors = {key: random_normal(key, shape, 5) / shape[-1] ** 0.5 for key, shape in FLUX.items()}
    return save(tmp_path_factory.mktemp("base") / "base.safetensors", tensors)


def draw(name: str, *shape: int) -> torch.Tensor:
    return random_normal(name, shape, 1) / max(1, shape[-1]) ** 0.5


def lora(module: str, rows: int, columns: int, rank: int = 4, alpha: float = 3.0, seed: str = "") -> Tensors:
    return {
        f"{module}.lora_up.weight": draw(f"{module}up{seed}", rows, rank),
        f"{module}.lora_down.weight": draw(f"{module}down{seed}", rank, columns),
        f"{module}.alpha": torch.tensor(alpha),
    }


def dense_lora(tensors: Tensors, module: str) -> torch.Tensor:
    up, down = (tensors[f"{module}.lora_{part}.weight"].double() for part in ("up", "down"))
    return up.flatten(1) @ down.flatten(1) * (float(tensors[f"{module}.alpha"]) / down.shape[0])


def of_file(path: Path, base: Path | None = None, arch: str = "sdxl") -> Changes:
    """Return what a file of additive kinds changes in each weight, in fp64 and flattened, by where its names lead."""
    result: Changes = {}
    with LoraFile(path) as file:
        if base:
            with Checkpoint(base) as checkpoint:
                keymap, shapes = checkpoint.keymap, checkpoint.shapes
        else:
            model = next(item for item in outlined(arch) if item.id == arch)
            found = [model, *(outlined(name)[0] for name in model.text_encoders)]
            files = [  # both text encoders have keys alike
                ({f"{item.id} {key}": shape for key, shape in read_outline(item.id).shapes.items()},
                 [replace(item, prefix=f"{item.id} {item.prefix}")])
                for item in found
            ]  # fmt: skip
            keymap, shapes = KeyMap(*files), {key: shape for keys, _ in files for key, shape in keys.items()}
        for spec in file.adapters:
            adapter = file.adapter(spec)
            factors = adapter.factors()
            targets = keymap.find(spec.module, spec.param)
            assert targets, spec.module
            for target in targets:
                first = target.rows[0] if target.rows else 0
                if factors is None:
                    delta = (
                        adapter.delta(torch.zeros(target.adapter_shape)).double().flatten(1 if target.shape[1:] else 0)
                    )
                else:
                    delta = factors[0].double() @ factors[1].double()
                whole = result.setdefault(target.key, torch.zeros(shapes[target.key], dtype=torch.float64))
                part = target.take(whole)
                target.put(whole, part + delta[first : first + target.shape[0]].reshape(part.shape))
    return {key: change.flatten(1) if change.dim() > 1 else change for key, change in result.items()}


def deviation(got: Changes, expected: Changes) -> float:
    assert set(got) == set(expected)
    return max(float((got[key] - expected[key]).norm() / expected[key].norm()) for key in expected)


PROJ_IN = "lora_unet_middle_block_1_transformer_blocks_3_attn2_to_k"
QUERY = "lora_te1_text_model_encoder_layers_0_self_attn_q_proj"
CONV = "lora_unet_input_blocks_1_0_in_layers_2"
PLACES = {
    PROJ_IN: "sdxl middle_block.1.transformer_blocks.3.attn2.to_k.weight",
    QUERY: "clip_l text_model.encoder.layers.0.self_attn.q_proj.weight",
    CONV: "sdxl input_blocks.1.0.in_layers.2.weight",
}


def sdxl(path: Path, seed: str, rank: int = 4, dtype: torch.dtype = torch.float32, **metadata: str) -> Path:
    tensors = {**lora(PROJ_IN, 1280, 2048, rank, seed=seed), **lora(QUERY, 768, 768, rank, seed=seed)}
    conv = lora(CONV, 320, 320 * 9, rank, seed=seed)
    conv[f"{CONV}.lora_down.weight"] = conv[f"{CONV}.lora_down.weight"].reshape(rank, 320, 3, 3)
    conv[f"{CONV}.lora_up.weight"] = conv[f"{CONV}.lora_up.weight"].reshape(320, rank, 1, 1)
    return save(path, {name: tensor.to(dtype) for name, tensor in {**tensors, **conv}.items()}, metadata)


def expected(*stack: tuple[Path, float, float]) -> Changes:
    result: Changes = {}
    for path, strength, clip in stack:
        tensors = load(path)
        for module, key in PLACES.items():
            delta = dense_lora(tensors, module) * (clip if module == QUERY else strength)
            result[key] = result.get(key, 0) + delta
    return result


@pytest.mark.parametrize("dialect", ["kohya", "comfy", "diffusers"])
def test_the_sum_is_exact_with_a_strength_of_its_own_on_the_text_encoder(tmp_path: Path, dialect: Any) -> None:
    stack = [
        (sdxl(tmp_path / "a.safetensors", "a"), 0.8, 0.3),
        (sdxl(tmp_path / "b.safetensors", "b", 3), -0.5, 1.5),
        (sdxl(tmp_path / "c.safetensors", "c", 6), 1.0, -1.0),
    ]
    out = tmp_path / "out.safetensors"
    report = lora_core.combine(stack, out, dialect=dialect)
    assert deviation(of_file(out), expected(*stack)) < FP32
    assert {layer["rank"] for layer in report.layers} == {13}
    assert (report.operation, report.warnings, len(report.layers)) == ("combine", [], 3)
    assert "sum; 3 layers, rank 13" in report.notes


def test_a_lora_with_itself_at_a_half_and_a_half_is_itself(tmp_path: Path) -> None:
    """Byte for byte, its alpha too, in fp16."""
    one = sdxl(tmp_path / "one.safetensors", "x", dtype=torch.float16)
    report = lora_core.combine([(one, 0.5), (one, 0.5)], tmp_path / "out.safetensors")
    before, after = load(one), load(tmp_path / "out.safetensors")
    assert set(before) == set(after)
    assert all(same_bytes(before[name].float(), after[name].float()) for name in before)
    assert all(after[name].dtype == torch.float16 for name in before if not name.endswith("alpha"))
    assert report.warnings == ["one.safetensors: is in the stack more than once; its strengths add up."]


def test_a_lora_by_itself_keeps_its_factors_and_its_alpha_takes_the_strength(tmp_path: Path) -> None:
    one = sdxl(tmp_path / "one.safetensors", "x", dtype=torch.float16)
    lora_core.combine([(one, -0.7)], tmp_path / "out.safetensors")
    before, after = load(one), load(tmp_path / "out.safetensors")
    assert torch.equal(after[f"{PROJ_IN}.lora_down.weight"], before[f"{PROJ_IN}.lora_down.weight"])
    assert torch.equal(after[f"{PROJ_IN}.lora_up.weight"], -before[f"{PROJ_IN}.lora_up.weight"])
    assert float(after[f"{PROJ_IN}.alpha"]) == pytest.approx(0.7 * 3.0)
    assert deviation(of_file(tmp_path / "out.safetensors"), expected((one, -0.7, -0.7))) < FP32


def test_the_same_lora_in_pieces_and_fused_has_its_own_rank(tmp_path: Path, base: Path) -> None:
    """Nothing is equal there, but the rows of the down factors depend on each other."""
    names = [f"{THERE}to_{part}" for part in "qkv"]
    pieces: Tensors = {}
    for name in names:
        pieces[f"{name}.lora_B.weight"], pieces[f"{name}.lora_A.weight"] = (
            draw(name, SIDE, 3),
            draw(name + "a", 3, SIDE),
        )
    split = save(tmp_path / "split.safetensors", pieces)
    lora_core.convert(split, tmp_path / "fused.safetensors", dialect="kohya", base=base)
    out = tmp_path / "out.safetensors"
    report = lora_core.combine([(split, 0.3), (tmp_path / "fused.safetensors", 0.7)], out, base=base)
    assert [layer["rank"] for layer in report.layers] == [9]
    assert deviation(of_file(out, base), of_file(split, base)) < FP32


def loha(module: str, rows: int, columns: int) -> tuple[Tensors, torch.Tensor]:
    shapes = {"w1_a": (rows, 2), "w1_b": (2, columns), "w2_a": (rows, 2), "w2_b": (2, columns)}
    parts = {name: draw(f"{module}{name}", *shape) for name, shape in shapes.items()}
    a, b, c, d = (part.double() for part in parts.values())
    tensors = {f"{module}.hada_{name}": part for name, part in parts.items()}
    return {**tensors, f"{module}.alpha": torch.tensor(1.0)}, (a @ b) * (c @ d) / 2


def lokr(module: str, rows: int, columns: int) -> tuple[Tensors, torch.Tensor]:
    one, a, b = draw(module, 4, 4), draw(module + "a", rows // 4, 3), draw(module + "b", 3, columns // 4)
    tensors = {f"{module}.lokr_w1": one, f"{module}.lokr_w2_a": a, f"{module}.lokr_w2_b": b}
    return {**tensors, f"{module}.alpha": torch.tensor(3.0)}, torch.kron(one.double(), a.double() @ b.double())


def full(module: str, rows: int, columns: int) -> tuple[Tensors, torch.Tensor]:
    diff = draw(module + "full", rows, columns) / 10
    return {f"{module}.diff": diff}, diff.double()


@pytest.mark.parametrize("dialect", ["kohya", "comfy", "diffusers", "peft"])
def test_kinds_and_dialects_mix(tmp_path: Path, base: Path, dialect: Any) -> None:
    """LoRA on a fused weight, LoRA on pieces of it by other names, LoHa and LoKr."""
    name = "lycoris_double_blocks_0_img_attn_proj"
    (hada, hada_delta), (kron, kron_delta) = loha(name, SIDE, SIDE), lokr(KOHYA[QKV], 3 * SIDE, SIDE)
    fused = lora(KOHYA[QKV], 3 * SIDE, SIDE)
    value, out_proj = (f"{THERE}{part}" for part in ("to_v", "to_out.0"))
    there = {
        f"{module}.lora_{part}.weight": draw(module + part, *((SIDE, 2) if part == "B" else (2, SIDE)))
        for module in (value, out_proj)
        for part in "AB"
    }
    products = {
        m: there[f"{m}.lora_B.weight"].double() @ there[f"{m}.lora_A.weight"].double() for m in (value, out_proj)
    }
    files = [save(tmp_path / f"{n}.safetensors", t) for n, t in enumerate((fused, hada, kron, there))]
    out = tmp_path / "out.safetensors"
    report = lora_core.combine(list(zip(files, (0.9, 0.7, -0.4, 1.1), strict=True)), out, dialect=dialect, base=base)
    qkv = 0.9 * dense_lora(fused, KOHYA[QKV]) - 0.4 * kron_delta
    qkv[2 * SIDE :] += 1.1 * products[value]
    assert deviation(of_file(out, base), {QKV: qkv, PROJ: 0.7 * hada_delta + 1.1 * products[out_proj]}) < FP32
    assert all(layer["energy"] == 1 for layer in report.layers)
    with LoraFile(out) as file:
        assert (file.kinds, file.dialect) == (["LoRA"], dialect)


def test_a_full_difference_is_fitted_and_its_error_stated(tmp_path: Path, base: Path) -> None:
    whole, delta = full(KOHYA[PROJ], SIDE, SIDE)
    plain = lora(KOHYA[PROJ], SIDE, SIDE)
    files = [save(tmp_path / f"{n}.safetensors", tensors) for n, tensors in enumerate((whole, plain))]
    out = tmp_path / "out.safetensors"
    report = lora_core.combine([(files[0], 0.5), (files[1], 2.0)], out, base=base, max_rank=8)
    exact = 0.5 * delta + 2.0 * dense_lora(plain, KOHYA[PROJ])
    values = torch.linalg.svdvals(exact)
    (layer,) = report.layers
    assert layer["rank"] == 8
    assert layer["energy"] == pytest.approx(float(values[:8].square().sum() / values.square().sum()), rel=1e-5)
    error = float((of_file(out, base)[PROJ] - exact).norm())
    assert error == pytest.approx(float(values[8:].square().sum()) ** 0.5, rel=1e-5)
    assert "lost" in report.text() and layer["name"] in report.text()
    lora_core.combine([(files[0], 0.5), (files[0], 0.25)], tmp_path / "full.safetensors", base=base)
    (name,) = load(tmp_path / "full.safetensors")
    assert name.endswith(".diff"), "differences alone stay one, exactly"
    assert deviation(of_file(tmp_path / "full.safetensors", base), {PROJ: 0.75 * delta}) < FP32


def test_biases_and_norms_are_added(tmp_path: Path, base: Path) -> None:
    norm = "diffusion_model.double_blocks.0.img_attn.norm.key_norm"
    first = {
        **lora(KOHYA[QKV], 3 * SIDE, SIDE),
        f"{KOHYA[QKV]}.diff_b": draw("b", 3 * SIDE),
        f"{norm}.diff": draw("n", 16),
    }
    second = {f"{KOHYA[QKV]}.diff_b": draw("c", 3 * SIDE)}
    files = [save(tmp_path / f"{n}.safetensors", tensors) for n, tensors in enumerate((first, second))]
    out = tmp_path / "out.safetensors"
    lora_core.combine([(files[0], 0.5), (files[1], -2.0)], out, base=base)
    got = of_file(out, base)
    bias = 0.5 * first[f"{KOHYA[QKV]}.diff_b"].double() - 2.0 * second[f"{KOHYA[QKV]}.diff_b"].double()
    assert torch.allclose(got["double_blocks.0.img_attn.qkv.bias"], bias, rtol=FP32)
    assert torch.allclose(got["double_blocks.0.img_attn.norm.key_norm.scale"], 0.5 * draw("n", 16).double(), rtol=FP32)
    report = lora_core.combine([(files[0], 0.5)], tmp_path / "there.safetensors", base=base, dialect="diffusers")
    assert any("biases and norms left out" in warning for warning in report.warnings)


def merged(folder: Path, base: Path, stack: Any) -> Tensors:
    lora_core.merge(base, stack, folder / "merged.safetensors", dtype="fp32", overwrite=True)
    return load(folder / "merged.safetensors")


def test_dora_and_oft_count_in_stack_order_on_the_base(tmp_path: Path, base: Path) -> None:
    dora = {**lora(KOHYA[PROJ], SIDE, SIDE), f"{KOHYA[PROJ]}.dora_scale": 1 + draw("m", SIDE, 1).abs()}
    oft = {f"{KOHYA[PROJ]}.oft_blocks": draw("oft", 4, 16, 16) / 10}
    plain = lora(KOHYA[PROJ], SIDE, SIDE, seed="p")
    files = [save(tmp_path / f"{n}.safetensors", tensors) for n, tensors in enumerate((dora, plain, oft))]
    stack = list(zip(files, (0.8, 0.6, 0.9), strict=True))
    out = tmp_path / "out.safetensors"
    lora_core.combine(stack, out, base=base, max_rank=SIDE)
    live, once = merged(tmp_path, base, stack)[PROJ], merged(tmp_path, base, [out])[PROJ]
    change = (live - load(base)[PROJ]).norm()
    assert float((once - live).norm() / change) < 1e-5
    report = lora_core.combine(stack, out, base=base, max_rank=4, overwrite=True)
    assert 0 < report.layers[0]["energy"] < 0.9


def test_dora_in_a_stack_needs_the_base(tmp_path: Path) -> None:
    plain = sdxl(tmp_path / "plain.safetensors", "a")
    dora = save(tmp_path / "dora.safetensors", {**load(plain), f"{PROJ_IN}.dora_scale": torch.ones(1280, 1)})
    text = message(OptionError, lambda: lora_core.combine([plain, dora], tmp_path / "out.safetensors"))
    assert f"dora.safetensors: {PROJ_IN}: the change of DoRA depends on the weight" in text
    assert "--base" in text
    assert listing(tmp_path) == ["dora.safetensors", "plain.safetensors"]


def test_dora_by_itself_at_strength_1_stays_what_it_is(tmp_path: Path, base: Path) -> None:
    dora = {**lora(KOHYA[PROJ], SIDE, SIDE), f"{KOHYA[PROJ]}.dora_scale": 1 + draw("m", SIDE, 1).abs()}
    files = [
        save(tmp_path / "dora.safetensors", dora),
        save(tmp_path / "plain.safetensors", lora(KOHYA[QKV], 3 * SIDE, SIDE)),
    ]
    out = tmp_path / "out.safetensors"
    lora_core.combine([files[0], (files[1], 0.5)], out, base=base)
    after = load(out)
    assert all(torch.equal(after[name].reshape(tensor.shape), tensor) for name, tensor in dora.items())


@pytest.mark.parametrize("rank", [1, 4, 9])
def test_truncation_is_the_optimum(tmp_path: Path, rank: int) -> None:
    stack = [(sdxl(tmp_path / f"{name}.safetensors", name), 0.7, 0.4) for name in "abcd"]
    out = tmp_path / "out.safetensors"
    report = lora_core.combine(stack, out, rank=rank, dtype="fp32")
    got = of_file(out)
    for key, exact in expected(*stack).items():
        values = torch.linalg.svdvals(exact)
        optimum = float(values[rank:].square().sum()) ** 0.5
        assert optimum <= float((got[key] - exact).norm()) * (1 + 1e-9)
        assert float((got[key] - exact).norm()) <= optimum * (1 + 1e-5)
    assert {layer["rank"] for layer in report.layers} == {rank}
    assert any(note.startswith("lost ") for note in report.notes)


def test_a_rank_that_holds_everything_cuts_nothing(tmp_path: Path) -> None:
    stack = [(sdxl(tmp_path / f"{name}.safetensors", name), 0.7, 0.4) for name in "ab"]
    out = tmp_path / "out.safetensors"
    report = lora_core.combine(stack, out, rank=8)
    assert deviation(of_file(out), expected(*stack)) < FP32
    assert {layer["energy"] for layer in report.layers} == {1.0}


def test_energy_and_budgets_decide_the_ranks(tmp_path: Path) -> None:
    stack = [(sdxl(tmp_path / f"{name}.safetensors", name), 0.7, 0.4) for name in "abcd"]
    out = tmp_path / "out.safetensors"
    report = lora_core.combine(stack, out, energy=0.9)
    exact = {layer["name"]: layer for layer in report.layers}
    for module, key in PLACES.items():
        squares = torch.linalg.svdvals(expected(*stack)[key]).square()
        wanted = int((squares.cumsum(0) / squares.sum() < 0.9).sum()) + 1
        assert exact[module]["rank"] == wanted
    report = lora_core.combine(stack, out, rank_by="total_error", threshold=0.4, overwrite=True, dtype="fp32")
    got, whole = of_file(out), expected(*stack)
    error = sum(float((got[key] - whole[key]).square().sum()) for key in whole)
    assert error <= 0.4**2 * sum(float(change.square().sum()) for change in whole.values())
    text = message(
        OptionError, lambda: lora_core.combine(stack, out, rank_by="relative", threshold=0.1, overwrite=True)
    )
    assert "give it with --base" in text


def test_the_widest_dtype_is_kept_and_rounding_is_said(tmp_path: Path) -> None:
    half, brain = (sdxl(tmp_path / f"{d}.safetensors", str(d), dtype=d) for d in (torch.float16, torch.bfloat16))
    out = tmp_path / "out.safetensors"
    for stack, dtype in (
        ([half, (half, 0.5)], torch.float16),
        ([brain], torch.bfloat16),
        ([half, brain], torch.float32),
    ):
        lora_core.combine(stack, out, overwrite=True)
        assert {tensor.dtype for name, tensor in load(out).items() if not name.endswith("alpha")} == {dtype}
    other = sdxl(tmp_path / "other.safetensors", "other", dtype=torch.float16)
    stack = [(half, 0.7, 0.7), (other, 0.3, 0.3)]
    report = lora_core.combine(stack, out, overwrite=True)
    assert FP32 < deviation(of_file(out), expected(*stack)) < FP16
    assert any("3 layers rounded to float16" in note for note in report.notes)
    stack = [(half, 0.5, 0.5), (other, -0.5, 0.5)]
    report = lora_core.combine(stack, out, overwrite=True)
    assert deviation(of_file(out), expected(*stack)) < FP32, "LoRAs of one weight keep their numbers"
    assert not any("rounded" in note for note in report.notes)


def test_metadata_tells_the_sources_and_what_they_agree_on(tmp_path: Path) -> None:
    same = {"ss_base_model_version": "sdxl_base_v1-0", "modelspec.author": "me"}
    a = sdxl(tmp_path / "a.safetensors", "a", **same, ss_tag_frequency="{}", **{"modelspec.trigger_phrase": "ink, pen"})
    b = sdxl(
        tmp_path / "b.safetensors", "b", **same, ss_tag_frequency="{1}", **{"modelspec.trigger_phrase": "pen, oil"}
    )
    out = tmp_path / "out.safetensors"
    lora_core.combine([(a, 1.0, 0.5), (b, -0.25)], out)
    found = metadata_of(out)
    assert {key: found[key] for key in same} == same
    assert "ss_tag_frequency" not in found
    assert found["modelspec.trigger_phrase"] == "ink, pen, oil"
    assert (found["ss_network_dim"], found["ss_network_alpha"]) == ("8", "8")
    note = json.loads(found["lora_core.combined_from"])
    assert note == {
        "loras": [
            {"name": "a.safetensors", "strength_model": 1.0, "strength_clip": 0.5},
            {"name": "b.safetensors", "strength_model": -0.25, "strength_clip": -0.25},
        ],
        "method": "sum",
    }


def test_rows_of_strength_0_are_skipped_and_said(tmp_path: Path) -> None:
    a, b = (sdxl(tmp_path / f"{name}.safetensors", name) for name in "ab")
    out = tmp_path / "out.safetensors"
    report = lora_core.combine([(a, 1.0), (b, 0.0)], out)
    assert "b.safetensors: strength 0, skipped" in report.notes
    assert [found.name for found in report.loras] == ["a.safetensors"]
    report = lora_core.combine([(a, 1.0, 0.0), (b, 1.0)], out, overwrite=True)
    assert deviation(of_file(out), expected((a, 1.0, 0.0), (b, 1.0, 1.0))) < FP32
    assert {layer["name"]: layer["rank"] for layer in report.layers}[QUERY] == 4


def test_bad_stacks(tmp_path: Path) -> None:
    a = sdxl(tmp_path / "a.safetensors", "a")
    out = tmp_path / "out.safetensors"

    def refused(error: type[LoraError], stack: Any, **options: Any) -> str:
        return message(error, lambda: lora_core.combine(stack, out, **options))

    assert "no LoRA given" in refused(OptionError, [])
    assert "every LoRA has strength 0" in refused(OptionError, [(a, 0.0)])
    assert "nothing is left" in refused(LoraError, [(a, 1.0), (a, -1.0)])
    assert "more than once" in refused(OptionError, [a, a], method="ties")
    flux = save(tmp_path / "flux.safetensors", lora("lora_unet_double_blocks_0_img_attn_qkv", 9216, 3072))
    text = refused(NothingMatchedError, [a, flux])
    assert "Flux.1" in text and "SDXL" in text and "flux.safetensors" in text and "a.safetensors" in text
    tensors = load(a)
    tensors[f"{CONV}.lora_up.weight"][3, 1] = float("nan")
    broken = save(tmp_path / "broken.safetensors", tensors)
    assert f"broken.safetensors: {CONV}: holds NaN or infinity" in refused(AdapterError, [a, broken])
    more = save(tmp_path / "more.safetensors", {**load(a), **lora("lora_unet_no_such_block", 8, 8)})
    assert "lora_unet_no_such_block" in refused(UnmatchedError, [more], on_unmatched="error")
    assert listing(tmp_path) == ["a.safetensors", "broken.safetensors", "flux.safetensors", "more.safetensors"]
    report = lora_core.combine([more], out)
    assert any("lora_unet_no_such_block" in warning for warning in report.warnings)
    assert "already exists" in refused(OutputError, [a])


def test_a_cancel_between_layers_leaves_nothing(tmp_path: Path) -> None:
    a = sdxl(tmp_path / "a.safetensors", "a")
    steps: list[tuple[int, int]] = []

    def on_step(done: int, total: int) -> None:
        steps.append((done, total))
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lora_core.combine([a], tmp_path / "out.safetensors", on_step=on_step)
    assert steps == [(0, 3), (1, 3), (2, 3)]
    assert listing(tmp_path) == ["a.safetensors"]


def test_command_and_workflow_do_the_same(tmp_path: Path) -> None:
    loras = tmp_path / "models" / "loras"
    a, b = (sdxl(loras / f"{name}.safetensors", name) for name in "ab")
    wanted, out = tmp_path / "wanted.safetensors", tmp_path / "out.safetensors"
    lora_core.combine([(a, 0.5, 0.25), (b, -1.0)], wanted, rank=5, dialect="comfy")
    done = python(
        *("-m", "lora_core", "combine", "--lora", str(a), "0.5", "0.25", "--lora", str(b), "-1", "--json"),
        *("--rank", "5", "--dialect", "comfy", "--out", str(out)),
    )
    assert json.loads(done.stdout)["operation"] == "combine", done.stderr
    rows = [
        {"name": "a.safetensors", "strength": 0.5, "strength_clip": 0.25},
        {"name": "b.safetensors", "strength": -1.0},
    ]
    inputs = {"lora_stack": ["1", 0], "rank": 5, "dialect": "comfy", "filename_prefix": "both"}
    workflow = {
        "1": {"class_type": "LoraCoreStack", "inputs": {"rows": {"v": 1, "rows": rows}}},
        "2": {"class_type": "LoraCoreCombine", "inputs": inputs},
    }
    (tmp_path / "workflow.json").write_text(json.dumps(workflow), encoding="utf-8")
    (report,) = lora_core.run(tmp_path / "workflow.json", models=tmp_path / "models")
    made = loras / report.outputs[0]["name"]
    assert wanted.read_bytes() == out.read_bytes() == made.read_bytes()
    done = python("-m", "lora_core", "combine", "--lora", str(a), "--out", str(out), "--method", "best")
    assert (done.returncode, "'best'" in done.stderr) == (2, True), done.stderr
