"""ComfyUI's way to merge: load a checkpoint, patch it, save it. Run by ComfyUI's Python in ComfyUI's folder.

Reads {"base", "loras": [[path, strength], ...], "out"} from standard input; prints {"wall", "cpu", "peak_rss"} as the
last line, without the time of the imports.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import comfy.options

comfy.options.enable_args_parsing()  # before the rest of ComfyUI looks for a GPU

import comfy.sd  # noqa: E402
import comfy.utils  # noqa: E402


def main() -> None:
    given = json.load(sys.stdin)
    wall, cpu = time.perf_counter(), time.process_time()
    model, clip, vae, _ = comfy.sd.load_checkpoint_guess_config(given["base"])
    for path, strength in given["loras"]:
        tensors = comfy.utils.load_torch_file(path, safe_load=True)
        model, clip = comfy.sd.load_lora_for_models(model, clip, tensors, strength, strength)
    comfy.sd.save_checkpoint(given["out"], model, clip, vae)
    found = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    sys.stdout.write("\n" + json.dumps({**found, "peak_rss": peak}))


if __name__ == "__main__":
    main()
