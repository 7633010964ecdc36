"""The charts that nodes show: PICTURES has those of each node, by its id, in the order of its outputs."""

from __future__ import annotations

from .conflictmap import conflict_picture
from .energychart import energy_picture
from .sizechart import sizes_picture

PICTURES = {
    "LoraCoreExtract": (energy_picture,),
    "LoraCoreInspect": (sizes_picture, conflict_picture),
    "LoraCoreCombine": (energy_picture,),
    "LoraCoreResize": (energy_picture,),
}
