"""How the rank of a low-rank approximation is chosen: the options of Extract, Resize and Combine."""

from __future__ import annotations

from .base import Option

# What decides the rank of a layer; `lora_core.algebra.rankrules` defines each exactly
RULES = ("rank", "energy", "error", "ratio", "absolute", "relative", "sum")
BUDGETS = ("file_size", "total_error")  # decide all layers together
KOHYA_RULES = ("sv_ratio", "sv_cumulative", "sv_fro")

RANK = Option("rank", "INT", "Rank of every adapter, used when energy is 0.", 32, low=1, high=32768, step=1)
ENERGY = Option(
    "energy",
    "FLOAT",
    "Share of each layer's squared change to keep, for example 0.95; the rank follows from it. 0: use rank.",
    0.0,
    low=0.0,
    high=1.0,
    step=0.01,
)
MAX_RANK = Option(
    "max_rank", "INT", "Upper limit of the rank when anything but rank decides.", 128, low=1, high=32768, step=1
)
CONV_RANK = Option(
    "conv_rank",
    "INT",
    "Rank of convolution layers with a kernel above 1x1. 0: as the other layers.",
    0,
    low=0,
    high=32768,
    step=1,
)
_RANK_BY_HELP = (
    "What decides the rank. auto: energy if it is above 0, else rank. By threshold in each layer: error (relative, of "
    "its change), ratio (smallest singular value over the largest), absolute (smallest singular value), relative "
    "(smallest singular value over the weight's own size), sum (share of the sum of singular values). By threshold "
    "for the whole file: file_size (MB) or total_error (relative), spread over the layers where they matter most."
)
RANK_BY = Option("rank_by", "COMBO", _RANK_BY_HELP, "auto", choices=("auto", *RULES, *BUDGETS), advanced=True)
RESIZE_BY = Option(
    "rank_by",
    "COMBO",
    f"{_RANK_BY_HELP} sv_ratio, sv_cumulative, sv_fro: as kohya's resize script, with its roundings.",
    "auto",
    choices=("auto", *RULES, *BUDGETS, *KOHYA_RULES),
    advanced=True,
)
THRESHOLD = Option(
    "threshold", "FLOAT", "The number that rank_by compares with.", 0.0, low=0.0, high=1e6, step=0.001, advanced=True
)
