"""Writes the outlines that ship with the pack from the checkpoints of tests/data: `python -m tests.outlines`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import reduce

from lora_core.arch.base import Shape, Shapes
from lora_core.naming.detection import FoundArch, detect, own_shapes
from lora_core.naming.keymap import KeyMap
from lora_core.naming.outlines import FOLDER, Outline
from tests import manifests


def sources() -> Iterator[tuple[FoundArch, Outline]]:
    """Yield every model of tests/data that is known, without the text encoders that may be beside it."""
    for name in manifests.archs():
        yield from sources_of(name)


def sources_of(name: str) -> Iterator[tuple[FoundArch, Outline]]:
    """Yield the model that a checkpoint of tests/data is for, if it is known and not the same as another's."""
    checkpoint = manifests.checkpoint(name)
    if checkpoint.edition != name.removeprefix("te_"):
        return
    for found in detect(checkpoint.keys)[:1]:  # the model that the file is for comes first
        shapes = own_layout(found, checkpoint.keys)
        yield found, Outline(shapes, diffusers_names(found, shapes, checkpoint.diffusers_keys))


def own_layout(found: FoundArch, keys: dict[str, Shape]) -> dict[str, Shape]:
    if found.renamed:
        return own_shapes(found.arch, keys, found.prefix)
    others = [item.prefix for item in detect(keys) if item != found and item.prefix]
    mine = {key: shape for key, shape in keys.items() if not key.startswith((*others, "first_stage_model.", "vae."))}
    return {key[len(found.prefix) :]: shape for key, shape in mine.items() if key.startswith(found.prefix)}


def diffusers_names(found: FoundArch, shapes: Shapes, there: Shapes) -> frozenset[str]:
    """Return which names diffusers has, if the rename rows give names that it does not have."""
    if not there:
        return frozenset()
    component = KeyMap((shapes, [replace(found, prefix="", renamed=False)])).components[0]
    names = {(name.module, name.param) for name in component.written_names("there")}
    used = {(module, param) for module, param in names if module in there or f"{module}.{param}" in there}
    return frozenset(module for module, _ in used) if used < names else frozenset()


def text(outline: Outline) -> str:
    """Return an outline as it is stored: a row a line."""
    keys = [f"{json.dumps(key)}: {json.dumps(shape)}" for key, shape in sorted(compact(outline.shapes).items())]
    parts = ['"keys": {\n' + ",\n".join(keys) + "\n}"]
    if outline.diffusers:
        names = sorted(compact(dict.fromkeys(outline.diffusers, ())))
        parts.append('"diffusers": [\n' + ",\n".join(map(json.dumps, names)) + "\n]")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def compact(shapes: Shapes) -> dict[str, list[int]]:
    """Return the rows that stand for these names: the inverse of `expanded`."""
    groups: dict[tuple[tuple[str, ...], Shape], list[tuple[frozenset[int], ...]]] = {}
    for key, shape in shapes.items():
        tokens = key.split(".")
        skeleton = tuple("#" if token.isdecimal() else token for token in tokens)
        numbers = tuple(frozenset((int(token),)) for token in tokens if token.isdecimal())
        groups.setdefault((skeleton, shape), []).append(numbers)
    rows: dict[str, list[int]] = {}
    for (skeleton, shape), items in groups.items():
        for numbers in reduce(_joined, range(len(items[0])), items):
            texts = iter([_text(sorted(several)) for several in numbers])
            rows[".".join(next(texts) if token == "#" else token for token in skeleton)] = list(shape)
    return rows


def write() -> None:
    FOLDER.mkdir(exist_ok=True)
    written = {FOLDER / f"{found.id}.json": text(outline) for found, outline in sources()}
    for path in FOLDER.glob("*.json"):
        if path not in written:
            path.unlink()
    for path, content in written.items():
        path.write_text(content, encoding="utf-8")


def _joined(items: list[tuple[frozenset[int], ...]], place: int) -> list[tuple[frozenset[int], ...]]:
    """Return the items with those made one that differ in one place only."""
    found: dict[tuple[frozenset[int], ...], frozenset[int]] = {}
    for item in items:
        others = item[:place] + item[place + 1 :]
        found[others] = found.get(others, frozenset()) | item[place]
    return [(*others[:place], numbers, *others[place:]) for others, numbers in found.items()]


def _text(numbers: list[int]) -> str:
    """Return `4`, `{0-18}` or `{1-2,4}`."""
    starts = [number for number in numbers if number - 1 not in numbers]
    ends = [number for number in numbers if number + 1 not in numbers]
    runs = [str(first) if first == last else f"{first}-{last}" for first, last in zip(starts, ends, strict=True)]
    return str(numbers[0]) if len(numbers) == 1 else f"{{{','.join(runs)}}}"


if __name__ == "__main__":
    write()
