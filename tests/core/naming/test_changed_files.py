"""Trainers' files with one tensor more, one less or one renamed: right, or told; never "complete"."""

from __future__ import annotations

import random
from collections import defaultdict
from functools import cache

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_core.adapters.suffixes import SplitName, split_names
from lora_core.errors import LoraError
from lora_core.naming.detection import FoundArch, detect
from lora_core.naming.keymap import KeyMap
from lora_core.reading.lorafile import LoraFile
from lora_core.stack.matching import match_stack
from lora_core.stack.opened import StackedLora
from tests import manifests
from tests.manifests import Tensors

MODULES = 5  # of a file: what most of its modules have is usual
ALPHA = 2.0
FILES = [name for arch in ("sd15", "flux1_dev", "wan21_t2v_1.3b", "qwen_image") for name in manifests.trainers(arch)]
WORDS = ["lora_diag", "scale", "weight", "lora_up", "alpha2", "w1", "lora_C.weight", "hada_w3_a", "extra.0", "m"]
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64}


@cache
def model(arch: str) -> tuple[KeyMap, list[FoundArch]]:
    shapes = manifests.checkpoint(arch).keys
    files = [(shapes, detect(shapes))]
    wanted = {encoder for item in files[0][1] for encoder in item.text_encoders} - {
        item.arch.id for item in files[0][1]
    }
    for encoder in sorted(wanted):
        keys = manifests.checkpoint(f"te_{encoder}").keys
        files.append((keys, detect(keys)))
    return KeyMap(*files), [item for _, found in files for item in found]


@cache
def modules_of(name: str) -> dict[str, dict[str, SplitName]]:
    """{module: {tensor: what it spells}} of one shape of name: a whole file has further parts to its modules."""
    found: dict[str, dict[str, SplitName]] = defaultdict(dict)
    for tensor, split in split_names(manifests.trainer(name).tensors).items():
        found[split.module][tensor] = split
    return found


def some_modules(name: str, choice: random.Random) -> tuple[Tensors, dict[str, SplitName]]:
    """A few modules of the file that have the same parts."""
    by_parts: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for module, tensors in modules_of(name).items():
        by_parts[tuple(sorted(split.part.suffix for split in tensors.values()))].append(module)
    alike = choice.choice([group for group in by_parts.values() if len(group) >= MODULES])
    chosen = {t: s for module in choice.sample(alike, MODULES) for t, s in modules_of(name)[module].items()}
    return {tensor: manifests.trainer(name).tensors[tensor] for tensor in chosen}, chosen


def problems(tensors: Tensors, name: str) -> list[str]:
    """What a user is told of the file on its model, beside how it is applied."""
    made = {
        key: torch.full(shape, ALPHA if key.endswith(".alpha") else 0.0, dtype=DTYPES[dtype])
        for key, (dtype, shape) in tensors.items()
    }
    keymap, found = model(manifests.trainer(name).arch)
    try:
        with LoraFile(made) as lora:
            match = match_stack([StackedLora(lora)], keymap, found)
    except LoraError as error:
        return [str(error)]
    (report,) = match.reports
    missing = report.modules_total - report.modules_matched
    return [*match.warnings, *lora.not_adapters, *[f"{missing} missing"] * bool(missing)]


def is_needed(tensor: str, chosen: dict[str, SplitName], name: str) -> bool:
    """Whether the module's change is another one without this tensor, or none is left of a larger whole."""
    module, part = chosen[tensor]
    beside = [split for other, split in chosen.items() if split.module == module and other != tensor]
    ranks = {part.field for _, part in beside} & {"down", "w1_b", "w2_b", "b1"}
    return bool(beside) and part.param == "weight" and (part.field != "alpha" or bool(ranks))


@settings(max_examples=200)
@given(st.sampled_from(FILES), st.integers(0, 2**32), st.sampled_from(["more", "apart", "less", "renamed"]))
def test_a_changed_file_is_never_complete(name: str, seed: int, change: str) -> None:
    choice = random.Random(seed)
    tensors, chosen = some_modules(name, choice)
    before = problems(tensors, name)  # as the trainer wrote it
    assert not any("missing" in line for line in before)
    one = choice.choice(sorted(tensors))
    if change == "more":
        tensors |= {f"{chosen[one].module}.{choice.choice(WORDS)}": ("F32", (4,))}
    elif change == "apart":
        tensors |= {f"{choice.choice(['blocks.9', 'lora_unet_new', 'x'])}.{choice.choice(WORDS)}": ("F32", (4,))}
    elif not is_needed(one, chosen, name):
        return
    elif change == "less":
        del tensors[one]
    else:
        at = choice.randrange(len(one))
        tensors[f"{one[:at]}x{one[at:]}"] = tensors.pop(one)
    assert set(problems(tensors, name)) - set(before), (one, sorted(tensors))
