"""Resizing: the best LoRA of a rank, against the singular values of the dense change in fp64; and what stays as it is.

Tolerance: the factors are fp32, so what is written is off by some 1e-7 of the change, and the error may be above the
optimum by the square of that over the optimum's; 1e-5 is the goal.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lora_core.cli.entry import main
from lora_core.errors import AdapterError, LoraError, OptionError, OutputError, UnmatchedError, WrongFileKindError
from lora_core.operations.resizing import resize as operation
from lora_core.operations.resizing.resize import resize
from lora_core.operations.resizing.sources import block
from lora_core.reading.adapterspec import AdapterSpec
from lora_core.reading.lorafile import LoraFile
from lora_core.workflows.run import run
from tests import tiny
from tests.core.samples import listing, load, message, metadata_of, same_bytes, save

Tensors = dict[str, torch.Tensor]
M = "lora_unet_input_blocks_4_1_proj_in"
ABOVE_OPTIMUM = 1e-5


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def sloped(rows: int, rank: int, columns: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return factors whose product's singular values fall."""
    slope = torch.arange(1, rank + 1) ** -0.7
    return random(rows, rank, seed=seed) * slope, random(rank, columns, seed=seed + 1)


def linear() -> tuple[Tensors, torch.Tensor]:
    up, down = sloped(48, 12, 36)
    parts = {f"{M}.lora_up.weight": up, f"{M}.lora_down.weight": down, f"{M}.alpha": torch.tensor(5.0)}
    return parts, up.double() @ down.double() * (5 / 12)


def negative_alpha() -> tuple[Tensors, torch.Tensor]:
    parts, dense = linear()
    return {**parts, f"{M}.alpha": torch.tensor(-5.0)}, -dense


def rank_above_the_sides() -> tuple[Tensors, torch.Tensor]:
    up, down = sloped(10, 30, 9)
    return {f"{M}.lora_up.weight": up, f"{M}.lora_down.weight": down}, up.double() @ down.double()


def convolution() -> tuple[Tensors, torch.Tensor]:
    up, down = sloped(32, 10, 8 * 9)
    parts = {f"{M}.lora_up.weight": up.reshape(32, 10, 1, 1), f"{M}.lora_down.weight": down.reshape(10, 8, 3, 3)}
    return {**parts, f"{M}.alpha": torch.tensor(10.0)}, (up.double() @ down.double()).reshape(32, 8, 3, 3)


def convolution_of_one() -> tuple[Tensors, torch.Tensor]:
    up, down = sloped(32, 10, 24)
    parts = {f"{M}.lora_up.weight": up.reshape(32, 10, 1, 1), f"{M}.lora_down.weight": down.reshape(10, 24, 1, 1)}
    return parts, (up.double() @ down.double()).reshape(32, 24, 1, 1)


def tucker() -> tuple[Tensors, torch.Tensor]:
    up, mid, down = random(32, 10), random(10, 7, 3, 3, seed=1), random(7, 16, seed=2)
    parts = {f"{M}.lora_up.weight": up.reshape(32, 10, 1, 1), f"{M}.lora_down.weight": down.reshape(7, 16, 1, 1)}
    dense = torch.einsum("or,rskl,si->oikl", up.double(), mid.double(), down.double())
    return {**parts, f"{M}.lora_mid.weight": mid, f"{M}.alpha": torch.tensor(3.5)}, dense * 0.5  # of the down's rank


def loha() -> tuple[Tensors, torch.Tensor]:
    a1, b1, a2, b2 = random(40, 3), random(3, 30, seed=1), random(40, 3, seed=2), random(3, 30, seed=3)
    names = {"w1_a": a1, "w1_b": b1, "w2_a": a2, "w2_b": b2}
    parts = {f"{M}.hada_{name}": tensor for name, tensor in names.items()}
    dense = (a1.double() @ b1.double()) * (a2.double() @ b2.double())
    return {**parts, f"{M}.alpha": torch.tensor(1.5)}, dense / 2


def loha_above_the_sides() -> tuple[Tensors, torch.Tensor]:
    a1, b1, a2, b2 = random(20, 6), random(6, 18, seed=1), random(20, 6, seed=2), random(6, 18, seed=3)
    names = {"w1_a": a1, "w1_b": b1, "w2_a": a2, "w2_b": b2}
    dense = (a1.double() @ b1.double()) * (a2.double() @ b2.double())
    return {f"{M}.hada_{name}": tensor for name, tensor in names.items()}, dense


def loha_tucker() -> tuple[Tensors, torch.Tensor]:
    cores = random(3, 3, 3, 3), random(3, 3, 3, 3, seed=1)
    a1, b1, a2, b2 = random(3, 24, seed=2), random(3, 10, seed=3), random(3, 24, seed=4), random(3, 10, seed=5)
    names = {"t1": cores[0], "w1_a": a1, "w1_b": b1, "t2": cores[1], "w2_a": a2, "w2_b": b2}
    products = (
        torch.einsum("ijkl,jq,ip->pqkl", core.double(), b.double(), a.double())
        for core, b, a in ((cores[0], b1, a1), (cores[1], b2, a2))
    )
    return {f"{M}.hada_{name}": tensor for name, tensor in names.items()}, math.prod(products)  # pyright: ignore


def lokr() -> tuple[Tensors, torch.Tensor]:
    first, second = random(4, 5), random(12, 9, seed=1)
    return {f"{M}.lokr_w1": first, f"{M}.lokr_w2": second}, torch.kron(first.double(), second.double())


def lokr_of_factors() -> tuple[Tensors, torch.Tensor]:
    w1, a, b = random(4, 4), random(12, 5, seed=1), random(5, 8, seed=2)
    parts = {f"{M}.lokr_w1": w1, f"{M}.lokr_w2_a": a, f"{M}.lokr_w2_b": b, f"{M}.alpha": torch.tensor(-2.0)}
    return parts, torch.kron(w1.double(), a.double() @ b.double()) * (-2 / 5)


def lokr_convolution() -> tuple[Tensors, torch.Tensor]:
    w1, w2 = random(4, 2), random(8, 6, 3, 3, seed=1)
    dense = torch.einsum("ab,cdkl->acbdkl", w1.double(), w2.double()).reshape(32, 12, 3, 3)
    return {f"{M}.lokr_w1": w1, f"{M}.lokr_w2": w2}, dense


KINDS: list[Callable[[], tuple[Tensors, torch.Tensor]]] = [
    linear, negative_alpha, rank_above_the_sides, convolution, convolution_of_one, tucker, loha, loha_above_the_sides,
    loha_tucker, lokr, lokr_of_factors, lokr_convolution,
]  # fmt: skip


def written(tensors: Tensors, module: str = M) -> torch.Tensor:
    """Return the change that a plain LoRA's tensors make, in fp64, in the shape of down."""
    up, down = tensors[f"{module}.lora_up.weight"].double(), tensors[f"{module}.lora_down.weight"].double()
    scale = float(tensors[f"{module}.alpha"]) / down.shape[0]
    return (up.flatten(1) @ down.flatten(1) * scale).reshape(up.shape[0], *down.shape[1:])


def optimum(dense: torch.Tensor, rank: int) -> float:
    return float(torch.linalg.svdvals(dense.flatten(1).double())[rank:].norm())


def resized(folder: Path, tensors: Tensors, metadata: dict[str, str] | None = None, **options: Any) -> Any:
    """Return (tensors, report)."""
    source, out = save(folder / "in.safetensors", tensors, metadata), folder / "out.safetensors"
    report = resize(source, out, overwrite=True, **options)
    return load(out), report


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("rank", [1, 4])
def test_the_best_lora_of_a_rank(tmp_path: Path, make: Any, rank: int) -> None:
    tensors, dense = make()
    found, report = resized(tmp_path, tensors, rank=rank)
    assert set(found) == {f"{M}.lora_up.weight", f"{M}.lora_down.weight", f"{M}.alpha"}
    assert found[f"{M}.lora_down.weight"].shape == (rank, *dense.shape[1:])
    assert found[f"{M}.lora_up.weight"].shape == (len(dense), rank, *(1,) * (dense.dim() - 2))
    assert float(found[f"{M}.alpha"]) == rank
    error = float((written(found) - dense).norm())
    assert error <= optimum(dense, rank) * (1 + ABOVE_OPTIMUM)
    (layer,) = report.layers
    assert layer["rank"] == rank
    assert layer["energy"] == pytest.approx(1 - (error / float(dense.norm())) ** 2, abs=1e-6)
    assert layer["norm"] == pytest.approx(float(dense.norm()), rel=1e-6)


def test_both_factors_carry_the_root_of_the_singular_values(tmp_path: Path) -> None:
    """Else fp16 loses small entries of one of them."""
    tensors, dense = linear()
    found, _ = resized(tmp_path, tensors, rank=4)
    values = torch.linalg.svdvals(dense)[:4]
    assert torch.allclose(found[f"{M}.lora_up.weight"].double().norm(dim=0) ** 2, values)
    assert torch.allclose(found[f"{M}.lora_down.weight"].double().norm(dim=1) ** 2, values)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_factors_keep_their_number_format(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors, _ = linear()
    tensors = {name: tensor if name.endswith("alpha") else tensor.to(dtype) for name, tensor in tensors.items()}
    dense = (tensors[f"{M}.lora_up.weight"].double() @ tensors[f"{M}.lora_down.weight"].double()) * (5 / 12)
    found, _ = resized(tmp_path, tensors, rank=4)
    assert found[f"{M}.lora_up.weight"].dtype == found[f"{M}.lora_down.weight"].dtype == dtype
    step = torch.finfo(dtype).eps  # of each factor, half of it at most in each entry
    assert float((written(found) - dense).norm()) <= optimum(dense, 4) + step * float(dense.norm())


def test_another_number_format_is_for_all_tensors_but_alphas(tmp_path: Path) -> None:
    tensors = {**linear()[0], "lora_unet_x.diff": random(4), "lora_unet_y.alpha": torch.tensor(3.0)}
    found, _ = resized(tmp_path, tensors, rank=4, dtype="bf16")
    assert {name: t.dtype for name, t in found.items() if not name.endswith("alpha")} == dict.fromkeys(
        (f"{M}.lora_up.weight", f"{M}.lora_down.weight", "lora_unet_x.diff"), torch.bfloat16
    )


# Ranks


def kohya_rank(dense: torch.Tensor, by: str, parameter: float, most: int) -> int:
    """What kohya's resize_lora.py does with the singular values of a dense matrix, written anew from its text."""
    values = torch.linalg.svdvals(dense.flatten(1))
    count = len(values)
    if by == "sv_ratio":
        index = sum(1 for value in values if value > values[0] / parameter)
    else:
        powers = values if by == "sv_cumulative" else values**2
        goal = parameter if by == "sv_cumulative" else parameter**2
        shares = [float(powers[: place + 1].sum() / powers.sum()) for place in range(count)]
        index = sum(1 for share in shares if share < goal) + 1
    rank = max(1, min(index, count - 1)) + 1
    return min(rank, most)


@pytest.mark.parametrize("make", [linear, convolution, tucker, loha, lokr_of_factors])
@pytest.mark.parametrize(
    ("by", "threshold"),
    [("sv_ratio", 2.0), ("sv_ratio", 4.0), ("sv_cumulative", 0.5), ("sv_cumulative", 0.7), ("sv_fro", 0.8)],
)
def test_ranks_are_kohyas(tmp_path: Path, make: Any, by: str, threshold: float) -> None:
    tensors, dense = make()
    found, report = resized(tmp_path, tensors, rank_by=by, threshold=threshold, max_rank=7)
    values = torch.linalg.svdvals(dense.flatten(1))
    rank = kohya_rank(dense, by, threshold, 7)
    (layer,) = report.layers
    assert len(found[f"{M}.lora_down.weight"]) == layer["rank"] == rank
    assert layer["sum_retained"] == pytest.approx(float(values[:rank].sum() / values.sum()), abs=1e-6)
    assert layer["fro_retained"] == pytest.approx(float(values[:rank].norm() / values.norm()), abs=1e-6)
    assert layer["max_ratio"] == pytest.approx(float(values[0] / values[rank - 1]), rel=1e-5)
    assert any("of the singular values retained" in note for note in report.notes)


def test_an_energy_takes_the_smallest_rank(tmp_path: Path) -> None:
    tensors, dense = linear()
    squares = torch.linalg.svdvals(dense).square()
    shares = squares.cumsum(0) / squares.sum()
    _, report = resized(tmp_path, tensors, energy=0.9)
    assert report.layers[0]["rank"] == int((shares < 0.9).sum()) + 1
    assert resized(tmp_path, tensors, energy=0.9, max_rank=2)[1].layers[0]["rank"] == 2


def test_convolutions_have_a_limit_of_their_own(tmp_path: Path) -> None:
    other = {name.replace(M, "lora_unet_conv"): tensor for name, tensor in convolution()[0].items()}
    one = {name.replace(M, "lora_unet_one"): tensor for name, tensor in convolution_of_one()[0].items()}
    found, _ = resized(tmp_path, {**linear()[0], **other, **one}, rank=6, conv_rank=3)
    ranks = {name.split(".")[0]: len(tensor) for name, tensor in found.items() if "down" in name}
    assert ranks == {M: 6, "lora_unet_conv": 3, "lora_unet_one": 6}


def several() -> Tensors:
    """Layers of very different sizes."""
    tensors: Tensors = {}
    for place, size in enumerate((3.0, 1.0, 0.001)):
        up, down = sloped(40, 10, 50, seed=place)
        tensors[f"lora_unet_b_{place}.lora_up.weight"] = (up * size).half()
        tensors[f"lora_unet_b_{place}.lora_down.weight"] = down.half()
        tensors[f"lora_unet_b_{place}.alpha"] = torch.tensor(10.0).half()
    return tensors


def test_a_total_error_is_spread_over_the_layers(tmp_path: Path) -> None:
    tensors = several()
    found, report = resized(tmp_path, tensors, rank_by="total_error", threshold=0.3)
    modules = sorted({name.split(".")[0] for name in tensors})
    before = {module: written(tensors, module) for module in modules}
    rest = [(written(found, m) if f"{m}.alpha" in found else 0) - before[m] for m in modules]
    error = math.sqrt(sum(float(item.norm()) ** 2 for item in rest))
    whole = math.sqrt(sum(float(item.norm()) ** 2 for item in before.values()))
    assert 0.2 < error / whole <= 0.301
    assert [layer["rank"] for layer in report.layers][2] == 0
    assert any("left out, not worth any rank by the threshold: lora_unet_b_2" in note for note in report.notes)


@pytest.mark.parametrize("megabytes", [0.0035, 0.0055])
@pytest.mark.parametrize("around", [False, True])
def test_a_file_size_is_kept_header_included(tmp_path: Path, megabytes: float, around: bool) -> None:
    tensors = several()
    metadata = {"ss_tag_frequency": "x" * 700} if around else None
    more = {"lora_unet_b_1.dora_scale": random(40, 1).half(), "lora_unet_x.diff": random(50)} if around else {}
    found, report = resized(tmp_path, {**tensors, **more}, metadata, rank_by="file_size", threshold=megabytes)
    assert set(more) <= set(found)
    assert megabytes * 1e6 - 2 * 2 * 90 <= report.outputs[0]["bytes"] <= megabytes * 1e6, "up to a rank or two"
    ranks = [layer["rank"] for layer in report.layers]
    assert ranks[0] >= ranks[1] >= ranks[2]


@pytest.mark.parametrize("alpha", [torch.float64, torch.int64])
def test_a_file_size_counts_layers_that_stay_as_they_are(tmp_path: Path, alpha: torch.dtype) -> None:
    tensors = {name: tensor.to(alpha) if "alpha" in name else tensor for name, tensor in several().items()}
    size = save(tmp_path / "whole.safetensors", tensors).stat().st_size
    stayed = 0
    for limit in range(size - 1000, size + 60, 9):
        found, report = resized(tmp_path, tensors, rank_by="file_size", threshold=limit / 1e6)
        assert report.outputs[0]["bytes"] <= limit
        stayed += found["lora_unet_b_0.alpha"].dtype == alpha
    assert stayed > 5


def test_relative_compares_with_the_weights_of_the_base(tmp_path: Path) -> None:
    base = tiny.make_tiny("flux", tmp_path / "base.safetensors")
    modules = {
        name: shape for name, shape in tiny.flat("lora_unet_", tiny.modules("flux")).items() if "img_attn" in name
    }
    lora = tiny.make_lora(tmp_path / "lora.safetensors", modules, 8)
    out, threshold = tmp_path / "out.safetensors", 0.02
    report = resize(lora, out, rank_by="relative", threshold=threshold, base=base, max_rank=8)
    weights, before = load(base), load(lora)
    for layer in report.layers:
        module = layer["name"]
        key = module.removeprefix("lora_unet_").replace("_img", ".img").replace("blocks_", "blocks.")
        (weight,) = [
            w for name, w in weights.items() if name.replace(".", "_").endswith(key.replace(".", "_") + "_weight")
        ]
        values = torch.linalg.svdvals(written(before, module))
        least = threshold * float(weight.double().norm()) / math.sqrt(min(weight.shape))
        assert layer["rank"] == max(1, int((values > least).sum()))
    with pytest.raises(OptionError, match="relative compares with the weights"):
        resize(lora, tmp_path / "no.safetensors", rank_by="relative", threshold=threshold)
    other = save(tmp_path / "other.safetensors", linear()[0])
    with pytest.raises(UnmatchedError, match=f"{M}: has no place of its shape in"):
        resize(other, tmp_path / "no.safetensors", rank_by="relative", threshold=threshold, base=base)
    assert "no.safetensors" not in listing(tmp_path)


# What stays as it is


def test_what_has_no_higher_rank_stays_byte_for_byte(tmp_path: Path) -> None:
    tensors = {name: tensor.half() for name, tensor in linear()[0].items()}
    found, report = resized(tmp_path, tensors, rank=12)
    assert set(found) == set(tensors) and all(same_bytes(found[name], tensors[name]) for name in tensors)
    assert report.layers[0]["unchanged"] and report.layers[0]["energy"] == pytest.approx(1)
    assert any("1 of 1 layers stay as they are: their rank is no higher" in note for note in report.notes)
    assert not [w for w in report.warnings if "larger" in w]


def test_a_loha_of_no_higher_rank_stays_a_loha(tmp_path: Path) -> None:
    tensors = loha()[0]
    found, _ = resized(tmp_path, tensors, rank=9)
    assert set(found) == set(tensors)


def test_other_kinds_stay_byte_for_byte_and_are_named(tmp_path: Path) -> None:
    others = {
        "lora_unet_a.diff": random(6, 4).half(), "lora_unet_a.diff_b": random(6),
        "lora_unet_b.w_norm": random(6), "lora_unet_b.b_norm": random(6),
        "lora_unet_c.oft_blocks": random(2, 3, 3).half(), "lora_unet_c.alpha": torch.tensor(0.1),
        "lora_unet_d.a1.weight": random(6, 2), "lora_unet_d.a2.weight": random(2, 6),
        "lora_unet_d.alpha": torch.tensor(1.0),
        "lora_unet_d.b1.weight": random(5, 2), "lora_unet_d.b2.weight": random(2, 6),
        "lora_unet_e.weight": random(6), "lora_unet_e.on_input": torch.tensor(1.0),
        "bundle_emb.x.string_to_param.*": random(2, 4),
    }  # fmt: skip
    found, report = resized(tmp_path, {**linear()[0], **others}, rank=4)
    assert all(same_bytes(found[name], tensor) for name, tensor in others.items())
    (note,) = [note for note in report.notes if note.startswith("kept as they are")]
    assert all(kind in note for kind in ("GLoRA", "IA3", "OFT", "2 × full difference", "2 × norm")), note


def test_layers_of_zeros_are_left_out(tmp_path: Path) -> None:
    zeros = {"lora_unet_z.lora_up.weight": torch.zeros(8, 6), "lora_unet_z.lora_down.weight": random(6, 8)}
    found, report = resized(tmp_path, {**linear()[0], **zeros}, rank=4)
    assert {name.split(".")[0] for name in found} == {M}
    assert any("1 layer left out, all zero: lora_unet_z" in note for note in report.notes)


def test_two_kinds_of_one_module_stay(tmp_path: Path) -> None:
    """They share an alpha, and would share names."""
    both = {**linear()[0], **{k: v for k, v in loha()[0].items() if not k.endswith("alpha")}}
    other = {name.replace(M, "lora_unet_other"): tensor for name, tensor in linear()[0].items()}
    found, _ = resized(tmp_path, {**both, **other}, rank=2)
    assert all(same_bytes(found[name], tensor) for name, tensor in both.items())
    assert found["lora_unet_other.lora_down.weight"].shape == (2, 36)


def test_the_bias_of_a_lora_takes_its_scale(tmp_path: Path) -> None:
    bias = random(48, seed=8)
    found, _ = resized(tmp_path, {**linear()[0], f"{M}.lora_up.bias": bias}, rank=4)
    with LoraFile(tmp_path / "out.safetensors") as file:
        (spec,) = [spec for spec in file.adapters if spec.kind == "bias"]
        change = file.adapter(spec).delta(torch.zeros(48))
    assert torch.allclose(change, bias * (5 / 12))
    assert found[f"{M}.alpha"] == 4


# Names and metadata


@pytest.mark.parametrize(
    ("module", "up", "down"),
    [
        ("transformer.blocks.0.attn.to_q", ".lora_B.weight", ".lora_A.weight"),
        ("base_model.model.blocks.0.attn.to_q", ".lora_B.default.weight", ".lora_A.default.weight"),
        ("base_model.model.blocks.0.attn.to_q", ".lora_B.mine.weight", ".lora_A.mine.weight"),
        ("unet.down_blocks.0.to_q", ".lora.up.weight", ".lora.down.weight"),
        ("unet.down_blocks.0.processor.to_q", "_lora.up.weight", "_lora.down.weight"),
    ],
)
def test_names_without_alpha_stay_and_the_scale_is_folded_in(tmp_path: Path, module: str, up: str, down: str) -> None:
    factors = sloped(48, 12, 36)
    packed = {"r": 12, "lora_alpha": 6, "target_modules": ["to_q"]}
    prefix = "" if module.startswith("base_model") else module.partition(".")[0] + "."
    metadata = {"lora_adapter_metadata": json.dumps({f"{prefix}{key}": value for key, value in packed.items()})}
    found, _ = resized(tmp_path, {module + up: factors[0], module + down: factors[1]}, metadata, rank=4)
    assert set(found) == {module + up, module + down}
    dense = factors[0].double() @ factors[1].double() / 2
    error = float((found[module + up].double() @ found[module + down].double() - dense).norm())
    assert error <= optimum(dense, 4) * (1 + ABOVE_OPTIMUM)
    with LoraFile(tmp_path / "out.safetensors") as file:
        assert [spec.scale.value for spec in file.adapters] == [1.0]
    config = {
        key.removeprefix(prefix): v
        for key, v in json.loads(metadata_of(tmp_path / "out.safetensors")["lora_adapter_metadata"]).items()
    }
    assert (config["r"], config["lora_alpha"], config["rank_pattern"], config["alpha_pattern"]) == (4, 4, {}, {})


def test_alpha_beside_factors_of_peft_stays(tmp_path: Path) -> None:
    up, down = sloped(48, 12, 36)
    module = "diffusion_model.blocks.0.q"
    tensors = {f"{module}.lora_B.weight": up, f"{module}.lora_A.weight": down, f"{module}.alpha": torch.tensor(6.0)}
    found, _ = resized(tmp_path, tensors, rank=4)
    assert set(found) == set(tensors) and found[f"{module}.alpha"] == 4


def test_metadata_is_kept_and_told_of_the_new_ranks(tmp_path: Path) -> None:
    before = {
        "ss_output_name": "ink", "ss_network_dim": "12", "ss_network_alpha": "5", "ss_training_comment": "mine",
        "ss_network_module": "networks.lora_flux", "ss_network_args": '{"conv_dim": "10", "conv_alpha": "1", "x": "y"}',
        "modelspec.trigger_phrase": "inkwork", "sshs_model_hash": "old", "sshs_legacy_hash": "old",
    }  # fmt: skip
    other = {name.replace(M, "lora_unet_conv"): tensor for name, tensor in convolution()[0].items()}
    resized(tmp_path, {**linear()[0], **other}, before, rank=4, conv_rank=3)
    after = metadata_of(tmp_path / "out.safetensors")
    same = ("ss_output_name", "ss_network_module", "modelspec.trigger_phrase")
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    assert after["ss_network_dim"] == "4"
    assert after["ss_training_comment"] == "dimension is resized from 10–12 to 4 (conv: 3); mine"
    assert json.loads(after["ss_network_args"]) == {"conv_dim": "3", "conv_alpha": "3", "x": "y"}
    assert len(after["sshs_model_hash"]) == 64 and "sshs_legacy_hash" not in after


def test_metadata_of_another_kind_becomes_loras(tmp_path: Path) -> None:
    before = {"ss_network_module": "lycoris.kohya", "ss_network_args": '{"algo": "loha"}', "ss_network_dim": "3"}
    resized(tmp_path, loha()[0], before, rank=4)
    after = metadata_of(tmp_path / "out.safetensors")
    assert (after["ss_network_module"], after["ss_network_args"], after["ss_network_dim"]) == (
        "networks.lora",
        "{}",
        "4",
    )
    assert after["ss_network_alpha"] == "4"


def test_an_alpha_of_the_header_goes_with_what_is_kept(tmp_path: Path) -> None:
    """The header's one alpha is not true of the new ranks."""
    small = {"lora_unet_s.lora_up.weight": random(8, 2), "lora_unet_s.lora_down.weight": random(2, 8)}
    tensors = {**{n: t for n, t in linear()[0].items() if not n.endswith("alpha")}, **small}
    found, _ = resized(tmp_path, tensors, {"lora_alpha": "6", "peft_type": "LORA"}, rank=4)
    assert float(found["lora_unet_s.alpha"]) == 6 and float(found[f"{M}.alpha"]) == 4
    dense = tensors[f"{M}.lora_up.weight"].double() @ tensors[f"{M}.lora_down.weight"].double() / 2
    assert float((written(found) - dense).norm()) <= optimum(dense, 4) * (1 + ABOVE_OPTIMUM)


def test_a_flat_convolution_gets_its_kernel_from_the_model_that_the_names_tell(tmp_path: Path) -> None:
    """Else the file would load in programs alone that do not look at shapes."""
    module = "lora_unet_input_blocks_1_0_in_layers_2"  # of SDXL, (320, 320, 3, 3)
    more = {f"lora_unet_input_blocks_4_1_transformer_blocks_{i}_attn2_to_k": (640, 2048) for i in range(2)}
    tensors: Tensors = {}
    for name, (rows, columns) in {module: (320, 320 * 9), **more}.items():
        for place, shape in enumerate(((rows, 2), (2, columns), (rows, 2), (2, columns))):
            tensors[f"{name}.hada_w{place // 2 + 1}_{'ab'[place % 2]}"] = random(*shape, seed=place)
    found, _ = resized(tmp_path, tensors, rank=3)
    assert found[f"{module}.lora_down.weight"].shape == (3, 320, 3, 3)
    assert found[f"{module}.lora_up.weight"].shape == (320, 3, 1, 1)
    assert found[f"{next(iter(more))}.lora_down.weight"].shape == (3, 2048)


# DoRA


def turned(dense: torch.Tensor, weight: torch.Tensor, magnitude: torch.Tensor, *, of_input: bool) -> torch.Tensor:
    """DoRA's weight from its paper, in fp64."""
    whole = weight.double() + dense
    axes = (0, *range(2, whole.dim())) if of_input else tuple(range(1, whole.dim()))
    norm = torch.linalg.vector_norm(whole, dim=axes, keepdim=True)
    return whole / norm * magnitude.double().reshape(norm.shape)


def _own_shape(spec: AdapterSpec, _: object) -> tuple[int, ...]:
    return spec.delta_shape()


@pytest.mark.parametrize("of_input", [False, True])
@pytest.mark.parametrize("make", [linear, convolution, loha])
def test_dora_keeps_its_norms_and_turns_the_least_with_the_base(tmp_path: Path, make: Any, of_input: bool) -> None:
    tensors, dense = make()
    weight = random(*dense.shape, seed=9)
    axis = 1 if of_input else 0
    others = tuple(other for other in range(dense.dim()) if other != axis)
    norm = torch.linalg.vector_norm(weight + dense.float(), dim=others, keepdim=True)
    magnitude = norm * torch.linspace(0.1, 3, norm.numel()).reshape(norm.shape)  # where the cut differs the most
    tensors = {**tensors, f"{M}.dora_scale": magnitude}
    source, out = save(tmp_path / "in.safetensors", tensors), tmp_path / "out.safetensors"
    resize(source, out, rank=3)
    plain = load(out)
    assert same_bytes(plain[f"{M}.dora_scale"], magnitude)
    assert float((written(plain) - dense).norm()) <= optimum(dense, 3) * (1 + ABOVE_OPTIMUM)

    class Base:
        """A checkpoint of this one weight."""

        title, name, paths = "a base", "base", ()

        def __init__(self, *_: object) -> None:
            self.keymap = self

        def __enter__(self) -> Base:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def described(self) -> dict[str, Any]:
            return {"name": "base"}

        def check_unchanged(self) -> None: ...

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operation, "Checkpoint", Base)
        patch.setattr("lora_core.operations.resizing.sources._shape", _own_shape)
        patch.setattr("lora_core.operations.resizing.spectra.base_weight", lambda *_: weight)  # pyright: ignore[reportUnknownLambdaType]
        report = resize(source, out, rank=3, base="base", overwrite=True)
    weighted = load(out)
    goal = turned(dense, weight, magnitude, of_input=of_input)
    axes = (0, *range(2, dense.dim())) if of_input else tuple(range(1, dense.dim()))
    sizes = magnitude.double() / torch.linalg.vector_norm(weight.double() + dense, dim=axes, keepdim=True)
    left, values, right = torch.linalg.svd((dense * sizes).flatten(1), full_matrices=False)
    best = ((left[:, :3] * values[:3]) @ right[:3]).reshape(dense.shape) / sizes
    assert float(((written(weighted) - best) * sizes).norm()) < 1e-5 * float((best * sizes).norm())
    first, second = (
        float((turned(written(found), weight, magnitude, of_input=of_input) - goal).norm())
        for found in (weighted, plain)
    )
    assert first < 0.99 * second, "closer than the cut that knows no weight"
    assert any("DoRA: magnitudes kept" in note for note in report.notes)
    if not of_input:
        after = turned(written(weighted), weight, magnitude, of_input=False)
        assert torch.allclose(after.flatten(1).norm(dim=1), goal.flatten(1).norm(dim=1))


# Memory


class _Largest(TorchDispatchMode):
    """Remembers the size of the largest tensor that an operation made."""

    def __init__(self) -> None:
        super().__init__()
        self.nbytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for item in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(item, torch.Tensor):
                self.nbytes = max(self.nbytes, item.nbytes)
        return result


@pytest.mark.parametrize("kind", ["lora", "loha", "loha_core", "lokr", "conv"])
def test_no_dense_change_is_formed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    rows, columns, rank = 1200, 1000, 8
    up, down = random(rows, rank), random(rank, columns)
    tensors = {
        "lora": {f"{M}.lora_up.weight": up, f"{M}.lora_down.weight": down},
        "conv": {f"{M}.lora_up.weight": up[:, :, None, None], f"{M}.lora_down.weight": down.reshape(rank, 40, 5, 5)},
        "loha": {f"{M}.hada_w1_a": up, f"{M}.hada_w1_b": down, f"{M}.hada_w2_a": up + 1, f"{M}.hada_w2_b": down + 1},
        "loha_core": {
            f"{M}.hada_{name}": random(*shape, seed=place)
            for place, (name, shape) in enumerate(
                (
                    ("t1", (4, 4, 5, 5)),
                    ("w1_a", (4, rows)),
                    ("w1_b", (4, 40)),
                    ("t2", (4, 4, 5, 5)),
                    ("w2_a", (4, rows)),
                    ("w2_b", (4, 40)),
                )
            )
        },
        "lokr": {f"{M}.lokr_w1": random(40, 40), f"{M}.lokr_w2": random(30, 25, seed=1)},
    }[kind]

    def one_by_one(work: Any, items: Any) -> Iterator[Any]:
        yield from map(work, items)  # the mode is this thread's

    monkeypatch.setattr(operation, "ahead", one_by_one)
    with _Largest() as largest:
        resized(tmp_path, tensors, rank=4)
    limit = {"loha": rank**2, "loha_core": 16}.get(kind, rank) * rows * 8  # the larger factor in fp64
    assert 4 * 4 * rows <= largest.nbytes <= limit < 4 * rows * columns


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q", "input_blocks_4"),
        ("lora_unet_img_in", "img_in"),
        ("lora_te2_text_model_encoder_layers_11_mlp_fc1", "te2 text_model_encoder_layers_11"),
        ("transformer.single_transformer_blocks.7.attn.to_q", "single_transformer_blocks.7"),
        ("base_model.model.proj_out", "proj_out"),
    ],
)
def test_blocks_by_names_alone(module: str, name: str) -> None:
    assert block(module) == name


# Refusals


def test_bad_input_leaves_no_file(tmp_path: Path) -> None:
    good = save(tmp_path / "good.safetensors", linear()[0])
    bad = save(tmp_path / "bad.safetensors", {**linear()[0], f"{M}.lora_up.weight": torch.full((48, 12), math.nan)})
    rotation = save(tmp_path / "oft.safetensors", {"lora_unet_c.oft_blocks": random(2, 3, 3)})
    checkpoint = tiny.make_tiny("flux", tmp_path / "checkpoint.safetensors")
    before, out = listing(tmp_path), tmp_path / "out.safetensors"
    assert message(AdapterError, lambda: resize(bad, out)) == (
        f"bad.safetensors: {M}: holds NaN or infinity; the file is damaged or its training failed."
    )
    assert "nothing to resize: its kinds (Diag-OFT) have no factors" in message(
        LoraError, lambda: resize(rotation, out)
    )
    assert "is a checkpoint of Flux.1 dev, not a LoRA" in message(WrongFileKindError, lambda: resize(checkpoint, out))
    for options in ({"rank": 0}, {"energy": 1.5}, {"energy": -0.1}, {"rank_by": "fancy"}, {"dtype": "fp8"},
                    {"rank_by": "sv_ratio", "threshold": 1.0}, {"rank_by": "error", "threshold": 0.0}):  # fmt: skip
        with pytest.raises(OptionError):
            resize(good, out, **options)  # pyright: ignore[reportArgumentType]
    assert "leaves no layer any rank" in message(
        LoraError, lambda: resize(good, out, rank_by="file_size", threshold=1e-6)
    )
    assert listing(tmp_path) == before
    with pytest.raises(OutputError):
        resize(good, good, overwrite=True)
    with pytest.raises(OutputError):
        resize(good, bad)


def test_a_cancelled_run_leaves_no_file(tmp_path: Path) -> None:
    source = save(tmp_path / "in.safetensors", several())
    steps: list[tuple[int, int]] = []

    def cancel(done: int, total: int) -> None:
        steps.append((done, total))
        if done == 1:
            raise KeyboardInterrupt

    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with pytest.raises(KeyboardInterrupt):
            resize(source, tmp_path / "out.safetensors", rank=2, on_step=cancel)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    assert steps == [(0, 3), (1, 3)]
    assert listing(tmp_path) == ["in.safetensors"]


def test_a_larger_file_is_said_to_be_one(tmp_path: Path) -> None:
    first, second = random(16, 16), random(16, 16, seed=1)
    _, report = resized(tmp_path, {f"{M}.lokr_w1": first, f"{M}.lokr_w2": second}, rank=32)
    assert any("out.safetensors is larger than in.safetensors" in warning for warning in report.warnings)


def test_runs_are_the_same_to_the_byte(tmp_path: Path) -> None:
    source = save(tmp_path / "in.safetensors", several())
    files = [tmp_path / "1.safetensors", tmp_path / "2.safetensors"]
    for out in files:
        resize(source, out, rank=2)
    assert files[0].read_bytes() == files[1].read_bytes()


# The command and the workflow


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = save(tmp_path / "in.safetensors", linear()[0]), tmp_path / "out.safetensors"
    command = ["resize", str(source), "--out", str(out), "--quiet"]
    assert main([*command, "--rank", "4", "--dtype", "fp16", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["operation"], report["layers"][0]["rank"], report["outputs"][0]["name"]) == (
        "resize", 4, "out.safetensors",
    )  # fmt: skip
    assert load(out)[f"{M}.lora_up.weight"].dtype == torch.float16
    assert main([*command, "--rank-by", "sv_ratio", "--threshold", "3", "--max-rank", "5", "--overwrite"]) == 0
    assert len(load(out)[f"{M}.lora_down.weight"]) == 5
    capsys.readouterr()
    assert main([*command, "--energy", "0.9"]) == 1, "the file exists"
    assert "already exists" in capsys.readouterr().err
    for wrong in ([], ["--rank", "4", "--energy", "0.9"], ["--rank", "0"], ["--energy", "2"]):
        with pytest.raises(SystemExit) as ended:
            main([*command, *wrong])
        assert ended.value.code == 2
    assert main([*command, "--rank-by", "sv_ratio"]) == 2, "without its threshold"


def test_a_workflow_file(tmp_path: Path) -> None:
    save(tmp_path / "models/loras/styles/ink.safetensors", linear()[0])
    nodes = {
        "1": {"class_type": "LoraCoreResize", "inputs": {"lora_name": "styles/ink.safetensors", "rank": 6}},
        "2": {"class_type": "LoraCoreResize", "inputs": {"lora_name": ["1", 0], "rank": 3, "filename_prefix": "less"}},
    }
    (tmp_path / "flow.json").write_text(json.dumps(nodes), "utf-8")
    first, second = run(tmp_path / "flow.json", models=tmp_path / "models")
    assert [report.layers[0]["rank"] for report in (first, second)] == [6, 3]
    found = load(tmp_path / "models/loras/less_00001_.safetensors")
    assert float((written(found) - linear()[1]).norm()) <= optimum(linear()[1], 3) * (1 + 2 * ABOVE_OPTIMUM)
