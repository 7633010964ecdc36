"""Adapters as other programs lay them out: the change is what their own code computes, in fp64."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import lora_core
from lora_core.errors import FileFormatError, LoraError, WrongFileKindError
from lora_core.reading.lorafile import LoraFile
from tests.core import samples

WIDTH, INNER, WORDS, RANK, LAYERS = 32, 48, 60, 4, 2
MODULES = [f"model.layers.{i}.self_attn.{p}_proj" for i in range(LAYERS) for p in "qkvo"] + [
    f"model.layers.{i}.mlp.{p}_proj" for i in range(LAYERS) for p in ("gate", "up", "down")
]


def noise(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.1


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shapes = {
        "model.embed_tokens.weight": (WORDS, WIDTH),
        "model.norm.weight": (WIDTH,),
        "lm_head.weight": (WORDS, WIDTH),
    }
    for i in range(LAYERS):
        at = f"model.layers.{i}."
        shapes |= {f"{at}self_attn.{p}_proj.weight": (WIDTH, WIDTH) for p in "qo"}
        shapes |= {f"{at}self_attn.{p}_proj.weight": (WIDTH // 2, WIDTH) for p in "kv"}
        shapes |= {f"{at}mlp.{p}_proj.weight": (INNER, WIDTH) for p in ("gate", "up")}
        shapes |= {f"{at}mlp.down_proj.weight": (WIDTH, INNER)}
        shapes |= {f"{at}{n}_layernorm.weight": (WIDTH,) for n in ("input", "post_attention")}
    tensors = {key: noise(*shape, seed=n) for n, (key, shape) in enumerate(shapes.items())}
    return samples.save(tmp_path_factory.mktemp("base") / "base.safetensors", tensors)


def factors(base: Path, modules: list[str] = MODULES) -> dict[str, tuple[Tensor, Tensor]]:
    """{module: (A [rank, in], B [out, rank])}"""
    weights = samples.load(base)
    shapes = {module: weights[f"{module}.weight"].shape for module in modules}
    return {
        module: (noise(RANK, columns, seed=100 + n), noise(rows, RANK, seed=200 + n))
        for n, (module, (rows, columns)) in enumerate(shapes.items())
    }


def peft_names(pairs: dict[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    return {
        f"base_model.model.{module}.lora_{field}.weight": factor
        for module, pair in pairs.items()
        for field, factor in zip("AB", pair, strict=True)
    }


def assert_applies(base: Path, lora: Path, pairs: dict[str, tuple[Tensor, Tensor]], scale: float) -> lora_core.Report:
    out = lora.with_name("merged.safetensors")
    out.unlink(missing_ok=True)
    report = lora_core.merge(base, [lora], out, on_unmatched="error")
    before, after = samples.load(base), samples.load(out)
    for key, weight in before.items():
        change = after[key].double() - weight.double()
        pair = pairs.get(key.removesuffix(".weight"))
        if pair is None:
            assert not change.any(), key
            continue
        expected = scale * pair[1].double() @ pair[0].double()
        assert float((change - expected).norm() / expected.norm()) < 1e-5, key
    assert report.loras[0].modules_matched == len(pairs)
    return report


CONFIG = {"peft_type": "LORA", "r": RANK, "lora_alpha": 12, "target_modules": ["q_proj"]}


def config(folder: Path, content: object = CONFIG) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(content))


def save_shards(folder: Path, tensors: dict[str, Tensor], ending: str, count: int = 3) -> Path:
    """As transformers and PEFT shard a model: an index beside the parts."""
    names = [f"adapter_model-{n + 1:05}-of-{count:05}.{ending}" for n in range(count)]
    places = {key: names[n % count] for n, key in enumerate(tensors)}
    for name in names:
        part = {key: tensors[key] for key in tensors if places[key] == name}
        if ending == "bin":
            torch.save(part, folder / name)
        else:
            samples.save(folder / name, part)
    index = folder / f"adapter_model.{ending}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return index


# PEFT's folders


@pytest.mark.parametrize(
    "name", ["adapter_model.bin", "adapter_model.pt", "pytorch_lora_weights.bin", "my.bin", "my.safetensors"]
)
def test_a_folder_with_one_file(tmp_path: Path, base: Path, name: str) -> None:
    pairs, folder = factors(base), tmp_path / "adapter"
    config(folder, {} if name.startswith(("pytorch", "my.bin")) else CONFIG)
    if name.endswith(".safetensors"):
        samples.save(folder / name, peft_names(pairs))
    else:
        torch.save(peft_names(pairs), folder / name)
    torch.save({"lr": 1}, folder / "optimizer.bin")
    (folder / "README.md").write_text("# mine")
    report = assert_applies(base, folder, pairs, 1 if name.startswith(("pytorch", "my.bin")) else 3)
    assert report.loras[0].name == f"adapter/{name}"


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
def test_shards_with_an_index(tmp_path: Path, base: Path, ending: str) -> None:
    pairs, folder = factors(base), tmp_path / "adapter"
    config(folder)
    index = save_shards(folder, peft_names(pairs), ending)
    assert_applies(base, folder, pairs, 3)
    first = folder / f"adapter_model-00001-of-00003.{ending}"
    for given in (index, first):  # a part that is named alone is not half of a LoRA
        with LoraFile(given) as file:
            assert len(file.adapters) == len(pairs)
    merged = tmp_path / "merged.safetensors"
    assert lora_core.verify(merged, base=base, loras=[folder]).verified["equal"]  # type: ignore[index]
    tensors = torch.load(first) if ending == "bin" else samples.load(first)
    tensors = {key: 2 * tensor for key, tensor in tensors.items()}
    torch.save(tensors, first) if ending == "bin" else samples.save(first, tensors)
    with pytest.raises(LoraError, match=rf"{first.name} beside it: not what was merged"):
        lora_core.verify(merged, base=base, loras=[folder])
    index.unlink()
    with pytest.raises(FileFormatError, match=r"is one of 3 parts of an adapter, and adapter_model.*is not beside it"):
        LoraFile(first)


def test_indices_that_lead_elsewhere_or_lack_files(tmp_path: Path, base: Path) -> None:
    folder = tmp_path / "adapter"
    config(folder)
    index = save_shards(folder, peft_names(factors(base)), "safetensors")
    content = json.loads(index.read_text())
    for name, reason in (
        ("../x.safetensors", "nothing outside the folder is read"),
        ("a.bin", "broken index"),
        ("b.safetensors", "missing"),
    ):
        some = next(iter(content["weight_map"]))
        index.write_text(json.dumps({"weight_map": {**content["weight_map"], some: name}}))
        with pytest.raises(FileFormatError, match=reason):
            LoraFile(folder)


def test_a_folder_of_folders_names_them(tmp_path: Path, base: Path) -> None:
    for name in ("one", "two"):
        config(tmp_path / name)
        samples.save(tmp_path / name / "adapter_model.safetensors", peft_names(factors(base)))
    with pytest.raises(FileFormatError, match="with one, two in it, each with an adapter; give one of these"):
        LoraFile(tmp_path)


OPTIMIZER: Any = {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 1.0}]}
WRAPS: list[Callable[[Any, Any], Any]] = [
    lambda lora, base: {"model": lora, "optimizer": OPTIMIZER},
    lambda lora, base: {"lora": lora, "model": base, "epoch": 3, "step": 10},
    lambda lora, base: {"epoch": 1, "state_dict": {"adapter": lora}, "loss": 0.5, "args": {"lr": 1e-4}},
    lambda lora, base: {"lora_state_dict": lora, "rank": 4, "ema": {"decay": 0.9}},
    lambda lora, base: {"anything": lora, "optimizer": OPTIMIZER, "epoch": 2},
    lambda lora, base: {"peft": lora, "rng": (1, 2)},
]


@pytest.mark.parametrize("wrap", WRAPS)
def test_a_checkpoint_of_a_trainer(tmp_path: Path, base: Path, wrap: Any) -> None:
    pairs, path = factors(base), tmp_path / "step.pt"
    torch.save(wrap(peft_names(pairs), samples.load(base)), path)
    assert_applies(base, path, pairs, 1)


# MLX


MLX = {"fine_tune_type": "lora", "num_layers": 2, "lora_parameters": {"rank": RANK, "scale": 2.5, "dropout": 0.0}}


def mlx_names(pairs: dict[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    return {f"{m}.lora_{f}": t.T.contiguous() for m, pair in pairs.items() for f, t in zip("ab", pair, strict=True)}


def test_mlx_scales_directly_and_turns_its_factors(tmp_path: Path, base: Path) -> None:
    pairs, folder = factors(base, [*MODULES, "lm_head"]), tmp_path / "adapter"
    config(folder, MLX)
    samples.save(folder / "adapters.safetensors", mlx_names(pairs))
    samples.save(folder / "0000100_adapters.safetensors", mlx_names(factors(base)))
    assert_applies(base, folder, pairs, 2.5)
    assert_applies(base, folder / "adapters.safetensors", pairs, 2.5)


def test_mlx_with_square_factors(tmp_path: Path, base: Path) -> None:
    """Rank and width alike: only who wrote them tells which way they lie."""
    module = MODULES[0]
    pairs = {module: (noise(WIDTH, WIDTH, seed=1), noise(WIDTH, WIDTH, seed=2))}
    config(tmp_path / "adapter", MLX)
    samples.save(tmp_path / "adapter/adapters.safetensors", mlx_names(pairs))
    assert_applies(base, tmp_path / "adapter", pairs, 2.5)


def test_mlx_dora(tmp_path: Path, base: Path) -> None:
    """mlx-lm, tuner/dora.py: m (W + change) / |W + change|, row by row."""
    (module, (down, up)), weight = (
        next(iter(factors(base, MODULES[:1]).items())),
        samples.load(base)[f"{MODULES[0]}.weight"],
    )
    magnitude = weight.norm(dim=1) * (1 + noise(WIDTH, seed=9))
    config(tmp_path / "adapter", {**MLX, "fine_tune_type": "dora"})
    tensors = mlx_names({module: (down, up)}) | {f"{module}.m": magnitude}
    samples.save(tmp_path / "adapter/adapters.safetensors", tensors)
    lora_core.merge(base, [tmp_path / "adapter"], tmp_path / "out.safetensors")
    moved = weight.double() + 2.5 * up.double() @ down.double()
    expected = magnitude.double()[:, None] * moved / moved.norm(dim=1, keepdim=True)
    found = samples.load(tmp_path / "out.safetensors")[f"{module}.weight"].double()
    assert float((found - expected).norm() / (expected - weight).norm()) < 1e-5


def test_what_mlx_trained_in_full_is_no_lora(tmp_path: Path) -> None:
    config(tmp_path, {**MLX, "fine_tune_type": "full"})
    samples.save(tmp_path / "adapters.safetensors", {"model.layers.1.mlp.up_proj.weight": torch.ones(4, 4)})
    with pytest.raises(WrongFileKindError, match=r"is what MLX trained in full.*; merge it with mlx_lm\.fuse"):
        LoraFile(tmp_path)


def test_mlx_experts_are_named(tmp_path: Path) -> None:
    config(tmp_path, MLX)
    tensors = {
        "model.layers.0.mlp.experts.up.lora_a": torch.ones(3, 4, 8),
        "model.layers.0.mlp.experts.up.lora_b": torch.ones(3, 9, 4),
    }
    samples.save(tmp_path / "adapters.safetensors", tensors)
    with pytest.raises(WrongFileKindError, match=r"MLX adapter with factors of experts.*; merge it with mlx_lm\.fuse"):
        LoraFile(tmp_path)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (None, "is an MLX adapter, whose scale is in adapter_config.json.*put both into one folder"),
        ({}, "names no scale in lora_parameters"),
        ({"lora_parameters": {"rank": 8, "scale": "x"}}, "names no scale in lora_parameters"),
        ({"lora_parameters": {"rank": 8, "scale": True}}, "names no scale in lora_parameters"),
    ],
)
def test_mlx_without_its_scale_is_refused(tmp_path: Path, base: Path, settings: object, reason: str) -> None:
    if settings is not None:
        config(tmp_path, settings)
    samples.save(tmp_path / "adapters.safetensors", mlx_names(factors(base)))
    with pytest.raises(FileFormatError, match=reason):
        LoraFile(tmp_path / "adapters.safetensors")


# llama.cpp


def write_gguf(path: Path, tensors: dict[str, Tensor], arch: str, **values: Any) -> Path:
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(path, arch)
    writer.add_string("general.type", "adapter")
    writer.add_string("adapter.type", "lora")
    for key, value in values.items():
        name = key.replace("__", ".")
        add = {float: writer.add_float32, int: writer.add_uint32, list: writer.add_array}[type(value)]
        add(name, value)
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


GGUF = {
    **{f"self_attn.{p}_proj": f"attn_{p}" for p in "qkv"},
    "self_attn.o_proj": "attn_output",
    **{f"mlp.{p}_proj": f"ffn_{p}" for p in ("gate", "up", "down")},
}


def permuted(rows: Tensor, heads: int) -> Tensor:
    """As llama.cpp's converter stores q and k of Llama."""
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)


def gguf_names(pairs: dict[str, tuple[Tensor, Tensor]], heads: dict[str, int] | None = None) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for module, (down, up) in pairs.items():
        _, _, block, rest = module.split(".", 3) if "layers" in module else ("", "", "", module)
        name = f"blk.{block}.{GGUF[rest]}" if block else "output"
        rows = permuted(up, heads[rest[10]]) if heads and rest[10:11] in ("q", "k") else up
        found |= {f"{name}.weight.lora_a": down, f"{name}.weight.lora_b": rows.contiguous()}
    return found


@pytest.mark.parametrize("alpha", [12.0, None])
def test_gguf_lora(tmp_path: Path, base: Path, alpha: float | None) -> None:
    pairs = factors(base, [*MODULES, "lm_head"])
    values = {} if alpha is None else {"adapter__lora__alpha": alpha}
    lora = write_gguf(tmp_path / "lora.gguf", gguf_names(pairs), "qwen2", **values)
    assert_applies(base, lora, pairs, 1 if alpha is None else alpha / RANK)


def test_gguf_lora_of_llama_has_its_rows_put_in_order(tmp_path: Path, base: Path) -> None:
    pairs, heads = factors(base), {"q": 4, "k": 2}
    told = {"llama__attention__head_count": 4, "llama__attention__head_count_kv": 2}
    lora = write_gguf(tmp_path / "a.gguf", gguf_names(pairs, heads), "llama", adapter__lora__alpha=8.0, **told)
    assert_applies(base, lora, pairs, 2)
    others = {module: pair for module, pair in pairs.items() if "q_proj" not in module and "k_proj" not in module}
    assert_applies(base, write_gguf(tmp_path / "b.gguf", gguf_names(others), "llama"), others, 1)
    lora = write_gguf(tmp_path / "c.gguf", gguf_names(pairs, heads), "llama", adapter__lora__alpha=8.0)
    with pytest.raises(WrongFileKindError, match=r"GGUF LoRA of llama.cpp for Llama.*number of heads; use the adapter"):
        LoraFile(lora)


@pytest.mark.parametrize(
    ("arch", "extra", "values", "reason"),
    [
        ("mamba", {}, {}, "GGUF LoRA of llama.cpp for mamba, whose names this version does not know; use the"),
        ("qwen2", {"blk.0.ssm_in.weight.lora_a": torch.ones(4, 32)}, {}, "can't place in qwen2; use the adapter"),
        ("qwen2", {}, {"adapter__alora__invocation_tokens": [1, 2]}, "activated LoRA.*use it with llama.cpp or PEFT"),
    ],
)
def test_gguf_that_has_no_place(
    tmp_path: Path, base: Path, arch: str, extra: dict[str, Tensor], values: dict[str, Any], reason: str
) -> None:
    lora = write_gguf(tmp_path / "lora.gguf", {**gguf_names(factors(base)), **extra}, arch, **values)
    with pytest.raises(WrongFileKindError, match=reason):
        LoraFile(lora)
