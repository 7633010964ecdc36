"""Where the modules of one LoRA file go in a model, its names taken together."""

from __future__ import annotations

from ..naming.dialects import split_dialect
from ..naming.keymap import AS_FUSED, KeyMap
from ..naming.targets import Target
from ..naming.wrappers import common_prefixes
from ..parallel.asking import each
from .adapterspec import AdapterSpec
from .lorafile import LoraFile


class PlaceFinder:
    """Finds the targets of a file's adapters, and remembers how their names had to be read."""

    def __init__(self, lora: LoraFile, keymap: KeyMap) -> None:
        self.lora = lora
        self.keymap = keymap
        self._read_as: dict[str, dict[str, None]] = {}  # how -> modules
        self.host_names: list[str] = []  # modules that only the host's own names have a place for
        asked = {(spec.module, spec.param): spec for spec in lora.adapters}
        self._found = {one: self._look_up(spec) for one, spec in each(asked.items())}
        self._prefix = self._common_prefix()

    @property
    def read_as(self) -> dict[str, list[str]]:
        """How names had to be read -> the modules; those whose names are read as they are: in none."""
        return {how: list(modules) for how, modules in self._read_as.items()}

    def find(self, spec: AdapterSpec) -> tuple[Target, ...]:
        """Return the targets of an adapter, none if it has no place."""
        targets, how = self._found[spec.module, spec.param]
        if targets:
            self._keep(how, spec.module)
            return targets
        targets = self.keymap.find_more(spec.module, spec.param)
        if targets:
            self.host_names.append(spec.module)
        elif self._prefix:
            targets = self._without_prefix(spec, self._prefix)
            self._keep(f"without {self._prefix!r}" if targets else "", spec.module)
        return targets

    def _look_up(self, spec: AdapterSpec) -> tuple[tuple[Target, ...], str]:
        targets, how = self.keymap.look_up_first(spec.names, spec.param)
        is_guess = how == AS_FUSED and not spec.fits(targets[0].adapter_shape)
        return ((), "") if is_guess else (targets, how)

    def _keep(self, how: str, module: str) -> None:
        if how:
            self._read_as.setdefault(how, {})[module] = None

    def _without_prefix(self, spec: AdapterSpec, prefix: str) -> tuple[Target, ...]:
        dialect, rest = split_dialect(spec.module)
        return self.keymap.find(dialect.prefix + rest[len(prefix) :], spec.param) if rest.startswith(prefix) else ()

    def _common_prefix(self) -> str:
        """Return what all names that fit nowhere begin with after their dialect's prefix, if without it all fit."""
        lost = [
            spec
            for spec in self.lora.adapters
            if not spec.optional
            and not self.keymap.is_elsewhere(spec.module)
            and not self._found[spec.module, spec.param][0]
            and not self.keymap.find_more(spec.module, spec.param)
        ]
        names = [split_dialect(spec.module) for spec in lost]
        if len({dialect.prefix for dialect, _ in names}) != 1:
            return ""
        return next((one for one in common_prefixes([rest for _, rest in names]) if self._fits(lost, one)), "")

    def _fits(self, specs: list[AdapterSpec], prefix: str) -> bool:
        for spec in specs:
            targets = self._without_prefix(spec, prefix)
            if not targets or not spec.fits(targets[0].adapter_shape):
                return False
        return True
