"""Run by ComfyUI's Python in ComfyUI's folder: what its own loader makes of LoRA files on weights of zeros.

`patched.py FOLDER`: for each `N.safetensors` with `N.json` beside it, which holds ComfyUI's key map for the model and
the weights' shapes, writes `N.out.safetensors`: every weight that changed, times the two columns of `probe`. Prints,
as JSON, the names that the loader left out.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import torch


def probe(rows: int) -> torch.Tensor:
    return torch.randn((rows, 2), generator=torch.Generator().manual_seed(99)) / 2**0.5


class _Dropped(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def main(folder: Path) -> None:
    sys.argv = [sys.argv[0], "--cpu"]  # ComfyUI reads it on import
    sys.path.insert(0, str(Path.cwd()))
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.lora
    import comfy.lora_convert
    import comfy.utils
    from safetensors.torch import load_file, save_file

    functions = {"swap_scale_shift": comfy.utils.swap_scale_shift}
    handler = _Dropped()
    logging.getLogger().addHandler(handler)
    for path in sorted(folder.glob("*.json")):
        model = json.loads(path.read_text("utf-8"))
        names = {name: _target(functions, *target) for name, target in model["aliases"].items()}
        tensors = comfy.lora_convert.convert_lora(load_file(path.with_suffix(".safetensors")))
        patches: dict[str, list] = {}
        for target, patch in comfy.lora.load_lora(tensors, names).items():
            key, span, function = (target, None, None) if isinstance(target, str) else (*target, None)[:3]
            patches.setdefault(key, []).append((1.0, patch, 1.0, span, function))
        results = {}
        for key, several in patches.items():
            weight = torch.zeros(model["shapes"][key])
            weight = comfy.lora.calculate_weight(several, weight, key, intermediate_dtype=torch.float32)
            results[key] = weight.flatten(1) @ probe(weight[0].numel())
        save_file(results, path.with_suffix(".out.safetensors"))
    sys.stdout.write(json.dumps(handler.texts))


def _target(functions, key, span, function):
    if span is None and function is None:
        return key
    return (key, tuple(span) if span else None, *([functions[function]] if function else []))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
