"""RoAd: W' = R · W and b' = R · b, with R a rotation and a stretch of each pair of outputs.

Liao and Monz, arXiv:2409.00119, as PEFT has it: output i of the first half of a group is paired with i of the second.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import AdapterError
from ..lazytorch import torch
from .peft import PeftAdapter, choice_option, whole_option, with_dimensions
from .shapes import Shape, Shapes
from .spelling import Part, suffix_rows
from .stored import Told

_NUMBERS = {"road_1": 0.5, "road_2": 1.0, "road_4": 2.0}


@dataclass(frozen=True, slots=True)
class RoAd(PeftAdapter):
    """It changes the weight, and the bias if there is one."""

    angle: torch.Tensor
    stretch: torch.Tensor
    numbers: float  # of angles, for each output: of RoAd's variants 1, 2 and 4
    group: int

    id: ClassVar[str] = "road"
    kind: ClassVar[str] = "RoAd"
    suffixes: ClassVar[tuple[Part, ...]] = (
        *suffix_rows("road", "angle", ".road_theta"),
        *suffix_rows("road", "stretch", ".road_alpha"),
    )

    @classmethod
    def delta_shape(cls, shapes: Shapes) -> Shape:
        angle, stretch = with_dimensions(shapes, 1, "angle", "stretch")
        if angle != stretch:
            raise AdapterError(f"holds {angle[0]} angles and {stretch[0]} stretches")
        return (0, 0)

    @classmethod
    def fits(cls, shapes: Shapes, weight: Shape, **settings: Any) -> bool:
        outputs = shapes["angle"][0] / settings["numbers"]
        return len(weight) in (1, 2) and weight[0] == outputs and outputs % settings["group"] == 0

    @classmethod
    def settings_of(cls, shapes: Shapes, told: Told) -> dict[str, Any]:
        group = whole_option(told, "group_size", 2)
        if group % 2:
            raise AdapterError(f"its configuration says group_size: {group}, expected an even number")
        return {"numbers": _NUMBERS[str(choice_option(told, "variant", _NUMBERS))], "group": group}

    @classmethod
    def from_parts(cls, parts: Mapping[str, torch.Tensor], scale: float, **settings: Any) -> RoAd:
        return cls(parts["angle"], parts["stretch"], settings["numbers"], settings["group"])

    @classmethod
    def also_changes(cls, settings: Mapping[str, Any]) -> tuple[str, ...]:
        return ("bias",)

    def delta(self, weight: torch.Tensor) -> torch.Tensor:
        whole = weight.float()
        own, others = (column.reshape(-1, *[1] * (weight.dim() - 1)) for column in self._columns())
        first, second = whole.reshape(-1, 2, self.group // 2, *weight.shape[1:]).unbind(1)
        across = torch.stack((-second, first), dim=1).reshape(weight.shape)
        return whole * own + across * others - whole

    def _columns(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return by how much each output counts for itself, and the one that it is paired with."""
        angle, stretch = self.angle.float(), self.stretch.float()
        if self.numbers == 2:
            (angle, other), (stretch, of_other) = (
                part.reshape(-1, 2, self.group).unbind(1) for part in (angle, stretch)
            )
            return (stretch * angle.cos()).flatten(), (of_other * other.sin()).flatten()
        if self.numbers < 1:
            halves = (part.reshape(-1, self.group // 2) for part in (angle, stretch))
            angle, stretch = (half.repeat_interleave(2, dim=0).flatten() for half in halves)
        return stretch * angle.cos(), stretch * angle.sin()
