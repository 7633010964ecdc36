"""How trainers spell the tensors of an adapter: rows of a suffix and what it means."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..naming.dialects import Family

# Modules that look rows up and do not multiply: PEFT spells their LoRA in its own way, each factor on its side
_LOOKUPS = ("embed_tokens", "token_embedding", "position_embedding", "word_embeddings", "wte", "wpe", "shared")
LOOKUP_FACTORS = {"up": ".lora_embedding_A", "down": ".lora_embedding_B"}  # (rank, words) and (width, rank)


def is_lookup(module: str) -> bool:
    """Tell, by its name, whether a module is an embedding."""
    return module.rpartition(".")[2] in _LOOKUPS


@dataclass(frozen=True, slots=True)
class Part:
    """One row: a suffix and what it means."""

    suffix: str
    kind: str  # adapter kind, or the word that kinds share which are spelled alike; "" for parts that any kind may have
    field: str
    param: str = "weight"  # the parameter of the module that the adapter changes
    keeps: str = ""  # what of the suffix belongs to the module's name
    beside: str = ""  # counts only if the module has this suffix too
    in_lora: bool = False  # counts only in a file that holds an adapter besides
    shared: bool = False  # one tensor may be a part of several modules: of all whose names begin with its own
    family: Family | None = None  # the dialects that write it, where it is not the field's first row


def suffix_rows(
    kind: str,
    field: str,
    *suffixes: str,
    param: str = "weight",
    family: Family | None = None,
    shared: bool = False,
) -> tuple[Part, ...]:
    return tuple(Part(suffix, kind, field, param, shared=shared, family=family) for suffix in suffixes)


def factor_rows(kind: str, prefix: str, *fields: str, ending: str = "") -> tuple[Part, ...]:
    return tuple(Part(f".{prefix}{field}{ending}", kind, field) for field in fields)


def written_suffix(rows: Iterable[Part], family: Family, field: str, param: str) -> str | None:
    """Return the suffix that dialects of a family write, None if the rows have none for this parameter."""
    found = [row for row in rows if (row.field, row.param) == (field, param)]
    own = (row for row in found if row.family == family)
    return next((row.suffix for row in (*own, *found)), None)
