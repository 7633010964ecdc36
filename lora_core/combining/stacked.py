"""The LoRAs of a stack on one model: which of their adapters change the same layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..arch.base import Arch, Shape
from ..checkpoint import Checkpoint
from ..conversion.model import Model, choose_model
from ..conversion.plan import Job, Piece, Plan, Slot, plan
from ..errors import LoraError, NothingMatchedError, OptionError, UnknownArchError, UnmatchedError
from ..lorafile import AdapterSpec, LoraFile
from ..matching import OnUnmatched, StackedLora, describe_lora
from ..report import LoraReport, Report, counted, some_names
from ..writing import Writing


@dataclass(frozen=True, slots=True)
class Member:
    """A LoRA of the stack, and what of it goes where."""

    index: int
    item: StackedLora
    plan: Plan
    report: LoraReport

    @property
    def lora(self) -> LoraFile:
        return self.item.lora


@dataclass(frozen=True, slots=True)
class Part:
    """An adapter of a member in a layer, or some rows of it, and its strength there."""

    member: Member
    job: Job
    piece: Piece
    strength: float

    @property
    def spec(self) -> AdapterSpec:
        return self.piece.spec

    @property
    def is_whole(self) -> bool:
        """Whether the adapter and the layer are the same rows."""
        rows = self.job.slot.shape[0] if self.job.slot.shape else 1
        return self.piece.runs == ((0, rows, 0),) and self.piece.total == rows

    @property
    def where(self) -> str:
        return f"{self.member.lora.name}: {self.spec.module}"


@dataclass(frozen=True, slots=True)
class StackedLayer:
    """A name to write, and every part that goes there, in the order of the stack."""

    slot: Slot
    parts: list[Part] = field(default_factory=list)

    @property
    def shape(self) -> Shape:
        """The weight's shape, as large as the largest that an adapter makes it."""
        grown = (part.spec.new_shape for part in self.parts if part.spec.new_shape)
        shapes = [self.slot.shape, *(shape for shape in grown if len(shape) == len(self.slot.shape))]
        return tuple(max(sizes) for sizes in zip(*shapes, strict=True))

    @property
    def is_vector(self) -> bool:
        """Whether it is a bias or a norm, which has no rank."""
        return self.slot.param != "weight" or len(self.slot.shape) < 2


def common_model(loras: Sequence[LoraFile], arch: str, base: Checkpoint | None, writing: Writing) -> Model:
    """Return the model that most adapters of the files fit, with its text encoders if any file changes one.

    Raises UnknownArchError if no file tells its model.
    """
    models: list[Model] = []
    unknown: UnknownArchError | None = None
    for lora in loras:
        try:
            models.append(choose_model(lora, arch, base, writing))
        except UnknownArchError as error:  # another file of the stack may tell
            unknown = unknown or error
    if not models:
        assert unknown is not None
        raise unknown
    models.sort(key=lambda model: -len(model.keymap.components))
    distinct = list({model.title: model for model in reversed(models)}.values())[::-1]
    if len(distinct) == 1:
        return distinct[0]
    return max(distinct, key=lambda model: sum(_fitting(lora, model) for lora in loras))


def members_of(stack: Sequence[StackedLora], model: Model, writing: Writing) -> list[Member]:
    """Return the LoRAs with their plans; raises NothingMatchedError for one of another architecture."""
    members: list[Member] = []
    for index, item in enumerate(stack):
        todo = plan(item.lora, model.keymap, writing, model.diffusers)
        report = describe_lora(item.lora)
        report.strength_model, report.strength_clip = item.strength_model, item.strength_clip
        report.unmatched, report.mismatched = todo.unmatched, todo.mismatched
        report.modules_matched = report.modules_total - len(_missing(item.lora, todo))
        members.append(Member(index, item, todo, report))
    for member in members:
        _refuse_foreign(member, members, model)
    return members


def layers_of(members: Sequence[Member], model: Model) -> list[StackedLayer]:
    """Return every layer that a member changes at a strength other than 0."""
    layers: dict[tuple[str, str], StackedLayer] = {}
    for member in members:
        for job in member.plan.jobs:
            for piece in job.pieces:
                strength = _strength(member.item, piece.spec, model)
                if strength:
                    layer = layers.setdefault((job.slot.name, job.slot.param), StackedLayer(job.slot))
                    layer.parts.append(Part(member, job, piece, strength))
    return list(layers.values())


def tell(members: Sequence[Member], model: Model, on_unmatched: OnUnmatched, report: Report) -> None:
    """Describe the stack in the report; raises UnmatchedError for what has no place, where that is the policy."""
    report.arch, report.title = model.id, model.title
    report.loras = [member.report for member in members]
    for member in members:
        report.warnings.extend(member.lora.warnings)
        missing = _missing(member.lora, member.plan)
        text = f"{counted(missing, 'module')} without a place in {model.title}"
        if missing and on_unmatched == "error":
            raise UnmatchedError(f"{member.lora.name}: {text}: {some_names(missing)}.")
        if missing and on_unmatched == "warn":
            report.warnings.append(f"{member.lora.name}: {text} left out: {some_names(missing)}.")


def in_use(stack: Sequence[StackedLora], method: str, report: Report) -> list[StackedLora]:
    """Return the LoRAs whose strength is not 0, and say which are skipped or there twice.

    Raises OptionError for a stack without any, and for a LoRA that is there twice where each counts as a vote.
    """
    if not stack:
        raise OptionError("combine: no LoRA given; name at least one.")
    used = [item for item in stack if item.strength_model or item.strength_clip]
    skipped = [item.lora.name for item in stack if item not in used]
    report.notes += [f"{name}: strength 0, skipped" for name in skipped]
    if not used:
        raise OptionError(f"combine: every LoRA has strength 0: {some_names(skipped)}; give one another strength.")
    paths = [item.lora.path.resolve() for item in used]
    for name in dict.fromkeys(item.lora.name for item, path in zip(used, paths, strict=True) if paths.count(path) > 1):
        if method != "sum":
            raise OptionError(
                f"{name}: is in the stack more than once, and {method} weighs LoRAs against each other; "
                "keep one, at the sum of the strengths."
            )
        report.warnings.append(f"{name}: is in the stack more than once; its strengths add up.")
    return used


def _fitting(lora: LoraFile, model: Model) -> int:
    """Return how many adapters have a place of their shape in this model."""
    places = ((spec, model.keymap.find(spec.module, spec.param)) for spec in lora.adapters)
    return sum(bool(targets) and spec.fits(targets[0].adapter_shape) for spec, targets in places)


def _missing(lora: LoraFile, todo: Plan) -> list[str]:
    names = (*todo.unmatched, *(str(item["name"]) for item in todo.mismatched), *lora.unsupported)
    return list(dict.fromkeys(names))


def _strength(item: StackedLora, spec: AdapterSpec, model: Model) -> float:
    role = model.keymap.find(spec.module, spec.param)[0].role
    return item.strength_model if role == "diffusion" else item.strength_clip


def _refuse_foreign(member: Member, members: Sequence[Member], model: Model) -> None:
    """Raise NothingMatchedError for a LoRA of another model than the others', even if some modules happen to fit."""
    here = {one.arch.id for one in model.keymap.components if one.arch.role == "diffusion"}
    arches, found = member.lora.arches, member.report
    is_foreign = here and arches and here.isdisjoint(arch.id for arch in arches)
    if member.plan.jobs and not (is_foreign and found.modules_matched < found.modules_total):
        return
    name = member.lora.name
    others = [other.lora.name for other in members if other is not member and other.plan.jobs]
    if not is_foreign and not others:
        raise NothingMatchedError(
            f"{name}: none of its {found.modules_total} modules has a place of its shape in {model.title}, e.g. "
            f"{member.lora.modules[0]!r}; name the model with --arch, or give it with --base."
        )
    what = f"is for {_titles(arches)}" if is_foreign else f"has names and shapes such as {member.lora.modules[0]!r}"
    raise NothingMatchedError(
        f"{name}: {what}, but {some_names(others) or 'the model that is given'} is for {model.title}; "
        f"{found.modules_matched} of {found.modules_total} modules would fit. "
        "LoRAs become one only if all are for one model: combine those of each model apart."
    )


def _titles(arches: Sequence[Arch]) -> str:
    return " or ".join(arch.title for arch in arches)


def nothing_left(members: Sequence[Member]) -> LoraError:
    names = some_names([member.lora.name for member in members])
    return LoraError(
        f"{names}: nothing is left: every change is zero, or they cancel each other; change the strengths."
    )
