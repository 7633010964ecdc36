"""A LoRA that no file holds: every operation does with its tensors what it does with the same LoRA in a file."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import lora_core
from lora_core.errors import AdapterError, OptionError, WrongFileKindError
from lora_core.files.memory import IN_MEMORY
from lora_core.reading.lorafile import LoraFile
from lora_core.report import Report
from lora_core.stack.entry import StackEntry, stack_in_memory
from tests import tiny
from tests.core.samples import load, message, metadata_of, same_bytes

Tensors = dict[str, torch.Tensor]
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_tiny("flux", tmp_path_factory.mktemp("base") / "flux.safetensors")


def trained(folder: Path, dtype: torch.dtype = torch.float32) -> tuple[Path, Tensors]:
    """Return a LoRA as a file and as training leaves it: parameters, some of them views into others."""
    modules = tiny.flat("lora_unet_", tiny.modules("flux"))
    path = tiny.make_lora(folder / "trained.safetensors", modules, 4, alpha=2, dtype=dtype)
    tensors = {name: value.t().contiguous().t() if value.dim() == 2 else value for name, value in load(path).items()}
    return path, {name: value.requires_grad_() for name, value in tensors.items()}


def merged(lora: Any, base: Path, out: Path) -> Report:
    item = StackEntry(str(lora), 0.5, 0.5) if isinstance(lora, Path) else stack_in_memory(lora, 0.5, 0.5)[0]
    return lora_core.merge(base, [item], out)


def combined(lora: Any, base: Path, out: Path) -> Report:
    item = lora if isinstance(lora, Path) else stack_in_memory(lora)[0]
    return lora_core.combine([item], out, rank=2, base=base)


def extracted(lora: Any, base: Path, out: Path) -> Report:
    item = lora if isinstance(lora, Path) else stack_in_memory(lora)[0]
    return lora_core.extract(base, None, out, loras=[item], rank=2)


def resized(lora: Any, base: Path, out: Path) -> Report:
    return lora_core.resize(lora, out, rank=2)


def converted(lora: Any, base: Path, out: Path) -> Report:
    return lora_core.convert(lora, out, dialect="comfy", base=base)


OPERATIONS = (merged, combined, extracted, resized, converted)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_result_is_that_of_the_same_lora_in_a_file(
    tmp_path: Path, base: Path, operation: Callable[[Any, Path, Path], Report]
) -> None:
    path, tensors = trained(tmp_path)
    of_file = operation(path, base, tmp_path / "of_file.safetensors")
    report = operation(tensors, base, tmp_path / "of_memory.safetensors")
    expected, found = load(tmp_path / "of_file.safetensors"), load(tmp_path / "of_memory.safetensors")
    assert list(found) == list(expected)
    assert all(same_bytes(found[name], expected[name]) for name in expected)
    size = sum(tensor.nbytes for tensor in tensors.values())
    assert (IN_MEMORY, size) in [(one["name"], one["bytes"]) for one in report.inputs]
    assert [one.name for one in report.loras] == [IN_MEMORY]
    assert [one.modules_matched for one in report.loras] == [one.modules_matched for one in of_file.loras]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_number_format_of_training_merges_and_nothing_given_changes(
    tmp_path: Path, base: Path, dtype: torch.dtype
) -> None:
    path, tensors = trained(tmp_path, dtype)
    before = {name: value.detach().clone() for name, value in tensors.items()}
    merged(path, base, tmp_path / "of_file.safetensors")
    merged(tensors, base, tmp_path / "of_memory.safetensors")
    expected, found = load(tmp_path / "of_file.safetensors"), load(tmp_path / "of_memory.safetensors")
    assert all(same_bytes(found[name], expected[name]) for name in expected)
    assert all(same_bytes(value.detach(), before[name]) and value.requires_grad for name, value in tensors.items())


def test_what_is_read_is_a_copy(tmp_path: Path) -> None:
    _, tensors = trained(tmp_path)
    with LoraFile(tensors) as lora:
        for name, tensor in tensors.items():
            assert not lora.file.tensor(name).requires_grad
            assert lora.file.tensor(name).data_ptr() != tensor.data_ptr()


def test_a_configuration_in_the_working_folder_is_not_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, tensors = trained(tmp_path)  # the only LoRA there, as PEFT leaves a folder
    without_alpha = {name: value for name, value in tensors.items() if not name.endswith(".alpha")}
    (tmp_path / "adapter_config.json").write_text(json.dumps({"lora_alpha": 64, "r": 4}))
    monkeypatch.chdir(tmp_path)
    with LoraFile(without_alpha) as lora:
        assert {spec.scale.value for spec in lora.adapters} == {1.0}


def test_inspect_and_the_metadata_of_a_merge_name_it(tmp_path: Path, base: Path) -> None:
    _, tensors = trained(tmp_path)
    report = lora_core.inspect(stack_in_memory(tensors)[0], [base])
    assert (report.title, [one.name for one in report.loras]) == ("Flux.1 dev", [IN_MEMORY])
    merged(tensors, base, tmp_path / "out.safetensors")
    (one,) = json.loads(metadata_of(tmp_path / "out.safetensors")["lora_core.merged_from"])["loras"]
    assert one == {"name": IN_MEMORY, "strength_model": 0.5, "strength_clip": 0.5}


def test_twice_the_same_is_told_from_two_of_one_name(tmp_path: Path, base: Path) -> None:
    _, first = trained(tmp_path)
    second = {name: value.detach().clone() for name, value in first.items()}
    for other, is_twice in ((first, True), (second, False)):
        out = tmp_path / f"{is_twice}.safetensors"
        report = lora_core.combine([*stack_in_memory(first), *stack_in_memory(other)], out, base=base)
        text = f"{IN_MEMORY}: is in the stack more than once; its strengths add up."
        assert (text in report.warnings) == is_twice


def test_an_entry_has_three_fields_and_a_name_that_no_file_has(tmp_path: Path) -> None:
    _, tensors = trained(tmp_path)
    (entry,) = stack_in_memory(tensors, 0.5, 0.25)
    name, strength_model, strength_clip = entry
    assert (name, strength_model, strength_clip) == ("LoRA in memory, for LoRA Core's nodes only", 0.5, 0.25)
    for again in (copy.copy(entry), pickle.loads(pickle.dumps(entry)), entry.opened_as()):
        assert again == entry
        assert again.tensors is not None
        assert list(again.tensors) == list(tensors)
    assert stack_in_memory(None) == []


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        pytest.param(
            [1], OptionError, "lora: expected a LORA_MODEL, which is names and tensors; found list.", id="list"
        ),
        pytest.param({"a": 1}, OptionError, "expected names and tensors, found 'a' with int", id="number"),
        pytest.param({1: torch.ones(1)}, OptionError, "expected names and tensors, found 1 with Tensor", id="no-name"),
        pytest.param({}, WrongFileKindError, f"{IN_MEMORY}: is not a LoRA", id="empty"),
        pytest.param({"a": torch.ones(2)}, WrongFileKindError, f"{IN_MEMORY}: is not a LoRA", id="no-adapter"),
        pytest.param({"a": torch.ones(2, dtype=torch.complex128)}, OptionError, "dtype torch.complex128", id="dtype"),
    ],
)
def test_what_is_no_lora_is_refused(tmp_path: Path, base: Path, given: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error) as refused:
        lora_core.merge(base, stack_in_memory(given), tmp_path / "out.safetensors")
    assert text in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_finite_is_refused(tmp_path: Path, base: Path) -> None:
    _, tensors = trained(tmp_path)
    broken = {name: value.detach().clone().fill_(float("nan")) for name, value in tensors.items()}
    assert IN_MEMORY in message(AdapterError, lambda: merged(broken, base, tmp_path / "out.safetensors"))
