"""Pairs of files for two models: partners by name, and which of the files each operation takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import lora_core
from lora_core.errors import OptionError
from lora_core.stack.entry import StackEntry
from lora_core.stack.pairs import for_model, partner_of
from lora_core.stack.rows import lora_text, parse_rows, stack_of
from tests import tiny
from tests.core.samples import load, same_bytes

PAIRS = [
    ("Wan2_2-I2V-A14B-4steps-lora-HIGH_fp16.safetensors", "Wan2_2-I2V-A14B-4steps-lora-LOW_fp16.safetensors"),
    ("wan2.2_i2v_A14b_high_noise_lora_4step_1022.safetensors", "wan2.2_i2v_A14b_low_noise_lora_4step_1022.safetensors"),
    ("lightning/high_noise_model.safetensors", "lightning/low_noise_model.safetensors"),
    ("high_noise/ink.safetensors", "low_noise/ink.safetensors"),
    ("Wan22HighNoiseInk.safetensors", "Wan22LowNoiseInk.safetensors"),
    ("ink-HN.safetensors", "ink-LN.safetensors"),
    ("WAN_ink_H_v1.safetensors", "WAN_ink_L_v1.safetensors"),
    ("High.safetensors", "low.safetensors"),
    ("high_quality_low_noise.safetensors", "high_quality_high_noise.safetensors"),
]


@pytest.mark.parametrize("high, low", PAIRS)
def test_partners_are_found_both_ways(high: str, low: str) -> None:
    if "quality_high" in low:
        high, low = low, high
    names = ["other.safetensors", high, low, "High/other.safetensors"]
    found, back = partner_of(high, names), partner_of(low, names)
    assert found is not None and back is not None
    assert (found.role, found.partner, found.high, found.low) == ("high", low, high, low)
    assert (back.role, back.partner, back.high, back.low) == ("low", high, high, low)
    assert partner_of(high, [high]) is None


@pytest.mark.parametrize(
    "name, names",
    [
        ("ink_HighNoise.safetensors", ["ink_low_noise.safetensors"]),  # another spelling of the same
        ("ink-HN.safetensors", ["ink-low.safetensors"]),
    ],
)
def test_another_word_in_the_same_place(name: str, names: list[str]) -> None:
    found = partner_of(name, [name, *names])
    assert found is not None and found.partner == names[0]


@pytest.mark.parametrize(
    "name, names",
    [
        ("highland.safetensors", ["lowland.safetensors"]),  # no whole word
        ("thigh_noise.safetensors", ["tlow_noise.safetensors"]),
        ("ThighNoise.safetensors", ["TlowNoise.safetensors"]),
        ("HighRes.safetensors", ["LowRes.safetensors"]),
        ("fish.safetensors", ["flisl.safetensors"]),
        ("ink_high.safetensors", ["pen_low.safetensors"]),
        ("a/ink_high.safetensors", ["b/ink_low.safetensors"]),
        ("ink_high.safetensors", ["ink_LOW.safetensors", "ink_low.safetensors"]),  # two fit
        ("ink_high.safetensors", ["ink_hn.safetensors"]),  # both are high
        ("ink_HN.safetensors", ["ink_low.safetensors", "ink_high.safetensors"]),  # the partner has a nearer one
        ("high_ink_LN.safetensors", ["low_ink_LN.safetensors", "high_ink_HN.safetensors"]),
        ("ink.safetensors", ["ink_low.safetensors"]),
    ],
)
def test_never_a_guess(name: str, names: list[str]) -> None:
    assert partner_of(name, [name, *names]) is None


def test_what_each_model_gets() -> None:
    row = {"name": "high.safetensors", "strength": 0.8, "low": "low.safetensors", "low_strength": 0.5, "blocks": "te=0"}
    stack = [*stack_of(parse_rows([row])), StackEntry("both.safetensors", 1, 1)]
    assert for_model(stack, "high") == stack
    low = for_model(stack, "low")
    assert low == [("low.safetensors", 0.5, 0.8), ("both.safetensors", 1, 1)]
    assert low[0].blocks == "te=0"
    assert lora_text(stack) == "<lora:high:0.8> <lora:low:0.5:0.8> <lora:both:1>"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny.make_tiny("wan21", folder / "checkpoints/wan.safetensors")
    for seed, name in enumerate(("high", "low"), start=1):
        tiny.make_lora(folder / f"loras/ink_{name}.safetensors", tiny.modules("wan21"), seed=seed,
                       metadata={"modelspec.trigger_phrase": f"{name} word"})  # fmt: skip
    return folder


def entry(models: Path) -> StackEntry:
    low = StackEntry(str(models / "loras/ink_low.safetensors"), 0.5, 0.5)
    return StackEntry(str(models / "loras/ink_high.safetensors"), 1, 1, low=low)


def test_a_merge_takes_the_file_that_is_asked_for(models: Path, tmp_path: Path) -> None:
    base, out = models / "checkpoints/wan.safetensors", tmp_path / "out.safetensors"
    for pair, name, strength in (("high", "ink_high", 1.0), ("low", "ink_low", 0.5)):
        report = lora_core.merge(base, [entry(models)], out, pair=pair, overwrite=True)
        found = load(out)
        lora_core.merge(base, [(models / f"loras/{name}.safetensors", strength)], out, overwrite=True)
        expected = load(out)
        assert all(same_bytes(found[key], expected[key]) for key in expected)
        other = {"ink_high": "ink_low", "ink_low": "ink_high"}[name]
        note = f"{name}.safetensors: the {pair}-noise file of a pair; {other}.safetensors is not used"
        assert note in report.notes
    with pytest.raises(OptionError, match="pair: expected one of high, low; found 'middle'"):
        lora_core.merge(base, [entry(models)], out, pair="middle", overwrite=True)  # type: ignore[arg-type]


def test_other_operations_take_the_high_noise_file_and_say_so(models: Path, tmp_path: Path) -> None:
    warning = "ink_low.safetensors: the low-noise file of a pair is not used: only the high-noise file is."
    base, out = models / "checkpoints/wan.safetensors", tmp_path / "out.safetensors"
    reports = [
        lora_core.inspect(entry(models), [base]),
        lora_core.combine([entry(models)], out, base=base),
        lora_core.extract(base, None, out, loras=[entry(models)], rank=2, overwrite=True),
    ]
    for report in reports:
        assert report.warnings.count(warning) == 1
        assert [lora.name for lora in report.loras] == ["ink_high.safetensors"]


def test_a_workflow_says_which_file_of_a_pair(models: Path, tmp_path: Path) -> None:
    row: dict[str, Any] = {"name": "ink_high.safetensors", "low": "INK_LOW.safetensors", "low_strength": 0.5}
    workflow = {
        "1": {"class_type": "LoraCoreStack", "inputs": {"rows": {"v": 1, "rows": [{**row, "blocks": "blocks.0=0.5"}]}}},
        "2": {"class_type": "LoraCoreMerge", "inputs": {"checkpoint": "wan.safetensors", "lora_stack": ["1", 0],
                                                        "filename_prefix": "merged", "pair": "low"}},
        "3": {"class_type": "LoraCoreInspect", "inputs": {"lora_name": "None", "lora_stack": ["1", 0]}},
    }  # fmt: skip
    (tmp_path / "workflow.json").write_text(json.dumps(workflow))
    merged, inspected = lora_core.run(tmp_path / "workflow.json", models=models, output=tmp_path / "output")
    assert [lora.name for lora in merged.loras] == ["ink_low.safetensors"]
    assert (merged.loras[0].strength_model, merged.loras[0].block_strengths) == (0.5, {"blocks.0": 0.5})
    assert "trigger words: high word" in inspected.notes
