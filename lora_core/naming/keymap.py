"""From a LoRA's module name to its targets in a checkpoint.

All names that any trainer may use are generated from the checkpoint's own keys and looked up exactly; a underscored
name is never taken apart. A name that would address two places is an error, not a silent last one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property

from ..arch import ARCHES
from ..arch.base import Arch, Shapes
from ..errors import KeyCollisionError
from .blocks import ModelBlocks, block_in, block_of
from .component import Component
from .detection import FoundArch, unknown_arch
from .dialects import BASE, DIFFUSION, addressed_roles, dialects_of
from .fusions import common_fusions
from .targets import Target
from .wrappers import underscored, without_wrappers

AS_FUSED = "as query, key and value of equal parts"  # how a name was read: a guess, which only a fitting shape confirms

# Which text encoders go with which model, of all that are known
_FAMILIES = [one.text_encoders for family in ARCHES for one in (family, *family.editions) if one.text_encoders]


class KeyMap:
    """Every target of a checkpoint, found by any trainer's name."""

    def __init__(self, *files: tuple[Shapes, Sequence[FoundArch]], more: Mapping[str, Target] | None = None) -> None:
        """Take the shapes of each file (or loaded model), and what was found in it.

        `more` has names that somebody else vouches for (the host of a loaded model), used where none of ours fits.
        """
        self._more = more or {}
        models = [item for _, found in files for item in found]
        self.components = [
            Component(item, shapes, _roles(item.arch, models)) for shapes, found in files for item in found
        ]
        self._given = files
        self._files = [number for number, (_, found) in enumerate(files) for _ in found]  # of the components

    @property
    def roles(self) -> frozenset[str]:
        return frozenset(role for component in self.components for role in component.roles)

    @cached_property
    def blocks(self) -> ModelBlocks:
        """The blocks that can be given a strength of their own."""
        return ModelBlocks.of(self.components)

    def find(self, name: str, param: str = "weight") -> tuple[Target, ...]:
        """Return the targets of a LoRA's module name, one after the other; several where the checkpoint splits it.

        Raises KeyCollisionError for a name that addresses two places.
        """
        return self.look_up(name, param)[0]

    def find_first(self, names: Sequence[str], param: str = "weight") -> tuple[Target, ...]:
        """Return the targets of the first of a module's names that is known."""
        return self.look_up_first(names, param)[0]

    def look_up_first(self, names: Sequence[str], param: str = "weight") -> tuple[tuple[Target, ...], str]:
        """Return what `look_up` has of the first of a module's names that is known."""
        found = (self.look_up(name, param) for name in names)
        return next((one for one in found if one[0]), ((), ""))

    def look_up(self, name: str, param: str = "weight") -> tuple[tuple[Target, ...], str]:
        """Return the targets as `find`, and what had to be changed in the name to find them, as text; mostly nothing.

        A name that nothing has is read without wrappers, then with underscores for dots, then in a model that nobody
        described by the common fusions, then as a key of the files.
        """
        found = self._places(name, param)
        if len(found) > 1:
            keys = ", ".join(sorted({target.key for targets in found for target in targets}))
            raise KeyCollisionError(f"{name}: addresses several weights of this checkpoint: {keys}.")
        if found:
            return _only(found), ""
        shorter = _unwrapped(name)
        if shorter != name and (targets := _only(self._places(shorter, param))):
            return targets, "without wrappers"
        if targets := _only(self._places(shorter, param, flat=True)):
            return targets, "with underscores for dots"
        for flat in (False, True):
            if targets := _only(self._places(shorter, param, self._fusing, flat=flat)):
                return targets, AS_FUSED
        return self._find_beside(name, param), ""

    def _places(
        self, name: str, param: str, components: Sequence[Component | None] | None = None, *, flat: bool = False
    ) -> set[tuple[Target, ...]]:
        """Return the targets of a name in each place that it may mean."""
        found: set[tuple[Target, ...]] = set()
        for dialect in dialects_of(name):
            rest = name[len(dialect.prefix) :]
            spelled = underscored(rest) if flat else rest
            for component, file in zip(components or self.components, self._files, strict=True):
                roles = frozenset(component.roles).intersection(dialect.roles) if component else ()
                targets = component.find(spelled, flat or dialect.flat, param) if component and roles else ()
                if targets:
                    targets = _as_model(targets) if BASE in roles else targets
                    found.add(tuple(replace(target, file=file) for target in targets) if file else targets)
        return found

    @cached_property
    def _fusing(self) -> list[Component | None]:
        """The models that nobody described, with the names that common fusions give them; None for the others."""
        return [_fusing(component) for component in self.components]

    @cached_property
    def _others(self) -> list[Component | None]:
        return [_beside(shapes, found) for shapes, found in self._given]

    def _find_beside(self, name: str, param: str) -> tuple[Target, ...]:
        """Return the target of a name that a file's own key has, and that belongs to none of its known models."""
        names = {_unwrapped(name): False}
        for dialect in dialects_of(name):
            names.setdefault(name[len(dialect.prefix) :], dialect.flat)
        targets = {
            tuple(replace(target, file=file) for target in found)
            for file, component in enumerate(self._others)
            for spelled, flat in names.items()
            if component and (found := component.find(spelled, flat, param))
        }
        return _only(targets)

    def find_more(self, name: str, param: str = "weight") -> tuple[Target, ...]:
        """Return the target of a name that only the host knows, or nothing."""
        target = self._more.get(name) if param == "weight" else None
        return (target,) if target else ()

    def block(self, key: str) -> str:
        """Return the block that a key of the checkpoint belongs to."""
        return self._blocks.get(key) or block_of(key.rpartition(".")[0] or key)

    @cached_property
    def _blocks(self) -> dict[str, str]:
        blocks: dict[str, str] = {}
        for component in self.components:
            start = len(component.found.prefix)
            blocks |= {key: block_in(component, key[start:]) for key in sorted(component.keys())}
        return blocks

    def is_elsewhere(self, name: str) -> bool:
        """Tell whether `name` belongs, by its prefix, to a model that this checkpoint does not hold."""
        roles = addressed_roles(name)
        return bool(roles) and not roles & self.roles


def _only(places: set[tuple[Target, ...]]) -> tuple[Target, ...]:
    """Return the targets of the only place; of several none, which would be a guess."""
    return next(iter(places)) if len(places) == 1 else ()


def _fusing(component: Component) -> Component | None:
    if component.arch.signatures:
        return None
    more = dict.fromkeys(common_fusions(component.weights()))
    return Component(component.found, component.shapes, component.roles, more) if more else None


def _beside(shapes: Shapes, found: Sequence[FoundArch]) -> Component | None:
    """Return what of a file belongs to none of its models, by its own names; None if all does."""
    prefixes = tuple(item.prefix for item in found)
    rest = {key: shape for key, shape in shapes.items() if not key.startswith(prefixes)}
    names = tuple(row for item in found for row in item.arch.beside)
    return Component(unknown_arch("", "", names), rest, (DIFFUSION,)) if rest and found else None


def _roles(arch: Arch, models: Sequence[FoundArch]) -> tuple[str, ...]:
    """Return what dialects may call `arch`, its usual number first: it depends on the models beside it."""
    if arch.role == "diffusion":
        return (DIFFUSION,)
    families = [item.text_encoders for item in models if item.arch.role == "diffusion"] or _FAMILIES
    numbers = (number for encoders in families for number in encoders.get(arch.id, ()))
    return (*dict.fromkeys(numbers), *((BASE,) if len(models) == 1 else ()), arch.id)


def _unwrapped(name: str) -> str:
    """Return a module's name without wrappers, before and behind its dialect's prefix."""
    name = without_wrappers(name)
    dialect = dialects_of(name)[0]
    return dialect.prefix + without_wrappers(name[len(dialect.prefix) :], flat=dialect.flat)


def _as_model(targets: tuple[Target, ...]) -> tuple[Target, ...]:
    """Return targets in a text encoder or language model that is itself the model that the adapter is for."""
    return tuple(replace(target, role="diffusion") for target in targets)
