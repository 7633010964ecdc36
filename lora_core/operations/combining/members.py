"""The LoRAs of a stack on one model: which of their adapters change the same layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ...arch.base import Shape
from ...naming.dialects import Writing
from ...reading.adapterspec import AdapterSpec
from ...reading.lorafile import LoraFile
from ...report import LoraReport
from ...stack.matching import describe_lora
from ...stack.opened import StackedLora, Strengths
from ...writing.model import ModelNames
from ...writing.plan import Job, Piece, Plan, Slot, plan


@dataclass(frozen=True, slots=True)
class Member:
    """A LoRA of the stack, and what of it goes where."""

    index: int
    item: StackedLora
    plan: Plan
    missing: list[str]  # names of what has no place
    report: LoraReport
    strengths: Strengths

    @property
    def lora(self) -> LoraFile:
        return self.item.lora


@dataclass(frozen=True, slots=True)
class Contribution:
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
    parts: list[Contribution] = field(default_factory=list)

    @property
    def key(self) -> tuple[str, str]:
        return self.slot.name, self.slot.param

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


def members_of(stack: Sequence[StackedLora], model: ModelNames, writing: Writing) -> list[Member]:
    """Return the LoRAs with their plans."""
    members: list[Member] = []
    for index, item in enumerate(stack):
        todo = plan(item.lora, model.keymap, writing, model.diffusers)
        report = describe_lora(item.lora)
        strengths = item.strengths_on(model.keymap)
        missing = todo.tell(report)
        for piece in (piece for job in todo.jobs for piece in job.pieces):
            strengths.at(piece.target)
        strengths.tell(report)
        members.append(Member(index, item, todo, missing, report, strengths))
    return members


def layers_of(members: Sequence[Member], model: ModelNames) -> list[StackedLayer]:
    """Return every layer that a member changes at a strength other than 0."""
    layers: dict[tuple[str, str], StackedLayer] = {}
    for member in members:
        for job in member.plan.jobs:
            for piece in job.pieces:
                strength = member.strengths.at(piece.target)
                if strength:
                    layer = layers.setdefault((job.slot.name, job.slot.param), StackedLayer(job.slot))
                    layer.parts.append(Contribution(member, job, piece, strength))
    return list(layers.values())
