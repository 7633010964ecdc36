"""From a LoRA's module name to its targets in a checkpoint.

All names that any trainer may use are generated from the checkpoint's own keys and looked up exactly; a flattened
name is never taken apart. A name that would address two places is an error, not a silent last one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from .arch import ARCHES
from .arch.base import Arch, NameStyle, Shape, Shapes
from .detection import Found
from .dialects import BASE, DIFFUSION, Dialect, dialects_of
from .errors import KeyCollisionError
from .lazytorch import torch
from .params import params_of
from .renames import Place, renames_of

# Which text encoders go with which model, of all that are known
_FAMILIES = [one.text_encoders for family in ARCHES for one in (family, *family.editions) if one.text_encoders]


@dataclass(frozen=True, slots=True)
class Target:
    """Where an adapter goes: a tensor of the checkpoint, or a slice of it, and how it lies there."""

    key: str
    shape: Shape  # of what the adapter changes, as the adapter sees it
    role: Literal["diffusion", "text_encoder"] = "diffusion"  # which of the two strengths counts
    start: int | None = None  # first row of the slice; None is the whole tensor
    swap_halves: bool = False
    transposed: bool = False
    rows: tuple[int, int] | None = None  # (first, all) rows of an adapter that spans several targets; None: all here

    @property
    def adapter_shape(self) -> Shape:
        """The shape of the whole change of the adapter that this target, or this target among others, belongs to."""
        return self.shape if self.rows is None else (self.rows[1], *self.shape[1:])

    def take(self, weight: torch.Tensor) -> torch.Tensor:
        """Return this target's part of `weight` as the adapter sees it: a view, or a copy where halves are swapped."""
        view = self._view(weight)
        return _swapped(view) if self.swap_halves else view

    def put(self, weight: torch.Tensor, part: torch.Tensor) -> None:
        """Write `part`, as `take` returned it, back into `weight` in place."""
        view = self._view(weight)
        if part.data_ptr() != view.data_ptr():  # else `part` is the view itself, changed in place
            view.copy_(_swapped(part) if self.swap_halves else part)

    def _view(self, weight: torch.Tensor) -> torch.Tensor:
        view = weight if self.start is None else weight.narrow(0, self.start, self.shape[0])
        return view.t() if self.transposed else view


@dataclass(frozen=True, slots=True)
class WrittenName:
    """A module's name as trainers write it, dialect prefix apart, and the target that it addresses."""

    module: str
    param: str
    target: Target


class Component:
    """One model inside a checkpoint: a diffusion model or a text encoder, with every name of its modules."""

    def __init__(self, found: Found, shapes: Shapes, roles: tuple[str, ...]) -> None:
        self.found = found
        self.arch = found.arch
        self.roles = roles
        # a language model that no diffusion model has is the base of its LoRAs, by whatever name
        self.role: Literal["diffusion", "text_encoder"] = "diffusion" if roles[0] == BASE else found.arch.role
        self.shapes = shapes
        self._params = params_of(found.prefix, shapes)
        self._dotted: dict[str, tuple[Place, ...]] = {}
        self._flat: dict[str, tuple[Place, ...]] = {}
        self._writable: dict[str, list[tuple[str, Place]]] = {}
        # module of the architecture's own layout -> (place of a module of this file in it, that module)
        self._held: dict[str, list[tuple[Place, str]]] = {}
        self._hold_modules()
        self._add_names()

    def find(self, name: str, flat: bool, param: str) -> tuple[Target, ...]:
        """Return the targets of `name`, dialect prefix removed; none if there is no such module or parameter.

        What is a parameter of a module in one layout may be a bare parameter of another name in the other.
        """
        found = self._find(name, flat, param)
        if not found and param != "weight":
            return self._find(f"{name}{'_' if flat else '.'}{param}", flat, "weight")
        if not found and not flat:
            module, _, last = name.rpartition(".")
            return self._find(module, flat, last)
        return found

    def _find(self, name: str, flat: bool, param: str) -> tuple[Target, ...]:
        places = (self._flat if flat else self._dotted).get(name, ())
        pieces = [self._on(place, param) for place in places]
        if not pieces or not all(pieces):
            return ()
        if len(pieces) == 1:
            return pieces[0]
        heights = [targets[0].adapter_shape[0] for targets in pieces]
        total, joined = sum(heights), []
        for number, targets in enumerate(pieces):
            for target in targets:
                first = sum(heights[:number]) + (target.rows[0] if target.rows else 0)
                joined.append(replace(target, rows=(first, total)))
        return tuple(joined)

    def keys(self) -> set[str]:
        return {key for params in self._params.values() for key in params.values()}

    def partners(self, other: Component) -> dict[str, str]:
        """Return {key here: key there} of the parameters that another file's component of the same layout has too."""
        return {
            key: other._params[module][param]
            for module, params in self._params.items()
            for param, key in params.items()
            if param in other._params.get(module, ())
        }

    def written_names(self, style: NameStyle) -> Iterator[WrittenName]:
        """Yield a name for every key: the checkpoint's own module, or what the rename rows call it, piece by piece."""
        seen: set[str] = set()
        for bare in (False, True):  # a parameter is a module of its own only where no module has it
            for module, names in self._writable.items():
                params = self._params[module]
                if "weight" not in params or bare != (params["weight"] == self.found.prefix + module):
                    continue
                others = [item for item in names if item[0] != module]
                for param, key in params.items():
                    if key in seen:
                        continue
                    seen.add(key)
                    for name, place in others if style == "there" and others else names[:1]:
                        for target in self._on(place, param):
                            yield WrittenName(name, param, target)

    def _hold_modules(self) -> None:
        for module in self._params:
            place = self._origin(module) if self.found.renamed else Place(module)
            self._held.setdefault(place.module, []).append((place, module))

    def _origin(self, module: str) -> Place:
        engine, params = renames_of(self.arch), self._params[module]
        place = engine.origin(module, self._weight_shape(params))
        head, _, last = module.rpartition(".")
        if place.module == module and head in self._params and params.get("weight") == self.found.prefix + module:
            place = self._origin(head)  # a parameter by its full name moves with its module
            place = place._replace(module=f"{place.module}.{last}")
        return place

    def _add_names(self) -> None:
        engine = renames_of(self.arch)
        for own, held in self._held.items():
            place, module = held[0]
            for name, run, read_only in engine.names(own, _whole(place, self._weight_shape(self._params[module]))):
                self._add(name, (run,))
                if not read_only and not self.found.renamed:
                    self._writable.setdefault(module, []).append((name, run))
        if self.found.renamed:  # such a file's own names are the ones to write
            for place, module in (pair for held in self._held.values() for pair in held):
                self._add(module, (place,))
                self._writable[module] = [(module, place)]
        for name in tuple(self._dotted):
            for fused, pieces in engine.fused(name, self._dotted):
                self._add(fused, tuple(place for piece in pieces for place in self._dotted[piece]))

    def _add(self, name: str, places: tuple[Place, ...]) -> None:
        for table, spelled in ((self._dotted, name), (self._flat, name.replace(".", "_"))):
            known = table.setdefault(spelled, places)
            if known != places:
                raise KeyCollisionError(
                    f"{spelled}: addresses both {known[0].module} and {places[0].module} of this checkpoint."
                )

    def _weight_shape(self, params: Mapping[str, str]) -> Shape:
        return self.shapes[params["weight"]] if "weight" in params else ()

    def _on(self, place: Place, param: str) -> tuple[Target, ...]:
        """Return what of this file lies at `place`; nothing if a part of it is not there."""
        found: list[Target] = []
        for held, module in self._held.get(place.module, ()):
            key = self._params[module].get(param)
            target = self._overlap(place, held, key) if key else None
            if target:
                found.append(target)
        if len(found) == 1 and found[0].rows is None:
            return tuple(found)
        found.sort(key=lambda target: target.rows or (0, 0))
        covered = sum(target.shape[0] for target in found if target.rows)
        return tuple(found) if found and found[0].rows and covered == found[0].rows[1] else ()

    def _overlap(self, place: Place, held: Place, key: str) -> Target | None:
        """Return the target of the rows that a name's `place` and the tensor `key`, at `held`, have in common."""
        shape = self.shapes[key]
        swap, transposed = place.swap_halves != held.swap_halves, place.transposed != held.transposed
        if place[1:4] == held[1:4]:
            if transposed and len(shape) != 2:
                return None
            return Target(key, shape[::-1] if transposed else shape, self.role, None, swap, transposed)
        wanted, there = _run(place, held, shape), _run(held, held, shape)
        if wanted is None or there is None:
            return None
        begin, end = max(wanted[0], there[0]), min(wanted[1], there[1])
        is_part, is_slice = (begin, end) != wanted, (begin, end) != there
        if begin >= end or transposed or (swap and is_part) or (held.swap_halves and is_slice):
            return None
        rows = (begin - wanted[0], wanted[1] - wanted[0]) if is_part else None
        start = begin - there[0] if is_slice else None
        return Target(key, (end - begin, *shape[1:]), self.role, start, swap, False, rows)


class KeyMap:
    """Every target of a checkpoint, found by any trainer's name."""

    def __init__(self, *files: tuple[Shapes, Sequence[Found]], more: Mapping[str, Target] | None = None) -> None:
        """Take the shapes of each file (or loaded model), and what was found in it.

        `more` has names that somebody else vouches for (the host of a loaded model), used where none of ours fits.
        """
        self._more = more or {}
        models = [item for _, found in files for item in found]
        self.components = [
            Component(item, shapes, _roles(item.arch, models)) for shapes, found in files for item in found
        ]

    @property
    def roles(self) -> frozenset[str]:
        return frozenset(role for component in self.components for role in component.roles)

    def find(self, name: str, param: str = "weight") -> tuple[Target, ...]:
        """Return the targets of a LoRA's module name, one after the other; several where the checkpoint splits it.

        Raises KeyCollisionError for a name that addresses two places.
        """
        found: set[tuple[Target, ...]] = set()
        for dialect in dialects_of(name):
            for component in self.components:
                roles = frozenset(component.roles).intersection(dialect.roles)
                targets = component.find(name[len(dialect.prefix) :], dialect.flat, param) if roles else ()
                if targets:
                    found.add(_as_model(targets) if BASE in roles else targets)
        if len(found) > 1:
            keys = ", ".join(sorted({target.key for targets in found for target in targets}))
            raise KeyCollisionError(f"{name}: addresses several weights of this checkpoint: {keys}.")
        return found.pop() if found else ()

    def find_more(self, name: str, param: str = "weight") -> tuple[Target, ...]:
        """Return the target of a name that only the host knows, or nothing."""
        target = self._more.get(name) if param == "weight" else None
        return (target,) if target else ()

    def is_elsewhere(self, name: str) -> bool:
        """Tell whether `name` belongs, by its prefix, to a model that this checkpoint does not hold."""
        roles = addressed_roles(name)
        return bool(roles) and not roles & self.roles


def addressed_roles(name: str) -> frozenset[str]:
    """Return the roles that a module name's prefix addresses; empty for a bare name."""
    return frozenset(role for dialect in dialects_of(name)[:1] if dialect.prefix for role in dialect.roles)


def split_dialect(name: str) -> tuple[Dialect, str]:
    """Return the dialect with the longest prefix of `name`, and the rest."""
    dialect = dialects_of(name)[0]
    return dialect, name[len(dialect.prefix) :]


def _roles(arch: Arch, models: Sequence[Found]) -> tuple[str, ...]:
    """Return what dialects may call `arch`, its usual number first: it depends on the models beside it."""
    if arch.role == "diffusion":
        return (DIFFUSION,)
    families = [item.text_encoders for item in models if item.arch.role == "diffusion"] or _FAMILIES
    numbers = (number for encoders in families for number in encoders.get(arch.id, ()))
    return (*dict.fromkeys(numbers), *((BASE,) if len(models) == 1 else ()), arch.id)


def _as_model(targets: tuple[Target, ...]) -> tuple[Target, ...]:
    """Return targets in a text encoder or language model that is itself the model that the adapter is for."""
    return tuple(replace(target, role="diffusion") for target in targets)


def _run(place: Place, held: Place, shape: Shape) -> tuple[int, int] | None:
    """Return the rows of `place` in the whole module, of which a tensor of `shape` is the part `held`."""
    rows = _rows(held, shape)
    if rows is None or rows * place.begin % place.of or rows * place.end % place.of:
        return None
    return rows * place.begin // place.of, rows * place.end // place.of


def _rows(held: Place, shape: Shape) -> int | None:
    """Return how many rows the whole module has of which a tensor of `shape` is the part `held`."""
    if not shape or shape[0] * held.of % (held.end - held.begin):
        return None
    return shape[0] * held.of // (held.end - held.begin)


def _whole(held: Place, shape: Shape) -> Shape:
    """Return the shape of the module of which a tensor of `shape` is the part `held`."""
    if held.transposed:
        shape = shape[::-1]
    rows = _rows(held, shape)
    return shape if rows is None else (rows, *shape[1:])


def _swapped(part: torch.Tensor) -> torch.Tensor:
    half = part.shape[0] // 2
    return torch.cat((part[half:], part[:half]))
