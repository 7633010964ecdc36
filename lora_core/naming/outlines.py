"""Outlines: the keys and shapes of known models, shipped with the pack, so that names can be made without a model.

An outline is JSON: `keys`, key -> shape, in the architecture's own layout and without a prefix; and `diffusers`, the
modules' names there, if the rename rows give several. A token may be a set of numbers: `{0-18}` or `{1-2,4}` stands for
one name with each.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from ..arch import ARCHES
from ..arch.base import Arch, Shape
from .detection import FoundArch
from .numbersets import numbers_in

_MARKS = {ord(digit): "#" for digit in "0123456789#"}
_LETTERS = {code: chr(code) for code in range(128) if chr(code).isalpha()}
_WORDS = bytes(ord((_MARKS | _LETTERS).get(code, " ")) for code in range(256))
FOLDER = Path(__file__).parents[1] / "arch" / "outlines"


@dataclass(frozen=True, slots=True)
class Outline:
    """The keys of a model, and what diffusers calls its modules: nothing if the rename rows tell."""

    shapes: Mapping[str, Shape]
    diffusers: frozenset[str] = frozenset()


def outlines_of(arch: Arch) -> list[FoundArch]:
    """Return what `read_outline` has of an architecture: its editions, and itself."""
    found = [FoundArch(arch, edition, "") for edition in (*arch.editions, None)]
    return [item for item in found if _path(item.id).is_file() and (item.id not in _shared() or _is_in_layout(item))]


def outlined(name: str) -> list[FoundArch]:
    """Return the outlines of an edition or an architecture, named by its id; none if the id is unknown."""
    fitting = [arch for arch in ARCHES if name in (arch.id, *(edition.id for edition in arch.editions))]
    known = [found for arch in fitting for found in outlines_of(arch)]
    arches = [found for found in known if found.arch.id == name]  # an edition may have its family's id: SDXL
    return arches or [found for found in known if found.id == name]


@cache
def read_outline(name: str) -> Outline:
    """Return the outline of the model that has this id."""
    stored = _stored(name)
    return Outline(expanded(stored["keys"]), frozenset(expanded(dict.fromkeys(stored.get("diffusers", ()), ()))))


@cache
def compact_outline(name: str) -> Mapping[str, Shape]:
    """Return the keys as they are stored: a row for many."""
    return {key: tuple(shape) for key, shape in _stored(name)["keys"].items()}


@cache
def outline_words(name: str) -> frozenset[str]:
    """Return the words of an outline's text, which have those of all its keys: quicker than to read it."""
    return text_words(_path(name).read_bytes())


def text_words(text: bytes) -> frozenset[str]:
    """Return the words of a text, `#` for the digits in them."""
    text = text.translate(_WORDS)
    while b"##" in text:
        text = text.replace(b"##", b"#")
    return frozenset(text.decode("ascii").split())


def diffusers_names(found: FoundArch) -> frozenset[str]:
    """Return what diffusers calls the modules where the rename rows give several names; nothing if they tell.

    An edition that diffusers does not have has the names of the architecture's first that it does.
    """
    known = sorted((item.id for item in outlines_of(found.arch)), key=lambda name: name != found.id)
    return next((names for name in known if (names := read_outline(name).diffusers)), frozenset())


def expanded(rows: Mapping[str, Iterable[int]]) -> dict[str, Shape]:
    """Return rows with every name written out."""
    return {key: tuple(shape) for row, shape in rows.items() for key in _keys(row)}


def _is_in_layout(found: FoundArch) -> bool:
    """Tell whether the outline is in this architecture's layout: two of them may have one id (OpenCLIP's CLIPs)."""
    return any(signature.fits(read_outline(found.id).shapes) for signature in found.arch.signatures)


@cache
def _shared() -> frozenset[str]:
    """Return the ids that several architectures have."""
    ids = Counter(name for arch in ARCHES for name in {arch.id, *(edition.id for edition in arch.editions)})
    return frozenset(name for name, count in ids.items() if count > 1)


def _stored(name: str) -> dict[str, Any]:
    return json.loads(_path(name).read_bytes())


def _path(name: str) -> Path:
    return FOLDER / f"{name}.json"


def _keys(row: str) -> Iterator[str]:
    choices = [list(numbers_in(token)) if token.startswith("{") else [token] for token in row.split(".")]
    return (".".join(tokens) for tokens in product(*choices))
