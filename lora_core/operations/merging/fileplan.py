"""What becomes of every tensor when a model is written anew in a chosen number format.

A plan knows every name, dtype and shape before any data is read. Layers that are stored as codes keep their codes
where nothing changes them; fp8 layers that change get new codes and a new scale; other formats have to be decoded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ...arch.base import Shape
from ...errors import OptionError
from ...files.decoded import QUANTISATION_METADATA, CodedLayer, Decoded
from ...files.layout import PlannedTensor
from ...files.opening import safetensors_files
from ...files.quantised import FP8_FORMATS
from ...files.tensorfile import TensorFile
from ...files.tensorheader import TensorInfo
from ...reading.checkpoint import OpenPart
from .formats import SCALED, Formats
from .steps import SCALED_FORMAT, Step, copied, newly_scaled, passed_on, renamed, requantised, rounded


@dataclass(frozen=True, slots=True)
class FilePlan:
    """One file to write, and the file whose place it takes: None if that is not a safetensors file."""

    source: TensorFile | None
    steps: Sequence[Step]
    metadata: Mapping[str, str]

    @property
    def planned(self) -> list[PlannedTensor]:
        return [planned for step in self.steps for planned in step.planned]

    @property
    def nbytes(self) -> int:
        return sum(planned.nbytes for planned in self.planned)

    @property
    def is_copy(self) -> bool:
        """Whether the written file would hold the same bytes."""
        return self.source is not None and len(self.steps) == len(self.source) and all(not s.write for s in self.steps)


def plan_files(part: OpenPart, formats: Formats, changed: Mapping[str, Shape]) -> list[FilePlan]:
    """Return a plan for each file of a model; `changed` are the names of weights that change, with their new shapes.

    Raises OptionError if a weight would have to be written in a format that this version only reads.
    """
    tensors, planner = part.tensors, _Planner(part, formats, changed)
    plans: list[FilePlan] = []
    for file in safetensors_files(tensors) or (None,):
        names = [info.name for info in file.in_file_order()] if file else list(tensors)
        metadata = dict(file.metadata if file else tensors.metadata)
        if formats.dtype != "keep":
            metadata.pop(QUANTISATION_METADATA, None)
        plans.append(FilePlan(file, [step for name in names for step in planner.steps(name, file)], metadata))
    return plans


class _Planner:
    def __init__(self, part: OpenPart, formats: Formats, changed: Mapping[str, Shape]) -> None:
        self._part, self._tensors, self._formats, self._changed = part, part.tensors, formats, changed
        self._dtype = formats.dtype
        coded = part.tensors if isinstance(part.tensors, Decoded) else None
        self._raw = coded.raw if coded else part.tensors
        self._layers = coded.layers if coded else {}
        self._owners = {key: layer for layer in self._layers.values() for key in layer.parts.values()}
        self._markers = set(coded.markers if coded else ())
        self._config = {"full_precision_matrix_mult": True} if coded and coded.full_precision else {}

    def steps(self, name: str, file: TensorFile | None) -> Iterator[Step]:
        """Yield what becomes of the tensor that is stored as `name`: at most one step."""
        if name in self._layers:
            yield self._layer(self._layers[name], file)
        elif name in self._owners or name in self._markers:
            if file and self._dtype == "keep" and not self._is_replaced(name):
                yield copied(file[name])
        else:
            yield self._plain(self._tensors[name], file)

    def _is_replaced(self, name: str) -> bool:
        """Tell whether a changed layer writes this part of it itself."""
        layer = self._owners.get(name)
        return layer is not None and layer.weight in self._changed and layer.parts.get("weight_scale") == name

    def _plain(self, info: TensorInfo, file: TensorFile | None) -> Step:
        coding = self._tensors.coded_as(info.name)
        if coding:  # of a container that is only read
            return self._values(info, coding)
        info, changed = self._afterwards(info)
        key = self._part.key(info.name)
        if self._formats.is_scaled(key):
            return newly_scaled(info, changed=changed)
        target = self._formats.target(key, info)
        if not changed and target == info.dtype:
            return copied(info) if file else passed_on(info)
        return rounded(info, target, changed=changed)

    def _layer(self, layer: CodedLayer, file: TensorFile | None) -> Step:
        changed = layer.weight in self._changed
        if changed and self._changed[layer.weight] != self._tensors[layer.weight].shape:
            return self._values(self._tensors[layer.weight], layer.format)
        if self._dtype == SCALED and layer.format == SCALED_FORMAT:
            return renamed(self._raw, layer, self._config, changed=changed)
        if self._dtype == "keep" and file and not changed:
            return copied(file[layer.weight])
        if self._dtype == "keep" and file and layer.format in FP8_FORMATS.values():
            return requantised(self._raw, layer)
        return self._values(self._tensors[layer.weight], layer.format)

    def _afterwards(self, info: TensorInfo) -> tuple[TensorInfo, bool]:
        """Return what is known of a tensor after the change, and whether there is one."""
        changed = info.name in self._changed
        return (replace(info, shape=self._changed[info.name]) if changed else info), changed

    def _values(self, info: TensorInfo, coding: str) -> Step:
        """The values of a weight that is stored as codes, without its codes."""
        if self._dtype == "keep":
            raise OptionError(
                f"{self._tensors.path.name}: {info.name!r} is stored as {coding}, which this version can read but not "
                "write; choose dtype bf16 or fp16."
            )
        info, changed = self._afterwards(info)
        key = self._part.key(info.name)
        if self._formats.is_scaled(key):
            return newly_scaled(info, changed=changed)
        return rounded(info, self._formats.target(key, info, is_coded=True), changed=changed)
