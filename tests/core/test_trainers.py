"""What trainers write: every file of every trainer, matched with the model it is for."""

from __future__ import annotations

import json
import re
import struct
from functools import cache
from pathlib import Path

import pytest

import lora_core
from lora_core.lorafile import LoraFile
from lora_core.report import LoraReport, Report
from tests import manifests, tiny
from tests.core import samples

ALPHA = 8.0

ENCODERS = {
    "flux1": ("te_clip_l", "te_t5xxl"),
    "sd3": ("te_clip_l", "te_clip_g", "te_t5xxl"),
    "sd35": ("te_clip_l", "te_clip_g", "te_t5xxl"),
    "wan21": ("te_umt5xxl",),
}
TITLES = {
    "sd15": "Stable Diffusion 1.5",
    "sd21": "Stable Diffusion 2",
    "sdxl": "SDXL",
    "sdxl_refiner": "SDXL refiner",
    "flux1": "Flux.1",
    "sd3": "Stable Diffusion 3",
    "sd35": "Stable Diffusion 3",
    "wan21": "Wan 2.1",
}
# The start of a trainer's name, and the dialect that its names are; the first that fits counts
DIALECTS = (
    ("kohya|lycoris|musubi|onetrainer_(dora|loha|lora|oft)", "kohya"),
    ("onetrainer_legacy", "onetrainer"),
    ("simpletuner_lycoris|aitoolkit_lokr_old", "simpletuner"),
    ("aitoolkit_or_comfy|comfy|wan_distill", "comfy"),
    ("aitoolkit|diffusers", "diffusers"),
    ("diffsynth|bfl|uso|xlabs", "bare"),
    ("peft", "peft"),
    ("wan_fun", "wan-fun"),
)
# A word in a trainer's name, and the kind that all its modules are; the first that fits counts, LoRA otherwise
UNSUPPORTED = {"dora": "DoRA", "loha": "LoHa", "lokr": "LoKr", "glora": "GLoRA", "oft": "OFT", "ia3": "IA3"}
KINDS = {  # other files that hold more than LoRA
    "bfl_control-flux1_dev": ["LoRA", "bias"],
    "lycoris_full-sd15": ["full difference"],
    "lycoris_lora_train_norm-sd15": ["LoRA", "norm"],
    "wan_distill_diff-wan21_t2v_14b": ["LoRA", "full difference"],
}
TEXT_ENCODERS_ONLY = ("comfy_generic_te-sdxl", "diffusers_te_lora_linear_layer-sdxl", "diffusers_te_tf4-sdxl",
                      "diffusers_te_tf5-sdxl")  # fmt: skip

# Tensors that no adapter holds, and why
NOT_ADAPTERS = {
    "bfl_control-flux1_dev": (152, r".*\.norm\.(query|key)_norm\.scale"),  # whole tensors to set, not to add
    "lycoris_ia3-sd15": (350, r"lora_.*\.weight"),  # the factors of (IA)³, which bear no word of their own
    "onetrainer_dora_bundle_emb-sd15": (1, r"bundle_emb\..*"),  # an embedding beside the LoRA
    "onetrainer_dora_bundle_emb-sdxl": (1, r"bundle_emb\..*"),
}
# Modules whose change has another shape than the weight: the control LoRA makes the image input wider
MISMATCHED = {"bfl_control-flux1_dev": [{"name": "img_in", "expected": [3072, 64], "found": [3072, 128]}]}


def kind_of(name: str) -> str | None:
    return next((kind for word, kind in UNSUPPORTED.items() if word in name), None)


def family(arch: str) -> str:
    return arch if arch in TITLES else arch.split("_", 1)[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@cache
def model_files(folder: Path, arch: str) -> list[Path]:
    names = (arch, *ENCODERS.get(family(arch), ()))
    return [samples.sparse_checkpoint(folder / f"{name}.safetensors", name) for name in names]


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


@pytest.fixture(scope="module")
def inspected(folder: Path) -> dict[str, Report]:
    """Reports by the trainer file's name, each made once."""
    return {}


def report_of(name: str, folder: Path, inspected: dict[str, Report]) -> tuple[Report, LoraReport]:
    if name not in inspected:
        models = model_files(folder, manifests.trainer(name).arch)
        inspected[name] = lora_core.inspect(write_lora(folder / "lora.safetensors", name), models)
    (lora,) = inspected[name].loras
    return inspected[name], lora


@pytest.mark.parametrize("name", manifests.trainers())
def test_every_module_has_its_place_or_a_reason(name: str, folder: Path, inspected: dict[str, Report]) -> None:
    report, lora = report_of(name, folder, inspected)
    assert (lora.unmatched, lora.elsewhere) == ([], [])
    assert lora.mismatched == MISMATCHED.get(name, [])
    assert set(lora.unsupported) == ({kind_of(name)} if kind_of(name) else set())
    without_place = len(lora.mismatched) + sum(map(len, lora.unsupported.values()))
    assert lora.modules_matched == lora.modules_total - without_place
    assert lora.modules_total > 70
    assert report.warnings == (
        [f"lora.safetensors: its modules are {kind_of(name)}, which this version can't apply."]
        if lora.modules_matched == 0
        else []
    )


@pytest.mark.parametrize("name", manifests.trainers())
def test_the_report_says_what_the_file_is(name: str, folder: Path, inspected: dict[str, Report]) -> None:
    _, lora = report_of(name, folder, inspected)
    kind = kind_of(name)
    assert lora.dialect == next(dialect for start, dialect in DIALECTS if re.match(start, name))
    assert lora.kinds == KINDS.get(name, [kind or "LoRA"])
    if name in TEXT_ENCODERS_ONLY:
        assert lora.arches == []  # judged by the diffusion model's modules
    elif kind:  # by their names alone, which the U-Nets share
        assert TITLES[family(manifests.trainer(name).arch)] in lora.arches
    else:
        assert lora.arches == [TITLES[family(manifests.trainer(name).arch)]]


@pytest.mark.parametrize("name", manifests.trainers())
def test_every_alpha_is_read(name: str, folder: Path, inspected: dict[str, Report]) -> None:
    _, lora = report_of(name, folder, inspected)
    tensors = manifests.trainer(name).tensors
    if kind_of(name) or "LoRA" not in lora.kinds:
        assert lora.rank is None
        return
    assert lora.rank is not None
    low, high = lora.rank
    has_alphas = any(tensor.endswith(".alpha") for tensor in tensors)
    expected = (ALPHA / high, ALPHA / low, "tensor", ALPHA) if has_alphas else (1.0, 1.0, "none", None)
    assert tuple(lora.scale[field] for field in ("min", "max", "source", "alpha")) == expected


@pytest.mark.parametrize("name", manifests.trainers())
def test_every_tensor_is_accounted_for_once(name: str, folder: Path) -> None:
    with LoraFile(write_lora(folder / "lora.safetensors", name)) as lora:
        used = [info.name for spec in lora.adapters for info in spec.parts.values()]
        alphas = {f"{spec.module}.alpha" for spec in lora.adapters} & set(lora.file)
        unsupported = {
            key for key in lora.file if any(key.startswith(m + ".") for m in prefixes(key, lora.unsupported))
        }
        assert len(used) == len(set(used))
        groups = (set(used), alphas, unsupported - set(lora.not_adapters), set(lora.not_adapters))
        assert set.union(*groups) == set(lora.file)
        assert sum(map(len, groups)) == len(lora.file)
        count, pattern = NOT_ADAPTERS.get(name, (0, ""))
        assert len(lora.not_adapters) == count
        assert all(re.fullmatch(pattern, key) for key in lora.not_adapters)


def prefixes(key: str, modules: dict[str, str]) -> list[str]:
    """Those of `modules` that `key` may belong to: `key` cut at one of its dots."""
    dots = [place for place, sign in enumerate(key) if sign == "."]
    return [key[:place] for place in dots if key[:place] in modules]


def test_the_tables_name_files_that_are_there() -> None:
    names = set(manifests.trainers())
    assert {*KINDS, *TEXT_ENCODERS_ONLY, *NOT_ADAPTERS, *MISMATCHED} <= names
    assert all(any(re.match(start, name) for name in names) for start, _ in DIALECTS)


def test_a_row_fewer_would_be_noticed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the rows of one dialect its files have no place."""
    from lora_core import dialects

    rows = [row for row in dialects.DIALECTS if row.id != "simpletuner"]
    monkeypatch.setattr(dialects, "_LONGEST_FIRST", sorted(rows, key=lambda row: -len(row.prefix)))
    _, lora = report_of("simpletuner_lycoris_lora-flux1_dev", folder, {})
    assert (lora.dialect, lora.modules_matched, len(lora.unmatched)) == ("bare", 0, 342)
