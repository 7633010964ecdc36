"""What is missing of a model: run on its lists in tests/data, in every layout that it has."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from lora_core.arch.base import DIFFUSION_PREFIXES
from lora_core.errors import KeyCollisionError
from lora_core.naming.detection import FoundArch, detect
from lora_core.naming.keymap import KeyMap
from lora_core.naming.outlines import FOLDER
from lora_core.reading.lorafile import LoraFile
from tests import manifests, outlines
from tests.core.naming import test_aliases, test_trainers
from tests.core.naming.alias_reasons import ONLY_IN_DIFFUSERS
from tests.keylist.signatures import known_lists, own_keys

_SHOWN = 5


def check(name: str) -> Iterator[str]:
    """Yield what is missing of a model's data, a line each; nothing if it is complete."""
    listed = manifests.checkpoint(name)
    found = [item for item in detect(listed.keys) if item.arch.role == "diffusion"]
    if not found or found[0].id != listed.edition:
        yield f"its file is taken for {', '.join(item.id for item in found) or 'no known model'}"
    if not found:
        return
    yield from _detected(name, found[0])
    try:
        yield from _names(name, found[0])
        yield from _outline(name)
        yield from _trained(name)
        yield from _accepted(name)
    except KeyCollisionError as error:
        yield f"two rows give one name: {error}"


def _detected(name: str, found: FoundArch) -> Iterator[str]:
    """Yield under which prefixes, and in which layout, a model is not found, and whose lists its signatures fit."""
    for prefix in DIFFUSION_PREFIXES:
        items = detect({prefix + key: shape for key, shape in own_keys(name).items()})
        if [item.id for item in items] != [found.id]:
            yield f"below {prefix!r} it is taken for {[item.id for item in items]}"
    there = manifests.checkpoint(name).diffusers_keys
    if there and [item.id for item in detect(there)] != [found.id]:
        yield f"in diffusers' names it is taken for {[item.id for item in detect(there)] or 'no known model'}"
    editions = [found.arch.id, *(edition.id for edition in found.arch.editions)]
    for other, shapes in known_lists(editions).items():
        if any(one.fits(shapes) for one in (*found.arch.signatures, *found.arch.others)):
            yield f"its signature fits {other}"


def _names(name: str, found: FoundArch) -> Iterator[str]:
    listed = manifests.checkpoint(name)
    keymap, missing = KeyMap((listed.keys, [found])), []
    for key, shape in listed.diffusers_keys.items():
        module, _, param = key.rpartition(".")
        targets = keymap.find(f"transformer.{module}", param) or keymap.find(f"transformer.{key}")
        if re.fullmatch("|".join(ONLY_IN_DIFFUSERS.get(name, ())), key):
            continue
        if not targets or targets[0].adapter_shape != shape:
            missing.append(key)
    yield from _grouped("diffusers has, with no place here", missing)


def _accepted(name: str) -> Iterator[str]:
    """Yield which of the names have no place that ComfyUI accepts for the model, and for the text encoders with it."""
    for table in test_aliases.TABLES:
        if name in (table, test_aliases.MODEL_OF.get(table, table.removeprefix("te_"))):
            _, differ, _, rest = test_aliases.compared(table)
            yield from _grouped(f"ComfyUI accepts ({table}), with no place here", rest)
            yield from (f"ComfyUI sends elsewhere ({table}): {line}" for line in differ[:_SHOWN])


def _outline(name: str) -> Iterator[str]:
    for found, outline in outlines.sources_of(name):
        path = FOLDER / f"{found.id}.json"
        if not path.is_file() or path.read_text("utf-8") != outlines.text(outline):
            yield f"no outline of {found.id} as its list has it: `make outlines`"


def _trained(name: str) -> Iterator[str]:
    """Yield which names of trainers' files have no place, in every layout."""
    lists = [one for one in test_trainers.TRAINERS if test_trainers.model_of(one) == name]
    for listed in lists:
        for layout, missing in unmatched(listed).items():
            yield from _grouped(f"{listed}, on the {layout} layout", missing)


def unmatched(listed: str) -> dict[str, list[str]]:
    """Return the modules of a trainer's file that have no place, for each layout of its model."""
    model = test_trainers.model_of(listed)
    with tempfile.TemporaryDirectory() as folder:
        path = test_trainers.write_lora(Path(folder) / "lora.safetensors", listed)
        with LoraFile(path) as lora:
            reports = {layout: test_trainers.matched(lora, model, layout) for layout in test_trainers.layouts(model)}
    return {
        layout: [*report.unmatched, *report.elsewhere, *(one["name"] for one in report.mismatched)]
        for layout, report in reports.items()
    }


def _grouped(what: str, names: Iterable[str]) -> Iterator[str]:
    """Yield names that differ in their numbers alone as one line, with how many they are."""
    for name, count in Counter(re.sub(r"\d+", "#", name) for name in names).items():
        yield f"{what}: {name} ({count})"
