"""LoRA files: opened lazily, they know their adapters, dialect, ranks, scales and metadata without tensor data."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from functools import cached_property
from pathlib import Path

from ..adapters import Adapter, check_numbers, tensors_of
from ..adapters.suffixes import SplitName, is_applied, split_names
from ..arch.base import Arch
from ..errors import WrongFileKindError
from ..files.adapterfolder import adapter_file
from ..files.memory import IN_MEMORY, MemoryTensors
from ..files.tensorheader import TensorInfo
from ..files.tensors import Tensors
from ..lazytorch import torch
from ..naming.detection import detect
from ..naming.dialects import DIFFUSION, addressed_roles, split_dialect
from ..naming.guessing import guess_arches
from ..options import Semantics
from ..parallel.asking import ask, each
from ..parallel.collector import collections_paused
from ..text import counted, some_names
from .adapterspec import AdapterSpec
from .containers import open_lora
from .loraconfig import LoraConfigs
from .notloras import refuse_marked, refuse_rest
from .peftsettings import check_settings, whole_parameter
from .pefttypes import check_type, refuse_type
from .shared import with_shared
from .specreader import SpecReader

LoraSource = str | os.PathLike[str] | Mapping[str, "torch.Tensor"]

# Tensors of no adapter that are known and change nothing of a model, by name
_NOT_ADAPTERS = (
    (re.compile(r"bundle_emb\..+|(emb_params|clip_[lg]|t5xxl)"), "embedding (textual inversion)"),
    (re.compile(r"(?s).+\.original_module\..+"), "what a module was before it was trained whole"),
)

_LONGEST_PART = 60  # characters of a name that is said


class LoraFile:
    """An open LoRA file.

    Raises FileFormatError for a broken file, WrongFileKindError for a checkpoint, AdapterError for incomplete or
    contradictory adapters. `semantics="comfyui"` reads alpha from tensors only, as ComfyUI's own loader does.
    It may be a folder that PEFT or diffusers saved, or tensors by their names, of a LoRA that no file holds.
    """

    @collections_paused()
    def __init__(self, source: LoraSource, semantics: Semantics = "paper") -> None:
        self.file, self.name = _opened(source)
        self.path = self.file.path  # of a LoRA in memory it is a name only
        self.not_adapters: dict[str, str] = {}  # tensor that is known to change nothing -> what it is
        self.unknown: list[str] = []  # tensors of no module that nobody knows
        self.unsupported: dict[str, str] = {}  # module -> its kind
        self.warnings: list[str] = []
        self._tensors: dict[str, torch.Tensor] | None = None
        try:
            configs = self.configs()
            refuse_type(self.name, configs)
            modules = with_shared(self._split_names(configs))
            configs.name, configs.modules = self.name, modules
            parts = {module: [(split.part, info) for split, info in splits] for module, splits in each(modules.items())}
            refuse_marked(self.name, self.file, parts)
            self._refuse_checkpoint(modules, configs)
            rows = [part for found in parts.values() for part, _ in found]
            check_settings(self.name, configs, {part.field for part in rows})
            check_type(self.name, configs, {part.kind for part in rows}, {part.field for part in rows})
            reader = SpecReader(self.name, self.file, configs, semantics)
            specs = [spec for module in each(modules) for spec in self._specs(reader, module, modules[module])]
            self.adapters = reader.borrowed(specs)
            if not self.modules:
                raise WrongFileKindError(f"{self.name}: is not a LoRA: it holds alphas and nothing that they scale.")
            self._warn(reader, configs)
        except BaseException:
            self.file.close()
            raise

    def __enter__(self) -> LoraFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def configs(self) -> LoraConfigs:
        """Read what the header and a configuration beside the file say."""
        return LoraConfigs.of(self.path, self.file.metadata, has_folder=bool(self.file.paths))

    @property
    def metadata(self) -> Mapping[str, str]:
        return self.file.metadata

    @property
    def modules(self) -> list[str]:
        """The names of all modules, applicable or not, in file order."""
        return list(dict.fromkeys([*(spec.module for spec in self.adapters), *self.unsupported]))

    @property
    def dialect(self) -> str:
        counts = Counter(split_dialect(module)[0].id for module in self.modules)
        return counts.most_common(1)[0][0]

    @property
    def kinds(self) -> list[str]:
        return sorted({kind for spec in self.adapters for kind in spec.kinds} | set(self.unsupported.values()))

    @cached_property
    def roles(self) -> frozenset[str]:
        """What the prefixes of the modules' names address: the diffusion model, text encoders."""
        return frozenset(role for module in self.modules for role in addressed_roles(module))

    @cached_property
    def arches(self) -> list[Arch]:
        """The diffusion architectures that the modules' names and shapes fit; empty if none stands out."""
        shapes = {
            spec.module: spec.delta_shape()
            for spec in self.adapters
            if spec.param == "weight" and spec.new_shape is None  # a layer that it widens was smaller
        }
        names = ((split_dialect(module), shapes.get(module)) for module in self.modules)
        return guess_arches(
            (rest.replace(".", "_"), shape) for (dialect, rest), shape in names if DIFFUSION in dialect.roles
        )

    def adapter(self, spec: AdapterSpec) -> Adapter:
        """Read the tensors of one adapter."""
        ask()
        return spec.read(self.file.tensor if self._tensors is None else self._tensors.__getitem__)

    def sound_adapter(self, spec: AdapterSpec) -> Adapter:
        """Read the tensors of one adapter, whose weight nobody knows.

        Raises AdapterError for numbers that no training gives, NaN among them, and for shapes that take far too much.
        """
        spec.check_room(f"{self.name}: {spec.module}")
        adapter = self.adapter(spec)
        self.check_numbers(spec, tensors_of(adapter))
        return adapter

    def check_numbers(self, spec: AdapterSpec, tensors: Iterable[torch.Tensor]) -> None:
        """Raise AdapterError as `sound_adapter` does."""
        check_numbers(tensors, f"{self.name}: {spec.module}")

    def load(self) -> None:
        """Read every adapter's tensors now, so that the file may be closed and adapters still be had."""
        names = {name for spec in self.adapters for name in spec.tensor_names()}
        self._tensors = {name: self.file.tensor(name) for name in each(names)}

    def _split_names(self, configs: LoraConfigs) -> dict[str, list[tuple[SplitName, TensorInfo]]]:
        """Return the tensors by module. What is not understood makes its module unsupported, if it has one."""
        modules: dict[str, list[tuple[SplitName, TensorInfo]]] = defaultdict(list)
        splits = split_names(self.file)
        left: list[str] = []
        for name, info in each(self.file.items()):
            split = splits.get(name) or whole_parameter(name, configs)
            if split:
                modules[split.module].append((split, info))
            elif what := next((what for pattern, what in _NOT_ADAPTERS if pattern.fullmatch(name)), None):
                self.not_adapters[name] = what
            else:
                left.append(name)
        for name in left:
            module = _module_of(name, modules)
            if module is None:
                self.unknown.append(name)
            else:
                self.unsupported.setdefault(module, f"unknown{name[len(module) :][:_LONGEST_PART]}")
        return modules

    def _refuse_checkpoint(self, modules: Mapping[str, object], configs: LoraConfigs) -> None:
        shapes = {name: info.shape for name, info in self.file.items()}
        found = detect(shapes) if (len(self.not_adapters) + len(self.unknown)) * 2 > len(shapes) else []
        if found:
            raise WrongFileKindError(
                f"{self.name}: is a checkpoint of {found[0].title}, not a LoRA; "
                "give it as the base, or choose a LoRA file."
            )
        if not modules:
            refuse_rest(self.name, self.file, configs)
            some = ", ".join(repr(name) for name in list(shapes)[:3]) or "nothing"
            raise WrongFileKindError(
                f"{self.name}: is not a LoRA: none of its {len(shapes)} tensors is an adapter's; it holds {some}."
            )

    def _specs(self, reader: SpecReader, module: str, splits: list[tuple[SplitName, TensorInfo]]) -> list[AdapterSpec]:
        parts = [(split.part, info) for split, info in splits]
        kinds = {part.kind for part, _ in parts if part.kind}
        unknown = sorted(kind for kind in kinds if not is_applied(kind))
        if unknown:
            self.unsupported[module] = unknown[0]
        elif module in self.unsupported:
            pass
        elif kinds:
            return reader.specs(module, parts)
        else:  # an alpha of no adapter, or a magnitude
            self.unknown += [info.name for _, info in parts]
        return []

    def _warn(self, reader: SpecReader, configs: LoraConfigs) -> None:
        """Keep what a user should know: one line for each sort of thing."""
        if reader.without_effect:
            modules = f"{counted(reader.without_effect, 'module')}: {some_names(reader.without_effect)}"
            self.warnings.append(f"{self.name}: alpha is 0, which changes nothing, in {modules}.")
        if reader.ignored_alpha:
            modules = f"{counted(reader.ignored_alpha, 'LoKr module')} without a rank"
            self.warnings.append(f"{self.name}: alpha is ignored in {modules}, as LyCORIS does.")
        self.warnings += [f"{self.name}: {line}" for line in reader.uneven(self.adapters)]
        unscaled = [spec for spec in self.adapters if spec.rank and spec.scale.source == "none"]
        if unscaled and self.dialect == "peft":
            self.warnings.append(f"{self.name}: has no alpha, in the file or beside it; scale 1 is assumed.")
        self.warnings.extend(f"{self.name}: {warning}" for warning in configs.warnings)


def _opened(source: LoraSource) -> tuple[Tensors, str]:
    """Return the tensors and what reports call them."""
    if isinstance(source, Mapping):
        return MemoryTensors(source), IN_MEMORY
    given = Path(source)
    path = adapter_file(given)
    name = f"{given.name}/{path.name}" if given.is_dir() else path.name
    return open_lora(path), name


def _module_of(name: str, modules: Collection[str]) -> str | None:
    """Return the module of which a tensor's name is one more part."""
    while "." in name:
        name = name.rpartition(".")[0]
        if name in modules:
            return name
    return None
