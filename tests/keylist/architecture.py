"""An `Arch` that is proposed for one or several key lists of tests/data, and its text for lora_core/arch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from textwrap import fill

from lora_core.arch.base import DIFFUSION_PREFIXES, Arch, Edition, Rename, Shapes, Signature
from tests import manifests
from tests.keylist import hostnames
from tests.keylist.leaves import Leaf, leaves
from tests.keylist.proposal import rows_of
from tests.keylist.signatures import known_lists, own_keys, signature

_BLOCK_WORDS = ("_blocks", "_layers")


@dataclass(frozen=True, slots=True)
class Proposal:
    """An architecture, and what a person has to look at."""

    arch: Arch
    doubts: tuple[str, ...]


def propose(names: Sequence[str], arch_id: str = "", title: str = "") -> Proposal:
    """Return what is proposed for these lists, which are editions of one model; the first one's rows are compared."""
    own = [own_keys(name) for name in names]
    there = [manifests.checkpoint(name).diffusers_keys for name in names]
    rivals = known_lists(names)
    doubts: list[str] = []
    signatures, others = _signatures(own, [keys for keys in there if keys], rivals, doubts)
    rows = _renames(own, there, doubts)
    encoders = hostnames.text_encoders(names)
    doubts.append(f"text_encoders: {'whether these' if encoders else 'which'} go with it, the usual number first")
    arch = Arch(
        id=arch_id or names[0],
        title=title or (arch_id or names[0]).replace("_", " ").title(),
        signatures=signatures,
        others=others,
        prefixes=tuple(dict.fromkeys((*DIFFUSION_PREFIXES, *(manifests.checkpoint(name).prefix for name in names)))),
        renames=rows,
        blocks=_groups(leaves(own[0])),
        editions=tuple(_editions(names, own)) if len(names) > 1 else (),
        text_encoders=encoders,
    )
    more = dict.fromkeys(row for name in names for row in hostnames.rows(name, arch))
    return Proposal(replace(arch, renames=(*arch.renames, *more)), tuple(doubts))


def _renames(own: Sequence[Shapes], there: Sequence[Shapes], doubts: list[str]) -> tuple[Rename, ...]:
    """Return the rows of all editions, and add what a person has to look at to `doubts`."""
    rows, lines = dict[Rename, None](), dict[str, None]()
    for mine, theirs in zip(own, there, strict=True):
        if theirs:
            found = rows_of(mine, theirs)
            rows |= dict.fromkeys(found.renames)
            lines |= dict.fromkeys(found.doubts)
    if not any(there):
        lines["there is no list in diffusers' names: whether others call the modules otherwise"] = None
    doubts += lines
    return tuple(rows)


def _signatures(
    own: Sequence[Shapes], there: Sequence[Shapes], rivals: dict[str, Shapes], doubts: list[str]
) -> tuple[tuple[Signature, ...], tuple[Signature, ...]]:
    """Return signatures of the own layout and of diffusers', if that is another."""
    others = [theirs for theirs in there if all(theirs.keys() != mine.keys() for mine in own)]
    found, fitting = signature(own, rivals | {f"diffusers {place}": keys for place, keys in enumerate(others)})
    doubts += [f"the signature fits {name} too: nothing tells the two apart" for name in fitting]
    if not others:
        return (found,), ()
    other, fitting = signature(others, rivals | {f"own {place}": keys for place, keys in enumerate(own)})
    doubts += [f"the signature of diffusers' layout fits {name} too" for name in fitting]
    return (found,), (other,)


def _editions(names: Sequence[str], own: Sequence[Shapes]) -> Iterator[Edition]:
    for name, keys in zip(names, own, strict=True):
        rest = {other: own_keys(other) for other in names if other != name}
        yield Edition(name, name.replace("_", " ").title(), signature([keys], rest, least=1)[0])


def _groups(found: Sequence[Leaf]) -> dict[str, str]:
    """Return the groups of blocks, by the names that users give them."""
    owners = {leaf.owner[: -len(".{i}.")] for leaf in found if leaf.owner.count("{") == 1 and leaf.count > 1}
    lists = [owner for owner in dict.fromkeys(leaf.owner[: -len(".{i}.")] for leaf in found) if owner in owners]
    if len(lists) == 1:
        return {"blocks": lists[0]}
    groups: dict[str, str] = {}
    for owner in lists:
        word = owner.rpartition(".")[2]
        for end in _BLOCK_WORDS:
            word = word.removesuffix(end)
        groups.setdefault("blocks" if word in ("layers", "transformer") else word.replace("_", "-"), owner)
    return groups


def text(proposal: Proposal) -> str:
    """Return the file of an architecture, with what a person has to look at in comments."""
    arch = proposal.arch
    edition = "Edition, " if arch.editions else ""
    rename = "Rename, " if arch.renames else ""
    parts = [
        f'"""{arch.title}: proposed by tests.keylist; say here what is peculiar to it."""',
        "from __future__ import annotations",
        f"from .base import DIFFUSION_PREFIXES, Arch, {edition}{rename}Signature",
    ]
    body, needs_helper = _rows_text(arch.renames)
    if needs_helper:
        parts[-1] += "\nfrom .rows import renamed_below"
    doubts = "\n".join(
        fill(line, 118, initial_indent="# - ", subsequent_indent="#   ", break_long_words=False, break_on_hyphens=False)
        for line in proposal.doubts
    )
    if doubts:
        parts.append(f"# To be looked at, and then to be removed:\n{doubts}")
    parts.append(_value(arch, body))
    return "\n\n".join(parts) + "\n"


def constant(arch_id: str) -> str:
    """Return the name of the value of an architecture."""
    return arch_id.upper().replace(".", "_").replace("-", "_")


def _value(arch: Arch, rows: list[str]) -> str:
    extra = [prefix for prefix in arch.prefixes if prefix not in DIFFUSION_PREFIXES]
    lines = [
        f"id={_quoted(arch.id)}",
        f"title={_quoted(arch.title)}",
        f"signatures={_tuple(_signature_text(one) for one in arch.signatures)}",
        *([f"others={_tuple(_signature_text(one) for one in arch.others)}"] if arch.others else []),
        f"prefixes={f'({_quoted(extra[0])}, *DIFFUSION_PREFIXES)' if extra else 'DIFFUSION_PREFIXES'}",
        *([f"blocks={_dict(arch.blocks)}"] if arch.blocks else []),
        *([f"renames={_tuple(rows)}"] if rows else []),
        *([f"editions={_tuple(map(_edition_text, arch.editions))}"] if arch.editions else []),
        f"text_encoders={_encoders_text(arch)}",
    ]
    return f"{constant(arch.id)} = Arch(\n    " + ",\n    ".join(lines) + ",\n)"


def _rows_text(renames: Sequence[Rename]) -> tuple[list[str], bool]:
    """Return the rows' text, those of one block together, and whether the helper of these is used."""
    groups: dict[tuple[str, str], list[Rename]] = {}
    texts: list[str] = []
    for row in renames:
        is_plain = isinstance(row.here, str) and isinstance(row.there, str) and row == Rename(row.here, row.there)
        starts = (_start(row.here), _start(row.there)) if is_plain else ("", "")
        if starts[0] and starts[1]:
            groups.setdefault(starts, []).append(row)
        else:
            texts.append(_row_text(row))
    for (here, there), rows in groups.items():
        pairs = [(str(row.here).removeprefix(here), str(row.there).removeprefix(there)) for row in rows]
        names = ", ".join(_quoted(a) if a == b else f"({_quoted(a)}, {_quoted(b)})" for a, b in pairs)
        texts.append(f"*renamed_below({_quoted(here)}, {_quoted(there)}, {names})")
    return texts, bool(groups)


def _start(name: str | tuple[str, ...]) -> str:
    assert isinstance(name, str)
    return name[: name.rfind("}.") + 2] if "}." in name else ""


def _row_text(row: Rename) -> str:
    here, there = (
        _quoted(side) if isinstance(side, str) else _tuple(map(_quoted, side)) for side in (row.here, row.there)
    )
    sizes = f", sizes={row.sizes}" if row.sizes else ""
    order = f", order={row.order}" if row.order else ""
    told = "".join(f", {name}=True" for name in ("transposed", "read_only") if getattr(row, name))
    return f"Rename({here}, {there}{sizes}{order}{told})"


def _signature_text(one: Signature) -> str:
    parts = [f"{name}={_tuple(map(_quoted, keys))}" for name, keys in (("has", one.has), ("lacks", one.lacks)) if keys]
    if one.shapes:
        parts.append(f"shapes={{{', '.join(f'{_quoted(key)}: {shape}' for key, shape in one.shapes.items())}}}")
    return f"Signature({', '.join(parts)})"


def _edition_text(edition: Edition) -> str:
    return f"Edition({_quoted(edition.id)}, {_quoted(edition.title)}, {_signature_text(edition.where)})"


def _encoders_text(arch: Arch) -> str:
    pairs = (f"{_quoted(one)}: {_tuple(map(_quoted, numbers))}" for one, numbers in arch.text_encoders.items())
    return f"{{{', '.join(pairs)}}}"


def _quoted(name: str) -> str:
    return json.dumps(name)


def _tuple(texts: Iterator[str] | Sequence[str] | map[str]) -> str:
    return f"({', '.join(texts)},)"


def _dict(values: object) -> str:
    return json.dumps(values)
