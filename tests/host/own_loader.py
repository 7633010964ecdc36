"""Run by ComfyUI's Python in ComfyUI's folder: what its own loader makes of LoRA files, weight by weight.

`own_loader.py FOLDER`: for each `N.lora.safetensors` with `N.weight.safetensors` beside it, writes `N.out.safetensors`
with a tensor for each of STRENGTHS. A loader that raises leaves the weight as it is.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from pathlib import Path

STRENGTHS = ("0.5", "1.0", "-1.0", "2.0")
MODULES = ("lora_unet_m", "base_model.model.m")


def main(folder: Path) -> None:
    sys.argv = [sys.argv[0], "--cpu"]  # ComfyUI reads it on import
    sys.path.insert(0, str(Path.cwd()))
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.lora
    from safetensors.torch import load_file, save_file

    logging.disable(logging.CRITICAL)  # each of its failures is a line in the log
    for path in sorted(folder.glob("*.lora.safetensors")):
        name = path.name.removesuffix(".lora.safetensors")
        weight = load_file(folder / f"{name}.weight.safetensors")["weight"]
        patches = comfy.lora.load_lora(load_file(path), dict.fromkeys(MODULES, "m.weight"))
        results = {}
        for strength in STRENGTHS:
            results[strength] = weight.clone()
            patch = patches.get("m.weight")
            with contextlib.suppress(RuntimeError):
                if patch is not None:
                    args = [(float(strength), patch, 1.0, None, None)]
                    results[strength] = comfy.lora.calculate_weight(args, weight.clone(), "m.weight")
        save_file(results, folder / f"{name}.out.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
