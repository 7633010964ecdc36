"""All that is known of one LoRA file, for a panel that shows it: from its header and the files beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..arch.base import Arch
from ..arch.blockgroups import GROUP_TITLES
from ..files.hashes import Hashes
from ..naming.blocks import ENCODERS, OTHER, ModelBlocks
from ..naming.outlines import outlined
from ..parallel.asking import ask
from ..reading.lorafile import LoraFile
from ..report import summary_of
from ..stack.matching import describe_lora
from ..stack.pairs import partner_of
from ..text import json_object, plain, plain_line, without_markup
from .previews import preview_of
from .sidecars import Sidecar, read_sidecars
from .words import shown_words, tags_in

MOST_PAIRS = 200  # entries of the metadata
MOST_TEXT = 256 * 2**10  # characters of all of them


def info(path: Path, name: str, names: Iterable[str], hashes: Hashes, *, with_hash: bool = False) -> dict[str, Any]:
    """Return what is known of the LoRA listed as `name`, as JSON values; its hash is only computed `with_hash`.

    Raises a LoraError for a file that is no LoRA, is broken, or can't be read.
    """
    with LoraFile(path) as lora:
        described, metadata = describe_lora(lora), lora.metadata
        blocks = {"groups": block_groups(lora), "presets": presets_of(lora)}
    sidecars, notes = read_sidecars(path)
    notes += [plain_line(warning) for warning in lora.warnings]
    pair, tags = partner_of(name, names), tags_in(metadata)
    return {
        "name": name,
        "size": path.stat().st_size,
        "hash": hashes.of(path, lambda _: ask()) if with_hash else hashes.known(path),
        "arches": described.arches,
        "kinds": described.kinds,
        "dialect": described.dialect,
        "rank": list(described.rank) if described.rank else None,
        "scale": described.scale,
        "modules": described.modules_total,
        "summary": plain_line(summary_of(described, None), 1_000),
        **_texts(sidecars, metadata),
        "words": [asdict(word) for word in shown_words(sidecars, metadata, tags)],
        "tags": [{"tag": tag, "count": count} for tag, count in tags],
        "metadata": _pairs(metadata),
        "has_preview": preview_of(path) is not None,
        "pair": {"role": pair.role if pair else None, "partner": pair.partner if pair else ""},
        "blocks": blocks,
        "notes": notes,
    }


def _texts(sidecars: list[Sidecar], metadata: Mapping[str, str]) -> dict[str, str]:
    """Return what people wrote: what a model manager knows comes before the file's own words."""

    def told(attribute: str, *keys: str, clean: Callable[[Any], str] = plain_line) -> str:
        texts = [getattr(one, attribute) for one in sidecars]
        return next((text for text in (*texts, *(clean(metadata.get(key)) for key in keys)) if text), "")

    notes = [one.notes for one in sidecars if one.notes]
    description = told("description", "modelspec.description", "ss_training_comment", clean=without_markup)
    return {
        "title": told("title", "modelspec.title", "ss_output_name", "name"),
        "trainer": trainer_of(metadata),
        "base": told("base", "ss_base_model_version", "modelspec.base_model", "modelspec.architecture"),
        "author": told("author", "modelspec.author"),
        "license": told("license", "modelspec.license"),
        "description": plain("\n\n".join(text for text in (description, *dict.fromkeys(notes)) if text)),
        "url": told("url"),
    }


def trainer_of(metadata: Mapping[str, str]) -> str:
    """Return the program that trained a LoRA, guessed from what it wrote; an empty text if nothing tells."""
    module = metadata.get("ss_network_module", "")
    software = plain_line(json_object(metadata.get("software", "")).get("name"))
    if software:
        return software
    if any(key.startswith("ot_") for key in metadata):
        return "OneTrainer"
    implementation = plain_line(metadata.get("modelspec.implementation"))
    known = next((title for part, title in _PROGRAMS if part in f"{module} {implementation}".lower()), "")
    if known:
        return known
    return implementation or ("kohya's sd-scripts" if module.startswith("networks.") else plain_line(module))


_PROGRAMS = (
    ("musubi", "musubi-tuner"),
    *((f"networks.lora_{model}", "musubi-tuner") for model in ("wan", "framepack", "flux_kontext", "qwen_image")),
    ("lycoris.kohya", "kohya's sd-scripts with LyCORIS"),
    ("simpletuner", "SimpleTuner"),
    ("ostris", "ai-toolkit"),
    ("onetrainer", "OneTrainer"),
    ("lora-core", "LoRA Core"),
    ("kohya-ss/sd-scripts", "kohya's sd-scripts"),
    ("sd-scripts", "kohya's sd-scripts"),
)


def _pairs(metadata: Mapping[str, str]) -> list[list[str]]:
    """Return the metadata as [key, value], long values cut; what is too much is counted in a last pair."""
    pairs: list[list[str]] = []
    size = 0
    for key, value in sorted(metadata.items()):
        pair = [plain_line(key), plain(value)]
        size += len(pair[0]) + len(pair[1])
        if len(pairs) >= MOST_PAIRS or size > MOST_TEXT:
            break
        pairs.append(pair)
    rest = len(metadata) - len(pairs)
    return [*pairs, ["…", f"{rest} more entries are not shown"]] if rest else pairs


def block_groups(of: LoraFile | Arch | ModelBlocks) -> list[dict[str, Any]]:
    """Return what can be given a strength, each as {"name", "title", "numbers"}; numbers are empty where none count.

    A LoRA has the groups of the model that it looks like; of one that looks like none, nothing is known.
    """
    model = _blocks_of(of)
    if model is None:
        return []
    groups = [{"name": name, "title": GROUP_TITLES.get(name, name), "numbers": list(model.groups[name])}
              for name in model.groups]  # fmt: skip
    encoders = [(f"{ENCODERS}.{name}", _encoder_title(name)) for name in model.encoders]
    rest = [(OTHER, GROUP_TITLES[OTHER]), *([(ENCODERS, GROUP_TITLES[ENCODERS])] if encoders else []), *encoders]
    return [*groups, *({"name": name, "title": title, "numbers": list[int]()} for name, title in rest)]


def presets_of(of: LoraFile | Arch | ModelBlocks) -> dict[str, str]:
    """Return the presets of a model: name -> the terms that it stands for."""
    model = _blocks_of(of)
    return dict(model.presets) if model else {}


def _blocks_of(of: LoraFile | Arch | ModelBlocks) -> ModelBlocks | None:
    if isinstance(of, ModelBlocks):
        return of
    if isinstance(of, Arch):
        return ModelBlocks.of_arch(of)
    return ModelBlocks.of_arch(of.arches[0]) if of.arches else None


def _encoder_title(name: str) -> str:
    return next((found.title for found in outlined(name)), name)
