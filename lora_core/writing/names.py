"""How the dialects that we write name modules, and how they spell the parts of adapters.

Reading knows many more spellings (`dialects`, `parts`); every name that is written here is read back from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from ..adapters import KINDS
from ..arch.base import Arch, NameStyle
from ..naming.component import Component, WrittenName
from ..naming.dialects import BASE, DIALECTS, DIFFUSION, WRITINGS, Dialect, Writing

_ALONE = next(row.prefix for row in DIALECTS if BASE in row.roles and row.prefix)


def written(
    component: Component, writing: Writing, diffusers: frozenset[str] = frozenset()
) -> Iterator[tuple[str, WrittenName]]:
    """Yield (name with its prefix, module and target): every parameter of a model once, whole or in pieces.

    `diffusers` are its modules' names there, for the architectures whose rename rows give several.
    """
    names = _names(component, writing, diffusers)
    if not writing.flat:
        yield from _named(component, writing, names)
        return
    flat = [name for name in names if _has_flat_name(component, name)]
    yield from _named(component, writing, flat)
    done = {name.target.key for name in flat}
    yield from (item for item in written(component, WRITINGS["comfy"]) if item[1].target.key not in done)


def suffix(writing: Writing, kind: str, field: str, param: str = "weight", module: str = "") -> str:
    """Return how a part of an adapter on a parameter of a module is spelled; `kind` is one of KINDS."""
    found = KINDS[kind].suffix(writing.family, field, param, module)
    return found or f".{param}{KINDS[kind].suffix(writing.family, field, 'weight', module)}"


def lora_suffixes(writing: Writing, module: str) -> tuple[str, str]:
    """Return how up and down of a module's LoRA are spelled."""
    return suffix(writing, "lora", "up", module=module), suffix(writing, "lora", "down", module=module)


def prefix_of(component: Component, writing: Writing) -> str:
    """Return what stands before the names of a model's modules."""
    rows = [row for row in DIALECTS if row.id == writing.id]
    if component.arch.role == "diffusion":
        wanted = f"{component.arch.diffusers_name}." if writing.names_model else ""
        return next(row.prefix for row in rows if DIFFUSION in row.roles and row.prefix.startswith(wanted))
    own = (row.prefix for row in _encoder_rows(component, writing, rows))
    return next(own, _ALONE)  # no trainer counts it, and ComfyUI does not name it: it is a language model of its own


def _encoder_rows(component: Component, writing: Writing, rows: Iterable[Dialect]) -> list[Dialect]:
    roles = {
        "name": component.roles[-1:],
        "usual number": component.roles[:1],
        "lowest number": component.roles,
        "nothing": (DIFFUSION,),
    }[writing.encoders]
    return [row for row in rows if not frozenset(roles).isdisjoint(row.roles)]


def _style(arch: Arch, writing: Writing) -> NameStyle:
    """Return which names a model's modules have: a text encoder has one layout in all dialects."""
    return writing.names if writing.names and arch.role == "diffusion" else arch.kohya_names


def _names(component: Component, writing: Writing, diffusers: frozenset[str]) -> Iterator[WrittenName]:
    if not component.arch.host_splits or writing.names == "there":
        yield from _once(component.written_names(_style(component.arch, writing)), diffusers)
        return
    whole = {name.target.key: name for name in component.written_names("here")}
    for name in _once(component.written_names("there"), frozenset()):
        module = name.target.key[len(component.found.prefix) :]
        if name.target.start is not None and module.startswith(component.arch.host_splits):
            yield name
        elif name.target.key in whole:  # once, also where others have it in pieces
            yield whole.pop(name.target.key)


def _once(names: Iterable[WrittenName], chosen: frozenset[str]) -> Iterator[WrittenName]:
    """Yield names that do not overlap: of several layouts the chosen one, else the first."""
    for _, group in groupby(names, key=lambda name: name.target.key):
        several = list(group)
        several = [name for name in several if name.module in chosen] or several
        taken: list[range] = []
        for name in several:
            rows = [range(start, start + length) for start, length in name.target.runs]
            if all(one.stop <= other.start or other.stop <= one.start for one in rows for other in taken):
                taken += rows
                yield name


def _named(component: Component, writing: Writing, names: Iterable[WrittenName]) -> Iterator[tuple[str, WrittenName]]:
    prefix = prefix_of(component, writing)
    for name in names:
        yield prefix + (name.module.replace(".", "_") if writing.flat else name.module), name


def _has_flat_name(component: Component, name: WrittenName) -> bool:
    """Tell whether trainers that write flat names, and ComfyUI, have one for this module."""
    if BASE in component.roles[:1] or not name.module.startswith(component.arch.kohya_modules):
        return False
    head, _, last = name.target.key.rpartition(".")
    weight = component.shapes.get(f"{head}.{_WEIGHTS[last]}") if last in _WEIGHTS else None
    if weight is None:
        return False  # a bare parameter
    return component.arch.role == "diffusion" or len(weight) > 1  # ComfyUI has no flat name of an encoder's norms


# How keys end that a layer has beside each other -> its weight
_WEIGHTS = {
    **{"weight": "weight", "bias": "weight", "scale": "scale"},
    **{"in_proj_weight": "in_proj_weight", "in_proj_bias": "in_proj_weight"},
}
