"""The live stack in ComfyUI: our patches and its own on the same weights, and what a changed strength costs.

Run by ComfyUI's Python in ComfyUI's folder, with --cpu. Reads {"repo", "rounds", "layers", "counts", "rank", "prefix",
"keys", "loras"} from standard input and prints, as the last line, CPU seconds of one thread and bytes:
{"layers": [{"layer", "count", "ours", "theirs", "error"}], "fixed": {count: {"ours", "theirs"}}, "first", "peak",
"tensors"}. Both sides' patches go through ComfyUI's own ModelPatcher: its cast to fp32, the patches, its rounding.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import comfy.options

comfy.options.enable_args_parsing()  # before the rest of ComfyUI looks for a GPU

import comfy.model_detection  # noqa: E402
import comfy.model_patcher  # noqa: E402
import comfy.sd  # noqa: E402
import comfy.sdxl_clip  # noqa: E402
import comfy.utils  # noqa: E402
import torch  # noqa: E402
from comfy.weight_adapter.lora import LoRAAdapter  # noqa: E402

CPU = torch.device("cpu")
STRENGTHS = (0.8, -0.5, 0.6, 0.3, -0.7, 0.4, 0.9, -0.2)

Case = Callable[[], object]


def main() -> None:
    given = json.load(sys.stdin)
    torch.set_num_threads(1)
    repo = given["repo"]
    spec = importlib.util.spec_from_file_location("pack", f"{repo}/__init__.py", submodule_search_locations=[repo])
    assert spec is not None
    sys.modules["pack"] = importlib.util.module_from_spec(spec)
    with torch.inference_mode():  # as when a prompt is run
        found = {**changed_strength(given), "layers": list(layers(given))}
    sys.stdout.write("\n" + json.dumps(found))


class Layer(torch.nn.Module):
    """One weight in fp16."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter((torch.randn(rows, columns) * 0.02).half(), requires_grad=False)


def layers(given: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for rows, columns in given["layers"]:
        layer = Layer(rows, columns)
        for count in given["counts"]:
            factors = [_factors(rows, columns, given["rank"]) for _ in range(count)]
            cases = {"ours": _ours(layer, factors), "theirs": _theirs(layer, factors)}
            seconds = in_turn(given["rounds"], cases)
            yield {"layer": [rows, columns], "count": count, **seconds, "error": _error(layer, factors, cases)}


def _factors(rows: int, columns: int, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    return (torch.randn(rows, rank) * 0.05).half(), (torch.randn(rank, columns) * 0.05).half()


def _ours(layer: Layer, factors: list[tuple[torch.Tensor, torch.Tensor]]) -> Case:
    adapters, keystack = import_module("pack.lora_core.adapters"), import_module("pack.nodes.live.keystack")
    target = import_module("pack.lora_core.naming.targets").Target("weight", tuple(layer.weight.shape))
    stack = tuple(
        (adapters.packed(adapters.LoRA(up, down, None, 1.0)), target, strength, "")
        for (up, down), strength in zip(factors, STRENGTHS, strict=False)
    )
    patcher = comfy.model_patcher.ModelPatcher(layer, CPU, CPU)
    patcher.add_patches({"weight": keystack.KeyStack(set(), ("paper", stack))})
    return lambda: patcher.patch_weight_to_device("weight", CPU, return_weight=True)


def _theirs(layer: Layer, factors: list[tuple[torch.Tensor, torch.Tensor]]) -> Case:
    patcher = comfy.model_patcher.ModelPatcher(layer, CPU, CPU)
    for (up, down), strength in zip(factors, STRENGTHS, strict=False):
        alpha = float(up.shape[1])
        patcher.add_patches({"weight": LoRAAdapter(set(), (up, down, alpha, None, None, None))}, strength)
    return lambda: patcher.patch_weight_to_device("weight", CPU, return_weight=True)


def _error(layer: Layer, factors: list[tuple[torch.Tensor, torch.Tensor]], cases: dict[str, Case]) -> dict[str, float]:
    """Return the rounding error of 64 rows of each side's weight over that of correct rounding, against fp64."""
    exact = layer.weight[:64].double()
    for (up, down), strength in zip(factors, STRENGTHS, strict=False):
        exact = exact + strength * up[:64].double() @ down.double()
    least = float((exact.half().double() - exact).norm())
    return {name: float((case()[:64].double() - exact).norm()) / least for name, case in cases.items()}


def changed_strength(given: dict[str, Any]) -> dict[str, Any]:
    """Measure Load LoRA on SDXL against LoraLoader, which keeps the tensors of its last file; the model has no data."""
    model, clip = sdxl(given["prefix"], given["keys"])
    live, entry = import_module("pack.nodes.live.patches"), import_module("pack.lora_core.stack.entry").StackEntry
    paths = given["loras"]
    strength = iter(range(1, 1000))

    def ours(count: int) -> None:
        value = next(strength) / 1000
        live.apply_live(model, clip, [entry("lora", value, value, path=path) for path in paths[:count]])

    tensors = [comfy.utils.load_torch_file(path, safe_load=True) for path in paths]

    def theirs(count: int) -> None:
        patched, text, value = model, clip, next(strength) / 1000
        for one in tensors[:count]:
            patched, text = comfy.sd.load_lora_for_models(patched, text, one, value, value)

    first, peak = _first(lambda: ours(1))
    cache = import_module("pack.nodes.live.loras")
    nbytes = sum(one.nbytes for one in cache._files.values())
    ours(len(paths))
    fixed = {
        count: in_turn(given["rounds"], {"ours": lambda: ours(count), "theirs": lambda: theirs(count)})  # noqa: B023
        for count in sorted({1, len(paths)})
    }
    return {"fixed": fixed, "first": first, "peak": peak, "tensors": nbytes}


def sdxl(prefix: str, keys: dict[str, list[int]]) -> tuple[Any, Any]:
    """Return SDXL and its text encoders, without data."""
    with torch.device("meta"):
        shapes = {key: torch.empty(shape, dtype=torch.float16) for key, shape in keys.items()}
        config = comfy.model_detection.model_config_from_unet(shapes, prefix)
        model = config.get_model(shapes, prefix, device="meta")
        encoder = comfy.sdxl_clip.SDXLClipModel(device="meta", dtype=torch.float16)
    clip = comfy.sd.CLIP(no_init=True)
    clip.patcher, clip.cond_stage_model = comfy.model_patcher.ModelPatcher(encoder, CPU, CPU), encoder
    clip.tokenizer, clip.layer_idx, clip.tokenizer_options = None, None, {}
    clip.use_clip_schedule, clip.apply_hooks_to_conds = False, None
    return comfy.model_patcher.ModelPatcher(model, CPU, CPU), clip


def _first(run: Case) -> tuple[float, int]:
    """Return the CPU seconds of a first run, and how much memory it had at its peak beyond what was there before."""
    reset = Path("/proc/self/clear_refs")
    if reset.exists():
        reset.write_text("5")  # the peak is counted from here
    before, start = _status("VmRSS:"), time.process_time()
    run()
    return time.process_time() - start, _status("VmHWM:") - before


def _status(name: str) -> int:
    path = Path("/proc/self/status")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), 0)


def in_turn(rounds: int, cases: dict[str, Case]) -> dict[str, list[float]]:
    """Return CPU seconds; every case runs once before, and each round begins with another."""
    for case in cases.values():
        case()
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for index in range(rounds):
        for name in list(cases)[:: 1 if index % 2 else -1]:
            start = time.process_time()
            cases[name]()
            seconds[name].append(time.process_time() - start)
    return seconds


if __name__ == "__main__":
    main()
