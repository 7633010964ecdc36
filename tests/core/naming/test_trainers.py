"""What trainers write: every file in tests/data/trainers, on the model it is for, in every layout of that model.

A new trainer's file is added by dropping its key list into the folder; no table here has to know it.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from lora_core.arch.base import Shape, Shapes
from lora_core.naming import dialects
from lora_core.naming.detection import FoundArch, detect
from lora_core.naming.keymap import KeyMap
from lora_core.reading.lorafile import LoraFile
from lora_core.report import LoraReport
from lora_core.stack.matching import match_stack
from lora_core.stack.opened import StackedLora
from tests import manifests, tiny

TRAINERS = manifests.trainers()
ALPHA = 8.0

# A trainer file's model that has no checkpoint of its own here -> the one that its modules are on
MODEL_OF = {"framepack": "hunyuan_video", "skyreels_v2_14b": "wan21_t2v_14b"}

# The start of a trainer's name, and the dialect that its names are where the file does not say; the first counts
DIALECTS = (
    ("kohya|lycoris|musubi|onetrainer_(dora|loha|lora|oft)", "kohya"),
    ("simpletuner_lycoris|aitoolkit_lokr_old", "simpletuner"),
    ("peft", "peft"),
    ("wan_fun", "wan-fun"),
)
# Models that share all the modules that some trainers train, and their shapes
TWINS = (
    {"Flux.1", "Chroma"},
    {"Flux.1", "Chroma", "Chroma1-Radiance"},
    {"Chroma", "Chroma1-Radiance"},
    {"SDXL", "KOALA"},
    {"Stable Diffusion 2", "Stable Video Diffusion"},
    {"HunyuanVideo", "Motif-Video"},
)
# A word in a trainer's name, and the kind that its modules are where the file does not say; the first counts
KINDS = (
    ("dora", "DoRA"),
    ("loha", "LoHa"),
    ("lokr", "LoKr"),
    ("glora", "GLoRA"),
    ("boft", "BOFT"),
    ("diag_oft", "Diag-OFT"),
    ("ia3", "IA3"),
    ("lora|locon|peft|diffsynth|xlabs|attn_procs|wan_fun", "LoRA"),
)


def write_lora(path: Path, name: str) -> Path:
    """The trainer's file without data, apart from its alphas, which all are ALPHA."""
    trained = manifests.trainer(name)
    tiny.sparse_file(path, trained.tensors, trained.metadata)
    with path.open("r+b") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        for tensor, info in json.loads(file.read(length)).items():
            if tensor.endswith(".alpha"):
                value = struct.pack("<f", ALPHA)
                file.seek(8 + length + info["data_offsets"][0])
                file.write({"F32": value, "BF16": value[2:], "F16": struct.pack("<e", ALPHA)}[info["dtype"]])
    return path


@cache
def layouts(arch: str) -> dict[str, tuple[KeyMap, list[FoundArch]]]:
    """The model with its text encoders: as its file holds it, in diffusers' naming, and as ComfyUI names it inside."""
    manifest = manifests.checkpoint(arch)
    held: dict[str, Shapes] = {"file": manifest.keys, "diffusers": manifest.diffusers_keys}
    held["inside"] = manifests.target_shapes(arch) if arch in manifests.alias_archs() else {}
    if len(detect(manifest.keys)) == 1 and without_prefix(held["inside"]) <= without_prefix(manifest.keys):
        del held["inside"]  # the file's names, apart from the prefix
    return {layout: _with_encoders(shapes) for layout, shapes in held.items() if shapes}


def without_prefix(shapes: Shapes) -> set[tuple[str, Shape]]:
    prefix = next((item.prefix for item in detect(shapes)), "")
    return {(key.removeprefix(prefix), shape) for key, shape in shapes.items()}


def _with_encoders(shapes: Shapes) -> tuple[KeyMap, list[FoundArch]]:
    files = [(shapes, detect(shapes))]
    held = {item.arch.id for item in files[0][1]}
    wanted = {encoder for item in files[0][1] for encoder in item.text_encoders} - held
    for encoder in sorted(wanted):
        keys = manifests.checkpoint(f"te_{encoder}").keys
        files.append((keys, detect(keys)))
    return KeyMap(*files), [item for _, found in files for item in found]


@pytest.fixture(scope="module", params=TRAINERS)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, LoraFile]]:
    """A trainer's file by its name, opened once for all tests of it."""
    path = write_lora(tmp_path_factory.mktemp("lora") / "lora.safetensors", request.param)
    with LoraFile(path) as lora:
        yield request.param, lora
    path.unlink()


def model_of(name: str) -> str:
    arch = manifests.trainer(name).arch
    return MODEL_OF.get(arch, arch)


def matched(lora: LoraFile, arch: str, layout: str = "file") -> LoraReport:
    keymap, found = layouts(arch)[layout]
    (report,) = match_stack([StackedLora(lora)], keymap, found, "ignore").reports
    return report


def test_every_module_has_its_place_in_every_layout(trained: tuple[str, LoraFile]) -> None:
    name, lora = trained
    for layout in layouts(model_of(name)):
        report = matched(lora, model_of(name), layout)
        assert (report.unmatched, report.elsewhere, report.mismatched) == ([], [], []), layout
        assert (report.unsupported, report.read_as, report.repeated) == ({}, {}, [])
        assert report.modules_matched == report.modules_total > 70


def test_every_target_is_there_with_the_right_shape(trained: tuple[str, LoraFile]) -> None:
    name, lora = trained
    for keymap, _ in layouts(model_of(name)).values():
        sizes: dict[str, set[Shape]] = {}  # two text encoders may have the same key
        for component in keymap.components:
            for key, shape in component.shapes.items():
                sizes.setdefault(key, set()).add(shape)
        for spec in lora.adapters:
            for target in keymap.find(spec.module, spec.param):
                last = (target.start or 0) + (target.shape[0] if target.shape else 0)
                axis = 1 if target.transposed else 0
                assert any(last <= (shape or (0,))[axis] for shape in sizes[target.key])
                assert spec.fits(target.adapter_shape)


def test_every_tensor_is_used_once_or_named_with_a_reason(trained: tuple[str, LoraFile]) -> None:
    _, lora = trained
    used = [name for spec in lora.adapters if not spec.optional for name in spec.tensor_names()]
    numbers = {f"{spec.module}{end}" for spec in lora.adapters for end in (".alpha", ".reshape_weight")}
    assert len(used) == len(set(used))
    groups = (set(used), numbers & set(lora.file), set(lora.not_adapters))
    assert set.union(*groups) == set(lora.file)
    assert sum(map(len, groups)) == len(lora.file)
    assert all(lora.not_adapters.values())  # what each of them is
    named = r"bundle_emb\..*"
    assert [tensor for tensor in lora.not_adapters if not re.fullmatch(named, tensor)] == []


def test_the_file_alone_tells_what_it_is_for(trained: tuple[str, LoraFile]) -> None:
    name, lora = trained
    keymap, found = layouts(model_of(name))["file"]
    title = next(item.arch.title for item in found if item.arch.role == "diffusion")
    targets = [target for spec in lora.adapters for target in keymap.find(spec.module, spec.param)]
    titles = [arch.title for arch in lora.arches]
    if not any(target.role == "diffusion" for target in targets):
        assert titles == []
    elif all(0 not in spec.delta_shape() and len(spec.delta_shape()) > 1 for spec in lora.adapters):
        assert titles == [title] or (title in titles and set(titles) in TWINS)
    else:  # the parts tell one side of the weight at most, and architectures share names
        assert title in titles


def test_the_report_says_how_the_file_is_written(trained: tuple[str, LoraFile]) -> None:
    name, lora = trained
    report, listed = matched(lora, model_of(name)), manifests.trainer(name)
    expected = next((dialect for start, dialect in DIALECTS if re.match(start, name)), report.dialect)
    assert report.dialect == (listed.dialect or expected)
    assert report.dialect in {row.id for row in dialects.DIALECTS}
    kind = next((kind for words, kind in KINDS if re.search(words, name.split("-", maxsplit=1)[0])), None)
    assert (listed.kind or kind) in (None, *report.kinds)
    if report.kinds == ["LoRA"]:
        assert report.rank is not None
        low, high = report.rank
        has_alphas = any(tensor.endswith(".alpha") for tensor in listed.tensors)
        expected = (ALPHA / high, ALPHA / low, "tensor", ALPHA) if has_alphas else (1.0, 1.0, "none", None)
        if "lora_adapter_metadata" in listed.metadata and report.scale["source"] == "header":
            expected = (1.0, 1.0, "header", float(high))  # some lists have no number there
        assert tuple(report.scale[field] for field in ("min", "max", "source", "alpha")) == expected


def test_the_tables_name_files_that_are_there() -> None:
    assert all(any(re.match(start, name) for name in TRAINERS) for start, _ in DIALECTS)
    assert all(any(re.search(words, name) for name in TRAINERS) for words, _ in KINDS)


def test_every_dialect_row_is_needed_by_some_file() -> None:
    """A row that no trainer's file and no alias of ComfyUI's begins with would be dead."""
    names = [name for trainer in TRAINERS for name in manifests.trainer(trainer).tensors]
    names += [name for table in manifests.alias_archs() for name in manifests.aliases(table)]
    needed = {dialects.dialects_of(name)[0].prefix for name in names}
    assert {row.prefix for row in dialects.DIALECTS} == needed


def test_a_row_fewer_would_be_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the rows of one dialect its files' names are not read as they are."""
    rows = [row for row in dialects.DIALECTS if row.id != "simpletuner"]
    monkeypatch.setattr(dialects, "_BY_START", dialects._by_start(rows))
    with LoraFile(write_lora(tmp_path / "lora.safetensors", "simpletuner_lycoris_lora-flux1_dev")) as lora:
        report = matched(lora, "flux1_dev")
    assert (report.dialect, list(report.read_as)) == ("bare", ["without 'lycoris_'"])
    assert len(report.read_as["without 'lycoris_'"]) == 342
