"""From the names in a file to adapters: which parts make which kind, what scales it, what is said beside the file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lora_core.adapters.suffixes import split_name, split_names
from lora_core.errors import AdapterError, FileFormatError
from lora_core.naming.targets import Target
from lora_core.reading.loraconfig import Scale
from lora_core.reading.lorafile import LoraFile
from lora_core.reading.patterns import ModulePattern, PatternError
from lora_core.stack.apply import Placed, apply_stack
from tests.core import samples

M = "lora_unet_m"
OUT, IN = 12, 8
LORA = {"lora_up.weight": (OUT, 3), "lora_down.weight": (3, IN)}
PEFT = {"lora_A.weight": (4, IN), "lora_B.weight": (OUT, 4)}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape) * 31 + seed))


def written(folder: Path, parts: dict[str, Any], module: str = M, metadata: dict[str, str] | None = None) -> Path:
    """A file of one module; a part is a shape, filled at random, or a tensor."""
    tensors = {f"{module}.{k}": v if isinstance(v, Tensor) else normal(*v, seed=len(k)) for k, v in parts.items()}
    return samples.save(folder / "x.safetensors", tensors, metadata or {})


def changed(path: Path, weight: Tensor, **options: Any) -> Tensor:
    """The weight with all adapters of a file that are for a weight of this shape."""
    with LoraFile(path, **options) as file:
        assert not file.not_adapters and not file.unsupported
        stack = [file.adapter(spec) for spec in file.adapters if spec.fits(tuple(weight.shape))]
    return apply_stack(weight, [Placed(one, Target("k", tuple(weight.shape)), 1.0) for one in stack], **options)


KINDS: dict[str, tuple[dict[str, Any], str, list[str]]] = {
    "LoRA": (LORA, M, ["LoRA"]),
    "DoRA": (LORA | {"dora_scale": (OUT, 1)}, M, ["DoRA"]),
    "DoRA of PEFT": (PEFT | {"lora_magnitude_vector": (OUT,)}, "m", ["DoRA"]),
    "LoHa": ({f"hada_{n}_{s}": (OUT, 3) if s == "a" else (3, IN) for n in ("w1", "w2") for s in "ab"}, M, ["LoHa"]),
    "DoRA of LoKr": ({"lokr_w1": (3, 2), "lokr_w2": (4, 4), "dora_scale": (1, IN)}, M, ["DoRA", "LoKr"]),
    "GLoRA": ({"a1.weight": (IN, 2), "a2.weight": (2, IN), "b1.weight": (OUT, 2), "b2.weight": (2, IN)}, M, ["GLoRA"]),
    "DoRA of ai-toolkit": (LORA | {"magnitude": (OUT,)}, M, ["DoRA"]),
    "DoRA of an embedding": (
        {"lora_embedding_A": (4, OUT), "lora_embedding_B": (IN, 4), "lora_magnitude_vector": (IN,)}, "m", ["DoRA"]),
    "LoRA of an embedding": ({"lora_embedding_A": (4, OUT), "lora_embedding_B": (IN, 4)}, "m", ["LoRA"]),
    "LoRA of FastVideo": ({"lora_A": (4, IN), "lora_B": (OUT, 4), "lora_alpha": torch.tensor(8.0)}, "m", ["LoRA"]),
    "a parameter's difference": ({"diff_param": (OUT, IN)}, "m", ["full difference"]),
    "Diag-OFT": ({"oft_blocks": (3, 4, 4), "rescale": (OUT, 1)}, M, ["Diag-OFT"]),
    "BOFT": ({"oft_blocks": (2, 6, 2, 2)}, M, ["BOFT"]),
    "kohya's OFT": ({"oft_blocks": (3, 4, 4), "alpha": torch.tensor(0.1)}, "oft_unet_m", ["OFT"]),
    "pieces": ({"oft_blocks.0": (1, 4, 4), "oft_blocks.1": (2, 4, 4), "alpha": torch.ones(1)}, "oft_unet_m", ["OFT"]),
    "OneTrainer's OFT": ({"oft_R.weight": (2, 6), "oft_R.scaled_oft": torch.tensor(True)}, M, ["OFT"]),
    "IA3": ({"weight": (IN,), "on_input": torch.tensor(1)}, M, ["IA3"]),
    "PEFT's IA3": ({"ia3_l": (OUT, 1)}, "base_model.model.m", ["IA3"]),
    "full": ({"diff": (OUT, IN), "diff_b": (OUT,)}, M, ["full difference"]),
    "norm": ({"w_norm": (OUT,), "b_norm": (OUT,)}, M, ["norm"]),
    "set": ({"set_weight": (OUT, IN)}, M, ["set"]),
    "reshape": (LORA | {"reshape_weight": torch.tensor([OUT, IN])}, M, ["LoRA", "reshape"]),
    "bias": (LORA | {"lora_up.bias": (OUT,)}, M, ["LoRA", "bias"]),
}  # fmt: skip


@pytest.mark.parametrize("case", KINDS)
def test_parts_make_a_kind(tmp_path: Path, case: str) -> None:
    parts, module, kinds = KINDS[case]
    path = written(tmp_path, parts, module)
    with LoraFile(path) as file:
        assert file.kinds == kinds
        assert (dict(file.not_adapters), file.unsupported, file.modules) == ({}, {}, [module])
        file.load()
    for spec in file.adapters:  # after the file is closed
        shape = (OUT,) if spec.param == "bias" or case == "norm" else (OUT, IN)
        assert spec.fits(shape)
        assert not spec.fits((OUT + 1, IN + 3)) and not spec.fits((7,))
        weight = normal(*shape)
        assert not torch.equal(apply_stack(weight, [Placed(file.adapter(spec), Target("k", shape), 1.0)]), weight)


@pytest.mark.case(8)
@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"dora_scale": (OUT, 1), "lora_up.bias": (OUT,)}, "has magnitude without the adapter that it belongs to"),
        ({"lokr_w1": (3, 2), "lokr_w2_a": (4, 2)}, "has w2_a without w2_b"),
        ({"hada_w1_a": (4, 2)}, "has w1_a without w1_b and w2_a and w2_b"),
        ({"oft_blocks": (3, 4, 5)}, "expected blocks [n, b, b], found [3, 4, 5]"),
        ({"oft_R.weight": (3, 4)}, "expected vectors [n, b(b - 1)/2], found [3, 4]"),
        ({"on_input": torch.tensor(1)}, "has on_input without vector"),
        ({"rescale": (OUT, 1)}, "has no part without blocks"),
        ({"a1.weight": (IN, 2)}, "has a1 without a2 and b1 and b2"),
    ],
)
def test_parts_that_are_not_whole_are_named(tmp_path: Path, parts: dict[str, Any], message: str) -> None:
    path = written(tmp_path, parts)
    assert samples.message(AdapterError, lambda: LoraFile(path)) == (
        f"x.safetensors: {M}: {message}; the file is damaged or not complete."
    )


def test_an_adapters_name_that_peft_left_in_is_no_part_of_the_module() -> None:
    for name in ("default", "default_0", "my style"):
        split = split_name(f"blocks.0.q.lora_A.{name}.weight")
        assert split
        assert (split.module, split.part.field) == ("blocks.0.q", "down")
    assert split_name("blocks.0.lora_C.default.weight") is None
    assert split_name("lora_A.default.weight") is None


def test_words_that_say_nothing_alone() -> None:
    assert split_name("m.weight") is None
    assert split_names(["m.weight", "m.bias"]) == {}
    assert {n: (s.module, s.part.kind) for n, s in split_names(["m.weight", "m.on_input", "n.weight"]).items()} == {
        "m.weight": ("m", "ia3"),
        "m.on_input": ("m", "ia3"),
    }
    norm = "single_blocks.0.norm.key_norm.scale"
    assert split_names([norm]) == {}  # a checkpoint's
    assert split_names([norm, "img_in.lora_A.weight"])[norm].module == "single_blocks.0.norm.key_norm"


def test_a_magnitude_by_any_name_and_in_any_shape_is_the_same(tmp_path: Path) -> None:
    weight, magnitude = normal(OUT, IN, 3, 3), normal(OUT).abs()
    lora = {"lora_B.weight": (OUT, 3, 1, 1), "lora_A.weight": (3, IN, 3, 3)}
    results = []
    for name, shape in (
        ("dora_scale", (OUT, 1, 1, 1)),
        ("dora_scale", (OUT,)),
        ("lora_magnitude_vector", (1, OUT, 1, 1)),  # PEFT's convolutions
        ("lora_magnitude_vector.weight", (OUT,)),
    ):
        results.append(changed(written(tmp_path, lora | {name: magnitude.reshape(shape)}), weight))
        assert torch.allclose(torch.linalg.vector_norm(results[0].flatten(1), dim=1), magnitude)
    assert all(torch.equal(result, results[0]) for result in results)


def test_both_layouts_of_glora_are_one(tmp_path: Path) -> None:
    a, a2, b, b2 = normal(IN, 2), normal(2, IN), normal(OUT, 2), normal(2, IN, seed=1)
    new = {"a1.weight": a, "a2.weight": a2, "b1.weight": b, "b2.weight": b2}
    old = {"a2.weight": a, "a1.weight": a2, "b2.weight": b, "b1.weight": b2}
    weight = normal(OUT, IN)
    assert torch.equal(changed(written(tmp_path, new), weight), changed(written(tmp_path, old), weight))
    square = {"a1.weight": a, "a2.weight": a2, "b1.weight": normal(IN, 2), "b2.weight": b2}
    turned = {"a2.weight": a, "a1.weight": a2, "b2.weight": normal(IN, 2), "b1.weight": b2}
    weight = normal(IN, IN)
    assert torch.equal(changed(written(tmp_path, square), weight), changed(written(tmp_path, turned), weight))


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("shape", [(OUT, IN), (OUT, 4, 2, 1)])
def test_onetrainers_oft(tmp_path: Path, scaled: bool, shape: tuple[int, ...]) -> None:
    """OneTrainer's OFTModule: x·R before a linear layer, W·R in a convolution, R of five terms of the series."""
    vectors, weight = normal(2, 6) / 4, normal(*shape)
    parts = {"oft_R.weight": vectors} | ({"oft_R.scaled_oft": torch.tensor(True)} if scaled else {})
    q = torch.zeros(2, 4, 4, dtype=torch.float64)
    rows, columns = torch.triu_indices(4, 4, 1)
    q[:, rows, columns] = vectors.double() / (2 * 3**0.5 if scaled else 1)
    q = q - q.transpose(1, 2)
    r = torch.block_diag(*(torch.eye(4) + 2 * q + 2 * q @ q + 2 * q @ q @ q + q @ q @ q @ q))
    expected = weight.double().flatten(1) @ (r if len(shape) > 2 else r.T)
    assert torch.allclose(changed(written(tmp_path, parts), weight).double().flatten(1), expected, atol=1e-5)


def test_a_control_lora_sets_norms_and_widens_the_first_layer(tmp_path: Path) -> None:
    norm = "single_blocks.0.norm.key_norm"
    tensors = {
        "img_in.lora_A.weight": normal(4, 2 * IN),
        "img_in.lora_B.weight": normal(OUT, 4),
        f"{norm}.scale": normal(IN),
    }
    with LoraFile(samples.save(tmp_path / "x.safetensors", tensors)) as file:
        first, second = sorted(file.adapters, key=lambda spec: spec.kind)
        assert (first.module, first.kinds, first.new_shape) == ("img_in", ["LoRA", "reshape"], (OUT, 2 * IN))
        assert (second.module, second.param, second.kinds) == (norm, "weight", ["set"])
        assert first.fits((OUT, IN)) and first.fits((OUT, 2 * IN)) and not first.fits((OUT, 3 * IN))
        placed = Placed(file.adapter(first), Target("k", (OUT, IN)), 1.0)
        assert apply_stack(normal(OUT, IN), [placed]).shape == (OUT, 2 * IN)
        placed = Placed(file.adapter(second), Target("k", (IN,)), 1.0)
        assert torch.allclose(apply_stack(torch.ones(IN), [placed]), tensors[f"{norm}.scale"], atol=1e-6)


@pytest.mark.case(9)
def test_what_is_no_adapter_is_named(tmp_path: Path) -> None:
    names = {
        "bundle_emb.word.clip_l": "embedding (textual inversion)",
        "n.original_module.weight": "what a module was before it was trained whole",
    }
    unknown = ["n.alpha", "q", "lora_unet_n.lora_diag"]
    tensors = {f"{M}.{part}": normal(*shape) for part, shape in LORA.items()}
    tensors |= {name: normal(2) for name in (*names, *unknown)}
    with LoraFile(samples.save(tmp_path / "x.safetensors", tensors)) as file:
        assert file.not_adapters == names
        assert sorted(file.unknown) == sorted(unknown)


# Scales


@pytest.mark.parametrize("alpha", [None, 5.0])
def test_a_lokr_without_rank_has_no_scale(tmp_path: Path, alpha: float | None) -> None:
    parts: dict[str, Any] = {"lokr_w1": (3, 2), "lokr_w2": (4, 4)}
    parts |= {} if alpha is None else {"alpha": torch.tensor(alpha)}
    with LoraFile(written(tmp_path, parts)) as file:
        assert file.adapters[0].scale == Scale(1.0, "none")
        expected = ["x.safetensors: alpha is ignored in 1 LoKr module without a rank, as LyCORIS does."]
        assert file.warnings == ([] if alpha is None else expected)


@pytest.mark.parametrize("factored", ["w1", "w2", "both"])
def test_a_lokrs_rank_is_that_of_w2_first(tmp_path: Path, factored: str) -> None:
    parts: dict[str, Any] = {"alpha": torch.tensor(6.0)}
    parts |= {"lokr_w1": (3, 2)} if factored == "w2" else {"lokr_w1_a": (3, 2), "lokr_w1_b": (2, 2)}
    parts |= {"lokr_w2": (4, 4)} if factored == "w1" else {"lokr_w2_a": (4, 3), "lokr_w2_b": (3, 4)}
    with LoraFile(written(tmp_path, parts)) as file:
        assert file.adapters[0].scale.value == (3.0 if factored == "w1" else 2.0)


def folder_with(folder: Path, config: Any, name: str = "adapter_model.safetensors") -> Path:
    folder.mkdir(exist_ok=True)
    tensors = {f"base_model.model.blocks.0.q.{part}": normal(*shape) for part, shape in PEFT.items()}
    samples.save(folder / name, tensors)
    text = config if isinstance(config, str) else json.dumps(config)
    (folder / "adapter_config.json").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("config", "value"),
    [
        ({"lora_alpha": 8}, 2.0),
        ({"lora_alpha": 8, "use_rslora": True}, 4.0),
        ({"lora_alpha": 8, "alpha_pattern": {r"blocks\.[0-3]\.(q|k)": 2}}, 0.5),
        ({"lora_alpha": 8, "alpha_pattern": {"^q": 2}}, 2.0),
        ({"alpha": 2}, 0.5),
    ],
)
def test_alpha_in_the_configuration_beside_the_file(tmp_path: Path, config: dict[str, Any], value: float) -> None:
    folder = folder_with(tmp_path / "style", config)
    for path in (folder, folder / "adapter_model.safetensors"):
        with LoraFile(path) as file:
            (spec,) = file.adapters
            assert (spec.scale.value, spec.scale.source, file.warnings) == (value, "adapter_config", [])
            assert file.name == ("style/adapter_model.safetensors" if path == folder else "adapter_model.safetensors")
        with LoraFile(path, "comfyui") as file:
            assert file.adapters[0].scale == Scale(1.0, "none")


def test_a_configuration_counts_for_its_own_file_alone(tmp_path: Path) -> None:
    folder_with(tmp_path, {"lora_alpha": 8}, "one.safetensors")
    folder_with(tmp_path, {"lora_alpha": 8}, "two.safetensors")
    with LoraFile(tmp_path / "one.safetensors") as file:
        assert file.adapters[0].scale.source == "none"
    with pytest.raises(FileFormatError, match=r"is a folder; expected .* found one.safetensors, two.safetensors"):
        LoraFile(tmp_path)


@pytest.mark.parametrize(
    ("config", "warning"),
    [
        ("{}", "has no alpha, in the file or beside it; scale 1 is assumed."),
        ("[1" * 99, "has no alpha, in the file or beside it; scale 1 is assumed."),
        ({"lora_alpha": 4, "alpha_pattern": {"(?=q)": 2}}, "the pattern '(?=q)' counts for no module: '?' is not"),
        ({"lora_alpha": 4, "init_lora_weights": "pissa_niter_4"}, "was trained on a base that pissa"),
    ],
)  # fmt: skip
def test_what_the_configuration_leaves_open_is_a_warning(tmp_path: Path, config: Any, warning: str) -> None:
    with LoraFile(folder_with(tmp_path / "a", config)) as file:
        (found,) = file.warnings
        assert found.startswith(f"a/adapter_model.safetensors: {warning}")
        assert file.adapters[0].scale.value == 1.0


def test_transposed_weights_are_refused(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "a", {"lora_alpha": 4, "fan_in_fan_out": True})
    with pytest.raises(AdapterError, match="fan_in_fan_out: its weights are transposed"):
        LoraFile(folder)


SETTINGS: dict[str, tuple[Any, str]] = {
    "alora_invocation_tokens": ([5, 6], "is an activated LoRA"),
    "layer_replication": ([[0, 2], [1, 3]], "layers are repeated"),
    "arrow_config": ({"top_k": 2}, "is a router over other LoRAs"),
    "use_bdlora": ({"nblocks": 2}, "is a block-diagonal LoRA"),
    "use_qalora": (True, "is a QA-LoRA"),
    "kasa_config": ({"beta": 1e-4}, "is a KaSA LoRA"),
    "target_parameters": (["mlp.experts.gate_up_proj"], "experts that are one parameter"),
}
OFF = (None, False, [], {}, "", "None")


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_that_forbids_a_merge_is_refused_by_name(tmp_path: Path, setting: str) -> None:
    value, expected = SETTINGS[setting]
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8}
    with pytest.raises(AdapterError, match=rf"^a/adapter_model.safetensors: .*{expected}"):
        LoraFile(folder_with(tmp_path / "a", config | {setting: value}))
    path = written(
        tmp_path, PEFT, "transformer.m", {"lora_adapter_metadata": json.dumps({f"transformer.{setting}": value})}
    )
    with pytest.raises(AdapterError, match=expected):
        LoraFile(path)
    for off in OFF:
        with LoraFile(folder_with(tmp_path / "a", config | {setting: off})) as file:
            assert file.adapters[0].scale.value == 2.0


def test_dora_without_magnitudes_is_refused(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "a", {"peft_type": "LORA", "lora_alpha": 4, "use_dora": True})
    with pytest.raises(AdapterError, match="says use_dora, and it holds no magnitudes"):
        LoraFile(folder)


@pytest.mark.parametrize("told", [4.0, 8.0])
def test_a_rank_that_the_file_tells_must_be_that_of_its_tensors(tmp_path: Path, told: float) -> None:
    path = written(tmp_path, PEFT | {"lora_alpha": torch.tensor(6.0), "lora_rank": torch.tensor(told)})
    if told == 4:
        with LoraFile(path) as file:
            assert file.adapters[0].scale == Scale(1.5, "tensor", 6.0) and not file.unknown
    else:
        with pytest.raises(AdapterError, match=r"lora_unet_m.lora_rank is 8, not its tensors' rank"):
            LoraFile(path)


@pytest.mark.parametrize(
    "names", [("{}.modules_to_save.{}",), ("{}.modules_to_save.default.{}",), ("{}.base_layer.{}",), ("{}.{}",)]
)
def test_what_peft_trained_whole_takes_the_parameters_place(tmp_path: Path, names: tuple[str]) -> None:
    """Before the LoRA of the same module: PEFT loads it into the model, then merges."""
    weight, bias = normal(OUT, IN, seed=5), normal(OUT, seed=6)
    prefix = "base_model.model.m"
    tensors = {f"{prefix}.{part}": normal(*shape) for part, shape in PEFT.items()}
    tensors |= {names[0].format(prefix, part): value for part, value in (("weight", weight), ("bias", bias))}
    samples.save(tmp_path / "adapter_model.safetensors", tensors)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "lora_alpha": 4}))
    with LoraFile(tmp_path) as file:
        assert not file.unknown and not file.unsupported
        for param, before, after in (
            (
                "weight",
                normal(OUT, IN),
                weight + tensors[f"{prefix}.lora_B.weight"] @ tensors[f"{prefix}.lora_A.weight"],
            ),
            ("bias", normal(OUT), bias),
        ):
            target = Target("k", tuple(before.shape))
            stack = [Placed(file.adapter(spec), target, 1.0) for spec in file.adapters if spec.param == param]
            assert torch.allclose(apply_stack(before, stack), after, atol=1e-5)


def test_a_whole_tensor_beside_a_lora_of_no_configuration_is_not_understood(tmp_path: Path) -> None:
    tensors = {f"base_model.model.m.{part}": normal(*shape) for part, shape in PEFT.items()}
    tensors |= {"base_model.model.m.weight": normal(OUT, IN), "base_model.model.head.weight": normal(OUT, IN)}
    with LoraFile(samples.save(tmp_path / "x.safetensors", tensors)) as file:
        assert (file.unsupported, file.unknown) == (
            {"base_model.model.m": "unknown.weight"},
            ["base_model.model.head.weight"],
        )


@pytest.mark.parametrize("lost", ["alpha", "dora_scale"])
def test_what_one_module_lacks_and_the_others_have_is_told(tmp_path: Path, lost: str) -> None:
    parts = {k: normal(*v) for k, v in LORA.items()} | {"alpha": torch.tensor(1.0), "dora_scale": torch.ones(OUT, 1)}
    tensors = {f"lora_unet_{n}.{part}": value.clone() for n in range(5) for part, value in parts.items()}
    del tensors[f"lora_unet_3.{lost}"]
    with LoraFile(samples.save(tmp_path / "x.safetensors", tensors)) as file:
        (line,) = file.warnings
        assert re.match(r"x.safetensors: 1 LoRA module without .*, which the others have: lora_unet_3\.", line)


# Patterns

_PIECES = ["a", "b", ".", r"\.", r"\d", "[ab]", "[^a]", "0", "(a|b)", "(?:a.b)", "^", "$", "|"]
_REPEATS = ["", "", "", "*", "+", "?"]


@given(
    st.lists(st.tuples(st.sampled_from(_PIECES), st.sampled_from(_REPEATS)), max_size=8),
    st.text(st.sampled_from("ab.0"), max_size=12),
)
def test_a_pattern_matches_what_peft_matches(pieces: list[tuple[str, str]], name: str) -> None:
    text = "".join(piece + ("" if piece in "^$|" else repeat) for piece, repeat in pieces)
    assert ModulePattern(text).matches(name) == (re.match(rf"(.*\.)?({text})$", name) is not None)


@pytest.mark.parametrize("text", ["(?=a)", "a{2}", "(a", "a**", r"\b", "[a", "a)", "*a", "a\\", "(" * 50, "a" * 2000])
def test_other_patterns_are_refused(text: str) -> None:
    with pytest.raises(PatternError):
        ModulePattern(text)


def test_a_hostile_pattern_comes_to_an_end() -> None:
    """Python's engine would take longer than the universe has, so this test would not end."""
    assert not ModulePattern("(a*)*(a|a)*(a*a*)*b").matches("a" * 3000)
