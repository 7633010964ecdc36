"""Extraction from LoRAs on a base, as DoRA, of rounding noise; and what is said when there is nothing to extract."""

from __future__ import annotations

import math
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import lora_core
from lora_core.errors import LoraError, NothingMatchedError, OptionError
from lora_core.parallel.threads import watched
from lora_core.reading.checkpoint import Checkpoint
from tests import tiny
from tests.core import samples
from tests.core.operations.test_extract import FULL, deltas, layers_of, normal, tune, wan_keys

SELF = "lora_unet_blocks_0_self_attn_"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_tiny("wan21", tmp_path_factory.mktemp("sources") / "base.safetensors", dtype=torch.float32)


@pytest.fixture(scope="module")
def tuned(base: Path) -> Path:
    return tune(base, base.with_name("tuned.safetensors"))


@pytest.fixture(scope="module")
def loras(base: Path) -> dict[str, Path]:
    """A LoRA of all modules, and a LoKr, a DoRA and a bias on one each."""
    folder, width = base.parent, 128
    made = {"lora": tiny.make_lora(folder / "a.safetensors", tiny.flat("lora_unet_", tiny.modules("wan21")), alpha=2)}
    lokr = {f"{SELF}q.lokr_w1": normal((4, 4), 1), f"{SELF}q.lokr_w2": normal((width // 4, width // 4), 2) / 100}
    made["lokr"] = samples.save(folder / "lokr.safetensors", lokr)
    weight = samples.load(base)["blocks.0.self_attn.k.weight"]
    dora = {
        f"{SELF}k.lora_down.weight": normal((3, width), 3) / 10,
        f"{SELF}k.lora_up.weight": normal((width, 3), 4) / 10,
        f"{SELF}k.alpha": torch.tensor(3.0),
        f"{SELF}k.dora_scale": weight.norm(dim=1, keepdim=True) * (1 + normal((width, 1), 5) / 10),
    }
    made["dora"] = samples.save(folder / "dora.safetensors", dora)
    made["bias"] = samples.save(folder / "bias.safetensors", {f"{SELF}v.diff_b": normal((width,), 6) / 10})
    return made


def same_model(base: Path, stack: list[Any], lora: Path, tmp_path: Path, tolerance: float) -> None:
    """The extracted LoRA makes of the base what the stack makes of it, as Merge, which has its own tests, tells."""
    wanted, found = tmp_path / "wanted.safetensors", tmp_path / "found.safetensors"
    lora_core.merge(base, stack, wanted)
    lora_core.merge(base, [lora], found, on_unmatched="error")
    before, after, again = (samples.load(path) for path in (base, wanted, found))
    for key, value in after.items():
        size = float((value - before[key]).double().norm())
        error = float((again[key] - value).double().norm())
        assert error <= tolerance * size + 1e-6 * float(value.double().norm()), key


# LoRAs on a base


@pytest.mark.parametrize("dialect", ["kohya", "comfy", "diffusers"])
def test_a_stack_of_all_kinds_becomes_one_lora(
    base: Path, loras: dict[str, Path], tmp_path: Path, dialect: Any
) -> None:
    names = ("lora", "lokr", "dora", *(("bias",) if dialect != "diffusers" else ()))
    stack = [(loras[name], strength) for name, strength in zip(names, (0.8, -0.5, 1.0, 2.0), strict=False)]
    out = tmp_path / "lora.safetensors"
    report = lora_core.extract(base, out=out, loras=stack, rank=FULL, dtype="fp32", dialect=dialect)
    same_model(base, stack, out, tmp_path, 1e-5)
    assert [lora.kinds for lora in report.loras][:3] == [["LoRA"], ["LoKr"], ["DoRA"]]
    assert report.inputs[0]["name"] == base.name
    assert len(report.inputs) == 1 + len(stack)


def test_factors_are_cut_exactly_and_no_weight_is_read(
    base: Path, loras: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = tiny.make_lora(tmp_path / "b.safetensors", tiny.flat("lora_unet_", tiny.modules("wan21")), 3, seed=9)
    merged = tmp_path / "merged.safetensors"
    lora_core.merge(base, [(loras["lora"], 0.8), (second, -0.5)], merged)

    def unread(*_: Any) -> Tensor:
        raise AssertionError("a weight was read")

    monkeypatch.setattr("lora_core.reading.checkpoint.Checkpoint.tensor", unread)
    out = tmp_path / "lora.safetensors"
    lora_core.extract(base, out=out, loras=[(loras["lora"], 0.8), (second, -0.5)], rank=5, dtype="fp32")
    changes, keys = deltas(base, merged), wan_keys()
    for module, found, rank in layers_of(out):
        delta = changes[keys[module]]
        least = float(torch.linalg.svdvals(delta.flatten(1))[5:].norm())
        assert rank == min(5, 7, *delta.flatten(1).shape)
        # the merged file holds fp32 weights, whose rounding is up to 1e-6 of the change here
        assert float((delta - found).norm()) <= least * (1 + 1e-5) + 1e-5 * float(delta.norm()), module


def test_the_rule_that_needs_the_weights_reads_them(base: Path, loras: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "lora.safetensors"
    lora_core.extract(base, out=out, loras=[loras["lora"]], rank_by="relative", threshold=1.7, dtype="fp32")
    weights, keys = samples.load(base), wan_keys()
    seen = set()
    merged = tmp_path / "merged.safetensors"
    lora_core.merge(base, [loras["lora"]], merged)
    changes = deltas(base, merged)
    for module, _, rank in layers_of(out):
        values = torch.linalg.svdvals(changes[keys[module]].flatten(1))
        floor = 1.7 * float(weights[keys[module]].double().norm()) / math.sqrt(len(values))
        assert rank == max(1, int((values > floor).sum()))
        seen.add(rank)
    assert len(seen) > 1


def refused(error: type[LoraError], **options: Any) -> str:
    return samples.message(error, lambda: lora_core.extract(**options))


def test_a_stack_that_changes_nothing(base: Path, loras: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "lora.safetensors"
    assert refused(NothingMatchedError, base=base, out=out, loras=[(loras["lora"], 0)]) == (
        "extract: every strength of the stack is 0, so nothing changes; raise one."
    )
    both = [(loras["lora"], 0.5), (loras["lora"], -0.5)]
    text = refused(LoraError, base=base, out=out, loras=both)
    assert text == "a.safetensors + a.safetensors: nothing to extract: the stack changes nothing in base.safetensors."
    assert samples.listing(tmp_path) == []


def test_one_side_is_missing_or_there_twice(base: Path, tuned: Path, loras: dict[str, Path], tmp_path: Path) -> None:
    expected = "extract: expected a tuned model or LoRAs to compare the base with; found "
    assert refused(OptionError, base=base, out=tmp_path / "x.safetensors") == expected + "none of them."
    assert refused(OptionError, base=base, tuned=tuned, loras=[loras["lora"]]) == expected + "both."
    assert refused(OptionError, base=base, tuned=tuned) == (
        "out: expected the name of the file to write; give it, or ask for an estimate only."
    )


# Estimates, rules and budgets


@pytest.mark.parametrize(
    "options",
    [
        {"rank": 6},
        {"energy": 0.6, "dialect": "comfy"},
        {"rank_by": "file_size", "threshold": 0.06, "dialect": "diffusers"},
        {"rank_by": "total_error", "threshold": 0.5, "dialect": "peft"},
        {"rank": 4, "kind": "dora"},
        {"rank_by": "file_size", "threshold": 0.06, "kind": "dora"},
    ],
    ids=str,
)
def test_an_estimate_tells_what_the_file_will_be(base: Path, tuned: Path, tmp_path: Path, options: Any) -> None:
    estimate = lora_core.extract(base, tuned, estimate_only=True, **options)
    assert estimate.outputs == []
    assert "the file would have " in estimate.text()
    out = tmp_path / "lora.safetensors"
    report = lora_core.extract(base, tuned, out, **options)
    assert report.predicted_bytes == estimate.predicted_bytes == out.stat().st_size
    assert estimate.layers == report.layers
    assert estimate.notes == report.notes
    if "threshold" in options and options["rank_by"] == "file_size":
        # one singular value of the largest layer, and the magnitudes that come with a first one
        dearest = 2 * (128 + 1024) + (4 * 1024 if "kind" in options else 0)
        assert 0 <= 1e6 * options["threshold"] - out.stat().st_size < dearest + 300


@pytest.mark.parametrize("energy", [0.0, 1.5, -0.1])
def test_an_energy_is_a_share(base: Path, tuned: Path, energy: float) -> None:
    text = refused(OptionError, base=base, tuned=tuned, rank_by="energy", threshold=energy, estimate_only=True)
    assert text.startswith(
        ("threshold: for rank_by energy expected a number above 0, at most 1", "threshold: expected")
    )


def test_the_report_adds_all_layers_up(base: Path, tuned: Path, tmp_path: Path) -> None:
    out = tmp_path / "lora.safetensors"
    report = lora_core.extract(base, tuned, out, rank=8, dtype="fp32")
    changes, keys = deltas(base, tuned), wan_keys()
    left = sum(float((changes[keys[module]] - found).square().sum()) for module, found, _ in layers_of(out))
    whole = sum(float(change.square().sum()) for change in changes.values())
    kept = 1 - left / whole
    assert report.notes[1] == f"keeps {kept:.2%} of the change, relative error {math.sqrt(1 - kept):.2%}, rank 8"


def test_ranks_above_the_dimensions_are_told(base: Path, tuned: Path) -> None:
    report = lora_core.extract(base, tuned, rank=FULL, estimate_only=True)
    matrices = sum(layer["rank"] is not None for layer in report.layers)
    assert f"{matrices} layers kept whole, as they have less than rank {FULL}" in report.notes


def test_every_tensor_is_read_once(base: Path, tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[str, str]] = []
    original = Checkpoint.tensor

    def counted(self: Checkpoint, key: str) -> Tensor:
        read.append((self.name, key))
        return original(self, key)

    monkeypatch.setattr(Checkpoint, "tensor", counted)
    lora_core.extract(base, tuned, tmp_path / "lora.safetensors", rank_by="total_error", threshold=0.5)
    keys = samples.load(base)
    assert sorted(read) == sorted((path.name, key) for path in (base, tuned) for key in keys)


# DoRA


@pytest.mark.parametrize("dialect", ["kohya", "comfy", "diffusers", "peft"])
@pytest.mark.parametrize("model", ["wan21", "sd3"])
def test_dora_of_full_rank_gives_the_tuned_weights(tmp_path: Path, model: str, dialect: Any) -> None:
    base = tiny.make_tiny(model, tmp_path / "base.safetensors", dtype=torch.float32)
    tuned = tune(base, tmp_path / "tuned.safetensors", ("vae.", "first_stage_model.", "bias", "norm"))
    out, again = tmp_path / "lora.safetensors", tmp_path / "again.safetensors"
    report = lora_core.extract(base, tuned, out, rank=FULL, dtype="fp32", kind="dora", dialect=dialect)
    merged = lora_core.merge(base, [out], again, on_unmatched="error")
    assert "DoRA" in merged.loras[0].kinds
    expected, found, before = (samples.load(path) for path in (tuned, again, base))
    for layer in report.layers:
        assert layer["rank"] is None or layer["error"] < 1e-4
    named = {layer["module"] for layer in report.layers if layer["rank"]}
    assert len(named) > 10
    for key, value in expected.items():
        size = float((value - before[key]).double().norm())
        if value.dim() > 1 and key.endswith(".weight"):
            assert float((found[key] - value).double().norm()) <= 1e-4 * size, key


def test_dora_is_compared_with_lora_at_the_same_rank(base: Path, tmp_path: Path) -> None:
    """Where lengths change most, DoRA is the better of the two; both errors are those of the written files."""
    tensors = samples.load(base)
    for seed, (key, value) in enumerate(tensors.items()):
        if value.dim() > 1:
            rows = value.flatten(1).shape[0]
            turned = value + 0.03 * value.std() * normal(tuple(value.shape), seed)
            tensors[key] = turned * (1 + 0.2 * normal((rows,), seed + 99).reshape(rows, *(1,) * (value.dim() - 1)))
    tuned = samples.save(tmp_path / "tuned.safetensors", tensors)
    errors = {}
    for kind in ("lora", "dora"):
        out, again = tmp_path / f"{kind}.safetensors", tmp_path / "again.safetensors"
        report = lora_core.extract(base, tuned, out, rank=4, dtype="fp32", kind=kind)
        lora_core.merge(base, [out], again, overwrite=True)
        changes, left = deltas(base, tuned), deltas(tuned, again)
        pairs = [(left[key], changes[key]) for key in wan_keys().values()]
        errors[kind] = math.sqrt(
            sum(float(a.square().sum()) for a, _ in pairs) / sum(float(b.square().sum()) for _, b in pairs)
        )
    assert errors["dora"] < 0.5 * errors["lora"]
    assert f"DoRA: relative error {errors['dora']:.2%}; LoRA of the same ranks: {errors['lora']:.2%}" in report.notes


def test_dora_where_rows_are_zeros_or_only_lengths_change(base: Path, tmp_path: Path) -> None:
    before = samples.load(base)
    first, second, third = (f"blocks.0.self_attn.{letter}.weight" for letter in "qkv")
    before[first][3] = 0
    after = {**before, first: before[first] + 0.1 * normal((128, 128), 0), second: before[second] * 2}
    after[third] = before[third].clone()
    after[third][5] = 0
    paths = [samples.save(tmp_path / f"{name}.safetensors", one) for name, one in (("b", before), ("t", after))]
    out, again = tmp_path / "lora.safetensors", tmp_path / "again.safetensors"
    lora_core.extract(*paths, out, rank=FULL, kind="dora", dtype="fp32")
    lora_core.merge(paths[0], [out], again, on_unmatched="error")
    found = samples.load(again)
    for key in (first, second, third):
        assert float((found[key] - after[key]).norm()) <= 1e-5 * float(after[key].norm()), key


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_weights_that_are_in_use_stay_as_they_are(
    base: Path, tuned: Path, loras: dict[str, Path], monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    """A loaded model gives its own tensors, not copies."""
    held = {path.name: samples.load(path) for path in (base, tuned)}
    monkeypatch.setattr(Checkpoint, "tensor", lambda self, key: held[self.name][key])
    for other in ({"tuned": tuned}, {"loras": [loras["lora"], loras["lokr"], loras["dora"]]}):
        lora_core.extract(base, **other, rank=4, kind=kind, estimate_only=True)
    for path in (base, tuned):
        expected = samples.load(path)
        assert all(torch.equal(held[path.name][key], value) for key, value in expected.items())


# Rounding that looks like a change


def test_the_same_model_in_another_format_is_noticed(base: Path, tmp_path: Path) -> None:
    plain = {key: tensor.half() for key, tensor in samples.load(base).items()}
    rounded = {key: tensor.bfloat16() for key, tensor in samples.load(base).items()}
    paths = [samples.save(tmp_path / f"{name}.safetensors", one) for name, one in (("fp16", plain), ("bf16", rounded))]
    report = lora_core.extract(*paths, rank=4, estimate_only=True)
    (warning,) = report.warnings
    assert warning.startswith("bf16.safetensors: looks like rounding noise: it differs from fp16.safetensors by 0.1")


@pytest.mark.parametrize("size", [0.1, 0.001])
def test_training_is_not_taken_for_rounding(base: Path, tmp_path: Path, size: float) -> None:
    tensors = samples.load(base)
    for seed, (key, value) in enumerate(tensors.items()):
        if value.dim() > 1:
            change = normal((value.shape[0], 3), seed) @ normal((3, value[0].numel()), seed + 50)
            tensors[key] = value + size * float(value.norm() / change.norm()) * change.reshape(value.shape)
    tuned = samples.save(tmp_path / "tuned.safetensors", tensors)
    assert lora_core.extract(base, tuned, rank=4, estimate_only=True).warnings == []


@pytest.mark.parametrize(("change", "is_lost"), [(0.01, True), (1.0, False)])
def test_a_quantised_side_is_measured_against_the_change(
    base: Path, tmp_path: Path, change: float, is_lost: bool
) -> None:
    before = samples.load(base)
    after: dict[str, Tensor] = {}
    for seed, (key, value) in enumerate(before.items()):
        moved = value + change * value.std() * normal(tuple(value.shape), seed) if value.dim() > 1 else value
        after[key] = moved.to(torch.float8_e4m3fn) if value.dim() == 2 else moved
    tuned = samples.save(tmp_path / "tuned.safetensors", after)
    report = lora_core.extract(base, tuned, rank=4, estimate_only=True)
    warning = next(line for line in report.warnings if "fp8 without scales" in line)
    assert "it is about 3.0% of a weight, and the whole difference is " in warning
    assert warning.endswith("use the fp16 or bf16 version of the model.") == is_lost


# The same model twice


def test_the_file_itself(base: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.safetensors"
    link.symlink_to(base)
    for other in (base, link):
        assert refused(OptionError, base=base, tuned=other, estimate_only=True) == (
            f"{other.name}: is the base itself, the same file; choose the tuned checkpoint, and as the base the one "
            "that it was made from."
        )


def test_a_copy_of_the_file(base: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(base, tmp_path / "copy.safetensors"))
    assert refused(LoraError, base=base, tuned=copy, out=tmp_path / "lora.safetensors") == (
        "copy.safetensors: nothing to extract: it is the same as base.safetensors, byte for byte; choose the tuned "
        "checkpoint, and as the base the one that it was made from."
    )
    assert samples.listing(tmp_path) == ["copy.safetensors"]


def test_only_biases_differ_for_a_dialect_without_any(base: Path, tmp_path: Path) -> None:
    tensors = samples.load(base)
    tensors["blocks.0.self_attn.q.bias"] += 1
    tuned = samples.save(tmp_path / "tuned.safetensors", tensors)
    text = refused(LoraError, base=base, tuned=tuned, out=tmp_path / "lora.safetensors", dialect="diffusers")
    assert text.endswith("this dialect has matrices only; choose kohya or comfy.")


# Cancelling


def test_a_cancel_is_heard_while_a_layer_is_decomposed(
    base: Path, tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, cancelled, finished = threading.Event(), threading.Event(), threading.Event()

    def endless(*_: Any, **__: Any) -> None:
        started.set()
        cancelled.wait(60)
        finished.set()

    monkeypatch.setattr("lora_core.operations.extracting.layers.svd_of_dense", endless)

    def on_step(done: int, total: int) -> None:
        if started.is_set():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lora_core.extract(base, tuned, tmp_path / "lora.safetensors", on_step=on_step)
    assert not finished.is_set()
    cancelled.set()
    assert samples.listing(tmp_path) == []


def test_watching_changes_nothing_but_the_thread() -> None:
    asked: list[int] = []
    with torch.inference_mode():
        result = watched(lambda: (threading.current_thread(), torch.ones(2) * 2), lambda: asked.append(1))
    assert result[0] is not threading.main_thread()
    assert result[1].is_inference()
    assert watched(threading.current_thread, None) is threading.main_thread()

    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        watched(fail, lambda: None)


# Weights that another program holds as codes


class Packed:
    """A checkpoint as a host shows it that holds some weights as codes: their shape, and no numbers."""

    def __init__(self, path: Path, packed: set[str]) -> None:
        self._checkpoint, self._packed = Checkpoint(path), packed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._checkpoint, name)

    def info(self, key: str) -> Any:
        info = self._checkpoint.info(key)
        return replace(info, dtype="U8") if key in self._packed else info

    def tensor(self, key: str) -> Tensor:
        assert key not in self._packed, f"{key} has no numbers"
        return self._checkpoint.tensor(key)


PACKED = {f"blocks.0.self_attn.{name}.weight" for name in "qk"}


@pytest.mark.parametrize("side", ["base", "tuned", "both"])
def test_packed_weights_are_counted_and_named(base: Path, tuned: Path, tmp_path: Path, side: str) -> None:
    before = Packed(base, PACKED if side != "tuned" else set())
    after = Packed(tuned, PACKED if side != "base" else set())
    out = tmp_path / "out.safetensors"
    report = lora_core.extract(before, after, out, rank=128)  # type: ignore[arg-type]
    assert any(note.endswith("0 outside the known models, 2 not compared") for note in report.notes), report.notes
    assert any(note.startswith("keeps 100.00% of the change that was compared") for note in report.notes)
    (warning,) = [text for text in report.warnings if "packed" in text]
    assert warning.startswith("2 weights not compared")
    assert all(key in warning for key in PACKED)
    assert not [name for name in samples.load(out) if "self_attn_q.lora" in name or "self_attn_k.lora" in name]


def test_a_stack_on_packed_weights(base: Path, loras: dict[str, Path], tmp_path: Path) -> None:
    before: Any = Packed(base, PACKED)
    report = lora_core.extract(before, None, tmp_path / "out.safetensors", loras=[loras["lora"]], rank=16)
    assert [text[:24] for text in report.warnings if "packed" in text] == ["2 weights not compared, "]
    with pytest.raises(
        LoraError, match=r"nothing to extract: 1 weight can't be compared with base.safetensors, as they"
    ):
        lora_core.extract(before, None, tmp_path / "none.safetensors", loras=[loras["lokr"]], rank=4)


def test_whole_numbers_that_are_no_weights_are_not_told(base: Path, tuned: Path, tmp_path: Path) -> None:
    ids = {"blocks.0.position_ids": torch.arange(8).reshape(1, 8)}
    paths = [samples.save(tmp_path / path.name, samples.load(path) | ids) for path in (base, tuned)]
    report = lora_core.extract(*paths, tmp_path / "out.safetensors", rank=4)
    assert not [text for text in (*report.warnings, *report.notes) if "compared" in text]
