"""What stands in module names and belongs to no model: wrappers of training frameworks, and what savers put before.

A name is read without them only where it is found in no other way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

# What a saver cut off the beginning of a name (Flux.2's "transformer_blocks" after a prefix of another length)
_CUT = re.compile(r"(?:^|(?<=[._]))sformer_blocks(?=[._])")
# Each ends where the model's own name begins, or goes on
_WRAPPERS = (
    "base_model.model.",  # PEFT
    "_orig_mod.",  # torch.compile
    "_fsdp_wrapped_module.",
    "_checkpoint_wrapped_module.",
    "_forward_module.",  # Lightning, DeepSpeed
    "module.",  # DataParallel
    "model.diffusion_model.",  # a checkpoint's own prefix
    "model_state.model.",
    "model_state.",
    "pipe.dit.",  # DiffSynth
    "pipe.unet.",
    "pipe.transformer.",
    "pipe.",
)
_DOTTED = re.compile(r"(?:^|(?<=\.))(?:" + "|".join(map(re.escape, _WRAPPERS)) + ")")
_FLAT = re.compile(r"(?:^|(?<=_))(?:" + "|".join(re.escape(one.replace(".", "_")) for one in _WRAPPERS) + ")")


def without_wrappers(name: str, *, flat: bool = False) -> str:
    """Return a name without the wrappers in it, wherever they stand between its dots, or underscores if it is flat.

    What was cut off a name is there again.
    """
    while (shorter := (_FLAT if flat else _DOTTED).sub("", name)) != name:
        name = shorter
    return _CUT.sub("transformer_blocks", name)


def underscored(name: str) -> str:
    """Return a name with underscores for dots, without one at its end."""
    return name.replace(".", "_").rstrip("_")


def common_prefixes(names: Sequence[str]) -> Iterator[str]:
    """Yield what all names begin with, the longest first, as far as it ends with a dot or an underscore."""
    first, last = min(names, default=""), max(names, default="")
    shortest = min(len(first), len(last))
    length = next((at for at in range(shortest) if first[at] != last[at]), shortest)
    yield from (first[:at] for at in range(length, 0, -1) if first[at - 1] in "._")
