"""From a LoRA's module name to its target in a checkpoint.

All names that any trainer may use are generated from the checkpoint's own keys and looked up exactly; a flattened
name is never taken apart. A name that would address two targets is an error, not a silent last one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from .arch import ARCHES, Found
from .arch.base import Arch, NameStyle, Shape, Shapes
from .dialects import DIFFUSION, Dialect, dialects_of
from .errors import KeyCollisionError
from .lazytorch import torch
from .renames import Place, renames_of

# Key endings that are another spelling of a module's parameter
_PARAM_SPELLINGS = {"scale": "weight"}  # BFL's norms
_FUSED_PARAMS = {"in_proj_weight": ("in_proj", "weight"), "in_proj_bias": ("in_proj", "bias")}  # torch's attention


@dataclass(frozen=True, slots=True)
class Target:
    """Where an adapter goes: a tensor of the checkpoint, or a slice of it, and how it lies there."""

    key: str
    shape: Shape  # of what the adapter changes, as the adapter sees it
    role: Literal["diffusion", "text_encoder"] = "diffusion"  # which of the two strengths counts
    start: int | None = None  # first row of the slice; None is the whole tensor
    swap_halves: bool = False
    transposed: bool = False

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
        self._shapes = shapes
        self._params = _params_of(found.prefix, shapes)
        self._dotted: dict[str, Place] = {}
        self._flat: dict[str, Place] = {}
        self._writable: dict[str, list[tuple[str, Place]]] = {}
        engine = renames_of(self.arch)
        for module, params in self._params.items():
            for name, place, read_only in engine.names(module, self._weight_shape(params)):
                _add(self._dotted, name, place)
                _add(self._flat, name.replace(".", "_"), place)
                if not read_only:
                    self._writable.setdefault(module, []).append((name, place))

    def find(self, name: str, flat: bool, param: str) -> Target | None:
        """Return the target of `name`, dialect prefix removed; None if there is no such module or parameter."""
        place = (self._flat if flat else self._dotted).get(name)
        key = place and self._params[place.module].get(param)
        return self._target(place, key) if place and key else None

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
                        target = self._target(place, key)
                        if target:
                            yield WrittenName(name, param, target)

    def _weight_shape(self, params: Mapping[str, str]) -> Shape:
        return self._shapes[params["weight"]] if "weight" in params else ()

    def _target(self, place: Place, key: str) -> Target | None:
        shape = self._shapes[key]
        start = None
        if place.of > 1:
            if not shape or shape[0] % place.of:
                return None
            unit = shape[0] // place.of
            start, shape = place.begin * unit, ((place.end - place.begin) * unit, *shape[1:])
        if place.transposed:
            if len(shape) != 2:
                return None
            shape = shape[::-1]
        return Target(key, shape, self.arch.role, start, place.swap_halves, place.transposed)


class KeyMap:
    """Every target of a checkpoint, found by any trainer's name."""

    def __init__(self, *files: tuple[Shapes, Sequence[Found]]) -> None:
        """Take the shapes of each file (or loaded model), and what was found in it."""
        diffusion = [item for _, found in files for item in found if item.arch.role == "diffusion"]
        self.components = [
            Component(item, shapes, _roles(item.arch, diffusion)) for shapes, found in files for item in found
        ]

    @property
    def roles(self) -> frozenset[str]:
        return frozenset(role for component in self.components for role in component.roles)

    def find(self, name: str, param: str = "weight") -> Target | None:
        """Return the target of a LoRA's module name, or None; raises KeyCollisionError for two different ones."""
        targets = {
            target
            for dialect in dialects_of(name)
            for component in self.components
            if not frozenset(component.roles).isdisjoint(dialect.roles)
            and (target := component.find(name[len(dialect.prefix) :], dialect.flat, param))
        }
        if len(targets) > 1:
            keys = ", ".join(sorted(target.key for target in targets))
            raise KeyCollisionError(f"{name}: addresses several weights of this checkpoint: {keys}.")
        return targets.pop() if targets else None

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


def _roles(arch: Arch, diffusion: Sequence[Found]) -> tuple[str, ...]:
    """Return what dialects may call `arch`, its usual number first: it depends on the model that it belongs to."""
    if arch.role == "diffusion":
        return (DIFFUSION,)
    families = [item.arch for item in diffusion] or [other for other in ARCHES if arch.id in other.text_encoders]
    numbers = (number for family in families for number in family.text_encoders.get(arch.id, ()))
    return (*dict.fromkeys(numbers), arch.id)


def _params_of(prefix: str, shapes: Shapes) -> dict[str, dict[str, str]]:
    """Return {module: {parameter: key}} of the keys below `prefix`; a parameter is a module of its own too."""
    modules: dict[str, dict[str, str]] = {}
    for key in shapes:
        if not key.startswith(prefix):
            continue
        local = key[len(prefix) :]
        head, _, last = local.rpartition(".")
        joined, param = _FUSED_PARAMS.get(last, ("", _PARAM_SPELLINGS.get(last, last)))
        module = ".".join(name for name in (head, joined) if name)
        if module:
            modules.setdefault(module, {}).setdefault(param, key)
        if param != "weight":
            modules.setdefault(local, {}).setdefault("weight", key)
    return modules


def _add(table: dict[str, Place], name: str, place: Place) -> None:
    if table.setdefault(name, place) != place:
        raise KeyCollisionError(f"{name}: addresses both {table[name].module} and {place.module} of this checkpoint.")


def _swapped(part: torch.Tensor) -> torch.Tensor:
    half = part.shape[0] // 2
    return torch.cat((part[half:], part[:half]))
