"""One model inside a checkpoint, with every name of its modules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from ..arch.base import NameStyle, Shape, Shapes
from ..errors import KeyCollisionError
from .detection import FoundArch, params_of
from .dialects import BASE
from .places import Place
from .renames import renames_of
from .targets import Role, Target, overlap, whole_shape


@dataclass(frozen=True, slots=True)
class WrittenName:
    """A module's name as trainers write it, dialect prefix apart, and the target that it addresses."""

    module: str
    param: str
    target: Target


class Component:
    """One model inside a checkpoint: a diffusion model or a text encoder, with every name of its modules."""

    def __init__(
        self,
        found: FoundArch,
        shapes: Shapes,
        roles: tuple[str, ...],
        more: Iterable[tuple[str, tuple[Place, ...]]] = (),
    ) -> None:
        """Take what was found, and its shapes; `more` has names beside those of the architecture's rows."""
        self.found = found
        self.arch = found.arch
        self.roles = roles
        # a language model that no diffusion model has is the base of its LoRAs, by whatever name
        self.role: Role = "diffusion" if roles[0] == BASE else found.arch.role
        self.shapes = shapes
        self._params = params_of(found.prefix, shapes)
        self._dotted: dict[str, tuple[Place, ...]] = {}
        self._flat: dict[str, tuple[Place, ...]] = {}
        self._writable: dict[str, list[tuple[str, Place]]] = {}
        # module of the architecture's own layout -> (place of a module of this file in it, that module)
        self._held: dict[str, list[tuple[Place, str]]] = {}
        self._hold_modules()
        self._add_names()
        for name, places in more:
            self._add(name, places)

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

    def weights(self) -> dict[str, Shape]:
        """Return {module: shape of its weight} of the modules that have one, by the names of the file."""
        names = ((module, params["weight"]) for module, params in self._params.items() if "weight" in params)
        return {module: self.shapes[key] for module, key in names if key != self.found.prefix + module}

    def own_modules(self) -> dict[str, str]:
        """Return {key: the module of the architecture's own layout that it belongs to}."""
        found: dict[str, str] = {}
        for own, held in self._held.items():
            for _, module in held:
                for key in self._params[module].values():
                    if len(own) > len(found.get(key, "")):  # a bare parameter is a module of its own too
                        found[key] = own
        return found

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
            for name, run, read_only in engine.names(own, whole_shape(place, self._weight_shape(self._params[module]))):
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
            if known != places and not self.arch.signatures:
                table[spelled] = ()  # of a model that nobody described, a name that may mean two things means none
            elif known != places:
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
            found += overlap(place, held, key, self.shapes[key], self.role) if key else ()
        if len(found) == 1 and found[0].rows is None:
            return tuple(found)
        found.sort(key=lambda target: target.rows or (0, 0))
        covered = sum(target.shape[0] for target in found if target.rows)
        return tuple(found) if found and found[0].rows and covered == found[0].rows[1] else ()
