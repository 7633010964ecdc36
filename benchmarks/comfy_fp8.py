"""Rounding to fp8 with a seed, ours and ComfyUI's in turn, one thread. Run by ComfyUI's Python in ComfyUI's folder.

Reads {"repo", "rounds", "elements"} from standard input; prints, as the last line, for either of them {"seconds":
[...], "bias": {value: relative error of the mean}}. Both run under the same torch.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import torch
from comfy import float as comfy_float

VALUES = (0.0301, 0.0041)  # a normal and a subnormal number of fp8, neither of them on its grid
DTYPE = torch.float8_e4m3fn
Rounding = Callable[[torch.Tensor, int], torch.Tensor]


def measure(rounding: dict[str, Rounding], rounds: int, elements: int) -> dict[str, dict[str, object]]:
    weight = torch.randn(elements // 1024, 1024, generator=torch.Generator().manual_seed(0)) * 0.02
    seconds: dict[str, list[float]] = {name: [] for name in rounding}
    for turn in range(rounds + 1):  # the first is for what is set up once
        for name in sorted(rounding, reverse=bool(turn % 2)):
            start = time.process_time()
            rounding[name](weight, turn)
            seconds[name].append(time.process_time() - start)
    return {name: {"seconds": seconds[name][1:], "bias": bias(rounding[name], elements)} for name in rounding}


def bias(rounding: Rounding, elements: int) -> dict[float, float]:
    means = {value: rounding(torch.full((elements // 1024, 1024), value), 7).double().mean() for value in VALUES}
    return {value: float(mean) / value - 1 for value, mean in means.items()}


def main() -> None:
    given = json.load(sys.stdin)
    sys.path.append(given["repo"])  # behind ComfyUI's folders, which have a package `nodes` too
    from lora_core.algebra.rounding import round_stochastically  # noqa: PLC0415

    torch.set_num_threads(1)
    rounding: dict[str, Rounding] = {
        "LoRA Core": lambda value, seed: round_stochastically(value, DTYPE, seed),
        "ComfyUI": lambda value, seed: comfy_float.stochastic_rounding(value, DTYPE, seed),
    }
    sys.stdout.write("\n" + json.dumps(measure(rounding, given["rounds"], given["elements"])))


if __name__ == "__main__":
    main()
