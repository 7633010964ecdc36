"""Which tensors of a checkpoint change their number format when it is written in another, and what is told of the rest.

Only weights of the models that were found in it do: the diffusion model and its text encoders. What is no weight keeps
its numbers exactly: whole numbers kept as floats (position ids), noise schedules, statistics, frequencies, scalars. So
does what belongs to no model that was found, a VAE above all.

fp8 is for layers that ComfyUI runs in fp8: linear and convolution weights of the diffusion model. Norms, biases, tables
and bare parameters are small, and 3 bits would ruin them. A text encoder runs in the format of its last norm, so one
that has fp8 layers between other norms is made fp16 again when it is loaded, and would only have lost precision.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from ...arch.base import Shape
from ...files.dtypes import DTYPE_NAMES
from ...files.tensorheader import TensorInfo
from ...options import MergeDtype
from ...reading.checkpoint import Checkpoint

SCALED = "fp8_e4m3fn_scaled"
_FP8 = ("fp8_e4m3fn", SCALED)
_TABLES = ("embed", "shared", "relative_attention")  # in names of what is looked up and not multiplied
_EXPERTS = {"w1", "w2", "w3", "gate_up_proj", "gate_proj", "up_proj", "down_proj"}  # bare, a matrix for each expert

# What a tensor is that no model found here has as a weight -> the whole names that tell it
_PARTS = (
    ("the VAE", r"(?:first_stage_model|vae|vae_model)\..*"),
    ("the averaged copy (EMA)", r"(?:model_ema|ema_model|ema)\..*"),
    (
        "the noise schedule",
        r"(?:.*\.)?(?:(?:sqrt_|log_)?(?:one_minus_|recip_|recipm1_)?alphas?_cumprod\w*|alphas|betas|(?:log_)?sigmas?"
        r"|sqrt_\w*alphas\w*|posterior_\w+|logvar|timesteps|edm_\w+|ztsnr|v_pred|edm_vpred\.\w+)",
    ),
    (
        "buffers",  # of a model: what its code computes, and no training changes
        r"(?:.*\.)?(?:position_ids|num_batches_tracked|running_(?:mean|var)|mean-of-means|std-of-means|(?:mean|std)(?:_\d+)?"
        r"|latents?_(?:mean|std)|(?:pos_)?freqs?(?:_\w+)?|freqs_cis|inv_freq|original_inv_freq|(?:cos|sin)_cached|pe"
        r"|pos_embed|kernel|attn_mask|causal_mask|relative_position_index"
        r"|(?:timestep_features|time_proj|fourier\w*|\w*frequencies)\.weight|\w*frequencies)",
    ),
)
_PART_ROWS = [(what, re.compile(names)) for what, names in _PARTS]
_SMALL = "norms, biases, embeddings and bare parameters"
_ENCODERS = "text encoders, which ComfyUI runs in the format of their norms"


@dataclass(frozen=True)
class Formats:
    """The number format of every tensor of a checkpoint when it is written as `dtype`."""

    checkpoint: Checkpoint
    dtype: MergeDtype

    def target(self, key: str, info: TensorInfo, *, is_coded: bool = False) -> str:
        """Return the number format to write a tensor in, as headers name it; `is_coded` can't keep its own."""
        if self.dtype == "keep" or not info.is_float or info.nbytes == 0:
            return info.dtype
        if self.dtype == SCALED:  # its layers are not asked for
            return "BF16" if is_coded else info.dtype
        reason = self._reason(key, info.shape)
        wanted = DTYPE_NAMES[self.dtype]
        if not reason:
            return wanted
        if is_coded:
            return "BF16" if self.dtype in _FP8 else wanted
        return info.dtype

    def is_scaled(self, key: str) -> bool:
        """Tell whether a weight becomes fp8 codes with a scale: linear layers, which alone ComfyUI has so."""
        shape = self.checkpoint.shapes[key]
        return self.dtype == SCALED and len(shape) == 2 and key.endswith(".weight") and not self._reason(key, shape)

    def notes(self, infos: Iterable[tuple[str, TensorInfo]]) -> list[str]:
        """Return what keeps a number format other than the one that was asked for, as text for a report."""
        if self.dtype == "keep":
            return []
        wanted = DTYPE_NAMES["fp8_e4m3fn" if self.dtype == SCALED else self.dtype]
        counts: Counter[str] = Counter()
        for key, info in infos:
            if info.is_float and info.nbytes and info.dtype != wanted and (why := self._reason(key, info.shape)):
                counts[why] += 1
        if not counts:
            return []
        parts = ", ".join(f"{count} of {what}" for what, count in sorted(counts.items()))
        total = sum(counts.values())
        return [f"{total} {'tensor keeps' if total == 1 else 'tensors keep'} their number format: {parts}"]

    def _reason(self, key: str, shape: Shape) -> str:
        """Return why a tensor keeps its format; empty if it takes the one that was asked for."""
        name = key.rpartition("/")[2]
        part = next((what for what, names in _PART_ROWS if names.fullmatch(name)), "")
        if part:
            return part
        if key not in self._models:
            return "no model that was found"
        if not shape or shape == (1,):
            return "scalars"
        if self.dtype not in _FP8:
            return ""
        if key not in self._run_in_fp8:
            return _ENCODERS
        return "" if _is_multiplied(name, shape) else _SMALL

    @cached_property
    def _models(self) -> set[str]:
        return set().union(*(one.keys() for one in self.checkpoint.keymap.components))

    @cached_property
    def _run_in_fp8(self) -> set[str]:
        """The keys of the diffusion model; of everything in a file without one, which somebody wants smaller."""
        components = self.checkpoint.keymap.components
        chosen = [one for one in components if one.arch.role == "diffusion"] or components
        return set().union(*(one.keys() for one in chosen))


def _is_multiplied(name: str, shape: Shape) -> bool:
    """Tell whether a tensor is the weight of a linear layer or a convolution, as far as its name and shape tell."""
    head, _, last = name.rpartition(".")
    if len(shape) < 2 or any(table in name for table in _TABLES) or "norm" in head.rpartition(".")[2]:
        return False
    return last in ("weight", "in_proj_weight") or (last in _EXPERTS and len(shape) == 3)
