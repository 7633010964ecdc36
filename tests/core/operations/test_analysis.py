"""Sizes and spectra of a LoRA's layers, against the dense change in fp64; what can't be measured is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import lora_core
from lora_core.report import Report
from tests import tiny
from tests.core.samples import load, save

TIGHT = 1e-6  # relative: factors come in fp32 with the scale folded in, which rounds by 6e-8
PROJ, QKV, MLP = (f"lora_unet_double_blocks_0_img_{name}" for name in ("attn_proj", "attn_qkv", "mlp_0"))
KEY = "model.diffusion_model.double_blocks.0.img_{}.weight"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_tiny("flux", tmp_path_factory.mktemp("base") / "flux.safetensors")


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def layers(report: Report) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in report.layers}


def check(entry: dict[str, Any], delta: torch.Tensor, weight: torch.Tensor | None = None) -> None:
    """Compare what a report says of a layer with its dense change."""
    dense = delta.double().flatten(1)
    values = torch.linalg.svdvals(dense)
    shares = values.square() / values.square().sum()
    assert entry["norm"] == pytest.approx(float(dense.square().sum().sqrt()), rel=TIGHT)
    assert entry["spectral_norm"] == pytest.approx(float(values[0]), rel=TIGHT)
    assert entry["effective_rank"] == pytest.approx(
        float((-(shares * shares.clamp_min(1e-300).log()).sum()).exp()), rel=1e-5
    )
    assert entry["stable_rank"] == pytest.approx(float(values.square().sum() / values[0] ** 2), rel=TIGHT)
    relative = (values / values[0]).tolist()
    found = entry["spectrum"]
    assert len(found) <= 32
    assert found == pytest.approx(relative[: len(found)], abs=2e-6), "rounded to six places"
    assert max(relative[len(found) :][:1], default=0.0) < 1e-6 or len(found) == 32
    if weight is not None:
        size = float(weight.double().square().sum().sqrt())
        assert entry["weight_norm"] == pytest.approx(size, rel=TIGHT)
        assert entry["relative_size"] == pytest.approx(float(dense.square().sum().sqrt()) / size, rel=TIGHT)


def test_every_layer_against_the_dense_change(tmp_path: Path, base: Path) -> None:
    modules = tiny.flat("lora_unet_", tiny.modules("flux"))
    lora = tiny.make_lora(tmp_path / "lora.safetensors", modules, 4, alpha=2, dtype=torch.float32)
    report = lora_core.inspect(lora, [base], spectra=True)
    tensors, weights = load(lora), load(base)
    assert list(layers(report)) == list(dict.fromkeys(name.split(".")[0] for name in tensors))
    changed = whole = 0.0
    for name, dotted in zip(modules, tiny.modules("flux"), strict=True):
        delta = tensors[f"{name}.lora_up.weight"].double() @ tensors[f"{name}.lora_down.weight"].double() * 0.5
        weight = weights[f"model.diffusion_model.{dotted}.weight"]
        entry = layers(report)[name]
        check(entry, delta, weight)
        assert (entry["rank"], entry["kind"], entry["lora"], "problem" in entry) == (4, "LoRA", 0, False)
        changed += float(delta.square().sum())
        whole += float(weight.double().square().sum())
    assert report.loras[0].relative_size == pytest.approx((changed / whole) ** 0.5, rel=TIGHT)


def test_blocks_are_sums_of_their_layers(tmp_path: Path, base: Path) -> None:
    modules = tiny.flat("lora_unet_", tiny.modules("flux"))
    lora = tiny.make_lora(tmp_path / "lora.safetensors", modules, 4)
    report = lora_core.inspect(lora, [base], spectra=True)
    names = [block["block"] for block in report.blocks]
    assert {"double_blocks.0", "single_blocks.0", "img_in"} <= set(names)
    one = report.blocks[names.index("single_blocks.0")]["loras"][0]
    own = [entry for entry in report.layers if entry["block"] == "single_blocks.0"]
    squares = [entry["norm"] ** 2 for entry in own]
    assert (one["layers"], one["dead"], one["unmeasured"], one["rank"]) == (3, 0, 0, 4)
    assert one["norm"] == pytest.approx(sum(squares) ** 0.5)
    assert one["spectral_norm"] == max(entry["spectral_norm"] for entry in own)
    mean = sum(entry["effective_rank"] * square for entry, square in zip(own, squares, strict=True)) / sum(squares)
    assert one["effective_rank"] == pytest.approx(mean)
    weights = sum(entry["weight_norm"] ** 2 for entry in own)
    assert one["relative_size"] == pytest.approx((sum(squares) / weights) ** 0.5)
    assert one["spectrum"][0] == 1.0 and one["spectrum"] == sorted(one["spectrum"], reverse=True)


def test_without_a_model_there_are_sizes_and_blocks_all_the_same(tmp_path: Path) -> None:
    lora = tiny.make_lora(tmp_path / "lora.safetensors", {"lora_unet_single_blocks_7_linear2": (3072, 15360)}, 2)
    (entry,) = lora_core.inspect(lora, spectra=True).layers
    assert (entry["block"], entry["relative_size"], entry["weight_norm"]) == ("single_blocks.7", None, None)
    assert entry["norm"] > 0


def test_names_that_no_model_knows_are_grouped_by_their_first_number(tmp_path: Path) -> None:
    modules = {"lora_unet_some_layers_3_thing": (8, 8), "lora_te1_other_layers_5_thing": (8, 8), "alone": (8, 8)}
    report = lora_core.inspect(tiny.make_lora(tmp_path / "lora.safetensors", modules, 2), spectra=True)
    assert {entry["block"] for entry in report.layers} == {"some_layers_3", "te1 other_layers_5", "alone"}


def loha() -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    a, b, c, d = random(128, 3), random(3, 128, seed=1), random(128, 3, seed=2), random(3, 128, seed=3)
    parts = {"hada_w1_a": a, "hada_w1_b": b, "hada_w2_a": c, "hada_w2_b": d, "alpha": torch.tensor(1.5)}
    return parts, (a.double() @ b.double()) * (c.double() @ d.double()) * 0.5


def large_loha() -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    a, b, c, d = random(128, 16), random(16, 128, seed=1), random(128, 16, seed=2), random(16, 128, seed=3)
    parts = {"hada_w1_a": a, "hada_w1_b": b, "hada_w2_a": c, "hada_w2_b": d}
    return parts, (a.double() @ b.double()) * (c.double() @ d.double())


def lokr() -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    first, a, b = random(4, 4), random(32, 2, seed=1), random(2, 32, seed=2)
    parts = {"lokr_w1": first, "lokr_w2_a": a, "lokr_w2_b": b, "alpha": torch.tensor(1.0)}
    return parts, torch.kron(first.double(), a.double() @ b.double()) * 0.5


def full() -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    diff = random(128, 128)
    return {"diff": diff}, diff


@pytest.mark.parametrize("kind", [loha, large_loha, lokr, full])
def test_kinds_without_stored_factors(tmp_path: Path, base: Path, kind: Any) -> None:
    parts, delta = kind()
    lora = save(tmp_path / "lora.safetensors", {f"{PROJ}.{name}": tensor for name, tensor in parts.items()})
    report = lora_core.inspect(lora, [base], spectra=True)
    check(report.layers[0], delta, load(base)[KEY.format("attn.proj")])
    assert lora_core.inspect(lora, spectra=True).layers[0]["norm"] == pytest.approx(report.layers[0]["norm"])


def dora(base: Path) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    weight = load(base)[KEY.format("attn.proj")].double()
    up, down, magnitude = random(128, 2), random(2, 128, seed=1) * 0.1, random(128, 1, seed=2).abs()
    changed = weight + up.double() @ down.double()
    delta = changed * (magnitude.double() / changed.norm(dim=1, keepdim=True)) - weight
    return {"lora_up.weight": up, "lora_down.weight": down, "dora_scale": magnitude}, delta


def test_kinds_that_read_the_weight_take_the_model(tmp_path: Path, base: Path) -> None:
    parts, delta = dora(base)
    lora = save(tmp_path / "lora.safetensors", {f"{PROJ}.{name}": tensor for name, tensor in parts.items()})
    report = lora_core.inspect(lora, [base], spectra=True)
    check(report.layers[0], delta, load(base)[KEY.format("attn.proj")])
    alone = lora_core.inspect(lora, spectra=True)
    assert alone.layers[0]["norm"] is None
    assert alone.layers[0]["problem"] == "depends on the weight"
    assert alone.warnings == [
        "lora.safetensors: the change depends on the weights, and can't be measured without the model, of 1 layer: "
        f"{PROJ}."
    ]


def test_a_large_difference_has_its_exact_norm_and_first_values(tmp_path: Path) -> None:
    left, right = (torch.linalg.qr(random(size, 200).double())[0] for size in (700, 800))
    values = 0.95 ** torch.arange(200, dtype=torch.float64)
    delta = (left * values) @ right.t()
    lora = save(tmp_path / "lora.safetensors", {"lora_unet_some_layer.diff": delta.float()})
    (entry,) = lora_core.inspect(lora, spectra=True).layers
    assert entry["norm"] == pytest.approx(float(values.square().sum().sqrt()), rel=TIGHT)
    assert entry["spectrum"] == pytest.approx(values[:32].tolist(), rel=1e-3), "searched for, not computed in full"
    assert (entry["rank"], entry["effective_rank"]) == (None, None), "what is not known is not told"


def test_dead_layers_and_vectors(tmp_path: Path, base: Path) -> None:
    tensors = load(tiny.make_lora(tmp_path / "all.safetensors", {PROJ: (128, 128), MLP: (512, 128)}, 4))
    tensors[f"{PROJ}.lora_up.weight"].zero_()
    tensors[f"{QKV}.diff_b"] = random(384)
    report = lora_core.inspect(save(tmp_path / "lora.safetensors", tensors), [base], spectra=True)
    dead, bias = layers(report)[PROJ], layers(report)[f"{QKV}.bias"]
    assert (dead["problem"], dead["norm"], dead["effective_rank"], dead["spectrum"]) == ("all zero", 0.0, None, [])
    assert bias["norm"] == pytest.approx(float(random(384).double().norm()), rel=TIGHT)
    assert (bias["rank"], bias["effective_rank"], bias["spectrum"]) == (None, None, []), "a vector has no rank"
    assert report.loras[0].without_effect == [PROJ]
    assert f"1 module without effect, all zero: {PROJ}" in report.text()
    assert report.blocks[0]["loras"][0]["dead"] == 1


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_layers_that_are_not_finite_are_named(tmp_path: Path, base: Path, bad: float) -> None:
    tensors = load(tiny.make_lora(tmp_path / "all.safetensors", {PROJ: (128, 128), MLP: (512, 128)}, 4))
    tensors[f"{PROJ}.lora_down.weight"][0, 0] = bad
    report = lora_core.inspect(save(tmp_path / "lora.safetensors", tensors), [base], spectra=True)
    assert layers(report)[PROJ]["problem"] == "NaN or infinity"
    assert layers(report)[MLP]["norm"] > 0
    assert report.warnings == [
        f"lora.safetensors: NaN or infinity, so the file is damaged or its training failed, in 1 layer: {PROJ}."
    ]
    assert report.blocks[0]["loras"][0]["unmeasured"] == 1


def test_progress_counts_layers_and_can_cancel(tmp_path: Path) -> None:
    modules = tiny.flat("lora_unet_", tiny.modules("flux"))
    lora = tiny.make_lora(tmp_path / "lora.safetensors", modules, 2)
    steps: list[tuple[int, int]] = []
    lora_core.inspect(lora, spectra=True, on_step=lambda done, total: steps.append((done, total)))
    assert steps == [(done, len(modules)) for done in range(1, len(modules) + 1)]

    class CancelledError(Exception):
        pass

    def cancel(done: int, total: int) -> None:
        raise CancelledError

    with pytest.raises(CancelledError):
        lora_core.inspect(lora, spectra=True, on_step=cancel)


def test_the_table_in_full(tmp_path: Path, base: Path) -> None:
    up, down = torch.zeros(128, 2), torch.zeros(2, 128)
    up[0, 0], up[1, 1], down[0, 0], down[1, 1] = 3.0, 4.0, 1.0, 1.0
    tensors = {f"{PROJ}.lora_up.weight": up, f"{PROJ}.lora_down.weight": down}
    report = lora_core.inspect(save(tmp_path / "ink.safetensors", tensors), [base], spectra=True)
    relative = 5 / float(load(base)[KEY.format("attn.proj")].double().norm())
    size, share = f"{relative:.2%}", f"{100 * relative:.2g} %"
    assert report.text() == (
        f"ink.safetensors: 1/1 · Flux.1 dev · LoRA r2 · kohya names · scale 1 (no alpha) · Δ {share} · strength 1\n"
        "\n"
        "ink.safetensors, block by block\n"
        "block                dW/W      |dW|    sigma1  eff. rank\n"
        f"double_blocks.0  {size:>8}         5         4      1.9/2"
    )
