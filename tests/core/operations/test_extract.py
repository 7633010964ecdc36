"""Extraction: full rank gives the tuned model back, a lower one is the best there is, names lead back."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import lora_core
from lora_core.errors import LoraError, OptionError, OutputError, UnknownArchError
from lora_core.operations.extracting import models, names
from lora_core.reading.checkpoint import Checkpoint
from tests import manifests, tiny
from tests.core import samples

FULL = 32768
MODELS = [arch for arch in manifests.archs() if not arch.startswith("te_")]


def normal(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def tune(base: Path, tuned: Path, keep: tuple[str, ...] = ()) -> Path:
    """Adds random numbers a tenth in size to every weight but those whose name holds one of `keep`."""
    tensors = samples.load(base)
    for seed, (key, value) in enumerate(tensors.items()):
        if value.is_floating_point() and not any(part in key for part in keep):
            spread = value.float().std() if value.numel() > 1 and value.float().std() > 0 else 1.0
            tensors[key] = (value.float() + 0.1 * spread * normal(tuple(value.shape), seed)).to(value.dtype)
    return samples.save(tuned, tensors)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """(base, tuned) of each tiny model, in fp32; the VAE stays as it was."""
    folder = tmp_path_factory.mktemp("pairs")
    result: dict[str, tuple[Path, Path]] = {}
    for model in ("flux", "sd3", "wan21"):
        base = tiny.make_tiny(model, folder / f"{model}.safetensors", dtype=torch.float32)
        result[model] = base, tune(base, folder / f"{model}_tuned.safetensors", ("vae.", "first_stage_model."))
    return result


def deltas(base: Path, tuned: Path) -> dict[str, Tensor]:
    before, after = samples.load(base), samples.load(tuned)
    return {key: after[key].double() - value.double() for key, value in before.items()}


def layers_of(lora: Path) -> Iterator[tuple[str, Tensor, int]]:
    """Yields (module, its change in fp64, rank) of a kohya-style file, by the published formula."""
    tensors = samples.load(lora)
    for name, down in tensors.items():
        if name.endswith(".lora_down.weight"):
            module = name.removesuffix(".lora_down.weight")
            up, alpha = tensors[f"{module}.lora_up.weight"].double(), tensors[f"{module}.alpha"]
            assert (float(alpha), alpha.dtype, alpha.shape) == (down.shape[0], torch.float32, ())
            change = up.flatten(1) @ down.double().flatten(1)
            yield module, change.reshape(up.shape[0], *down.shape[1:]), down.shape[0]


def wan_keys() -> dict[str, str]:
    """{flat module name: key} of the tiny Wan."""
    return {f"lora_unet_{name.replace('.', '_')}": f"{name}.weight" for name in tiny.modules("wan21")}


# Full rank


@pytest.mark.parametrize("dialect", ["kohya", "comfy"])
@pytest.mark.parametrize("model", ["flux", "sd3", "wan21"])
def test_at_full_rank_the_lora_gives_the_tuned_model(
    pairs: dict[str, tuple[Path, Path]], tmp_path: Path, model: str, dialect: str
) -> None:
    base, tuned = pairs[model]
    lora, again = tmp_path / "lora.safetensors", tmp_path / "again.safetensors"
    report = lora_core.extract(base, tuned, lora, rank=FULL, dialect=dialect, dtype="fp32")
    merged = lora_core.merge(base, [lora], again, on_unmatched="error")
    assert merged.loras[0].modules_matched == merged.loras[0].modules_total
    expected, found, before = samples.load(tuned), samples.load(again), samples.load(base)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        size = float((value - before[key]).double().norm())
        assert float((found[key] - value).double().norm()) <= 1e-5 * size + 1e-6 * float(value.double().norm()) * (
            size > 0
        )
    touched = sum(not torch.equal(value, before[key]) for key, value in expected.items())
    assert touched == sum("vae" not in key and "first_stage" not in key for key in expected)
    assert len({layer["name"] for layer in report.layers}) > touched / 2


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_in_half_precision_the_rest_is_the_formats_rounding(
    pairs: dict[str, tuple[Path, Path]], tmp_path: Path, dtype: str
) -> None:
    base, tuned = pairs["wan21"]
    lora, again = tmp_path / "lora.safetensors", tmp_path / "again.safetensors"
    lora_core.extract(base, tuned, lora, rank=FULL, dtype=dtype)
    factors = {tensor.dtype for name, tensor in samples.load(lora).items() if not name.endswith(".alpha")}
    assert factors == {torch.float16 if dtype == "fp16" else torch.bfloat16}
    lora_core.merge(base, [lora], again)
    expected, found, before = samples.load(tuned), samples.load(again), samples.load(base)
    step = torch.finfo(torch.float16 if dtype == "fp16" else torch.bfloat16).eps
    for key, value in expected.items():  # two factors, each off by at most half a step
        assert float((found[key] - value).double().norm()) <= step * float((value - before[key]).double().norm()) + 1e-6


# The best of a rank


@pytest.mark.case(44)
@pytest.mark.parametrize("rank", [1, 8, 40])
def test_a_fixed_rank_has_the_least_error_there_is(
    pairs: dict[str, tuple[Path, Path]], tmp_path: Path, rank: int
) -> None:
    base, tuned = pairs["wan21"]
    report = lora_core.extract(base, tuned, tmp_path / "lora.safetensors", rank=rank, dtype="fp32")
    changes, keys = deltas(base, tuned), wan_keys()
    said = {layer["name"]: layer for layer in report.layers}
    checked = 0
    for module, found, kept in layers_of(tmp_path / "lora.safetensors"):
        delta = changes[keys[module]]
        squares = torch.linalg.svdvals(delta.flatten(1)).square()
        assert kept == min(rank, len(squares))
        error, least = float((delta - found).norm()), float(squares[rank:].sum().sqrt())
        assert error <= 1.001 * least + 1e-5 * float(delta.norm())
        assert said[module]["rank"] == kept
        assert said[module]["energy"] == pytest.approx(float(squares[:rank].sum() / squares.sum()), abs=1e-6)
        assert said[module]["norm"] == pytest.approx(float(delta.norm()), rel=1e-6)
        checked += 1
    assert checked == len(keys)


@pytest.mark.parametrize("energy", [0.1, 0.5, 0.9, 0.999, 1.0])
def test_an_energy_takes_the_smallest_rank_that_keeps_it(
    pairs: dict[str, tuple[Path, Path]], tmp_path: Path, energy: float
) -> None:
    base, tuned = pairs["wan21"]
    lora_core.extract(base, tuned, tmp_path / "lora.safetensors", energy=energy, max_rank=100, rank=3)
    changes, keys = deltas(base, tuned), wan_keys()
    ranks = set()
    for module, _, kept in layers_of(tmp_path / "lora.safetensors"):
        squares = torch.linalg.svdvals(changes[keys[module]].flatten(1)).square()
        shares = squares.cumsum(0) / squares.sum()
        assert kept <= 100
        assert float(shares[kept - 1]) >= energy - 1e-6 or kept == min(100, len(squares))
        assert kept == 1 or float(shares[kept - 2]) <= energy + 1e-6
        ranks.add(kept)
    assert len(ranks) > 1 or energy == 1.0


@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.8])
def test_an_error_takes_the_smallest_rank_that_is_within_it(
    pairs: dict[str, tuple[Path, Path]], tmp_path: Path, threshold: float
) -> None:
    base, tuned = pairs["wan21"]
    out = tmp_path / "lora.safetensors"
    lora_core.extract(base, tuned, out, rank_by="error", threshold=threshold, max_rank=1000)
    changes, keys = deltas(base, tuned), wan_keys()
    for module, _, kept in layers_of(out):
        values = torch.linalg.svdvals(changes[keys[module]].flatten(1))
        assert float(values[kept:].norm() / values.norm()) <= threshold + 1e-6
        assert kept == 1 or float(values[kept - 1 :].norm() / values.norm()) >= threshold - 1e-6


# U-Nets and text encoders, in pieces of the true width

TE1, TE2 = "conditioner.embedders.0.transformer.text_model.", "conditioner.embedders.1.model."
UNET = "model.diffusion_model."
SDXL: dict[str, tuple[int, ...]] = {
    f"{UNET}input_blocks.0.0.weight": (320, 4, 3, 3),
    f"{UNET}label_emb.0.0.weight": (1280, 2816),
    f"{UNET}input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight": (640, 2048),
    f"{UNET}input_blocks.4.1.norm.weight": (640,),
    f"{UNET}input_blocks.1.0.in_layers.2.weight": (320, 320, 3, 3),
    f"{UNET}input_blocks.1.0.in_layers.2.bias": (320,),
    f"{TE1}encoder.layers.0.self_attn.q_proj.weight": (768, 768),
    f"{TE1}encoder.layers.0.layer_norm1.weight": (768,),
    f"{TE1}embeddings.position_embedding.weight": (77, 768),
    f"{TE2}transformer.resblocks.0.attn.in_proj_weight": (3840, 1280),
    f"{TE2}transformer.resblocks.0.attn.in_proj_bias": (3840,),
    f"{TE2}ln_final.bias": (1280,),
    f"{TE2}text_projection": (1280, 1280),
    "first_stage_model.decoder.conv_in.weight": (8, 4, 3, 3),
}
RANK_OF_CHANGE = 3


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A piece of SDXL, and the same with changes of rank 3; each third of a fused weight has its own three."""
    folder = tmp_path_factory.mktemp("sdxl")
    base = {key: tiny.fill(key, shape) for key, shape in SDXL.items()}
    tuned = dict(base)
    for seed, (key, shape) in enumerate(SDXL.items()):
        if len(shape) == 1:
            tuned[key] = base[key] + 0.01 * normal(shape, seed)
        else:
            thirds = 3 if key.endswith("in_proj_weight") else 1
            rows, width = shape[0] // thirds, base[key][0].numel()
            pieces = [
                normal((rows, RANK_OF_CHANGE), seed + n) @ normal((RANK_OF_CHANGE, width), seed + n + 50)
                for n in range(thirds)
            ]
            tuned[key] = base[key] + (torch.cat(pieces) / 1000).reshape(shape)
    return samples.save(folder / "base.safetensors", base), samples.save(folder / "tuned.safetensors", tuned)


LAYER = "text_model_encoder_layers_0"
KOHYA = {
    "lora_unet_input_blocks_0_0", "lora_unet_label_emb_0_0", "lora_unet_input_blocks_1_0_in_layers_2",
    "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k", f"lora_te1_{LAYER}_self_attn_q_proj",
    *(f"lora_te2_{LAYER}_self_attn_{letter}_proj" for letter in "qkv"),
    "text_encoders.clip_l.transformer.text_model.embeddings.position_embedding",
    "text_encoders.clip_g.transformer.text_projection",
}  # fmt: skip


@pytest.mark.parametrize("dialect", ["kohya", "comfy"])
def test_a_unet_and_its_text_encoders_come_back(sdxl: tuple[Path, Path], tmp_path: Path, dialect: str) -> None:
    lora, again = tmp_path / "lora.safetensors", tmp_path / "again.safetensors"
    report = lora_core.extract(*sdxl, lora, rank=RANK_OF_CHANGE, dialect=dialect, dtype="fp32")
    modules = {module for module, _, _ in layers_of(lora)}
    if dialect == "kohya":
        assert modules == KOHYA
    else:
        assert all(module.startswith(("diffusion_model.", "text_encoders.clip_")) for module in modules)
        assert len(modules) == len(KOHYA)
    vectors = {name for name in samples.load(lora) if name.endswith((".diff", ".diff_b"))}
    assert len(vectors) == 4 + 3  # two norms' weights, two biases, and q, k and v's parts of one bias
    merged = lora_core.merge(sdxl[0], [lora], again, on_unmatched="error")
    assert merged.loras[0].unmatched == []
    before, expected, found = (samples.load(path) for path in (*sdxl, again))
    for key, value in expected.items():
        if key.startswith("first_stage_model."):
            assert torch.equal(found[key], before[key])
        else:
            size = float((value - before[key]).norm())
            assert float((found[key] - value).norm()) <= 1e-3 * size, key
    assert report.notes[0] == f"{len(report.layers)} changed, 0 unchanged, 1 outside the known models"


def test_convolutions_have_a_rank_of_their_own(sdxl: tuple[Path, Path], tmp_path: Path) -> None:
    lora_core.extract(*sdxl, tmp_path / "lora.safetensors", rank=3, conv_rank=2)
    ranks = {module: rank for module, _, rank in layers_of(tmp_path / "lora.safetensors")}
    convolutions = {"lora_unet_input_blocks_0_0", "lora_unet_input_blocks_1_0_in_layers_2"}
    assert {module for module, rank in ranks.items() if rank == 2} == convolutions
    assert set(ranks.values()) == {2, 3}
    lora_core.extract(*sdxl, tmp_path / "energy.safetensors", energy=0.9999, max_rank=9, conv_rank=1)
    ranks = {module: rank for module, _, rank in layers_of(tmp_path / "energy.safetensors")}
    assert {module for module, rank in ranks.items() if rank == 1} == convolutions
    assert set(ranks.values()) == {1, 3}
    shapes = {name: tuple(tensor.shape) for name, tensor in samples.load(tmp_path / "lora.safetensors").items()}
    assert shapes["lora_unet_input_blocks_1_0_in_layers_2.lora_down.weight"] == (2, 320, 3, 3)
    assert shapes["lora_unet_input_blocks_1_0_in_layers_2.lora_up.weight"] == (320, 2, 1, 1)


# Names


@pytest.mark.parametrize("dialect", ["kohya", "comfy"])
@pytest.mark.parametrize("arch", manifests.archs())
def test_every_weight_has_one_name_and_it_leads_back(tmp_path: Path, arch: str, dialect: Any) -> None:
    with Checkpoint(samples.sparse_checkpoint(tmp_path / "model.safetensors", arch)) as model:
        rows: dict[str, list[tuple[int, int]]] = {}
        seen: set[tuple[str, str]] = set()
        itself: Any = models.ModelPair(model, model, models._partners(model, model))
        for module, name in ((job.name, job.written) for job in names._jobs(itself, dialect)):
            assert model.keymap.find(module, name.param) == (name.target,), module
            assert (module, name.param) not in seen
            seen.add((module, name.param))
            length = name.target.shape[-1 if name.target.transposed else 0] if name.target.shape else 0
            runs = name.target.order or ((name.target.start or 0, length),)
            rows.setdefault(name.target.key, []).extend((start, start + count) for start, count in runs)
        held = set().union(*(component.keys() for component in model.keymap.components))
        assert rows.keys() == held
        for key, spans in rows.items():
            ends = [0, *(end for _, end in sorted(spans))]
            assert [start for start, _ in sorted(spans)] == ends[:-1]  # no row twice, none left out
            assert not model.shapes[key] or ends[-1] == model.shapes[key][0]


@pytest.mark.parametrize(
    ("model", "trainer", "beyond"),
    [  # kohya's trainers leave these modules out, or train them only where they are asked to
        ("flux", "kohya_lora-flux1_dev", r"(img|txt|time|vector|guidance)_in.*|final_layer.*"),
        ("sd3", "kohya_lora-sd3_medium", r"(x|y|t|context)_embedder.*|final_layer.*|pos_embed"),
        ("wan21", "musubi_lora-wan21_t2v_14b", r"patch_embedding|(text|time)_(embedding|projection).*|head_head"),
    ],
)
def test_kohyas_names_are_those_of_its_own_trainers(
    pairs: dict[str, tuple[Path, Path]], tmp_path: Path, model: str, trainer: str, beyond: str
) -> None:
    known = {name.split(".")[0] for name in manifests.trainer(trainer).tensors}
    lora_core.extract(*pairs[model], tmp_path / "lora.safetensors", rank=1)
    ours = {module for module, _, _ in layers_of(tmp_path / "lora.safetensors") if module.startswith("lora_")}
    rest = {module for module in ours - known if not re.fullmatch(f"lora_unet_({beyond})", module)}
    assert rest == set()
    assert len(ours & known) > 5


# What the file says of itself


def test_the_metadata_is_what_other_tools_look_for(pairs: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    out = tmp_path / "lora.safetensors"
    report = lora_core.extract(*pairs["wan21"], out, rank=4)
    content = out.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    metadata = samples.metadata_of(out)
    assert json.loads(metadata.pop("lora_core.receipt"))["operation"] == "extract"
    assert metadata == {
        "format": "pt",
        "ss_v2": "False",
        "ss_base_model_version": report.arch,
        "ss_network_module": "networks.lora",
        "ss_network_dim": "4",
        "ss_network_alpha": "4",
        "ss_network_args": "{}",
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": f"{report.arch}/lora",
        "sshs_model_hash": hashlib.sha256(content[8 + length :]).hexdigest(),
    }
    assert (report.arch or "").startswith("wan21")
    lora_core.extract(*pairs["wan21"], tmp_path / "dynamic.safetensors", energy=0.5)
    assert samples.metadata_of(tmp_path / "dynamic.safetensors")["ss_network_dim"] == "Dynamic"


def test_the_same_extraction_gives_the_same_bytes(pairs: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    outs = [tmp_path / f"{number}.safetensors" for number in range(2)]
    for out in outs:
        lora_core.extract(*pairs["wan21"], out, rank=4)
    assert outs[0].read_bytes() == outs[1].read_bytes()


def test_the_report_lists_layers_by_block(pairs: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    report = lora_core.extract(*pairs["flux"], tmp_path / "lora.safetensors", rank=4)
    by_name = {layer["name"]: layer for layer in report.layers}
    assert by_name["lora_unet_double_blocks_0_img_attn_qkv"]["block"] == "double_blocks.0"
    assert by_name["lora_unet_final_layer_linear"]["block"] == "final_layer"
    norm = by_name["diffusion_model.double_blocks.0.img_attn.norm.key_norm"]
    assert (norm["rank"], norm["energy"]) == (None, 1.0)
    assert norm["norm"] > 0
    vae = sum(key.startswith("vae.") for key in manifests.tiny("flux"))
    assert report.notes[0] == f"{len(report.layers)} changed, 0 unchanged, {vae} outside the known models"
    assert json.loads(json.dumps(report.to_dict()))["layers"] == report.layers


# What can't be extracted


def test_what_the_files_do_not_share_is_named(pairs: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    before, after = (samples.load(path) for path in pairs["wan21"])
    wide = "blocks.0.ffn.0.weight"
    after[wide] = torch.cat((after[wide], after[wide]))
    after["blocks.9.extra.weight"] = torch.ones(3)
    del after["blocks.0.ffn.2.bias"]
    base, tuned = (
        samples.save(tmp_path / "base.safetensors", before),
        samples.save(tmp_path / "tuned.safetensors", after),
    )
    report = lora_core.extract(base, tuned, tmp_path / "lora.safetensors", rank=2)
    assert report.warnings == [
        "1 tensor of another shape left out: blocks.0.ffn.0.weight.",
        "1 tensor of the base only left out: blocks.0.ffn.2.bias.",
        "1 tensor of the tuned model only left out: blocks.9.extra.weight.",
    ]
    assert not any("ffn_0." in name and "lora" in name for name in samples.load(tmp_path / "lora.safetensors"))


def refused(error: type[LoraError], base: Path, tuned: Path, tmp_path: Path, **options: Any) -> str:
    out = tmp_path / "lora.safetensors"
    text = samples.message(error, lambda: lora_core.extract(base, tuned, out, **options))
    assert not out.exists()
    assert samples.partials(tmp_path) == []
    return text


def test_nothing_changed(pairs: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    base = pairs["wan21"][0]
    same = samples.save(tmp_path / "same.safetensors", samples.load(base))
    assert refused(LoraError, base, same, tmp_path) == (
        "same.safetensors: nothing to extract: every shared tensor equals the one in wan21.safetensors."
    )


def test_only_what_changed_is_written(pairs: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    tensors = samples.load(pairs["wan21"][0])
    tensors["blocks.0.self_attn.q.weight"][3, 5] += 1
    tuned = samples.save(tmp_path / "tuned.safetensors", tensors)
    report = lora_core.extract(pairs["wan21"][0], tuned, tmp_path / "lora.safetensors", energy=0.99)
    assert [(layer["name"], layer["rank"]) for layer in report.layers] == [("lora_unet_blocks_0_self_attn_q", 1)]


def test_two_models(pairs: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    assert refused(OptionError, pairs["flux"][0], pairs["wan21"][1], tmp_path) == (
        "wan21_tuned.safetensors: holds Wan 2.1 T2V 1.3B, but the base flux.safetensors holds Flux.1 dev; "
        "both must be of the same model."
    ).replace("Wan 2.1 T2V 1.3B", lora_core.inspect(pairs["wan21"][0]).title or "")


def test_another_prefix(pairs: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    """The same model in a checkpoint and alone, as people often have the base and the tuned file."""
    base, tuned = pairs["wan21"]
    renamed = {f"model.diffusion_model.{name}": tensor for name, tensor in samples.load(tuned).items()}
    other = samples.save(tmp_path / "other.safetensors", renamed)
    expected, found = tmp_path / "expected.safetensors", tmp_path / "found.safetensors"
    assert lora_core.extract(base, tuned, expected, rank=4).warnings == []
    assert lora_core.extract(base, other, found, rank=4).warnings == []
    assert list(samples.load(found)) == list(samples.load(expected))
    assert samples.content_hash(found) == samples.content_hash(expected), "the receipts name two inputs"


def test_another_layout(tmp_path: Path) -> None:
    base = samples.sparse_checkpoint(tmp_path / "clip_g.safetensors", "te_clip_g")
    keys = manifests.checkpoint("sdxl").keys
    openclip = {key: shape for key, shape in keys.items() if key.startswith("conditioner.embedders.1.")}
    other = tiny.sparse_file(tmp_path / "other.safetensors", tiny.with_dtype(openclip))
    text = refused(OptionError, base, other, tmp_path)
    assert text.startswith("other.safetensors: has no tensor name in common with clip_g.safetensors, e.g. 'conditioner")
    assert text.endswith("; give both in the same layout.")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_difference_that_is_no_number(pairs: dict[str, tuple[Path, Path]], tmp_path: Path, value: float) -> None:
    tensors = samples.load(pairs["wan21"][1])
    tensors["blocks.0.self_attn.q.weight"][0, 0] = value
    tuned = samples.save(tmp_path / "tuned.safetensors", tensors)
    assert refused(LoraError, pairs["wan21"][0], tuned, tmp_path) == (
        "tuned.safetensors: blocks.0.self_attn.q.weight: the difference to wan21.safetensors holds NaN or infinity."
    )


def test_a_quantised_model(pairs: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    tensors = samples.load(pairs["wan21"][0]) | {"blocks.0.self_attn.q.scale_weight": torch.ones(1)}
    tuned = samples.save(tmp_path / "tuned.safetensors", tensors)
    assert refused(UnknownArchError, pairs["wan21"][0], tuned, tmp_path) == (
        "tuned.safetensors: 'blocks.0.self_attn.q.scale_weight' is the scale of a quantised weight, but "
        "'blocks.0.self_attn.q.weight' holds F32, which is no format that this version can read; "
        "use the fp16, bf16 or fp8 version of the model."
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"rank": 0}, "rank: expected 1 to 32768; found 0."),
        ({"rank": 2.5}, "rank: expected a whole number; found 2.5."),
        ({"rank": True}, "rank: expected a whole number; found True."),
        ({"energy": 1.5}, "energy: expected 0 to 1; found 1.5."),
        ({"energy": float("nan")}, "energy: expected 0 to 1; found nan."),
        ({"max_rank": -1}, "max_rank: expected 1 to 32768; found -1."),
        ({"conv_rank": 10**9}, "conv_rank: expected 0 to 32768; found 1000000000."),
        ({"dialect": "klingon"}, "dialect: expected one of kohya, comfy, diffusers, peft; found 'klingon'."),
        ({"dtype": "int8"}, "dtype: expected one of fp16, bf16, fp32; found 'int8'."),
    ],
)
def test_options_are_checked(tmp_path: Path, options: dict[str, Any], expected: str) -> None:
    assert refused(OptionError, tmp_path / "none", tmp_path / "none", tmp_path, **options) == expected


@pytest.mark.parametrize("which", [0, 1])
def test_an_output_that_is_an_input(pairs: dict[str, tuple[Path, Path]], tmp_path: Path, which: int) -> None:
    copies = [tmp_path / path.name for path in pairs["wan21"]]
    for copy, path in zip(copies, pairs["wan21"], strict=True):
        copy.write_bytes(path.read_bytes())
    before = copies[which].read_bytes()
    link = tmp_path / "link.safetensors"
    link.hardlink_to(copies[which])
    for out in (copies[which], link):
        text = samples.message(OutputError, lambda out=out: lora_core.extract(*copies, out, overwrite=True))
        assert text == f"{out.name}: is also an input; choose another name for the output."
    assert copies[which].read_bytes() == before


def test_an_existing_output_is_known_before_the_work(pairs: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    out = tmp_path / "lora.safetensors"
    out.write_bytes(b"old")
    steps: list[int] = []
    action = lambda: lora_core.extract(*pairs["wan21"], out, on_step=lambda *step: steps.append(step))  # noqa: E731
    assert samples.message(OutputError, action) == (
        "lora.safetensors: already exists; choose another name or allow overwriting."
    )
    assert steps == []
    assert out.read_bytes() == b"old"


def test_progress_and_cancel(pairs: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    out = tmp_path / "lora.safetensors"
    lora_core.extract(*pairs["wan21"], out, rank=1, on_step=lambda done, total: steps.append((done, total)))
    assert steps == sorted(steps)
    assert steps[0][0] == 0
    assert steps[-1][0] <= steps[-1][1]
    out.unlink()

    def cancel(done: int, total: int) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lora_core.extract(*pairs["wan21"], out, rank=1, on_step=cancel)
    assert samples.listing(tmp_path) == []
