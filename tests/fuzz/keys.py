"""Names of tensors against real models' keys: every name has its place in the report, and none is placed twice."""

from __future__ import annotations

import itertools
from functools import cache

import torch

from lora_core.adapters.suffixes import PARTS, split_names
from lora_core.errors import LoraError
from lora_core.naming.detection import FoundArch, detect
from lora_core.naming.dialects import DIALECTS
from lora_core.naming.keymap import KeyMap
from lora_core.reading.lorafile import LoraFile
from lora_core.report import Report
from lora_core.stack.matching import LoraMatch, match_lora
from lora_core.stack.refusals import judge, refuse_foreign
from tests import manifests
from tests.fuzz.choices import Choices
from tests.fuzz.seen import check_shown

Shape = tuple[int, ...]

MODELS = ("sd15", "flux1_dev", "wan21_t2v_1.3b", "sd3_medium", "z_image", "te_clip_l")
_SIZES = (1, 2, 4, 16, 320, 640, 768, 1536, 3072, 9216, 12288, 0)
_SPELLINGS = (
    lambda name: name,
    lambda name: name.replace(".", "_"),
    lambda name: name.replace("_", "."),
    lambda name: name.replace(".0.", ".00."),
    lambda name: name[:-1],
    lambda name: name + ".0",
    lambda name: name.replace("0", "٠"),
    lambda name: name.replace("0", "²"),
    lambda name: name.upper(),
    lambda name: "." + name,
)


def check(data: bytes) -> None:
    choices = Choices(data)
    model = choices.one_of(MODELS)
    keymap, found = _keymap(model)
    tensors = _tensors(choices, model)
    try:
        lora = LoraFile(tensors)
        match = match_lora(lora, keymap)
    except LoraError as error:
        check_shown(str(error))
        return
    _check_match(lora, match, tensors)
    for action in (lambda: refuse_foreign(lora, match.report, found), lambda: judge(match.report, "error", "x")):
        try:
            action()
        except LoraError as error:
            check_shown(str(error))
    report = Report("inspect", title="a model", loras=[match.report], warnings=lora.warnings)
    for line in report.text().split("\n"):
        check_shown(line)


def _check_match(lora: LoraFile, match: LoraMatch, tensors: dict[str, torch.Tensor]) -> None:
    report, modules = match.report, {*lora.modules, *lora.unknown}
    failed = {*report.unmatched, *report.elsewhere, *(item["name"] for item in report.mismatched), *lora.unsupported}
    assert failed <= modules
    assert report.modules_total == len(modules)
    assert report.modules_matched == len(modules - failed)
    splits = split_names(tensors)
    named = {*lora.not_adapters, *lora.unknown}
    lost = [name for name in tensors if name not in named and (name in splits) and splits[name].module not in modules]
    assert lost == []
    taken: dict[int, list[tuple[str, int, int]]] = {}
    for spec, target in match.places:
        start = target.start or 0
        taken.setdefault(id(spec), []).append((target.key, start, start + target.shape[0] if target.shape else 1))
    for places in taken.values():
        ordered = sorted(places)
        assert all(one[0] != other[0] or one[2] <= other[1] for one, other in itertools.pairwise(ordered))
    assert all(0 <= block["matched"] <= block["total"] for block in report.blocks)


@cache
def _keymap(model: str) -> tuple[KeyMap, list[FoundArch]]:
    shapes = manifests.checkpoint(model).keys
    found = detect(shapes)
    return KeyMap((shapes, found)), found


@cache
def _modules(model: str) -> list[str]:
    """Return modules of the model under its own names, diffusers' and ComfyUI's."""
    found = manifests.checkpoint(model)
    keys = [key.removeprefix(found.prefix) for key in found.keys] + list(found.diffusers_keys)
    names = {key.rpartition(".")[0] for key in keys} | {key for key in keys if key.count(".") < 2}
    return sorted(name for name in names if name)


@cache
def _trained(model: str) -> list[list[tuple[str, Shape]]]:
    """Return what trainers write for the model: the tensors of some modules of each file."""
    found: list[list[tuple[str, Shape]]] = []
    for tensors in (manifests.trainer(name).tensors for name in manifests.trainers(model)):
        modules: dict[str, list[tuple[str, Shape]]] = {}
        for name, split in split_names(tensors).items():
            modules.setdefault(split.module, []).append((name, tensors[name][1]))
        found += list(modules.values())[:: len(modules) // 30 + 1]
    return found


def _tensors(choices: Choices, model: str) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = {}
    trained = _trained(model)
    for _ in range(1 + choices.number(12)):
        if trained and choices.yes():
            module = choices.one_of(trained)
            for name, shape in module if choices.yes() else module[:1]:
                tensors[name] = torch.zeros(()).expand(shape)
        else:
            name, shape = _made(choices, model)
            tensors[name] = torch.zeros(()).expand(shape)
    return tensors


def _made(choices: Choices, model: str) -> tuple[str, Shape]:
    module = choices.one_of(_modules(choices.one_of(MODELS) if choices.yes(8) else model))
    if choices.yes(8):
        module += choices.text(12)
    module = choices.one_of(_SPELLINGS)(module) if choices.yes() else module
    dialect = choices.one_of(DIALECTS)
    module = module.replace(".", "_") if dialect.flat and not choices.yes(8) else module
    suffix = choices.one_of(PARTS).suffix
    shape = tuple(choices.one_of(_SIZES) for _ in range(choices.number(5)))
    return dialect.prefix + module + suffix, shape


def seeds() -> dict[str, bytes]:
    files = {f"model-{number}": bytes([number]) + b"\x01" * 20 for number in range(len(MODELS))}
    made = {f"made-{number}": bytes([1, 4] + [0, number * 7, 0, 0, number * 5, 0, number * 11, 2, 3, 4] * 5)
            for number in range(8)}  # fmt: skip
    return files | made
