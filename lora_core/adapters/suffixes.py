"""The suffix table: how trainers spell the tensors of an adapter, gathered from the kinds.

A part's name is `module + suffix`; the suffix tells the adapter's kind, the part's field and which parameter of the
module it changes. Matching is exact on the end of the name; longer suffixes win. Some suffixes say nothing alone, and
count only beside other parts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from ..parallel.asking import each
from . import KINDS, dora, reshape
from .shapes import Shapes
from .spelling import Part, suffix_rows
from .stored import StoredAdapter

# Parts around an adapter of any kind
_AROUND = (
    *suffix_rows("", "alpha", ".alpha", ".lora_alpha"),
    *suffix_rows("", "rank", ".lora_rank"),  # FastVideo, beside its `.lora_alpha`
    *dora.SUFFIXES,
    *reshape.SUFFIXES,
)
# Kinds that are named and not applied, so that a module that has one of these parts is not half-applied
_NOT_APPLIED = {
    "T-LoRA": (".lambda_layer", ".q_layer.weight", ".p_layer.weight"),
    "GLoRA with a bias that depends on the weight": (".glora_C.Xd", ".glora_C.Xu", ".glora_C.X"),
}


def _rows_of(kinds: Iterable[type[StoredAdapter]]) -> tuple[Part, ...]:
    """Return the rows of these kinds, of what is around any adapter, and of kinds whose suffixes none of these has."""
    own = [row for kind in kinds for row in kind.suffixes]
    spelled = {row.suffix for row in own}
    others = (
        row
        for word, suffixes in _NOT_APPLIED.items()
        if spelled.isdisjoint(suffixes)
        for row in suffix_rows(word, "factor", *suffixes)
    )
    return tuple(dict.fromkeys((*own, *_AROUND, *others)))


PARTS = _rows_of(KINDS.values())


class SplitName(NamedTuple):
    module: str  # as the trainer names it, dialect prefix included
    part: Part


_SPELLED_AS = {word: [kind for kind in KINDS.values() if any(row.kind == word for row in kind.suffixes)]
               for word in dict.fromkeys(part.kind for part in PARTS if part.kind)}  # fmt: skip
_BY_SUFFIX = {part.suffix: part for part in PARTS}
_END = min(map(len, _BY_SUFFIX))  # letters by which the few suffixes that a name may have are known
_LENGTHS: dict[str, list[int]] = {
    suffix[-_END:]: sorted({len(one) for one in _BY_SUFFIX if one.endswith(suffix[-_END:])}, reverse=True)
    for suffix in _BY_SUFFIX
}


def is_applied(word: str) -> bool:
    """Tell whether the `kind` of a row names kinds that have a class."""
    return bool(_SPELLED_AS[word])


def kind_of(word: str, module: str, shapes: Shapes) -> type[StoredAdapter]:
    """Return the kind of a module's parts whose rows have this word: of several, the first that they may mean."""
    return next(kind for kind in _SPELLED_AS[word] if kind.is_meant(module, shapes))


def split_name(name: str) -> SplitName | None:
    """Return the module and the part that `name` spells whatever stands beside it, or None if it spells none."""
    split = _longest(name)
    return None if split is None or split.part.beside or split.part.in_lora else split


def is_shared(name: str) -> bool:
    """Tell whether a tensor may be a part of several modules."""
    split = split_name(name)
    return split is not None and split.part.shared


def split_names(names: Collection[str]) -> dict[str, SplitName]:
    """Return {name: module and part} of all names of one file that are an adapter's."""
    found = {name: split for name in each(names) if (split := _longest(name))}
    known = set(names)
    found = {n: s for n, s in found.items() if not s.part.beside or s.module + s.part.beside in known}
    if all(split.part.in_lora for split in found.values()):
        return {}
    return found


def _longest(name: str) -> SplitName | None:
    for length in _LENGTHS.get(name[-_END:], ()):
        part = _BY_SUFFIX.get(name[-length:])
        if part is not None and len(name) > length:
            split = SplitName(name[:-length] + part.keeps, part)
            return (part.beside and _with_adapter_name(name)) or split  # a bare `.weight` is any name's end
    return None


def _with_adapter_name(name: str) -> SplitName | None:
    """Return what PEFT's `module.lora_A.NAME.weight` spells, NAME being whatever the user called the adapter."""
    module, field, *rest = name.rsplit(".", 3) if name.count(".") > 2 else (name, "")
    part = _BY_SUFFIX.get(f".{field}.weight") if field in ("lora_A", "lora_B") and rest[-1:] == ["weight"] else None
    return part and SplitName(module, part)
