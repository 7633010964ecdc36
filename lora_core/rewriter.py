"""A checkpoint written anew with a stack of adapters applied: one file, or a folder with the same files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .arch.base import Shape
from .checkpoint import Checkpoint, OpenPart
from .errors import OptionError
from .files.folderwriter import FolderWriter, other_files
from .files.modelfolder import WEIGHT_SUFFIXES, read_index
from .files.tensorfile import OnStep
from .files.tensorwriter import TensorWriter
from .jobs import FileJobs
from .matching import PlacedSpec
from .options import MergeDtype, Semantics
from .pipeline import run_jobs
from .report import Report, counted, some_names
from .rewrite import SCALED, FilePlan, linear_weights, plan_files
from .rounding import RealisedChange
from .sizes import Size, sized

LOST = 0.5  # above this share of the change lost to rounding, the report warns


@dataclass(slots=True)
class Rewriter:
    """Plans at once, writes when asked, and then knows what was lost to rounding."""

    checkpoint: Checkpoint
    changes: Mapping[str, list[PlacedSpec]]  # key -> what applies to it, in order
    dtype: MergeDtype
    semantics: Semantics
    metadata: Callable[[Mapping[str, str]], dict[str, str]]  # a file's own -> the written file's
    on_step: OnStep | None = None
    plans: list[tuple[OpenPart, FilePlan]] = field(default_factory=list)
    clamped: int = 0
    lost: list[str] = field(default_factory=list)  # keys whose change is too small for the number format
    realised: RealisedChange = field(default_factory=RealisedChange)
    warnings: list[str] = field(default_factory=list)
    _sizes: dict[int, list[Size]] = field(default_factory=dict)  # by the report of the file
    _done: int = 0
    _total: int = 0

    def __post_init__(self) -> None:
        if self.dtype == SCALED and self.checkpoint.is_folder:
            raise OptionError(
                f"dtype: {SCALED} is ComfyUI's layout of a single file, and {self.checkpoint.name} is a folder; "
                "choose bf16 or fp16."
            )
        matrices = self._matrices()
        for part in self.checkpoint.parts:
            shapes = {
                name: _shape_after(info.shape, self.changes[part.key(name)])
                for name, info in part.tensors.items()
                if part.key(name) in self.changes
            }
            self.plans += [(part, plan) for plan in plan_files(part.tensors, self.dtype, shapes, matrices)]
        self._total = sum(plan.nbytes for _, plan in self.plans)

    def write_file(self, out: Path, inputs: list[Path], before_commit: Callable[[], None], **options: bool) -> None:
        """Write a checkpoint of one file; `before_commit` may still raise."""
        ((part, plan),) = self.plans
        metadata = self.metadata(plan.metadata)
        with TensorWriter(out, plan.planned, metadata, inputs=inputs, like=plan.source, **options) as writer:
            self._count(0)
            self._write(writer, part, plan)
            before_commit()
            writer.commit()

    def write_folder(self, out: Path, before_commit: Callable[[], None], *, verify: bool, overwrite: bool) -> int:
        """Write a model folder and return its bytes; files without weights are copied."""
        others = self._others() + self._untouched()
        self._total = sum(path.stat().st_size for path, _ in others)
        self._total += sum(plan.nbytes for _, plan in self.plans if not plan.is_copy)
        with FolderWriter(out, self.checkpoint.path, self._total, overwrite=overwrite) as folder:
            self._count(0)
            for path, names in others:
                folder.copy(path, *names, on_bytes=self._count)
            for part, plan in self.plans:
                if plan.is_copy or plan.source is None:
                    continue
                target = folder.place(*_below(part), plan.source.path.name)
                metadata = self.metadata(plan.metadata)
                with TensorWriter(target, plan.planned, metadata, verify=verify, like=plan.source) as writer:
                    self._write(writer, part, plan)
                    writer.commit()
            for path, part in self._json_files():
                self._write_json(folder, path, part)
            before_commit()
            folder.commit()
        return self._total

    def tell(self, report: Report) -> None:
        """Add to the report how large each LoRA is, and what rounding did."""
        for lora in report.loras:
            lora.blocks, lora.relative_size = sized(lora.blocks, self._sizes.get(id(lora), ()))
        report.warnings += self.warnings
        if self.clamped:
            report.warnings.append(
                f"{self.clamped} values were beyond the range of the written number format and were clamped."
            )
        if self.lost:
            report.warnings.append(
                f"{counted(self.lost, 'weight')} not changed, because the change is below the steps of the "
                f"number format: {some_names(self.lost)}; a dtype with more digits keeps it."
            )
        if self.realised.layers:
            lost = self.realised.relative_error
            (report.warnings if lost > LOST else report.notes).append(
                f"{counted(range(self.realised.layers), 'changed layer')} written as fp8: the written change differs "
                f"from the exact one by {lost:.0%}"
            )

    def _matrices(self) -> set[str]:
        components = self.checkpoint.keymap.components
        chosen = [one for one in components if one.arch.role == "diffusion"] or components
        keys: set[str] = set().union(*(one.keys() for one in chosen))
        return linear_weights(self.checkpoint.shapes, keys)

    def _write(self, writer: TensorWriter, part: OpenPart, plan: FilePlan) -> None:
        jobs = FileJobs(part, plan, self.changes, self.semantics, writer).jobs()
        for outcome in run_jobs(list(jobs), self._count):
            for effect in outcome.effects:
                effect.item.tell(changes=effect.changes)
                size = Size.on(effect.item.target, self.checkpoint.keymap, effect.change, effect.weight)
                self._sizes.setdefault(id(effect.item.report), []).append(size)
            self.clamped += outcome.clamped
            self.lost += [outcome.lost] if outcome.lost else []
            if outcome.realised:
                self.realised.add(outcome.realised)

    def _others(self) -> list[tuple[Path, tuple[str, ...]]]:
        """Return the files to copy. Weights that are not read are left out: they lack the change."""
        read = {*self.checkpoint.paths, *(path for path, _ in self._json_files())}
        read |= {part.index for part in self.checkpoint.parts if part.index}
        parts = {_below(part) for part in self.checkpoint.parts} | {()}
        found = list(other_files(self.checkpoint.path, read))
        stale = [(path, names) for path, names in found if names[:-1] in parts and WEIGHT_SUFFIXES & set(path.suffixes)]
        if stale:
            names = some_names(["/".join(names) for _, names in stale])
            self.warnings.append(f"{counted(stale, 'other weight file')} left out, without the LoRAs in it: {names}.")
        return [item for item in found if item not in stale]

    def _untouched(self) -> list[tuple[Path, tuple[str, ...]]]:
        """Return the weight files in which nothing changes, and the indices of parts that consist of them."""
        copies = [(part, plan.source.path) for part, plan in self.plans if plan.is_copy and plan.source]
        indices = [(part, part.index) for part in self.checkpoint.parts if part.index and not self._changes(part)]
        return [(path, (*_below(part), path.name)) for part, path in copies + indices]

    def _changes(self, part: OpenPart) -> bool:
        return any(owner is part and not plan.is_copy for owner, plan in self.plans)

    def _json_files(self) -> list[tuple[Path, OpenPart]]:
        """Return the JSON files that tell of the weights and so change with them."""
        found: list[tuple[Path, OpenPart]] = []
        for part in self.checkpoint.parts:
            if part.index and self._changes(part):
                found.append((part.index, part))
            config = part.folder / "config.json"
            if self.dtype != "keep" and part.is_coded and config.is_file():
                found.append((config, part))
        return found

    def _write_json(self, folder: FolderWriter, path: Path, part: OpenPart) -> None:
        content = read_index(path, path.name)
        if path == part.index:
            content = self._indexed(content, part)
        else:  # the weights are plain numbers now
            content.pop("quantization_config", None)
        folder.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", *_below(part), path.name)

    def _indexed(self, content: dict[str, Any], part: OpenPart) -> dict[str, Any]:
        plans = [plan for owner, plan in self.plans if owner is part]
        files = {planned.name: plan.source.path.name for plan in plans if plan.source for planned in plan.planned}
        total = sum(plan.nbytes for plan in plans)
        metadata = content.get("metadata")
        known = metadata if isinstance(metadata, dict) else {}
        return {**content, "metadata": {**known, "total_size": total}, "weight_map": dict(sorted(files.items()))}

    def _count(self, nbytes: int) -> None:
        self._done += nbytes
        if self.on_step:
            self.on_step(self._done, self._total)


def _shape_after(shape: Shape, placed: list[PlacedSpec]) -> Shape:
    """Return a weight's shape after its adapters: a control LoRA pads its first layer."""
    return next((item.spec.new_shape for item in reversed(placed) if item.spec.new_shape), shape)


def _below(part: OpenPart) -> tuple[str, ...]:
    return (part.name,) if part.name else ()
